"""The projector as PyTorch operators: `feasible::project` and its backward, on the host in float64.

Registered with `torch.library.custom_op`, with fake (for `torch.compile`), autograd and vmap rules. Tensors on a CPU
are read without a copy; those of another device travel to the host and back. No JAX operation runs before first use.

An operator takes tensors and numbers only, so it gets vehicle, limits, weights and backend as their place in a list.
Backward is the implicit derivative (`feasible.project_vjp`). It needs the solution; the last few are kept, found again
by the bytes of their input, and solved once more if they are gone, so that the operators have no state that shows.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from feasible import _projection_loss
from feasible._derivative import project_vjp
from feasible._problem import Weights
from feasible._project import Projection
from feasible._trajectory import COLUMNS, Trajectory

Solution = tuple[Projection, Callable[..., Any]]
_KEPT = 4  # solutions: a training step rarely projects more often before its backward
_setups: list[tuple[Any, Any, Weights, str]] = []
_solutions: collections.OrderedDict[Any, Solution] = collections.OrderedDict()


def setup(vehicle: Any, limits: Any, weights: Weights, backend: str) -> int:
    """The place of a setup; the same one for equal ones, so that the list does not grow in a loop."""
    for i, known in enumerate(_setups):
        same = known[0] is vehicle and len(known[1]) == len(limits) and known[2:] == (weights, backend)
        if same and all(a is b or _equal(a, b) for a, b in zip(known[1], limits, strict=True)):
            return i
    _setups.append((vehicle, limits, weights, backend))
    return len(_setups) - 1


def _equal(a: Any, b: Any) -> bool:
    return (a.name, a.signal, a.lower, a.upper) == (b.name, b.signal, b.lower, b.upper)


@torch.library.custom_op("feasible::project", mutates_args=())
def project(
    values: torch.Tensor,
    counts: torch.Tensor,
    start: torch.Tensor,
    smoothing: torch.Tensor,
    dt: float,
    stated: list[bool],
    place: int,
) -> torch.Tensor:
    """x, y, yaw, speed and status `(..., T, 5)`.

    Args:
        values: `(..., T, D)`, the stated columns.
        counts: `(..., T)` weights of the samples, 0 where missing.
        start: `(..., d)` initial state, NaN where free.
        smoothing: `()` of the derivative [m²]; a tensor, so that another number compiles nothing anew.
        dt: step [s].
        stated: of x, y, yaw, speed, which the values are.
        place: of the setup.
    """
    result, _ = _solve(values, counts, start, dt, stated, place)
    status = np.broadcast_to(result.status[..., None, None], (*counts.shape, 1))
    found = np.concatenate([result.trajectory.to_array(COLUMNS), status], axis=-1)
    return torch.from_numpy(found).to(values)


@torch.library.custom_op("feasible::project_backward", mutates_args=())
def project_backward(
    gradient: torch.Tensor,
    values: torch.Tensor,
    counts: torch.Tensor,
    start: torch.Tensor,
    smoothing: torch.Tensor,
    dt: float,
    stated: list[bool],
    place: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of a gradient `(..., T, 5)` by the output those by the values, the weights and the initial state."""
    _, pull = _solve(values, counts, start, dt, stated, place)
    found = pull(gradient[..., :4].detach().cpu().numpy(), smoothing=smoothing.item())
    by = found.trajectory[..., np.flatnonzero(stated)], found.sample_weight, found.initial_state[..., : start.shape[-1]]
    # New arrays in the order of their axes, which is what compilers are told.
    by_values, by_counts, by_start = (torch.from_numpy(np.array(a, order="C")) for a in by)
    return by_values.to(values), by_counts.to(counts), by_start.to(start)


@project.register_fake
def _(values: torch.Tensor, *_: Any) -> torch.Tensor:
    return values.new_empty((*values.shape[:-1], 5))


@project_backward.register_fake
def _(
    gradient: torch.Tensor, values: torch.Tensor, counts: torch.Tensor, start: torch.Tensor, *_: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    by_values, by_counts, by_start = (
        torch.empty_like(a, memory_format=torch.contiguous_format) for a in (values, counts, start)
    )
    return by_values, by_counts, by_start


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.rest = inputs[4:]


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    return (*project_backward(gradient, *ctx.saved_tensors, *ctx.rest), *[None] * (1 + len(ctx.rest)))


project.register_autograd(_backward, setup_context=_keep)


def _front(info: Any, dims: Any, tensors: Any) -> list[torch.Tensor]:
    """The tensors with the mapped axis in front, where the operators take any axes."""
    return [
        a.expand(info.batch_size, *a.shape) if dim is None else a.movedim(dim, 0)
        for a, dim in zip(tensors, dims, strict=True)
    ]


@project.register_vmap
def _(info: Any, dims: Any, *arguments: Any) -> tuple[torch.Tensor, int]:
    return project(*_front(info, dims[:3], arguments[:3]), *arguments[3:]), 0


@project_backward.register_vmap
def _(info: Any, dims: Any, *arguments: Any) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...]]:
    return project_backward(*_front(info, dims[:4], arguments[:4]), *arguments[4:]), (0, 0, 0)


class Project(torch.autograd.Function):
    """The operator with its derivative once more, in the form that `torch.func.grad` takes."""

    @staticmethod
    def forward(  # argument by argument, or else it cannot be compiled without a derivative
        values: torch.Tensor,
        counts: torch.Tensor,
        start: torch.Tensor,
        smoothing: torch.Tensor,
        dt: float,
        stated: list[bool],
        place: int,
    ) -> torch.Tensor:
        """As `project`, whose own rule must not be reached: transforms refuse its form."""
        with torch.no_grad():
            return project(values, counts, start, smoothing, dt, stated, place)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """As for the operator."""
        _keep(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """As for the operator; a second one is refused in words."""
        arguments = (gradient, *ctx.saved_tensors, *ctx.rest)
        backward = project_backward if torch.compiler.is_compiling() else _Pull.apply
        return (*backward(*arguments), *[None] * (1 + len(ctx.rest)))

    @staticmethod
    def vmap(info: Any, dims: Any, *arguments: Any) -> tuple[torch.Tensor, int]:
        """As for the operator, with a derivative."""
        return Project.apply(*_front(info, dims[:3], arguments[:3]), *arguments[3:]), 0


class _Pull(torch.autograd.Function):
    """`project_backward`, for `Project`."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return project_backward(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        raise RuntimeError("project: the projection has no second derivative in autograd; detach its gradient first")

    @staticmethod
    def vmap(info: Any, dims: Any, *arguments: Any) -> tuple[Any, tuple[int, ...]]:
        return _Pull.apply(*_front(info, dims[:4], arguments[:4]), *arguments[4:]), (0, 0, 0)


def _solve(
    values: torch.Tensor, counts: torch.Tensor, start: torch.Tensor, dt: float, stated: list[bool], place: int
) -> Solution:
    """The projection and its pull-back, of the rows as given or from those kept."""
    arrays = [a.detach().cpu().numpy() for a in (values, counts, start)]
    key = (place, dt, tuple(stated), *((a.shape, a.dtype.str, hash(a.tobytes())) for a in arrays))
    if key in _solutions:
        _solutions.move_to_end(key)
        return _solutions[key]
    vehicle, limits, weights, backend = _setups[place]
    columns = {name: arrays[0][..., 0] if there else None for name, there in zip(COLUMNS, stated, strict=True)}
    host = _projection_loss.on_host(arrays[0], Trajectory(dt=dt, valid=arrays[1] > 0, **columns))
    found = project_vjp(
        host, vehicle, limits, initial_state=arrays[2], weights=weights, sample_weight=arrays[1], backend=backend
    )
    _solutions[key] = found
    while len(_solutions) > _KEPT:
        _solutions.popitem(last=False)
    return found
