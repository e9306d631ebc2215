"""A gymnasium wrapper that adds feasibility to an environment's reward, step by step.

    env = feasible.gym.FeasibilityReward(env, vehicle, limits, dt=0.1, read=lambda observation, info: info["pose"])

After each step the last second that was driven is judged by `feasible.reward`, and its reward, times `weight`, added;
`info["feasibility"]` holds the reward and its parts. What was driven, not what was planned: for plans call `reward`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import gymnasium
except ImportError as error:
    raise ImportError("feasible.gym needs gymnasium: pip install 'feasible[gym]'") from error

from feasible._limits import check_limits
from feasible._loss import reward
from feasible._trajectory import COLUMNS, MIN_STEPS, Trajectory, check_dt


class FeasibilityReward(gymnasium.Wrapper):
    """Adds `weight` times the feasibility reward, in [-1, 0], of the last samples to the reward of each step.

    Args:
        env: the environment.
        vehicle: the vehicle that the signals read.
        limits: a tuple of `Limit`.
        dt: time between steps [s].
        read: from (observation, info) to the car now: x, y, or x, y, yaw, or x, y, yaw, speed.
        weight: of the feasibility in the sum.
        window: how many samples are judged together; the first steps of an episode, with fewer than 4, add nothing.

    Raises:
        ValueError: for limits that are none, a dt that is not positive or a window below 4.
    """

    def __init__(
        self,
        env: Any,
        vehicle: Any,
        limits: Any,
        *,
        dt: float,
        read: Callable[[Any, dict[str, Any]], Any],
        weight: float = 1.0,
        window: int = 10,
    ) -> None:
        super().__init__(env)
        check_dt(dt)
        if window < MIN_STEPS:
            raise ValueError(f"window: expected at least {MIN_STEPS} samples, got {window}")
        self.vehicle, self.limits, self.dt, self.read, self.weight = vehicle, check_limits(limits), dt, read, weight
        self._path: deque[np.ndarray] = deque(maxlen=window)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; what was driven before is forgotten."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._path.clear()
        self._path.append(np.asarray(self.read(observation, info), dtype=float))
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the environment, with feasibility in its reward and its parts in `info`."""
        observation, given, terminated, truncated, info = self.env.step(action)
        value = float(given)
        self._path.append(np.asarray(self.read(observation, info), dtype=float))
        if len(self._path) >= MIN_STEPS:
            path = np.stack(self._path)
            trajectory = Trajectory.from_array(path, dt=self.dt, columns=COLUMNS[: path.shape[-1]])
            added, parts = reward(trajectory, self.vehicle, self.limits)
            value += self.weight * float(added)
            info = {**info, "feasibility": {"reward": float(added), **{k: float(v) for k, v in parts.items()}}}
        return observation, value, terminated, truncated, info
