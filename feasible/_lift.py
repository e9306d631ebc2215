"""The start of the solvers: a smoothed lift of sampled positions to states, and the frame they are solved in.

A penalised least-squares fit (Whittaker, 1923: samples plus squared third differences) smooths and fills gaps;
speed and heading are read from it. Where it hardly moves the course means nothing: heading is then carried over
from the nearest moving sample, and speed is the component along it, so that jitter at standstill does not spin.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solveh_banded

from feasible._arrays import wrap

STIFFNESS = 0.02  # s⁶: periods below about 3 s are smoothed away, ω⁶ STIFFNESS = 1 at 1.9 rad/s
_CREEP = 1.0  # m/s; below, the course of a smoothed path is carried over instead of believed


def smooth(values: np.ndarray, weight: np.ndarray, dt: float, stiffness: float = STIFFNESS) -> np.ndarray:
    """`(T, D)`: the smoothed samples, where `weight` `(T,)` is 0 for a sample that is missing."""
    steps = values.shape[0]
    third = np.array([-1.0, 3.0, -3.0, 1.0]) / dt**3
    band = np.zeros((4, steps))  # upper form of W + stiffness · DᵀD
    band[3] = weight + 1e-9
    for k in range(steps - 3):
        for i in range(4):
            for j in range(i, 4):
                band[3 - (j - i), k + j] += stiffness * third[i] * third[j]
    return solveh_banded(band, (weight + 1e-9)[:, None] * values)


def lift(
    target: np.ndarray, weight: np.ndarray, initial_state: np.ndarray, dt: float, stiffness: float = STIFFNESS
) -> np.ndarray:
    """States `(T + 1, 6)` of the kinematic bicycle near one row's targets; not dynamically consistent.

    Args:
        target: `(T, 4)` x, y, yaw, speed.
        weight: `(T, 4)`; 0 where nothing is stated.
        initial_state: `(6,)`, NaN where free; known components are believed in the first state.
        dt: step [s].
        stiffness: of the smoother [s⁶].
    """
    known = np.isfinite(initial_state)
    steps = target.shape[0]
    points = np.zeros((steps + 1, 2))
    mass = np.zeros(steps + 1)
    points[1:], mass[1:] = target[:, :2], weight[:, 0] > 0
    if known[:2].all():
        points[0], mass[0] = initial_state[:2], 10.0
    path = smooth(points, mass, dt, stiffness)
    velocity = np.gradient(path, dt, axis=0)
    pace = np.hypot(*velocity.T)

    stated_yaw = weight[:, 2] > 0
    yaw = np.zeros(steps + 1)
    if stated_yaw.any():
        index = np.arange(steps + 1)
        at = np.flatnonzero(stated_yaw)
        yaw = np.interp(index, at + 1, np.unwrap(target[at, 2]))
    else:
        course = np.arctan2(velocity[:, 1], velocity[:, 0])
        moving = np.flatnonzero(pace > _CREEP)
        if known[2]:
            seed = initial_state[2]
        elif moving.size:
            seed = course[moving[0]]
        else:  # never moving: the direction of the whole displacement, 0 for none
            seed = np.arctan2(*(path[-1] - path[0])[::-1]) if np.hypot(*(path[-1] - path[0])) > 0.1 else 0.0
        believed = seed
        for k in range(steps + 1):
            if pace[k] > _CREEP:
                turn = wrap(np, course[k] - believed)
                if abs(turn) > np.pi / 2:  # driving backwards along the heading
                    turn = wrap(np, turn + np.pi)
                believed = believed + turn
            yaw[k] = believed
    speed = velocity[:, 0] * np.cos(yaw) + velocity[:, 1] * np.sin(yaw)
    if (weight[:, 3] > 0).any():
        at = np.flatnonzero(weight[:, 3] > 0)
        speed = np.interp(np.arange(steps + 1), at + 1, target[at, 3])
    acceleration = np.gradient(speed, dt)
    curvature = np.gradient(np.unwrap(yaw), dt) * speed / (speed**2 + _CREEP**2)
    states = np.column_stack([path, yaw, speed, acceleration, curvature])
    states[0, known] = initial_state[known]
    states[1:, 2] += 2 * np.pi * np.round((states[0, 2] - states[1, 2]) / (2 * np.pi))
    return states
