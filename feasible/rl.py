"""Reward functions in the calling conventions of reinforcement learning: TRL, `(float, dict)`, NAVSIM's booleans.

`feasible.reward` alone rewards standing still: a car that does not move keeps every limit. So the rewards here can be
gated by accuracy, and say in their parts which of the two was missed.

NAVSIM's history comfort, as its `pdm_comfort_metrics.py` computes it (autonomousvision/navsim), is six booleans:

    longitudinal, lateral acceleration   one parabola fitted to the whole horizon
    jerk of |a|, longitudinal jerk       windows of 8, order 2; then the slope of one parabola over the horizon
    yaw rate, yaw acceleration           windows of 5, orders 2 and 3, first and second derivative

each a Savitzky-Golay filter (edges by the polynomial of the outermost window), rounded to 8 decimals, and strictly
within its bounds at every sample. Its blind spots come with it: a swerve in the middle of the horizon is flattened by
the parabola. It is here to compare numbers with that benchmark; `audit` with `presets.navsim_comfort()` is the test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from feasible import presets
from feasible._arrays import to_numpy
from feasible._loss import reward
from feasible._motion import Motion
from feasible._trajectory import Trajectory

_ACCELERATION_WINDOW = 8  # samples, navsim: pdm_comfort_metrics.py, _extract_ego_acceleration
_YAW_WINDOW = 5  # samples, navsim: pdm_comfort_metrics.py, _approximate_derivatives (15 is declared, not passed on)
FLOOR = -1.0  # reward of what is not a trajectory, the lowest that `feasible.reward` gives


def trl_reward(
    vehicle: Any,
    limits: Any,
    *,
    dt: float,
    parse: Callable[[Any], Any],
    columns: Sequence[str] = ("x", "y"),
    **options: Any,
) -> Callable[..., list[float]]:
    """A reward function for TRL's `GRPOTrainer(reward_funcs=...)`.

    TRL calls it with keyword arguments `prompts`, `completions` and the columns of the data set, all lists of one
    entry a completion, logs it by its `__name__`, and expects a list of floats.

    Args:
        vehicle: the vehicle that the signals read.
        limits: a tuple of `Limit`.
        dt: time between samples [s].
        parse: from a completion (a string, or a list of messages) to samples `(T, len(columns))`; what it cannot
            read it answers with None or an exception of kind ValueError, LookupError or TypeError.
        columns: of the samples.
        **options: of `feasible.reward`.

    Returns:
        The function; a completion that cannot be read, or is no trajectory, gets -1.
    """

    def feasibility_reward(completions: Sequence[Any], **_: Any) -> list[float]:
        return [_one(completion) for completion in completions]

    def _one(completion: Any) -> float:
        try:
            values = parse(completion)
            if values is None:
                return FLOOR
            trajectory = Trajectory.from_array(np.asarray(values, dtype=float), dt=dt, columns=columns)
        except (ValueError, LookupError, TypeError):
            return FLOOR
        return float(reward(trajectory, vehicle, limits, **options)[0])

    return feasibility_reward


def gated_reward(
    trajectory: Trajectory,
    truth: Any,
    vehicle: Any,
    limits: Any,
    *,
    gate: float = 2.0,
    **options: Any,
) -> tuple[float, dict[str, float]]:
    """`(float, dict)` for one trajectory: its feasibility, but only where it is accurate.

        1 + feasibility   in [0, 1], if the mean distance to the truth is at most the gate
        - min(mean distance / gate - 1, 1)   in [-1, 0) beyond, and -1 with samples that are not finite

    Args:
        trajectory: `(T,)`.
        truth: `(T, 2)` positions [m] that it is compared with; NaN where there is none.
        vehicle: the vehicle that the signals read.
        limits: a tuple of `Limit`.
        gate: largest mean distance [m] at which feasibility counts.
        **options: of `feasible.reward`.

    Returns:
        The reward, and flat parts for a log: those of `feasible.reward`, `feasibility`, `ade` [m], and `accurate`.

    Raises:
        ValueError: if the trajectory has batch axes, or the truth another shape.
    """
    if trajectory.batch_shape:
        raise ValueError(f"trajectory: expected shape (T,), got batch axes {trajectory.batch_shape}")
    truth = np.asarray(truth, dtype=float)
    if truth.shape != (trajectory.horizon, 2):
        raise ValueError(f"truth: expected shape ({trajectory.horizon}, 2), got {truth.shape}")
    value, parts = reward(trajectory, vehicle, limits, **options)
    error = np.hypot(np.asarray(trajectory.x) - truth[:, 0], np.asarray(trajectory.y) - truth[:, 1])
    known = np.isfinite(error) & np.asarray(trajectory.valid, dtype=bool)
    ade = float(error[known].mean()) if known.any() else float("inf")
    accurate = ade <= gate and float(parts["invalid"]) == 0
    far = 1.0 if float(parts["invalid"]) > 0 else min(ade / gate - 1.0, 1.0)
    total = 1.0 + float(value) if accurate else -far
    log = {name: float(part) for name, part in parts.items()}
    return total, {**log, "feasibility": float(value), "ade": ade, "accurate": float(accurate)}


def navsim_comfort(motion: Motion, dt: float, *, offset: float = 0.0) -> dict[str, np.ndarray]:
    """NAVSIM's six comfort booleans, computed as it does; see the module.

    Args:
        motion: `(..., T)` with T >= 8, such as `Projection.motion` or `Motion.from_trajectory(...)`. NAVSIM itself
            reads the accelerations of its simulated car, not of the plan.
        dt: time between samples [s].
        offset: from the rear axle forward to the point whose acceleration is judged [m].

    Returns:
        `(...)` bool by name, and `comfortable`, whether all six hold.

    Raises:
        ValueError: if there are fewer than 8 samples.
    """
    from scipy.signal import savgol_filter  # only here: it takes a second to import

    ahead, aside, yaw = (
        to_numpy(a).astype(float)
        for a in (
            motion.acceleration - offset * motion.yaw_rate * motion.yaw_rate,
            motion.lateral_acceleration + offset * motion.yaw_acceleration,
            motion.yaw,
        )
    )
    steps = ahead.shape[-1]
    if steps < _ACCELERATION_WINDOW:
        raise ValueError(f"motion: expected at least {_ACCELERATION_WINDOW} samples, got {steps}")

    def smooth(values: np.ndarray, window: int, order: int = 2, rate: int = 0) -> np.ndarray:
        return savgol_filter(values, window, order, deriv=rate, delta=dt, axis=-1).round(8)

    def jerk(acceleration: np.ndarray) -> np.ndarray:
        return smooth(smooth(acceleration, _ACCELERATION_WINDOW), steps, rate=1)

    yaw = np.unwrap(yaw, axis=-1)
    signal = {
        "acceleration": smooth(ahead, steps),
        "lateral_acceleration": smooth(aside, steps),
        "jerk_magnitude": jerk(np.hypot(ahead, aside)),
        "jerk": jerk(ahead),
        "yaw_acceleration": smooth(yaw, _YAW_WINDOW, order=3, rate=2),
        "yaw_rate": smooth(yaw, _YAW_WINDOW, rate=1),
    }
    verdict = {}
    for limit in presets.navsim_comfort():
        value, upper = signal[limit.name], float(limit.upper)
        lower = -upper if limit.lower is None else float(limit.lower)  # the rate of |a| is bounded both ways there
        verdict[limit.name] = ((value > lower) & (value < upper)).all(-1)
    return {**verdict, "comfortable": np.logical_and.reduce(list(verdict.values()))}
