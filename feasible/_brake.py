"""The fallback: braking to a stop along the current curvature, or steered where that breaks a limit.

Candidates are tried in turn, and the first that keeps the limits is taken: of a state that can keep them at first that
means no excess at all; of any other that no excess ever rises above its least so far, and that none is left at the end.
Where none succeeds, the one whose excesses rise the least, and are soonest gone, is taken (`score`). There are three
kinds of candidates:

- As it is, curvature stays, so lateral acceleration falls with the speed. The pairs of deceleration and jerk below are
  those of a profile (`_stop`), strongest first.
- Where all of these break a limit, because the car is still speeding up in a bend or has no grip left to brake with,
  the curvature rate of each step is steered (`_steering`), as close as possible to none, then to one that drives
  straight at once. The profile is planned again at every step, and of the shares below of its jerk, the first is taken
  under which some curvature rate lets no excess rise: a hard jerk makes lateral jerk change within a step by more than
  limits on it may allow.
- Where that fails too, no profile within the bounds on jerk may end at rest at all, so the pairs are tried without
  bounds.

The functions of `xp` are written for scalars of any array namespace: the inference programs trace them too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from feasible._arrays import Array, Namespace
from feasible._problem import Problem
from feasible._steering import ENOUGH, Allowance, allowances, charge, excesses, steer
from feasible._stop import Bounds, jerk, stop

# Deceleration [m/s²] and jerk [m/s³], from an emergency stop to what a car at the limit of its grip has left; then, for
# a car that brakes or speeds up so hard in a bend that its lateral force changes too soon, or that brakes hard and is
# about to stand: the soonest change that the limits allow; negative, one that even accelerates for a moment so as not
# to roll back
STRENGTHS = (
    (8.0, 40.0),
    (8.0, 25.0),
    (6.0, 15.0),
    (5.0, 8.0),
    (4.0, 8.0),
    (4.0, 4.0),
    (3.0, 40.0),
    (3.0, 4.0),
    (3.0, 2.0),
    (2.0, 4.0),
    (2.0, 2.0),
    (1.5, 1.0),
    (1.0, 0.5),
    (1.0, 40.0),
    (8.0, 1e3),
    (4.0, 1e3),
    (1.0, 1e3),
    (0.1, 1e3),
    (1.0, -1e3),
)
# The same for motions that are steered, and the time constant [s] with which curvature should go to 0; 0 for never.
# Steering is a search in every step, so the one that nearly always does comes first.
STEERED = (
    (1.0, 1e3, 0.1),
    (4.0, 1e3, 0.1),
    (2.0, 80.0, 0.3),
    (1.0, 80.0, 0.1),
    (4.0, 80.0, 0.3),
    (1.0, -1e3, 0.1),
    (8.0, 1e3, 0.0),
    (8.0, 1e3, 0.1),
    (8.0, 40.0, 0.1),
    (4.0, 8.0, 0.0),
    (1.0, 1e3, 0.0),
    (2.0, 2.0, 0.1),
    (1.5, 1.0, 0.1),
)
SHARES = (1.0, 0.5, 0.2, 0.0, -0.3)  # of the jerk that the profile asks for
# Of scores, made of normalised excesses
KEPT = 1e-4  # an excess, or a rise of one, that counts as none
NEARLY = 5e-3  # from a state that can keep the limits at first: the excess up to which a motion nearly keeps them
LOST = 1e4  # what any motion from there costs that does not: more than one that nearly keeps them ever does
RISES = 100.0  # what a rise of an excess, and what is left of it at the end, count beside its mean
POINTS = 11  # of a step, both ends among them, where excesses are measured


def straightening(xp: Namespace, curvature: Array, time: Array, dt: float) -> Array:
    """The curvature rate that brings a curvature towards 0 with a time constant; 0 where that is 0."""
    return xp.where(time > 0.0, -curvature / xp.maximum(time, dt), 0.0)


def pick(xp: Namespace, values: Sequence[float], place: Array) -> Array:
    """An entry of a table at a place that is known when the program runs."""
    value = xp.zeros_like(place) + values[0]
    for i, (v, last) in enumerate(zip(values[1:], values[:-1], strict=True), 1):
        if v != last:
            value = xp.where(place >= float(i), v, value)
    return value


class Candidate(NamedTuple):
    """A row of the tables above, and, positive if so: whether it keeps to `Bounds`, and whether it is steered."""

    deceleration: float
    jerk: float
    careful: float
    steered: float
    time: float


KINDS = (
    tuple(Candidate(d, j, 1.0, 0.0, 0.0) for d, j in STRENGTHS),
    tuple(Candidate(d, j, 1.0, 1.0, time) for d, j, time in STEERED),
    tuple(Candidate(d, j, 0.0, 0.0, 0.0) for d, j in STRENGTHS),
)
FAMILY = sum(KINDS, ())


class Choice(NamedTuple):
    """The share of the jerk that is tried next in a step, and of those tried the best jerk and curvature rate."""

    place: Array
    jerk: Array
    rate: Array
    charge: Array


def choose(
    xp: Namespace,
    loop: Callable[..., Any],
    charged: Callable[[Array, Array], Array],
    onset: Array,
    wanted: Array,
    steered: Array,
) -> tuple[Array, Array]:
    """Jerk and curvature rate of a step: the first share of a jerk whose charge vanishes, or the one with the least.

    Args:
        xp: namespace.
        loop: `(condition, body, carry) -> carry`, such as `jax.lax.while_loop`.
        charged: of a jerk and a curvature rate.
        onset: jerks that a profile asks for.
        wanted: curvature rates.
        steered: positive where they may be left; elsewhere both are taken as they are.
    """

    def unfinished(c: Choice) -> Array:
        return xp.any((c.charge > ENOUGH) & (c.place < float(len(SHARES))))

    def attempt(c: Choice) -> Choice:
        jerk = pick(xp, SHARES, c.place) * onset
        rate = steer(xp, loop, lambda rate: charged(jerk, rate), wanted, steered)
        value = charged(jerk, rate)
        better = (value < c.charge) & (c.charge > ENOUGH)
        return Choice(c.place + 1.0, *(xp.where(better, a, b) for a, b in zip((jerk, rate, value), c[1:], strict=True)))

    zero = 0.0 * onset
    found = loop(unfinished, attempt, Choice(zero, onset, wanted, xp.where(steered > 0.0, zero + 1e30, zero)))
    return found.jerk, found.rate


def brake(problem: Problem, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States `(N, T + 1, 6)` and controls `(N, T, 2)` of the fallback from states `(N, 6)`, all finite."""
    controls = np.zeros((len(states), problem.target.shape[-2], len(problem.vehicle.CONTROLS)))
    best = np.full(len(states), np.inf)
    allowed = allowances(np, _loop, problem, states, _stacked)
    for kind in KINDS:
        rows, count = np.flatnonzero(best > 0.0), len(kind)
        if not rows.size:
            break
        each = np.repeat(rows, count)
        first, before = states[each], Allowance([e[each] for e in allowed.given], allowed.mended[each])
        found = _controls(problem, first, before.first(np), np.tile(np.array(kind).T, len(rows)))
        scores = _score(problem, problem.vehicle.rollout(first, found, problem.dt), found, before).reshape(-1, count)
        choice = scores.argmin(1)
        lower = scores.min(1) < best[rows]
        best[rows[lower]] = scores.min(1)[lower]
        controls[rows[lower]] = found.reshape(len(rows), count, *found.shape[1:])[lower, choice[lower]]
    return problem.vehicle.rollout(states, controls, problem.dt), controls


def _controls(problem: Problem, first: np.ndarray, least: list[np.ndarray], candidates: np.ndarray) -> np.ndarray:
    """Controls `(N, T, 2)` from first states `(N, 6)`, excesses allowed there, and candidates `(5, N)`."""
    deceleration, hardest, careful, steered, time = candidates
    vehicle, dt, x = problem.vehicle, problem.dt, first
    bounds = Bounds(*(np.where(careful > 0.0, a, b) for a, b in zip(Bounds.of(problem), Bounds(), strict=True)))
    profile = stop(np, x[:, 3], x[:, 4], deceleration, hardest, dt, bounds)
    controls = np.empty((len(x), problem.target.shape[-2], len(vehicle.CONTROLS)))
    for k in range(controls.shape[1]):
        onset = jerk(np, profile, np.float64(k))
        if (steered > 0.0).any():
            again = stop(np, x[:, 3], x[:, 4], deceleration, hardest, dt, bounds)
            onset = np.where(steered > 0.0, jerk(np, again, np.float64(0.0)), onset)

        def charged(jerk: np.ndarray, rate: np.ndarray, x: np.ndarray = x, least: Any = least) -> np.ndarray:
            return charge(np, problem, x, _stacked(jerk, rate), least)

        wanted = straightening(np, x[:, 5], time, dt)
        controls[:, k] = _stacked(*choose(np, _loop, charged, onset, wanted, steered))
        x = vehicle.step(x, controls[:, k], dt)
        least = [np.minimum(a, b) for a, b in zip(least, excesses(problem, x, controls[:, k]), strict=True)]
    return controls


def _loop(condition: Any, body: Any, carry: Any) -> Any:
    while condition(carry):
        carry = body(carry)
    return carry


def _stacked(jerk: np.ndarray, rate: np.ndarray) -> np.ndarray:
    return np.stack([jerk, rate], axis=-1)


def score(xp: Namespace, allowed: Allowance, rises: list[Array], most: Array, left: Array, mean: Array) -> Array:
    """0 for a motion that keeps the limits, or, where they are broken at first, regains them without any rise.

    Any other is the better the less its excesses rise, are left at the end, and are on average. Where the limits can be
    kept at first, those that nearly keep them come before all others, which are compared by the same terms: often
    no motion keeps the limits for long, and then it is to recover as from outside.

    Args:
        xp: namespace.
        allowed: excess that the motion may have at first.
        rises: of the excess of each limit over the least before, beginning with what it is under no control.
        most: largest excess of any limit.
        left: sum of the excesses at the end.
        mean: over time, of the sum of the excesses.
    """
    rise, broken = sum(xp.maximum(r - KEPT, 0.0) for r in rises), allowed.broken
    kept = (left <= KEPT) & xp.where(broken, rise <= 0.0, most <= KEPT)
    lost = xp.where(broken | (most <= NEARLY), 0.0, LOST)
    return xp.where(kept, 0.0, lost + RISES * (rise + left) + mean)


def _score(problem: Problem, states: np.ndarray, controls: np.ndarray, allowed: Allowance) -> np.ndarray:
    """`(N,)`, as `score` says, of motions `(N, T + 1, 6)` and `(N, T, 2)`."""
    points = np.linspace(0.0, 1.0, POINTS) * problem.dt
    inner = [excesses(problem, problem.vehicle.step(states[:, :-1], controls, t), controls) for t in points]
    rises, (most, left, mean) = [], np.zeros((3, len(states)))
    for i, first in enumerate(allowed.given):
        excess = np.stack([values[i] for values in inner], axis=-1).reshape(len(states), -1)
        least = np.minimum.accumulate(np.concatenate([first[:, None], excess], axis=1), axis=1)
        rises.append((excess - least[:, 1:]).max(1))
        most, left, mean = np.maximum(most, excess.max(1)), left + excess[:, -1], mean + excess.mean(1)
    return score(np, allowed, rises, most, left, mean)
