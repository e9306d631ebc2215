"""Backend `osqp`: SQP for one trajectory at a time on a CPU, nothing to compile.

OSQP (Stellato et al. 2020) is a first-order method: quick where few limits bind, endless where hundreds do, since
the effect of jerk on position falls with the sixth power of frequency. So it gets a fixed budget of iterations; a
subproblem that it has not finished by then goes to Clarabel (Goulart and Chen 2024), an interior-point method that
comes with CVXPY and takes about 15 iterations whatever binds. A row that has overrun the budget stays with Clarabel.
"""

from __future__ import annotations

import clarabel
import numpy as np
import osqp
import scipy.sparse as sp

from feasible._problem import Problem, Solution
from feasible.solvers import _sqp
from feasible.solvers._sqp import QPResult
from feasible.solvers._stage_qp import QP

_BUDGET = 500  # OSQP iterations: about as long as one Clarabel solve
_ACCURACY = 1e-6  # OSQP's absolute and relative tolerance; rows are in units of their limits


def solve(problem: Problem, states: np.ndarray, controls: np.ndarray, *, elastic: bool = False) -> Solution:
    """Solves N rows from a start; see `_sqp.solve`."""
    return _sqp.solve(problem, states, controls, RowSolver, elastic=elastic)


class RowSolver:
    """Solves the subproblems of one row: set up once, values updated, warm started from the last multipliers."""

    def __init__(self) -> None:
        self._osqp: osqp.OSQP | None = None
        self._size: tuple[int, int] | None = None
        self._overrun = False
        self._y: np.ndarray | None = None

    def __call__(self, qp: QP) -> QPResult:
        """One subproblem: OSQP within its budget, else Clarabel."""
        if qp.condensed or self._overrun:  # a dense objective makes OSQP's linear system dense as well
            return interior_point(qp)
        result = self._first_order(qp)
        if result.info.status_val == osqp.SolverStatus.OSQP_SOLVED:
            self._y = np.asarray(result.y)
            return QPResult(np.asarray(result.x), self._y, True)
        self._overrun = True
        return interior_point(qp)

    def _first_order(self, qp: QP) -> osqp.OSQP:
        if self._osqp is None or self._size != qp.A.shape:
            self._osqp, self._size = osqp.OSQP(), qp.A.shape
            # No Ruiz scaling: limits are in units of themselves already, and column norms hide that jerk acts late.
            self._osqp.setup(
                qp.P, qp.q, qp.A.copy(), qp.l, qp.u, verbose=False, scaling=0,
                eps_abs=_ACCURACY, eps_rel=_ACCURACY, max_iter=_BUDGET,
            )  # fmt: skip
        else:
            self._osqp.update(q=qp.q, l=qp.l, u=qp.u, Px=qp.P.data, Ax=qp.A.data)
            # The step is measured from the new iterate, so the primal starts at 0.
            self._osqp.warm_start(x=np.zeros_like(qp.q), y=self._y)
        return self._osqp.solve(raise_error=False)


def interior_point(qp: QP, *, equilibrate: bool = False) -> QPResult:
    """One subproblem by Clarabel.

    Without equilibration, for the reason that OSQP is without scaling: half as many iterations, and flat directions
    are more accurate. With it where that fails.
    """
    equal = qp.l == qp.u
    above, below = np.isfinite(qp.u) & ~equal, np.isfinite(qp.l) & ~equal
    A = sp.vstack([qp.A[equal], qp.A[above], -qp.A[below]]).tocsc()
    b = np.concatenate([qp.u[equal], qp.u[above], -qp.l[below]])
    counts = int(equal.sum()), int(above.sum()), int(below.sum())
    cones = [clarabel.ZeroConeT(counts[0]), clarabel.NonnegativeConeT(counts[1] + counts[2])]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.equilibrate_enable = equilibrate
    solution = clarabel.DefaultSolver(qp.P, qp.q, A, b, cones, settings).solve()
    good = solution.status in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved)
    if not good and not equilibrate:
        return interior_point(qp, equilibrate=True)
    y = np.zeros(len(qp.l))
    dual = np.asarray(solution.z)
    y[equal] = dual[: counts[0]]
    y[above] = dual[counts[0] : counts[0] + counts[1]]
    y[below] -= dual[counts[0] + counts[1] :]
    return QPResult(np.asarray(solution.x), y, good)
