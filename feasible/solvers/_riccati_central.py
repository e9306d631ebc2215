"""From a solution to the point of the central path beside it: Newton's method, with nothing around it.

The derivative of a projection depends on price over slack of every limit, also of one that is only just met, whose
slack and price are still on their way when the objective has long been as good as it gets. So before a derivative is
taken, a solution, whatever solver found it, is brought to where slack times price is μ in every row. From so near,
Newton's method needs no globalisation, only steps that stay inside; and it is left to converge, for a trial that looks
no better, a slack put right by its room, or a small fall of the objective say nothing of the weak limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from feasible._arrays import Array
from feasible._problem import SMOOTHING
from feasible.solvers import _riccati_algebra as la
from feasible.solvers._riccati_algebra import Vector
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel, entered
from feasible.solvers._riccati_rows import Barrier, Side, along, join
from feasible.solvers._riccati_trial import charge

_QUICK = 0.1  # a barrier parameter after a step as a share of that before
_MARGIN = 0.99  # share of the way to the boundary that a step may go
_STIFF = 1e4  # m²: by how much a price changes where a slack changes by its limit, at limits that are only just met


class Aim(NamedTuple):
    """What is iterated for; run-time values, so that another aim needs no other program.

    Attributes:
        iterations: bound on Newton steps.
        mu: barrier parameter [m²]. start: of the first step, if it is larger.
        change: of a slack or a price in a step, relative, and of rows that count: after a step below this a row is
            where it belongs, for Newton's method squares it.
        gain: predicted relative fall of the objective, likewise.
        defect: of the dynamics in typical units, before that step.
    """

    iterations: Any = 16
    mu: Any = SMOOTHING
    start: Any = 0.0
    change: Any = 3e-2
    gain: Any = 1e-10
    defect: Any = 5e-6


# A solve, by the bytes of its numbers: float32 leaves rows farther away, and fewer digits are asked of what follows.
AFTER = {8: Aim(), 4: Aim(iterations=32, start=3e-9, change=0.2)}


class Central(NamedTuple):
    """Where rows are, and, `(B,)`, whether they arrived there and after how many steps."""

    it: Iterate
    solved: Array
    count: Array


class _State(NamedTuple):
    it: Iterate
    mu: Array
    done: Array
    solved: Array
    count: Array


def central(kernel: Kernel, it: Iterate, data: Data, aim: Aim) -> Central:
    """The central path's point beside `it`, of which the slacks are ignored; every row is hard."""
    zero = jnp.zeros_like(it.x0[0])
    mu = zero + jnp.maximum(aim.start, aim.mu)
    objective, it = _entered(kernel, it, data, mu)

    def going(state: _State) -> Array:
        return (state.done == 0.0) & (state.count < aim.iterations)

    def turn(state: _State) -> _State:
        it, active = state.it, going(state)
        gains, dx0, _, pivot = kernel.backward(it, data, state.mu, zero)
        step, scores = kernel.forward(it, data, gains, dx0, state.mu, change=True)
        finite = jnp.isfinite(scores.fall)
        near = (scores.change <= aim.change) & (jnp.abs(scores.fall) <= aim.gain * (1e-5 + objective))
        there = (state.mu <= aim.mu) & near & (scores.defect <= aim.defect)
        arrived = active & (pivot > 0.0) & there
        # A row that is done takes a step of length 0: that leaves it as it is, and costs less than a choice.
        take = jnp.where(active & finite, 1.0, 0.0)
        primal, dual = (take * jnp.minimum(1.0, _MARGIN / jnp.maximum(-r, 1e-9)) for r in (scores.primal, scores.dual))
        return _State(
            _moved(it, step, primal, dual),
            jnp.maximum(_QUICK * state.mu, aim.mu),
            jnp.where(arrived | (active & ~finite), 1.0, state.done),
            jnp.where(arrived, 1.0, state.solved),
            state.count + jnp.where(active, 1.0, 0.0),
        )

    first = _State(it, mu, jnp.where(jnp.isfinite(objective), zero, 1.0), zero, zero)
    last = jax.lax.while_loop(lambda state: jnp.any(going(state)), turn, first)
    return Central(last.it, last.solved, last.count)


def _entered(kernel: Kernel, it: Iterate, data: Data, mu: Array) -> tuple[Array, Iterate]:
    """The objective, and the iterate with slacks and prices beside those prices that it has."""
    stage = kernel.stage

    def step(carry: Any, inputs: Any) -> Any:
        x, objective = carry
        following, u, target, weight, barrier = inputs
        z = [*x, *u]
        parts = []
        for f, signals, sides, part in kernel.parts(barrier):
            parts.append(beside(signals.value([*stage.flows[f].value(z), *u]), sides, part.z, mu))
        return (following, objective + charge(kernel, data, following, u, target, weight)), join(parts)

    inputs = it.x, it.u, data.target, data.weight, it.inner
    (_, objective), inner = la.scan(step, (it.x0, jnp.zeros_like(it.x0[0])), inputs)
    entry = it.entry
    if stage.entry.rows:
        entry = beside(stage.entry.value(entered(it)), kernel.entry_sides, entry.z, mu)
    return objective, it._replace(inner=inner, entry=entry)


def beside(values: Vector, sides: Sequence[Side], prices: Sequence[Array], mu: Array) -> Barrier:
    """Slack s and price z with s z = μ, where room r and price p say s - k z = r - k p; then s is raised to r.

    Where a limit clearly binds that keeps the price, and where it clearly does not, the room; in between neither is
    believed more than the other. A slack that is less than its room would have to grow again: a third of a step more.
    """
    slacks, raised = [], []
    for (i, sign, bound), p in zip(sides, prices, strict=True):
        room = sign * (bound - values[i])
        apart = room - _STIFF * p
        root = jnp.sqrt(apart * apart + (4.0 * _STIFF) * mu)
        larger = 0.5 * (jnp.abs(apart) + root)  # the other one is found without a difference of large numbers
        smaller = _STIFF * mu / larger
        slacks.append(jnp.maximum(jnp.where(apart > 0.0, larger, smaller), room))
        raised.append(jnp.where(apart > 0.0, smaller, larger) * (1.0 / _STIFF))
    return Barrier(slacks, raised, [None] * len(slacks), [None] * len(slacks))


def _moved(it: Iterate, step: Iterate, primal: Array, dual: Array) -> Iterate:
    def go(a: list[Array], b: list[Array]) -> list[Array]:
        return [p + primal * q for p, q in zip(a, b, strict=True)]

    def each(_: tuple[()], inputs: Any) -> Any:
        x, u, inner, dx, du, change = inputs
        return (), (go(x, dx), go(u, du), along(inner, change, primal, dual))

    # One scan, so that nothing is read twice.
    _, (x, u, inner) = la.scan(each, (), (it.x, it.u, it.inner, step.x, step.u, step.inner))
    return Iterate(go(it.x0, step.x0), x, u, inner, along(it.entry, step.entry, primal, dual))
