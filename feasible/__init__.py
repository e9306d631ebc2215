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
    from feasible._actions import Actions, decode, encode
    from feasible._audit import Report, audit
    from feasible._check import Certificate, certify
    from feasible._derivative import Cotangents, project_vjp
    from feasible._explain import explain
    from feasible._export import load_projector
    from feasible._guidance import guidance
    from feasible._limits import Limit
    from feasible._loss import loss, reward
    from feasible._motion import Gap, Motion
    from feasible._problem import Weights
    from feasible._project import Displacement, Projection, distance, project
    from feasible._projection_loss import projection_loss
    from feasible._projector import Plan, Projector
    from feasible._replay import Jump, Replay, replay
    from feasible._rollout import rollout
    from feasible._status import Status
    from feasible._summary import Summary
    from feasible._trajectory import Trajectory
    from feasible.vehicles import KinematicBicycle

__version__ = "0.1.0"

# The public promise: name -> module it comes from
_HOME = {
    "Actions": "_actions",
    "Certificate": "_check",
    "Cotangents": "_derivative",
    "Displacement": "_project",
    "Gap": "_motion",
    "Jump": "_replay",
    "KinematicBicycle": "vehicles",
    "Limit": "_limits",
    "Motion": "_motion",
    "Plan": "_projector",
    "Projection": "_project",
    "Projector": "_projector",
    "Replay": "_replay",
    "Report": "_audit",
    "Status": "_status",
    "Summary": "_summary",
    "Trajectory": "_trajectory",
    "Weights": "_problem",
    "audit": "_audit",
    "certify": "_check",
    "decode": "_actions",
    "distance": "_project",
    "encode": "_actions",
    "explain": "_explain",
    "guidance": "_guidance",
    "load_projector": "_export",
    "loss": "_loss",
    "project": "_project",
    "project_vjp": "_derivative",
    "projection_loss": "_projection_loss",
    "replay": "_replay",
    "reward": "_loss",
    "rollout": "_rollout",
}
_MODULES = ("io", "plot", "presets", "signals", "solvers", "vehicles")
_OPTIONAL = ("gym", "interactive", "jax", "rl", "torch")  # need a package of their own, or are needed by few

__all__ = [
    "Actions",
    "Certificate",
    "Cotangents",
    "Displacement",
    "Gap",
    "Jump",
    "KinematicBicycle",
    "Limit",
    "Motion",
    "Plan",
    "Projection",
    "Projector",
    "Replay",
    "Report",
    "Status",
    "Summary",
    "Trajectory",
    "Weights",
    "audit",
    "certify",
    "decode",
    "distance",
    "encode",
    "explain",
    "guidance",
    "io",
    "load_projector",
    "loss",
    "plot",
    "presets",
    "project",
    "project_vjp",
    "projection_loss",
    "replay",
    "reward",
    "rollout",
    "signals",
    "solvers",
    "vehicles",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"feasible.{_HOME[name]}"), name)
    elif name in _MODULES or name in _OPTIONAL:
        value = importlib.import_module(f"feasible.{name}")
    else:
        raise AttributeError(f"module 'feasible' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
