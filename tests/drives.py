"""Drives for tests: smooth random motions of the bicycle, and trajectories with a known answer."""

from __future__ import annotations

import numpy as np

from feasible import KinematicBicycle, Trajectory

COLUMNS = ("x", "y", "yaw", "speed")


def random_controls(rng, steps, dt=0.1, jerk=1.5, curvature_rate=0.01):
    """`(steps, 2)`: a few sines of random frequency below 0.6 Hz, jerk and curvature rate within the given sizes."""
    t = dt * np.arange(steps)
    waves = [np.sin(2 * np.pi * rng.uniform(0.05, 0.6) * t + rng.uniform(0, 6.3)) for _ in range(4)]
    return np.stack([jerk * (waves[0] + waves[1]) / 2, curvature_rate * (waves[2] + waves[3]) / 2], axis=-1)


def random_drive(rng, steps=40, dt=0.1, speed=(6.0, 15.0), vehicle=None, **sizes):
    """Initial state `(6,)`, controls `(steps, 2)` and trajectory of a smooth drive that stays within comfort."""
    vehicle = vehicle or KinematicBicycle()
    state = np.array([*rng.uniform(-50, 50, 2), rng.uniform(-3.1, 3.1), rng.uniform(*speed), 0.0, 0.0])
    controls = random_controls(rng, steps, dt, **sizes)
    states = vehicle.rollout(state, controls, dt)
    return state, controls, Trajectory.from_array(states[1:, :4], dt=dt, columns=COLUMNS)


def turn(speed, curvature, steps=40, dt=0.1, columns=COLUMNS):
    """A steady turn; positive curvature is to the left."""
    t = dt * np.arange(steps)
    angle = speed * curvature * t
    values = np.stack([np.sin(angle) / curvature, (1 - np.cos(angle)) / curvature, angle, speed + 0 * t], axis=-1)
    return Trajectory.from_array(values[:, : len(columns)], dt=dt, columns=columns)


def moved(values, shift, angle, mirror=False):
    """Columns x, y, yaw, speed `(..., 4)` mirrored at the x axis, turned, then shifted."""
    x, y, yaw, speed = np.moveaxis(np.asarray(values, dtype=float), -1, 0)
    if mirror:
        y, yaw = -y, -yaw
    c, s = np.cos(angle), np.sin(angle)
    out = [c * x - s * y + shift[0], s * x + c * y + shift[1], (yaw + angle + np.pi) % (2 * np.pi) - np.pi, speed]
    return np.stack(out, axis=-1)
