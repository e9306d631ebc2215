"""Finite differences of samples, with time on the first axis: the formulas are in `feasible._motion`.

Time comes first because the differences are along it. A difference is then one of whole rows, each row a vector over
the batch, and the ends of the horizon are whole rows too: compilers turn that into vector code without remainders or
branches. With time last the same formulas are two to five times slower under XLA on a CPU.

XLA computes a value anew in every loop that reads it, all the way back, unless its last operation is dear: a root or
a division. So what many read, a chord, a turn, an arc, is written such that it ends in one. (It was half the loss.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from feasible._arrays import Array, Namespace, wrap
from feasible._elementary import arctangent_within_one

Columns = tuple[Array, Array, Array | None, Array | None]  # x, y, yaw, speed
MIN_SPEED = 0.5  # m/s; below, one centimetre of noise at 10 Hz turns the course by more than 0.2 rad: no curvature
NO_STEP = 1e-15  # m between samples at standstill: its square is a number in float32 too
SHORTEST_STEP = 1e-6  # m between samples; shorter ones have no direction
COARSEST_DT = 0.25  # s; above, a jerk bound of a few m/s³ can be broken and kept again between two differences


class Stencil(NamedTuple):
    """Where a difference can be told; `(T, ...)`, or `(T - 2, ...)` for one that has no value at the two ends.

    Attributes:
        present: every sample that it reads is there.
        steady: the car is fast enough for it, or None if it need not be.
        fine: whether it needs a fine dt.
    """

    present: Array
    steady: Array | None = None
    fine: bool = False

    def known(self, xp: Namespace, dt: Any, horizon: int) -> Array:
        """`(T, ...)` bool: present, steady and fine enough."""
        known = self.present if self.steady is None else self.present & self.steady
        if self.fine:
            known = known & (xp.zeros_like(known[:1]) | (dt <= COARSEST_DT))
        if known.shape[0] == horizon:
            return known
        edge = xp.zeros_like(known[:1])
        return xp.concat([edge, known, edge], axis=0)


def differences(
    xp: Namespace, columns: Columns, dt: Any, valid: Array, min_speed: float = MIN_SPEED
) -> tuple[dict[str, Array], dict[str, Stencil]]:
    """Fields of `Motion` and where they can be told, all `(T, ...)`, of columns `(T, ...)`."""
    x, y, yaw, speed = columns
    two = valid[1:] & valid[:-1]
    three = two[1:] & two[:-1]
    dx, dy = (xp.where(two, a[1:] - a[:-1], 0.0) for a in (x, y))
    square = dx * dx + dy * dy
    # Never quite 0, where the slope of the root is infinite.
    chord = xp.sqrt(xp.where(square > NO_STEP**2, square, NO_STEP**2))

    # Turning: between stated yaws, or between chords.
    by_yaw, direction = yaw is not None, None
    if yaw is not None:
        turn = wrap(xp, yaw[1:] - yaw[:-1])
    else:
        yaw, direction, corner = _course(xp, dx, dy, chord)
        turn = _between_known(xp, corner, three)

    square = turn * turn
    bow = 1.0 - square * (1 / 24 - square * (1 / 1920 - square * (1 / 322560)))  # chord over arc
    if speed is not None:
        pace = (speed[1:] + speed[:-1]) / 2  # per segment
        # The arc of the path stays that of the chord: the mean of two speeds misses dt³ jerk / 12, 8 % at a crawl.
        arc = xp.where(pace < 0, -chord, chord) / bow
        acceleration = (speed[2:] - speed[:-2]) / (2 * dt)
        jerk = (speed[2:] - 2 * speed[1:-1] + speed[:-2]) / (dt * dt)
        at_sample, at_jerk = valid, three
        moving = xp.abs(pace) >= min_speed
    else:
        if direction is None:  # whether the chord points along the stated heading
            heading = yaw[:-1] + turn / 2
            direction = dx * xp.cos(heading) + dy * xp.sin(heading) >= 0
        arc = xp.where(direction, chord, -chord) / bow
        pace = arc / dt
        # A line through the two outermost segments carries speed to the first and the last sample.
        first, last = 3 * arc[:1] - arc[1:2], 3 * arc[-1:] - arc[-2:-1]
        speed = xp.concat([first, arc[1:] + arc[:-1], last], axis=0) / (2 * dt)
        acceleration = (arc[1:] - arc[:-1]) / (dt * dt)
        jerk = _between(xp, (acceleration[1:] - acceleration[:-1]) / dt)
        at_sample, at_jerk = _all_between(xp, two), _all_between(xp, three[1:] & three[:-1])
        moving = xp.abs(arc) >= min_speed * dt

    if by_yaw:
        # A segment across a stop has no curvature, nor has one whose chord says that it stands.
        moving = moving & (speed[1:] * speed[:-1] > 0) & (xp.abs(arc) >= min_speed / 2 * dt)
        steady = rated = moving[1:] & moving[:-1]
        bend = xp.where(moving, turn, 0.0) / xp.where(moving, arc, 1.0)  # per segment; double where, as in safe_hypot
        # A segment's turn over arc is its curvature weighted by speed, so it belongs to the time at which the mean
        # of v t over v lies: later than the middle where the car speeds up. `late` is that time, in steps.
        late = xp.where(moving, speed[:-1] + 2 * speed[1:], 1.5) / xp.where(moving, 6 * pace, 3.0)
        before, after = 1.0 - late[:-1], late[1:]
        curvature = (bend[:-1] * after + bend[1:] * before) / (before + after)
        curvature_rate = (bend[1:] - bend[:-1]) / (dt * (before + after))
        at_yaw, at_rate = valid, three
    else:
        mean = (arc[1:] + arc[:-1]) / 2
        # Around a change of gear the two arcs have opposite signs and their mean means nothing: slow, by continuity.
        steady = moving[1:] & moving[:-1] & (xp.abs(mean) >= min_speed * dt)
        curvature = xp.where(steady, corner, 0.0) / xp.where(steady, mean, 1.0)
        curvature_rate = _between(xp, (curvature[1:] - curvature[:-1]) / dt)
        rated = _all_between(xp, steady[1:] & steady[:-1])
        at_yaw, at_rate = _all_between(xp, two), _all_between(xp, three[1:] & three[:-1])

    def interior(a: Array) -> Array:
        return xp.concat([a[:1], a, a[-1:]], axis=0)

    fields = {
        "x": x,
        "y": y,
        "yaw": yaw,
        "speed": speed,
        "acceleration": interior(acceleration),
        "jerk": interior(jerk),
        "curvature": interior(curvature),
        "curvature_rate": interior(curvature_rate),
    }
    stencils = {
        "x": Stencil(valid),
        "y": Stencil(valid),
        "yaw": Stencil(at_yaw),
        "speed": Stencil(at_sample),
        "acceleration": Stencil(three),
        "jerk": Stencil(at_jerk, fine=True),
        "curvature": Stencil(three, steady),
        "curvature_rate": Stencil(at_rate, rated, fine=True),
    }
    return fields, stencils


def _course(xp: Namespace, dx: Array, dy: Array, chord: Array) -> tuple[Array, Array, Array]:
    """From chords alone: yaw at samples (T), is a segment driven forward (T - 1), turn at inner samples (T - 2).

    The turn by its half: tan(δ/2) = sin δ / (1 + cos δ) needs no cases, because |δ| <= 90°. A segment that lacks a
    sample is too short to turn.
    """
    # Below, the square of the tangent's divisor, by which its slope is divided, would come near underflow in float32.
    usable = (chord[1:] > SHORTEST_STEP) & (chord[:-1] > SHORTEST_STEP)
    cross = xp.where(usable, dx[:-1] * dy[1:] - dy[:-1] * dx[1:], 0.0)
    dot = xp.where(usable, dx[:-1] * dx[1:] + dy[:-1] * dy[1:], 1.0)
    # No car turns by more than 90° in a step: the gear changed. Fold the turn and flip the direction of travel.
    reversal = dot < 0
    lengths = xp.where(usable, chord[1:] * chord[:-1], 1.0)
    corner = 2.0 * arctangent_within_one(xp, xp.where(reversal, -cross, cross) / (lengths + xp.abs(dot)))
    forward = ~_odd_so_far(xp, xp.concat([xp.zeros_like(reversal[:1]), reversal], axis=0))
    still = chord <= SHORTEST_STEP
    course = xp.atan2(
        xp.where(still, 0.0, xp.where(forward, dy, -dy)), xp.where(still, 1.0, xp.where(forward, dx, -dx))
    )
    yaw = xp.concat(
        [course[:1] - corner[:1] / 2, course[:-1] + corner / 2, course[-1:] + corner[-1:] / 2],
        axis=0,
    )
    return wrap(xp, yaw), forward, corner


def _odd_so_far(xp: Namespace, flags: Array) -> Array:
    """Whether an odd number of flags is set up to and with each: a running sum modulo 2, by doubling.

    XLA's running sum costs more than all the differences; this is log2(T) passes over bytes.
    """
    reach = 1
    while reach < flags.shape[0]:
        flags = flags ^ xp.concat([xp.zeros_like(flags[:reach]), flags[:-reach]], axis=0)
        reach *= 2
    return flags


def _between(xp: Namespace, a: Array) -> Array:
    """`(M, ...)` at midpoints to `(M + 1, ...)` at points: the mean of the neighbours, the end's own at an end."""
    return xp.concat([a[:1], (a[1:] + a[:-1]) / 2, a[-1:]], axis=0)


def _between_known(xp: Namespace, a: Array, known: Array) -> Array:
    """Like `_between`, of the neighbours that are known, if `a` is 0 where it is not."""
    total = a[1:] + a[:-1]
    return xp.concat([a[:1], xp.where(known[1:] & known[:-1], total / 2, total), a[-1:]], axis=0)


def _all_between(xp: Namespace, known: Array) -> Array:
    """Like `_between`, for masks: known at a point if known at each neighbouring midpoint."""
    return xp.concat([known[:1], known[1:] & known[:-1], known[-1:]], axis=0)
