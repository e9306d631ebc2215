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

from feasible._arrays import Array, namespace
from feasible._excess import means
from feasible._limits import Limit, check_limits
from feasible._trajectory import Trajectory

KINDS = ("smooth", "hinge", "squared")


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
    parts, known, _ = means(trajectory, vehicle, limits, mask, kind=kind, differencing=differencing, margin=margin)
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
    parts, known, invalid = means(
        trajectory, vehicle, limits, mask, kind="bounded", differencing=differencing, margin=margin
    )
    parts = {name: -part for name, part in parts.items()}
    total = sum(factors[name] * part for name, part in parts.items()) / sum(factors.values())
    return namespace(total).where(invalid > 0, floor, total), {**parts, **known, "invalid": invalid}


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
