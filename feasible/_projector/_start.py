"""The solver's start inside the inference programs: the lift of `_lift`, as scans over the horizon.

The same penalised least-squares fit (Whittaker, 1923) by a banded Cholesky factorisation in one forward and one
backward scan, heading and speed read from the smoothed path, and the heading carried over where the path hardly
moves. It is written a second time because the host's version needs SciPy and rows of any pattern at once, and this
one must run where there is neither Python nor a linear-algebra library.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from feasible._arrays import Array, wrap
from feasible._lift import CREEP, STIFFNESS

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
    first: list[Array], mass: Array, paths: list[Array], masses: Array, steps: Array, dt: float
) -> tuple[list[Array], list[Array]]:
    """Points `first` and `paths` with weights `mass` and `masses`, smoothed; `steps` is T as a number."""
    third = tuple(c / dt**3 * STIFFNESS**0.5 for c in (-1.0, 3.0, -3.0, 1.0))

    def row(k: Array, carry: Any, weight: Array, values: list[Array]) -> Any:
        """Row k of L D Lᵀ, and of D⁻¹ L⁻¹ b."""
        d1, d2, d3, l21, l31, l32, y1, y2, y3 = carry
        # Third difference number i starts at point i; there are T - 2 of them.
        inside = [jnp.where((k - i >= 0.0) & (k - i <= steps - 3.0), 1.0, 0.0) for i in range(4)]
        diagonal = weight + _TINY + sum(third[i] * third[i] * inside[i] for i in range(4))
        w1 = sum(third[i] * third[i - 1] * inside[i] for i in range(1, 4))
        w2 = sum(third[i] * third[i - 2] * inside[i] for i in range(2, 4))
        w3 = third[3] * third[0] * inside[3]
        w2 = w2 - w3 * l32
        w1 = w1 - w3 * l31 - w2 * l21
        l1, l2, l3 = w1 / d1, w2 / d2, w3 / d3
        d = diagonal - w1 * l1 - w2 * l2 - w3 * l3
        y = [(weight + _TINY) * v - l1 * a - l2 * b - l3 * c for v, a, b, c in zip(values, y1, y2, y3, strict=True)]
        # L of the last three rows: l21 = L[k, k-1], l31 = L[k, k-2], l32 = L[k-1, k-2]
        return (d, d1, d2, l1, l2, l21, y, y1, y2), ([v / d for v in y], l1, l2, l3)

    zero = jnp.zeros_like(mass)
    one, none = zero + 1.0, [zero] * len(paths)
    carry, (y0, *_) = row(zero, (one, one, one, zero, zero, zero, none, none, none), mass, first)

    def forward(carry: Any, inputs: Any) -> Any:
        k, state = carry
        state, out = row(k, state, *inputs)
        return (k + 1.0, state), out

    _, scaled = jax.lax.scan(forward, (one, carry), (masses, paths))

    def backward(carry: Any, inputs: Any) -> Any:
        x1, x2, x3, l11, l12, l22, l13, l23, l33 = carry  # points k + 1 .. k + 3; l of rows k + 1, k + 2, k + 3
        y, l1, l2, l3 = inputs
        x = [v - l11 * a - l22 * b - l33 * c for v, a, b, c in zip(y, x1, x2, x3, strict=True)]
        return (x, x1, x2, l1, l2, l12, l3, l13, l23), x

    carry, found = jax.lax.scan(backward, (none, none, none, *[zero] * 6), scaled, reverse=True)
    return backward(carry, (y0, zero, zero, zero))[1], found


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


def lift(
    target: list[Array], weight: list[Array], initial: list[Array], steps: Array, dt: float
) -> tuple[list[Array], list[Array]]:
    """First state and states x_1..x_T of the kinematic bicycle near targets; not dynamically consistent.

    Args:
        target: x, y, yaw, speed, finite.
        weight: of them, 0 where nothing is stated.
        initial: the first state, NaN where free; what is known is believed.
        steps: T as a number.
        dt: step [s].
    """
    known = [jnp.isfinite(v) for v in initial]
    placed = known[0] & known[1]
    first = [jnp.where(placed, v, 0.0) for v in initial[:2]]
    mass = jnp.where(weight[0] > 0.0, 1.0, 0.0)
    (x0, y0), (x, y) = smooth(first, jnp.where(placed, _ANCHOR, 0.0), target[:2], mass, steps, dt)
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
