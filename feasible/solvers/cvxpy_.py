"""Backend `cvxpy`: SQP whose subproblems are CVXPY problems, for reference and for prototyping own terms.

    from feasible.solvers.cvxpy_ import Cvxpy

    def smoother(problem, states, controls):                  # CVXPY expressions (T + 1, S) and (T, C)
        change = controls[1:, 0] - controls[:-1, 0]
        return 1e-4 * cp.sum_squares(change), [states[-1, 3] <= 5.0]

    feasible.project(trajectory, vehicle, limits, backend=Cvxpy(extra=smoother))

Extra terms are convex in states and controls, given in the row's local frame (origin at the start, x along the
initial heading). The merit function does not know them, so the step is then always taken in full.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from feasible._problem import Problem, Solution
from feasible.solvers import _sqp
from feasible.solvers._sqp import QPResult
from feasible.solvers._stage_qp import QP

Extra = Callable[[Problem, Any, Any], tuple[Any, list[Any]]]


class Cvxpy:
    """The backend with options.

    Args:
        extra: `(problem, states, controls) -> (cost, constraints)` of CVXPY expressions, convex, or None.
        solver: name of an installed CVXPY solver for quadratic programs.
    """

    def __init__(self, *, extra: Extra | None = None, solver: str = "CLARABEL"):
        self.extra, self.solver = extra, solver

    def solve(self, problem: Problem, states: np.ndarray, controls: np.ndarray, *, elastic: bool = False) -> Solution:
        """Solves N rows from a start; see `_sqp.solve`."""
        return _sqp.solve(
            problem, states, controls, lambda: self._solve_qp, elastic=elastic, full_steps=bool(self.extra)
        )

    def _solve_qp(self, qp: QP) -> QPResult:
        import cvxpy as cp

        z = cp.Variable(len(qp.q))
        symmetric = qp.P + sp.triu(qp.P, k=1).T
        cost = 0.5 * cp.quad_form(z, cp.psd_wrap(symmetric.tocsc())) + qp.q @ z
        equal = qp.l == qp.u
        above, below = np.isfinite(qp.u) & ~equal, np.isfinite(qp.l) & ~equal
        rules = [qp.A[equal] @ z == qp.u[equal], qp.A[above] @ z <= qp.u[above], qp.A[below] @ z >= qp.l[below]]
        extra_rules: list[Any] = []
        if self.extra is not None:
            (inner, last), controls = qp.motion(z)
            extra_cost, extra_rules = self.extra(qp.stage.problem, cp.vstack([inner, last[None, :]]), controls)
            cost = cost + extra_cost
        task = cp.Problem(cp.Minimize(cost), rules + extra_rules)
        # Clarabel first without equilibration: see `osqp_.interior_point`.
        for options in ({"equilibrate_enable": False}, {}) if self.solver == "CLARABEL" else ({},):
            try:
                with warnings.catch_warnings():  # an inaccurate solution is welcome: the merit function judges it
                    warnings.simplefilter("ignore", UserWarning)
                    task.solve(solver=self.solver, **options)
            except cp.SolverError:
                continue
            if task.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
                break
        else:
            return QPResult(np.zeros(len(qp.q)), np.zeros(len(qp.l)), False)
        y = np.zeros(len(qp.l))
        y[equal] = rules[0].dual_value
        y[above] = rules[1].dual_value
        y[below] -= rules[2].dual_value
        return QPResult(np.asarray(z.value), y, True)


def solve(problem: Problem, states: np.ndarray, controls: np.ndarray, *, elastic: bool = False) -> Solution:
    """Solves N rows from a start with the default options."""
    return Cvxpy().solve(problem, states, controls, elastic=elastic)
