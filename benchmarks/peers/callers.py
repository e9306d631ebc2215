"""Methods as a vehicle calls them: one plan after another, each answer the start of the next."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

import feasible
from benchmarks.peers import sqp
from benchmarks.peers.methods import _reference
from benchmarks.peers.problems import VEHICLE
from benchmarks.real_data import DT
from feasible._frame import Frames, initial_states, localise, rotate
from feasible._ladder import begin
from feasible._problem import Problem, Weights, linearise


@dataclasses.dataclass
class Answer:
    """Controls `(K, T, C)`; seconds in all and inside a solver of subproblems; status of each mode, -1 for none."""

    controls: np.ndarray
    seconds: float
    inside: float
    status: np.ndarray
    iterations: np.ndarray


class Ours:
    """`feasible.Projector`, called as its users call it; everything between the call and the `Plan` counts."""

    def __init__(self, preset: str, steps: int, modes: int, *, warm: bool, deadline: float | None) -> None:
        limits = feasible.presets.get(preset)
        self._projector = feasible.Projector(
            VEHICLE, limits, horizon=steps, dt=DT, deadline=deadline, modes=modes
        ).warmup()
        self._warm, self._plan = warm, None

    def __call__(self, plans: np.ndarray, state: np.ndarray, *, first: bool) -> Answer:
        """Answers plans `(K, T, 2)` from a state `(6,)`; `first` of a drive."""
        before = None if first or not self._warm else self._plan
        began = time.perf_counter()
        self._plan = plan = self._projector(plans, initial_state=state, warm_start=before)
        seconds = time.perf_counter() - began
        return Answer(plan.controls, seconds, seconds, plan.status, plan.iterations)


class Peer:
    """A method of the comparison, from its own last answer one step on; the local frame and the shift are not timed."""

    def __init__(self, preset: str) -> None:
        self._preset, self._limits = preset, feasible.presets.get(preset)
        self._states, self._controls = np.zeros((0, 6)), np.zeros((0, 2))

    def __call__(self, plans: np.ndarray, state: np.ndarray, *, first: bool) -> Answer:
        """As that of `Ours`; one mode only."""
        trajectory = feasible.Trajectory.from_array(plans, dt=DT)
        given = initial_states(state, (1,), 6)
        frames, rows, _ = localise(trajectory, VEHICLE, self._limits, given, Weights())
        problem = rows.select(0)
        if first:
            states = begin(rows)[0]
            controls = np.zeros((len(states) - 1, 2))
        else:
            states, controls = _inwards(frames, self._states), self._controls
            states = np.concatenate([states[1:], VEHICLE.step(states[-1], np.zeros(2), DT)[None]])
            controls = np.concatenate([controls[1:], np.zeros((1, 2))])
        states[:, 2] += 2 * np.pi * np.round((problem.initial_state[2] - states[0, 2]) / (2 * np.pi))
        states[0] = problem.initial_state
        found = self.solve(problem, states, controls, first=first)
        self._states, self._controls = frames.world(found.states[None])[0], found.controls
        nothing = np.array([-1])
        return Answer(found.controls[None], found.seconds, found.inside, nothing, np.array([found.subproblems]))

    def solve(self, problem: Problem, states: np.ndarray, controls: np.ndarray, *, first: bool) -> sqp.Found:
        """From a start in the problem's frame."""
        raise NotImplementedError


class Sqp(Peer):
    """The tuned SQP on a solver of quadratic programs, to its end."""

    def __init__(self, preset: str, solver: Any) -> None:
        super().__init__(preset)
        self._solver = solver

    def solve(self, problem: Problem, states: np.ndarray, controls: np.ndarray, *, first: bool) -> sqp.Found:
        """Until an answer is accurate enough to count."""
        if first:
            self._solver.reset()
        return sqp.solve_row(problem, states, controls, self._solver)


class RealTimeIteration(Sqp):
    """One Gauss-Newton step per cycle on the same solver, as acados' SQP-RTI; a drive's first call is the whole SQP."""

    def solve(self, problem: Problem, states: np.ndarray, controls: np.ndarray, *, first: bool) -> sqp.Found:
        """One full step."""
        if first:
            return super().solve(problem, states, controls, first=True)
        began = time.perf_counter()
        stage = self._solver.stage(problem)
        lin = linearise(problem, states, controls)
        dx, du, _, solved, inside = self._solver(sqp.Subproblem(stage, lin, states, controls, stage.blocks()))
        if solved:
            states, controls = states + dx, controls + du
        return sqp.Found(states, controls, time.perf_counter() - began, inside, 1)


class Ipopt(Peer):
    """IPOPT at 1e-6 on the problem written in CasADi."""

    def solve(self, problem: Problem, states: np.ndarray, controls: np.ndarray, *, first: bool) -> sqp.Found:
        """To its end."""
        reference = _reference(self._preset, len(controls))
        began = time.perf_counter()
        _, states, controls, _ = reference.solve(problem.target, states, controls, initial_state=problem.initial_state)
        seconds = time.perf_counter() - began
        return sqp.Found(states, controls, seconds, seconds, 0)


def _inwards(frames: Frames, states: np.ndarray) -> np.ndarray:
    """States of the world in a local frame."""
    out = states.copy()
    out[:, :2] = rotate(states[None, :, :2] - frames.origin[:, None], -frames.heading)[0]
    out[:, 2] -= frames.heading[0]
    return out


def make(name: str, preset: str) -> Peer:
    """A peer by name; ImportError where its package is not installed."""
    if name == "CasADi + IPOPT":
        import casadi  # noqa: F401

        return Ipopt(preset)
    if name == "SQP on OSQP":
        from benchmarks.peers.quadratic import Osqp

        return Sqp(preset, Osqp())
    from benchmarks.peers.hpipm import Hpipm

    return (RealTimeIteration if name == RTI else Sqp)(preset, Hpipm(fixed=True))


RTI = "one SQP step on HPIPM (RTI)"
PEERS = (RTI, "SQP on HPIPM", "SQP on OSQP", "CasADi + IPOPT")
