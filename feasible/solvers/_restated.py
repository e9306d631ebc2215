"""Limits restated on something simpler that grows with the signal: a length by its square, an angle by its tangent.

|v| ≤ b and |v|² ≤ b² say the same. But a length has a kink where it is 0, with a curvature of 1 / |v| beside it, and a
barrier -μ log(b - |v|) has both: it draws v to exactly 0 like a lasso, and Newton's method jumps from one side to
the other. Where a limit does not bind nobody would expect it to do anything. Under `nuplan_comfort`, whose jerk is a
length, a fifth of all iterations went into that, and with μ of 1e-8 m² or more most rows never arrived.

|atan(a)| ≤ b and |a| ≤ tan(b) say the same, too, and the latter is affine: without second derivatives, and without a
row in the middle of a step where a changes linearly.

Both are read off the traced signal, by its outermost operations. sqrt(a)² is a, |a|² is a², and products, quotients,
larger ones and choices of such values have the products, ... of their squares; all of these are never negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from feasible._arrays import Array
from feasible.solvers._traced import Step, Traced, value

Values = dict[int, Any]
_THROUGH = ("mul", "div", "max", "min")
_LARGEST = 1e18  # a number whose square is one in float32; larger ones are there to guard against overflow
_STEEPEST = 1.5  # rad: beyond, a tangent says little of its angle


class Restated(NamedTuple):
    """A limit l <= v <= u as ψ(l) / ψ'(u) <= ψ(v) / ψ'(u) <= ψ(u) / ψ'(u): of the same slope where it binds.

    Attributes:
        read: what is bounded, over the scalars that the signal reads. of: the same by the signal's value.
        lower: bound of it. upper: likewise.
    """

    read: Callable[[list[Array]], Array]
    of: Callable[[Array], Array]
    lower: float
    upper: float


def restated(
    signal: Callable[[list[Array]], Array], inputs: int, dtype: Any, lower: float, upper: float
) -> Restated | None:
    """A limit on a function of scalars, or None where there is nothing simpler.

    Args:
        signal: the function.
        inputs: how many scalars.
        dtype: of them.
        lower: bound, -inf where absent.
        upper: bound, inf where absent.
    """
    with jax.enable_x64(np.dtype(dtype).itemsize == 8):
        traced = Traced(lambda z: [signal(z)], [jax.ShapeDtypeStruct((), dtype)] * inputs)
    made = {v: step for step in traced.steps for v in step.out}
    square = _square(traced.results[0], made)
    if square is not None and lower <= 0.0 < upper < np.inf:
        half = 0.5 / float(upper)
        return Restated(lambda z: half * square(traced.values(z)), lambda v: half * v * v, -np.inf, 0.5 * upper)
    factor, slopes = _tangent(traced.results[0], made)
    bounds = {abs(b) for b in (lower, upper) if np.isfinite(b)}
    if slopes is None or len(bounds) != 1 or max(bounds) > _STEEPEST * abs(factor):
        return None
    unit = factor * math.cos(max(bounds) / factor) ** 2
    ends = (unit * math.tan(b / factor) if math.isfinite(b) else b for b in (lower, upper))
    return Restated(
        lambda z: unit * value(slopes, traced.values(z)), lambda v: unit * jnp.tan(v / factor), *map(float, ends)
    )


def _tangent(v: Any, made: Mapping[int, Step]) -> tuple[float, Any]:
    """C and a of c · atan(a); None in place of a where it is something else."""
    step, factor = made.get(v), 1.0
    while step is not None and step.name == "mul" and not all(isinstance(a, int) for a in step.values):
        (v,), (constant,) = step.inputs, (float(a) for a in step.values if not isinstance(a, int))
        step, factor = made.get(v), factor * constant
    return factor, step.values[0] if step is not None and step.name == "atan" and factor else None


def _guarded(step: Step, made: Mapping[int, Step]) -> int | None:
    """Q of `where(q > 0, sqrt(where(q > 0, q, ...)), 0)`, which is how a root is kept from its slope at 0; else None.

    Where q is below 0 the length is 0, and q is as far within the square of any bound.
    """
    if step.name != "select_n" or len(step.values) != 3 or isinstance(step.values[1], int) or step.values[1] != 0.0:
        return None
    told, root = made.get(step.values[0]), made.get(step.values[2])
    if told is None or told.name != "gt" or root is None or root.name != "sqrt":
        return None
    q, least = told.values
    if not isinstance(q, int) or isinstance(least, int) or least != 0.0:
        return None
    inner = made.get(root.values[0])
    same = inner is not None and inner.name == "select_n" and (inner.values[0], inner.values[-1]) == (step.values[0], q)
    return q if same or root.values[0] == q else None


def _square(v: Any, made: Mapping[int, Step]) -> Callable[[Values], Any] | None:
    """The square of a length; None where it is something else."""
    if not isinstance(v, int):
        return (lambda _: v * v) if np.ndim(v) == 0 and 0 <= v <= _LARGEST else None
    step = made.get(v)
    if step is None:
        return None
    given = step.values
    if step.name == "sqrt":
        return lambda env: value(given[0], env)
    if step.name == "abs":
        return lambda env: value(given[0], env) ** 2
    inside = _guarded(step, made)
    if inside is not None:
        return lambda env: env[inside]
    chosen = step.name == "select_n"
    if not chosen and step.name not in _THROUGH:
        return None
    parts = [_square(part, made) for part in given[chosen:]]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    first = given[:chosen]
    return lambda env: step.bind([*(value(a, env) for a in first), *(jnp.asarray(part(env)) for part in known)])[0]
