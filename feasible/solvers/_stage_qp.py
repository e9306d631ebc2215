"""One quadratic subproblem of the projection, in sparse form, its pattern found once per problem.

Variables z = (dx_0, du_0, dx_1, ..., dx_T [, e]); with `elastic`, e >= 0 are slacks of the rows that read states.

    minimise   1/2 zᵀ P z + qᵀ z  [+ penalty · 1ᵀ e]
    subject to dx_0 = x̂_0 - x_0 where the initial state is given
               A_k dx_k + B_k du_k - dx_{k+1} = -defect_k
               lower - value <= G (dx_k, du_k) <= upper - value
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse as sp

from feasible._problem import Linearisation, Problem, linearise

_BINDING = 1e-5  # of the largest price: rows below do not bind
_DEPENDENT = 1e-3  # of the largest singular value: combinations of rows below say nothing
_STIFF = 10.0  # how much stiffer than the Hessian a row that binds is held


@dataclasses.dataclass(frozen=True)
class QP:
    """minimise 1/2 zᵀPz + qᵀz subject to l <= Az <= u; P is the upper triangle.

    P and A have the same pattern at every linearisation of a row, but for `condensed`, whose P is dense.
    """

    P: sp.csc_matrix
    q: np.ndarray
    A: sp.csc_matrix
    l: np.ndarray
    u: np.ndarray
    condensed: bool
    at: tuple[np.ndarray, np.ndarray]
    stage: StageQP

    def motion(self, z: Any) -> tuple[Any, Any]:
        """States `(T + 1, S)` and controls `(T, C)` after the step z, an expression that slices and reshapes."""
        states, controls = self.at
        stage = self.stage
        inner = z[: stage.T * stage.stride].reshape((stage.T, stage.stride), order="C")
        last = z[stage.T * stage.stride : stage.motion_size]
        return (states[:-1] + inner[:, : stage.S], states[-1] + last), controls + inner[:, stage.S :]


class StageQP:
    """Builds the subproblems of one row: structure once, values at every linearisation.

    Args:
        problem: of one row.
        elastic: penalty [m²] on the normalised excess of rows that read states, or None for hard rows.
    """

    def __init__(self, problem: Problem, elastic: float | None = None):
        self.problem, self.elastic = problem, elastic
        vehicle, steps = problem.vehicle, problem.target.shape[-2]
        self.S, self.C, self.T, self.R = len(vehicle.STATES), len(vehicle.CONTROLS), steps, len(problem.rows)
        self.stride = self.S + self.C
        self.motion_size = steps * self.stride + self.S
        self.lower, self.upper, scale = problem.bounds()
        self.lower, self.upper = self.lower / scale, self.upper / scale
        self.row_mask = problem.row_mask().T  # (T, R)
        self._pattern()

    def _pattern(self) -> None:
        S, C, T = self.S, self.C, self.T
        # A random, moving trajectory has every derivative that can be non-zero.
        noise = np.random.default_rng(0)
        typical = np.asarray(self.problem.vehicle.TYPICAL)
        states = typical[:S] * noise.normal(size=(T + 1, S)) + 3 * typical[:S]
        lin = linearise(self.problem, states, typical[S:] * noise.normal(size=(T, C)))
        self._a, self._b, self._g = (np.nonzero((abs(m) > 1e-9).any(0)) for m in (lin.A, lin.B, lin.G))

        step = np.arange(T)[:, None]
        first = S + step * S  # index of the first dynamics row of a step
        number = np.full((T, self.R), -1)
        number[self.row_mask] = S + S * T + np.arange(self.row_mask.sum())
        self.height = S + S * T + int(self.row_mask.sum())
        self._g_kept = self.row_mask[:, self._g[0]]
        rows = [np.arange(S), (first + self._a[0]).ravel(), (first + self._b[0]).ravel(), np.arange(S, S + S * T)]
        cols = [
            np.arange(S),
            (step * self.stride + self._a[1]).ravel(),
            (step * self.stride + S + self._b[1]).ravel(),
            ((step + 1) * self.stride + np.arange(S)).ravel(),
        ]
        rows.append(number[:, self._g[0]][self._g_kept])
        cols.append((step * self.stride + self._g[1])[self._g_kept])
        self._fixed = [np.ones(S), -np.ones(S * T)]
        self._slack = np.zeros(0)
        width = self.motion_size
        if self.elastic is not None:
            # Two slacks per row: lower <= G dz - above + below <= upper, both >= 0.
            controls = frozenset(self.problem.vehicle.CONTROLS)
            soft = np.array([not self.problem.limits[r.limit].reads <= controls for r in self.problem.rows])
            self._soft = number[self.row_mask & soft]
            count = len(self._soft)
            rows += [self._soft, self._soft, self.height + np.arange(2 * count)]
            cols += [width + np.arange(count), width + count + np.arange(count), width + np.arange(2 * count)]
            self._slack = np.concatenate([-np.ones(count), np.ones(count), np.ones(2 * count)])
            width += 2 * count
            self.height += 2 * count
        self.width = width
        all_rows, all_cols = np.concatenate(rows), np.concatenate(cols)
        matrix = sp.csc_matrix((np.arange(1.0, len(all_rows) + 1), (all_rows, all_cols)), shape=(self.height, width))
        self._order = matrix.data.astype(int) - 1
        self._matrix = matrix

    def constraints(self, lin: Linearisation, states: np.ndarray) -> tuple[sp.csc_matrix, np.ndarray, np.ndarray]:
        """A, l, u at a linearisation."""
        data = np.concatenate(
            [
                self._fixed[0],
                lin.A[:, self._a[0], self._a[1]].ravel(),
                lin.B[:, self._b[0], self._b[1]].ravel(),
                self._fixed[1],
                lin.G[:, self._g[0], self._g[1]][self._g_kept],
                self._slack,
            ]
        )[self._order]
        A = sp.csc_matrix((data, self._matrix.indices, self._matrix.indptr), shape=self._matrix.shape)
        start = self.problem.initial_state
        known = np.isfinite(start)
        gap = np.where(known, start - states[0], 0.0)
        free, slack = np.where(known, 0.0, np.inf), np.zeros(self.height - self._tail)
        lower = [gap - free, -lin.defect.ravel(), (self.lower - lin.value)[self.row_mask], slack]
        upper = [gap + free, -lin.defect.ravel(), (self.upper - lin.value)[self.row_mask], slack + np.inf]
        return A, np.concatenate(lower), np.concatenate(upper)

    @property
    def _tail(self) -> int:
        return self.S + self.S * self.T + int(self.row_mask.sum())

    def blocks(self) -> np.ndarray:
        """`(T, S + C, S + C)`: second derivatives of the objective over each step's start state and control."""
        weight = np.zeros((self.T, self.stride))
        weight[1:, :4] = self.problem.weight[:-1]
        weight[:, self.S :] = self.problem.effort
        return weight[:, :, None] * np.eye(self.stride)

    def gradient(self, states: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the objective: `(T, S + C)` over each step's start state and control, `(S,)` over the last state."""
        pull = np.zeros((self.T + 1, self.S))
        pull[1:, :4] = self.problem.weight * self.problem.residual(states)
        return np.concatenate([pull[:-1], self.problem.effort * controls], axis=1), pull[-1]

    def last_weight(self) -> np.ndarray:
        """`(S,)`: second derivatives of the objective over the last state."""
        return np.concatenate([self.problem.weight[-1], np.zeros(self.S - 4)])

    def sparse(self, lin: Linearisation, states: np.ndarray, controls: np.ndarray, second: np.ndarray) -> QP:
        """The subproblem with positive semidefinite blocks `second` `(T, S + C, S + C)` on states and controls."""
        upper = np.triu_indices(self.stride)
        base = np.arange(self.T)[:, None] * self.stride
        rows, cols = (base + upper[0]).ravel(), (base + upper[1]).ravel()
        tail = np.arange(self.motion_size - self.S, self.motion_size)
        data = np.concatenate([second[:, upper[0], upper[1]].ravel(), self.last_weight()])
        places = (np.concatenate([rows, tail]), np.concatenate([cols, tail]))
        P = sp.csc_matrix((data, places), shape=(self.width, self.width))
        inner, last = self.gradient(states, controls)
        return self._finish(lin, (states, controls), P, np.concatenate([inner.ravel(), last]), condensed=False)

    def condensed(
        self, lin: Linearisation, states: np.ndarray, controls: np.ndarray, second: np.ndarray, price: np.ndarray
    ) -> QP:
        """The subproblem with its objective written over (dx_0, du) alone, where indefiniteness shows and is mended.

        The dynamics make every dx_k a linear function of w = (dx_0, du_0, ..., du_{T-1}). The Hessian over w of an
        exact second order `second` is indefinite where the problem is not convex; its negative eigenvalues are
        taken by their size (saddle-free Newton, Dauphin et al. 2014), so a step still descends and a direction of
        strong negative curvature is not overshot.

        Negative curvature across the rows that bind is no reason to change the Hessian, because the rows hold the step
        there: a multiple of the squared distance from where they bind is added first. That leaves the solution of the
        subproblem where it is as long as they go on binding, and Newton's method as fast as it should be (the
        convexification of augmented Lagrangians). `price` `(T, R)` tells which rows they are.
        """
        S, C, T = self.S, self.C, self.T
        width = S + C * T
        reach, drift = np.zeros((T + 1, S, width)), np.zeros((T + 1, S))
        reach[0, :, :S] = np.eye(S)
        for k in range(T):
            reach[k + 1] = lin.A[k] @ reach[k]
            reach[k + 1][:, S + C * k : S + C * (k + 1)] += lin.B[k]
            drift[k + 1] = lin.A[k] @ drift[k] + lin.defect[k]
        full = np.zeros((T, self.stride, width))
        full[:, :S] = reach[:-1]
        for k in range(T):
            full[k, S:, S + C * k : S + C * (k + 1)] = np.eye(C)
        offset = np.concatenate([drift[:-1], np.zeros((T, C))], axis=1)
        inner, last = self.gradient(states, controls)
        weight = self.last_weight()

        def reduce(blocks: np.ndarray) -> np.ndarray:
            return np.einsum("kia,kib->ab", full, blocks @ full, optimize=True) + reach[-1].T @ (
                weight[:, None] * reach[-1]
            )

        inner = inner + np.einsum("kij,kj->ki", second, offset)
        q = np.einsum("kia,ki->a", full, inner) + reach[-1].T @ (last + weight * drift[-1])
        gauss_newton = np.diag(reduce(self.blocks()))
        scale = 1.0 / np.sqrt(gauss_newton + 1e-10 * gauss_newton.max())
        hessian = reduce(second) * scale[:, None] * scale
        value, vector = np.linalg.eigh(hessian)
        binding = np.abs(price) > _BINDING * np.abs(price).max()
        if self.elastic is not None:  # at the full penalty a row has given way, and holds nothing
            binding &= np.abs(price) < 0.999 * self.elastic
        if value[0] < 0 and binding.any():
            step, row = np.nonzero(binding)
            G = np.einsum("ni,nia->na", lin.G[step, row], full[step]) * scale
            gap = np.where(price > 0, self.upper, self.lower)[step, row] - lin.value[step, row]
            gap -= np.einsum("ni,ni->n", lin.G[step, row], offset[step])
            left, size, normal = np.linalg.svd(G, full_matrices=False)
            kept = size > _DEPENDENT * size[0]
            normal, nearest = normal[kept], (left.T @ gap)[kept] / size[kept]
            stiffness = _STIFF * np.abs(value).max()
            hessian = hessian + stiffness * normal.T @ normal
            q = q - stiffness * (normal.T @ nearest) / scale
            value, vector = np.linalg.eigh(hessian)
        dense = (vector * np.maximum(abs(value), 1e-12)) @ vector.T / scale[:, None] / scale

        place = np.concatenate([np.arange(S), (np.arange(T)[:, None] * self.stride + S + np.arange(C)).ravel()])
        i, j = np.triu_indices(width)
        P = sp.csc_matrix((dense[i, j], (place[i], place[j])), shape=(self.width, self.width))
        over_z = np.zeros(self.motion_size)
        over_z[place] = q
        return self._finish(lin, (states, controls), P, over_z, condensed=True)

    def _finish(
        self, lin: Linearisation, at: tuple[np.ndarray, np.ndarray], P: sp.csc_matrix, q: np.ndarray, *, condensed: bool
    ) -> QP:
        A, l, u = self.constraints(lin, at[0])
        slack = np.full(self.width - self.motion_size, self.elastic or 0.0)
        return QP(P, np.concatenate([q, slack]), A, l, u, condensed, at, self)

    def split(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """State steps `(T + 1, S)`, control steps `(T, C)`, row multipliers `(T, R)` from a solved subproblem."""
        inner = z[: self.T * self.stride].reshape(self.T, self.stride)
        last = z[self.T * self.stride : self.motion_size]
        price = np.zeros((self.T, self.R))
        price[self.row_mask] = y[self.S + self.S * self.T : self._tail]
        return np.concatenate([inner[:, : self.S], last[None]]), inner[:, self.S :], price
