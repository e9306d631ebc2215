"""`project_vjp`: the projection, and what a change of its input or its limits would change in its output.

One implicit derivative at the solution, not through the iterations: see `solvers/_riccati_adjoint`. It is exact where
the active limits would stay active under a small change, which is almost everywhere; at a limit that is just about to
bind, the projection has a kink, and the derivative is that of one side or, within the barrier parameter, between them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from feasible._frame import rotate
from feasible._problem import HEAVIEST, SMOOTHING, Weights
from feasible._project import Projection, Solved, finish, solve
from feasible._status import Status
from feasible._trajectory import Trajectory


@dataclasses.dataclass(frozen=True, eq=False)
class Cotangents:
    """Of what a projection depends on; NumPy float64, with the batch axes `...` of the input.

    Attributes:
        trajectory: `(..., T, 4)` of the samples' x, y, yaw, speed; 0 where the trajectory does not state them.
        initial_state: `(..., 6)`; 0 where it is free.
        weight: `(..., T, 4)` of the weights of the squared errors in x, y, yaw, speed, each times its sample's.
        sample_weight: `(..., T)`; 0 where a sample is missing.
        controls: `(..., 2)` of the weights of the squared controls.
        lower: per limit `(...)`; 0 where there is no such bound. upper: likewise.
        vehicle: per parameter `(...)`; empty unless asked for.
        exact: `(...)` bool: whether the row is at a solution. Elsewhere (relaxed, fallback, rejected, or a kink with
            an infinite derivative) all of the above is 0.
    """

    trajectory: np.ndarray
    initial_state: np.ndarray
    weight: np.ndarray
    sample_weight: np.ndarray
    controls: np.ndarray
    lower: dict[str, np.ndarray]
    upper: dict[str, np.ndarray]
    vehicle: dict[str, np.ndarray]
    exact: np.ndarray


def project_vjp(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    initial_state: Any = None,
    weights: Weights | None = None,
    sample_weight: Any = None,
    backend: Any = "riccati",
    progress: bool = False,
) -> tuple[Projection, Callable[..., Cotangents]]:
    """`project`, and the function that pulls cotangents of its output back to its input.

    Args:
        trajectory: `(..., T)`; all arguments as for `project`, and any backend.
        vehicle: see there.
        limits: see there.
        initial_state: see there.
        weights: see there.
        sample_weight: see there.
        backend: see there; the derivative is `riccati`'s whatever it is.
        progress: see there.

    Returns:
        The projection, and `pull(by_samples, by_states=None, by_controls=None, smoothing=1e-10, vehicle=False)` for
        cotangents `(..., T, 4)` of the projected samples' x, y, yaw, speed, `(..., T + 1, 6)` of `states` and
        `(..., T, 2)` of `controls`. `smoothing` is the barrier parameter [m²] of the derivative: at 1e-10 that of the
        projection itself, above that of a relative whose limits give way gently. `vehicle` asks for its parameters.

    Raises:
        ValueError: as `project`; of `pull`, for a smoothing that is not positive.
    """
    weights = weights or Weights()
    solved = solve(trajectory, vehicle, limits, initial_state, weights, sample_weight, backend, progress)
    projection = finish(solved)

    def pull(
        by_samples: Any,
        by_states: Any = None,
        by_controls: Any = None,
        *,
        smoothing: float = SMOOTHING,
        vehicle: bool = False,
    ) -> Cotangents:
        return _pull(solved, weights, projection.status, by_samples, by_states, by_controls, smoothing, vehicle)

    return projection, pull


def _pull(
    solved: Solved,
    weights: Weights,
    status: np.ndarray,
    by_samples: Any,
    by_states: Any,
    by_controls: Any,
    smoothing: float,
    vehicle: bool,
) -> Cotangents:
    from feasible.solvers._riccati_vjp import pull_back

    problem, answer, frames = solved.problem, solved.answer, solved.frames
    v_states, v_controls = np.zeros_like(answer.states), np.zeros_like(answer.controls)
    if by_samples is not None:
        v_states[:, 1:, :4] += np.asarray(by_samples, dtype=float).reshape(v_states[:, 1:, :4].shape)
    if by_states is not None:
        v_states += np.asarray(by_states, dtype=float).reshape(v_states.shape)
    if by_controls is not None:
        v_controls += np.asarray(by_controls, dtype=float).reshape(v_controls.shape)
    v_states[..., :2] = rotate(v_states[..., :2], -frames.heading)

    good = np.flatnonzero(status.reshape(-1) <= Status.PROJECTED)
    found = pull_back(
        problem.select(good),
        answer.states[good],
        answer.controls[good],
        answer.multipliers[good],
        v_states[good],
        v_controls[good],
        smoothing=smoothing,
        vehicle=vehicle,
    )

    def spread(part: np.ndarray) -> np.ndarray:
        """From the good rows to all, 0 elsewhere, with the batch axes."""
        full = np.zeros((len(status.reshape(-1)), *part.shape[1:]), dtype=part.dtype)
        full[good] = part
        return full.reshape((*solved.batch, *part.shape[1:]))

    heading = frames.heading[good]
    target, initial = found.target.copy(), found.initial_state.copy()
    target[..., :2] = rotate(target[..., :2], heading)
    weight = problem.weight[good]  # of a sample it is the product of two, and constant beyond the heaviest
    counts = (weight > 0) & (weight[..., :1] < HEAVIEST * weights.position)
    by_weight = (found.weight * weights.of_sample * counts).sum(-1)
    initial[:, :2] = rotate(initial[:, None, :2], heading)[:, 0]
    each = {name: {k: spread(v) for k, v in getattr(found, name).items()} for name in ("lower", "upper", "vehicle")}
    return Cotangents(
        trajectory=spread(target),
        initial_state=spread(initial),
        weight=spread(found.weight),
        sample_weight=spread(by_weight),
        controls=spread(found.effort),
        **each,
        exact=spread(found.solved),
    )
