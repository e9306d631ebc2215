"""The fallback inside the inference programs: `_brake`'s candidates, one after the other until one scores 0."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from feasible._arrays import Array
from feasible._brake import FAMILY, POINTS, Candidate, choose, pick, score, straightening
from feasible._projector._verdict import Motion, roll
from feasible._steering import Allowance, allowances, charge, excesses
from feasible._stop import Bounds, Stop, jerk, stop
from feasible.solvers._components import Components
from feasible.solvers._riccati_stage import Stage


def brake(stage: Stage, first: list[Array], like: list[Array], steps: Array) -> Motion:
    """Braking from a first state; `like` holds a horizon, `steps` is T as a number."""
    zero = jnp.zeros_like(first[0])
    allowed = allowances(jnp, jax.lax.while_loop, stage.problem, Components(first), _stacked)

    def unfinished(carry: Any) -> Array:
        index, best, _ = carry
        return jnp.any((index < float(len(FAMILY))) & (best > 0.0))

    def attempt(carry: Any) -> Any:
        index, best, chosen = carry
        candidate = Candidate(*(pick(jnp, [c[i] for c in FAMILY], index) for i in range(len(Candidate._fields))))
        controls = _controls(stage, first, allowed.first(jnp), like, candidate)
        value = _score(stage, roll(stage, first, controls), allowed, steps)
        better = value < best
        chosen = [jnp.where(better, new, old) for new, old in zip(controls, chosen, strict=True)]
        return index + 1.0, jnp.where(better, value, best), chosen

    nothing = [jnp.zeros_like(like[0]) for _ in stage.vehicle.CONTROLS]
    *_, chosen = jax.lax.while_loop(unfinished, attempt, (zero, zero + jnp.inf, nothing))
    return roll(stage, first, chosen)


def _controls(
    stage: Stage, first: list[Array], allowed: list[Array], like: list[Array], candidate: Candidate
) -> list[Array]:
    """Controls of a candidate from a first state, with the excess of each limit that it may have there."""
    careful, steered = candidate.careful > 0.0, candidate.steered
    bounds = Bounds(*(jnp.where(careful, a, b) for a, b in zip(Bounds.of(stage.problem), Bounds(), strict=True)))

    def profile(x: list[Array]) -> Stop:
        return stop(jnp, x[3], x[4], candidate.deceleration, candidate.jerk, stage.dt, bounds)

    zero, planned = jnp.zeros_like(first[0]), profile(first)

    def step(carry: Any, _: Any) -> Any:
        k, x, least = carry
        onset = jnp.where(steered > 0.0, jerk(jnp, profile(x), zero), jerk(jnp, planned, k))

        def charged(jerk: Array, rate: Array) -> Array:
            return charge(jnp, stage.problem, Components(x), _stacked(jerk, rate), least)

        wanted = straightening(jnp, x[5], candidate.time, stage.dt)
        u = list(choose(jnp, jax.lax.while_loop, charged, onset, wanted, steered))
        x = stage.vehicle.step(Components(x), Components(u), stage.dt).arrays
        after = excesses(stage.problem, Components(x), Components(u))
        return (k + 1.0, x, [jnp.minimum(a, b) for a, b in zip(least, after, strict=True)]), u

    return jax.lax.scan(step, (zero, first, allowed), like[0])[1]


def _stacked(jerk: Array, rate: Array) -> Components:
    return Components([jerk, rate])


def _score(stage: Stage, motion: Motion, allowed: Allowance, steps: Array) -> Array:
    """As `_brake.score` says, of a motion of `steps` steps."""
    problem, zero = stage.problem, jnp.zeros_like(motion.first[0])

    def step(carry: Any, inputs: Any) -> Any:
        x, *found = carry
        after, u = inputs

        def tick(carry: Any) -> Any:
            k, least, rises, most, _, total = carry
            at = stage.vehicle.step(Components(x), Components(u), k * (stage.dt / (POINTS - 1)))
            excess = excesses(problem, at, Components(u))
            rises = [jnp.maximum(r, e - m) for r, e, m in zip(rises, excess, least, strict=True)]
            least = [jnp.minimum(m, e) for m, e in zip(least, excess, strict=True)]
            most = functools.reduce(jnp.maximum, excess, most)
            return k + 1.0, least, rises, most, sum(excess), total + sum(excess)

        _, *found = jax.lax.while_loop(lambda c: jnp.any(c[0] < float(POINTS)), tick, (zero, *found))
        return (after, *found), None

    start = motion.first, allowed.given, [zero for _ in allowed.given], zero, zero, zero
    (_, _, rises, most, left, total), _ = jax.lax.scan(step, start, (motion.states, motion.controls))
    return score(jnp, allowed, rises, most, left, total / (POINTS * steps))
