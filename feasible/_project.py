"""`project`: the nearest feasible trajectory, row by row, with a status and a certificate that is not the solver's.

Rows are solved in a frame of their own, with the origin at the start and x along the initial heading, so a
projection does not depend on where on earth or which way the car drives. Every answer is rolled out exactly from its
clipped controls and then judged by `_check.certify`; the ladder of `Status` follows from that alone.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from typing import Any

import numpy as np

from feasible._arrays import to_numpy, wrap
from feasible._check import Certificate, certify
from feasible._ladder import descend
from feasible._lift import lift
from feasible._limits import Limit, check_limits
from feasible._motion import Motion
from feasible._problem import Problem, Weights
from feasible._status import Status
from feasible._trajectory import Trajectory, recentre

BACKENDS = {"osqp": "feasible.solvers.osqp_", "cvxpy": "feasible.solvers.cvxpy_", "riccati": "feasible.solvers.riccati"}
ACCEPTED = 5e-4  # normalised excess of a solved row where limits are imposed; half of what an exact audit accepts
CERTIFIED = 1e-2  # normalised excess of a solved row in continuous time, between the points where they are imposed
STILL = 1e-3  # m: a sample that no position leaves by more counts as unchanged
FARTHEST = 1e6  # m from the first valid sample: farther away is not a trajectory but an error, and masked


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

    def count(self, status: Status) -> int:
        """Number of samples with a status."""
        return int((self.status == status).sum())

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.count(s)} {s.name.lower()}" for s in Status if self.count(s))
        return f"Projection({counts or 'no samples'})"


def project(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    initial_state: Any = None,
    weights: Weights | None = None,
    backend: Any = "osqp",
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
        backend: "osqp", "cvxpy", "riccati" (for batches; compiles first), or any object with their `solve`.
        progress: show a bar on standard error.

    Returns:
        A `Projection`. No row raises: look at `status`.

    Raises:
        ValueError: for shapes that do not fit, limits that are none, or an unknown backend.
    """
    trajectory.check()
    limits = check_limits(limits)
    weights = weights or Weights()
    solver = _backend(backend)
    batch, steps = trajectory.batch_shape, trajectory.horizon
    start = _initial_states(initial_state, batch, len(vehicle.STATES))

    frames, problem, given = _localise(trajectory, vehicle, limits, start, weights)
    size = problem.target.shape[0]
    chunk = getattr(solver, "CHUNK", 1)
    answers = []
    with _bar(size, progress) as bar:
        for i in range(0, size, chunk):
            part = problem.select(slice(i, i + chunk))
            answers.append(descend(part, solver, given[i : i + chunk], accepted=ACCEPTED))
            bar.update(len(part.target))
    states, controls, prices, iterations, status = _gather(answers, problem)

    certificate = certify(states, controls, problem.dt, vehicle, limits)
    status, moved = _judge(problem, states, certificate, status)
    relaxed = tuple(
        _relaxed(problem.select(i), states[i], controls[i]) if status[i] == Status.RELAXED else "" for i in range(size)
    )
    objective = problem.objective(states, controls) if size else np.zeros(0)
    states = frames.world(states)

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
        multipliers={limit.name: shaped(prices[..., i]) for i, limit in enumerate(limits)},
        relaxed=relaxed,
        objective=shaped(objective),
        iterations=shaped(iterations),
    )


def distance(
    trajectory: Trajectory, vehicle: Any, limits: Any, *, initial_state: Any = None, **options: Any
) -> Displacement:
    """The distance to feasibility [m]: how far `project` moves each sample; 0 to a millimetre if it is feasible.

    Unlike finite differences it does not amplify noise: a centimetre of jitter counts as a centimetre.
    """
    return project(trajectory, vehicle, limits, initial_state=initial_state, **options).displacement


@dataclasses.dataclass(frozen=True)
class _Frames:
    """Of N rows: `origin` `(N, 2)` and `heading` `(N,)` of the local frames in the world."""

    origin: np.ndarray
    heading: np.ndarray

    def world(self, states: np.ndarray) -> np.ndarray:
        """States `(N, T + 1, S)` from the local frames to the world."""
        out = states.copy()
        out[..., :2] = rotate(states[..., :2], self.heading) + self.origin[:, None]
        out[..., 2] += self.heading[:, None]
        return out


def rotate(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Points `(N, ..., 2)` turned by `angle` `(N,)` [rad]."""
    angle = angle.reshape(-1, *[1] * (points.ndim - 2))
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * points[..., 0] - s * points[..., 1], s * points[..., 0] + c * points[..., 1]], axis=-1)


def _backend(backend: Any) -> Any:
    if hasattr(backend, "solve"):
        return backend
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {sorted(BACKENDS)} or an object with solve(), got {backend!r}")
    return importlib.import_module(BACKENDS[backend])


def _initial_states(initial_state: Any, batch: tuple[int, ...], size: int) -> np.ndarray:
    """`(N, S)`, NaN where free."""
    full = np.full((math.prod(batch), size), np.nan)
    if initial_state is None:
        return full
    given = np.asarray(to_numpy(initial_state), dtype=np.float64)
    if given.ndim < 1 or not 1 <= given.shape[-1] <= size:
        raise ValueError(f"initial_state: expected shape (..., d) with d <= {size}, got {given.shape}")
    try:
        given = np.broadcast_to(given, (*batch, given.shape[-1]))
    except ValueError:
        raise ValueError(
            f"initial_state: expected batch axes {batch} like the trajectory, got shape {given.shape}"
        ) from None
    given = given.reshape(-1, given.shape[-1])
    full[:, : given.shape[-1]] = np.where(np.isfinite(given), given, np.nan)
    if (np.isfinite(full[:, 0]) != np.isfinite(full[:, 1])).any():
        raise ValueError("initial_state: expected x and y both given or both NaN")
    return full


def _localise(
    trajectory: Trajectory, vehicle: Any, limits: tuple[Limit, ...], start: np.ndarray, weights: Weights
) -> tuple[_Frames, Problem, np.ndarray]:
    """The rows in frames of their own, and which of them have anything to stay close to, `(N,)` bool."""
    steps = trajectory.horizon
    host, origin = recentre(trajectory)
    rows = math.prod(trajectory.batch_shape)
    origin = origin.reshape(rows, 2).copy()
    target = np.zeros((rows, steps, 4))
    for i, column in enumerate((host.x, host.y, host.yaw, host.speed)):
        if column is not None:
            target[..., i] = column.reshape(rows, steps)
    valid = host.valid.reshape(rows, steps) & (np.abs(target[..., :2]).max(-1) <= FARTHEST)
    valid &= np.abs(target[..., 3]) <= FARTHEST
    target = np.where(valid[..., None], target, 0.0)
    stated = np.array([1.0, 1.0, host.yaw is not None, host.speed is not None])
    weight = valid[..., None] * stated * [weights.position, weights.position, weights.yaw, weights.speed]

    posed = np.isfinite(start[:, 0])
    nothing = posed & ~valid.any(1)
    origin[nothing] = start[nothing, :2]
    start = start.copy()
    start[:, :2] -= origin
    # An initial position that is nowhere near the samples, or an absurd speed, is as good as none.
    absurd = np.abs(np.nan_to_num(start)).max(1) > FARTHEST
    start[absurd] = np.nan

    first = np.stack([lift(target[i], weight[i], start[i], float(host.dt))[0] for i in range(rows)] or [np.zeros(6)])
    heading = first[:rows, 2]
    target[..., :2] = rotate(target[..., :2], -heading) * valid[..., None]
    target[..., 2] -= heading[:, None]
    start[:, :2] = rotate(start[:, :2], -heading)
    start[:, 2] = wrap(np, start[:, 2] - heading)
    problem = Problem(vehicle, limits, float(host.dt), target, weight, start, np.asarray(weights.controls))
    return _Frames(origin, heading), problem, valid.any(1)


def _gather(answers: list[Any], problem: Problem) -> tuple[np.ndarray, ...]:
    steps, S, C = problem.target.shape[1], len(problem.vehicle.STATES), len(problem.vehicle.CONTROLS)
    if not answers:
        empty = [np.zeros((0, steps + 1, S)), np.zeros((0, steps, C)), np.zeros((0, steps, len(problem.limits)))]
        return (*empty, np.zeros(0, dtype=int), np.zeros(0, dtype=int))
    names = ("states", "controls", "multipliers", "iterations", "status")
    return tuple(np.concatenate([getattr(a, name) for a in answers]) for name in names)


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


def _relaxed(problem: Problem, states: np.ndarray, controls: np.ndarray) -> str:
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
