"""The fallback: closed-form jerk-limited braking along the current curvature.

On a grid of steps h, the acceleration goes from a to -D in m steps, stays there for n, and goes to 0 in r steps.
With the signs of a forward drive, speed and acceleration then end at 0 on a sample if

    v + (a - D) m h / 2 - D n h - D r h / 2 = 0,   that is   D = (v + a m h / 2) / (h (m / 2 + n + r / 2)).

For a deceleration d and a jerk j that are not to be exceeded, m = ceil(max(|a + d|, |a|) / (j h)) and
r = ceil(d / (j h)) keep the jerk, and n is the least that keeps D <= d. Where even releasing the brake at that jerk
would overshoot into reverse, D is negative and the car comes back to a stop.

Curvature stays as it is, so lateral acceleration falls with the speed. Where that breaks a limit, because the car
is still speeding up in a bend or has no grip left to brake with, it is unwound to 0 meanwhile. From the pairs (d, j)
and times of unwinding below, gentlest changes of course and strongest braking first, the first that keeps every limit
is taken; where none does, the one that exceeds them least.

`stop` and `jerk` are written for scalars of any array namespace: the inference programs trace them too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from feasible._arrays import Array, Namespace
from feasible._problem import Problem

# Deceleration [m/s²] and jerk [m/s³], from an emergency stop to what a car at the limit of its grip has left
STRENGTHS = (
    (8.0, 40.0),
    (8.0, 25.0),
    (6.0, 15.0),
    (5.0, 8.0),
    (4.0, 8.0),
    (4.0, 4.0),
    (3.0, 4.0),
    (3.0, 2.0),
    (2.0, 4.0),
    (2.0, 2.0),
    (1.5, 1.0),
    (1.0, 0.5),
)
UNWIND = (0.0, 3.0, 1.5, 0.8, 0.4)  # s in which curvature goes to 0; 0 for never


class Stop(NamedTuple):
    """Jerk `onset` [m/s³] for `m` steps, none for `n`, `release` for `r`."""

    onset: Array
    release: Array
    m: Array
    n: Array
    r: Array


def stop(xp: Namespace, speed: Array, acceleration: Array, deceleration: Array, jerk: Array, dt: float) -> Stop:
    """The profile that ends at rest; scalars or arrays that broadcast."""
    sign = xp.where(speed < 0.0, -1.0, 1.0)
    v, a, d = speed * sign, acceleration * sign, deceleration
    reach = xp.maximum(xp.abs(a + d), xp.abs(a))
    overshoot = v + xp.where(a < 0.0, -0.5 * a * a / jerk, 0.0) < 0.0
    reach = xp.where(overshoot, d + xp.abs(a), reach)
    m = xp.maximum(_ceil(xp, reach / (jerk * dt)), 1.0)
    r = xp.maximum(_ceil(xp, d / (jerk * dt)), 1.0)
    left = v + 0.5 * a * m * dt
    n = xp.maximum(_ceil(xp, xp.abs(left) / (d * dt) - 0.5 * (m + r)), 0.0)
    D = left / (dt * (0.5 * (m + r) + n))
    return Stop(sign * (-D - a) / (m * dt), sign * D / (r * dt), m, n, r)


def jerk(xp: Namespace, profile: Stop, k: Array) -> Array:
    """The jerk of step k."""
    onset = xp.where(k < profile.m, profile.onset, 0.0)
    held = profile.m + profile.n
    return onset + xp.where((k >= held) & (k < held + profile.r), profile.release, 0.0)


def unwinding(xp: Namespace, curvature: Array, time: Array, k: Array, dt: float) -> Array:
    """The curvature rate of step k that brings the curvature to 0 in a time; 0 where that is 0."""
    steps = _ceil(xp, time / dt)
    return xp.where(k < steps, -curvature / (xp.maximum(steps, 1.0) * dt), 0.0)


def _ceil(xp: Namespace, value: Array) -> Array:
    return -xp.floor(1e-9 - value)


def brake(problem: Problem, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States `(T + 1, 6)` and controls `(T, 2)` of the fallback from one row's state `(6,)`, all finite."""
    steps = problem.target.shape[-2]
    unwind, pair = (a.reshape(-1, 1) for a in np.meshgrid(UNWIND, np.arange(len(STRENGTHS)), indexing="ij"))
    strength = np.asarray(STRENGTHS)[pair[:, 0]]
    k = np.arange(steps, dtype=float)
    profile = stop(np, state[3], state[4], strength[:, :1], strength[:, 1:], problem.dt)
    controls = np.stack([jerk(np, profile, k), unwinding(np, state[5], unwind, k, problem.dt)], axis=-1)
    states = problem.vehicle.rollout(np.broadcast_to(state, (len(controls), len(state))), controls, problem.dt)
    over = problem.excess(states, controls)
    score = over.max((0, -1)) + over.max(0).mean(-1)
    best = int(np.argmax(score <= 0.0)) if (score <= 0.0).any() else int(np.argmin(score))
    return states[best], controls[best]
