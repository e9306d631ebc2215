"""Sine, cosine, arctangent and logarithm of arithmetic alone, for compilers that would call a scalar function for each.

XLA's compiler for processors leaves these to the mathematical library of C (the logarithm in float64 only), which
takes one number at a time: sixteen calls where a vector register holds sixteen rows. Here they are polynomials after
a reduction of the argument, to rounding in float32 and 1e-15 in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from feasible._arrays import Array
from feasible.solvers import _series


def sin(x: Array) -> Array:
    """Sine."""
    sign, rest = _half_turns(x)
    return sign * (rest * _polynomial(rest * rest, _series.sine(_double(x))))


def cos(x: Array) -> Array:
    """Cosine."""
    sign, rest = _half_turns(x)
    return sign * _polynomial(rest * rest, _series.cosine(_double(x)))


def atan(x: Array) -> Array:
    """Arctangent; an odd series, of (x - t_n) / (1 + x t_n) with t_n = tan(n π/8), is added to n π/8."""
    size = jnp.abs(x)
    over = size > 1.0
    t = jnp.where(over, 1.0 / size, size)
    base = tangent = jnp.zeros_like(t)
    for n in (1, 2):
        above = t > math.tan((2 * n - 1) * math.pi / 16)
        base = jnp.where(above, n * math.pi / 8, base)
        tangent = jnp.where(above, math.tan(n * math.pi / 8), tangent)
    rest = (t - tangent) / (1.0 + t * tangent)
    angle = base + rest * _polynomial(rest * rest, _series.arctangent(_double(x)))
    angle = jnp.where(over, math.pi / 2 - angle, angle)
    return jnp.where(x < 0.0, -angle, angle)


def atan2(y: Array, x: Array) -> Array:
    """Angle of (x, y), by the smaller over the larger of the two, so that nothing is divided by 0; -0 counts as 0."""
    steep = jnp.abs(y) > jnp.abs(x)
    above, below = jnp.where(steep, x, y), jnp.where(steep, y, x)
    small = atan(above / jnp.where(below == 0.0, 1.0, below))
    side = jnp.where(y < 0.0, -1.0, 1.0)
    flat = jnp.where(x < 0.0, small + math.pi * side, small)
    return jnp.where(steep, math.pi / 2 * side - small, flat)


def log(x: Array) -> Array:
    """Logarithm by exponent and mantissa m in [√½, √2): log m = 2 atanh((m - 1) / (m + 1)); NaN below 0."""
    whole, mantissa = (np.int64, 52) if _double(x) else (np.int32, 23)
    bits = jax.lax.bitcast_convert_type(x, whole)
    exponent = jax.lax.shift_right_arithmetic(bits - np.sqrt(0.5, dtype=x.dtype).view(whole), whole(mantissa))
    m = jax.lax.bitcast_convert_type(bits - jax.lax.shift_left(exponent, whole(mantissa)), x.dtype)
    s = (m - 1.0) / (m + 1.0)
    value = s * _polynomial(s * s, _series.logarithm(_double(x))) + exponent.astype(x.dtype) * math.log(2.0)
    return jnp.where(x > 0.0, value, jnp.nan)


FUNCTIONS: dict[str, Callable[..., Array]] = {"sin": sin, "cos": cos, "atan": atan, "atan2": atan2, "log": log}


def _double(x: Array) -> bool:
    return x.dtype == np.float64


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    """Σ c_i x^i by Horner's rule."""
    total = jnp.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


def _half_turns(x: Array) -> tuple[Array, Array]:
    """(-1)^n for the nearest multiple n of π, and the rest; π in three parts keeps it exact."""
    n = jnp.round(x * (1 / math.pi))
    rest = x
    for part in _series.half_turn(_double(x)):
        rest = rest - n * part
    half = n * 0.5
    return 1.0 - (half - jnp.floor(half)) * 4.0, rest
