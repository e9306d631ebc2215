"""`examine`: everything the page needs to know about a file."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from feasible._audit import audit
from feasible._limits import Limit, check_limits
from feasible._project import Projection, project
from feasible._report import _words
from feasible._report._sample import Row, Sample
from feasible._report._tally import Tally
from feasible._status import Status
from feasible._trajectory import Trajectory
from feasible.io import Batch, Problem

WORST_SHOWN = 12
ONE_AT_A_TIME = ("osqp", "cvxpy")  # backends that gain nothing from a batch, so the clock is looked at after each row


@dataclasses.dataclass(frozen=True)
class Case:
    """A row that was projected.

    Attributes:
        row: where it comes from. random: drawn at random, not (only) because it is bad.
        projection: `(1, T)`.
        reason: sentences: what it breaks, whether that is jitter, what the projection did.
    """

    row: Row
    random: bool
    projection: Projection
    reason: tuple[str, ...]

    @property
    def status(self) -> Status:
        """Of the projection."""
        return _STATUS[int(self.projection.status[0])]

    @property
    def moved(self) -> tuple[float, float]:
        """Mean and largest displacement [m]."""
        moved = self.projection.displacement
        return float(moved.mean[0]), float(moved.max[0])


_STATUS = {int(status): status for status in Status}


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found in a file.

    Attributes:
        tally: of all trajectories.
        cases: the projected sample. asked: how many rows were to be projected. early: the time was up before all were.
        limits, vehicle, dt: what they were held against.
        quarantined: rows that could not be read.
        configuration: names and numbers that led to this page, for its last table.
        seconds: by stage.
    """

    tally: Tally
    cases: tuple[Case, ...]
    asked: int
    early: bool
    limits: tuple[Limit, ...]
    vehicle: Any
    dt: float
    quarantined: tuple[Problem, ...]
    configuration: dict[str, Any]
    seconds: dict[str, float]

    @property
    def random(self) -> list[Case]:
        """The projected rows that stand for the file."""
        return [case for case in self.cases if case.random]

    @property
    def worst(self) -> list[Case]:
        """Those that had to be moved farthest, among all projected; rejected ones have no distance."""
        moved = [case for case in self.cases if case.status != Status.REJECTED and case.status != Status.UNCHANGED]
        return sorted(moved, key=lambda case: (-case.moved[0], case.row.number))[:WORST_SHOWN]

    def line(self) -> str:
        """The verdicts and the sample as one line."""
        counts = ", ".join(f"{n} {name}" for name, n in self.tally.verdicts.items())
        return (
            f"{self.tally.trajectories} trajectories audited: {counts}; {len(self.cases)} of {self.asked} chosen rows "
            f"projected; {sum(self.seconds.values()):.1f} s"
        )

    def displaced(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean displacement [m] and status code of the random rows, each `(n,)`."""
        moved = np.array([case.moved[0] for case in self.random], dtype=float)
        return moved, np.array([int(case.status) for case in self.random], dtype=int)


def examine(
    batches: Iterable[Batch],
    vehicle: Any,
    limits: Any,
    *,
    project_rows: int = 64,
    budget: float = 60.0,
    seed: int = 0,
    backend: str = "riccati",
    configuration: dict[str, Any] | None = None,
) -> Findings:
    """Audits every trajectory, raw and smoothed, and projects a sample.

    Args:
        batches: of a file, see `feasible.io.read_batches`.
        vehicle: the model.
        limits: a tuple of `Limit`.
        project_rows: at most so many rows are projected.
        budget: time after which no further projection is begun [s].
        seed: of the random part of the sample.
        backend: of `project`.
        configuration: what else the page is to state.
    """
    limits = check_limits(limits)
    tally, sample = Tally(), Sample(project_rows, seed)
    quarantined: list[Problem] = []
    dt, start = float("nan"), time.perf_counter()
    for batch in batches:
        quarantined += batch.quarantined
        if len(batch):
            dt = float(batch.trajectory.dt)
            sample.offer(batch, tally.add(batch.trajectory, vehicle, limits))
    audited = time.perf_counter()
    rows, random = sample.rows()
    cases = _project(rows, random, vehicle, limits, backend, audited + budget)
    return Findings(
        tally, tuple(cases), len(rows), len(cases) < len(rows), limits, vehicle, dt, tuple(quarantined),
        {
            **(configuration or {}), "backend": backend, "project_rows": project_rows, "budget_seconds": budget,
            "seed": seed,
        },
        {"audit": audited - start, "projection": time.perf_counter() - audited},
    )  # fmt: skip


def _project(
    rows: list[Row], random: set[int], vehicle: Any, limits: tuple[Limit, ...], backend: str, deadline: float
) -> list[Case]:
    """The rows projected until the deadline, in their order."""
    cases: list[Case] = []
    for group in _groups(rows, 1 if backend in ONE_AT_A_TIME else len(rows)):
        if time.perf_counter() > deadline:
            break
        together, state = _stack(group)
        projection = project(together, vehicle, limits, initial_state=state, backend=backend)
        for i, row in enumerate(group):
            one = _take(projection, i)
            raw = audit(row.trajectory, vehicle, limits)
            smooth = audit(row.trajectory, vehicle, limits, differencing="savgol")
            reason = _words.reason(raw, smooth, one, float(row.trajectory.dt))
            cases.append(Case(row, row.number in random, one, reason))
    return cases


def _groups(rows: list[Row], size: int) -> list[list[Row]]:
    """Neighbours that can be projected together, at most `size`: of one horizon, and alike in what they state."""
    groups: list[list[Row]] = []
    for row in rows:
        last = groups[-1] if groups else []
        if last and len(last) < size and _kind(last[0]) == _kind(row):
            last.append(row)
        else:
            groups.append([row])
    return groups


def _kind(row: Row) -> tuple[Any, ...]:
    return row.trajectory.horizon, None if row.initial_state is None else row.initial_state.shape[1]


def _stack(rows: list[Row]) -> tuple[Trajectory, np.ndarray | None]:
    first = rows[0].trajectory
    joined = {
        name: np.concatenate([getattr(row.trajectory, name) for row in rows])
        for name in ("x", "y", "yaw", "speed", "valid")
        if getattr(first, name) is not None
    }
    trajectory = dataclasses.replace(first, **joined)
    if rows[0].initial_state is None:
        return trajectory, None
    return trajectory, np.concatenate([row.initial_state for row in rows if row.initial_state is not None])


def _take(projection: Projection, i: int) -> Projection:
    """Row i of a projection `(N, T)` as one of `(1, T)`."""
    from feasible.plot._drive import select

    at = slice(i, i + 1)
    moved = projection.displacement
    plain = ("states", "controls", "status", "violation", "dynamics_residual", "objective", "iterations")
    arrays: dict[str, Any] = {name: getattr(projection, name)[at] for name in plain}
    return dataclasses.replace(
        projection,
        trajectory=projection.trajectory[at],
        motion=select(projection.motion, (at,)),
        displacement=dataclasses.replace(moved, mean=moved.mean[at], max=moved.max[at]),
        margin={name: margin[at] for name, margin in projection.margin.items()},
        multipliers={name: price[at] for name, price in projection.multipliers.items()},
        relaxed=projection.relaxed[at],
        **arrays,
    )
