"""`projection_loss`: half the squared, weighted distance of a trajectory to its own projection.

    L(p̂) = 1/2 Σ_k c_k ( w_p |p̂_k - p_k|² + w_ψ wrap(ψ̂_k - ψ_k)² + w_v (v̂_k - v_k)² ),   (p, ψ, v) = project(p̂)

with c the sample's weight, 0 where it is missing.

By the envelope theorem (Danskin, 1967) the derivative of a minimum with respect to a parameter of its objective is the
partial derivative at the minimiser, held fixed: the gradient is w · (input - projected), and backward costs nothing.
It is exact for the minimum of the projector's whole objective, whose control effort is left out of L so that a feasible
trajectory has loss 0; the difference is of the order of that effort. Only the first derivative is right: the second
would need the derivative of the projection itself.

Unlike `loss` this one does not difference the samples: a centimetre of jitter counts as a centimetre.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from feasible._arrays import Array, Namespace, namespace, to_numpy, wrap
from feasible._problem import Weights, sample_counts
from feasible._project import project
from feasible._status import Status
from feasible._trajectory import COLUMNS, Trajectory


def projection_loss(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    initial_state: Any = None,
    weights: Weights | None = None,
    sample_weight: Any = None,
    backend: Any = None,
    components: bool = False,
) -> Any:
    """Half the squared, weighted distance [m²] of each trajectory to its projection, `(...)`; NumPy or JAX.

    The projection runs on the host in float64. In JAX it works under `grad`, `vmap` and `jit`. Under the latter two it
    is a `jax.pure_callback`, in which the backend "riccati" may wait for itself, because it runs JAX operations: there
    "osqp" is taken. So for large batches keep this term outside `jit`, under `grad` alone. Vehicle, limits and dt must
    be concrete numbers. For PyTorch see `feasible.torch`.

    Args:
        trajectory: `(..., T)`.
        vehicle: the model that must be able to drive it.
        limits: a tuple of `Limit`.
        initial_state: see `project`; no gradient flows to it.
        weights: of the objective; see `Weights`.
        sample_weight: `(..., T)`, see `project`.
        backend: of the projector; by default "riccati", and "osqp" where JAX traces.
        components: also return the parts.

    Returns:
        `(...)`; 0, with no gradient, where the projector found no projection (status above RELAXED). With
        `components` a pair of it and a dict of `(...)`: `status`, and `distance`, the mean displacement [m].
    """
    trajectory.check()
    xp = namespace(trajectory.x)
    weights = weights or Weights()

    def solve(values: Any, counts: Any, start: Any, *, traced: bool = False) -> np.ndarray:
        chosen = backend or ("osqp" if traced else "riccati")
        return nearest(values, counts, start, trajectory, vehicle, limits, weights, chosen)

    values, counts = stacked(xp, trajectory), counting(xp, trajectory, sample_weight)
    start = np.full((1,), np.nan) if initial_state is None else initial_state
    target = _by_jax(solve, values, counts, start) if "jax" in xp.__name__ else solve(values, counts, start)
    value, parts = squared_distance(xp, trajectory, counts, target, weights)
    return (value, parts) if components else value


def stacked(xp: Namespace, trajectory: Trajectory) -> Array:
    """The stated columns of a trajectory, `(..., T, 2 to 4)`."""
    columns = (trajectory.x, trajectory.y, trajectory.yaw, trajectory.speed)
    return xp.stack([c for c in columns if c is not None], axis=-1)


def counting(xp: Namespace, trajectory: Trajectory, sample_weight: Any) -> Array:
    """`(..., T)` of the samples' dtype: what their squared errors count, 0 where they are missing."""
    ones = xp.astype(trajectory.valid, trajectory.x.dtype)
    return ones * sample_counts(sample_weight, xp.ones_like(ones))


def nearest(
    values: Any,
    counts: Any,
    initial_state: Any,
    like: Trajectory,
    vehicle: Any,
    limits: Any,
    weights: Weights,
    backend: Any,
) -> np.ndarray:
    """Projects on the host: x, y, yaw, speed and status `(..., T, 5)`, of the dtype of the values.

    Args:
        values: `(..., T, D)`, the columns that `like` states.
        counts: `(..., T)`, see `counting`.
        initial_state: `(..., d)`, NaN where free.
        like: states the columns and dt; its values are not read.
        vehicle: the model.
        limits: what it keeps.
        weights: of the objective.
        backend: of the projector.
    """
    values, counts, start = to_numpy(values), to_numpy(counts), to_numpy(initial_state)
    host = on_host(values, like)
    result = project(host, vehicle, limits, initial_state=start, weights=weights, sample_weight=counts, backend=backend)
    status = np.broadcast_to(result.status[..., None, None], (*counts.shape, 1))
    return np.concatenate([result.trajectory.to_array(COLUMNS), status], axis=-1).astype(values.dtype)


def on_host(values: np.ndarray, like: Trajectory) -> Trajectory:
    """The trajectory of values `(..., T, D)`, the columns that `like` states; what is not finite is masked."""
    finite = np.isfinite(values).all(-1)
    given = iter(np.moveaxis(np.where(finite[..., None], values, 0.0), -1, 0))
    columns = {name: None if getattr(like, name) is None else next(given) for name in COLUMNS}
    return Trajectory(dt=float(like.dt), valid=finite, **columns)


def squared_distance(
    xp: Namespace, trajectory: Trajectory, counts: Array, target: Array, weights: Weights
) -> tuple[Array, dict[str, Array]]:
    """The loss `(...)`, and its parts, of a trajectory and what `nearest` made of it; the latter is held fixed."""
    status = target[..., 0, 4]
    counted = (counts > 0) & (status <= int(Status.RELAXED))[..., None]
    t, square, total = trajectory, 0.0, 0.0
    stated = ((t.x, 1.0), (t.y, 1.0), (t.yaw, weights.yaw), (t.speed, weights.speed))
    for i, (column, weight) in enumerate(stated):
        if column is None:
            continue
        # Before the difference, so that a missing sample has neither a part nor a slope.
        error = xp.where(counted, column, 0.0) - xp.where(counted, target[..., i], 0.0)
        error = wrap(xp, error) if i == 2 else error
        if i < 2:
            square = square + error * error
        total = total + (weights.position if i < 2 else weight) * error * error
    some = square > 0
    length = xp.where(some, xp.sqrt(xp.where(some, square, 1.0)), 0.0)
    count = xp.sum(xp.astype(counted, length.dtype), axis=-1)
    distance = xp.sum(length, axis=-1) / xp.where(count > 0, count, 1.0)
    return xp.sum(counts * total, axis=-1) / 2, {"status": status, "distance": distance}


def _by_jax(solve: Callable[..., np.ndarray], values: Any, counts: Any, start: Any) -> Any:
    """What `solve` makes of JAX arrays, held fixed; on the spot where they are concrete, else by a callback."""
    import jax
    import jax.numpy as jnp

    @jax.custom_jvp
    def held(values: Any, counts: Any, start: Any) -> Any:
        if not any(isinstance(a, jax.core.Tracer) for a in (values, counts, start)):
            return jnp.asarray(solve(values, counts, start))
        shape = jax.ShapeDtypeStruct((*values.shape[:-1], 5), values.dtype)
        aside = functools.partial(solve, traced=True)
        return jax.pure_callback(aside, shape, values, counts, start, vmap_method="broadcast_all")

    @held.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        target = held(*primals)  # a rule gets the arrays themselves: under `grad` alone nothing is traced
        return target, jnp.zeros_like(target)

    start = jnp.asarray(start, dtype=values.dtype)
    # All batch axes, for an axis that `vmap` puts in front of some of them would be taken for another.
    return held(values, counts, jnp.broadcast_to(start, (*values.shape[:-2], start.shape[-1])))
