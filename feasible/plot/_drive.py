"""`Drive`: what the figures of one trajectory draw, picked out of a batch and its projection."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from feasible._arrays import to_numpy
from feasible._audit import Report, audit
from feasible._motion import FIELDS, Gap, Motion
from feasible._project import Projection
from feasible._status import Status
from feasible._trajectory import Trajectory

_STATUS = {int(status): status for status in Status}


@dataclasses.dataclass(frozen=True)
class Drive:
    """One trajectory on the host, with its projection if there is one.

    Attributes:
        before: `(T,)` the input.
        after: `(T,)` the projection, or None. motion: `(T,)` its exact motion, or None.
        status: of the projection, or None.
        moved: mean and largest displacement [m], or None.
        prices: per limit `(T,)` the projection's multipliers [m²]; empty without one.
    """

    before: Trajectory
    after: Trajectory | None = None
    motion: Motion | None = None
    status: Status | None = None
    moved: tuple[float, float] | None = None
    prices: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def dt(self) -> float:
        """Time between samples [s]."""
        return float(self.before.dt)

    @property
    def time(self) -> np.ndarray:
        """`(T,)` of the samples [s], counted from the initial state: sample k is at (k + 1)·dt."""
        return self.dt * np.arange(1, self.before.horizon + 1)

    def audited(self, vehicle: Any, limits: Any, differencing: str = "raw") -> Report:
        """The audit of the input."""
        return audit(self.before, vehicle, limits, differencing=differencing)

    def over(self, vehicle: Any, limits: Any, differencing: str = "raw") -> np.ndarray:
        """`(T,)` bool: where the input breaks any limit."""
        report = self.audited(vehicle, limits, differencing)
        return np.any([v > report.tolerance for v in report.violation.values()], axis=0)


def pick(trajectory: Trajectory, projection: Projection | None, index: Any) -> Drive | None:
    """The drive at `index` of the batch axes, by default the first; None if the batch is empty.

    Raises:
        ValueError: if trajectory and projection differ in shape.
        IndexError: if there is no such row.
    """
    shape = tuple(trajectory.x.shape)
    if projection is not None and tuple(projection.trajectory.x.shape) != shape:
        raise ValueError(
            f"projection: expected that of the trajectory, of shape {shape}, got {tuple(projection.trajectory.x.shape)}"
        )
    batch = trajectory.batch_shape
    if 0 in batch:
        return None
    if index is None:
        index = (0,) * len(batch)
    at = index if isinstance(index, tuple) else (index,)
    if len(at) != len(batch):
        raise IndexError(f"index: expected {len(batch)} numbers for batch axes {batch}, got {index!r}")

    def host(t: Trajectory) -> Trajectory:
        one = t[at] if batch else t
        yaw, speed = (None if v is None else to_numpy(v) for v in (one.yaw, one.speed))
        return Trajectory(to_numpy(one.x), to_numpy(one.y), yaw, speed, float(one.dt), to_numpy(one.valid).astype(bool))

    if projection is None:
        return Drive(host(trajectory))
    moved = projection.displacement
    return Drive(
        host(trajectory),
        host(projection.trajectory),
        select(projection.motion, at),
        _STATUS[int(projection.status[at])],
        (float(moved.mean[at]), float(moved.max[at])),
        {name: price[at] for name, price in projection.multipliers.items()},
    )


def select(motion: Motion, at: tuple[Any, ...]) -> Motion:
    """The motion at `at` of the batch axes."""
    fields = {name: getattr(motion, name)[at] for name in FIELDS}
    return dataclasses.replace(motion, **fields, gaps={name: code[at] for name, code in motion.gaps.items()})


def known(report: Report, name: str) -> np.ndarray:
    """`(..., T)` values of a limit's signal, NaN where it cannot be assessed."""
    return np.where(report.gaps[name] == Gap.NONE, report.value[name], np.nan)
