"""The profile of a stop: jerk-limited braking that ends at rest, in closed form.

On a grid of steps h, the acceleration goes from a to -D in m steps, stays there for n, and goes to 0 in r steps.
With the signs of a forward drive, speed and acceleration then end at 0 on a sample if

    v + (a - D) m h / 2 - D n h - D r h / 2 = 0,   that is   D = (v + a m h / 2) / (h (m / 2 + n + r / 2)).

For a deceleration d and jerks that are not to be exceeded, m and r are the least that keep the jerk on the way from a
to -d and from -d to 0, and n is the least that keeps D <= d. Where even releasing the brake at that jerk would
overshoot into reverse, D is negative and the car comes back to a stop. Limits on acceleration and jerk themselves
bound d and the jerks; they may differ between onset and release.

The functions of `xp` are written for scalars of any array namespace: the inference programs trace them too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from feasible._arrays import Array, Namespace
from feasible._problem import Problem

_FREE = 1e6  # m/s², m/s³: no bound
_LEAST = 1e-2  # m/s², m/s³: of a bound, so that a limit of 0 leaves a profile


class Bounds(NamedTuple):
    """Lower and upper bounds on acceleration [m/s²], then on jerk [m/s³]; by default there are none."""

    slowest: Array = -_FREE
    fastest: Array = _FREE
    fall: Array = -_FREE
    rise: Array = _FREE

    @classmethod
    def of(cls, problem: Problem) -> Bounds:
        """Those of the limits whose signal is the acceleration or the jerk itself."""
        vehicle, found = problem.vehicle, []
        size = len(vehicle.STATES) + len(vehicle.CONTROLS)
        for place, name in ((vehicle.STATES.index("acceleration"), "acceleration"), (len(vehicle.STATES), "jerk")):
            probe = np.zeros((2, size))
            probe[:, place] = (1.0, -2.0)
            motion = vehicle.motion_of(probe[:, : len(vehicle.STATES)], probe[:, len(vehicle.STATES) :])
            lower, upper = -_FREE, _FREE
            for limit in problem.limits:
                if limit.reads == {name} and np.array_equal(limit.signal(motion, vehicle), probe[:, place]):
                    lower = lower if limit.lower is None else max(lower, float(limit.lower))
                    upper = upper if limit.upper is None else min(upper, float(limit.upper))
            found += [lower, upper]
        return cls(*found)


class Stop(NamedTuple):
    """Jerk `lead` [m/s³] for `p` steps, `onset` for `m`, none for `n`, `release` for `r`."""

    lead: Array
    p: Array
    onset: Array
    release: Array
    m: Array
    n: Array
    r: Array


def stop(
    xp: Namespace,
    speed: Array,
    acceleration: Array,
    deceleration: Array,
    jerk: Array,
    dt: float,
    bounds: Bounds = Bounds(),  # noqa: B008
) -> Stop:
    """The profile that ends at rest; scalars or arrays that broadcast.

    Args:
        xp: namespace.
        speed: at first [m/s].
        acceleration: at first [m/s²].
        deceleration: d, the most that the profile brakes with [m/s²].
        jerk: its size is the most either way [m/s³]; negative, it asks for a lead, which releases the brake first.
        dt: h, of a step [s].
        bounds: that d and the jerks keep too.
    """
    forward = speed >= 0.0
    sign = xp.where(forward, 1.0, -1.0)
    v, a = speed * sign, acceleration * sign

    def bounded(value: Array, ahead: float, back: float) -> Array:
        return xp.minimum(value, xp.maximum(xp.where(forward, ahead, back), _LEAST))

    d = bounded(deceleration, -bounds.slowest, bounds.fastest)
    early, jerk = jerk < 0.0, xp.abs(jerk)
    falling, rising = bounded(jerk, -bounds.fall, bounds.rise), bounded(jerk, bounds.rise, -bounds.fall)
    # A car that still speeds up at the bound on jerk takes all of it: rounding the onset up to whole steps would leave
    # some, and let the speed rise further than it must. So it is rounded down, to a lesser deceleration, unless that
    # leaves less than a quarter.
    whole = xp.floor((a + d) / (falling * dt) + 1e-9) * falling * dt - a
    d = xp.where((a > 0.0) & (jerk > falling) & (whole > 0.25 * d), whole, d)
    braking = xp.maximum(-a, 0.0)
    least = xp.maximum(_ceil(xp, braking / (rising * dt)), 1.0)  # steps to release the brake
    # The lead, until the brake is off: a little more than braking² / 2 v, under which speed falls to just 0.
    p = xp.where(early & (braking > 0.0), least, 0.0)
    lead = xp.minimum(rising, 0.51 * braking * braking / xp.maximum(v, 1e-3))
    v, a = v + p * dt * (a + 0.5 * lead * p * dt), a + lead * p * dt
    braking = xp.maximum(-a, 0.0)
    least = xp.maximum(_ceil(xp, braking / (rising * dt)), 1.0)
    overshoot = v - 0.5 * braking * least * dt < 0.0
    reach = xp.maximum(xp.maximum(a + d, 0.0) / falling, braking / rising)
    reach = xp.where(overshoot, (d + braking) / rising, reach)
    m = xp.maximum(_ceil(xp, reach / dt), 1.0)
    r = xp.maximum(_ceil(xp, d / (xp.where(overshoot, falling, rising) * dt)), 1.0)
    left = v + 0.5 * a * m * dt
    n = xp.maximum(_ceil(xp, xp.abs(left) / (d * dt) - 0.5 * (m + r)), 0.0)
    D = left / (dt * (0.5 * (m + r) + n))
    return Stop(sign * lead, p, sign * (-D - a) / (m * dt), sign * D / (r * dt), m, n, r)


def jerk(xp: Namespace, profile: Stop, k: Array) -> Array:
    """The jerk of step k."""
    first = xp.where(k < profile.p, profile.lead, 0.0)
    k = k - profile.p
    onset = xp.where((k >= 0.0) & (k < profile.m), profile.onset, 0.0)
    held = profile.m + profile.n
    return first + onset + xp.where((k >= held) & (k < held + profile.r), profile.release, 0.0)


def _ceil(xp: Namespace, value: Array) -> Array:
    return -xp.floor(1e-9 - value)
