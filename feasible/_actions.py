"""`decode` and `encode`: trajectories as controls, the action space of a model that cannot leave its control limits.

A network's output u of any size becomes a control within its bounds [l, h] by a smooth, monotone squashing that leaves
controls in the middle of the range as they are (slope one there):

    two bounds   c + r tanh((u - c) / r),  c = (l + h) / 2,  r = (h - l) / 2
    upper only   h - softplus(h - u)       lower only   l + softplus(u - l)       none   u

and the vehicle's model, started at the initial state, drives it. So whatever the network says, the trajectory obeys
the model, starts where the car is, and keeps every limit that bounds a control itself. A limit that also reads the
state (steering rate, friction) is not kept by construction. Where a bound on the control suffices for it, add that:
κ̇ within ± max_steering_rate / wheelbase keeps the steering rate L κ̇ / (1 + L² κ²) of the kinematic bicycle at every κ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from feasible._arrays import Array, Namespace, namespace
from feasible._limits import check_limits
from feasible._motion import Motion
from feasible._problem import Weights
from feasible._project import project
from feasible._rollout import clip_controls, is_control, rollout
from feasible._trajectory import Trajectory

_INSIDE = (
    1e-6  # of the range: a control at its bound is decoded from one this far inside, as tanh reaches 1 at infinity
)


class Actions(NamedTuple):
    """What `encode` found; NumPy float64.

    Attributes:
        controls: `(..., T, C)`, within the bounds of the limits that bound a control.
        initial_state: `(..., S)`, one step before the first sample.
        status: `(...)` of the projection, members of `Status`.
    """

    controls: np.ndarray
    initial_state: np.ndarray
    status: np.ndarray


def decode(
    controls: Array, initial_state: Array, vehicle: Any, limits: Any, *, dt: float, squash: bool = True
) -> tuple[Trajectory, Motion]:
    """Bounds controls smoothly and drives them; differentiable and native in NumPy, JAX and PyTorch.

    Args:
        controls: `(..., T, C)`, unbounded outputs of a network, in the controls' own units (for the bicycle jerk
            [m/s³] and curvature rate [1/(m s)]); scale them to what is usual, such as 1 and 0.01.
        initial_state: `(..., S)`; for the bicycle x, y, yaw, speed, acceleration, curvature.
        vehicle: the model.
        limits: a tuple of `Limit`; those whose signal is a control are kept.
        dt: step [s].
        squash: False to clip instead, for controls that are within their bounds, such as those of `encode`.

    Returns:
        The trajectory, with yaw and speed, and the exact motion at its samples.

    Raises:
        ValueError: for shapes that do not fit the model, or a dt that is not positive.
    """
    limits = check_limits(limits)
    if not squash:
        return rollout(controls, vehicle, limits, initial_state=initial_state, dt=dt)
    xp = namespace(controls)
    bounds = control_bounds(vehicle, limits)
    if controls.shape[-1] == len(bounds):
        columns = [_squash(xp, controls[..., i], *bound) for i, bound in enumerate(bounds)]
        controls = xp.stack(columns, axis=-1)
    return rollout(controls, vehicle, initial_state=initial_state, dt=dt)


def encode(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    initial_state: Any = None,
    weights: Weights | None = None,
    sample_weight: Any = None,
    backend: Any = "riccati",
    squash: bool = False,
) -> Actions:
    """Controls of the nearest feasible trajectory, by the projector, on the host: clean targets for an action model.

    `decode(actions.controls, actions.initial_state, vehicle, limits, dt=trajectory.dt, squash=False)` is the
    projected trajectory.

    Args:
        trajectory: `(..., T)`, any array namespace; it may be noisy, incomplete, or infeasible.
        vehicle: the model.
        limits: a tuple of `Limit`.
        initial_state: see `project`; estimated where it is not given.
        weights: of the projector's objective.
        sample_weight: `(..., T)`, see `project`.
        backend: of the projector.
        squash: return what `decode` squashes to the controls, instead of the controls.

    Raises:
        ValueError: for shapes that do not fit, or limits that are none.
    """
    options = {"weights": weights, "sample_weight": sample_weight, "backend": backend}
    result = project(trajectory, vehicle, limits, initial_state=initial_state, **options)
    controls = clip_controls(result.controls, vehicle, check_limits(limits))  # the solver stops at 5e-4 over
    if squash:
        bounds = control_bounds(vehicle, check_limits(limits))
        controls = np.stack([_unsquash(controls[..., i], *bound) for i, bound in enumerate(bounds)], axis=-1)
    return Actions(controls, result.states[..., 0, :], result.status)


def control_bounds(vehicle: Any, limits: tuple[Any, ...]) -> list[tuple[float | None, float | None]]:
    """Of each control of the vehicle the tightest lower and upper bound, None where no limit bounds it itself."""
    bounds = []
    for i, name in enumerate(vehicle.CONTROLS):
        mine = [m for m in limits if m.reads == {name} and is_control(m, vehicle, i)]
        lower = [float(m.lower) for m in mine if m.lower is not None]
        upper = [float(m.upper) for m in mine if m.upper is not None]
        bounds.append((max(lower, default=None), min(upper, default=None)))
    return bounds


def _squash(xp: Namespace, u: Array, lower: float | None, upper: float | None) -> Array:
    if lower is not None and upper is not None:
        middle, reach = (lower + upper) / 2, (upper - lower) / 2
        return middle + reach * xp.tanh((u - middle) / reach) if reach > 0 else middle + 0.0 * u
    if upper is not None:
        return upper - _softplus(xp, upper - u)
    return u if lower is None else lower + _softplus(xp, u - lower)


def _unsquash(u: np.ndarray, lower: float | None, upper: float | None) -> np.ndarray:
    if lower is not None and upper is not None:
        middle, reach = (lower + upper) / 2, (upper - lower) / 2
        if reach == 0:
            return u
        return middle + reach * np.arctanh(np.clip((u - middle) / reach, _INSIDE - 1, 1 - _INSIDE))
    if upper is not None:
        return upper - _inverse_softplus(upper - u)
    return u if lower is None else lower + _inverse_softplus(u - lower)


def _softplus(xp: Namespace, a: Array) -> Array:
    """log(1 + exp(a)), without overflow."""
    return xp.where(a > 0, a, 0.0) + xp.log1p(xp.exp(-xp.abs(a)))


def _inverse_softplus(a: np.ndarray) -> np.ndarray:
    a = np.maximum(a, _INSIDE)
    return a + np.log(-np.expm1(-a))
