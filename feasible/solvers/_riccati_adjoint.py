"""The implicit derivative of a solved row: one more Riccati sweep, against a cotangent instead of the gradient.

At a solution w = (x, u) with costates λ and prices z, let M = ∇²L + Gᵀ W G, W = z / s, and C the Jacobian of the
dynamics and of the given part of the first state. For a cotangent v of w, the solution (a, b) of

    M a + Cᵀ b = v,   C a = 0

gives the cotangent of any parameter θ of the problem (implicit function theorem):

    θ̄ = -∂/∂θ  d/dε L(w + ε a, λ + ε b, z + ε W G a; θ)

M is the full Hessian of the Lagrangian, as in the solver's own iterations, so the sweep is the solver's. W comes from
the barrier parameter at which the row was solved: at 1e-10 m² an active row is as good as an equation, and at a larger
one the derivative is that of the smoothed problem.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from feasible._arrays import Array
from feasible.solvers import _riccati_algebra as la
from feasible.solvers._riccati_algebra import Vector
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel, entered, previous
from feasible.solvers._riccati_rows import condense, weigh


class Cotangent(NamedTuple):
    """Of states and controls, in typical units: `x0` S arrays `(B,)`, `x` S and `u` C arrays `(T, B)`."""

    x0: list[Array]
    x: list[Array]
    u: list[Array]


class Adjoint(NamedTuple):
    """What the solution (a, b) of the adjoint system means for the parts of a problem, in their units.

    Attributes:
        target: 4 arrays `(T, B)`. weight: likewise. effort: C arrays `(B,)`.
        first: S arrays `(B,)`, 0 where the first state is free.
        lower: per limit `(B,)`; 0 where there is no such bound. upper: likewise.
        finite: `(B,)` 1 where all of a and b is. A row at a degenerate solution has an infinite derivative somewhere.
        rest: what parameters of the vehicle need; None unless asked for.
    """

    target: list[Array]
    weight: list[Array]
    effort: list[Array]
    first: list[Array]
    lower: list[Array]
    upper: list[Array]
    finite: Array
    rest: Rest | None


class Rest(NamedTuple):
    """The solution itself; a list entry per component, in typical units.

    Attributes:
        x0: S arrays `(B,)`. x: S arrays `(T, B)`. u: C arrays `(T, B)`: a.
        costate: S arrays `(T, B)`: b of the dynamics. lam: S arrays `(T, B)`: λ of the dynamics at the solution.
        inner: per one-sided row of the steps `(T, B)`: W G a. entry: `(B,)`: of the entry.
    """

    x0: list[Array]
    x: list[Array]
    u: list[Array]
    costate: list[Array]
    lam: list[Array]
    inner: list[Array]
    entry: list[Array]


def adjoint(kernel: Kernel, it: Iterate, data: Data, mu: Array, against: Cotangent, *, whole: bool) -> Adjoint:
    """Of rows at their solution `it`; `whole` with what parameters of the vehicle need."""
    stage, S, typical = kernel.stage, kernel.stage.S, kernel.stage.typical

    def back(carry: Any, inputs: Any) -> Any:
        P_entries, p, lam = carry
        x, following, u, target, weight, barrier, vx, vu = inputs
        P = la.from_triangle(P_entries, S)
        scaled, pull = kernel.pull(following, target, weight)
        for i in range(4):
            P[i][i] = P[i][i] + scaled[i]
        p = [a - b for a, b in zip(p, vx, strict=True)]
        lam = [a + b for a, b in zip(lam, pull, strict=False)] + lam[4:]
        _, J, H, _, end, _, slope = kernel.assemble([*x, *u], lam, barrier, mu)
        H = la.madd(H, la.symmetric(J, la.matmul(la.madd(P, end), J)))
        h = la.apply(la.transpose(J), p)
        for i, r in enumerate(data.effort):
            H[S + i][S + i] = la.add(H[S + i][S + i], r)
            h[S + i] = la.add(h[S + i], -vu[i])
        K, k, _, P_new, p_new = kernel.eliminate(H, h)
        ahead = [P[i][j] for i in range(S) for j in range(i, S)]
        return (P_new, p_new, slope[:S]), (K, k, (ahead, p, lam) if whole else ())

    zero = jnp.zeros_like(it.x0[0])
    start = [zero] * (S * (S + 1) // 2), [zero] * S, [zero] * S
    inputs = previous(it), it.x, it.u, data.target, data.weight, it.inner, against.x, against.u
    (P_entries, p, _), (K, k, more) = la.scan(back, start, inputs, reverse=True)
    P = la.from_triangle(P_entries, S)
    if stage.entry.rows:
        M, _, _ = condense(stage.entry, kernel.entry_sides, entered(it), it.entry, mu)
        P = la.madd(P, [row[:S] for row in M[:S]])
    p = [a - b for a, b in zip(p, against.x0, strict=True)]
    dx0, _ = kernel.first(P, p, data)
    # What is left of the first state's equation is the multiplier of what is given: M a + b = v.
    first = [jnp.where(f > 0.0, 0.0, -v) for f, v in zip(data.free, la.plus(la.apply(P, dx0), p), strict=True)]

    def onward(carry: Any, inputs: Any) -> Any:
        dx, sums, effort, total = carry
        x, following, u, target, weight, barrier, K, k, more = inputs
        z = [*x, *u]
        du = la.plus(la.apply(K, dx), k)
        dz = [*dx, *du]
        at, J = stage.flows[1.0].first(z)
        after = la.apply(J, dz)
        moved: Vector = []
        for f, signals, sides, part in kernel.parts(barrier):
            inside, shifted = at, after
            if f != 1.0:
                inside, move = stage.flows[f].first(z)
                shifted = la.apply(move, dz)
            values, gradients = signals.first([*inside, *u])
            moved += _prices(values, la.apply(gradients, [*shifted, *du]), sides, part, mu)
        physical = [a * t for a, t in zip(after, typical, strict=False)]
        by_target = [w * a for w, a in zip(weight, physical, strict=False)]
        missed = zip(kernel.residual(following, target), physical, typical, strict=False)
        by_weight = [-(a * t) * r for r, a, t in missed]
        effort = [e - a * v * (t * t) for e, a, v, t in zip(effort, du, u, typical[S:], strict=True)]
        rest: Any = ()
        if whole:
            ahead, along, lam = more
            costate = la.plus(la.apply(la.from_triangle(ahead, S), after), along)
            rest = after, du, costate, lam, moved
            total = sum(costate, start=total)
        total = sum((*after, *du, *moved), start=total)
        return (after, la.plus(sums, moved), effort, total), (by_target, by_weight, rest)

    begin = dx0, [zero for _ in it.inner.z], [zero for _ in it.u], sum((*dx0, *first))
    ahead = previous(it), it.x, it.u, data.target, data.weight, it.inner, K, k, more
    (_, sums, effort, total), (by_target, by_weight, rest) = la.scan(onward, begin, ahead)
    entry: Vector = []
    if stage.entry.rows:
        values, gradients = stage.entry.first(entered(it))
        slopes = la.apply(gradients, [*dx0, *(zero for _ in it.u)])
        entry = _prices(values, slopes, kernel.entry_sides, it.entry, mu)
    finite = jnp.where(jnp.isfinite(sum(entry, start=total)), 1.0, 0.0)
    first = [a / t for a, t in zip(first, typical[:S], strict=True)]
    lower, upper = _of_bounds(kernel, sums, entry, zero)
    left = None
    if whole:
        x, u, costate, lam, inner = rest
        left = Rest(dx0, x, u, costate, lam, inner, entry)
    return Adjoint(by_target, by_weight, effort, first, lower, upper, finite, left)


def _of_bounds(kernel: Kernel, sums: Vector, entry: Vector, zero: Array) -> tuple[Vector, Vector]:
    """Cotangents of lower and upper bounds, per limit, from W G a of one-sided rows."""
    stage = kernel.stage
    lower, upper = ([zero] * len(stage.problem.limits) for _ in range(2))
    for rows, values in zip(kernel.one_sided(), (sums, entry), strict=True):
        for (r, sign), value in zip(rows, values, strict=True):
            bounds, i = upper if sign > 0 else lower, stage.problem.rows[r].limit
            bounds[i] = bounds[i] + value * (sign / stage.scale[r])
    return lower, upper


def _prices(values: Vector, slopes: Vector, sides: Any, barrier: Any, mu: Array) -> Vector:
    """W G a of one-sided rows."""
    found = []
    for (i, sign, bound), s, z, e, w in zip(sides, *barrier, strict=True):
        W, _ = weigh(sign * (values[i] - bound), s, z, e, w, mu)
        found.append(la.mul(W, sign * slopes[i]) if slopes[i] is not None else jnp.zeros_like(s))
    return found
