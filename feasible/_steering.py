"""Steering of a motion that brakes: the curvature rate of each step that keeps or regains limits.

Speed and acceleration do not depend on the curvature rate, so a step of known jerk is a search along one line. What it
is charged for is the rise of the excess of each limit: over nothing where the limit has been kept so far; where it has
not, over the least that its excess has been, within the step too. So a limit that holds goes on holding, and one that
is broken never gets worse, as long as any curvature rate can do that; where none can, the sum of what is charged is
least. That a broken limit gets better soon is not asked for here, but follows from a wish to brake and to drive
straight: where it was asked for, the curvature was raised to lower a yaw acceleration a κ + v κ̇ that would have gone
by itself, and then could not be lowered any more once the car stood.

The functions of `xp` are written for scalars of any array namespace: the inference programs trace them too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from feasible._arrays import Array, Namespace
from feasible._problem import Problem

# Normalised, because more may pass between the points of a step than is seen at them: how far below its bound a limit
# that is kept begins to be charged, and how far below its least excess a broken one
_ROOM, _FALL = 1.5e-3, 1e-4
_REACH = 4.0  # 1/(m s): largest curvature rate that is tried
_GOLDEN, _HALVINGS = 21, 12  # evaluations to find the rate with the least charge, and the nearest that is as good
_STEERED = {"curvature", "curvature_rate"}  # fields of a motion that steering changes within a step
_SECTION = (5**0.5 - 1) / 2
ENOUGH = 1e-6  # a charge, or a sum of normalised excesses, that counts as none


def excesses(problem: Problem, x: Any, u: Any) -> list[Array]:
    """Normalised excess of each limit in a state under a control."""
    motion = problem.vehicle.motion_of(x, u)
    margins = [limit.margin(motion, problem.vehicle) + 0.0 * x[..., 3] for limit in problem.limits]
    return [0.5 * (m + abs(m)) for m in margins]  # the positive part, in any namespace


class Allowance(NamedTuple):
    """What excess a motion may have at first; see `allowances`.

    Attributes:
        given: of each limit, under no control.
        mended: sum over the limits, under the curvature rate with which it is least.
    """

    given: list[Array]
    mended: Array

    @property
    def broken(self) -> Array:
        """Whether no curvature rate keeps the limits at first."""
        return self.mended > ENOUGH

    def first(self, xp: Namespace) -> list[Array]:
        """Excess of each limit that a motion may have at first: none at all where there need be none."""
        return [xp.where(self.broken, e, 0.0) for e in self.given]


def allowances(
    xp: Namespace, loop: Callable[..., Any], problem: Problem, x: Any, stacked: Callable[[Array, Array], Any]
) -> Allowance:
    """What excess a motion from a state may have at first.

    It is that under no control. But where the limits that read states alone are kept, and some curvature rate
    keeps the others at that moment, there need be none.

    Args:
        xp: namespace.
        loop: `(condition, body, carry) -> carry`, such as `jax.lax.while_loop`.
        problem: its vehicle and limits.
        x: state.
        stacked: `(jerk, curvature rate) -> control`, of the type that the vehicle takes with `x`.
    """
    zero = 0.0 * x[..., 3]

    def broken(rate: Array) -> Array:
        return sum(excesses(problem, x, stacked(zero, rate)), zero)

    mended = broken(steer(xp, loop, broken, zero, zero + 1.0))
    return Allowance(excesses(problem, x, stacked(zero, zero)), mended)


def charge(xp: Namespace, problem: Problem, x: Any, u: Any, least: list[Array]) -> Array:
    """Sum over the limits of the largest rise of the excess in a step from `x` under `u` over the least before.

    A margin is known at the start, the middle and the end. Where the parabola through them has its vertex within the
    step, the vertex counts too, either way: lateral acceleration that grows and falls may be broken there and at
    neither end; lateral jerk that goes from one of its bounds to the other is kept there, and what it then exceeds is a
    rise. What no curvature rate changes would only cost a search in vain, so two things are left out: the vertex of a
    limit that reads no curvature, and the start of one that reads states alone.
    """
    vehicle, nothing, controls = problem.vehicle, 0.0 * x[..., 3], set(problem.vehicle.CONTROLS)
    total = nothing
    motions = [vehicle.motion_of(vehicle.step(x, u, f * problem.dt) if f > 0.0 else x, u) for f in (0.0, 0.5, 1.0)]
    for limit, lowest in zip(problem.limits, least, strict=True):

        def over(margin: Array, lowest: Array) -> Array:
            return margin - lowest + xp.where(lowest > 0.0, _FALL, _ROOM)

        if limit.reads <= controls:
            total = total + xp.maximum(limit.margin(motions[0], vehicle) - lowest, 0.0)  # no room: it is constant
            continue
        first, middle, last = (limit.margin(motion, vehicle) for motion in motions)
        rise = over(first, lowest) if limit.reads & controls else nothing
        lowest = xp.minimum(lowest, xp.maximum(first, 0.0))
        between = _vertex(xp, first, middle, last) if limit.reads & _STEERED else middle
        rise = xp.maximum(rise, xp.maximum(over(middle, lowest), over(between, lowest)))
        lowest = xp.minimum(lowest, xp.maximum(xp.minimum(middle, between), 0.0))
        total = total + xp.maximum(xp.maximum(rise, over(last, lowest)), 0.0)
    return total


def _vertex(xp: Namespace, first: Array, middle: Array, last: Array) -> Array:
    """Value at the vertex of the parabola through three values; the middle one if the vertex is not in the step."""
    slope, bend = 4.0 * middle - 3.0 * first - last, 2.0 * (first + last) - 4.0 * middle
    inside = (slope * bend < 0.0) & (abs(slope) < 2.0 * abs(bend))
    return xp.where(inside, first - 0.25 * slope * slope / xp.where(inside, bend, 1.0), middle)


class _Search(NamedTuple):
    """A golden section on [low, high] with inner points a and b, then halvings of [near, far]."""

    count: Array
    held: Array  # 1 if what is wanted is charged nothing
    low: Array
    high: Array
    a: Array
    at_a: Array
    b: Array
    at_b: Array
    near: Array
    far: Array


def steer(
    xp: Namespace, loop: Callable[..., Any], charged: Callable[[Array], Array], wanted: Array, needed: Array
) -> Array:
    """The curvature rate nearest to a wanted one that is charged nothing, or else the least.

    Args:
        xp: namespace.
        loop: `(condition, body, carry) -> carry`, such as `jax.lax.while_loop`.
        charged: charge of the step as a function of the rate; falls towards its least from both sides, nearly.
        wanted: rates.
        needed: positive where steering is called for at all.
    """
    zero = xp.zeros_like(wanted)
    low, high = zero - 1.0, zero + 1.0  # of the cube root of the rate: at speed the rates that matter are tiny
    a, b = high - _SECTION * (high - low), low + _SECTION * (high - low)
    held = xp.where(needed > 0.0, zero, zero + 1.0)
    first = _Search(zero, held, low, high, a, zero + 1e30, b, zero + 1e30, zero, zero + 1.0)

    def best(s: _Search) -> Array:
        root = xp.where(s.at_a < s.at_b, s.a, s.b)
        return _REACH * root * root * root

    def unfinished(s: _Search) -> Array:
        return xp.any((s.held <= 0.0) & (s.count < 1.0 + _GOLDEN + _HALVINGS))

    def body(s: _Search) -> _Search:
        late = s.count > _GOLDEN
        shrink, left = (s.count > 2.0) & ~late, s.at_a < s.at_b
        to_a, to_b = shrink & left, shrink & ~left
        high, low = xp.where(to_a, s.b, s.high), xp.where(to_b, s.a, s.low)
        a = xp.where(to_a, high - _SECTION * (high - low), xp.where(to_b, s.b, s.a))
        b = xp.where(to_b, low + _SECTION * (high - low), xp.where(to_a, s.a, s.b))
        new_a, new_b, middle = to_a | (s.count == 1.0), to_b | (s.count == 2.0), 0.5 * (s.near + s.far)
        root = xp.where(new_a, a, b)
        point = xp.where(late, wanted + middle * (best(s) - wanted), _REACH * root * root * root)
        value = charged(xp.where(s.count == 0.0, wanted, point))
        enough = value <= xp.minimum(s.at_a, s.at_b) + ENOUGH
        return _Search(
            s.count + 1.0,
            xp.where((s.count == 0.0) & (value <= 0.0), 1.0, s.held),
            low,
            high,
            a,
            xp.where(new_a, value, xp.where(to_b, s.at_b, s.at_a)),
            b,
            xp.where(new_b, value, xp.where(to_a, s.at_a, s.at_b)),
            xp.where(late & ~enough, middle, s.near),
            xp.where(late & enough, middle, s.far),
        )

    s = loop(unfinished, body, first)
    return xp.where(s.held > 0.0, wanted, wanted + s.far * (best(s) - wanted))
