"""`Tally`: the audit of every trajectory of a file, read raw and smoothed, in sums that do not grow with the file."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from feasible._audit import Report, audit
from feasible._summary import Summary
from feasible._trajectory import Trajectory
from feasible.plot import _heatmap

# Edges of the histogram of each trajectory's worst excess: ten a decade from 0.1 % of a bound to ten thousand bounds
EXCESS_EDGES = np.logspace(-3, 4, 71)
VERDICTS = ("feasible", "jitter", "persistent", "undecided", "unassessed")
FEASIBLE, JITTER, PERSISTENT, UNDECIDED, UNASSESSED = VERDICTS


@dataclasses.dataclass
class Reading:
    """The totals of one way to difference.

    Attributes:
        summary: None before the first trajectory.
        over: `(L, T)` trajectories over each limit at each step. known: those assessed there.
        excess: `(71,)` trajectories by worst normalised excess: below the first of `EXCESS_EDGES`, then between two.
    """

    summary: Summary | None = None
    over: np.ndarray | None = None
    known: np.ndarray | None = None
    excess: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(len(EXCESS_EDGES), dtype=int))

    def add(self, report: Report) -> None:
        """Counts a batch."""
        part = report.summary
        self.summary = part if self.summary is None else self.summary + part
        over, known = _heatmap.tally(report)
        self.over, self.known = _longer(self.over, over), _longer(self.known, known)
        bins = np.searchsorted(EXCESS_EDGES, worst_of(report), side="right").clip(max=len(EXCESS_EDGES) - 1)
        self.excess += np.bincount(bins[assessed(report)], minlength=len(EXCESS_EDGES))


@dataclasses.dataclass
class Tally:
    """All trajectories by reading and by verdict.

    Attributes:
        raw: finite differences of the samples as they are.
        smooth: of the samples after a Savitzky-Golay smoother.
        verdicts: trajectories by `VERDICTS`: raw differences keep every limit; they break one, but smoothed ones none
            (jitter); both break one (persistent); smoothed ones could not be assessed; nothing could.
    """

    raw: Reading = dataclasses.field(default_factory=Reading)
    smooth: Reading = dataclasses.field(default_factory=Reading)
    verdicts: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(VERDICTS, 0))

    @property
    def trajectories(self) -> int:
        """How many were counted."""
        return sum(self.verdicts.values())

    def add(self, trajectory: Trajectory, vehicle: Any, limits: Any) -> np.ndarray:
        """Audits a batch `(N, T)` twice, and returns how bad each row is, `(N,)`.

        Badness is the worst excess after smoothing, which noise does not decide; rows that are clean then come after
        all others, in the order of their raw excess. Rows that cannot be assessed are -inf.
        """
        raw = audit(trajectory, vehicle, limits)
        smooth = audit(trajectory, vehicle, limits, differencing="savgol")
        self.raw.add(raw)
        self.smooth.add(smooth)
        for name, count in zip(*np.unique(verdict(raw, smooth), return_counts=True), strict=True):
            self.verdicts[str(name)] += int(count)
        shaken, driven = worst_of(raw), worst_of(smooth)
        # Squeezed below the tolerance, raw excess orders only those rows that smoothing finds clean.
        calm = smooth.tolerance * shaken / (1 + shaken)
        return np.where(assessed(raw), np.where(driven > smooth.tolerance, driven, calm), -np.inf)


def verdict(raw: Report, smooth: Report) -> np.ndarray:
    """`(N,)` of `VERDICTS`."""
    broken = worst_of(smooth) > smooth.tolerance
    noisy = np.where(broken, PERSISTENT, np.where(assessed(smooth), JITTER, UNDECIDED))
    return np.where(assessed(raw), np.where(raw.feasible, FEASIBLE, noisy), UNASSESSED)


def worst_of(report: Report) -> np.ndarray:
    """`(...)` the largest normalised excess over any limit."""
    return np.max([report.worst[limit.name] for limit in report.limits], axis=0)


def assessed(report: Report) -> np.ndarray:
    """`(...)` bool: some limit could be assessed at some step."""
    return report.feasible | (worst_of(report) > report.tolerance)


def _longer(total: np.ndarray | None, part: np.ndarray) -> np.ndarray:
    """The sum of counts `(L, T)` of horizons that may differ."""
    if total is None:
        return part
    steps = max(total.shape[1], part.shape[1])
    return sum(np.pad(a, ((0, 0), (0, steps - a.shape[1]))) for a in (total, part))  # type: ignore[return-value]
