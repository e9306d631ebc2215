"""`Limit`: one bound on one signal, which audit, loss, reward, projector, plot and report all read.

The normalised excess of a signal s over a limit is

    max(s - upper, lower - s, 0) / scale,   scale = the bound's own size, |upper| or |lower|,

or the other bound's size where a bound is 0. It is 0 where the limit holds, 0.1 where it is broken by 10 %.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from feasible._arrays import Array, Namespace, namespace, pytree, static
from feasible._motion import FIELDS, Motion
from feasible.signals import Signal


@pytree
class Limit:
    """A signal with bounds, a unit and a source.

    Attributes:
        name: what the report calls it; unique within a tuple of limits.
        signal: `(motion, vehicle) -> (..., T)`, see `feasible.signals`.
        lower: smallest value allowed, in `unit`, or None for no bound.
        upper: largest value allowed, in `unit`, or None for no bound.
        unit: of the signal and the bounds, "1" for a share.
        source: where the number comes from.
        reads: the fields of `Motion` that the signal reads, found by calling it once; they tell at which samples
            it can be assessed, and whether it can change within a step.

    Raises:
        ValueError: if there is no bound, a bound is not a number, or lower is above upper.
    """

    name: str = static()
    signal: Signal = static()
    lower: Any = None
    upper: Any = None
    unit: str = static(default="1")
    source: str = static(default="")
    reads: frozenset[str] = static(default=frozenset())

    def __post_init__(self) -> None:
        lower, upper = _number(self.lower), _number(self.upper)
        if self.lower is None and self.upper is None:
            raise ValueError(f"limit {self.name!r}: expected a lower or an upper bound, got neither")
        if any(b is not None and np.isnan(b) for b in (lower, upper)):
            raise ValueError(f"limit {self.name!r}: expected bounds that are numbers, got NaN (use None for no bound)")
        if lower is not None and upper is not None and lower > upper:
            raise ValueError(f"limit {self.name!r}: expected lower <= upper, got {lower} > {upper}")
        if not self.reads:
            object.__setattr__(self, "reads", fields_read(self.signal))

    def __repr__(self) -> str:
        return f"Limit({self.name}: {self.lower} .. {self.upper} {self.unit})"

    def scales(self, xp: Namespace) -> tuple[Array, Array]:
        """Sizes that normalise the excess below `lower` and above `upper`; 1 where both bounds are 0 or absent."""
        lower = 0.0 if self.lower is None else abs(self.lower)
        upper = 0.0 if self.upper is None else abs(self.upper)
        if _number(lower) is None or _number(upper) is None:  # traced bounds: choose at run time
            other = lambda a, b: xp.where(a > 0, a, xp.where(b > 0, b, 1.0))  # noqa: E731
            return other(lower, upper), other(upper, lower)
        return lower or upper or 1.0, upper or lower or 1.0

    def margin(self, motion: Motion, vehicle: Any) -> Array:
        """`(..., T)` signed normalised excess: positive where the limit is broken, negative where there is room."""
        return self.margin_of(self.signal(motion, vehicle))

    def margin_of(self, value: Array) -> Array:
        """The margin of values of the signal `(...)`, in the limit's unit."""
        xp = namespace(value)
        below, above = self.scales(xp)
        if self.lower is None:
            return (value - self.upper) / above
        if self.upper is None:
            return (self.lower - value) / below
        return xp.maximum((value - self.upper) / above, (self.lower - value) / below)

    def gap(self, motion: Motion) -> Array | None:
        """`(..., T)` `Gap` codes of the samples where the signal cannot be assessed; None if it can everywhere."""
        codes = [motion.gaps[name] for name in FIELDS if name in self.reads and name in motion.gaps]
        if not codes:
            return None
        worst = codes[0]
        for code in codes[1:]:
            worst = motion.xp.maximum(worst, code)
        return worst


def _number(bound: Any) -> float | None:
    """The bound as a Python float, or None if it is absent or has no value yet (a tracer)."""
    try:
        return float(bound)
    except Exception:
        return None


class _Recorder(Motion):
    """A motion that notes which of its fields are read."""

    def __getattribute__(self, name: str) -> Any:
        if name in FIELDS:
            object.__getattribute__(self, "_seen").add(name)
        return object.__getattribute__(self, name)


class _AnyVehicle:
    """Stands for any vehicle while a signal is probed: its numbers are positive and differ from name to name."""

    def __getattr__(self, name: str) -> float:
        return 1.0 + sum(map(ord, name)) % 997 / 1000


def fields_read(signal: Signal) -> frozenset[str]:
    """The fields of `Motion` that a signal reads; all of them if it cannot be told by calling it once."""
    import array_api_compat.numpy as xp

    probe = object.__new__(_Recorder)
    object.__setattr__(probe, "_seen", set())
    for name in FIELDS:
        object.__setattr__(probe, name, np.ones(4))
    object.__setattr__(probe, "gaps", {})
    object.__setattr__(probe, "xp", xp)
    try:
        signal(probe, _AnyVehicle())
    except Exception:
        return frozenset(FIELDS)
    return frozenset(object.__getattribute__(probe, "_seen")) or frozenset(FIELDS)


def check_limits(limits: Any) -> tuple[Limit, ...]:
    """The limits as a tuple.

    Raises:
        ValueError: if it is empty, has something else than a `Limit` in it, or repeats a name.
    """
    limits = (limits,) if isinstance(limits, Limit) else tuple(limits)
    strangers = [limit for limit in limits if not isinstance(limit, Limit)]
    if strangers or not limits:
        raise ValueError(f"limits: expected a non-empty tuple of Limit, got {strangers[0] if strangers else limits!r}")
    names = [limit.name for limit in limits]
    doubles = {name for name in names if names.count(name) > 1}
    if doubles:
        raise ValueError(
            f"limits: expected distinct names, got {sorted(doubles)} twice (dataclasses.replace renames one)"
        )
    return limits
