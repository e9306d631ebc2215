"""Kinematic feasibility and trajectory projection for the predicted trajectories of driving models.

    trajectory = feasible.Trajectory.from_array(values, dt=0.1)          # (..., T, 2) x, y
    vehicle, limits = feasible.vehicles.nuplan_pacifica(), feasible.presets.physical()
    print(feasible.audit(trajectory, vehicle, limits))                   # what breaks, when, by how much
    projection = feasible.project(trajectory, vehicle, limits)           # the nearest feasible trajectory

It certifies kinematics only: not collisions, and not the map. Names are imported when first used, so that
`feasible --help` does not wait for JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feasible import io, plot, presets, signals, solvers, vehicles
    from feasible._audit import Report, audit
    from feasible._check import Certificate, certify
    from feasible._limits import Limit
    from feasible._motion import Gap, Motion
    from feasible._problem import Weights
    from feasible._project import Displacement, Projection, distance, project
    from feasible._rollout import rollout
    from feasible._status import Status
    from feasible._summary import Summary
    from feasible._trajectory import Trajectory
    from feasible.vehicles import KinematicBicycle

__version__ = "0.1.0"

# The public promise: name -> module it comes from
_HOME = {
    "Certificate": "_check",
    "Displacement": "_project",
    "Gap": "_motion",
    "KinematicBicycle": "vehicles",
    "Limit": "_limits",
    "Motion": "_motion",
    "Projection": "_project",
    "Report": "_audit",
    "Status": "_status",
    "Summary": "_summary",
    "Trajectory": "_trajectory",
    "Weights": "_problem",
    "audit": "_audit",
    "certify": "_check",
    "distance": "_project",
    "project": "_project",
    "rollout": "_rollout",
}
_MODULES = ("io", "plot", "presets", "signals", "solvers", "vehicles")

__all__ = [
    "Certificate",
    "Displacement",
    "Gap",
    "KinematicBicycle",
    "Limit",
    "Motion",
    "Projection",
    "Report",
    "Status",
    "Summary",
    "Trajectory",
    "Weights",
    "audit",
    "certify",
    "distance",
    "io",
    "plot",
    "presets",
    "project",
    "rollout",
    "signals",
    "solvers",
    "vehicles",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"feasible.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"feasible.{name}")
    else:
        raise AttributeError(f"module 'feasible' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
