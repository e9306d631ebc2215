"""Means over time of the penalised excess over each limit: the arithmetic of `loss` and `reward`.

Rows, the leading axes as one, go on the last axis and time on the first (see `_differences`). A signal is promised
`(..., T)`, so it is handed the fields with the axes turned back: a view in NumPy and PyTorch, but a copy in XLA. Under
JAX a limit that is elementwise, which its program tells, is therefore evaluated as the arrays lie.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from array_api_compat import device, is_jax_namespace

from feasible._arrays import Array, Namespace, namespace
from feasible._differences import Columns, differences
from feasible._elementary import count_rows, sum_log1p_rows, sum_rows
from feasible._limits import Limit
from feasible._motion import FIELDS, Motion
from feasible._pointwise import is_pointwise
from feasible._savgol import smooth
from feasible._trajectory import Trajectory

FARTHEST = 1e6  # m or m/s; beyond, a sample is an error and missing: float32 differences would overflow
CHUNK = 10_240  # samples: the few intermediate values in use, 40 kB each, stay in a cache of 1 MB
LANES = 16  # of the widest vectors; chunks are multiples
Means = tuple[dict[str, Array], dict[str, Array], Array]


def means(
    trajectory: Trajectory,
    vehicle: Any,
    limits: tuple[Limit, ...],
    mask: Array | None,
    *,
    kind: str,
    differencing: str,
    margin: float,
) -> Means:
    """Per limit the mean of φ(e) over its known samples, and the share known; the share of invalid samples; `(...)`.

    JAX compiles it at the first call of its kind, whether or not the caller does: hundreds of small operations, each
    dispatched and each a pass over memory, become one program.
    """
    trajectory.check()
    if differencing not in ("raw", "savgol"):
        raise ValueError(f"differencing: expected 'raw' or 'savgol', got {differencing!r}")
    arguments = (trajectory, vehicle, limits, mask, margin)
    options: dict[str, Any] = {"kind": kind, "differencing": differencing}
    if not is_jax_namespace(namespace(trajectory.x)):
        return _means(*arguments, **options)
    traceable = all(isinstance(a, int | float) or hasattr(a, "shape") for a in jax.tree.leaves(arguments))
    return (_compiled if traceable else _in_jax)(*arguments, **options)


def _in_jax(
    t: Trajectory, vehicle: Any, limits: tuple[Limit, ...], mask: Array | None, margin: Any, **options: Any
) -> Means:
    """On a CPU in chunks of rows that stay in its cache, where no limit can tell: twice as fast, without page faults.

    The backward pass repeats the forward one, chunk by chunk, because reading its intermediate values back from memory
    takes longer.
    """
    pointwise = frozenset(limit.name for limit in limits if is_pointwise(limit, vehicle, namespace(t.x), t.x.dtype))

    def whole(t: Trajectory, mask: Array | None) -> Means:
        return _means(t, vehicle, limits, mask, margin, pointwise=pointwise, **options)

    count = math.prod(t.batch_shape)
    chunks = -(-count // max(CHUNK // t.horizon, LANES))
    if len(pointwise) < len(limits) or chunks < 2 or jax.default_backend() != "cpu":
        return whole(t, mask)
    size = -(-count // (chunks * LANES)) * LANES

    def split(a: Array) -> Array:
        a = jnp.reshape(a, (count, t.horizon))
        return jnp.reshape(jnp.pad(a, ((0, chunks * size - count), (0, 0))), (chunks, size, t.horizon))

    def join(a: Array) -> Array:
        return jnp.reshape(jnp.reshape(a, (-1,))[:count], t.batch_shape)

    @jax.checkpoint
    def chunk(rows: dict[str, Array | None]) -> Means:
        part = Trajectory(rows["x"], rows["y"], rows["yaw"], rows["speed"], t.dt, rows["valid"])
        return whole(part, rows["mask"])

    given = {"x": t.x, "y": t.y, "yaw": t.yaw, "speed": t.speed, "valid": t.valid}
    given["mask"] = None if mask is None else jnp.zeros_like(t.valid) | mask
    return jax.tree.map(join, jax.lax.map(chunk, jax.tree.map(split, given)))


def _means(
    t: Trajectory,
    vehicle: Any,
    limits: tuple[Limit, ...],
    mask: Array | None,
    margin: Any,
    kind: str,
    differencing: str,
    pointwise: frozenset[str] = frozenset(),
) -> Means:
    """Of all rows at once; the limits named in `pointwise` are evaluated on the arrays as they lie."""
    xp, horizon, batch = namespace(t.x), t.horizon, t.batch_shape
    counted = xp.ones_like(t.valid) if mask is None else xp.zeros_like(t.valid) | mask

    def rows(a: Array) -> Array:
        a = xp.permute_dims(xp.reshape(a, (-1, horizon)), (1, 0))
        return a.contiguous() if hasattr(a, "contiguous") else a  # PyTorch is slow on a mixture of orders

    def given(a: Array) -> Array:
        return xp.reshape(xp.permute_dims(a, (1, 0)), (*batch, horizon))

    yaw, speed = (None if c is None else rows(c) for c in (t.yaw, t.speed))
    columns, valid, invalid = _cleaned(xp, (rows(t.x), rows(t.y), yaw, speed), rows(t.valid), rows(counted))
    if differencing == "savgol":
        columns, valid = smooth(xp, columns, valid)
    fields, stencils = differences(xp, columns, t.dt, valid)
    known = {name: stencil.known(xp, t.dt, horizon) for name, stencil in stencils.items()}
    flat = Motion(**fields, gaps={}, xp=xp)
    shaped = (
        flat if len(pointwise) == len(limits) else Motion(**{k: given(a) for k, a in fields.items()}, gaps={}, xp=xp)
    )

    parts, shares = {}, {}
    for limit in limits:
        told = functools.reduce(lambda a, b: a & b, [known[name] for name in FIELDS if name in limit.reads])
        as_they_lie = limit.name in pointwise
        motion, told = (flat, told) if as_they_lie else (shaped, given(told))
        value = limit.signal(motion, vehicle)
        told = told & xp.isfinite(value)
        # Inner where: an unknown value has no slope. Outer where: nor a part in the mean.
        excess = limit.margin_of(xp.where(told, value, 0.0)) + margin
        excess = xp.where(told & (excess > 0), excess, 0.0)
        excess, told = (excess, told) if as_they_lie else (rows(excess), rows(told))
        count = count_rows(xp, told, excess.dtype)
        part = _total(xp, excess, kind) / xp.where(count > 0, count, 1.0)
        parts[limit.name] = xp.reshape(part, batch)
        shares[f"{limit.name}/known"] = xp.reshape(count / horizon, batch)
    return parts, shares, xp.reshape(invalid, batch)


_compiled = jax.jit(_in_jax, static_argnames=("kind", "differencing"))


def _cleaned(xp: Namespace, columns: Columns, valid: Array, counted: Array) -> tuple[Columns, Array, Array]:
    """Columns `(T, N)` from their first valid sample on, fillers for what is missing; what is valid; the invalid share.

    Moving the origin costs float32 nothing in the differences, and it saves the digits of the smoother far out.
    """
    x, y, yaw, speed = columns
    horizon = x.shape[0]
    usable = valid & counted
    for column in columns:
        usable = usable if column is None else usable & xp.isfinite(column)

    # The first usable sample without a gather: a sum of one term.
    steps = xp.reshape(xp.arange(horizon, dtype=xp.int32, device=device(x)), (horizon, 1))
    first = steps == xp.min(xp.where(usable, steps, horizon), axis=0)

    def moved(a: Array) -> Array:
        return a - xp.sum(xp.where(first, a, 0.0), axis=0)

    x, y = moved(xp.where(usable, x, 0.0)), moved(xp.where(usable, y, 0.0))
    for a in (x, y, yaw, speed):
        usable = usable if a is None else usable & (xp.abs(a) <= FARTHEST)

    def filled(a: Array | None) -> Array | None:
        return None if a is None else xp.where(usable, a, 0.0)

    share = xp.sum(xp.astype(counted & ~usable, x.dtype), axis=0) / horizon
    invalid = xp.where(xp.any(counted, axis=0), share, 1.0)
    return (filled(x), filled(y), filled(yaw), filled(speed)), usable, invalid


def _total(xp: Namespace, excess: Array, kind: str) -> Array:
    """Sum of φ(e) over the first axis for e >= 0; each has φ(0) = 0."""
    if kind == "smooth":
        return sum_log1p_rows(xp, excess)
    if kind == "squared":
        return sum_rows(xp, excess * excess)
    return sum_rows(xp, excess if kind == "hinge" else excess / (1.0 + excess))
