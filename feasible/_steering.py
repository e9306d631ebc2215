"""Steering of a motion whose speed is planned already: the curvature rate of each step that keeps or regains limits.

Speed and acceleration do not depend on the curvature rate, so a step is a search along one line. What it is charged
for is the excess of each limit over an allowance: nothing where the limit has been kept so far; where it has not,
the least that its excess has been, less a share that is to go. So a limit that holds goes on holding, and one that
is broken never gets worse, as long as any curvature rate can do that; where none can, the sum of what is
charged is least.

The functions of `xp` are written for scalars of any array namespace: the inference programs trace them too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from feasible._arrays import Array, Namespace
from feasible._problem import Problem

_SLACK = 3e-3  # normalised room that steering leaves, because it looks at three points of a step
_FALL = 0.05  # share of an excess that half a step should take away
_RISES = 100.0  # what a rise costs beside a fall that is too slow: no limit is broken to mend another one sooner
_REACH = 4.0  # 1/(m s): largest curvature rate that is tried
_GOLDEN, _HALVINGS = 21, 12  # evaluations to find the rate with the least charge, and the nearest that is as good
_SECTION = (5**0.5 - 1) / 2
_ENOUGH = 1e-6  # normalised charge that counts as none more


def excesses(problem: Problem, x: Any, u: Any) -> list[Array]:
    """Normalised excess of each limit in a state under a control."""
    motion = problem.vehicle.motion_of(x, u)
    margins = [limit.margin(motion, problem.vehicle) + 0.0 * x[..., 3] for limit in problem.limits]
    return [0.5 * (m + abs(m)) for m in margins]  # the positive part, in any namespace


def allowances(problem: Problem, x: Any, u: Any) -> list[Array]:
    """Excess of each limit in a state that steering may keep: none of limits that read controls, which it can mend."""
    controls = set(problem.vehicle.CONTROLS)
    found = excesses(problem, x, u)
    return [0.0 * e if limit.reads & controls else e for e, limit in zip(found, problem.limits, strict=True)]


def charge(xp: Namespace, problem: Problem, x: Any, u: Any, least: list[Array]) -> Array:
    """Sum over the limits of the largest excess in a step from `x` under `u` over what is allowed, see above.

    What the first state alone decides is left out.
    """
    vehicle, zero = problem.vehicle, 0.0 * x[..., 3]
    worst: list[Any] = [None] * len(problem.limits)
    for row in problem.rows:
        if not row.first_step_only:
            at = x if row.fraction == 0.0 else vehicle.step(x, u, row.fraction * problem.dt)
            over = problem.limits[row.limit].margin(vehicle.motion_of(at, u), vehicle)
            worst[row.limit] = over if worst[row.limit] is None else xp.maximum(worst[row.limit], over)
    total = zero
    for w, e in zip(worst, least, strict=True):
        if w is not None:
            total = (
                total + xp.maximum(w + _SLACK - (1.0 - _FALL) * e, zero) + _RISES * xp.maximum(w + _SLACK / 2 - e, zero)
            )
    return total


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
        enough = value <= xp.minimum(s.at_a, s.at_b) + _ENOUGH
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
