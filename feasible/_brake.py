"""The fallback: closed-form jerk-limited braking along the current curvature.

On a grid of steps h, the acceleration goes from a to -D in m steps, stays there for n, and goes to 0 in r steps.
With the signs of a forward drive, speed and acceleration then end at 0 on a sample if

    v + (a - D) m h / 2 - D n h - D r h / 2 = 0,   that is   D = (v + a m h / 2) / (h (m / 2 + n + r / 2)).

For a deceleration d and jerks that are not to be exceeded, m and r are the least that keep the jerk on the way from a
to -d and from -d to 0, and n is the least that keeps D <= d. Where even releasing the brake at that jerk would
overshoot into reverse, D is negative and the car comes back to a stop. Limits on acceleration and jerk themselves
bound d and the jerks; they may differ between onset and release.

Curvature stays as it is, so lateral acceleration falls with the speed. Where that breaks a limit, because the car
is still speeding up in a bend or has no grip left to brake with, it is unwound to 0 meanwhile. From the pairs (d, j)
and times of unwinding below, gentlest changes of course and strongest braking first, the first that keeps every limit
is taken. Where none does, the same profiles are driven once more with the curvature rate of each step steered to
keep the limits within that step, as close as possible to the one that was wanted (`steer`): a line search along the
one control that speed and acceleration do not depend on. Where that fails too, no profile within the bounds on jerk
may end at rest at all, so the pairs are tried as they are; and the least bad of all is taken.

The functions of `xp` are written for scalars of any array namespace: the inference programs trace them too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from feasible._arrays import Array, Namespace
from feasible._problem import Problem

# Deceleration [m/s²] and jerk [m/s³], from an emergency stop to what a car at the limit of its grip has left; last,
# for a car that brakes hard and is about to stand: the soonest release that the limits allow; negative, one that
# even accelerates for a moment so as not to roll back
STRENGTHS = (
    (8.0, 40.0),
    (8.0, 25.0),
    (6.0, 15.0),
    (5.0, 8.0),
    (4.0, 8.0),
    (4.0, 4.0),
    (3.0, 4.0),
    (3.0, 2.0),
    (2.0, 4.0),
    (2.0, 2.0),
    (1.5, 1.0),
    (1.0, 0.5),
    (1.0, 1e3),
    (0.1, 1e3),
    (1.0, -1e3),
)
UNWIND = (0.0, 3.0, 1.5, 0.8, 0.4)  # s in which curvature goes to 0; 0 for never
STEERED = (0.0, 1.5)  # the same, of the profiles that are steered
KEPT = 1e-6  # normalised excess that counts as none: rounding
_SLACK = 1e-3  # normalised room that steering leaves, because it looks at three points of a step
_REACH = 1.0  # 1/(m s): largest curvature rate that is tried
_GOLDEN, _HALVINGS = 21, 10  # evaluations to find the rate with the most room, and the nearest with enough
_SECTION = (5**0.5 - 1) / 2
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


def unwinding(xp: Namespace, curvature: Array, time: Array, k: Array, dt: float) -> Array:
    """The curvature rate of step k that brings the curvature to 0 in a time; 0 where that is 0."""
    steps = _ceil(xp, time / dt)
    return xp.where(k < steps, -curvature / (xp.maximum(steps, 1.0) * dt), 0.0)


def _ceil(xp: Namespace, value: Array) -> Array:
    return -xp.floor(1e-9 - value)


class _Search(NamedTuple):
    """A golden section on [low, high] with inner points a and b, then halvings of [near, far]."""

    count: Array
    held: Array  # 1 if what is wanted has room enough
    low: Array
    high: Array
    a: Array
    at_a: Array
    b: Array
    at_b: Array
    near: Array
    far: Array


def steer(
    xp: Namespace, loop: Callable[..., Any], margin: Callable[[Array], Array], wanted: Array, needed: Array
) -> Array:
    """The curvature rate nearest to a wanted one that leaves room; where none does, the one that leaves the most.

    Args:
        xp: namespace.
        loop: `(condition, body, carry) -> carry`, such as `jax.lax.while_loop`.
        margin: largest normalised excess of the step as a function of the rate; convex, nearly.
        wanted: rates.
        needed: positive where steering is called for at all.
    """
    zero = xp.zeros_like(wanted)
    low, high = zero - _REACH, zero + _REACH
    a, b = high - _SECTION * (high - low), low + _SECTION * (high - low)
    held = xp.where(needed > 0.0, zero, zero + 1.0)
    first = _Search(zero, held, low, high, a, zero + 1e30, b, zero + 1e30, zero, zero + 1.0)

    def best(s: _Search) -> Array:
        return xp.where(s.at_a < s.at_b, s.a, s.b)

    def unfinished(s: _Search) -> Array:
        return xp.any((s.held <= 0.0) & (s.count < 1.0 + _GOLDEN + _HALVINGS))

    def body(s: _Search) -> _Search:
        late = s.count > _GOLDEN
        shrink, left = (s.count > 2.0) & ~late, s.at_a < s.at_b
        to_a, to_b = shrink & left, shrink & ~left
        high, low = xp.where(to_a, s.b, s.high), xp.where(to_b, s.a, s.low)
        a = xp.where(to_a, high - _SECTION * (high - low), xp.where(to_b, s.b, s.a))
        b = xp.where(to_b, low + _SECTION * (high - low), xp.where(to_a, s.a, s.b))
        new_a, new_b, middle = to_a | (s.count == 1.0), to_b | (s.count == 2.0), 0.5 * (s.near + s.far)
        point = xp.where(new_a, a, xp.where(new_b, b, wanted + middle * (best(s) - wanted)))
        value = margin(xp.where(s.count == 0.0, wanted, point))
        enough = value <= -_SLACK
        return _Search(
            s.count + 1.0,
            xp.where((s.count == 0.0) & enough, 1.0, s.held),
            low,
            high,
            a,
            xp.where(new_a, value, xp.where(to_b, s.at_b, s.at_a)),
            b,
            xp.where(new_b, value, xp.where(to_a, s.at_a, s.at_b)),
            xp.where(late & ~enough, middle, s.near),
            xp.where(late & enough, middle, s.far),
        )

    s = loop(unfinished, body, first)
    share = xp.where(xp.minimum(s.at_a, s.at_b) <= -_SLACK, s.far, 1.0)
    return xp.where(s.held > 0.0, wanted, wanted + share * (best(s) - wanted))


def excess_within(xp: Namespace, problem: Problem, x: Any, u: Any) -> Array:
    """Largest normalised excess in a step from `x` under `u`, but for what its first state alone decides."""
    vehicle, worst = problem.vehicle, -1.0
    for row in problem.rows:
        if not row.first_step_only:
            at = x if row.fraction == 0.0 else vehicle.step(x, u, row.fraction * problem.dt)
            worst = xp.maximum(worst, problem.limits[row.limit].margin(vehicle.motion_of(at, u), vehicle))
    return worst


def brake(problem: Problem, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States `(T + 1, 6)` and controls `(T, 2)` of the fallback from one row's state `(6,)`, all finite."""
    controls, score = _family(problem, state, UNWIND)
    if not (score <= KEPT).any():
        parts = [(controls, score), _family(problem, state, (0.0,), bounds=Bounds())]
        outside = problem.excess(np.stack([state, state]), np.zeros((1, controls.shape[-1]))).max() > KEPT
        if not outside:  # steering takes seconds in Python, and no way of driving mends what the first state breaks
            parts.append(_family(problem, state, STEERED, steered=True))
        controls, score = (np.concatenate(values) for values in zip(*parts, strict=True))
    best = int(np.argmax(score <= KEPT)) if (score <= KEPT).any() else int(np.argmin(score))
    return problem.vehicle.rollout(state, controls[best], problem.dt), controls[best]


def _family(
    problem: Problem,
    state: np.ndarray,
    times: tuple[float, ...],
    *,
    steered: bool = False,
    bounds: Bounds | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Controls `(N, T, 2)` of every strength and time of unwinding, and how much each exceeds the limits `(N,)`."""
    unwind, pair = (a.reshape(-1) for a in np.meshgrid(times, np.arange(len(STRENGTHS)), indexing="ij"))
    strength, vehicle, dt = np.asarray(STRENGTHS)[pair], problem.vehicle, problem.dt
    profile = stop(np, state[3], state[4], strength[:, 0], strength[:, 1], dt, bounds or Bounds.of(problem))
    x, needed = np.broadcast_to(state, (len(pair), len(state))), np.full(len(pair), float(steered))
    controls = np.empty((len(pair), problem.target.shape[-2], len(vehicle.CONTROLS)))

    def loop(condition: Any, body: Any, carry: Any) -> Any:
        while condition(carry):
            carry = body(carry)
        return carry

    for k in range(controls.shape[1]):
        onset = jerk(np, profile, np.float64(k))

        def margin(rate: np.ndarray, x: np.ndarray = x, onset: np.ndarray = onset) -> np.ndarray:
            return excess_within(np, problem, x, np.stack([onset, rate], axis=-1))

        wanted = unwinding(np, state[5], unwind, np.float64(k), dt)
        controls[:, k] = np.stack([onset, steer(np, loop, margin, wanted, needed)], axis=-1)
        x = vehicle.step(x, controls[:, k], dt)
    states = vehicle.rollout(np.broadcast_to(state, x.shape), controls, dt)
    over = np.maximum(excess_within(np, problem, states[:, :-1], controls), 0.0)
    return controls, over.max(-1) + over.mean(-1)
