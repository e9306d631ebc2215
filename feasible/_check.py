"""The independent check: integrates the model in continuous time and measures every limit every millisecond.

It shares no code with the solvers or with the model's own step: classic Runge-Kutta of fourth order on
`vehicle.derivative`, from each stored state over the step that follows it. Between the milliseconds it also looks
where the wheels pass straight ahead, for there the steering rate c L / (1 + κ² L²) has a peak, and a narrow one where
the rate is absurd. What it shares is the meaning of a limit.

Steps are measured apart from each other, a block of them at a time: XLA compiles the whole of it, and leaves out of the
milliseconds what no limit reads, above all the sines of the position. A limit or a model that JAX cannot trace, and a
limit that looks at other samples than its own, is measured by NumPy, with the same function and in ten times the time.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from feasible._arrays import Array, Namespace, namespace
from feasible._limits import Limit, check_limits
from feasible._pointwise import is_pointwise
from feasible._threads import cores, share

_STEPS_AT_ONCE = 512  # a row of 80 steps takes 1.4 ms alone; four times as many are a tenth faster in large batches
_SUBSTEPS = 10  # of a step, in which the whole state is integrated to its end: off by 2e-9 m where it is driven hard

Loop = Callable[[Any, Callable[[int, Any], Any], Any], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate:
    """What the check measured for N motions.

    Attributes:
        margin: per limit `(...)`: largest signed normalised excess in continuous time; negative where there is room.
        violation: `(...)`: the largest of them, at least 0; NaN only if states or controls are not finite.
        dynamics_residual: `(...)`: largest distance between a stored state and the integrated one, over all
            components [m, rad, m/s, ...].
    """

    margin: Mapping[str, np.ndarray]
    violation: np.ndarray
    dynamics_residual: np.ndarray

    @classmethod
    def of(
        cls, limits: tuple[Limit, ...], measured: np.ndarray, states: np.ndarray, controls: np.ndarray
    ) -> Certificate:
        """From what `measure` found, `(..., L + 1)`, of motions `(..., T + 1, S)` and `(..., T, C)`."""
        finite = np.isfinite(states).all((-2, -1)) & np.isfinite(controls).all((-2, -1))
        return cls(
            margin={m.name: measured[..., i] for i, m in enumerate(limits)},
            violation=np.where(finite, np.maximum(measured[..., :-1].max(-1), 0.0), np.nan),
            dynamics_residual=np.where(finite, measured[..., -1], np.nan),
        )


def certify(
    states: np.ndarray, controls: np.ndarray, dt: float, vehicle: Any, limits: tuple[Limit, ...], *, tick: float = 1e-3
) -> Certificate:
    """Checks motions given by states `(..., T + 1, S)` and controls `(..., T, C)`.

    Args:
        states: at the ends of the steps, NumPy float64.
        controls: constant over each step.
        dt: step [s].
        vehicle: its `derivative` is integrated, its `motion_of` names the signals' inputs.
        limits: what to measure.
        tick: time between measurements [s].
    """
    limits = check_limits(limits)
    return Certificate.of(limits, measure(states, controls, dt, vehicle, limits, tick=tick), states, controls)


def measure(
    states: np.ndarray, controls: np.ndarray, dt: float, vehicle: Any, limits: tuple[Limit, ...], *, tick: float = 1e-3
) -> np.ndarray:
    """`(..., L + 1)`: the largest margin of each limit, and of the distance of a state from the integrated one.

    Arguments as of `certify`.
    """
    batch, steps = controls.shape[:-2], controls.shape[-2]
    given = [np.moveaxis(a, -1, 0) for a in (states[..., :-1, :], controls, states[..., 1:, :])]
    task = vehicle, limits, dt, max(1, math.ceil(dt / tick - 1e-9))
    try:
        found = _by_xla(task, [a.reshape(len(a), -1) for a in given]).reshape(-1, *batch, steps)
    except Exception:  # not for JAX; and what is wrong in other ways NumPy says in the caller's own terms
        with np.errstate(over="ignore", invalid="ignore"):
            found = _measured(*task, *given, loop=_repeat)
    worst: np.ndarray = found.max(-1)
    return np.moveaxis(worst, 0, -1)


def _measured(
    vehicle: Any,
    limits: tuple[Limit, ...],
    dt: Array,
    ticks: Any,
    start: Array,
    control: Array,
    following: Array,
    *,
    loop: Loop,
) -> Array:
    """`(L + 1, ...)`: the largest margin of each limit within each of some steps, and how far off its end was.

    Args:
        vehicle: as of `certify`.
        limits: L of them.
        dt: step [s].
        ticks: measurements in a step; traced, so that another number takes no other program.
        start: `(S, ...)` states.
        control: `(C, ...)`.
        following: `(S, ...)` what is said to be the end.
        loop: `jax.lax.fori_loop` from 0, or what does the same in NumPy.
    """
    xp = namespace(start)
    inputs = xp.stack([*control], axis=-1)

    def rate(x: Sequence[Array]) -> list[Array]:
        change = vehicle.derivative(xp.stack([*x], axis=-1), inputs)
        return [change[..., i] for i in range(len(x))]

    def look(x: Sequence[Array], worst: Sequence[Array]) -> list[Array]:
        motion = vehicle.motion_of(xp.stack([*x], axis=-1), inputs)
        return [xp.maximum(w, m.margin(motion, vehicle)) for w, m in zip(worst, limits, strict=True)]

    def tick(_: int, carry: tuple[list[Array], list[Array]]) -> tuple[list[Array], list[Array]]:
        x = runge_kutta(rate, carry[0], dt / ticks)
        return x, look(x, carry[1])

    first = [*start]
    worst = look(first, [xp.full_like(first[0], -xp.inf)] * len(limits))
    worst = loop(ticks, tick, (first, worst))[1]
    end = loop(_SUBSTEPS, lambda _, x: runge_kutta(rate, x, dt / _SUBSTEPS), first)
    if "curvature" in vehicle.STATES:
        share = straight(xp, *(x[vehicle.STATES.index("curvature")] for x in (first, end)))
        worst = look(runge_kutta(rate, first, share * dt), worst)
    off = functools.reduce(xp.maximum, [xp.abs(a - b) for a, b in zip(end, following, strict=True)])
    return xp.stack([*worst, off])


def runge_kutta(rate: Callable[[Sequence[Array]], list[Array]], x: Sequence[Array], h: Array) -> list[Array]:
    """The state after a time h: the classic method of fourth order, for components of any shape."""
    k1 = rate(x)
    k2 = rate([a + h / 2 * k for a, k in zip(x, k1, strict=True)])
    k3 = rate([a + h / 2 * k for a, k in zip(x, k2, strict=True)])
    k4 = rate([a + h * k for a, k in zip(x, k3, strict=True)])
    return [a + h / 6 * (p + 2 * q + 2 * r + s) for a, p, q, r, s in zip(x, k1, k2, k3, k4, strict=True)]


def straight(xp: Namespace, before: Array, after: Array) -> Array:
    """The share of a step after which a curvature that is linear in time passes zero; an end where it does not."""
    change = before - after
    return xp.clip(before / xp.where(change == 0.0, 1.0, change), 0.0, 1.0)


def _repeat(count: int, body: Callable[[int, Any], Any], carry: Any) -> Any:
    """`jax.lax.fori_loop`, for NumPy."""
    for i in range(count):
        carry = body(i, carry)
    return carry


@jax.jit
def _compiled(vehicle: Any, limits: tuple[Limit, ...], dt: Any, ticks: Any, *given: Any) -> Any:
    def loop(count: Any, body: Callable[[int, Any], Any], carry: Any) -> Any:
        return jax.lax.fori_loop(0, count, body, carry)

    if not all(is_pointwise(limit, vehicle, namespace(given[0]), given[0].dtype) for limit in limits):
        raise TypeError("expected limits that look at one sample at a time")
    return _measured(vehicle, limits, dt, ticks, *given, loop=loop)


def _by_xla(task: tuple[Any, tuple[Limit, ...], float, int], given: Sequence[np.ndarray]) -> np.ndarray:
    """`_measured` of n steps `(S, n)`, `(C, n)`, in float64 on the processor's cores, whatever JAX has been told."""
    count = given[0].shape[1]
    found = np.empty((len(task[1]) + 1, count))

    def block(first: int) -> None:
        here = slice(first, min(first + _STEPS_AT_ONCE, count))
        size = here.stop - first
        parts = [np.zeros((len(a), _STEPS_AT_ONCE)) for a in given]
        for part, a in zip(parts, given, strict=True):
            part[:, :size] = a[:, here]
        with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
            found[:, here] = np.asarray(_compiled(*task, *parts))[:, :size]

    blocks = range(0, count, _STEPS_AT_ONCE)
    for first in blocks[:1]:  # compiles, where this is new
        block(first)
    workers = min(cores(), max(len(blocks) - 1, 1))

    def work(k: int) -> None:
        for first in blocks[1 + k :: workers]:
            block(first)

    share(work, workers)
    return found
