"""What functions and modules of `feasible.torch` share: tensors as trajectories, and what operators make of them."""

from __future__ import annotations

from typing import Any

import torch

from feasible import _projection_loss, _torch_ops
from feasible._arrays import namespace
from feasible._limits import check_limits
from feasible._problem import SMOOTHING, Weights, check_smoothing
from feasible._trajectory import COLUMNS, Trajectory, check_dt

WEIGHTS = Weights()  # made here, because its checks cannot be traced


def distance(
    trajectory: Any,
    place: int,
    weights: Weights,
    dt: float | None,
    initial_state: Any,
    sample_weight: Any,
    components: bool,
) -> Any:
    """The projection loss; arguments as for `projection_loss`, with the place of its setup."""
    with full_precision(trajectory):
        t, tensors = _given(trajectory, dt, initial_state, sample_weight)
        target = _torch_ops.project(*(a.detach() for a in tensors), _SHARP, *_rest(t, place))
        value, parts = _projection_loss.squared_distance(namespace(t.x), t, tensors[1], target, weights)
        return (value, parts) if components else value


def projected(
    trajectory: Any,
    place: int,
    weights: Weights,
    dt: float | None,
    initial_state: Any,
    sample_weight: Any,
    smoothing: torch.Tensor,
    components: bool,
) -> Any:
    """The projected samples; arguments as for `project`, with the place of its setup."""
    with full_precision(trajectory):
        t, tensors = _given(trajectory, dt, initial_state, sample_weight)
        target = _torch_ops.Project.apply(*tensors, smoothing, *_rest(t, place))
        stated = [i for i, column in enumerate(COLUMNS) if getattr(t, column) is not None]
        values = torch.stack([target[..., i] for i in stated], dim=-1)
        if not components:
            return values
        return values, _projection_loss.squared_distance(namespace(t.x), t, tensors[1], target.detach(), weights)[1]


def _given(
    trajectory: Any, dt: float | None, initial_state: Any, sample_weight: Any
) -> tuple[Trajectory, tuple[torch.Tensor, ...]]:
    """The trajectory, and the operators' values, weights of samples and initial state."""
    t = trajectory_of(trajectory, dt)
    xp = namespace(t.x)
    values, counts = _projection_loss.stacked(xp, t), _projection_loss.counting(xp, t, sample_weight)
    start = values.new_full((1,), float("nan")) if initial_state is None else initial_state.to(values)
    return t, (values, counts, start.expand(*values.shape[:-2], start.shape[-1]))


def _rest(t: Trajectory, place: int) -> tuple[float, list[bool], int]:
    """What of the operators' arguments is no tensor."""
    return float(t.dt), [c in t.columns for c in COLUMNS], place


def number(smoothing: float) -> torch.Tensor:
    """A barrier parameter as the operators take it."""
    return torch.tensor(check_smoothing(smoothing), dtype=torch.float64)


class Projecting(torch.nn.Module):
    """What modules have in common that project: their setup, which the operators find by its place."""

    def __init__(self, vehicle: Any, limits: Any, dt: float, weights: Weights | None, backend: str) -> None:
        super().__init__()
        check_dt(dt)
        self.dt, self.weights = float(dt), weights or WEIGHTS
        self._setup = vehicle, check_limits(limits), self.weights, backend
        self.place = _torch_ops.setup(*self._setup)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self.place = _torch_ops.setup(*self._setup)  # that of another process says nothing here

    def extra_repr(self) -> str:
        """The options, for `print(model)`."""
        _, limits, _, backend = self._setup
        return f"{', '.join(limit.name for limit in limits)}; dt={self.dt}, backend={backend}"


_SHARP = number(SMOOTHING)


def trajectory_of(trajectory: Any, dt: float | None) -> Trajectory:
    """The trajectory of a tensor `(..., T, 2 | 3 | 4)`, or the given one, in float32 at least."""
    if isinstance(trajectory, Trajectory):
        t = trajectory
        yaw, speed = (None if c is None else _wide(c) for c in (t.yaw, t.speed))
        return Trajectory(_wide(t.x), _wide(t.y), yaw, speed, t.dt, t.valid)
    if not isinstance(trajectory, torch.Tensor):
        raise ValueError(f"trajectory: expected a tensor or a Trajectory of tensors, got {type(trajectory).__name__}")
    if dt is None:
        raise ValueError("dt: expected a positive number of seconds beside a tensor, got None")
    size = trajectory.shape[-1] if trajectory.ndim else 0
    if size not in (2, 3, 4):
        raise ValueError(f"trajectory: expected shape (..., T, 2 | 3 | 4), got {tuple(trajectory.shape)}")
    return Trajectory.from_array(_wide(trajectory), dt=dt, columns=COLUMNS[:size])


def _wide(a: torch.Tensor) -> torch.Tensor:
    return a.float() if a.dtype in (torch.float16, torch.bfloat16) else a


def full_precision(trajectory: Any) -> Any:
    """Autocast off, on the device of the tensors: third differences mean nothing in bfloat16."""
    first = trajectory.x if isinstance(trajectory, Trajectory) else trajectory
    return torch.autocast(first.device.type if isinstance(first, torch.Tensor) else "cpu", enabled=False)
