"""A sequential quadratic program for the peers that solve quadratic programs, tuned in their favour.

The parts are the library's own (`_sqp`, `_stage_qp`): linearisation, the l1 merit function, and the convex part of the
curvature of the limits, without which steps zigzag along the friction circle. What differs from the library's backends:

- it stops as soon as an answer is accurate enough to count, and not later;
- the exact Hessian is made convex stage by stage, which keeps the structure that stage-wise solvers live from;
- the time inside the solver of subproblems is kept apart, because a program in C would linearise faster than Python.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from feasible._problem import Linearisation, Problem, curvature, linearise
from feasible.solvers._sqp import _costate, _Point
from feasible.solvers._stage_qp import StageQP

ITERATIONS = 60
FEASIBLE = 5e-4  # defect and excess; half of what the judge allows, who also looks at the objective
PROGRESS = 1e-5  # relative fall of the objective: at 2e-4 a quarter of the real rows under comfort limits stop short
PATIENCE = 5  # iterations of Gauss-Newton before the exact Hessian
_SHORTEST = 2.0**-8


@dataclasses.dataclass
class Subproblem:
    """What an adapter translates: a linearisation, and the second order `(T, S + C, S + C)`, positive semidefinite."""

    stage: StageQP
    lin: Linearisation
    states: np.ndarray
    controls: np.ndarray
    second: np.ndarray


@dataclasses.dataclass
class Found:
    """Of one row; seconds in all, inside the solver of subproblems, and how many it solved."""

    states: np.ndarray
    controls: np.ndarray
    seconds: float
    inside: float
    subproblems: int


def solve_row(problem: Problem, states: np.ndarray, controls: np.ndarray, solver: Any) -> Found:
    """One row from a start; `solver(subproblem)` returns step, row prices `(T, R)`, success, and its own seconds."""
    began, inside, count = time.perf_counter(), 0.0, 0
    stage = solver.stage(problem)
    point, price = _at(problem, states, controls), np.zeros((stage.T, stage.R))
    costate, nu, calm = np.zeros((stage.T, stage.S)), 1.0, 0
    for iteration in range(ITERATIONS):
        lin = linearise(problem, point.states, point.controls)
        second = _second(stage, point, costate, price, exact=iteration >= PATIENCE)
        dx, du, found, solved, seconds = solver(Subproblem(stage, lin, point.states, point.controls, second))
        inside, count = inside + seconds, count + 1
        if not solved or not np.isfinite(dx).all():
            break
        price = found
        costate = _costate(stage, lin, point, second, dx, du, price)
        size = 1.2 * max(float(np.abs(costate).max()), float(np.abs(price).max()))
        nu = size if size > nu else max(size, nu / 2)
        length, merit = 1.0, point.merit(nu)
        while True:
            trial = _at(problem, point.states + length * dx, point.controls + length * du)
            if trial.merit(nu) <= merit + 1e-9 * abs(merit) or length <= _SHORTEST:
                break
            length /= 2
        fall, point = abs(merit - trial.merit(nu)), trial
        calm = calm + 1 if fall <= PROGRESS * abs(trial.objective) + 2e-5 else 0
        kept = np.abs(point.defect).max() <= FEASIBLE and point.hard.max(initial=0.0) <= FEASIBLE
        if kept and ((calm and length == 1.0) or calm >= 3):
            break
    return Found(point.states, point.controls, time.perf_counter() - began, inside, count)


def same_structure(stage: StageQP, problem: Problem) -> bool:
    """Whether what was set up for one problem serves for another: horizon and names of limits."""
    names = [limit.name for limit in problem.limits]
    return problem.target.shape[-2] == stage.T and [limit.name for limit in stage.problem.limits] == names


def _at(problem: Problem, states: np.ndarray, controls: np.ndarray) -> _Point:
    excess = problem.excess(states, controls)
    objective = float(problem.objective(states, controls))
    return _Point(states, controls, objective, problem.defect(states, controls), excess, excess[:0])


def _second(stage: StageQP, point: _Point, costate: np.ndarray, price: np.ndarray, *, exact: bool) -> np.ndarray:
    blocks = stage.blocks()
    if not price.any():
        return blocks
    bend = curvature(stage.problem, point.states, point.controls, costate if exact else 0.0 * costate, price)
    if exact:
        bend = bend + blocks
    typical = np.asarray(stage.problem.vehicle.TYPICAL)
    value, vector = np.linalg.eigh(bend * typical[:, None] * typical)
    bend = (vector * np.maximum(value, 0.0)[:, None]) @ np.swapaxes(vector, -1, -2) / typical[:, None] / typical
    return bend + 1e-12 * np.eye(len(typical)) if exact else bend + blocks
