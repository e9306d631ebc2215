"""Signals: plain functions `(motion, vehicle) -> (..., T)` that a `Limit` bounds.

A limit whose bound depends on the state or on the vehicle is written as a normalised signal with upper bound 1
("share used"), so that bounds stay numbers. Write your own beside these: use the fields of `motion`, functions of
`motion.xp`, and attributes of `vehicle`; it then runs in NumPy, JAX and PyTorch, and the projector differentiates it.
Bound a length (`abs`, `sqrt`, `hypot`) or an angle (`atan`) as it is: the solver takes its square, or its tangent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from feasible._arrays import Array
from feasible._motion import Motion

Signal = Callable[[Motion, Any], Array]
STANDARD_GRAVITY = 9.80665  # m/s², CGPM 1901


def speed(motion: Motion, vehicle: Any) -> Array:
    """Signed speed v [m/s]."""
    return motion.speed


def acceleration(motion: Motion, vehicle: Any) -> Array:
    """Longitudinal acceleration a [m/s²]."""
    return motion.acceleration


def jerk(motion: Motion, vehicle: Any) -> Array:
    """Longitudinal jerk [m/s³]."""
    return motion.jerk


def curvature(motion: Motion, vehicle: Any) -> Array:
    """Curvature κ [1/m]."""
    return motion.curvature


def curvature_rate(motion: Motion, vehicle: Any) -> Array:
    """Rate of curvature in time [1/(m s)]."""
    return motion.curvature_rate


def yaw_rate(motion: Motion, vehicle: Any) -> Array:
    """Yaw rate v κ [rad/s]."""
    return motion.yaw_rate


def yaw_acceleration(motion: Motion, vehicle: Any) -> Array:
    """Yaw acceleration a κ + v κ̇ [rad/s²]."""
    return motion.yaw_acceleration


def lateral_acceleration(motion: Motion, vehicle: Any) -> Array:
    """v² κ [m/s²]."""
    return motion.lateral_acceleration


def lateral_jerk(motion: Motion, vehicle: Any) -> Array:
    """2 v a κ + v² κ̇ [m/s³]."""
    return motion.lateral_jerk


def total_acceleration(motion: Motion, vehicle: Any) -> Array:
    """hypot(a, v² κ) [m/s²]: the friction circle's radius."""
    return motion.total_acceleration


def jerk_magnitude(motion: Motion, vehicle: Any) -> Array:
    """hypot(jerk, lateral jerk) [m/s³], an upper bound of nuPlan's |d|acceleration|/dt|."""
    return motion.jerk_magnitude


def steering_angle(motion: Motion, vehicle: Any) -> Array:
    """atan(L κ) [rad]."""
    return motion.steering_angle(vehicle.wheelbase)


def steering_rate(motion: Motion, vehicle: Any) -> Array:
    """L κ̇ / (1 + L² κ²) [rad/s]."""
    return motion.steering_rate(vehicle.wheelbase)


def steering_angle_share(motion: Motion, vehicle: Any) -> Array:
    """Steering angle over the vehicle's largest [1]."""
    return steering_angle(motion, vehicle) / vehicle.max_steering_angle


def steering_rate_share(motion: Motion, vehicle: Any) -> Array:
    """Steering rate over the vehicle's largest [1]."""
    return steering_rate(motion, vehicle) / vehicle.max_steering_rate


@functools.cache  # one function per number: a new one would be a new static leaf, and a new compilation
def friction_share(friction_acceleration: float) -> Signal:
    """A signal: total acceleration over the largest that friction gives, `friction_acceleration` [m/s²]."""
    return functools.partial(_friction_share, friction_acceleration=friction_acceleration)


def _friction_share(motion: Motion, vehicle: Any, *, friction_acceleration: float) -> Array:
    return motion.total_acceleration / friction_acceleration


def speed_range_share(motion: Motion, vehicle: Any) -> Array:
    """Place of v in the vehicle's speed range [1]: -1 at its fastest reverse, 1 at its fastest forward, affine."""
    reach = (vehicle.max_speed + abs(vehicle.min_speed)) / 2  # half the range: fastest reverse is 0 or negative
    return (motion.speed - (vehicle.max_speed - reach)) / reach


def drive_power_share(motion: Motion, vehicle: Any) -> Array:
    """Drive power a v over the vehicle's largest, both per mass [1]; 0 in reverse, negative when braking.

    At most 1 is a ≤ max_acceleration · switching_speed / v, written without a division by v: smooth, 0 at
    standstill, and 0 throughout for a vehicle whose switching speed is infinite.
    """
    forward = motion.xp.where(motion.speed > 0, motion.speed, 0.0)
    return motion.acceleration * forward / (vehicle.max_acceleration * vehicle.switching_speed)


@functools.cache  # one function per set of numbers: a new one would be a new static leaf, and a new compilation
def share_by_speed(
    signal: Signal, slow: float, fast: float, slow_speed: float = 5.0, fast_speed: float = 20.0
) -> Signal:
    """A signal: another one over a bound that depends on |v|, so that a share of 1 is the bound.

    Args:
        signal: what is bounded.
        slow: its bound up to `slow_speed`, in the signal's unit; negative for a lower bound.
        fast: its bound from `fast_speed` on; linear in |v| between, of the sign of `slow`.
        slow_speed: where the bound begins to change [m/s].
        fast_speed: where it ends to change [m/s].

    Raises:
        ValueError: if the bound is 0 somewhere or the speeds do not increase.
    """
    if not slow * fast > 0 or not 0 <= slow_speed < fast_speed:
        raise ValueError(
            "share_by_speed: expected bounds of one sign and 0 <= slow_speed < fast_speed, "
            f"got {slow}, {fast} at {slow_speed}, {fast_speed}"
        )
    return functools.partial(
        _share_by_speed, signal=signal, slow=slow, fast=fast, slow_speed=slow_speed, fast_speed=fast_speed
    )


def _share_by_speed(
    motion: Motion, vehicle: Any, *, signal: Signal, slow: float, fast: float, slow_speed: float, fast_speed: float
) -> Array:
    xp = motion.xp
    place = (xp.abs(motion.speed) - slow_speed) / (fast_speed - slow_speed)
    place = xp.where(place < 0, 0.0, xp.where(place > 1, 1.0, place))
    return signal(motion, vehicle) / (slow + (fast - slow) * place)
