"""`Plan`: the answer of a `Projector`, with its certificate, and what the next call needs to start from it."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any

import numpy as np

from feasible._arrays import wrap
from feasible._project import ACCEPTED, Displacement, Projection, per_limit, relaxed_limits
from feasible._projector._rungs import Rungs
from feasible._projector._verdict import BETWEEN
from feasible._status import Status
from feasible._trajectory import Trajectory
from feasible.solvers._riccati_arrays import prices

SCHEMA = "feasible.certificate/1"


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What to drive, one trajectory or K modes; NumPy float64.

    Attributes:
        states: `(..., T + 1, S)`: x, y, yaw, speed, acceleration, curvature; the first is the initial state.
        controls: `(..., T, C)`.
        status: `(...)` int, members of `Status`.
        converged: `(...)` bool: whether the solver met its tolerance; False where a deadline cut it short.
        iterations: `(...)` linearisations used.
        violation: `(...)` largest normalised excess, integrated and measured ten times in each step.
        dynamics_residual: `(...)` largest distance of a state from the integrated one.
        displacement: from the valid samples [m]: `mean` and `max`, each `(...)`.
        objective: `(...)`.
        seconds: that the call took.
        configuration: hash of the projector's configuration.
    """

    states: np.ndarray
    controls: np.ndarray
    status: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray
    violation: np.ndarray
    dynamics_residual: np.ndarray
    displacement: Displacement
    objective: np.ndarray
    seconds: float
    configuration: str
    _rows: np.ndarray = dataclasses.field(repr=False)
    _origin: np.ndarray = dataclasses.field(repr=False)
    _rungs: Rungs = dataclasses.field(repr=False)

    @property
    def trajectory(self) -> Trajectory:
        """The samples `(..., T)`, with yaw and speed, all valid."""
        x, y, yaw, speed = (self.states[..., 1:, i] for i in range(4))
        return Trajectory(x, y, wrap(np, yaw), speed, self._rungs.problem.dt, np.ones(x.shape, dtype=bool))

    @property
    def margin(self) -> dict[str, np.ndarray]:
        """Per limit `(...)`: largest signed normalised excess; negative where there is room."""
        places = zip(self._rungs.problem.limits, self._rungs.reply.at.margins, strict=True)
        return {limit.name: self._rows[:, at].reshape(self.status.shape) for limit, at in places}

    @property
    def feasible(self) -> np.ndarray:
        """`(...)` bool: whether the motion keeps every limit, whatever its status: the fallback may as well."""
        excess = self._rows[:, self._rungs.reply.at.excess.start].reshape(self.status.shape)
        return (excess <= ACCEPTED) & (self.violation <= BETWEEN)

    @functools.cached_property
    def projection(self) -> Projection:
        """The same as `feasible.project` returns it, for plots, reports and `explain`."""
        problem, batch = self._rungs.problem, self.status.shape
        at, rows = self._rungs.reply.at, self._rows
        priced = prices(self._rungs.kernel, [rows[:, p] for p in at.inner], [rows[:, p.start] for p in at.entry])
        priced = np.where((self.status <= Status.RELAXED).reshape(-1, 1, 1), np.nan_to_num(priced), 0.0)
        shadow = per_limit(problem, priced)
        states = self.states.reshape(-1, *self.states.shape[-2:])
        controls = self.controls.reshape(-1, *self.controls.shape[-2:])
        return Projection(
            trajectory=self.trajectory,
            motion=problem.vehicle.motion(self.states, self.controls, problem.dt),
            states=self.states,
            controls=self.controls,
            status=self.status,
            displacement=self.displacement,
            violation=self.violation,
            margin=self.margin,
            dynamics_residual=self.dynamics_residual,
            multipliers={m.name: shadow[i].reshape(*batch, shadow.shape[-1]) for i, m in enumerate(problem.limits)},
            relaxed=tuple(
                relaxed_limits(problem, s, u) if status == Status.RELAXED else ""
                for s, u, status in zip(states, controls, self.status.reshape(-1), strict=True)
            ),
            objective=self.objective,
            iterations=self.iterations,
            limits=problem.limits,
            vehicle=problem.vehicle,
        )

    @property
    def certificates(self) -> tuple[dict[str, Any], ...]:
        """One per mode, JSON-serialisable; `Projector.certificate_schema()` describes it."""
        margins = {name: value.reshape(-1) for name, value in self.margin.items()}
        return tuple(
            {
                "schema": SCHEMA,
                "configuration": self.configuration,
                "status": _name(status),
                "feasible": bool(self.feasible.reshape(-1)[i]),
                "converged": bool(self.converged.reshape(-1)[i]),
                "margin": {name: float(value[i]) for name, value in margins.items()},
                "exceeded": {
                    name: float(value[i])
                    for name, value in margins.items()
                    if value[i] > ACCEPTED and not self.feasible.reshape(-1)[i]
                },
                "violation": float(self.violation.reshape(-1)[i]),
                "dynamics_residual": float(self.dynamics_residual.reshape(-1)[i]),
                "displacement": {
                    "mean": float(self.displacement.mean.reshape(-1)[i]),
                    "max": float(self.displacement.max.reshape(-1)[i]),
                },
                "iterations": int(self.iterations.reshape(-1)[i]),
                "seconds": self.seconds,
            }
            for i, status in enumerate(self.status.reshape(-1))
        )

    def to_json(self) -> str:
        """The certificates, as a list."""
        return json.dumps(list(self.certificates))

    def __repr__(self) -> str:
        names = ", ".join(_name(s).lower() for s in self.status.reshape(-1))
        return f"Plan({names}; {1e3 * self.seconds:.2f} ms)"


def _name(status: int) -> str:
    return next(s.name for s in Status if s == status)
