"""`project`: the nearest feasible trajectory, row by row, with a status and a certificate that is not the solver's.

Rows are solved in a frame of their own, with the origin at the start and x along the initial heading, so a
projection does not depend on where on earth or which way the car drives. Every answer is rolled out exactly from its
clipped controls and then judged by `_check`; the ladder of `Status` follows from that alone.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import numpy as np

from feasible import _html
from feasible._arrays import wrap
from feasible._check import Certificate
from feasible._frame import Frames, initial_states, localise
from feasible._ladder import Answer, descend
from feasible._limits import Limit, check_limits
from feasible._motion import Motion
from feasible._problem import Problem, Weights
from feasible._status import Status
from feasible._trajectory import Trajectory

BACKENDS = {"riccati": "feasible.solvers.riccati", "osqp": "feasible.solvers.osqp_", "cvxpy": "feasible.solvers.cvxpy_"}
ACCEPTED = 5e-4  # normalised excess of a solved row where limits are imposed; half of what an exact audit accepts
CERTIFIED = 1e-2  # normalised excess of a solved row in continuous time, between the points where they are imposed
STILL = 1e-3  # m: a sample that no position leaves by more counts as unchanged


@dataclasses.dataclass(frozen=True, eq=False)
class Displacement:
    """How far valid positions moved: `mean` and `max` over time, each `(...)` [m]; 0 where nothing was valid."""

    mean: np.ndarray
    max: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Projection:
    """The result of `project`; NumPy float64, with the batch axes `...` of the input.

    Attributes:
        trajectory: the samples, always with yaw and speed, all valid.
        motion: exact, at the samples, of `states` and `controls`.
        states: `(..., T + 1, 6)`; the first is the initial state.
        controls: `(..., T, 2)`.
        status: `(...)` int, members of `Status`.
        displacement: from the input's valid samples.
        violation: `(...)` worst normalised excess of the output in continuous time, by the independent check.
        margin: per limit `(...)`: signed, from the same check.
        dynamics_residual: `(...)` largest distance of a state from the integrated one.
        multipliers: per limit `(..., T)`: shadow price [m²] of a relative change of the limit, positive where its
            upper bound binds and negative where its lower one does; 0 where the answer is not the solver's.
        relaxed: flat tuple, one entry a row: a sentence per limit that was relaxed, empty for most.
        objective: `(...)` value of the projection's objective.
        iterations: `(...)` linearisations used.
        limits: those of the call. vehicle: likewise.
    """

    trajectory: Trajectory
    motion: Motion
    states: np.ndarray
    controls: np.ndarray
    status: np.ndarray
    displacement: Displacement
    violation: np.ndarray
    margin: dict[str, np.ndarray]
    dynamics_residual: np.ndarray
    multipliers: dict[str, np.ndarray]
    relaxed: tuple[str, ...]
    objective: np.ndarray
    iterations: np.ndarray
    limits: tuple[Limit, ...]
    vehicle: Any

    def count(self, status: Status) -> int:
        """Number of samples with a status."""
        return int((self.status == status).sum())

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.count(s)} {s.name.lower()}" for s in Status if self.count(s))
        return f"Projection({counts or 'no samples'})"

    def _repr_html_(self) -> str:
        return _html.projection(self, Status)._repr_html_()


def project(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    initial_state: Any = None,
    weights: Weights | None = None,
    sample_weight: Any = None,
    backend: Any = "riccati",
    progress: bool = False,
) -> Projection:
    """Moves each sample as little as possible so that the vehicle can drive it within the limits.

    It certifies kinematics only: not collisions, and not the map.

    Args:
        trajectory: `(..., T)`, any array namespace; the result is on the host.
        vehicle: the model that must be able to drive it.
        limits: a tuple of `Limit`.
        initial_state: `(..., d)` with d <= 6: x, y, yaw, speed, acceleration, curvature *now*, one step before the
            first sample. Missing or NaN components are free. None: all are estimated.
        weights: of the objective; see `Weights`.
        sample_weight: `(..., T)`: how much a sample's squared errors count, 1 if None; for instance a model's inverse
            variances over their mean. Where it is not positive and finite the sample is missing; more than 1e6 counts
            as that. The controls' weights and the solver's accuracy are meant for a mean near 1.
        backend: "riccati" (compiles first, some seconds for new limits), "osqp", "cvxpy" (both a row at a time), or
            any object with their `solve`.
        progress: show a bar on standard error.

    Returns:
        A `Projection`. No row raises: look at `status`.

    Raises:
        ValueError: for shapes that do not fit, limits that are none, or an unknown backend.
    """
    return finish(solve(trajectory, vehicle, limits, initial_state, weights, sample_weight, backend, progress))


@dataclasses.dataclass(frozen=True)
class Solved:
    """What the solvers found for N rows, in frames of their own.

    Attributes:
        batch: the shape that N stands for.
        frames: of the rows. problem: in them. given: `(N,)` whether a row has any valid sample. answer: the best found.
    """

    batch: tuple[int, ...]
    frames: Frames
    problem: Problem
    given: np.ndarray
    answer: Answer


def solve(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    initial_state: Any,
    weights: Weights | None,
    sample_weight: Any,
    backend: Any,
    progress: bool,
) -> Solved:
    """The part of `project` that solves; arguments as there."""
    trajectory.check()
    limits = check_limits(limits)
    weights = weights or Weights()
    solver = _backend(backend)
    batch = trajectory.batch_shape
    start = initial_states(initial_state, batch, len(vehicle.STATES))
    frames, problem, given = localise(trajectory, vehicle, limits, start, weights, sample_weight)
    size = problem.target.shape[0]
    chunk = getattr(solver, "CHUNK", 1)
    answers = []
    with _bar(size, progress) as bar:
        for i in range(0, size, chunk):
            part = problem.select(slice(i, i + chunk))
            answers.append(descend(part, solver, given[i : i + chunk], accepted=ACCEPTED))
            bar.update(len(part.target))
    answer = Answer.join(answers) if answers else Answer.blank(problem, given)
    return Solved(batch, frames, problem, given, answer)


def finish(solved: Solved) -> Projection:
    """The certified result."""
    problem, batch, answer = solved.problem, solved.batch, solved.answer
    states, controls, vehicle, limits = answer.states, answer.controls, problem.vehicle, problem.limits
    size, steps = problem.target.shape[:2]
    certificate = Certificate.of(limits, answer.measured, states, controls)
    status, moved = _judge(problem, states, certificate, answer.status)
    relaxed = [""] * size
    for i in np.flatnonzero(status == Status.RELAXED):
        relaxed[i] = relaxed_limits(problem.select(i), states[i], controls[i])
    objective = problem.objective(states, controls) if size else np.zeros(0)
    states = solved.frames.world(states)
    prices = per_limit(problem, answer.multipliers)

    def shaped(a: np.ndarray) -> np.ndarray:
        return a.reshape((*batch, *a.shape[1:]))

    states, controls = shaped(states), shaped(controls)
    samples = states[..., 1:, :]
    return Projection(
        trajectory=Trajectory(
            x=samples[..., 0],
            y=samples[..., 1],
            yaw=wrap(np, samples[..., 2]),
            speed=samples[..., 3],
            dt=problem.dt,
            valid=np.ones((*batch, steps), dtype=bool),
        ),
        motion=vehicle.motion(states, controls, problem.dt),
        states=states,
        controls=controls,
        status=shaped(status),
        displacement=Displacement(shaped(moved[0]), shaped(moved[1])),
        violation=shaped(certificate.violation),
        margin={name: shaped(m) for name, m in certificate.margin.items()},
        dynamics_residual=shaped(certificate.dynamics_residual),
        multipliers={limit.name: shaped(prices[i]) for i, limit in enumerate(limits)},
        relaxed=tuple(relaxed),
        objective=shaped(objective),
        iterations=shaped(answer.iterations),
        limits=limits,
        vehicle=vehicle,
    )


def distance(
    trajectory: Trajectory, vehicle: Any, limits: Any, *, initial_state: Any = None, **options: Any
) -> Displacement:
    """The distance to feasibility [m]: how far `project` moves each sample; 0 to a millimetre if it is feasible.

    Unlike finite differences it does not amplify noise: a centimetre of jitter counts as a centimetre.
    """
    return project(trajectory, vehicle, limits, initial_state=initial_state, **options).displacement


def _backend(backend: Any) -> Any:
    if hasattr(backend, "solve"):
        return backend
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {sorted(BACKENDS)} or an object with solve(), got {backend!r}")
    return importlib.import_module(BACKENDS[backend])


def per_limit(problem: Problem, multipliers: np.ndarray) -> np.ndarray:
    """`(L, N, T)` from those of rows `(N, T, R)`: the sum over the points of a step."""
    owner, by_row = np.array([row.limit for row in problem.rows]), np.moveaxis(multipliers, -1, 0)
    return np.stack([by_row[owner == i].sum(0) for i in range(len(problem.limits))])


def _judge(
    problem: Problem, states: np.ndarray, certificate: Certificate, status: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The final status, and mean and maximal displacement."""
    valid = problem.weight[..., 0] > 0
    error = problem.residual(states) * (problem.weight > 0)
    gap = np.hypot(error[..., 0], error[..., 1])
    mean, most = gap.sum(-1) / np.maximum(valid.sum(-1), 1), gap.max(-1, initial=0.0)
    # The solver's word is not taken: a row that the check finds over a limit cannot stay "projected".
    broken = ~(certificate.violation <= CERTIFIED)
    status = np.where((status == Status.PROJECTED) & broken, Status.RELAXED, status)
    same = (most <= STILL) & (np.abs(error[..., 2:]).max((-2, -1), initial=0.0) <= 10 * STILL)
    return np.where((status == Status.PROJECTED) & same, Status.UNCHANGED, status), (mean, most)


def relaxed_limits(problem: Problem, states: np.ndarray, controls: np.ndarray) -> str:
    """One clause per limit that one row exceeds."""
    excess, clauses = problem.excess(states, controls), []
    for i, limit in enumerate(problem.limits):
        over = excess[[r for r, row in enumerate(problem.rows) if row.limit == i]].max(0)
        at = np.flatnonzero(over > ACCEPTED)
        if at.size:
            clauses.append(
                f"{limit.name} exceeded by up to {over.max():.2%} from {at[0] * problem.dt:.1f} "
                f"to {(at[-1] + 1) * problem.dt:.1f} s"
            )
    return "; ".join(clauses)


def _bar(total: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit="trajectory", disable=not progress, desc="project")
