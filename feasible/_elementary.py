"""Elementary functions and sums that are safe to differentiate, and fast where XLA's own are not.

NumPy and PyTorch have vector code of their own for all of this, so it is about JAX.

Angles. XLA has no vector code for atan on a CPU: it calls the C library once an element, 15 ns each. In single
precision the angle is therefore a rational function here (fitted for the least relative error, 3e-8; 4 units in the
last place as computed), with its exact derivative. Double precision stays with the library.

Sums over rows. XLA computes what a sum reads inside the loop of the sum, which runs down a column where the rows lie
one behind the other: no vector code. Halves of the rows, added, are elementwise.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from array_api_compat import is_jax_namespace

from feasible._arrays import Array, Namespace

# atan(t) = t (1 + a_1 t² + a_2 t⁴ + a_3 t⁶) / (1 + b_1 t² + b_2 t⁴) for |t| <= 1
_ABOVE = (0.8251149007713663, 0.08982125552018538, -0.0029203731161792246)
_BELOW = (1.1584462799956292, 0.2760079001217711)


def safe_hypot(xp: Namespace, a: Array, b: Array) -> Array:
    """sqrt(a² + b²) with gradient 0, not NaN, at the origin.

    The inner `where` keeps the root away from 0, where its slope is infinite; the outer one restores the value.
    Either alone would let 0 · ∞ = NaN into the gradient.
    """
    square = a * a + b * b
    positive = square > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, square, 1.0)), 0.0)


def arctangent(xp: Namespace, slope: Array) -> Array:
    """atan(slope) [rad]."""
    return _arctangent(slope) if is_jax_namespace(xp) and slope.dtype == jnp.float32 else xp.atan(slope)


def arctangent_within_one(xp: Namespace, slope: Array) -> Array:
    """atan(slope) [rad] for |slope| <= 1."""
    return _within_one(slope) if is_jax_namespace(xp) and slope.dtype == jnp.float32 else xp.atan(slope)


def log1p(xp: Namespace, a: Array) -> Array:
    """log(1 + a) for a >= 0, to the last digits also where a is small.

    XLA computes a series and a logarithm and takes one of them. Half the work: the logarithm of the rounded u = 1 + a,
    and what the rounding took, a - (u - 1), divided by u; where u is not near 1, that is beyond the last digit, and
    where it is, so is the division. The maximum changes nothing, but without it XLA makes u - 1 an a.
    """
    if not is_jax_namespace(xp):
        return xp.log1p(a)
    u = xp.maximum(1.0 + a, xp.ones_like(a))
    return xp.log(u) + xp.where(a < 1.0, a - (u - 1.0), 0.0)


def sum_rows(xp: Namespace, a: Array) -> Array:
    """Sum over the first axis."""
    if not is_jax_namespace(xp):
        return xp.sum(a, axis=0)
    left = []
    while a.shape[0] > 1:
        half = a.shape[0] // 2
        left.append(a[2 * half :])  # one row or none
        a = a[:half] + a[half : 2 * half]
    return sum((row[0] for row in left if row.shape[0]), a[0])


def count_rows(xp: Namespace, flags: Array, dtype: Any) -> Array:
    """How many flags are set along the first axis, as `dtype`."""
    narrow = is_jax_namespace(xp) and flags.shape[0] < 256  # bytes hold the count, and four times as many fit a vector
    return xp.astype(sum_rows(xp, xp.astype(flags, xp.uint8 if narrow else dtype)), dtype)


def sum_log1p_rows(xp: Namespace, a: Array) -> Array:
    """Sum of log(1 + a) over the first axis, for a >= 0.

    A logarithm costs as much as all that comes before it, so two rows share one:
    (1 + a)(1 + b) = 1 + (a + b + a b), which loses nothing where a and b are small. Values are capped where the
    product would overflow, 9e18 in single precision. (Four rows would save another tenth, but then the cap is 2e9, and
    the lateral jerk of a trajectory that jumps by 1000 km is beyond that.)
    """
    if not is_jax_namespace(xp):
        return xp.sum(xp.log1p(a), axis=0)
    half, cap = a.shape[0] // 2, float(jnp.finfo(a.dtype).max) ** 0.5 / 2
    if half == 0 or cap < 1e9:  # half precision has no room
        return sum_rows(xp, log1p(xp, a))
    a = xp.where(a < cap, a, cap)
    first, second, left = a[:half], a[half : 2 * half], a[2 * half :]
    total = sum_rows(xp, log1p(xp, first + second + first * second))
    return total + log1p(xp, left[0]) if left.shape[0] else total


@jax.custom_jvp
def _within_one(slope: Array) -> Array:
    """The rational function. It ends in the division; see `_differences` for why."""
    square = slope * slope
    above = ((_ABOVE[2] * square + _ABOVE[1]) * square + _ABOVE[0]) * square + 1.0
    below = (_BELOW[1] * square + _BELOW[0]) * square + 1.0
    return slope * above / below


@jax.custom_jvp
def _arctangent(slope: Array) -> Array:
    """The rational function of the slope or of its inverse."""
    steep = jnp.abs(slope) > 1.0
    angle = _within_one(jnp.where(steep, 1.0, slope) / jnp.where(steep, slope, 1.0))
    return jnp.where(steep, jnp.where(slope < 0, -math.pi / 2, math.pi / 2) - angle, angle)


def _change(slope: Array, change: Array) -> Array:
    return change / (1.0 + slope * slope)


_within_one.defjvps(lambda change, angle, slope: _change(slope, change))
_arctangent.defjvps(lambda change, angle, slope: _change(slope, change))
