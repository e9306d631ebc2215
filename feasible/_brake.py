"""The fallback: closed-form jerk-limited braking along the current curvature.

On the grid of time steps, first the acceleration is brought to 0 with one jerk, then the remaining speed v is
removed by a trapezoid of deceleration: m steps in, m steps out, n steps from the start of one to the start of the
other. Its area gives the jerk in closed form,

    j = v / (m n h²),     deepest deceleration j m h = v / (n h),

so n = ceil(v / (d h)) and m = ceil(v / (j_max n h²)) keep both bounds and end with speed and acceleration 0 on a
sample. Curvature stays as it is, so lateral acceleration and yaw rate only fall. From the pairs (d, j_max) below,
strongest first, the first that keeps every limit is taken; where none does, the one that exceeds them least.
"""

from __future__ import annotations

import math

import numpy as np

from feasible._problem import Problem

# Deceleration [m/s²] and jerk [m/s³], from an emergency stop to the gentlest that still stops from city speed in 6 s
_STRENGTHS = (
    (8.0, 30.0),
    (6.0, 15.0),
    (5.0, 8.0),
    (4.0, 4.0),
    (3.0, 4.0),
    (3.0, 2.0),
    (2.0, 2.0),
    (1.5, 1.0),
    (1.0, 0.5),
)


def brake_jerks(
    speed: float, acceleration: float, steps: int, dt: float, deceleration: float, jerk: float
) -> np.ndarray:
    """`(steps,)` jerks [m/s³] that bring speed [m/s] and acceleration [m/s²] to 0, cut off at the horizon."""
    jerks: list[float] = []
    settle = math.ceil(abs(acceleration) / (jerk * dt) - 1e-9)
    if settle:
        settle = min(settle, steps)
        jerks += [-acceleration / (settle * dt)] * settle
        speed += acceleration * settle * dt / 2
    hold = max(1, math.ceil(min(abs(speed) / (deceleration * dt), 1e6)))
    ramp = max(1, math.ceil(abs(speed) / (jerk * hold * dt * dt)))
    if ramp > hold:  # too slow for a plateau: a triangle
        hold = ramp = max(1, math.ceil(math.sqrt(abs(speed) / jerk) / dt))
    j = -speed / (ramp * hold * dt * dt)
    profile = np.zeros(steps)
    profile[: len(jerks)] = jerks
    begin = len(jerks)
    profile[begin : begin + ramp] += j
    profile[begin + hold : begin + hold + ramp] -= j
    return profile


def brake(problem: Problem, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States `(T + 1, 6)` and controls `(T, 2)` of the fallback from one row's state `(6,)`, all finite."""
    steps, best = problem.target.shape[-2], None
    for deceleration, jerk in _STRENGTHS:
        controls = np.zeros((steps, 2))
        controls[:, 0] = brake_jerks(state[3], state[4], steps, problem.dt, deceleration, jerk)
        states = problem.vehicle.rollout(state, controls, problem.dt)
        excess = float(problem.excess(states, controls).max())
        if best is None or excess < best[0]:
            best = (excess, states, controls)
        if excess <= 0:
            break
    assert best is not None
    return best[1], best[2]
