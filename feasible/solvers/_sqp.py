"""Sequential quadratic programming for one row of a `Problem`; the backends differ in who solves the subproblems.

Each iteration linearises dynamics and limits and solves a convex subproblem for a step, which is shortened until
the l1 merit function

    J + ν (Σ |defect| + Σ excess of hard rows) + ρ Σ excess of elastic rows,   ν above every multiplier (Han, 1977)

falls. Where a full step raises it by what the linearisation left out, the step is bent to make up for that, and
shortened along the arc: along curved limits every long straight step would be cut to pieces (Mayne and Polak, 1982).

The second order comes in two strengths. First Gauss-Newton plus the convex part of the limits' own curvature:
without it the steps zigzag along the friction circle. Where that has not converged after some iterations, near
standstill with samples a metre off, the residuals are too large for Gauss-Newton, and the exact Hessian of the
Lagrangian takes over, condensed to the controls and made convex there (`StageQP.condensed`).

Where a subproblem is infeasible, the row goes on with elastic limits (Gill, Murray and Saunders, 2005).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from feasible._problem import Linearisation, Problem, Solution, curvature, linearise
from feasible.solvers._stage_qp import QP, StageQP

QPSolver = Callable[[QP], "QPResult"]

MAX_ITERATIONS = 60
PATIENCE = 5  # iterations of Gauss-Newton before the exact Hessian
DEFECT = 1e-5  # largest defect of a converged row [m, rad, m/s, ...]
EXCESS = 2e-4  # largest normalised excess of a converged row
PROGRESS = 1e-5  # relative fall of the objective that is worth another iteration
STILL = 1e-4  # m: step of a position that is worth none; in a flat valley the objective alone would end it too early
ELASTIC = 1e3  # m² per unit of normalised excess: far above the multipliers of real rows (at most about 30)
_STANDING = 1e-10  # m²: fall of the objective that is worth none, where the objective is next to nothing
_NEAR = 0.005  # m: step of a position below which a solution is near, and what makes the last steps fast does no harm
_PATIENT = 8  # iterations that the objective must have stood still where the steps have not become small
_MEMORY = 3  # points before the last whose merit a step may still reach: full steps are the fast ones (Grippo, 1986)
_SHORTEST = 2.0**-8  # of a step
_CREDIT = 1e-9  # relative rise of the merit that rounding may cause


@dataclasses.dataclass(frozen=True)
class QPResult:
    """z and y of a subproblem, and whether they solve it; y is positive at upper bounds."""

    z: np.ndarray
    y: np.ndarray
    solved: bool


@dataclasses.dataclass(frozen=True)
class _Point:
    """An iterate with what its merit is made of."""

    states: np.ndarray
    controls: np.ndarray
    objective: float
    defect: np.ndarray
    hard: np.ndarray
    soft: np.ndarray

    def infeasibility(self) -> float:
        return float(np.abs(self.defect).sum() + self.hard.sum())

    def merit(self, nu: float) -> float:
        return self.objective + nu * self.infeasibility() + ELASTIC * float(self.soft.sum())

    def feasible(self) -> bool:
        return bool(np.abs(self.defect).max() <= DEFECT and self.hard.max(initial=0.0) <= EXCESS)


def solve(
    problem: Problem,
    states: np.ndarray,
    controls: np.ndarray,
    qp_solvers: Callable[[], QPSolver],
    *,
    elastic: bool = False,
    full_steps: bool = False,
) -> Solution:
    """Solves N rows one after the other.

    Args:
        problem: N rows.
        states: `(N, T + 1, S)` start.
        controls: `(N, T, C)` start.
        qp_solvers: makes the solver of one row's subproblems, which may remember the last one.
        elastic: whether rows that read states may be exceeded, at `ELASTIC` per unit of normalised excess.
        full_steps: never shorten a step, for subproblems with terms that the merit function does not know.
    """
    results = [
        solve_row(problem.select(i), states[i], controls[i], qp_solvers(), elastic=elastic, full_steps=full_steps)
        for i in range(len(states))
    ]
    fields = [f.name for f in dataclasses.fields(Solution)]
    return Solution(**{name: np.stack([getattr(r, name) for r in results]) for name in fields})


def solve_row(
    problem: Problem,
    states: np.ndarray,
    controls: np.ndarray,
    qp_solver: QPSolver,
    *,
    elastic: bool = False,
    full_steps: bool = False,
) -> Solution:
    """Like `solve` for one row without a batch axis."""
    stage = StageQP(problem, ELASTIC if elastic else None)
    is_soft = np.zeros(stage.R, dtype=bool)
    if elastic:
        hard_fields = frozenset(problem.vehicle.CONTROLS)
        is_soft = np.array([not problem.limits[row.limit].reads <= hard_fields for row in problem.rows])

    def at(states: np.ndarray, controls: np.ndarray) -> _Point:
        excess = problem.excess(states, controls)
        objective, defect = float(problem.objective(states, controls)), problem.defect(states, controls)
        return _Point(states, controls, objective, defect, excess[~is_soft], excess[is_soft])

    known = np.isfinite(problem.initial_state)
    states = states.copy()
    states[0, known] = problem.initial_state[known]
    point = at(states, controls)
    nu, price, costate = 1.0, np.zeros((stage.T, stage.R)), np.zeros((stage.T, stage.S))
    calm, recent, near = 0, [point], False
    moves: list[float] = []
    for iteration in range(1, MAX_ITERATIONS + 1):
        lin = linearise(problem, point.states, point.controls)
        second, exact = _second_order(stage, point, costate, price, exact=iteration > PATIENCE)
        held = price if near else 0.0 * price
        at_point = point.states, point.controls, second
        result = qp_solver(stage.condensed(lin, *at_point, held) if exact else stage.sparse(lin, *at_point))
        if not result.solved or not np.isfinite(result.z).all():
            if elastic:
                return _solution(point, price, iteration, False)
            # The linearised limits contradict each other here: go on with slacks, whose penalty drives them out again.
            rest = solve_row(problem, point.states, point.controls, qp_solver, elastic=True, full_steps=full_steps)
            return dataclasses.replace(rest, iterations=rest.iterations + iteration)
        dx, du, price = stage.split(result.z, result.y)
        costate = _costate(stage, lin, point, second, dx, du, price)
        size = 1.2 * max(float(np.abs(costate).max()), float(np.abs(price).max()))
        nu = size if size > nu else max(size, nu / 2)

        recent = [*recent[-_MEMORY:], point] if exact and near else [point]
        merit, length = max(p.merit(nu) for p in recent), 1.0
        enough = merit + _CREDIT * abs(merit)
        trial, bend = at(point.states + dx, point.controls + du), (0.0 * dx, 0.0 * du)
        if exact and trial.merit(nu) > enough and trial.infeasibility() > point.infeasibility() and not full_steps:
            result = qp_solver(stage.condensed(_corrected(problem, lin, trial, dx, du), *at_point, held))
            if result.solved and np.isfinite(result.z).all():
                ex, eu, _ = stage.split(result.z, result.y)
                bend = ex - dx, eu - du
                trial = at(point.states + ex, point.controls + eu)
        while trial.merit(nu) > enough and length > _SHORTEST and not full_steps:
            length /= 2
            bent = length**2
            trial = at(point.states + length * dx + bent * bend[0], point.controls + length * du + bent * bend[1])
        fall = abs(point.merit(nu) - trial.merit(nu))
        point = trial
        calm = calm + 1 if fall <= PROGRESS * abs(trial.objective) + _STANDING else 0
        step = float(np.abs(dx).max(0)[:2].max())
        moves.append(step)
        still, near = step <= STILL, step <= _NEAR
        # In a flat valley the objective stands still long before the positions do: go on while steps become shorter.
        stuck = calm >= _PATIENT and min(moves[-_PATIENT:]) >= min(moves[:-_PATIENT], default=np.inf)
        if point.feasible() and ((calm >= 1 and length == 1.0 and still) or stuck):
            return _solution(point, price, iteration, True)
    return _solution(point, price, MAX_ITERATIONS, point.feasible())


def _second_order(
    stage: StageQP, point: _Point, costate: np.ndarray, price: np.ndarray, *, exact: bool
) -> tuple[np.ndarray, bool]:
    """Blocks `(T, S + C, S + C)` for the subproblem's objective, and whether they may be indefinite."""
    blocks = stage.blocks()
    if not price.any():
        return blocks, False
    if exact:
        return blocks + curvature(stage.problem, point.states, point.controls, costate, price), True
    bend = curvature(stage.problem, point.states, point.controls, 0.0 * costate, price)
    typical = np.asarray(stage.problem.vehicle.TYPICAL)
    value, vector = np.linalg.eigh(bend * typical[:, None] * typical)
    bend = (vector * np.maximum(value, 0.0)[:, None]) @ np.swapaxes(vector, -1, -2)
    return blocks + bend / typical[:, None] / typical, False


def _corrected(problem: Problem, lin: Linearisation, trial: _Point, dx: np.ndarray, du: np.ndarray) -> Linearisation:
    """The linearisation with the values that make it exact at a trial point a full step (dx, du) away."""
    step = np.concatenate([dx[:-1], du], axis=1)
    value = problem.signals(trial.states[:-1], trial.controls).T / problem.bounds()[2]
    value = value - np.einsum("krj,kj->kr", lin.G, step)
    return dataclasses.replace(lin, defect=lin.defect + trial.defect, value=value)


def _costate(
    stage: StageQP,
    lin: Linearisation,
    point: _Point,
    second: np.ndarray,
    dx: np.ndarray,
    du: np.ndarray,
    price: np.ndarray,
) -> np.ndarray:
    """`(T, S)`: multipliers of the dynamics by the adjoint recursion, whichever form the subproblem had."""
    inner, last = stage.gradient(point.states, point.controls)
    step = np.concatenate([dx[:-1], du], axis=1)
    inner = inner + np.einsum("kij,kj->ki", second, step) + np.einsum("krj,kr->kj", lin.G, price)
    costate = np.zeros((stage.T, stage.S))
    costate[-1] = last + stage.last_weight() * dx[-1]
    for k in range(stage.T - 1, 0, -1):
        costate[k - 1] = inner[k, : stage.S] + lin.A[k].T @ costate[k]
    return costate


def _solution(point: _Point, price: np.ndarray, iterations: int, converged: bool) -> Solution:
    return Solution(point.states, point.controls, price, np.asarray(iterations), np.asarray(converged))
