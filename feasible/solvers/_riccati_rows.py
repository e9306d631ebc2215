"""One-sided rows of the interior point: slacks and prices, eliminated before the recursion and recovered after it.

With a slack s > 0 and a price z > 0 for each one-sided row g(x, u) <= 0, Newton's method on g + s = 0 and s z = μ
leaves a stage Hessian Gᵀ W G and a gradient Gᵀ y, where

    W = z / s,   y = μ / s + W (g + s);   then   ds = -(g + s) - dg,   dz = y - z + W dg.

An elastic row is g <= e, e >= 0 at the price ρ e. Its multiplier is bounded by ρ; with w = ρ - z for e's own,

    W = 1 / (s / z + e / w),   y = z + W (g + μ / z - μ / w);   dz = y - z + W dg,
    ds = μ / z - s - (s / z) dz,   de = μ / w - e + (e / w) dz,   dw = -dz.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from feasible._arrays import Array
from feasible.solvers import _riccati_algebra as la
from feasible.solvers._riccati_algebra import Matrix, Vector
from feasible.solvers._riccati_stage import Signals

_FOLLOWS = 5.0  # times the room of its row that a slack may be to follow it down; less is left to the next steps
# m²: price over slack below which a row weighs less than the effort of the controls, and above which it is an equation
_FAINT, _FIRM = 1e-5, 1e8
_TOGETHER = 4  # slacks whose product one logarithm takes: 1e-7 to the fourth is still a normal float32
Side = tuple[int, float, Any]  # sign · value <= sign · bound: place of the value among its signals, sign, bound


class Barrier(NamedTuple):
    """Slack s and price z of one-sided rows; excess e and its price w, None where a row is hard."""

    s: list[Any]
    z: list[Any]
    e: list[Any]
    w: list[Any]


class Scores(NamedTuple):
    """Of a step, `(B,)`.

    Attributes:
        primal, dual: smallest relative change of slacks, and of prices, at most 0.
        fall: slope of the barrier objective.
        change: largest relative change of both, where it matters what they are: a limit may be too weak or too firm for
            that; None where nobody asks, as is the following. defect: largest of the dynamics before the step.
    """

    primal: Array
    dual: Array
    fall: Array
    change: Array | None
    defect: Array | None


class Totals(NamedTuple):
    """Of an iterate, each `(B,)`.

    Attributes:
        objective: with the price of excess. logs: Σ log of slacks. infeasibility: Σ |defect| + Σ |g + s|.
        defect: the largest. gap: the largest |g + s|. products: Σ slack times price.
    """

    objective: Array
    logs: Array
    infeasibility: Array
    defect: Array
    gap: Array
    products: Array

    def plus(self, more: Totals) -> Totals:
        """With the totals of further rows."""
        return Totals(
            self.objective + more.objective,
            self.logs + more.logs,
            self.infeasibility + more.infeasibility,
            jnp.maximum(self.defect, more.defect),
            jnp.maximum(self.gap, more.gap),
            self.products + more.products,
        )


def split(barrier: Barrier, sizes: Sequence[int]) -> list[Barrier]:
    """Groups of a barrier's entries, one after the other."""
    parts, first = [], 0
    for size in sizes:
        parts.append(Barrier(*(entries[first : first + size] for entries in barrier)))
        first += size
    return parts


def join(parts: Sequence[Barrier]) -> Barrier:
    """The inverse of `split`."""
    return Barrier(*([entry for part in parts for entry in getattr(part, name)] for name in Barrier._fields))


def begin(values: Vector, sides: Sequence[Side], soft: Sequence[bool], mu: Array, room: Array, penalty: Any) -> Barrier:
    """The first barrier of some rows: slacks at the room that they leave, at least `room`; prices at μ / slack."""
    fresh = Barrier([], [], [], [])
    for (i, sign, bound), elastic in zip(sides, soft, strict=True):
        g = sign * (values[i] - bound)
        entries: tuple[Any, ...]
        if elastic:
            e = jnp.maximum(g, 0.0) + room
            s = jnp.maximum(e - g, room)
            z = jnp.minimum(mu / s, 0.5 * penalty)
            entries = s, z, e, penalty - z
        else:
            s = jnp.maximum(-g, room)
            entries = s, mu / s, None, None
        for store, entry in zip(fresh, entries, strict=True):
            store.append(entry)
    return fresh


def known(values: Vector, sides: Sequence[Side], prices: Sequence[Array], mu: Array, least: Array) -> Barrier:
    """The barrier of hard rows whose prices are known: slacks at the room that is left, or at μ over the price.

    Of a row with a price below `least` it is the price that is not believed: its slack is no more than μ / least, or
    the room that it has.
    """
    slacks, raised = [], []
    for (i, sign, bound), z in zip(sides, prices, strict=True):
        s = jnp.maximum(sign * (bound - values[i]), mu / jnp.maximum(z, least))
        slacks.append(s)
        raised.append(jnp.maximum(z, mu / s))
    return Barrier(slacks, raised, [None] * len(slacks), [None] * len(slacks))


def along(a: Barrier, b: Barrier, primal: Array, dual: Array) -> Barrier:
    """After steps of the given lengths for slacks and excesses, and for prices."""
    lengths = Barrier(primal, dual, primal, dual)
    return Barrier(
        *(
            [None if p is None else p + n * q for p, q in zip(x, y, strict=True)]
            for n, x, y in zip(lengths, a, b, strict=True)
        )
    )


def weigh(g: Array, s: Array, z: Array, e: Any, w: Any, mu: Array) -> tuple[Array, Array]:
    """W and y - z of a row; the difference, because e / w magnifies what would be lost by forming it."""
    if e is None:
        inverse = 1.0 / s
        weight = z * inverse
        return weight, mu * inverse + weight * g
    weight = 1.0 / (s / z + e / w)
    return weight, weight * (g + mu / z - mu / w)


def condense(
    signals: Signals, sides: Sequence[Side], z: list[Array], barrier: Barrier, mu: Array
) -> tuple[Matrix, Vector, Vector]:
    """Gᵀ W G plus the rows' own curvature, Gᵀ y and Gᵀ z, over the state and control that the signals read."""
    values, gradients = signals.first(z)
    count = len(values)
    weight: Vector = [None] * count
    pull: Vector = [None] * count
    price: Vector = [None] * count
    for (i, sign, bound), s, p, e, w in zip(sides, *barrier, strict=True):
        W, rise = weigh(sign * (values[i] - bound), s, p, e, w, mu)
        weight[i], pull[i], price[i] = (
            la.add(weight[i], W),
            la.add(pull[i], sign * (p + rise)),
            la.add(price[i], sign * p),
        )
    columns = la.transpose(gradients)
    H = la.symmetric(gradients, [[la.mul(W, g) for g in row] for W, row in zip(weight, gradients, strict=True)])
    return la.madd(H, signals.second(z, price)), la.apply(columns, pull), la.apply(columns, price)


def recover(
    values: Vector, slopes: Vector, sides: Sequence[Side], barrier: Barrier, mu: Array, penalty: Any, scores: Scores
) -> tuple[Barrier, Scores]:
    """Steps of slacks and prices where the signals move by `slopes`, and the scores with them."""
    primal, dual, fall, change, defect = scores
    step = Barrier([], [], [], [])
    for (i, sign, bound), s, z, e, w in zip(sides, *barrier, strict=True):
        g, dg = sign * (values[i] - bound), sign * slopes[i]
        de = dw = None
        share = 1.0 / (s * z)  # one division for 1 / s and 1 / z
        if e is None:
            ds = -(g + dg + s)
            by_s = ds * (z * share)
            by_z = mu * share - 1.0 - by_s
            dz = z * by_z
        else:
            W, rise = weigh(g, s, z, e, w, mu)
            dz = rise + W * dg
            ds, de, dw = mu / z - s - (s / z) * dz, mu / w - e + (e / w) * dz, -dz
            by_s, by_z = ds * (z * share), dz * (s * share)
            primal, dual = jnp.minimum(primal, de / e), jnp.minimum(dual, dw / w)
            fall = fall + penalty * de - mu * de / e
        primal, dual = jnp.minimum(primal, by_s), jnp.minimum(dual, by_z)
        if change is not None:
            counts = jnp.minimum(1.0, z * z * (share * (1.0 / _FAINT))) * jnp.minimum(1.0, s * s * (share * _FIRM))
            change = jnp.maximum(change, counts * jnp.maximum(jnp.abs(by_s), jnp.abs(by_z)))
        fall = fall - mu * by_s
        for store, entry in zip(step, (ds, dz, de, dw), strict=True):
            store.append(entry)
    return step, Scores(primal, dual, fall, change, defect)


def judge(
    values: Vector, follow: Sequence[bool], sides: Sequence[Side], barrier: Barrier, penalty: Any
) -> tuple[Barrier, Totals, list[Array]]:
    """The barrier with slacks raised to the room that rows leave, what they add to the totals, and positive numbers.

    Slacks of rows that they `follow` come down to their room too, unless it is broken or much less. Of the numbers the
    totals want the logarithms, which `logarithms` takes of all rows of a step together.
    """
    zero = jnp.zeros_like(barrier.s[0])
    cost, gaps, worst, products = zero, zero, zero, zero
    slacks, positive = [], []
    for (i, sign, bound), s, z, e, w in zip(sides, *barrier, strict=True):
        room = bound - values[i] if sign > 0 else values[i] - bound
        if e is not None:
            room, cost = room + e, cost + penalty * e
            positive.append(e)
            products = products + e * w
        s = jnp.where(_FOLLOWS * room > s, room, s) if follow[i] else jnp.maximum(s, room)
        slacks.append(s)
        positive.append(s)
        gap = s - room
        gaps, worst, products = gaps + gap, jnp.maximum(worst, gap), products + s * z
    return barrier._replace(s=slacks), Totals(cost, zero, gaps, zero, worst, products), positive


def logarithms(positive: Sequence[Array]) -> Array:
    """The sum of the logarithms of positive numbers."""
    products = [math.prod(positive[i : i + _TOGETHER], start=1.0) for i in range(0, len(positive), _TOGETHER)]
    return sum(jnp.log(p) for p in products)
