"""`audit`: which limit a trajectory breaks, when and by how much; `Report`: the answer, printable and mergeable.

A sample of a trajectory is over a limit where its normalised excess is above the tolerance. The default tolerance
is 1e-3 for an exact `Motion` and 5e-2 for finite differences of samples, because differences of exactly feasible
motion are off by up to 4 %, worst for the steering rate at walking speed. Where a quantity cannot be told (too slow
for curvature, at the edge of the window, a missing sample) it is neither over nor under: it is counted, by reason.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from feasible import _html
from feasible._arrays import to_numpy
from feasible._limits import Limit, check_limits
from feasible._motion import MIN_SPEED, SAVGOL_ORDER, SAVGOL_WINDOW, Gap, Motion
from feasible._summary import LimitSummary, Summary
from feasible._trajectory import Trajectory, recentre

EXACT_TOLERANCE = 1e-3
SAMPLED_TOLERANCE = 5e-2


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """What `audit` found; NumPy arrays with the batch axes `...` of its input.

    Attributes:
        feasible: `(...)` bool: some sample could be assessed and none is over a limit.
        violation: per limit `(..., T)`: normalised excess, 0 where the limit holds or cannot be assessed.
        worst: per limit `(...)`: the largest violation.
        first_step: per limit `(...)` masked array: the first step over the limit; masked where there is none.
        gaps: per limit `(..., T)` `Gap` codes of the samples that could not be assessed.
        value: per limit `(..., T)`: the signal itself, in the limit's unit.
        limits: what was audited.
        tolerance: normalised excess that is still accepted.
        reading: "exact", "raw" or "savgol(window, order)".
    """

    feasible: np.ndarray
    violation: Mapping[str, np.ndarray]
    worst: Mapping[str, np.ndarray]
    first_step: Mapping[str, np.ma.MaskedArray]
    gaps: Mapping[str, np.ndarray]
    value: Mapping[str, np.ndarray]
    limits: tuple[Limit, ...]
    tolerance: float
    reading: str

    @property
    def summary(self) -> Summary:
        """Counts and worst values over all trajectories; summaries of batches add up in any order."""
        rows = tuple(self._summarise(limit) for limit in self.limits)
        return Summary(int(self.feasible.size), int(self.feasible.sum()), rows, self.tolerance, self.reading)

    def _summarise(self, limit: Limit) -> LimitSummary:
        name = limit.name
        gap, over = self.gaps[name], self.violation[name] > self.tolerance
        known = gap == Gap.NONE
        margin = np.where(known, limit.margin_of(self.value[name]), -np.inf)
        worst = None
        if known.any():
            index = np.unravel_index(np.argmax(margin), margin.shape)
            worst = float(self.value[name][index])
        return LimitSummary(
            name=name,
            unit=limit.unit,
            lower=None if limit.lower is None else float(limit.lower),
            upper=None if limit.upper is None else float(limit.upper),
            source=limit.source,
            samples=int(known.any(-1).sum()),
            over=int(over.any(-1).sum()),
            steps=int(known.sum()),
            steps_over=int(over.sum()),
            worst=worst,
            worst_margin=float(margin.max(initial=-np.inf)),
            unassessed={g.name.lower(): int((gap == g).sum()) for g in Gap if g is not Gap.NONE and (gap == g).any()},
        )

    def merge(self, other: Report) -> Report:
        """The report of both batches, flattened, this one's rows first. Associative.

        Raises:
            ValueError: if horizon, limits, tolerance or reading differ (their `summary` may still be added).
        """
        same = [m.name for m in self.limits] == [m.name for m in other.limits] and all(
            (a.lower, a.upper, a.unit) == (b.lower, b.upper, b.unit)
            for a, b in zip(self.limits, other.limits, strict=True)
        )
        if not same or (self.tolerance, self.reading) != (other.tolerance, other.reading):
            raise ValueError("merge: expected two audits with the same limits, tolerance and differencing")

        def flat(a: Any, keep: int) -> Any:
            return a.reshape((-1, *a.shape[a.ndim - keep :]))

        def join(name: str, keep: int) -> dict[str, Any]:
            mine, theirs = getattr(self, name), getattr(other, name)
            joiner = np.ma.concatenate if name == "first_step" else np.concatenate
            try:
                return {key: joiner([flat(mine[key], keep), flat(theirs[key], keep)]) for key in mine}
            except ValueError:
                raise ValueError(
                    "merge: expected two audits of the same horizon; add their summaries instead"
                ) from None

        return Report(
            feasible=np.concatenate([self.feasible.ravel(), other.feasible.ravel()]),
            violation=join("violation", 1),
            worst=join("worst", 0),
            first_step=join("first_step", 0),
            gaps=join("gaps", 1),
            value=join("value", 1),
            limits=self.limits,
            tolerance=self.tolerance,
            reading=self.reading,
        )

    def __str__(self) -> str:
        return str(self.summary)

    def __repr__(self) -> str:
        total = self.feasible.size
        return f"Report({int(self.feasible.sum())} of {total} feasible, {len(self.limits)} limits, {self.reading})"

    def _repr_html_(self) -> str:
        return _html.summary(self.summary)._repr_html_()

    def to_json(self, *, rows: bool = True) -> str:
        """The summary, and with `rows` each trajectory's verdict: worst excess and first step over, per limit."""
        content = self.summary.to_dict()
        if rows:
            worst = {name: self.worst[name].ravel() for name in self.worst}
            first = {name: self.first_step[name].ravel().tolist() for name in self.first_step}
            content["rows"] = [
                {
                    "feasible": bool(ok),
                    "over": {
                        name: {"worst": float(worst[name][i]), "first_step": first[name][i]}
                        for name in worst
                        if worst[name][i] > self.tolerance
                    },
                }
                for i, ok in enumerate(self.feasible.ravel())
            ]
        return json.dumps(content, indent=2)


def audit(
    trajectory_or_motion: Trajectory | Motion,
    vehicle: Any,
    limits: Any,
    *,
    tolerance: float | None = None,
    differencing: str = "raw",
    window: int = SAVGOL_WINDOW,
    order: int = SAVGOL_ORDER,
    min_speed: float = MIN_SPEED,
) -> Report:
    """Measures every limit at every sample.

    Runs on the host in float64, whatever the input's array type; coordinates are recentred first, so far-away
    frames lose nothing.

    Args:
        trajectory_or_motion: `(..., T)`; a `Trajectory` is differenced, a `Motion` is believed.
        vehicle: whose signals are meant.
        limits: a tuple of `Limit`, for example `feasible.presets.physical()`.
        tolerance: normalised excess still accepted; None for 1e-3 (motion) or 5e-2 (trajectory).
        differencing: "raw" or "savgol"; see `Motion.from_trajectory`.
        window: of the smoother [samples].
        order: of the smoother.
        min_speed: below it [m/s] curvature is not assessed.

    Raises:
        ValueError: for inconsistent shapes, limits that are none, or a negative tolerance.
    """
    limits = check_limits(limits)
    if isinstance(trajectory_or_motion, Motion):
        motion, reading = _on_host(trajectory_or_motion), "exact"
        tolerance = EXACT_TOLERANCE if tolerance is None else tolerance
    else:
        motion = Motion.from_trajectory(
            recentre(trajectory_or_motion.check())[0],
            differencing=differencing,
            window=window,
            order=order,
            min_speed=min_speed,
        )
        reading = f"savgol({window}, {order})" if differencing == "savgol" else differencing
        tolerance = SAMPLED_TOLERANCE if tolerance is None else tolerance
    if not tolerance >= 0:
        raise ValueError(f"tolerance: expected a number >= 0, got {tolerance}")

    shape = motion.x.shape
    violation, worst, first_step, gaps, value = {}, {}, {}, {}, {}
    feasible, assessed = np.ones(shape[:-1], dtype=bool), np.zeros(shape[:-1], dtype=bool)
    for limit in limits:
        with np.errstate(over="ignore", invalid="ignore"):  # absurd input gives inf or NaN, which becomes a gap
            signal = np.broadcast_to(limit.signal(motion, vehicle), shape)
        gap = limit.gap(motion)
        gap = np.zeros(shape, dtype=np.int32) if gap is None else gap
        gap = np.where(np.isfinite(signal), gap, int(Gap.MISSING))
        known = gap == Gap.NONE
        excess = np.where(known, np.maximum(limit.margin_of(np.where(known, signal, 0.0)), 0.0), 0.0)
        over = excess > tolerance
        violation[limit.name], gaps[limit.name], value[limit.name] = excess, gap, signal
        worst[limit.name] = excess.max(-1)
        first_step[limit.name] = np.ma.masked_array(over.argmax(-1), mask=~over.any(-1))
        feasible &= ~over.any(-1)
        assessed |= known.any(-1)
    return Report(feasible & assessed, violation, worst, first_step, gaps, value, limits, tolerance, reading)


def _on_host(motion: Motion) -> Motion:
    import array_api_compat.numpy as xp

    fields = {f.name: getattr(motion, f.name) for f in dataclasses.fields(motion)}
    arrays = {k: to_numpy(v).astype(np.float64) for k, v in fields.items() if k not in ("gaps", "xp")}
    return Motion(**arrays, gaps={k: to_numpy(v) for k, v in motion.gaps.items()}, xp=xp)
