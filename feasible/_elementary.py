"""Elementary functions that are safe to differentiate, and fast where XLA's own are not.

XLA has no vector code for atan2 on a CPU: it calls the C library once an element, 15 ns each, which was a third of
the loss. In single precision the angle is therefore a polynomial here (Cephes, `atanf`: an odd polynomial of degree 9
on |z| ≤ tan(π/8), 2 units in the last place), with one division, and its exact derivative. NumPy and PyTorch have
vector code of their own, and double precision stays with the library.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from array_api_compat import is_jax_namespace

from feasible._arrays import Array, Namespace

_TAN_EIGHTH = math.tan(math.pi / 8)
_CEPHES = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)


def safe_hypot(xp: Namespace, a: Array, b: Array) -> Array:
    """sqrt(a² + b²) with gradient 0, not NaN, at the origin.

    The inner `where` keeps the root away from 0, where its slope is infinite; the outer one restores the value.
    Either alone would let 0 · ∞ = NaN into the gradient.
    """
    square = a * a + b * b
    positive = square > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, square, 1.0)), 0.0)


def slope_angle(xp: Namespace, rise: Array, run: Array) -> Array:
    """atan2(rise, run) for run >= 0, not both 0: an angle in [-π/2, π/2] [rad]."""
    if is_jax_namespace(xp) and rise.dtype == jnp.float32:
        return _slope_angle(rise, run)
    return xp.atan2(rise, run)


def arctangent(xp: Namespace, slope: Array) -> Array:
    """atan(slope) [rad]."""
    if is_jax_namespace(xp) and slope.dtype == jnp.float32:
        return _slope_angle(slope, jnp.ones_like(slope))
    return xp.atan(slope)


def log1p(xp: Namespace, a: Array) -> Array:
    """log(1 + a) for a >= 0, to the last digits also where a is small.

    XLA computes a series and a logarithm and takes one of them. Half the work: the logarithm of the rounded u = 1 + a,
    and what the rounding took, (a - (u - 1)) / u. The maximum changes nothing, but without it XLA makes u - 1 an a.
    """
    if not is_jax_namespace(xp):
        return xp.log1p(a)
    u = xp.maximum(1.0 + a, xp.ones_like(a))
    return xp.log(u) + (a - (u - 1.0)) / u


@jax.custom_jvp
def _slope_angle(rise: Array, run: Array) -> Array:
    """The polynomial, about 0, π/4 or π/2, whichever is nearest: atan(a/b) = π/4 + atan((a - b) / (a + b))."""
    size = jnp.abs(rise)
    steep, middle = size * _TAN_EIGHTH > run, size > run * _TAN_EIGHTH
    above = jnp.where(steep, -run, jnp.where(middle, size - run, size))
    below = jnp.where(steep, size, jnp.where(middle, size + run, run))
    z = above / below
    square = z * z
    series = (((_CEPHES[0] * square + _CEPHES[1]) * square + _CEPHES[2]) * square + _CEPHES[3]) * square
    angle = jnp.where(steep, math.pi / 2, jnp.where(middle, math.pi / 4, 0.0)) + (z + z * series)
    return jnp.where(rise < 0, -angle, angle)


@_slope_angle.defjvp
def _slope_angle_slope(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (rise, run), (drise, drun) = primals, tangents
    return _slope_angle(rise, run), (run * drise - rise * drun) / (rise * rise + run * run)
