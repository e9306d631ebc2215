"""One interior-point iteration on the stage-structured problem: Newton's system by a backward and a forward scan.

With slacks and prices of the one-sided rows g <= 0 eliminated (`_riccati_rows`), Newton's method on the optimality
conditions of the barrier problem leaves, for (dx, du), a linear-quadratic problem. Its stage Hessian is that of the
Lagrangian plus Gᵀ W G, its gradient that of the objective plus Gᵀ y. The multipliers of the dynamics, which the
Lagrangian needs, come from the adjoint recursion at the iterate; they are carried along, and give its slope too.

The backward recursion is Riccati's. With V(dx) = 1/2 dxᵀ P dx + pᵀ dx the cost to go and c = f(x, u) - x_next,

    H = [A B]ᵀ P [A B] + stage,  h = [A B]ᵀ (p + P c) + stage;   K = -Huu⁻¹ Hux,  k = -Huu⁻¹ hu;
    P ← Hxx + Hxu K,  p ← hx + Hxu k.

The problem restricted to the linearised dynamics is convex exactly if every Huu is positive definite.

Everything is elementwise on arrays `(B,)` inside scans over `(T, B)`; the batch axes B may be absent too, which is
how the same code is compiled for the lanes of a vector register.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from feasible._arrays import Array, wrap
from feasible.solvers import _riccati_algebra as la
from feasible.solvers._riccati_algebra import Matrix, Vector
from feasible.solvers._riccati_rows import Barrier, Scores, Side, condense, join, recover, split
from feasible.solvers._riccati_stage import Signals, Stage

_FLOOR = 1e-9  # smallest pivot of Huu, in units of m² per typical control squared; the effort alone gives about 1e-5


class Data(NamedTuple):
    """What a row is about, batch last.

    Attributes:
        target: 4 arrays `(T, B)`: x, y, yaw, speed. weight: of their squared errors.
        free: S arrays `(B,)`, positive where the first state is not given.
        effort: C arrays `(B,)`, weights of the squared controls in typical units.
        steps: `(B,)` T, as a number.
    """

    target: list[Array]
    weight: list[Array]
    free: list[Array]
    effort: list[Array]
    steps: Array


class Iterate(NamedTuple):
    """First state, S arrays `(B,)`; states x_1..x_T and controls `(T, B)`; barrier of the steps and of the entry."""

    x0: list[Array]
    x: list[Array]
    u: list[Array]
    inner: Barrier
    entry: Barrier


class Gains(NamedTuple):
    """The control law du = K dx + k of every step, the defects c, and what varies of the dynamics' Jacobian."""

    K: Matrix
    k: Vector
    c: Vector
    J: Vector


class Assembled(NamedTuple):
    """What a step adds to the recursion.

    Attributes:
        at: where it ends. J: its Jacobian.
        H: Hessian and h: gradient of the barrier problem by the state and control at its start.
        end, pull: Hessian and gradient by the state at its end, which go through J together with the cost to go.
        slope: gradient of the Lagrangian.
    """

    at: Vector
    J: Matrix
    H: Matrix
    h: Vector
    end: Matrix
    pull: Vector
    slope: Vector


def previous(it: Iterate) -> list[Array]:
    """States at the start of every step, S arrays `(T, B)`."""
    return [jnp.concatenate([a[None], jax.lax.slice_in_dim(b, 0, -1)]) for a, b in zip(it.x0, it.x, strict=True)]


def entered(it: Iterate) -> list[Array]:
    """The first state, with the control that the signals expect beside it."""
    return [*it.x0, *(jax.lax.index_in_dim(a, 0, keepdims=False) for a in it.u)]


class Kernel:
    """Scans over the steps for one problem structure.

    Args:
        stage: derivatives of a step.
        penalty: ρ of rows that read states, or None where every row is hard.
    """

    def __init__(self, stage: Stage, penalty: float | None):
        self.stage, self.penalty = stage, penalty
        # Regularisation is on physical units: in typical ones it would hold curvature, which is small, too firmly.
        self.metric = [t * t for t in stage.typical]
        self.sides = {f: stage.sides(signals.rows) for f, signals in stage.signals.items()}
        self.entry_sides = stage.sides(stage.entry.rows)
        groups = [(self.stage.signals[f], sides) for f, sides in self.sides.items()]
        self._of_steps = [(signals.rows[i], sign) for signals, sides in groups for i, sign, _ in sides]
        self._of_entry = [(stage.entry.rows[i], sign) for i, sign, _ in self.entry_sides]

    def soft(self, *, entry: bool = False) -> list[bool]:
        """Which one-sided rows are elastic, in their order in a `Barrier`."""
        groups = [(self.stage.signals[f], sides) for f, sides in self.sides.items()]
        groups = [(self.stage.entry, self.entry_sides)] if entry else groups
        return [self.penalty is not None and self.stage.soft(g.rows[i]) for g, sides in groups for i, _, _ in sides]

    def one_sided(self) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """Row of the problem and sign of each one-sided row, of the steps and of the entry, as in a `Barrier`."""
        return self._of_steps, self._of_entry

    def tightened(self, by: Sequence[Array]) -> Kernel:
        """With tighter bounds of the steps' rows, per limit, in its units."""
        tighter, rows = copy.copy(self), self.stage.problem.rows
        tighter.sides = {
            f: [(i, sign, bound - sign * by[rows[self.stage.signals[f].rows[i]].limit]) for i, sign, bound in sides]
            for f, sides in self.sides.items()
        }
        return tighter

    def parts(self, barrier: Barrier) -> Iterator[tuple[float, Signals, list[Side], Barrier]]:
        """The rows of a step and their barrier, by fraction."""
        parts = split(barrier, [len(sides) for sides in self.sides.values()])
        for (fraction, signals), part in zip(self.stage.signals.items(), parts, strict=True):
            yield fraction, signals, self.sides[fraction], part

    def residual(self, x: list[Array], target: list[Array]) -> list[Array]:
        """State minus target in x, y, yaw (wrapped), speed, in typical units."""
        typical = self.stage.typical
        error = [x[i] - target[i] * (1.0 / typical[i]) for i in range(4)]
        error[2] = wrap(jnp, error[2] * typical[2]) * (1.0 / typical[2])
        return error

    def pull(self, x: list[Array], target: list[Array], weight: list[Array]) -> tuple[list[Array], list[Array]]:
        """Weights in typical units, and weight times residual, of a sample."""
        scaled = [w * (t * t) for w, t in zip(weight, self.stage.typical, strict=False)]
        return scaled, [w * r for w, r in zip(scaled, self.residual(x, target), strict=True)]

    def assemble(self, z: list[Array], lam: Vector, barrier: Barrier, mu: Array) -> Assembled:
        """What a step adds to the recursion, but for the costs of its end, its controls and regularisation.

        Args:
            z: state and control at the start of the step.
            lam: costate of its end, with that sample's pull.
            barrier: of its rows.
            mu: barrier parameter.
        """
        stage, S = self.stage, self.stage.S
        size = S + stage.C
        unit: Matrix = [[1.0 if i == j else None for j in range(size)] for i in range(size)]
        at, J = stage.flows[1.0].first(z)
        costate: Vector = list(lam)
        H: Matrix = [[None] * size for _ in range(size)]
        h: Vector = [None] * size
        slope: Vector = [None] * size
        end: Matrix = [[None] * S for _ in range(S)]
        pull: Vector = [None] * S
        for f, signals, sides, part in self.parts(barrier):
            inside, move = (at, J) if f == 1.0 else stage.flows[f].first(z)
            M, y, price = condense(signals, sides, [*inside, *z[S:]], part, mu)
            if f == 1.0:
                end, pull = [row[:S] for row in M[:S]], y[:S]
                M = [[m if i >= S or j >= S else None for j, m in enumerate(row)] for i, row in enumerate(M)]
                y = [*[None] * S, *y[S:]]
                costate = la.plus(costate, price[:S])
                price = [*[None] * S, *price[S:]]
            chain = [*move, *unit[S:]]
            H = la.congruence(H, M, chain)
            h = la.plus(h, la.apply(la.transpose(chain), y))
            slope = la.plus(slope, la.apply(la.transpose(chain), price))
            if f != 1.0 and (bend := stage.flows[f].second(z, price[:S])) is not None:
                H = la.madd(H, bend)
        if (bend := stage.flows[1.0].second(z, costate)) is not None:
            H = la.madd(H, bend)
        slope = la.plus(slope, la.apply(la.transpose(J), costate))
        return Assembled(at, J, H, h, end, pull, slope)

    def eliminate(self, H: Matrix, h: Vector) -> tuple[Matrix, Vector, Array, Vector, Vector]:
        """K, k, smallest pivot of Huu, and the triangle of P and p of the state at the start of the step."""
        S = self.stage.S

        low, inverse, pivot = la.factor([row[S:] for row in H[S:]], _FLOOR)
        K = la.transpose([[-v for v in la.solve(low, inverse, H[i][S:])] for i in range(S)])
        k = [-v for v in la.solve(low, inverse, h[S:])]
        P = [la.add(H[i][j], la.dot(H[i][S:], [row[j] for row in K])) for i in range(S) for j in range(i, S)]
        return K, k, pivot, P, [la.add(h[i], la.dot(H[i][S:], k)) for i in range(S)]

    def backward(self, it: Iterate, data: Data, mu: Array, delta: Array) -> tuple[Gains, Vector, Array, Array]:
        """Gains of every step, the step of the first state, largest slope of the Lagrangian, smallest pivot of Huu."""
        stage, S = self.stage, self.stage.S

        def step(carry: Any, inputs: Any) -> Any:
            P_entries, p, lam, steepest, smallest = carry
            x, following, u, target, weight, barrier = inputs
            P = la.from_triangle(P_entries, S)
            scaled, pull = self.pull(following, target, weight)
            for i in range(4):
                P[i][i] = P[i][i] + scaled[i]
            p = [a + b for a, b in zip(p, pull, strict=False)] + p[4:]
            lam = [a + b for a, b in zip(lam, pull, strict=False)] + lam[4:]
            at, J, H, h, end, push, slope = self.assemble([*x, *u], lam, barrier, mu)
            c = [a - b for a, b in zip(at, following, strict=True)]
            pc = la.plus(la.plus(p, la.apply(P, c)), push)
            H = la.madd(H, la.symmetric(J, la.matmul(la.madd(P, end), J)))
            h = la.plus(h, la.apply(la.transpose(J), pc))
            for i, r in enumerate(data.effort):
                H[S + i][S + i] = la.add(H[S + i][S + i], r)
                h[S + i] = la.add(h[S + i], r * u[i])
                slope[S + i] = la.add(slope[S + i], r * u[i])
            for i, m in enumerate(self.metric):
                H[i][i] = la.add(H[i][i], delta * m)
            K, k, pivot, P_new, p_new = self.eliminate(H, h)
            for v in slope[S:]:
                steepest = jnp.maximum(steepest, jnp.abs(v))
            return (P_new, p_new, slope[:S], steepest, jnp.minimum(smallest, pivot)), Gains(
                K, k, c, stage.flows[1.0].varying(J)
            )

        zero = jnp.zeros_like(it.x0[0])
        start = [zero] * (S * (S + 1) // 2), [zero] * S, [zero] * S, zero, zero + jnp.inf
        inputs = previous(it), it.x, it.u, data.target, data.weight, it.inner
        (P_entries, p, lam, steepest, smallest), gains = la.scan(step, start, inputs, reverse=True)

        P = la.from_triangle(P_entries, S)
        if stage.entry.rows:
            M, y, price = condense(stage.entry, self.entry_sides, entered(it), it.entry, mu)
            P = la.madd(P, [row[:S] for row in M[:S]])
            p, lam = la.plus(p, y[:S]), la.plus(lam, price[:S])
        for i in range(S):
            P[i][i] = P[i][i] + delta * self.metric[i]
        for f, v in zip(data.free, lam, strict=True):
            steepest = jnp.maximum(steepest, jnp.where(f > 0.0, jnp.abs(v), 0.0))
        dx0, pivot = self.first(P, p, data)
        return gains, dx0, steepest, jnp.minimum(smallest, pivot)

    def first(self, P: Matrix, p: Vector, data: Data) -> tuple[Vector, Array]:
        """The first state's step, and the smallest pivot of P; a component that is given does not move."""
        free = [f > 0.0 for f in data.free]
        S = len(free)
        held = [[jnp.where(free[i] & free[j], P[i][j], float(i == j)) for j in range(S)] for i in range(S)]
        low, inverse, pivot = la.factor(held, _FLOOR)
        return [-v for v in la.solve(low, inverse, [jnp.where(f, v, 0.0) for f, v in zip(free, p, strict=True)])], pivot

    def forward(
        self, it: Iterate, data: Data, gains: Gains, dx0: Vector, mu: Array, *, change: bool = False
    ) -> tuple[Iterate, Scores]:
        """The step as an iterate's difference, and its scores; all of them if `change` is asked for."""
        stage = self.stage
        zero = jnp.zeros_like(it.x0[0])

        def step(carry: Any, inputs: Any) -> Any:
            dx, scores = carry
            x, following, u, target, weight, barrier, law = inputs
            z = [*x, *u]
            du = la.plus(la.apply(law.K, dx), law.k)
            dz = [*dx, *du]
            # what the backward pass found is read again, not computed again
            at, ahead = la.plus(following, law.c), la.apply(stage.flows[1.0].whole(law.J), dz)
            steps = []
            for f, signals, sides, part in self.parts(barrier):
                inside, shifted = (at, ahead) if f == 1.0 else stage.flows[f].along(z, dz)
                values, slopes = signals.along([*inside, *u], [*shifted, *du])
                moved, scores = recover(values, slopes, sides, part, mu, self.penalty, scores)
                steps.append(moved)
            ahead = la.plus(ahead, law.c)
            if scores.defect is not None:
                scores = scores._replace(defect=functools.reduce(jnp.maximum, map(jnp.abs, law.c), scores.defect))
            fall = scores.fall
            for r, v, d in zip(data.effort, u, du, strict=True):
                fall = fall + r * v * d
            for v, d in zip(self.pull(following, target, weight)[1], ahead, strict=False):
                fall = fall + v * d
            return (ahead, scores._replace(fall=fall)), (ahead, du, join(steps))

        more = zero if change else None
        scores = Scores(zero, zero, zero, more, more)
        entry = Barrier([], [], [], [])
        if stage.entry.rows:
            values, slopes = stage.entry.along(entered(it), [*dx0, *(zero for _ in it.u)])
            entry, scores = recover(values, slopes, self.entry_sides, it.entry, mu, self.penalty, scores)
        inputs = previous(it), it.x, it.u, data.target, data.weight, it.inner, gains
        (_, scores), (dx, du, inner) = la.scan(step, (dx0, scores), inputs)
        return Iterate(dx0, dx, du, inner, entry), scores
