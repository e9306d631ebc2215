"""The fallback inside the inference programs: `_brake`'s candidates, one after the other until one keeps the limits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from feasible._arrays import Array
from feasible._brake import STRENGTHS, UNWIND, jerk, stop, unwinding
from feasible._projector._verdict import Motion, drive, integrate
from feasible.solvers._riccati_stage import Stage

_COUNT = float(len(STRENGTHS))


def brake(stage: Stage, first: list[Array], like: list[Array], steps: Array) -> Motion:
    """Braking from a first state; `like` holds a horizon, `steps` is T as a number."""
    zero = jnp.zeros_like(first[0])

    def unfinished(carry: Any) -> Array:
        index, best, _ = carry
        return jnp.any((index < _COUNT * len(UNWIND)) & (best > 0.0))

    def attempt(carry: Any) -> Any:
        index, best, chosen = carry
        over = _excess(stage, _candidate(stage, first, like, index), steps)
        better = over < best
        return index + 1.0, jnp.where(better, over, best), jnp.where(better, index, chosen)

    *_, chosen = jax.lax.while_loop(unfinished, attempt, (zero, zero + jnp.inf, zero))
    return _candidate(stage, first, like, chosen)


def _candidate(stage: Stage, first: list[Array], like: list[Array], index: Array) -> Motion:
    slow = jnp.floor((index + 0.5) / _COUNT)
    pair = index - slow * _COUNT
    strength, hard, time = (_pick(a, b) for a, b in ((0, pair), (1, pair), (None, slow)))
    profile = stop(jnp, first[3], first[4], strength, hard, stage.dt)

    def step(k: Array, _: Any) -> Any:
        return k + 1.0, [jerk(jnp, profile, k), unwinding(jnp, first[5], time, k, stage.dt)]

    return drive(stage, first, jax.lax.scan(step, jnp.zeros_like(index), like[0])[1])


def _pick(column: int | None, place: Array) -> Array:
    """An entry of the tables at a place that is known when the program runs."""
    values = UNWIND if column is None else [pair[column] for pair in STRENGTHS]
    value = jnp.zeros_like(place) + values[0]
    for i, v in enumerate(values[1:], 1):
        value = jnp.where(place == float(i), v, value)
    return value


def _excess(stage: Stage, motion: Motion, steps: Array) -> Array:
    """The largest excess, plus its mean over the steps; 0 where every limit is kept."""
    zero = jnp.zeros_like(motion.first[0])

    def step(carry: Any, inputs: Any) -> Any:
        x, worst, total = carry
        after, u = inputs
        over = zero
        for margin in integrate(stage, x, u)[1]:
            over = jnp.maximum(over, margin)
        return (after, jnp.maximum(worst, over), total + over), None

    (_, worst, total), _ = jax.lax.scan(step, (motion.first, zero, zero), (motion.states, motion.controls))
    return jnp.where(worst <= 1e-12, 0.0, worst + total / steps)
