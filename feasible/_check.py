"""The independent check: integrates the model in continuous time and measures every limit every millisecond.

It shares no code with the solvers or with the model's own step: classic Runge-Kutta of fourth order on
`vehicle.derivative`, from each stored state over the step that follows it. Between the milliseconds it also looks
where the wheels pass straight ahead, for there the steering rate c L / (1 + κ² L²) has a peak, and a narrow one where
the rate is absurd. What it shares is the meaning of a limit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from feasible._limits import Limit, check_limits

_ROWS_AT_ONCE = 512  # keeps the working set of a long horizon near 10 MB


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate:
    """What the check measured for N motions.

    Attributes:
        margin: per limit `(...)`: largest signed normalised excess in continuous time; negative where there is room.
        violation: `(...)`: the largest of them, at least 0; NaN only if states or controls are not finite.
        dynamics_residual: `(...)`: largest distance between a stored state and the integrated one, over all
            components [m, rad, m/s, ...].
    """

    margin: Mapping[str, np.ndarray]
    violation: np.ndarray
    dynamics_residual: np.ndarray


def certify(
    states: np.ndarray, controls: np.ndarray, dt: float, vehicle: Any, limits: tuple[Limit, ...], *, tick: float = 1e-3
) -> Certificate:
    """Checks motions given by states `(..., T + 1, S)` and controls `(..., T, C)`.

    Args:
        states: at the ends of the steps, NumPy float64.
        controls: constant over each step.
        dt: step [s].
        vehicle: its `derivative` is integrated, its `motion_of` names the signals' inputs.
        limits: what to measure.
        tick: time between measurements [s].
    """
    limits = check_limits(limits)
    batch = states.shape[:-2]
    flat_x, flat_u = states.reshape(-1, *states.shape[-2:]), controls.reshape(-1, *controls.shape[-2:])
    ticks = max(1, math.ceil(dt / tick - 1e-9))
    parts = [
        _certify(flat_x[i : i + _ROWS_AT_ONCE], flat_u[i : i + _ROWS_AT_ONCE], dt, ticks, vehicle, limits)
        for i in range(0, len(flat_x), _ROWS_AT_ONCE)
    ] or [_certify(flat_x, flat_u, dt, ticks, vehicle, limits)]
    margin = {m.name: np.concatenate([p.margin[m.name] for p in parts]).reshape(batch) for m in limits}
    violation = np.concatenate([p.violation for p in parts]).reshape(batch)
    return Certificate(margin, violation, np.concatenate([p.dynamics_residual for p in parts]).reshape(batch))


def _certify(
    states: np.ndarray, controls: np.ndarray, dt: float, ticks: int, vehicle: Any, limits: tuple[Limit, ...]
) -> Certificate:
    h, x = dt / ticks, states[:, :-1]
    margin = {m.name: np.full(len(states), -np.inf) for m in limits}

    def measure(x: np.ndarray) -> None:
        motion = vehicle.motion_of(x, controls)
        for m in limits:
            margin[m.name] = np.maximum(
                margin[m.name], np.broadcast_to(m.margin(motion, vehicle), x.shape[:-1]).max(-1)
            )

    def after(x: np.ndarray, h: Any) -> np.ndarray:
        k1 = vehicle.derivative(x, controls)
        k2 = vehicle.derivative(x + h / 2 * k1, controls)
        k3 = vehicle.derivative(x + h / 2 * k2, controls)
        k4 = vehicle.derivative(x + h * k3, controls)
        end: np.ndarray = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return end

    with np.errstate(over="ignore", invalid="ignore"):
        measure(x)
        for _ in range(ticks):
            x = after(x, h)
            measure(x)
        if "curvature" in vehicle.STATES:
            i = vehicle.STATES.index("curvature")
            before, change = states[:, :-1, i], states[:, :-1, i] - x[..., i]  # linear in time
            share = np.clip(before / np.where(change == 0.0, 1.0, change), 0.0, 1.0)
            measure(after(states[:, :-1], dt * share[..., None]))
        residual = np.abs(x - states[:, 1:]).max((-2, -1))
        violation = np.maximum(np.max([margin[m.name] for m in limits], axis=0), 0.0)
    finite = np.isfinite(states).all((-2, -1)) & np.isfinite(controls).all((-2, -1))
    return Certificate(margin, np.where(finite, violation, np.nan), np.where(finite, residual, np.nan))
