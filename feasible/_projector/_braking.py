"""The fallback inside the inference programs: `_brake`'s candidates, one after the other until one keeps the limits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from feasible._arrays import Array
from feasible._brake import KEPT, STEERED, STRENGTHS, UNWIND, Bounds, excess_within, jerk, steer, stop, unwinding
from feasible._projector._verdict import Motion, integrate, roll
from feasible.solvers._riccati_stage import Components, Stage

_COUNT = float(len(STRENGTHS))
_PLAIN = _COUNT * len(UNWIND)  # candidates; then those that are steered, and those without regard to jerk
_STEERED = _PLAIN + _COUNT * len(STEERED)


def brake(stage: Stage, first: list[Array], like: list[Array], steps: Array) -> Motion:
    """Braking from a first state; `like` holds a horizon, `steps` is T as a number."""
    zero = jnp.zeros_like(first[0])

    def unfinished(carry: Any) -> Array:
        index, best, _ = carry
        return jnp.any((index < _STEERED + _COUNT) & (best > 0.0))

    def attempt(carry: Any) -> Any:
        index, best, chosen = carry
        controls = _candidate(stage, first, like, index)
        over = _excess(stage, roll(stage, first, controls), steps)
        better = over < best
        chosen = [jnp.where(better, new, old) for new, old in zip(controls, chosen, strict=True)]
        return index + 1.0, jnp.where(better, over, best), chosen

    nothing = [jnp.zeros_like(like[0]) for _ in stage.vehicle.CONTROLS]
    *_, chosen = jax.lax.while_loop(unfinished, attempt, (zero, zero + jnp.inf, nothing))
    return roll(stage, first, chosen)


def _candidate(stage: Stage, first: list[Array], like: list[Array], index: Array) -> list[Array]:
    slow = jnp.floor((index + 0.5) / _COUNT)
    pair = index - slow * _COUNT
    strength, hard = (_pick([values[i] for values in STRENGTHS], pair) for i in (0, 1))
    time = _pick([*UNWIND, *STEERED, 0.0], slow)
    careful = index < _STEERED
    bounds = Bounds(*(jnp.where(careful, a, b) for a, b in zip(Bounds.of(stage.problem), Bounds(), strict=True)))
    profile = stop(jnp, first[3], first[4], strength, hard, stage.dt, bounds)
    needed = jnp.where(careful & (index >= _PLAIN), 1.0, 0.0)

    def step(carry: Any, _: Any) -> Any:
        k, x = carry
        onset, wanted = jerk(jnp, profile, k), unwinding(jnp, first[5], time, k, stage.dt)

        def margin(rate: Array) -> Array:
            return excess_within(jnp, stage.problem, Components(x), Components([onset, rate]))

        u = [onset, steer(jnp, jax.lax.while_loop, margin, wanted, needed)]
        return (k + 1.0, stage.vehicle.step(Components(x), Components(u), stage.dt).arrays), u

    return jax.lax.scan(step, (jnp.zeros_like(index), first), like[0])[1]


def _pick(values: list[float], place: Array) -> Array:
    """An entry of a table at a place that is known when the program runs."""
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
    return jnp.where(worst <= KEPT, 0.0, worst + total / steps)
