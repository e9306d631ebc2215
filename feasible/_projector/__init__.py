"""The projector at inference: one call, one answer that can be driven, and a certificate with it."""

from feasible._projector._plan import Plan
from feasible._projector._projector import Projector

__all__ = ["Plan", "Projector"]
