"""The fallback: closed-form jerk-limited braking along the current curvature.

On a grid of steps h, the acceleration goes from a to -D in m steps, stays there for n, and goes to 0 in r steps.
With the signs of a forward drive, speed and acceleration then end at 0 on a sample if

    v + (a - D) m h / 2 - D n h - D r h / 2 = 0,   that is   D = (v + a m h / 2) / (h (m / 2 + n + r / 2)).

For a deceleration d and jerks that are not to be exceeded, m and r are the least that keep the jerk on the way from a
to -d and from -d to 0, and n is the least that keeps D <= d. Where even releasing the brake at that jerk would
overshoot into reverse, D is negative and the car comes back to a stop. Limits on acceleration and jerk themselves
bound d and the jerks; they may differ between onset and release.

Curvature stays as it is, so lateral acceleration falls with the speed. From the pairs (d, j) below, strongest first,
the first under which every limit is kept is taken: of a state inside the limits that means no excess at all; of one
outside that no excess ever rises above its least so far, and that none is left at the end. Where that breaks a limit,
because the car is still speeding up in a bend or has no grip left to brake with, the curvature rate of each step is
steered (`_steering`), as close as possible to none, then to one that drives straight at once. The profile is planned
again at every step, and of the shares below of its jerk, the first is taken under which some curvature rate lets no
excess rise: a hard jerk makes lateral jerk change within a step by more than limits on it may allow. Where that fails
too, no profile within the bounds on jerk may end at rest at all, so the pairs are tried as they are. Where none
succeeds, the one whose excesses rise the least, and are soonest gone, is taken.

The functions of `xp` are written for scalars of any array namespace: the inference programs trace them too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from feasible._arrays import Array, Namespace
from feasible._problem import Problem
from feasible._steering import ENOUGH, Allowance, allowances, charge, excesses, steer

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
# The same for motions that are steered, and the time constant [s] with which curvature should go to 0; 0 for never
STEERED = (
    (8.0, 1e3, 0.0),
    (4.0, 8.0, 0.0),
    (1.0, 1e3, 0.0),
    (8.0, 1e3, 0.1),
    (8.0, 40.0, 0.1),
    (4.0, 1e3, 0.1),
    (2.0, 2.0, 0.1),
    (1.0, 1e3, 0.1),
    (1.5, 1.0, 0.1),
    (4.0, 80.0, 0.3),
    (1.0, -1e3, 0.1),
)
SHARES = (1.0, 0.5, 0.2, 0.0, -0.3)  # of the jerk that the profile asks for
KEPT = 1e-4  # normalised excess that counts as none
LOST, NEARLY = 1e4, 5e-3  # what breaking limits that can be kept costs, by more than the normalised excess that it may
RISES = 100.0  # what a rise of an excess, and what is left of it at the end, count beside its mean
POINTS = 11  # of a step, where it is measured
_FREE = 1e6


class Bounds(NamedTuple):
    """What limits say of acceleration [m/s²] and jerk [m/s³] alone: lower and upper bounds."""

    slowest: Array = -_FREE
    fastest: Array = _FREE
    fall: Array = -_FREE
    rise: Array = _FREE

    @classmethod
    def of(cls, problem: Problem) -> Bounds:
        """Those of a problem's limits."""
        vehicle, found = problem.vehicle, []
        size = len(vehicle.STATES) + len(vehicle.CONTROLS)
        for place, name in ((vehicle.STATES.index("acceleration"), "acceleration"), (len(vehicle.STATES), "jerk")):
            probe = np.zeros((2, size))
            probe[:, place] = (1.0, -2.0)
            motion = vehicle.motion_of(probe[:, : len(vehicle.STATES)], probe[:, len(vehicle.STATES) :])
            lower, upper = -_FREE, _FREE
            for limit in problem.limits:
                if limit.reads == {name} and np.array_equal(limit.signal(motion, vehicle), probe[:, place]):
                    lower = lower if limit.lower is None else max(lower, float(limit.lower))
                    upper = upper if limit.upper is None else min(upper, float(limit.upper))
            found += [lower, upper]
        return cls(*found)


class Stop(NamedTuple):
    """Jerk `lead` [m/s³] for `p` steps, `onset` for `m`, none for `n`, `release` for `r`."""

    lead: Array
    p: Array
    onset: Array
    release: Array
    m: Array
    n: Array
    r: Array


def stop(
    xp: Namespace,
    speed: Array,
    acceleration: Array,
    deceleration: Array,
    jerk: Array,
    dt: float,
    bounds: Bounds = Bounds(),  # noqa: B008
) -> Stop:
    """The profile that ends at rest; scalars or arrays that broadcast. A negative jerk asks for a lead."""
    forward = speed >= 0.0
    sign = xp.where(forward, 1.0, -1.0)
    v, a = speed * sign, acceleration * sign

    def bounded(value: Array, ahead: float, back: float) -> Array:
        return xp.minimum(value, xp.maximum(xp.where(forward, ahead, back), 1e-2))

    d = bounded(deceleration, -bounds.slowest, bounds.fastest)
    early, jerk = jerk < 0.0, xp.abs(jerk)
    falling, rising = bounded(jerk, -bounds.fall, bounds.rise), bounded(jerk, bounds.rise, -bounds.fall)
    # A car that still speeds up at the bound on jerk takes all of it: rounding the onset up to whole steps would leave
    # some, and let the speed rise further than it must. So it is rounded down, to a lesser deceleration.
    whole = xp.floor((a + d) / (falling * dt) + 1e-9) * falling * dt - a
    d = xp.where((a > 0.0) & (jerk > falling) & (whole > 0.25 * d), whole, d)
    braking = xp.maximum(-a, 0.0)
    least = xp.maximum(_ceil(xp, braking / (rising * dt)), 1.0)  # steps to release the brake
    # The lead: the jerk under which speed does not fall below 0, braking² / 2 v, until the brake is off.
    p = xp.where(early & (braking > 0.0), least, 0.0)
    lead = xp.minimum(rising, 0.51 * braking * braking / xp.maximum(v, 1e-3))
    v, a = v + p * dt * (a + 0.5 * lead * p * dt), a + lead * p * dt
    braking = xp.maximum(-a, 0.0)
    least = xp.maximum(_ceil(xp, braking / (rising * dt)), 1.0)
    overshoot = v - 0.5 * braking * least * dt < 0.0
    reach = xp.maximum(xp.maximum(a + d, 0.0) / falling, braking / rising)
    reach = xp.where(overshoot, (d + braking) / rising, reach)
    m = xp.maximum(_ceil(xp, reach / dt), 1.0)
    r = xp.maximum(_ceil(xp, d / (xp.where(overshoot, falling, rising) * dt)), 1.0)
    left = v + 0.5 * a * m * dt
    n = xp.maximum(_ceil(xp, xp.abs(left) / (d * dt) - 0.5 * (m + r)), 0.0)
    D = left / (dt * (0.5 * (m + r) + n))
    return Stop(sign * lead, p, sign * (-D - a) / (m * dt), sign * D / (r * dt), m, n, r)


def jerk(xp: Namespace, profile: Stop, k: Array) -> Array:
    """The jerk of step k."""
    first = xp.where(k < profile.p, profile.lead, 0.0)
    k = k - profile.p
    onset = xp.where((k >= 0.0) & (k < profile.m), profile.onset, 0.0)
    held = profile.m + profile.n
    return first + onset + xp.where((k >= held) & (k < held + profile.r), profile.release, 0.0)


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


def _ceil(xp: Namespace, value: Array) -> Array:
    return -xp.floor(1e-9 - value)


class Candidate(NamedTuple):
    """A strength, whether it regards the limits on jerk, and the steering: whether, and how soon to drive straight."""

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
        score = _score(problem, problem.vehicle.rollout(first, found, problem.dt), found, before).reshape(-1, count)
        choice = score.argmin(1)
        lower = score.min(1) < best[rows]
        best[rows[lower]] = score.min(1)[lower]
        controls[rows[lower]] = found.reshape(len(rows), count, *found.shape[1:])[lower, choice[lower]]
    return problem.vehicle.rollout(states, controls, problem.dt), controls


def _controls(problem: Problem, first: np.ndarray, least: list[np.ndarray], candidates: np.ndarray) -> np.ndarray:
    """Controls `(N, T, 2)` from first states `(N, 6)` and allowed excesses of candidates, one `(5, N)` each."""
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
    """0 for a motion that keeps limits, or regains them without any rise where it cannot; the better, the less.

    Args:
        xp: namespace.
        allowed: at first.
        rises: of the excess of each limit over the least before, beginning with what it is under no control.
        most: largest excess of any limit.
        left: sum of excesses at the end.
        mean: over time, of their sum.
    """
    rise, free = sum(xp.maximum(r - KEPT, 0.0) for r in rises), allowed.mended > ENOUGH
    kept = (left <= KEPT) & xp.where(free, rise <= 0.0, most <= KEPT)
    lost = xp.where(free | (most <= NEARLY), 0.0, LOST)
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
