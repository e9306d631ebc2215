"""The solver's start inside the inference programs: the lift of `_lift`, as scans over the horizon.

The same penalised least-squares fit (Whittaker, 1923) by one backward and one forward scan, heading and speed read
from the smoothed path, and the heading carried over where the path hardly moves. It is written a second time because
the host's version needs SciPy and rows of any pattern at once, and this one must run where there is neither Python nor
a linear-algebra library.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from feasible._arrays import Array, wrap
from feasible._lift import BROKEN, CREEP, SMOOTHER, STIFFNESS
from feasible._projector._verdict import imposed
from feasible.solvers import _riccati_algebra as la
from feasible.solvers._riccati_stage import Stage

_ANCHOR = 10.0  # weight of a given first position
_TINY = 1e-9  # weight of a missing sample


def neighbours(first: Array, path: Array) -> tuple[Array, Array]:
    """Of values `first`, `path` `(T,)`: those before and after each of `path`; beyond the end, extrapolated."""
    before = jnp.concatenate([first[None], jax.lax.slice_in_dim(path, 0, -1)])

    def back(carry: Any, inputs: Any) -> Any:
        known, following = carry
        value, previous = inputs
        return (jnp.ones_like(known), value), jnp.where(known > 0.0, following, 2.0 * value - previous)

    zero = jnp.zeros_like(first)
    return before, jax.lax.scan(back, (zero, zero), (path, before), reverse=True)[1]


def rate(first: Array, path: Array, dt: float) -> tuple[Array, Array]:
    """Central differences in time of `first` and `path`, one-sided at the ends."""
    before, after = neighbours(first, path)
    start = jax.lax.index_in_dim(path, 0, keepdims=False)
    return (start - first) / dt, (after - before) / (2.0 * dt)


def smooth(
    first: list[Array], mass: Array, paths: list[Array], masses: Array, dt: float, stiffness: Array
) -> tuple[list[Array], Any]:
    """Points `first` and `paths` with weights `mass` and `masses`, smoothed.

    A point and its first two differences are the state of a chain that third differences steer, so that the fit is a
    linear-quadratic problem and solved by Riccati's recursion. The normal equations, which the host factors, have a
    condition of 64 stiffness / dt⁶, a million and more at 10 Hz: too much for float32.
    """
    stiffness = stiffness / dt**6
    zero = jnp.zeros_like(mass)

    def back(carry: Any, weight: Array, values: list[Array]) -> Any:
        """Cost to go 1/2 xᵀ P x + qᵀ x of a point from that of the next, and K, k of the control -(K x + k) between."""
        (a, b, c, d, e, f), q = carry
        weight = weight + _TINY
        gain = [c / (stiffness + f), (c + e) / (stiffness + f), (e + f) / (stiffness + f)]
        P = (
            a - c * gain[0] + weight,
            a + b - c * gain[1],
            b + c - c * gain[2],
            a + 2.0 * b + d - (c + e) * gain[1],
            b + c + d + e - (c + e) * gain[2],
            d + 2.0 * e + f - (e + f) * gain[2],
        )
        shift = [v[2] / (stiffness + f) for v in q]
        q = [
            [v[0] - c * k - weight * x, v[0] + v[1] - (c + e) * k, v[1] + v[2] - (e + f) * k]
            for v, k, x in zip(q, shift, values, strict=True)
        ]
        return (P, q), (gain, shift)

    end = (zero,) * 6, [[zero] * 3 for _ in paths]
    carry, gains = jax.lax.scan(lambda c, given: back(c, *given), end, (masses, paths), reverse=True)
    (P, q), begin = back(carry, mass, first)
    # Differences of which the samples say nothing are none; without this they are what rounding makes of them.
    grown = 1.0 + 0.25 * float(jnp.finfo(zero.dtype).eps) ** 0.5
    held = [*P[:3], P[3] * grown + _TINY, P[4], P[5] * grown + _TINY]
    low, inverse, _ = la.factor(la.from_triangle(held, 3), _TINY)
    states = [[-v for v in la.solve(low, inverse, b)] for b in q]

    def ahead(state: list[Array], gain: list[Array], shift: Array) -> list[Array]:
        point, slope, bend = state
        return [point + slope, slope + bend, bend - la.dot(gain, state) - shift]

    def step(states: Any, given: Any) -> Any:
        gain, shift = given
        return [ahead(s, gain, k) for s, k in zip(states, shift, strict=True)], [s[0] for s in states]

    after = [ahead(s, begin[0], k) for s, k in zip(states, begin[1], strict=True)]
    return [s[0] for s in states], jax.lax.scan(step, after, gains)[1]


def headings(given: Array, velocity: list[Array], velocities: list[Array], whole: list[Array]) -> tuple[Array, Array]:
    """From the course where a path moves, carried over where it does not; continuous up to half turns.

    Args:
        given: heading at the start [rad], NaN where it is not known.
        velocity: x and y at the first point [m/s].
        velocities: at the others, `(T,)` [m/s].
        whole: from the first to the last point [m].
    """

    def course(v: list[Array]) -> tuple[Array, Array]:
        fast = v[0] * v[0] + v[1] * v[1] > CREEP * CREEP
        return fast, jnp.arctan2(v[1], jnp.where(fast, v[0], 1.0))

    def earliest(carry: Array, inputs: list[Array]) -> Any:
        fast, angle = course(inputs)
        return jnp.where(fast, angle, carry), None

    far = whole[0] * whole[0] + whole[1] * whole[1] > 0.01
    still = jnp.where(far, jnp.arctan2(whole[1], jnp.where(far, whole[0], 1.0)), 0.0)
    seed, _ = jax.lax.scan(earliest, still, velocities, reverse=True)
    fast, angle = course(velocity)
    seed = jnp.where(jnp.isfinite(given), given, jnp.where(fast, angle, seed))

    def follow(carry: Any, inputs: list[Array]) -> Any:
        believed, yaw = carry
        fast, angle = course(inputs)
        believed = jnp.where(fast, angle, believed)
        turn = believed - yaw
        # A turn by more than a quarter is driving backwards along the heading.
        yaw = yaw + turn - jnp.pi * jnp.round(turn / jnp.pi)
        return (believed, yaw), yaw

    (believed, first), _ = follow((seed, seed), velocity)
    return first, jax.lax.scan(follow, (believed, first), velocities)[1]


def stated(first: Array, path: Array, values: Array, weight: Array, *, angle: bool = False) -> Array:
    """`path` with the values where a weight says that they are stated, held in between; an angle made continuous."""

    def step(carry: Any, inputs: Any) -> Any:
        known, last = carry
        own, value, w = inputs
        value = last + wrap(jnp, value - last) if angle else value
        known = jnp.where(w > 0.0, 1.0, known)
        out = jnp.where(w > 0.0, value, jnp.where(known > 0.0, last, own))
        return (known, out), out

    return jax.lax.scan(step, (jnp.zeros_like(first), first), (path, values, weight))[1]


def begin(
    stage: Stage, target: list[Array], weight: list[Array], initial: list[Array]
) -> tuple[list[Array], list[Array]]:
    """First state and states x_1..x_T to start from: the lift, or a smoother one where the first breaks limits."""
    zero = jnp.zeros_like(weight[0][0])

    def again(carry: tuple[Any, Array, Array]) -> Array:
        _, worst, tries = carry
        return (worst > BROKEN) & (tries < 2.0)

    def turn(carry: tuple[Any, Array, Array]) -> tuple[Any, Array, Array]:
        found, worst, tries = carry
        new = lift(target, weight, initial, stage.dt, jnp.where(tries > 0.0, SMOOTHER, STIFFNESS))
        chosen = again(carry)
        found = jax.tree.map(lambda a, b: jnp.where(chosen, a, b), new, found)
        return found, jnp.where(chosen, excess(stage, *new), worst), tries + 1.0

    blank = [zero for _ in initial], [jnp.zeros_like(weight[0]) for _ in initial]
    return jax.lax.while_loop(lambda carry: jnp.any(again(carry)), turn, (blank, zero + jnp.inf, zero))[0]


def excess(stage: Stage, first: list[Array], states: list[Array]) -> Array:
    """The largest normalised excess of states over the limits, where no control acts."""
    zero = jnp.zeros_like(first[0])
    still = [zero for _ in stage.vehicle.CONTROLS]

    def step(carry: tuple[list[Array], Array, Array], after: list[Array]) -> Any:
        x, entry, worst = carry
        return (after, zero, jnp.maximum(worst, imposed(stage, x, still, entry=entry))), None

    return jax.lax.scan(step, (first, zero + 1.0, zero), states)[0][2]


def lift(
    target: list[Array], weight: list[Array], initial: list[Array], dt: float, stiffness: Array
) -> tuple[list[Array], list[Array]]:
    """First state and states x_1..x_T of the kinematic bicycle near targets; not dynamically consistent.

    Args:
        target: x, y, yaw, speed, finite.
        weight: of them, 0 where nothing is stated.
        initial: the first state, NaN where free; what is known is believed.
        dt: step [s].
        stiffness: of the smoother [s⁶].
    """
    known = [jnp.isfinite(v) for v in initial]
    placed = known[0] & known[1]
    first = [jnp.where(placed, v, 0.0) for v in initial[:2]]
    mass = jnp.where(weight[0] > 0.0, 1.0, 0.0)
    (x0, y0), (x, y) = smooth(first, jnp.where(placed, _ANCHOR, 0.0), target[:2], mass, dt, stiffness)
    (vx0, vx), (vy0, vy) = rate(x0, x, dt), rate(y0, y, dt)

    def last(carry: Array, value: Array) -> Any:
        return value, None

    whole = [jax.lax.scan(last, a, b)[0] - a for a, b in ((x0, x), (y0, y))]
    yaw0, yaw = headings(initial[2], [vx0, vy0], [vx, vy], whole)
    yaw = stated(yaw0, yaw, target[2], weight[2], angle=True)
    speed0, speed = (a * jnp.cos(c) + b * jnp.sin(c) for a, b, c in ((vx0, vy0, yaw0), (vx, vy, yaw)))
    speed = stated(speed0, speed, target[3], weight[3])
    a0, a = rate(speed0, speed, dt)
    turn0, turn = rate(yaw0, yaw, dt)
    curvatures = [w * v / (v * v + CREEP * CREEP) for w, v in ((turn0, speed0), (turn, speed))]
    start = [x0, y0, yaw0, speed0, a0, curvatures[0]]
    start = [jnp.where(k, v, s) for k, v, s in zip(known, initial, start, strict=True)]
    return start, [x, y, yaw, speed, a, curvatures[1]]
