"""Programs of this package as source text and artefacts for machines that run no Python, or not this package."""

from feasible._export.loader import load_projector

__all__ = ["load_projector"]
