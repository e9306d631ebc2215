"""From a problem to an answer for every row: solve, solve from elsewhere, relax, brake.

    solve        hard limits, from the lift, a smoother one where the first breaks limits
    retry        hard limits from the answer of a calmer problem, with larger weights on the controls, from two
                 lifts; also where the first answer may be a poor local optimum: near standstill the direction of
                 travel is ambiguous, and the best of three answers is kept
    scatter      there, with a backend to which starts are cheap: the best from many scattered headings and speeds,
                 eight at a time until six of a row have led to its best
    refine       hard limits at more points of a step, from the answer so far, where it breaks a limit between points
    relax        elastic limits, for rows that no backend's own recovery has answered
    brake        the closed-form fallback

Every candidate is repaired before it is compared: controls clipped to the limits that read controls alone, then
rolled out, so that its dynamics are exact whatever the solver left.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from feasible._brake import brake
from feasible._check import measure
from feasible._lift import BROKEN, SMOOTHER, STIFFNESS, lift
from feasible._problem import Problem, Solution
from feasible._rollout import clip_controls
from feasible._status import Status
from feasible._threads import by_rows

_STIFFNESS = (STIFFNESS, 2.0)  # s⁶, of the lifts: they smooth away periods below 3 and 7 s
_CALM = 1e4  # factor on the control weights of the calm problem whose answer a second try starts from
_SLOW = 2.0  # m/s: mean speed below which samples do not tell the direction of travel
_ROUGH = 0.1  # m: root mean square distance from the samples above which slow rows are tried again
_TURN, _PACE = 1.5, 2.0  # rad, m/s: sizes of the scattered changes
_FINE = (0.0, 0.25, 0.5, 0.75, 1.0)  # fractions of a step for rows that break limits between start, middle and end
_BETWEEN = 8e-3  # normalised excess between those points that calls for them; the promise is 1e-2
_TOGETHER = 8  # scattered starts of a row that are tried together: an even number
_ENOUGH, _SAME = 6, 1.00001  # so many within a hundred-thousandth of its best answer, and no more of them are tried
_AT_ONCE = 256  # rows that are scattered together
Start = Callable[[Problem], np.ndarray]  # states `(N, T + 1, S)` to start N rows from
PENALTY = 1e3  # m² per unit of normalised excess, when answers that break limits are compared


@dataclasses.dataclass
class Answer:
    """For N rows: the best motion so far, and how it came about; `multipliers` are per row, `(N, T, R)`.

    `measured` `(N, L + 1)` is what the independent check (`_check.measure`) found of the motion; NaN where it has not
    been asked.
    """

    states: np.ndarray
    controls: np.ndarray
    multipliers: np.ndarray
    iterations: np.ndarray
    status: np.ndarray
    merit: np.ndarray
    measured: np.ndarray

    @classmethod
    def blank(cls, problem: Problem, given: np.ndarray) -> Answer:
        """Of N rows of which nothing is known, but which are `given` `(N,)`."""
        rows, steps = problem.target.shape[:2]
        return cls(
            states=np.zeros((rows, steps + 1, len(problem.vehicle.STATES))),
            controls=np.zeros((rows, steps, len(problem.vehicle.CONTROLS))),
            multipliers=np.zeros((rows, steps, len(problem.rows))),
            iterations=np.zeros(rows, dtype=int),
            status=np.where(given, Status.FALLBACK, Status.REJECTED),
            merit=np.full(rows, np.inf),
            measured=np.full((rows, len(problem.limits) + 1), np.nan),
        )

    @classmethod
    def join(cls, parts: Sequence[Answer]) -> Answer:
        """Of the rows of all parts."""
        names = [f.name for f in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def select(self, rows: np.ndarray) -> Answer:
        """Some rows."""
        return Answer(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})

    def take(self, rows: np.ndarray, other: Answer, chosen: np.ndarray) -> None:
        """Replaces `rows` of this answer by the `chosen` ones of another."""
        for name in ("states", "controls", "multipliers", "status", "merit", "measured"):
            getattr(self, name)[rows[chosen]] = getattr(other, name)[chosen]


def descend(problem: Problem, solver: Any, given: np.ndarray, *, accepted: float) -> Answer:
    """Answers N rows.

    Args:
        problem: N rows in local frames.
        solver: with `solve(problem, states, controls, elastic=...)`, and optionally `STARTS`, how many further
            starts of an ambiguous row it affords, with one of its `attempts` each.
        given: `(N,)` whether the row has any valid sample.
        accepted: normalised excess of a row that counts as solved.
    """
    steps = problem.target.shape[1]
    starts_at_once = getattr(solver, "STARTS", 0)
    C = len(problem.vehicle.CONTROLS)
    answer = Answer.blank(problem, given)

    def attempt(which: np.ndarray, start: Start | None, *, follow: bool = False, elastic: bool = False) -> None:
        index = np.flatnonzero(which)
        if not index.size:
            return
        part = problem.select(index)
        starts, inputs = answer.states[index], answer.controls[index]
        if start is None:
            part = dataclasses.replace(part, fractions=_FINE)
        else:
            starts = start(part)
            inputs = np.zeros_like(inputs)
        if follow:
            calm = solver.solve(dataclasses.replace(part, effort=_CALM * part.effort), starts, inputs)
            answer.iterations[index] += calm.iterations
            usable = (np.isfinite(calm.states).all((1, 2)) & np.isfinite(calm.controls).all((1, 2)))[:, None, None]
            starts, inputs = np.where(usable, calm.states, starts), np.where(usable, calm.controls, inputs)
        found = solver.solve(part, starts, inputs, elastic=elastic)
        answer.iterations[index] += found.iterations
        candidate = _candidate(part, found, accepted)
        candidate.multipliers = _known_rows(problem, part, candidate.multipliers)
        # A refined answer is farther away than the one that breaks limits between the points, and replaces it.
        better = (candidate.merit < answer.merit[index]) | (start is None)
        answer.take(index, candidate, better & np.isfinite(candidate.merit))

    def scatter(index: np.ndarray) -> None:
        lifts = _start(problem.select(index), _STIFFNESS[0])
        tried, pending = np.full((len(index), starts_at_once), np.inf), np.arange(len(index))
        for turn in range(0, starts_at_once, _TOGETHER):
            starts = _scattered(lifts[pending], starts_at_once, slice(turn, turn + _TOGETHER))
            rows, many = index[pending], starts.shape[1]
            part = problem.select(np.repeat(rows, many))
            found = solver.solve(
                part, starts.reshape(-1, *lifts.shape[1:]), np.zeros((len(part.target), steps, C)), attempts=1
            )
            candidate = _candidate(part, found, accepted)
            candidate.multipliers = _known_rows(problem, part, candidate.multipliers)
            merit = candidate.merit.reshape(-1, many)
            answer.iterations[rows] += found.iterations.reshape(-1, many).sum(1)
            best = candidate.select(merit.argmin(1) + many * np.arange(len(rows)))
            answer.take(rows, best, best.merit < answer.merit[rows])
            tried[pending, turn : turn + many] = merit
            agree = (tried < np.inf) & (tried <= _SAME * answer.merit[index, None])
            pending = np.flatnonzero(agree.sum(1) < _ENOUGH)
            if not pending.size:
                break

    attempt(given, begin)
    again = given & ((answer.status >= Status.RELAXED) | _ambiguous(problem, answer))
    for stiffness in _STIFFNESS:
        attempt(again, functools.partial(_start, stiffness=stiffness), follow=True)
    scattered = np.flatnonzero(given & _ambiguous(problem, answer)) if starts_at_once else np.zeros(0, dtype=int)
    for first in range(0, len(scattered), _AT_ONCE):
        scatter(scattered[first : first + _AT_ONCE])
    _measure_new(problem, answer)
    attempt((answer.status == Status.PROJECTED) & (answer.measured[:, :-1].max(1) > _BETWEEN), None)
    attempt(answer.status == Status.FALLBACK, functools.partial(_start, stiffness=_STIFFNESS[1]), elastic=True)
    lost = np.flatnonzero(answer.status >= Status.FALLBACK)
    for first in range(0, len(lost), _AT_ONCE):
        index = lost[first : first + _AT_ONCE]
        answer.states[index], answer.controls[index] = brake(problem, _now(problem.select(index)))
        answer.measured[index] = np.nan
    _measure_new(problem, answer)
    return answer


def _candidate(problem: Problem, found: Solution, accepted: float) -> Answer:
    """A backend's solution, repaired and judged; a row of no use has an infinite merit."""
    states, controls = np.empty_like(found.states), np.empty_like(found.controls)
    merit, solved = np.empty(len(states)), np.empty(len(states), dtype=bool)

    def judge(rows: slice) -> None:
        part = problem.select(rows)
        x, u = _repair(part, found.states[rows], found.controls[rows])
        with np.errstate(over="ignore", invalid="ignore"):
            excess = part.excess(x, u)
            merit[rows] = part.objective(x, u) + PENALTY * np.maximum(excess - accepted, 0.0).sum((0, -1))
        states[rows], controls[rows], solved[rows] = x, u, excess.max((0, -1)) <= accepted

    by_rows(judge, len(states))
    usable = np.isfinite(merit) & (solved | found.converged)
    return Answer(
        states=states,
        controls=controls,
        multipliers=found.multipliers,
        iterations=found.iterations,
        status=np.where(solved, Status.PROJECTED, Status.RELAXED),
        merit=np.where(usable, merit, np.inf),
        measured=np.full((len(states), len(problem.limits) + 1), np.nan),
    )


def _known_rows(problem: Problem, part: Problem, multipliers: np.ndarray) -> np.ndarray:
    """Multipliers `(N, T, R)` of the problem's rows from those of the rows of `part`; 0 where not finite."""
    finite = np.nan_to_num(multipliers, nan=0.0, posinf=0.0, neginf=0.0)
    return finite if part.rows == problem.rows else finite[..., [part.rows.index(row) for row in problem.rows]]


def _measure_new(problem: Problem, answer: Answer) -> None:
    """Measures the motions that have not been yet."""
    new = np.flatnonzero(np.isnan(answer.measured).any(1))
    motions = answer.states[new], answer.controls[new]
    answer.measured[new] = measure(*motions, problem.dt, problem.vehicle, problem.limits)


def begin(problem: Problem) -> np.ndarray:
    """States `(N, T + 1, S)` to start N rows from: the lift, a smoother one of rows where the first breaks limits."""
    count, steps = problem.target.shape[:2]
    states = np.empty((count, steps + 1, len(problem.vehicle.STATES)))

    def lifted(rows: slice) -> None:
        part = problem.select(rows)
        start = _start(part, STIFFNESS)
        still = np.zeros((len(start), steps, len(problem.vehicle.CONTROLS)))
        with np.errstate(over="ignore", invalid="ignore"):
            broken = np.flatnonzero(part.excess(start, still).max((0, 2), initial=0.0) > BROKEN)
        start[broken] = _start(part.select(broken), SMOOTHER)
        states[rows] = start

    by_rows(lifted, count)
    return states


def _start(problem: Problem, stiffness: float) -> np.ndarray:
    return lift(problem.target, problem.weight, problem.initial_state, problem.dt, stiffness)


def _scattered(starts: np.ndarray, count: int, some: slice) -> np.ndarray:
    """`(N, n, T + 1, 6)`: starts `(N, T + 1, 6)` with n of `count` smooth random changes of heading and speed.

    The changes are drawn once and for all, so that a row's answer is its own, and in pairs, one after the other, so
    that a mirrored row has the mirrored answer.
    """
    rng = np.random.default_rng(0)
    phase = np.pi * np.linspace(0.0, 1.0, starts.shape[1])
    waves = np.cos(phase * np.arange(6)[:, None])
    turn, pace = rng.normal(size=(2, -(-count // 2), 6)) / (1.0 + np.arange(6)) @ waves
    turns = np.stack([turn, -turn], axis=1).reshape(-1, turn.shape[-1])[:count][some]
    scattered = np.repeat(starts[:, None], len(turns), axis=1)
    scattered[..., 2] += _TURN * turns
    scattered[..., 3] += _PACE * np.repeat(pace, 2, axis=0)[:count][some]
    scattered[..., 4:] = 0.0
    return scattered


def _now(problem: Problem) -> np.ndarray:
    """`(N, S)` to brake from: what is given; where that is free, the lift's pose and speed, unaccelerated, straight."""
    states = np.nan_to_num(_start(problem, _STIFFNESS[1])[:, 0])
    states[:, 4:] = 0.0
    return np.where(np.isfinite(problem.initial_state), problem.initial_state, states)


def _repair(problem: Problem, states: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Controls clipped to the limits that are about a control itself, then rolled out from the first state."""
    known = np.isfinite(problem.initial_state)
    first = np.where(known, problem.initial_state, states[:, 0])
    controls = clip_controls(controls, problem.vehicle, problem.limits)
    with np.errstate(over="ignore", invalid="ignore"):
        return problem.vehicle.rollout(first, controls, problem.dt), controls


def _ambiguous(problem: Problem, answer: Answer) -> np.ndarray:
    """`(N,)`: solved, but slow and far from its samples, so that another start may find a better optimum."""
    valid = problem.weight[..., 0] > 0
    gap = np.sum(problem.residual(answer.states)[..., :2] ** 2, -1) * valid
    rough = gap.sum(-1) > _ROUGH**2 * np.maximum(valid.sum(-1), 1)
    return rough & (np.abs(answer.states[..., 3]).mean(-1) < _SLOW)
