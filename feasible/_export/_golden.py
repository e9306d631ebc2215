"""Golden requests and their answers: what every form of an exported projector must reproduce.

Each rung of the ladder, warm starts and dropped ones, bounds on the iterations, and input that is broken. None is
near a fork, where rounding would decide which of two local optima is found.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from feasible._projector import Plan, Projector
from feasible._projector._rungs import Rungs


@dataclasses.dataclass(frozen=True)
class Case:
    """A request.

    Attributes:
        name: of it.
        samples: `(T, 4)` x, y, yaw, speed; NaN where missing.
        initial: `(S,)`; NaN where free.
        previous: number of the case whose plan is the warm start, or -1.
        elapsed: steps since then.
        spoilt: whether a NaN is put into that plan.
        iterations: bound on linearisations; -1 for none.
    """

    name: str
    samples: np.ndarray
    initial: np.ndarray
    previous: int = -1
    elapsed: int = 0
    spoilt: bool = False
    iterations: int = -1


class _Counted:
    """Rungs that count what they spend, and the clock of `descend` that stops at a bound."""

    def __init__(self, rungs: Rungs, bound: int):
        self._rungs, self._bound, self._spent = rungs, bound, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rungs, name)

    def run(self, rung: str, rows: np.ndarray) -> np.ndarray:
        """As `Rungs.run`, of one row."""
        replies = self._rungs.run(rung, rows)
        self._spent += int(replies[0, self._rungs.reply.at.iterations.start])
        return replies

    def iterations(self, rung: str, most: float) -> int:
        """As `Clock.iterations`."""
        return int(most) if self._bound < 0 else int(min(most, self._bound - self._spent))


def answer(projector: Projector, case: Case, plans: Sequence[Plan]) -> Plan:
    """The plan of a case, given those of the cases before."""
    limited: Any = copy.copy(projector)
    limited._rungs = counted = _Counted(projector._rungs, case.iterations)
    limited._clock = lambda began, count: counted
    previous = None
    if case.previous >= 0:
        previous = plans[case.previous]
        if case.spoilt:
            rows = previous._rows.copy()
            rows[:, projector._rungs.reply.at.states[0].start] = np.nan
            previous = dataclasses.replace(previous, _rows=rows)
    stated = 4 if np.isfinite(case.samples[:, 2:]).any() else 2
    plan: Plan = limited(
        case.samples[:, :stated],
        initial_state=case.initial,
        warm_start=previous,
        elapsed=case.elapsed * projector.dt,
    )
    return plan


def answers(projector: Projector, cases: Sequence[Case]) -> list[Plan]:
    """The plans of all cases."""
    plans: list[Plan] = []
    for case in cases:
        plans.append(answer(projector, case, plans))
    return plans


def cases(steps: int, dt: float, states: int) -> list[Case]:
    """Requests for any vehicle of the library."""
    t = dt * np.arange(1, steps + 1)
    free = np.full(states, np.nan)

    def drive(speed: float, sway: float, t: np.ndarray) -> np.ndarray:
        """Forwards, swaying at 0.16 Hz, with jitter."""
        path = np.full((len(t), 4), np.nan)
        path[:, 0] = speed * t + 0.05 * np.sin(37.0 * t)
        path[:, 1] = sway * np.sin(t) + 0.05 * np.cos(29.0 * t)
        return path

    def start(*values: float) -> np.ndarray:
        return np.array([*values, *free[len(values) :]])

    bend, later = drive(10.0, 3.0, t), drive(10.0, 3.0, t + dt)
    stated = np.stack([8.0 * t, 0.02 * t**2, 0.005 * t, 8.0 + 0.3 * np.sin(t)], axis=-1)
    straight = np.stack([8.0 * t, 0.0 * t, 0.0 * t, 8.0 + 0.0 * t], axis=-1)
    sharp = np.stack([15.0 * t, 8.0 * np.sin(1.4 * t), *np.full((2, steps), np.nan)], axis=-1)
    gaps, broken = bend.copy(), bend.copy()
    gaps[3::4] = np.nan
    broken[[2, 5, steps - 1], :2] = [[np.nan, 1.0], [1e300, 1.0], [np.inf, -np.inf]]
    nothing = np.full((steps, 4), np.nan)
    return [
        Case("cold", bend, free),
        Case("warm, one step later", later, free, previous=0, elapsed=1),
        Case("warm, at once", bend, start(0.0, 0.0, 0.25), previous=0),
        Case("warm, twice", drive(10.0, 3.0, t + 2 * dt), free, previous=1, elapsed=1),
        Case("warm start with NaN", bend, free, previous=0, elapsed=1, spoilt=True),
        Case("warm start too old", bend, free, previous=0, elapsed=steps),
        Case("unchanged", straight, start(0.0, 0.0, 0.0, 8.0, 0.0, 0.0)),
        Case("yaw and speed stated", stated, start(0.0, 0.0, 0.0, 8.0)),
        Case("relaxed", stated, start(0.0, 0.0, 0.0, 8.0, 14.0, 0.0)),
        Case("limits bind", sharp, free),
        Case("limits bind, warm", sharp, start(0.0, 0.0, 0.3, 15.0), previous=9),
        Case("gaps", gaps, free),
        Case("samples that are no numbers", broken, free),
        Case("far away", bend + np.array([4.6e6, -3.1e6, 0.0, 0.0]), start(4.6e6, -3.1e6, 0.3, 10.0)),
        Case("an absurd initial state", bend, start(0.0, 0.0, 0.0, 1e9)),
        Case("bound: 4 iterations", bend, free, iterations=4),
        Case("bound: 2 iterations, warm", later, free, previous=0, elapsed=1, iterations=2),
        Case("bound: relaxed, cut short", stated, start(0.0, 0.0, 0.0, 8.0, 14.0, 0.0), iterations=30),
        Case("bound: no iteration", bend, start(0.0, 0.0, 0.2, 10.0, 0.5, 0.01), iterations=0),
        Case("no sample", nothing, start(5.0, 6.0, 0.7, 9.0)),
        Case("nothing at all", nothing, free),
    ]
