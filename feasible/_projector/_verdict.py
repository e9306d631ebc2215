"""The end of every inference program: repair a motion, and measure it without the solver.

Repair: controls are clipped to the limits that read a control alone, and rolled out from the first state, so that the
dynamics hold to rounding whatever was left of them. Then the model's derivative is integrated (classic Runge-Kutta
of fourth order) from every state over the step that follows, and every limit is measured on the way. That is the
check of `_check.certify` with ten ticks in a step; like it, it uses neither the solver's code nor the model's `step`,
takes the vertex of a parabola for a peak between ticks, and measures where the wheels pass straight ahead too, for
there the steering rate has a peak that ticks may miss.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from feasible._arrays import Array, wrap
from feasible._check import runge_kutta, straight
from feasible._ladder import PENALTY
from feasible._project import ACCEPTED
from feasible._rollout import is_control
from feasible.solvers._components import Components
from feasible.solvers._riccati_stage import Stage

TICKS = 10  # measurements in a step
BETWEEN = 8e-3  # normalised excess that they may find in an answer that holds; between them it may reach 1e-2
_BIG = 1e30  # stands for the excess of a motion that is not finite


class Motion(NamedTuple):
    """States and controls in SI units: S scalars, S and C horizons."""

    first: list[Array]
    states: list[Array]
    controls: list[Array]


class Verdict(NamedTuple):
    """See the fields of the same names in `Reply`."""

    usable: Array
    objective: Array
    merit: Array
    excess: Array
    residual: Array
    margins: list[Array]
    mean: Array
    most: Array
    turned: Array


def clip(stage: Stage, controls: Sequence[Array]) -> list[Array]:
    """Controls within the limits whose signal is the control itself."""
    clipped = list(controls)
    for i, name in enumerate(stage.vehicle.CONTROLS):
        for limit in stage.problem.limits:
            if limit.reads == {name} and is_control(limit, stage.vehicle, i):
                if limit.lower is not None:
                    clipped[i] = jnp.maximum(clipped[i], float(limit.lower))
                if limit.upper is not None:
                    clipped[i] = jnp.minimum(clipped[i], float(limit.upper))
    return clipped


def drive(stage: Stage, first: list[Array], controls: list[Array]) -> Motion:
    """Controls clipped and rolled out from a first state."""
    return roll(stage, first, clip(stage, controls))


def roll(stage: Stage, first: list[Array], controls: list[Array]) -> Motion:
    """Controls rolled out from a first state."""

    def step(x: list[Array], u: list[Array]) -> Any:
        after = stage.vehicle.step(Components(x), Components(u), stage.dt).arrays
        return after, after

    return Motion(first, jax.lax.scan(step, first, controls)[1], controls)


def imposed(stage: Stage, x: list[Array], u: list[Array], *, entry: Array) -> Array:
    """Largest normalised excess of a step, at the points where the solver imposes limits.

    Args:
        stage: whose limits.
        x: state at the start of the step.
        u: its control.
        entry: positive in the first step, where rows of the state alone are read at the start too.
    """
    worst = jnp.zeros_like(x[0])
    problem = stage.problem
    for fraction in sorted({row.fraction for row in problem.rows}):
        at = Components(x)
        if fraction != 0.0:
            at = stage.vehicle.step(Components(x), Components(u), fraction * stage.dt)
        motion = stage.vehicle.motion_of(at, Components(u))
        for row in problem.rows:
            if row.fraction == fraction:
                over = problem.limits[row.limit].margin(motion, stage.vehicle)
                worst = jnp.maximum(worst, jnp.where(entry > 0.0, over, 0.0) if row.first_step_only else over)
    return worst


def integrate(stage: Stage, x: list[Array], u: list[Array]) -> tuple[list[Array], list[Array]]:
    """The state at the end of a step, and the largest margin of every limit on the way."""
    vehicle, h = stage.vehicle, stage.dt / TICKS
    control = Components(u)

    def slope(y: Sequence[Array]) -> list[Array]:
        rates = vehicle.derivative(Components(y), control).arrays
        return [r + jnp.zeros_like(y[0]) for r in rates]

    def margins(y: list[Array]) -> list[Array]:
        motion = vehicle.motion_of(Components(y), control)
        return [m.margin(motion, vehicle) + jnp.zeros_like(y[0]) for m in stage.problem.limits]

    def tick(carry: Any) -> Any:
        k, x, worst, before, last = carry
        x = runge_kutta(slope, x, h)
        now = margins(x)
        peaks = [_peak(*three) for three in zip(before, last, now, strict=True)]
        worst = [functools.reduce(jnp.maximum, found) for found in zip(worst, now, peaks, strict=True)]
        return k + 1.0, x, worst, last, now

    first = margins(list(x))
    start = jnp.zeros_like(x[0]), list(x), first, first, first
    _, end, worst, _, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[0] < TICKS), tick, start)
    if "curvature" in vehicle.STATES:
        share = straight(jnp, *(state[vehicle.STATES.index("curvature")] for state in (x, end)))
        there = margins(runge_kutta(slope, x, share * stage.dt))
        worst = [jnp.maximum(a, b) for a, b in zip(worst, there, strict=True)]
    return end, worst


def _peak(a: Array, b: Array, c: Array) -> Array:
    """The vertex of the parabola through three values at equal distances if the one in the middle is the largest."""
    bend = 2.0 * b - a - c
    inside = (b > a) & (b > c)
    return jnp.where(inside, b + (c - a) * (c - a) / (8.0 * jnp.where(inside, bend, 1.0)), b)


def judge(stage: Stage, motion: Motion, target: list[Array], weight: list[Array], effort: list[Array]) -> Verdict:
    """What a motion is worth, in the frame of the target."""
    zero = jnp.zeros_like(motion.first[0])
    limits = len(stage.problem.limits)

    def step(carry: Any, inputs: Any) -> Any:
        x, entry, objective, over, excess, residual, margins, gaps, count, most, turned = carry
        after, u, goal, w = inputs
        end, worst = integrate(stage, x, u)
        margins = [jnp.maximum(a, b) for a, b in zip(margins, worst, strict=True)]
        for a, b in zip(end, after, strict=True):
            residual = jnp.maximum(residual, jnp.abs(a - b))
        here = imposed(stage, x, u, entry=entry)
        excess, over = jnp.maximum(excess, here), over + jnp.maximum(here - ACCEPTED, 0.0)
        error = [a - b for a, b in zip(after[:4], goal, strict=True)]
        error[2] = wrap(jnp, error[2])
        objective = objective + sum(0.5 * a * e * e for a, e in zip(w, error, strict=True))
        objective = objective + sum(0.5 * r * v * v for r, v in zip(effort, u, strict=True))
        seen = jnp.where(w[0] > 0.0, 1.0, 0.0)
        gap = seen * jnp.sqrt(error[0] * error[0] + error[1] * error[1])
        for i in (2, 3):
            turned = jnp.maximum(turned, jnp.where(w[i] > 0.0, jnp.abs(error[i]), 0.0))
        totals = objective, over, excess, residual, margins, gaps + gap, count + seen, jnp.maximum(most, gap), turned
        return (after, zero, *totals), None

    start = (motion.first, zero + 1.0, zero, zero, zero, zero, [zero - _BIG] * limits, zero, zero, zero, zero)
    inputs = motion.states, motion.controls, target, weight
    (_, _, objective, over, excess, residual, margins, gaps, count, most, turned), _ = jax.lax.scan(step, start, inputs)
    # Comparisons with NaN are false, so a maximum may lose one; sums do not.
    sound = jnp.isfinite(objective + residual + excess + sum(margins))
    return Verdict(
        jnp.where(sound, 1.0, 0.0),
        objective,
        jnp.where(sound, objective + PENALTY * over, _BIG),
        jnp.where(sound, excess, _BIG),
        jnp.where(sound, residual, _BIG),
        [jnp.where(sound, m, _BIG) for m in margins],
        gaps / jnp.maximum(count, 1.0),
        most,
        turned,
    )
