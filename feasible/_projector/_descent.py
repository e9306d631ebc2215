"""The ladder of one call: which rung runs, when there is no time for one, and which answer is taken.

    1  hard limits, from the warm start or the lift
    2  hard limits with tighter bounds, from the answer of 1, where it exceeds them only between the points
    3  hard limits from the lift at another pace, where there is no answer that converged and holds
    4  elastic limits, where there is no answer that holds
    5  braking, where there is none, or none that is better

An answer holds if the check at the end of each rung says so. One that does not converge, because a deadline came or
because the problem is hard, may hold all the same: it can be driven, and is only not the nearest.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from feasible._project import ACCEPTED, STILL
from feasible._projector._rungs import Rungs
from feasible._projector._verdict import BETWEEN
from feasible._status import Status
from feasible.solvers._riccati_loop import Options

COLD = Options(iterations=80, mu_end=1e-7, quick=0.2, slope=1e-5)
WARM = COLD._replace(mu_start=1e-6)
TIGHTER = WARM._replace(mu_start=1e-4)
AGAIN = Options(slow=0.8, share=1e6)
RELAX = COLD._replace(iterations=120)
NEAR = 0.1  # normalised excess between the points up to which tighter bounds are tried
BY, MORE = 1.25, 5e-4  # how much tighter: so many times what is too much, and so much; all of 25 real rows held then
# Numbers, because looking an enumeration's members up takes longer than comparing with them
_UNCHANGED, _HELD, _RELAXED, _FALLBACK, _REJECTED = map(int, Status)


@dataclasses.dataclass
class Found:
    """For N rows: the flat reply that is taken, its status, what it was measured by, and all iterations spent."""

    rows: np.ndarray
    status: np.ndarray
    violation: np.ndarray
    iterations: np.ndarray


@dataclasses.dataclass(frozen=True)
class Clock:
    """When an answer is due, and what rungs cost.

    Attributes:
        due: `time.perf_counter` at the deadline, or None.
        cost: per rung, seconds of a call without iterations, and of an iteration, for a group of rows.
        groups: how many groups of rows run one after the other.
    """

    due: float | None
    cost: dict[str, tuple[float, float]]
    groups: int

    def iterations(self, rung: str, most: float) -> int:
        """How many iterations of a rung there is time for, at most `most`; what comes after them has its time too."""
        if self.due is None:
            return int(most)
        base, each = self.cost[rung]
        left = self.due - time.perf_counter() - self.groups * (base + self.cost["brake"][0])
        return int(min(most, left / max(self.groups * each, 1e-9)))


def descend(rungs: Rungs, request: np.ndarray, given: np.ndarray, clock: Clock) -> Found:
    """Answers flat requests `(N, ...)`; `given` `(N,)`: which of them have a finite sample at all."""
    at, count = rungs.reply.at, len(request)
    found = Found(
        np.zeros((count, rungs.reply.size)),
        np.full(count, _FALLBACK),
        np.full(count, np.inf),
        np.zeros(count, dtype=int),
    )
    merit, settled = np.full(count, np.inf), np.zeros(count, dtype=bool)

    def attempt(
        rung: str, which: np.ndarray, options: Callable[[bool], Options], *, warm: bool = False, tighter: bool = False
    ) -> None:
        if not which.any():
            return
        most = clock.iterations(rung, options(False).iterations)
        if most < 1:
            return
        whole = bool(which.all())
        index: Any = slice(None) if whole else np.flatnonzero(which)
        rows = request if whole and warm else request[which]  # what is changed must be a copy
        if not warm:
            rows[:, rungs.request.at.warm] *= -1.0
        if tighter:
            _tighten(rungs, rows, found.rows[index])
        for is_warm, some in _kinds(rows[:, rungs.request.at.warm.start] > 0):
            chosen = options(is_warm)
            bound = min(most, chosen.iterations)
            rungs.set_options(rows, some, chosen if bound == chosen.iterations else chosen._replace(iterations=bound))
        replies = rungs.run(rung, rows)
        found.iterations[index] += replies[:, at.iterations.start].astype(int)
        value = replies[:, at.merit.start]
        value = np.where((replies[:, at.usable.start] > 0) & np.isfinite(value), value, np.inf)
        status, violation = verdict(rungs, replies)
        holds = status <= _HELD
        # An answer that holds beats one that does not; among equals the nearer one is better.
        better = (value < np.inf) & np.where(holds == (found.status[index] <= _HELD), value < merit[index], holds)
        if whole and better.all():  # nothing is copied
            taken, found.rows, found.status, found.violation = index, replies, status, violation
        else:
            taken = np.flatnonzero(which)[better]
            found.rows[taken], found.status[taken], found.violation[taken] = (
                replies[better],
                status[better],
                violation[better],
            )
        merit[taken] = value[better]
        settled[taken] = replies[better, at.converged.start] > 0

    attempt("hard", given, lambda warm: WARM if warm else COLD, warm=True)
    seen = found.rows[:, at.any_sample.start] > 0
    if (settled & seen & (found.status <= _HELD)).all():  # as nearly always
        return found
    near = settled & (found.status > _HELD) & (found.rows[:, at.excess.start] <= ACCEPTED) & (found.violation <= NEAR)
    attempt("hard", given & near, lambda warm: TIGHTER if warm else COLD, tighter=True)
    attempt("hard", given & ~(settled & (found.status <= _HELD)), lambda warm: AGAIN)
    attempt("elastic", given & (found.status > _HELD), lambda warm: RELAX)

    lost = np.flatnonzero(~given | ~(settled | (found.status <= _HELD)))
    if lost.size:
        replies = rungs.run("brake", request[lost])
        _, violation = verdict(rungs, replies)
        better = ~given[lost] | (found.status[lost] == _FALLBACK) | (violation < found.violation[lost])
        taken = lost[better]
        found.rows[taken], found.violation[taken] = replies[better], violation[better]
        found.status[taken] = _FALLBACK
    found.status[found.rows[:, at.any_sample.start] <= 0] = _REJECTED
    return found


def _tighten(rungs: Rungs, rows: np.ndarray, replies: np.ndarray) -> None:
    """Tightens bounds by what replies exceed too much between the points, and starts rows from the replies."""
    at = rungs.request.at
    first, last = rungs.reply.at.margins[0].start, rungs.reply.at.margins[-1].stop
    over = replies[:, first:last] - BETWEEN
    rows[:, at.tighter[0].start : at.tighter[-1].stop] = np.where(over > 0.0, BY * over + MORE, 0.0)
    # Not where an earlier plan is there for consistency, whose place the reply would take: such a row starts cold.
    free = (rows[:, at.warm.start] == 0.0) | (rows[:, at.consistency.start] == 0.0)
    some = rows[free]
    rungs.start_from(some, replies[free], np.zeros((len(some), 2)), 0)
    rows[free] = some


def verdict(rungs: Rungs, replies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Status of replies of a solver's rung, by the check alone, and the violation that it found."""
    at = rungs.reply.at
    violation = replies[:, at.margins[0].start : at.margins[-1].stop].max(1, initial=0.0)
    holds = (replies[:, at.excess.start] <= ACCEPTED) & (violation <= BETWEEN)
    same = (replies[:, at.most.start] <= STILL) & (replies[:, at.turned.start] <= 10 * STILL)
    return np.where(holds, np.where(same, _UNCHANGED, _HELD), _RELAXED), violation


def _kinds(warm: np.ndarray) -> list[tuple[bool, Any]]:
    """Which rows are cold and which are warm, where there are any."""
    if warm.all() or not warm.any():
        return [(bool(warm[0]), slice(None))]
    return [(False, ~warm), (True, warm)]
