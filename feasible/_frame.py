"""From trajectories to problems: every row in a frame of its own, and back.

The origin is at the start and x along the initial heading, so a projection does not depend on where on earth or
which way the car drives; rows that are metres or kilometres apart are the same problem.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from feasible._arrays import to_numpy, wrap
from feasible._lift import lift
from feasible._limits import Limit
from feasible._problem import Problem, Weights, sample_counts
from feasible._trajectory import Trajectory, recentre

FARTHEST = 1e6  # m from the first valid sample: farther away is not a trajectory but an error, and masked


@dataclasses.dataclass(frozen=True)
class Frames:
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


def initial_states(initial_state: Any, batch: tuple[int, ...], size: int) -> np.ndarray:
    """`(N, S)`, NaN where free."""
    full = np.full((math.prod(batch), size), np.nan)
    if initial_state is None:
        return full
    given = np.asarray(to_numpy(initial_state), dtype=np.float64)
    if given.ndim < 1 or not 1 <= given.shape[-1] <= size:
        raise ValueError(f"initial_state: expected shape (..., d) with d <= {size}, got {given.shape}")
    if given.shape[:-1] != batch:
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


def localise(
    trajectory: Trajectory,
    vehicle: Any,
    limits: tuple[Limit, ...],
    start: np.ndarray,
    weights: Weights,
    sample_weight: Any = None,
) -> tuple[Frames, Problem, np.ndarray]:
    """The rows in frames of their own, and which of them have anything to stay close to, `(N,)` bool."""
    steps = trajectory.horizon
    factor = sample_counts(sample_weight, np.ones(trajectory.valid.shape))
    trajectory = dataclasses.replace(trajectory, valid=to_numpy(trajectory.valid) & (factor > 0.0))
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
    weight = (valid * factor.reshape(rows, steps))[..., None] * stated * weights.of_sample

    posed = np.isfinite(start[:, 0])
    nothing = posed & ~valid.any(1)
    origin[nothing] = start[nothing, :2]
    start = start.copy()
    start[:, :2] -= origin
    # An initial position that is nowhere near the samples, or an absurd speed, is as good as none.
    absurd = np.abs(np.nan_to_num(start)).max(1) > FARTHEST
    start[absurd] = np.nan

    heading = lift(target, weight, start, float(host.dt))[:, 0, 2] if rows else np.zeros(0)
    target[..., :2] = rotate(target[..., :2], -heading) * valid[..., None]
    target[..., 2] -= heading[:, None]
    start[:, :2] = rotate(start[:, :2], -heading)
    start[:, 2] = wrap(np, start[:, 2] - heading)
    problem = Problem(vehicle, limits, float(host.dt), target, weight, start, np.asarray(weights.controls))
    return Frames(origin, heading), problem, valid.any(1)
