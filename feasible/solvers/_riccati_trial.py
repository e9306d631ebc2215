"""Trial points of the interior point: a first one, and a move along a step, with what they are judged by.

Moving and judging are one scan, so that no iterate is read twice. After a move, slacks are raised to the room that
the rows leave: that never makes a slack wrong, and a row that turned out to have room does not hold the next step up.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from feasible._arrays import Array
from feasible.solvers import _riccati_algebra as la
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel, entered, previous
from feasible.solvers._riccati_rows import Barrier, Totals, along, begin, join, judge, known


def resume(kernel: Kernel, it: Iterate, mu: Array, least: Array) -> Iterate:
    """With the prices of `it`, which is nearly solved, and slacks beside them on the central path of μ or above.

    Prices below `least` are not believed; see `known`.
    """
    stage = kernel.stage

    def step(nothing: Any, inputs: Any) -> Any:
        x, u, barrier = inputs
        z, parts = [*x, *u], []
        for f, signals, sides, part in kernel.parts(barrier):
            parts.append(known(signals.value([*stage.flows[f].value(z), *u]), sides, part.z, mu, least))
        return nothing, join(parts)

    _, inner = la.scan(step, (), (previous(it), it.u, it.inner))
    entry = it.entry
    if stage.entry.rows:
        entry = known(stage.entry.value(entered(it)), kernel.entry_sides, entry.z, mu, least)
    return it._replace(inner=inner, entry=entry)


def distance(kernel: Kernel, it: Iterate, data: Data) -> Array:
    """The samples' share of the objective."""

    def step(total: Array, inputs: Any) -> Any:
        return total + _missed(kernel, *inputs), ()

    return la.scan(step, jnp.zeros_like(it.x0[0]), (it.x, data.target, data.weight))[0]


def _missed(kernel: Kernel, x: list[Array], target: list[Array], weight: list[Array]) -> Array:
    """Half the weighted squared residual of a sample."""
    _, pull = kernel.pull(x, target, weight)
    return sum(0.5 * a * b for a, b in zip(pull, kernel.residual(x, target), strict=True))


def start(kernel: Kernel, it: Iterate, mu: Array, room: Array) -> Iterate:
    """With slacks at the room that the rows leave, and prices on the central path of μ."""
    stage = kernel.stage
    flags = kernel.soft()

    def step(nothing: Any, inputs: Any) -> Any:
        x, u = inputs
        z, parts, first = [*x, *u], [], 0
        for f, signals in stage.signals.items():
            values = signals.value([*stage.flows[f].value(z), *u])
            sides = kernel.sides[f]
            parts.append(begin(values, sides, flags[first : first + len(sides)], mu, room, kernel.penalty))
            first += len(sides)
        return nothing, join(parts)

    _, inner = la.scan(step, (), (previous(it), it.u))
    entry = Barrier([], [], [], [])
    if stage.entry.rows:
        values = stage.entry.value(entered(it))
        entry = begin(values, kernel.entry_sides, kernel.soft(entry=True), mu, room, kernel.penalty)
    return it._replace(inner=inner, entry=entry)


def move(
    kernel: Kernel, it: Iterate, step: Iterate | None, primal: Array, dual: Array, data: Data
) -> tuple[Totals, Iterate]:
    """The iterate after steps of the given lengths for motion and slacks, and for prices; and its totals."""
    stage = kernel.stage
    zero = jnp.zeros_like(it.x0[0])

    def go(a: list[Array], b: list[Array]) -> list[Array]:
        return [p + primal * q for p, q in zip(a, b, strict=True)]

    def body(carry: Any, inputs: Any) -> Any:
        x, total = carry
        following, u, target, weight, barrier, *by = inputs
        if by:
            following, u, barrier = go(following, by[0]), go(u, by[1]), along(barrier, by[2], primal, dual)
        z = [*x, *u]
        at = {f: flow.value(z) for f, flow in stage.flows.items()}
        cost = _missed(kernel, following, target, weight)
        cost = cost + sum(0.5 * r * v * v for r, v in zip(data.effort, u, strict=True))
        total = total._replace(objective=total.objective + cost)
        for a, b in zip(at[1.0], following, strict=True):
            error = jnp.abs(a - b)
            total = total._replace(infeasibility=total.infeasibility + error, defect=jnp.maximum(total.defect, error))
        parts = []
        for f, signals, sides, part in kernel.parts(barrier):
            values = signals.value([*at[f], *u])
            raised, found = judge(values, sides, part, kernel.penalty)
            parts.append(raised)
            total = total.plus(found)
        return (following, total), (following, u, join(parts))

    total = Totals(zero, zero, zero, zero, zero, zero)
    x0, entry = it.x0, it.entry
    inputs: tuple[Any, ...] = (it.x, it.u, data.target, data.weight, it.inner)
    if step is not None:
        x0, entry = go(x0, step.x0), along(entry, step.entry, primal, dual)
        inputs = (*inputs, step.x, step.u, step.inner)
    (_, total), (x, u, inner) = la.scan(body, (x0, total), inputs)
    moved = Iterate(x0, x, u, inner, entry)
    if stage.entry.rows:
        entry, found = judge(stage.entry.value(entered(moved)), kernel.entry_sides, entry, kernel.penalty)
        total = total.plus(found)
    return total, moved._replace(entry=entry)


def sides(kernel: Kernel, it: Iterate) -> tuple[int, int]:
    """Products of slack and price that `Totals.products` sums: in every step, and at the entry."""
    inner, entry = ([*b.s, *(e for e in b.e if e is not None)] for b in (it.inner, it.entry))
    return len(inner), len(entry)
