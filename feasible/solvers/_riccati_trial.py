"""Points of the interior point: a first one, and a move along a step, with what they are judged by.

Making or moving a point and judging it are one scan, so that no iterate is read twice. After a move, slacks are raised
to the room that the rows leave: that never makes a slack wrong, and a row that turned out to have room does not hold
the next step up. Slacks of rows that bend, such as the square of a jerk, come down to it too, if it is not much less:
such a row is satisfied, and what a step did not foresee of its room should not count as infeasible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from feasible._arrays import Array
from feasible.solvers import _riccati_algebra as la
from feasible.solvers._riccati_algebra import Vector
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel, entered
from feasible.solvers._riccati_rows import Barrier, Side, Totals, along, join, judge, logarithms

# A first barrier of some rows from their values, which are elastic, and what there is of a barrier already
Make = Callable[[Vector, Sequence[Side], Sequence[bool], Barrier], Barrier]


def distance(kernel: Kernel, it: Iterate, data: Data) -> Array:
    """The samples' share of the objective."""

    def step(total: Array, inputs: Any) -> Any:
        return total + _missed(kernel, *inputs), ()

    return la.scan(step, jnp.zeros_like(it.x0[0]), (it.x, data.target, data.weight))[0]


def charge(
    kernel: Kernel, data: Data, x: list[Array], u: list[Array], target: list[Array], weight: list[Array]
) -> Array:
    """A step's share of the objective: of the sample at its end, and of its controls."""
    cost = _missed(kernel, x, target, weight)
    return cost + sum(0.5 * r * v * v for r, v in zip(data.effort, u, strict=True))


def _missed(kernel: Kernel, x: list[Array], target: list[Array], weight: list[Array]) -> Array:
    """Half the weighted squared residual of a sample."""
    _, pull = kernel.pull(x, target, weight)
    return sum(0.5 * a * b for a, b in zip(pull, kernel.residual(x, target), strict=True))


def enter(kernel: Kernel, it: Iterate, data: Data, make: Make) -> tuple[Totals, Iterate]:
    """The totals of states and controls with a first barrier, and both together as an iterate."""
    zero = jnp.zeros_like(it.x0[0])
    return _judged(kernel, it, data, None, zero, zero, make, follow=False)


def move(
    kernel: Kernel, it: Iterate, step: Iterate, primal: Array, dual: Array, data: Data, *, follow: bool
) -> tuple[Totals, Iterate]:
    """The totals of the iterate after steps of the given lengths for motion and slacks, and for prices; and it.

    With `follow`, slacks of rows that bend come down to the room that is left.
    """
    return _judged(kernel, it, data, step, primal, dual, lambda values, sides, soft, barrier: barrier, follow=follow)


def _judged(
    kernel: Kernel,
    it: Iterate,
    data: Data,
    step: Iterate | None,
    primal: Array,
    dual: Array,
    make: Make,
    *,
    follow: bool,
) -> tuple[Totals, Iterate]:
    stage, soft = kernel.stage, kernel.soft()
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
        cost = charge(kernel, data, following, u, target, weight)
        total = total._replace(objective=total.objective + cost)
        for a, b in zip(at[1.0], following, strict=True):
            error = jnp.abs(a - b)
            total = total._replace(infeasibility=total.infeasibility + error, defect=jnp.maximum(total.defect, error))
        parts, arguments, flags = [], [], iter(soft)
        for f, signals, sides, part in kernel.parts(barrier):
            values = signals.value([*at[f], *u])
            part = make(values, sides, [next(flags) for _ in sides], part)
            part, found, positive = judge(values, [follow and b for b in signals.bent], sides, part, kernel.penalty)
            parts.append(part)
            arguments += positive
            total = total.plus(found)
        return (following, total._replace(logs=total.logs + logarithms(arguments))), (following, u, join(parts))

    total = Totals(zero, zero, zero, zero, zero, zero)
    x0, entry = it.x0, it.entry
    inputs: tuple[Any, ...] = (it.x, it.u, data.target, data.weight, it.inner)
    if step is not None:
        x0, entry = go(x0, step.x0), along(entry, step.entry, primal, dual)
        inputs = (*inputs, step.x, step.u, step.inner)
    (_, total), (x, u, inner) = la.scan(body, (x0, total), inputs)
    moved = Iterate(x0, x, u, inner, entry)
    if stage.entry.rows:
        values = stage.entry.value(entered(moved))
        entry = make(values, kernel.entry_sides, kernel.soft(entry=True), entry)
        entry, found, positive = judge(
            values, [follow and b for b in stage.entry.bent], kernel.entry_sides, entry, kernel.penalty
        )
        total = total.plus(found)._replace(logs=total.logs + logarithms(positive))
    return total, moved._replace(entry=entry)


def sides(kernel: Kernel, it: Iterate) -> tuple[int, int]:
    """Products of slack and price that `Totals.products` sums: in every step, and at the entry."""
    inner, entry = ([*b.s, *(e for e in b.e if e is not None)] for b in (it.inner, it.entry))
    return len(inner), len(entry)
