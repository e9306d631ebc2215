"""JAX: the projection as a function inside a jitted program, with its derivative; no host call, any device.

    samples = feasible.jax.project(prediction, vehicle, limits, dt=0.1).samples     # (..., T, D) -> (..., T, 4)
    objective = distance(samples, truth).mean()                                     # under jit, grad, vmap, scan

`feasible.project` is faster on a processor, where it runs code of its own outside of JAX, knows more ways out of a
difficult row (scattered starts, finer points in a step), and gives words. This function is for a training step that is
one program: the interior point, the repair and the check of `feasible.Projector` traced into it, and a `jax.custom_vjp`
by the implicit derivative (see `solvers/_riccati_adjoint`). It runs in the dtype of its input (in float32 for narrower
ones), but for the derivative: prices over slacks of a limit that is met need more digits than float32 has, so that is
float64's, and its result is cast. In float32 recentre coordinates that are kilometres from the origin first: a digit
that is lost cannot be found again.

Never run this file as a script: its folder would be on the path, and `import jax` would find it instead.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from feasible._arrays import wrap
from feasible._limits import check_limits
from feasible._problem import SMOOTHING, Problem, Weights, check_smoothing, sample_counts
from feasible._project import ACCEPTED, CERTIFIED, STILL
from feasible._projector import _program
from feasible._projector._request import Reply, Request
from feasible._status import Status
from feasible._trajectory import COLUMNS, MIN_STEPS, check_columns, check_dt
from feasible.solvers._riccati_adjoint import Cotangent, adjoint
from feasible.solvers._riccati_arrays import Numbers
from feasible.solvers._riccati_central import AFTER, central
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel
from feasible.solvers._riccati_loop import Options
from feasible.solvers._riccati_rows import Barrier
from feasible.solvers._riccati_stage import Stage
from feasible.solvers._xla_rows import mapped, prepared
from feasible.solvers.riccati import SINGLE

__all__ = ["Projected", "project"]

_SOLVE = {
    8: Options(iterations=120, quick=0.2),
    4: SINGLE._replace(iterations=80, quick=0.2),
}  # by the bytes of a number


class Projected(NamedTuple):
    """The nearest motions; arrays of JAX.

    Attributes:
        samples: `(..., T, 4)`: x, y, yaw, speed.
        states: `(..., T + 1, S)`. controls: `(..., T, C)`.
        status: `(...)` int, members of `Status`; a row above PROJECTED has no derivative, that is, a zero one.
        violation: `(...)`: largest normalised excess, integrated within each step.
    """

    samples: Any
    states: Any
    controls: Any
    status: Any
    violation: Any


def project(
    values: Any,
    vehicle: Any,
    limits: Any,
    *,
    dt: float,
    initial_state: Any = None,
    weights: Weights | None = None,
    sample_weight: Any = None,
    columns: tuple[str, ...] | None = None,
    smoothing: Any = SMOOTHING,
) -> Projected:
    """Moves each trajectory as little as possible so that the vehicle can drive it within the limits.

    Differentiable once, in reverse, by `values`, `initial_state` and `sample_weight`. Rows for which the solver finds
    no answer that holds brake from their first state.

    Args:
        values: `(..., T, D)` x, y and, with D > 2, yaw and speed; a sample that is not finite counts as missing.
        vehicle: the model; its numbers are constants of the program.
        limits: a tuple of `Limit`; likewise.
        dt: step [s].
        initial_state: `(..., d)`, d <= 6; NaN where free. None: all are estimated.
        weights: of the objective; see `Weights`.
        sample_weight: `(..., T)`, see `feasible.project`.
        columns: names of the last axis; x, y, yaw, speed in that order if None.
        smoothing: `(...)`, barrier parameter [m²] of the derivative, see `feasible.project_vjp`; it may be traced.
            Where a large one (1e-4, say) is far from the solution, in some per cent of rows, the derivative is 0 here.

    Raises:
        ValueError: for shapes, columns, a dt or a smoothing that cannot be right.
    """
    check_dt(dt)
    if not isinstance(smoothing, jax.core.Tracer):
        for number in np.ravel(smoothing):
            check_smoothing(number)
    limits, weights = check_limits(limits), weights or Weights()
    values = jnp.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(float)
    if values.dtype.itemsize < 4:  # third differences mean nothing in bfloat16
        values = values.astype(jnp.float32)
    columns = tuple(columns or COLUMNS[: values.shape[-1]])
    check_columns(columns)
    if values.ndim < 2 or values.shape[-1] != len(columns) or values.shape[-2] < MIN_STEPS:
        raise ValueError(f"values: expected shape (..., T >= {MIN_STEPS}, {len(columns)}), got {values.shape}")
    batch, steps, S = values.shape[:-2], values.shape[-2], len(vehicle.STATES)
    full = jnp.full((*values.shape[:-1], 4), jnp.nan, values.dtype)
    full = full.at[..., np.array([COLUMNS.index(c) for c in columns])].set(values)
    start = jnp.full((*batch, S), jnp.nan, values.dtype)
    if initial_state is not None:
        given = jnp.asarray(initial_state, values.dtype)
        start = start.at[..., : given.shape[-1]].set(jnp.broadcast_to(given, (*batch, given.shape[-1])))

    stated = tuple(c in columns for c in COLUMNS)
    layer = _layer(_Setup(vehicle, limits, float(dt), weights, stated, values.dtype.itemsize))
    counts = sample_counts(sample_weight, jnp.ones(values.shape[:-1], values.dtype))
    rows = full.reshape(-1, steps, 4), start.reshape(-1, S), counts.reshape(-1, steps)
    smoothing = jnp.broadcast_to(jnp.asarray(smoothing, values.dtype), batch)
    states, controls, status, violation = layer(*rows, smoothing.reshape(-1))
    states = states.reshape(*batch, *states.shape[1:])
    yaw = wrap(jnp, states[..., 1:, 2])
    samples = jnp.stack([states[..., 1:, 0], states[..., 1:, 1], yaw, states[..., 1:, 3]], axis=-1)
    controls = controls.reshape(*batch, *controls.shape[1:])
    return Projected(samples, states, controls, status.reshape(batch), violation.reshape(batch))


class _Setup:
    """What a program is traced for; equal by its numbers, because limits and vehicles are not hashable."""

    def __init__(
        self, vehicle: Any, limits: Any, dt: float, weights: Weights, stated: tuple[bool, ...], size: int
    ) -> None:
        leaves, tree = jax.tree.flatten(vehicle)
        bounds = tuple((m.signal, m.reads, m.lower, m.upper) for m in limits)
        self.key = (tree, tuple(map(float, leaves)), bounds, dt, weights, stated, size)
        self.weights, self.size = weights, size
        self.of_sample = [v if s else 0.0 for v, s in zip(weights.of_sample, stated, strict=True)]
        blank = np.zeros((1, 1, 4))
        effort = np.asarray(weights.controls)
        self.problem = Problem(vehicle, limits, dt, blank, blank, np.zeros((1, len(vehicle.STATES))), effort)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Setup) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@functools.lru_cache(maxsize=16)
def _layer(setup: _Setup) -> Any:
    """Of values, first states, sample weights and smoothing: states, controls, status, violation; differentiable."""
    dtype = np.dtype(f"f{setup.size}")
    with jax.ensure_compile_time_eval():  # the structure of a step is found by evaluating constants
        hard = Kernel(Stage(setup.problem, dtype), None)
        wide = hard if setup.size == 8 else Kernel(Stage(setup.problem, np.float64), None)

    @mapped
    def answered(request: Request) -> Reply:
        with jax.enable_x64(setup.size == 8):  # float32 stays what it is where a program is in float64 otherwise
            return prepared(lambda given: _answer(hard, given))(request)

    @mapped
    def pulled(given: Any) -> Any:
        with jax.enable_x64(True):
            given = jax.tree.map(lambda a: jax.lax.convert_element_type(a, np.float64), given)
            found = prepared(lambda given: _pulled(wide, setup, *given))(given)
            return jax.tree.map(lambda a: jax.lax.convert_element_type(a, dtype), found)

    def solved(*given: Any) -> tuple[Any, Reply]:
        request = _request(hard, setup, *given)
        return request, answered(request)

    @jax.custom_vjp
    def layer(values: Any, start: Any, counts: Any, smoothing: Any) -> tuple[Any, Any, Any, Any]:
        return _unpack(solved(values, start, counts)[1], setup)

    def forward(values: Any, start: Any, counts: Any, smoothing: Any) -> tuple[Any, Any]:
        request, reply = solved(values, start, counts)
        return _unpack(reply, setup), (values, smoothing, request, reply)

    def backward(kept: Any, by: tuple[Any, ...]) -> tuple[Any, ...]:
        values, smoothing, request, reply = kept
        found = pulled((smoothing, request, reply, _cotangent(wide, by[0], by[1])))
        by_values, by_start = (jnp.moveaxis(jnp.stack(a), (0, -1), (-1, 0)) for a in found[:2])
        return jnp.where(jnp.isfinite(values), by_values, 0.0), by_start, found[2].T, jnp.zeros_like(smoothing)

    layer.defvjp(forward, backward)
    return layer


def _request(kernel: Kernel, setup: _Setup, values: Any, start: Any, counts: Any) -> Request:
    """Cold requests with the batch last, in a frame near each row."""
    S, C = kernel.stage.S, kernel.stage.C
    horizon = values[..., 0].T
    blank, number = jnp.zeros_like(horizon), jnp.zeros_like(horizon[0])
    of_steps, of_entry = kernel.one_sided()
    return Request(
        [values[..., i].T for i in range(4)],
        [counts.T * v for v in setup.of_sample],
        list(start.T),
        [number] * S,
        [blank] * S,
        [blank] * C,
        [blank] * 2,
        [blank] * len(of_steps),
        [number] * len(of_entry),
        number,
        number,
        [number + v for v in setup.weights.controls],
        [],
        _numbers(_SOLVE[setup.size], number),
    )


def _numbers(options: Numbers, like: Any) -> Numbers:
    return type(options)(*(like + v for v in options))


def _answer(kernel: Kernel, request: Request) -> Reply:
    """The reply of the hard rung, or braking where that does not hold."""
    found, braked = _program.project(kernel, request), _program.fallback(kernel, request)
    holds = _holds(found)
    return jax.tree.map(lambda a, b: jnp.where(holds, a, b), found, braked)


def _holds(reply: Reply) -> Any:
    worst = functools.reduce(jnp.maximum, reply.margins)
    return (reply.usable > 0) & (reply.excess <= ACCEPTED) & (worst <= CERTIFIED) & (reply.any_sample > 0)


def _unpack(reply: Reply, setup: _Setup) -> tuple[Any, Any, Any, Any]:
    """With the batch first: states, controls, status, violation."""
    states = jnp.concatenate([jnp.stack(reply.first)[None], jnp.moveaxis(jnp.stack(reply.states), 0, 1)])
    same = (reply.most <= STILL) & (reply.turned <= 10 * STILL)
    status = jnp.where(same, int(Status.UNCHANGED), int(Status.PROJECTED))
    # Braking has no prices, and that is how it is told from what the solver found.
    status = jnp.where(reply.iterations > 0, status, int(Status.FALLBACK))
    status = jnp.where(reply.any_sample > 0, status, int(Status.REJECTED))
    violation = jnp.maximum(functools.reduce(jnp.maximum, reply.margins), 0.0)
    return jnp.moveaxis(states, -1, 0), jnp.transpose(jnp.stack(reply.controls), (2, 1, 0)), status, violation


def _cotangent(kernel: Kernel, by_states: Any, by_controls: Any) -> Cotangent:
    typical, S = kernel.stage.typical, kernel.stage.S
    x = [t * by_states[..., i].T for i, t in enumerate(typical[:S])]
    u = [t * by_controls[..., i].T for i, t in enumerate(typical[S:])]
    return Cotangent([a[0] for a in x], [a[1:] for a in x], u)


def _pulled(
    kernel: Kernel, setup: _Setup, smoothing: Any, request: Request, reply: Reply, against: Cotangent
) -> tuple[list[Any], list[Any], Any]:
    """Cotangents of targets, 4 arrays `(T, B)`, first state, S arrays `(B,)`, and sample weights `(T, B)`."""
    typical, S = kernel.stage.typical, kernel.stage.S
    target, weight = _program.cleaned(request)
    known = [jnp.isfinite(v) for v in request.initial]
    data = Data(
        target,
        weight,
        [jnp.where(k, 0.0, 1.0) for k in known],
        [e * t * t for e, t in zip(request.effort, typical[S:], strict=True)],
        _program.steps_of(request),
    )
    hard = [Barrier(z, z, [None] * len(z), [None] * len(z)) for z in (reply.inner, reply.entry)]
    it = Iterate(
        [a / t for a, t in zip(reply.first, typical[:S], strict=True)],
        [a / t for a, t in zip(reply.states, typical[:S], strict=True)],
        [a / t for a, t in zip(reply.controls, typical[S:], strict=True)],
        *hard,
    )
    number = jnp.zeros_like(request.warm)
    aims = _numbers(AFTER[setup.size]._replace(mu=smoothing), number)
    found_by_solver = reply.iterations > 0
    # Rows that brake are at no solution: the others of their chunk should not wait for Newton's method to find that.
    aims = aims._replace(iterations=jnp.where(found_by_solver, aims.iterations, 0.0))
    point = central(kernel, it, data, aims)
    found = adjoint(kernel, point.it, data, aims.mu, against, whole=False)
    sound = (point.solved > 0) & (found.finite > 0) & found_by_solver
    by_first = [jnp.where(sound & k, a, 0.0) for k, a in zip(known, found.first, strict=True)]
    by_weight = zip(setup.of_sample, weight, found.weight, strict=True)
    by_counts = sum(jnp.where(sound & (w > 0.0), a * v, 0.0) for v, w, a in by_weight)
    return [jnp.where(sound, a, 0.0) for a in found.target], by_first, by_counts
