"""Solvers of sparse quadratic programs as solvers of SQP subproblems: translate, call, translate."""

from __future__ import annotations

import time
from typing import Any

import clarabel
import numpy as np
import osqp
import scipy.sparse as sp

from benchmarks.peers.sqp import Subproblem, same_structure
from feasible._problem import Problem
from feasible.solvers._stage_qp import QP, StageQP


class Sparse:
    """What sparse solvers share; one object per problem structure, `reset` between rows."""

    def __init__(self) -> None:
        self._stage: StageQP | None = None
        self.reset()

    def reset(self) -> None:
        """Forgets the last row."""

    def stage(self, problem: Problem) -> StageQP:
        """The structure, found once per horizon: a user would set it up once as well."""
        if self._stage is None or not same_structure(self._stage, problem):
            self._stage = StageQP(problem)
        self._stage.problem = problem
        return self._stage

    def __call__(self, sub: Subproblem) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool, float]:
        """Steps of states and controls, prices of the rows, whether it is solved, seconds inside the solver."""
        qp = sub.stage.sparse(sub.lin, sub.states, sub.controls, sub.second)
        z, y, solved, seconds = self.solve(qp)
        return *sub.stage.split(z, y), solved, seconds

    def solve(self, qp: QP) -> tuple[np.ndarray, np.ndarray, bool, float]:
        """Z and y of one subproblem."""
        raise NotImplementedError


class Osqp(Sparse):
    """OSQP at 1e-4, which keeps its factor's pattern and starts from the last multipliers."""

    def reset(self) -> None:
        """Forgets the last row."""
        self._y: np.ndarray | None = None
        self._solver: Any = None
        self._size = (0, 0)

    def solve(self, qp: QP) -> tuple[np.ndarray, np.ndarray, bool, float]:
        """Z and y of one subproblem."""
        # The pattern of P changes with the zeros of the second order; SciPy keeps explicit zeros, so it does not.
        if self._solver is None or self._size != (qp.P.nnz, qp.A.nnz):
            self._solver, self._size = osqp.OSQP(), (qp.P.nnz, qp.A.nnz)
            began = time.perf_counter()
            self._solver.setup(
                qp.P, qp.q, qp.A.copy(), qp.l, qp.u, verbose=False, scaling=0,
                eps_abs=1e-4, eps_rel=1e-4, max_iter=20000,
            )  # fmt: skip
        else:
            began = time.perf_counter()
            self._solver.update(q=qp.q, l=qp.l, u=qp.u, Px=qp.P.data, Ax=qp.A.data)
            if self._y is not None:
                self._solver.warm_start(x=np.zeros_like(qp.q), y=self._y)
        result = self._solver.solve(raise_error=False)
        seconds = time.perf_counter() - began
        solved = result.info.status_val in (osqp.SolverStatus.OSQP_SOLVED, osqp.SolverStatus.OSQP_SOLVED_INACCURATE)
        self._y = np.asarray(result.y) if solved else None
        return np.asarray(result.x), np.asarray(result.y), solved, seconds


class Clarabel(Sparse):
    """Clarabel at 1e-6 (feasibility and gap), one thread."""

    def solve(self, qp: QP) -> tuple[np.ndarray, np.ndarray, bool, float]:
        """Z and y of one subproblem."""
        A, b, kinds = _conic(qp)
        zeros = int(kinds[0].sum())
        cones = [clarabel.ZeroConeT(zeros), clarabel.NonnegativeConeT(len(b) - zeros)]
        settings = clarabel.DefaultSettings()
        settings.verbose, settings.max_threads = False, 1
        settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = 1e-6
        csc = A.tocsc()
        began = time.perf_counter()
        solution = clarabel.DefaultSolver(qp.P, qp.q, csc, b, cones, settings).solve()
        seconds = time.perf_counter() - began
        good = solution.status in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved)
        return np.asarray(solution.x), _prices(kinds, np.asarray(solution.z)), good, seconds


class Piqp(Sparse):
    """PIQP with its stage-wise factorisation, which finds the stages in the pattern by itself, at 1e-6."""

    def reset(self) -> None:
        """Forgets the last row."""
        self._solver: Any = None

    def solve(self, qp: QP) -> tuple[np.ndarray, np.ndarray, bool, float]:
        """Z and y of one subproblem."""
        import piqp

        equal = qp.l == qp.u
        free = ~np.isfinite(qp.l) & ~np.isfinite(qp.u)  # rows of the initial state that bind nothing
        other = ~equal & ~free
        parts = qp.P, qp.q, qp.A[equal], qp.u[equal], qp.A[other], qp.l[other], qp.u[other]
        P, c, A, b, G, low, high = parts
        began = time.perf_counter()
        if self._solver is None:
            self._solver = piqp.SparseSolver()
            self._solver.settings.kkt_solver = piqp.sparse_multistage
            self._solver.settings.eps_abs, self._solver.settings.eps_rel = 1e-6, 1e-7
            self._solver.settings.eps_duality_gap_abs, self._solver.settings.eps_duality_gap_rel = 1e-6, 1e-6
            self._solver.setup(P, c, A.tocsc(), b, G.tocsc(), low, high)
        else:
            self._solver.update(P=P, c=c, A=A.tocsc(), b=b, G=G.tocsc(), h_l=low, h_u=high)
        status = self._solver.solve()
        seconds = time.perf_counter() - began
        result, y = self._solver.result, np.zeros(len(qp.l))
        y[equal] = result.y
        y[other] = np.asarray(result.z_u) - np.asarray(result.z_l)
        return np.asarray(result.x), y, status == piqp.PIQP_SOLVED, seconds


class Moreau(Sparse):
    """moreau on the processor, without the derivative with which it is the fastest of the differentiable peers."""

    def solve(self, qp: QP) -> tuple[np.ndarray, np.ndarray, bool, float]:
        """Z and y of one subproblem."""
        import moreau

        A, b, kinds = _conic(qp)
        starts, columns, values = _symmetric(qp.P)
        zeros = int(kinds[0].sum())
        pattern = len(qp.q), zeros, columns.tobytes(), A.indptr.tobytes(), A.indices.tobytes()
        if pattern != getattr(self, "_pattern", None):  # set up once, which is not timed
            self._pattern = pattern
            self._solver = moreau.CompiledSolver(
                n=len(qp.q), m=len(b), P_row_offsets=starts, P_col_indices=columns,
                A_row_offsets=A.indptr, A_col_indices=A.indices,
                cones=moreau.Cones(num_zero_cones=zeros, num_nonneg_cones=len(b) - zeros),
                settings=moreau.Settings(device="cpu", solver="ipm"),
            )  # fmt: skip
        began = time.perf_counter()
        self._solver.setup(values[None], A.data[None])
        found = self._solver.solve(qp.q[None], b[None])
        seconds = time.perf_counter() - began
        z = np.asarray(found.x)[0]
        good = bool(np.isfinite(z).all() and self._solver.info.status[0] == moreau.SolverStatus.Solved)
        return z, _prices(kinds, np.asarray(found.z)[0]), good, seconds


def _conic(qp: QP) -> tuple[sp.csr_matrix, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A and b of b - A z = 0, then >= 0; and which rows of the program are equal, bounded above, bounded below."""
    equal = qp.l == qp.u
    above, below = np.isfinite(qp.u) & ~equal, np.isfinite(qp.l) & ~equal
    A = sp.vstack([qp.A[equal], qp.A[above], -qp.A[below]]).tocsr()
    return A, np.concatenate([qp.u[equal], qp.u[above], -qp.l[below]]), (equal, above, below)


def _prices(kinds: tuple[np.ndarray, np.ndarray, np.ndarray], dual: np.ndarray) -> np.ndarray:
    """Multipliers of the program's rows from those of `_conic`'s."""
    equal, above, below = kinds
    y, first, last = np.zeros(len(equal)), int(equal.sum()), int(equal.sum() + above.sum())
    y[equal], y[above] = dual[:first], dual[first:last]
    y[below] -= dual[last:]
    return y


def _symmetric(P: sp.csc_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row starts, columns and values of a symmetric matrix from its upper triangle, zeros that are stored included."""
    upper = P.tocoo()
    off = upper.row != upper.col
    rows, columns = np.concatenate([upper.row, upper.col[off]]), np.concatenate([upper.col, upper.row[off]])
    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=P.shape[0]))])
    return starts, columns[order], np.concatenate([upper.data, upper.data[off]])[order]


class ThroughCvxpy(Sparse):
    """The subproblems of the `cvxpy` backend: a CVXPY problem each, compiled and handed to Clarabel."""

    def solve(self, qp: QP) -> tuple[np.ndarray, np.ndarray, bool, float]:
        """Z and y of one subproblem."""
        from feasible.solvers.cvxpy_ import Cvxpy

        began = time.perf_counter()
        result = Cvxpy()._solve_qp(qp)
        return result.z, result.y, result.solved, time.perf_counter() - began
