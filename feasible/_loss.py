"""`loss` and `reward`: how far a trajectory is over its limits, as a number to train on.

With m the signed normalised excess of a signal over a limit (see `_limits`), e = max(m + margin, 0) at a sample,

    loss    Σ_i w_i · mean over the known samples of φ(e_i)
            φ(e) = e²  "squared",   e  "hinge",   log(1 + e)  "smooth": e near the limit, log e far above it
    reward  - Σ_i w_i · mean over the known samples of e_i / (1 + e_i)  /  Σ_i w_i,   in [-1, 0]

A sample is known to a limit if the differences that the limit reads exist there: curvature means nothing at a crawl,
and a missing sample takes its neighbours' differences along. Unknown samples are left out of the mean, not counted
as good, and `components` states the share that was known.

Why "smooth" is the default. Raw differences are large numbers: a third difference at 10 Hz turns 1 cm of jitter into
10 m/s³ of jerk, and a turn at walking speed into steering rates hundreds of times over the limit. The square of such
an excess is carried by the few worst samples, and its gradient by their cube of 1/dt, so it drowns every other term of
an objective. The slope of log(1 + e) is that of e until the excess is of the size of the limit, and relative beyond:
a halving of the excess is worth the same at 200 times the limit and at 20 times.

What it takes beside it, from `benchmarks/training`: a weight that grows over the first half of the training (at full
weight from the start it can fold an untrained path up before it has learned where to go), a clipped gradient, averaged
weights, and a margin. It is silent within the limits: a network trained under `physical` may come out rougher there
than before, so train under the limits that are asked for in the end.

Everything is elementwise in the array namespace of the input, so it runs natively in NumPy, JAX and PyTorch, under
`jit`, `vmap`, `grad` and `torch.compile`. Gradients are finite for every input: values that are missing, not finite or
farther than 1e6 m from the first sample are replaced *before* any arithmetic, because a gradient of zero times an
infinite slope is NaN, and masked again after it (the double `where`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feasible._arrays import Array, Namespace, namespace
from feasible._limits import Limit, check_limits
from feasible._motion import Gap, Motion
from feasible._trajectory import Trajectory

KINDS = ("smooth", "hinge", "squared")
FARTHEST = 1e6  # m or m/s; beyond, a sample is an error and missing: float32 differences would overflow


def loss(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    weights: Mapping[str, Any] | None = None,
    kind: str = "smooth",
    mask: Array | None = None,
    differencing: str = "raw",
    margin: float = 0.0,
    components: bool = False,
) -> Any:
    """How far each trajectory is over its limits: 0 where all hold, differentiable, `(...)`.

    Args:
        trajectory: `(..., T)`, of any array namespace; the result is of the same, and of the same dtype.
        vehicle: the vehicle that the signals read.
        limits: a tuple of `Limit`.
        weights: of limits, by name; 1 where not named.
        kind: "smooth" (log(1 + e)), "hinge" (e) or "squared" (e²) of the normalised excess e.
        mask: `(..., T)` bool, False where a sample is padding; it is then missing, also to its neighbours'
            differences.
        differencing: "raw", or "savgol" to smooth first; see `Motion`.
        margin: start to count this far inside the limit, in parts of it; 0.1 keeps a tenth of each limit in reserve.
        components: also return the parts.

    Returns:
        `(...)`, one number a trajectory, never averaged over batch or modes; 0 where nothing is known. With
        `components` a pair of it and a flat dict of `(...)`: `name`, the unweighted part of that limit, and
        `name/known`, the share of samples at which the limit could be assessed.

    Raises:
        ValueError: for an unknown kind, differencing or weight, or shapes that do not fit.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {KINDS}, got {kind!r}")
    limits, factors = check_weights(limits, weights)
    xp, trajectory, _ = cleaned(trajectory, mask)
    parts, known = _means(xp, trajectory, vehicle, limits, kind, differencing, margin)
    total = sum(factors[name] * part for name, part in parts.items())
    return (total, {**parts, **known}) if components else total


def reward(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    weights: Mapping[str, Any] | None = None,
    mask: Array | None = None,
    differencing: str = "raw",
    margin: float = 0.0,
    floor: float = -1.0,
) -> tuple[Array, dict[str, Array]]:
    """How well each trajectory keeps its limits: 0 if it does, down to -1 where every sample is far over every limit.

    Args:
        trajectory: `(..., T)`, of any array namespace.
        vehicle: the vehicle that the signals read.
        limits: a tuple of `Limit`.
        weights: of limits, by name; 1 where not named. Not negative, and not all 0.
        mask: `(..., T)` bool, False where a sample is padding.
        differencing: "raw", or "savgol" to smooth first; see `Motion`.
        margin: start to count this far inside the limit, in parts of it.
        floor: reward of a trajectory with a sample that is not finite (or absurdly far) and no padding, or with
            no sample at all.

    Returns:
        `(...)` in [-1, 0], finite whatever the input, and a flat dict of `(...)`: `name`, that limit's own reward in
        (-1, 0]; `name/known`, the share of samples at which it could be assessed; `invalid`, the share of samples
        that are not finite.

    Raises:
        ValueError: for an unknown differencing or weight, or shapes that do not fit.
    """
    limits, factors = check_weights(limits, weights)
    xp, trajectory, invalid = cleaned(trajectory, mask)
    parts, known = _means(xp, trajectory, vehicle, limits, "bounded", differencing, margin)
    parts = {name: -part for name, part in parts.items()}
    total = sum(factors[name] * part for name, part in parts.items()) / sum(factors.values())
    return xp.where(invalid > 0, floor, total), {**parts, **known, "invalid": invalid}


def check_weights(limits: Any, weights: Mapping[str, Any] | None) -> tuple[tuple[Limit, ...], dict[str, Any]]:
    """The limits as a tuple, and the weight of each by name.

    Raises:
        ValueError: if a weight is for no limit, or the limits are none.
    """
    limits = check_limits(limits)
    weights = dict(weights or {})
    strangers = set(weights) - {limit.name for limit in limits}
    if strangers:
        names = [limit.name for limit in limits]
        raise ValueError(f"weights: expected names out of {names}, got {sorted(strangers)[0]!r}")
    return limits, {limit.name: weights.get(limit.name, 1.0) for limit in limits}


def cleaned(trajectory: Trajectory, mask: Array | None) -> tuple[Namespace, Trajectory, Array]:
    """The namespace; the trajectory from its first valid sample on, fillers for what is missing; the invalid share.

    Moving the origin costs float32 nothing in the differences, and it saves the digits of the smoother far out.
    """
    trajectory.check()
    t = trajectory
    xp = namespace(t.x)
    columns = [c for c in (t.x, t.y, t.yaw, t.speed) if c is not None]
    counted = xp.ones_like(t.valid) if mask is None else xp.zeros_like(t.valid) | mask
    usable = t.valid & counted
    for column in columns:
        usable = usable & xp.isfinite(column)

    # The first usable sample without a gather: a sum of one term.
    first = usable & (xp.cumulative_sum(xp.astype(usable, xp.int32), axis=-1) == 1)

    def moved(a: Array) -> Array:
        a = xp.where(usable, a, 0.0)
        return a - xp.sum(xp.where(first, a, 0.0), axis=-1)[..., None]

    x, y = moved(t.x), moved(t.y)
    for a in (x, y, *columns[2:]):
        usable = usable & (xp.abs(a) <= FARTHEST)

    def filled(a: Array | None) -> Array | None:
        return None if a is None else xp.where(usable, a, 0.0)

    share = xp.sum(xp.astype(counted & ~usable, t.x.dtype), axis=-1) / t.horizon
    invalid = xp.where(xp.any(counted, axis=-1), share, 1.0)
    return xp, Trajectory(filled(x), filled(y), filled(t.yaw), filled(t.speed), t.dt, usable), invalid


def _means(
    xp: Namespace,
    trajectory: Trajectory,
    vehicle: Any,
    limits: tuple[Limit, ...],
    kind: str,
    differencing: str,
    margin: float,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Per limit the mean of φ(e) over its known samples, `(...)`, and the share of samples that is known."""
    motion = Motion.from_trajectory(trajectory, differencing=differencing)
    parts, shares = {}, {}
    for limit in limits:
        value = limit.signal(motion, vehicle)
        gap = limit.gap(motion)
        known = xp.isfinite(value) if gap is None else xp.isfinite(value) & (gap == int(Gap.NONE))
        # Inner where: an unknown value has no slope. Outer where: nor a part in the mean.
        excess = limit.margin_of(xp.where(known, value, 0.0)) + margin
        over = known & (excess > 0)
        penalty = xp.where(over, _penalty(xp, xp.where(over, excess, 0.0), kind), 0.0)
        count = xp.sum(xp.astype(known, penalty.dtype), axis=-1)
        parts[limit.name] = xp.sum(penalty, axis=-1) / xp.where(count > 0, count, 1.0)
        shares[f"{limit.name}/known"] = count / trajectory.horizon
    return parts, shares


def _penalty(xp: Namespace, excess: Array, kind: str) -> Array:
    """φ(e) for e >= 0; each has φ(0) = 0."""
    if kind == "squared":
        return excess * excess
    if kind == "hinge":
        return excess
    if kind == "smooth":
        return xp.log1p(excess)
    return excess / (1.0 + excess)
