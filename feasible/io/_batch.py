"""What a file becomes: `Batch`, the rows that had to be left out (`Problem`), and the error for a whole file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from feasible._trajectory import MIN_STEPS, Trajectory

STATE_SIZES = (4, 6)  # x, y, yaw, speed[, acceleration, curvature]
HALF_STATE = "the initial state gives only one of x and y, expected both, or neither where it is not known"


class InputError(ValueError):
    """A file or an option that cannot be used; its text is one sentence: what, where, and what would be right."""


@dataclass(frozen=True)
class Problem:
    """One row of a file that was left out, while the others were kept.

    Attributes:
        file: path as given.
        row: the line in a csv (the header is line 1), elsewhere the index of the row, counted from 0.
        id: the row's id, or None where it has none.
        column: the file's name of the column, or None where the whole row is meant.
        what: what was wrong, and what would be right.
    """

    file: str
    row: int
    id: Any
    column: str | None
    what: str

    def __str__(self) -> str:
        """One sentence with the place in front."""
        where = f"{self.file}, {'line' if self.file.lower().endswith('.csv') else 'row'} {self.row}"
        who = "" if self.id is None else f" (id {self.id!r})"
        return f"{where}{who}{'' if self.column is None else f', column {self.column!r}'}: {self.what}"

    def to_dict(self) -> dict[str, Any]:
        """The fields, with an id that JSON can hold."""
        ident = self.id.item() if isinstance(self.id, np.generic) else self.id
        return {"file": self.file, "row": self.row, "id": ident, "column": self.column, "what": self.what}


@dataclass(frozen=True)
class Batch:
    """Trajectories of a file in file order, each with its id; K modes of a row are K trajectories, one after another.

    Attributes:
        trajectory: batch shape `(N,)`; rows shorter than the longest are padded with `valid=False`.
        ids: `(N,)` str or int; the row's index where the file has no ids.
        mode: `(N,)` int, which mode of its id a trajectory is.
        modes: K of a source with K modes in a row, else 1.
        initial_state: `(N, 4)` x, y, yaw, speed or `(N, 6)` with acceleration, curvature; NaN where not known; or None.
        lengths: `(N,)` samples of each row before padding, or None where no row of the file is padded.
        carried: columns `(N,)` that belong to the rows and are written back with them (scenario_id, probability ...).
        quarantined: the rows left out.
        total: trajectories in the whole file, those left out included, for a progress bar.
    """

    trajectory: Trajectory
    ids: np.ndarray
    mode: np.ndarray
    modes: int = 1
    initial_state: np.ndarray | None = None
    lengths: np.ndarray | None = None
    carried: dict[str, np.ndarray] = field(default_factory=dict)
    quarantined: tuple[Problem, ...] = ()
    total: int = 0

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Rows:
    """What a reader found, in the file's own frame: `values` `(n, T, D)` with NaN where a sample is missing."""

    values: np.ndarray
    ids: np.ndarray
    mode: np.ndarray
    modes: int = 1
    initial_state: np.ndarray | None = None
    lengths: np.ndarray | None = None
    carried: dict[str, np.ndarray] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    total: int = 0


@dataclass(frozen=True)
class Source:
    """What a reader knows before the first row: names of the last axis, the file's own dt, and where that stands."""

    axis: tuple[str, ...]
    dt: float | None
    dt_where: str = "dt"


def build(
    rows: Rows, axis: Sequence[str], dt: float, reference_point: str, vehicle: Any, problems: Sequence[Problem]
) -> Batch:
    """The rows as a `Batch`; an initial state moves to the rear axle together with its samples."""
    state = rows.initial_state
    trajectory = Trajectory.from_array(
        rows.values, dt=dt, columns=axis, reference_point=reference_point, vehicle=vehicle
    )
    if state is not None and reference_point == "center":
        state, offset = state.copy(), vehicle.rear_axle_to_center
        state[:, 0] -= offset * np.cos(state[:, 2])
        state[:, 1] -= offset * np.sin(state[:, 2])
    return Batch(
        trajectory, rows.ids, rows.mode, rows.modes, state, rows.lengths, rows.carried, tuple(problems), rows.total
    )


def is_half(state: np.ndarray) -> np.ndarray:
    """`(N,)`: whether an initial state `(N, d)` gives one of x and y without the other."""
    return np.isfinite(state[:, 0]) != np.isfinite(state[:, 1])


def too_short(length: int) -> str:
    """The sentence for a row with fewer samples than a jerk needs."""
    return f"has {length} samples, expected at least {MIN_STEPS}"
