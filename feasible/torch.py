"""PyTorch: loss, reward, projection and projection loss on tensors, and the modules for a training step.

    criterion = feasible.torch.FeasibilityLoss(vehicle, limits, dt=0.1)
    objective = distance(prediction, truth) + 1.0 * criterion(prediction).mean()    # prediction (..., T, 2 | 3 | 4)

`loss` and `reward` are torch operations on the tensor's own device: no JAX operation runs, no JAX backend is
initialised, no device memory is taken, and forking is safe. They work under `torch.compile(fullgraph=True)`,
`torch.func.vmap` and `grad`, and compute in float32 at least, whatever the autocast state. They have no parameters, so
`DistributedDataParallel` needs nothing.

`project` and `projection_loss` solve on the host, in float64, and run JAX there from their first use on (the backend
"osqp" does not, but takes one row at a time, and the derivative of `project` is JAX whatever the backend). So set
`JAX_PLATFORMS=cpu` before the first use, and JAX takes no memory of the GPU beside torch (where it has to see one:
`XLA_PYTHON_CLIENT_PREALLOCATE=false` and one visible device a rank), and start data loader workers with "spawn",
because a process that has run JAX must not be forked.

Never run this file as a script: its folder would be on the path, and `import torch` would find it instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("feasible.torch needs PyTorch: pip install 'feasible[torch]'") from error

from feasible import _loss, _projection_loss, _torch_ops, _torch_projection
from feasible._arrays import namespace
from feasible._limits import check_limits
from feasible._problem import SMOOTHING, Weights
from feasible._trajectory import Trajectory, check_dt

__all__ = [
    "FeasibilityLoss",
    "ProjectionLayer",
    "ProjectionLoss",
    "guidance",
    "loss",
    "project",
    "projection_loss",
    "reward",
]


def loss(trajectory: Any, vehicle: Any, limits: Any, *, dt: float | None = None, **options: Any) -> Any:
    """`feasible.loss` of tensors, in float32 at least, whatever the autocast state.

    Args:
        trajectory: a `Trajectory` of tensors, or a tensor `(..., T, 2 | 3 | 4)` of x, y, yaw, speed, with its dt.
        vehicle: the vehicle that the signals read.
        limits: a tuple of `Limit`.
        dt: time between samples [s], of a tensor.
        **options: of `feasible.loss`.

    Raises:
        ValueError: for shapes that do not fit, a tensor without dt, or options that `feasible.loss` refuses.
    """
    with _torch_projection.full_precision(trajectory):
        return _loss.loss(_torch_projection.trajectory_of(trajectory, dt), vehicle, limits, **options)


def reward(
    trajectory: Any, vehicle: Any, limits: Any, *, dt: float | None = None, **options: Any
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """`feasible.reward` of tensors, in float32 at least, whatever the autocast state; arguments as for `loss`."""
    with _torch_projection.full_precision(trajectory):
        return _loss.reward(_torch_projection.trajectory_of(trajectory, dt), vehicle, limits, **options)


def guidance(trajectory: Any, vehicle: Any, limits: Any, *, dt: float | None = None, **options: Any) -> torch.Tensor:
    """The gradient of `loss` by the samples, of the tensor's shape `(..., T, 2 | 3 | 4)`; see `feasible.guidance`.

    Each trajectory's own gradient, detached: subtract it, times a step, from a sample that is being denoised.
    """
    values = trajectory
    if isinstance(trajectory, Trajectory):
        values, dt = _projection_loss.stacked(namespace(trajectory.x), trajectory), trajectory.dt
    with torch.enable_grad():
        values = values.detach().requires_grad_()
        return torch.autograd.grad(loss(values, vehicle, limits, dt=dt, **options).sum(), values)[0]


class FeasibilityLoss(torch.nn.Module):
    """`loss` as a module: call it with a tensor `(..., T, 2 | 3 | 4)` of x, y, yaw, speed; it returns `(...)`.

    Args:
        vehicle: the vehicle that the signals read.
        limits: a tuple of `Limit`.
        dt: time between samples [s].
        weights: of limits, by name.
        kind: "smooth", "hinge" or "squared".
        differencing: "raw" or "savgol".
        margin: start to count this far inside the limit, in parts of it.

    Raises:
        ValueError: for limits that are none, a weight for no limit, an unknown kind or a dt that is not positive.
    """

    def __init__(
        self,
        vehicle: Any,
        limits: Any,
        *,
        dt: float,
        weights: Mapping[str, float] | None = None,
        kind: str = "smooth",
        differencing: str = "raw",
        margin: float = 0.0,
    ) -> None:
        super().__init__()
        check_dt(dt)
        self.limits, self.weights = _loss.check_weights(limits, weights)
        if kind not in _loss.KINDS:
            raise ValueError(f"kind: expected one of {_loss.KINDS}, got {kind!r}")
        self.vehicle, self.dt, self.kind = vehicle, float(dt), kind
        self.differencing, self.margin = differencing, float(margin)

    def forward(
        self, values: torch.Tensor, mask: torch.Tensor | None = None, *, components: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of each trajectory, `(...)`; `mask` `(..., T)` is False where a sample is padding."""
        return loss(
            values,
            self.vehicle,
            self.limits,
            dt=self.dt,
            weights=self.weights,
            kind=self.kind,
            mask=mask,
            differencing=self.differencing,
            margin=self.margin,
            components=components,
        )

    def extra_repr(self) -> str:
        """The options, for `print(model)`."""
        names = ", ".join(limit.name for limit in self.limits)
        return f"{names}; dt={self.dt}, kind={self.kind}, differencing={self.differencing}, margin={self.margin}"


def projection_loss(
    trajectory: Any,
    vehicle: Any,
    limits: Any,
    *,
    dt: float | None = None,
    initial_state: torch.Tensor | None = None,
    weights: Weights | None = None,
    sample_weight: torch.Tensor | None = None,
    backend: str = "riccati",
    components: bool = False,
) -> Any:
    """`feasible.projection_loss` of tensors: half the squared, weighted distance [m²] to the projection, `(...)`.

    To compile it, use `ProjectionLoss`.

    Args:
        trajectory: a `Trajectory` of tensors, or a tensor `(..., T, 2 | 3 | 4)` with its dt, on any device.
        vehicle: the model that must be able to drive it.
        limits: a tuple of `Limit`.
        dt: time between samples [s], of a tensor.
        initial_state: `(..., d)`, see `project`; no gradient flows to it.
        weights: of the objective; see `Weights`.
        sample_weight: `(..., T)`, see `feasible.project`.
        backend: of the projector, by name.
        components: also return the parts, `status` and `distance` [m].
    """
    weights = weights or _torch_projection.WEIGHTS
    place = _torch_ops.setup(vehicle, check_limits(limits), weights, backend)
    return _torch_projection.distance(trajectory, place, weights, dt, initial_state, sample_weight, components)


class ProjectionLoss(_torch_projection.Projecting):
    """`projection_loss` as a module, which works under `torch.compile(fullgraph=True)` too.

    Args:
        vehicle: the model that must be able to drive it.
        limits: a tuple of `Limit`.
        dt: time between samples [s].
        weights: of the objective; see `Weights`.
        backend: of the projector, by name.

    Raises:
        ValueError: for limits that are none, or a dt that is not positive.
    """

    def __init__(
        self, vehicle: Any, limits: Any, *, dt: float, weights: Weights | None = None, backend: str = "riccati"
    ) -> None:
        super().__init__(vehicle, limits, dt, weights, backend)

    def forward(
        self,
        values: torch.Tensor,
        initial_state: torch.Tensor | None = None,
        sample_weight: torch.Tensor | None = None,
        *,
        components: bool = False,
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss `(...)` of values `(..., T, 2 | 3 | 4)`; the others as for `projection_loss`."""
        return _torch_projection.distance(
            values, self.place, self.weights, self.dt, initial_state, sample_weight, components
        )


def project(
    trajectory: Any,
    vehicle: Any,
    limits: Any,
    *,
    dt: float | None = None,
    initial_state: torch.Tensor | None = None,
    weights: Weights | None = None,
    sample_weight: torch.Tensor | None = None,
    backend: str = "riccati",
    smoothing: float = SMOOTHING,
    components: bool = False,
) -> Any:
    """`feasible.project` of tensors, differentiable by samples, initial state and sample weights.

    To compile it, use `ProjectionLayer`.

    Args:
        trajectory: a `Trajectory` of tensors, or a tensor `(..., T, 2 | 3 | 4)` with its dt, on any device.
        vehicle: the model that must be able to drive it.
        limits: a tuple of `Limit`.
        dt: time between samples [s], of a tensor.
        initial_state: `(..., d)`, see `feasible.project`.
        weights: of the objective; see `Weights`.
        sample_weight: `(..., T)`, see `feasible.project`.
        backend: of the projector, by name.
        smoothing: barrier parameter [m²] of the derivative, see `feasible.project_vjp`.
        components: also return the parts.

    Returns:
        The projected samples, of the shape, columns, device and dtype of the input (float32 for narrower ones); with
        `components` a pair of them and a dict of `(...)`: `status`, and `distance` [m]. The gradient is the implicit
        one at the solution, and 0 for rows that were not solved; a second backward raises RuntimeError.

    Raises:
        ValueError: for what does not fit, limits that are none, or a smoothing that is not positive.
    """
    weights = weights or _torch_projection.WEIGHTS
    place = _torch_ops.setup(vehicle, check_limits(limits), weights, backend)
    given = initial_state, sample_weight, _torch_projection.number(smoothing)
    return _torch_projection.projected(trajectory, place, weights, dt, *given, components)


class ProjectionLayer(_torch_projection.Projecting):
    """`project` as a layer: a tensor of the shape of its input; works under `torch.compile(fullgraph=True)`.

    Args:
        vehicle: the model that must be able to drive it.
        limits: a tuple of `Limit`.
        dt: time between samples [s].
        weights: of the objective; see `Weights`.
        backend: of the projector, by name.
        smoothing: barrier parameter [m²] of the derivative, see `feasible.project_vjp`; an attribute, so that a
            training run may begin with a large one and end with a small one.

    Raises:
        ValueError: for limits that are none, or a dt or a smoothing that is not positive.
    """

    def __init__(
        self,
        vehicle: Any,
        limits: Any,
        *,
        dt: float,
        weights: Weights | None = None,
        backend: str = "riccati",
        smoothing: float = SMOOTHING,
    ) -> None:
        super().__init__(vehicle, limits, dt, weights, backend)
        self._smoothing = _torch_projection.number(smoothing)  # no buffer, which would follow the model to float16

    @property
    def smoothing(self) -> float:
        """The barrier parameter; another one takes effect at the next backward and compiles nothing anew."""
        return float(self._smoothing)

    @smoothing.setter
    def smoothing(self, value: float) -> None:
        self._smoothing = _torch_projection.number(value)

    def forward(
        self,
        values: torch.Tensor,
        initial_state: torch.Tensor | None = None,
        sample_weight: torch.Tensor | None = None,
        *,
        components: bool = False,
    ) -> Any:
        """The projected values `(..., T, 2 | 3 | 4)`; arguments as for `project`."""
        setup = self.place, self.weights, self.dt
        return _torch_projection.projected(values, *setup, initial_state, sample_weight, self._smoothing, components)

    def extra_repr(self) -> str:
        """The options, for `print(model)`."""
        return f"{super().extra_repr()}, smoothing={self.smoothing:g}"
