"""Every method of the comparison by name, each with one row at a time and, where it has that, a batch at a time."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers import sqp
from benchmarks.peers.problems import VEHICLE, Rows
from benchmarks.peers.sqp import Found
from feasible import Plan, Projector, presets
from feasible._problem import Weights
from feasible.solvers.riccati import Riccati

OURS = {
    "riccati lanes float32": (np.float32, "lanes"),
    "riccati lanes float64": (np.float64, "lanes"),
    "riccati xla float32": (np.float32, "xla"),
}
PROJECTOR = "Projector"
PEERS = (
    "SQP on HPIPM",
    "SQP on PIQP",
    "SQP on OSQP",
    "SQP on Clarabel",
    "SQP on moreau",
    "CVXPY",
    "CasADi + IPOPT",
)
MODULES = {
    "SQP on PIQP": "piqp",
    "SQP on moreau": "moreau",
    "CasADi + IPOPT": "casadi",
}  # whose absence leaves a method out


class Ours:
    """The library's backend, its default attempts; lanes one wide for a row at a time, as the library advises."""

    def __init__(self, dtype: Any, engine: str) -> None:
        self.backend = Riccati(dtype=dtype, engine=engine)
        self.alone = dataclasses.replace(self.backend, width=1) if engine == "lanes" else self.backend

    def prepare(self, rows: Rows) -> None:
        """Compiles."""
        for backend in dict.fromkeys((self.alone, self.backend)):
            backend.solve(rows.problem.select(slice(0, 1)), rows.states[:1], rows.controls[:1])

    def row(self, rows: Rows, *, fresh: bool) -> Found:
        """One row; `fresh` makes no difference, it remembers nothing."""
        began = time.perf_counter()
        s = self.alone.solve(rows.problem, rows.states, rows.controls)
        seconds = time.perf_counter() - began
        return Found(s.states[0], s.controls[0], seconds, seconds, int(s.iterations[0]))

    def batch(self, rows: Rows) -> tuple[np.ndarray, np.ndarray, float]:
        """States and controls of all rows, and the seconds that took."""
        began = time.perf_counter()
        s = self.backend.solve(rows.problem, rows.states, rows.controls)
        return s.states, s.controls, time.perf_counter() - began


class Planner:
    """`feasible.Projector`, certificate included; the start is its own."""

    def prepare(self, rows: Rows) -> None:
        """Compiles."""
        self._projector = Projector(
            VEHICLE, presets.get(rows.preset), horizon=rows.controls.shape[1], dt=rows.problem.dt
        ).warmup()
        self._plan: Plan | None = None

    def row(self, rows: Rows, *, fresh: bool) -> Found:
        """One row; from the plan before unless `fresh`."""
        began = time.perf_counter()
        plan = self._projector(rows.problem.target[0, :, :2], warm_start=None if fresh else self._plan, elapsed=0.0)
        seconds = time.perf_counter() - began
        self._plan = plan if fresh else self._plan
        return Found(plan.states, plan.controls, seconds, seconds, int(plan.iterations))


class Sqp:
    """The tuned SQP on a solver of subproblems."""

    def __init__(self, solver: Any) -> None:
        self._solver = solver

    def prepare(self, rows: Rows) -> None:
        """Sets up the structure."""
        self.row(rows.take(slice(0, 1)), fresh=True)

    def row(self, rows: Rows, *, fresh: bool) -> Found:
        """One row; from no multipliers if `fresh`, else from those of the row before."""
        if fresh:
            self._solver.reset()
        return sqp.solve_row(rows.problem.select(0), rows.states[0], rows.controls[0], self._solver)


class Ipopt:
    """The problem written in CasADi, IPOPT at 1e-6; built once per horizon and preset."""

    def __init__(self) -> None:
        import casadi  # noqa: F401

    def prepare(self, rows: Rows) -> None:
        """Builds the problem and its derivatives."""
        self._judge = _reference(rows.preset, rows.controls.shape[1])

    def row(self, rows: Rows, *, fresh: bool) -> Found:
        """One row; `fresh` makes no difference, an interior point starts from the trajectory alone."""
        began = time.perf_counter()
        _, states, controls, _ = self._judge.solve(rows.problem.target[0], rows.states[0], rows.controls[0])
        seconds = time.perf_counter() - began
        return Found(states, controls, seconds, seconds, 0)


@functools.cache
def _reference(preset: str, steps: int) -> Any:
    from ipopt_reference import NUPLAN_BOUNDS, Reference, physical_bounds

    physical = physical_bounds(VEHICLE.max_steering_angle, VEHICLE.max_steering_rate)
    bounds = NUPLAN_BOUNDS if preset == "nuplan_comfort" else physical
    return Reference(steps, 0.1, bounds, wheelbase=VEHICLE.wheelbase, efforts=Weights().controls, tol=1e-6)


def make(name: str) -> Any:
    """A method by name; ImportError where its package is not installed."""
    if name in OURS:
        return Ours(*OURS[name])
    if name == PROJECTOR:
        return Planner()
    if name in MODULES:
        __import__(MODULES[name])
    if name == "SQP on HPIPM":
        from benchmarks.peers.hpipm import Hpipm

        return Sqp(Hpipm())
    from benchmarks.peers import quadratic as q

    solvers: dict[str, Callable[[], Any]] = {
        "SQP on PIQP": q.Piqp,
        "SQP on OSQP": q.Osqp,
        "SQP on Clarabel": q.Clarabel,
        "SQP on moreau": q.Moreau,
        "CVXPY": q.ThroughCvxpy,
    }
    return Sqp(solvers[name]()) if name in solvers else Ipopt()
