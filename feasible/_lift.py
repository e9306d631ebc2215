"""The start of the solvers: a smoothed lift of sampled positions to states.

A penalised least-squares fit (Whittaker, 1923: samples plus squared third differences) smooths and fills gaps;
speed and heading are read from it. Where it hardly moves the course means nothing: heading is then carried over
from the nearest moving sample, and speed is the component along it, so that jitter at standstill does not spin.

Where the states break limits, they follow samples that the car cannot, and a long valley lies between them and the
answer. There a smoother lift is the better start.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solveh_banded

STIFFNESS = 0.02  # s⁶: periods below about 3 s are smoothed away, ω⁶ STIFFNESS = 1 at 1.9 rad/s
SMOOTHER = 0.5  # s⁶, likewise, of rows whose states break limits: periods below about 6 s
BROKEN = 5e-4  # normalised excess that counts as that
CREEP = 1.0  # m/s; below, the course of a smoothed path is carried over instead of believed


def smooth(values: np.ndarray, weight: np.ndarray, dt: float, stiffness: float = STIFFNESS) -> np.ndarray:
    """`(N, T, D)`: the smoothed samples, where `weight` `(N, T)` is 0 for a sample that is missing."""
    steps, columns = values.shape[1:]
    third = np.array([-1.0, 3.0, -3.0, 1.0]) / dt**3
    penalty = np.zeros((4, steps))  # upper form of stiffness · DᵀD
    for k in range(steps - 3):
        for i in range(4):
            for j in range(i, 4):
                penalty[3 - (j - i), k + j] += stiffness * third[i] * third[j]
    out = np.empty_like(values)
    patterns, member = weight[:1], np.zeros(len(weight), dtype=int)  # mostly one: one factorisation for all rows
    if (weight != patterns).any():
        patterns, member = np.unique(weight, axis=0, return_inverse=True)
    for p, pattern in enumerate(patterns):
        rows = np.flatnonzero(member.reshape(-1) == p)
        band = penalty.copy()
        band[3] += pattern + 1e-9
        sides = np.moveaxis((pattern + 1e-9)[:, None] * values[rows], 1, 0).reshape(steps, -1)
        out[rows] = np.moveaxis(solveh_banded(band, sides).reshape(steps, len(rows), columns), 0, 1)
    return out


def lift(
    target: np.ndarray, weight: np.ndarray, initial_state: np.ndarray, dt: float, stiffness: float = STIFFNESS
) -> np.ndarray:
    """States `(..., T + 1, 6)` of the kinematic bicycle near targets; not dynamically consistent.

    Args:
        target: `(..., T, 4)` x, y, yaw, speed.
        weight: `(..., T, 4)`; 0 where nothing is stated.
        initial_state: `(..., 6)`, NaN where free; known components are believed in the first state.
        dt: step [s].
        stiffness: of the smoother [s⁶].
    """
    batch, steps = target.shape[:-2], target.shape[-2]
    target, weight = target.reshape(-1, steps, 4), weight.reshape(-1, steps, 4)
    initial = initial_state.reshape(-1, initial_state.shape[-1])
    known = np.isfinite(initial)
    points = np.zeros((len(target), steps + 1, 2))
    mass = np.zeros((len(target), steps + 1))
    points[:, 1:], mass[:, 1:] = target[..., :2], weight[..., 0] > 0
    placed = known[:, :2].all(1)
    points[placed, 0], mass[placed, 0] = initial[placed, :2], 10.0
    path = smooth(points, mass, dt, stiffness)
    velocity = np.gradient(path, dt, axis=1)

    yaw = _headings(path, velocity, np.where(known[:, 2], initial[:, 2], np.nan))
    index = np.arange(steps + 1)
    for i in np.flatnonzero((weight[..., 2] > 0).any(1)):
        at = np.flatnonzero(weight[i, :, 2] > 0)
        yaw[i] = np.interp(index, at + 1, np.unwrap(target[i, at, 2]))
    speed = velocity[..., 0] * np.cos(yaw) + velocity[..., 1] * np.sin(yaw)
    for i in np.flatnonzero((weight[..., 3] > 0).any(1)):
        at = np.flatnonzero(weight[i, :, 3] > 0)
        speed[i] = np.interp(index, at + 1, target[i, at, 3])
    acceleration = np.gradient(speed, dt, axis=1)
    curvature = np.gradient(np.unwrap(yaw, axis=1), dt, axis=1) * speed / (speed**2 + CREEP**2)
    states = np.stack([path[..., 0], path[..., 1], yaw, speed, acceleration, curvature], axis=-1)
    states[:, 0] = np.where(known, initial, states[:, 0])
    states[:, 1:, 2] += 2 * np.pi * np.round((states[:, :1, 2] - states[:, 1:2, 2]) / (2 * np.pi))
    return states.reshape(*batch, steps + 1, states.shape[-1])


def _headings(path: np.ndarray, velocity: np.ndarray, given: np.ndarray) -> np.ndarray:
    """`(N, T)` from the course where a path moves, carried over where it does not; continuous, forwards or backwards.

    Args:
        path: `(N, T, 2)`.
        velocity: `(N, T, 2)`.
        given: `(N,)` heading at the start, NaN where it is not known.
    """
    course = np.arctan2(velocity[..., 1], velocity[..., 0])
    moves = np.hypot(velocity[..., 0], velocity[..., 1]) > CREEP
    whole = path[:, -1] - path[:, 0]
    still = np.where(np.hypot(*whole.T) > 0.1, np.arctan2(whole[:, 1], whole[:, 0]), 0.0)
    first = np.take_along_axis(course, moves.argmax(1)[:, None], axis=1)[:, 0]
    seed = np.where(np.isfinite(given), given, np.where(moves.any(1), first, still))
    last = np.maximum.accumulate(np.where(moves, np.arange(course.shape[1]), -1), axis=1)
    carried = np.where(last >= 0, np.take_along_axis(course, np.maximum(last, 0), axis=1), seed[:, None])
    # A turn by more than a quarter is driving backwards along the heading: headings are continuous up to half turns.
    return np.unwrap(np.concatenate([seed[:, None], carried], axis=1), axis=1, period=np.pi)[:, 1:]
