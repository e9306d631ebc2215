"""`rollout`: drive given controls within limits, and get the trajectory."""

from __future__ import annotations

from typing import Any

from feasible._arrays import Array, namespace
from feasible._limits import check_limits
from feasible._motion import Motion
from feasible._trajectory import Trajectory, check_dt


def rollout(
    controls: Array, vehicle: Any, limits: Any = None, *, initial_state: Array, dt: float
) -> tuple[Trajectory, Motion]:
    """Drives a vehicle from an initial state under piecewise constant controls; exact, and native in its namespace.

    Args:
        controls: `(..., T, C)`; for the bicycle jerk [m/s³] and curvature rate [1/(m s)].
        vehicle: the model.
        limits: limits that bound a control itself (such as `jerk`) clip it; others are not enforced, audit the
            motion for them. None: nothing is clipped.
        initial_state: `(..., S)`; for the bicycle x, y, yaw, speed, acceleration, curvature.
        dt: step [s].

    Returns:
        The trajectory, samples at the ends of the T steps with yaw and speed, and the exact motion there.

    Raises:
        ValueError: for shapes that do not fit the model, or a dt that is not positive.
    """
    check_dt(dt)
    sizes = (len(vehicle.CONTROLS), len(vehicle.STATES))
    for name, array, size in (("controls", controls, sizes[0]), ("initial_state", initial_state, sizes[1])):
        if not hasattr(array, "shape") or array.shape[-1] != size:
            raise ValueError(
                f"{name}: expected an array with a last axis of {size}, got {getattr(array, 'shape', array)}"
            )
    if limits is not None:
        controls = clip_controls(controls, vehicle, check_limits(limits))
    states = vehicle.rollout(initial_state, controls, dt)
    samples = states[..., 1:, :]
    xp = namespace(samples)
    x, y, yaw, speed = (samples[..., i] for i in range(4))
    valid = xp.isfinite(x + y + yaw + speed)
    return Trajectory(x, y, yaw, speed, dt, valid), vehicle.motion(states, controls, dt)


def clip_controls(controls: Array, vehicle: Any, limits: tuple[Any, ...]) -> Array:
    """Controls `(..., C)` clipped to the limits whose signal is a control itself."""
    xp = namespace(controls)
    columns = [controls[..., i] for i in range(len(vehicle.CONTROLS))]
    for i, name in enumerate(vehicle.CONTROLS):
        for limit in limits:
            if limit.reads == {name} and is_control(limit, vehicle, i):
                columns[i] = xp.clip(columns[i], limit.lower, limit.upper)
    return xp.stack(columns, axis=-1)


def is_control(limit: Any, vehicle: Any, control: int) -> bool:
    """Whether the limit's signal is the control, unscaled: probed at two points, on the host."""
    import numpy as np

    unit = np.zeros((2, len(vehicle.CONTROLS)))
    unit[:, control] = (1.0, -2.0)
    value = limit.signal(vehicle.motion_of(np.zeros((2, len(vehicle.STATES))), unit), vehicle)
    return bool(np.array_equal(np.asarray(value), unit[:, control]))
