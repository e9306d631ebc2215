"""`Motion`: everything that a limit can be about, exactly from a model or by finite differences from samples.

Finite differences ("raw"). Let c_k be the chord from sample k to k+1, δ_k the turn from chord c_{k-1} to c_k, and
θ_k the turn along segment k. An arc of turn θ over a chord |c| has the length

    s = |c| (θ/2) / sin(θ/2) = |c| (1 + θ²/24 + 7 θ⁴/5760 + 31 θ⁶/967680 + ...),

so a circle sampled at any rate has its exact speed and curvature. Then

    speed         s_k / dt on a segment, or as stated
    acceleration  first difference of speed over one segment (positions) or two (stated speed)
    jerk          first difference of acceleration (positions), second difference of speed (stated)
    curvature     turn over arc length: δ_k / mean(s_{k-1}, s_k) (positions), Δyaw_k / s_k on a segment (stated yaw)
    its rate      first difference of curvature

Δyaw over arc is the segment's curvature weighted by speed, so with a stated yaw it counts at the segment's centroid
of speed, not at its middle: at walking speed, where speed doubles within a step, the middle is off by a factor.

A quantity that lives between two samples is given to a sample as the mean of its neighbours, so reversing time
mirrors every field. With positions alone a turn above 90° in one step is read as a change of gear, not as a turn.

The "savgol" reading smooths positions, stated yaw and stated speed by a local polynomial of the given order
(Savitzky and Golay, 1964; edges by the polynomial of the outermost window), then takes the same differences.
Differences amplify noise: 1 cm of jitter at 10 Hz is about 10 m/s³ of jerk. State the reading beside the number.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from feasible._arrays import Array, Namespace, namespace, pytree, static, wrap
from feasible._trajectory import Trajectory

MIN_SPEED = 0.5  # m/s; below, one centimetre of noise at 10 Hz turns the course by more than 0.2 rad: no curvature
SHORTEST_STEP = 1e-6  # m between samples; shorter ones have no direction
COARSEST_DT = 0.25  # s; above, a jerk bound of a few m/s³ can be broken and kept again between two differences
SAVGOL_WINDOW = 11  # samples, 1.1 s at 10 Hz: wide enough for centimetre noise, narrow enough for a swerve
SAVGOL_ORDER = 3


class Gap(enum.IntEnum):
    """Why a field of a `Motion` cannot be told at a sample; a higher member hides a lower one."""

    NONE = 0, "known"
    EDGE = 1, "at the edge of the window, where a central difference has no neighbour"
    COARSE = 2, "dt is too coarse for jerk and steering rate"
    SLOW = 3, "too slow for curvature"
    MISSING = 4, "a sample it needs is missing or not finite"

    def __new__(cls, value: int, meaning: str) -> Gap:
        """An integer member that carries its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning  # type: ignore[attr-defined]
        return member


FIELDS = ("x", "y", "yaw", "speed", "acceleration", "jerk", "curvature", "curvature_rate")


@pytree
class Motion:
    """Kinematics of the rear axle at T samples, with any leading batch axes `...`.

    Attributes:
        x: `(..., T)` [m]. y: `(..., T)` [m]. yaw: `(..., T)` [rad].
        speed: `(..., T)` signed [m/s]. acceleration: `(..., T)` its rate [m/s²]. jerk: `(..., T)` [m/s³].
        curvature: `(..., T)` signed, left positive [1/m]. curvature_rate: `(..., T)` its rate in time [1/(m s)].
        gaps: for a field that cannot be told everywhere, its `(..., T)` `Gap` codes; an exact motion has none.
        xp: the array namespace of the fields.
    """

    x: Array
    y: Array
    yaw: Array
    speed: Array
    acceleration: Array
    jerk: Array
    curvature: Array
    curvature_rate: Array
    gaps: Mapping[str, Array]
    xp: Namespace = static()

    @property
    def yaw_rate(self) -> Array:
        """V κ [rad/s]."""
        return self.speed * self.curvature

    @property
    def lateral_acceleration(self) -> Array:
        """v² κ [m/s²]."""
        return self.speed * self.speed * self.curvature

    @property
    def lateral_jerk(self) -> Array:
        """The rate of v² κ: 2 v a κ + v² κ̇ [m/s³]."""
        v, a = self.speed, self.acceleration
        return 2.0 * v * a * self.curvature + v * v * self.curvature_rate

    @property
    def yaw_acceleration(self) -> Array:
        """The rate of v κ: a κ + v κ̇ [rad/s²]."""
        return self.acceleration * self.curvature + self.speed * self.curvature_rate

    @property
    def total_acceleration(self) -> Array:
        """hypot(a, v² κ) [m/s²]."""
        return safe_hypot(self.xp, self.acceleration, self.lateral_acceleration)

    @property
    def jerk_magnitude(self) -> Array:
        """hypot(j, rate of v² κ) [m/s³]; at least |d|acceleration|/dt|, which nuPlan calls jerk magnitude."""
        return safe_hypot(self.xp, self.jerk, self.lateral_jerk)

    def steering_angle(self, wheelbase: Array) -> Array:
        """Of the kinematic bicycle: atan(L κ) [rad]."""
        return self.xp.atan(wheelbase * self.curvature)

    def steering_rate(self, wheelbase: Array) -> Array:
        """Of the kinematic bicycle: L κ̇ / (1 + L² κ²) [rad/s]."""
        slope = wheelbase * self.curvature
        return wheelbase * self.curvature_rate / (1.0 + slope * slope)

    @classmethod
    def from_trajectory(
        cls,
        trajectory: Trajectory,
        *,
        differencing: str = "raw",
        window: int = SAVGOL_WINDOW,
        order: int = SAVGOL_ORDER,
        min_speed: float = MIN_SPEED,
    ) -> Motion:
        """Finite differences of samples, as the module describes; native in NumPy, JAX and PyTorch.

        Positions are differenced as they are: recentre float32 positions first (the public verbs do).

        Args:
            trajectory: the samples.
            differencing: "raw", or "savgol" to smooth first.
            window: width of the smoother [samples], odd; capped at T.
            order: polynomial order of the smoother, below the window; capped with it.
            min_speed: below this speed [m/s] curvature and its rate are gaps.

        Raises:
            ValueError: for an unknown differencing, an even window or an order that is not below the window.
        """
        trajectory.check()
        if differencing == "savgol":
            trajectory = _smooth(trajectory, window, order)
        elif differencing != "raw":
            raise ValueError(f"differencing: expected 'raw' or 'savgol', got {differencing!r}")
        return _difference(trajectory, min_speed)


def safe_hypot(xp: Namespace, a: Array, b: Array) -> Array:
    """sqrt(a² + b²) with gradient 0, not NaN, at the origin.

    The inner `where` keeps the root away from 0, where its slope is infinite; the outer one restores the value.
    Either alone would let 0 · ∞ = NaN into the gradient.
    """
    square = a * a + b * b
    positive = square > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, square, xp.ones_like(square))), xp.zeros_like(square))


def _between(a: Array) -> Array:
    """`(..., M)` at midpoints to `(..., M + 1)` at points: the mean of the neighbours, the end's own at an end."""
    xp = namespace(a)
    return xp.concat([a[..., :1], (a[..., 1:] + a[..., :-1]) / 2, a[..., -1:]], axis=-1)


def _difference(t: Trajectory, min_speed: float) -> Motion:
    xp, dt = namespace(t.x), t.dt
    dx, dy = t.x[..., 1:] - t.x[..., :-1], t.y[..., 1:] - t.y[..., :-1]
    chord = safe_hypot(xp, dx, dy)

    # Turning: between stated yaws, or between chords. atan2 of (cross, dot) needs no unwrapping and is exact at ±π;
    # where a chord vanishes its gradient is undefined, so it sees (0, 1) there.
    if t.yaw is not None:
        yaw: Array = t.yaw
        direction = None
        turn = wrap(xp, t.yaw[..., 1:] - t.yaw[..., :-1])
    else:
        whole = t.valid[..., 2:] & t.valid[..., 1:-1] & t.valid[..., :-2]
        yaw, direction, corner = _course(xp, dx, dy, chord, whole)
        turn = _between_known(xp, corner, whole)

    half = turn * turn
    arc = chord * (1.0 + half / 24.0 + half * half * (7.0 / 5760.0) + half * half * half * (31.0 / 967680.0))
    if t.speed is not None:
        speed, pace = t.speed, (t.speed[..., 1:] + t.speed[..., :-1]) / 2
        # The arc of the path stays that of the chord: the mean of two speeds misses dt³ jerk / 12, 8 % at a crawl.
        arc = xp.where(pace < 0, -arc, arc)
        acceleration = (speed[..., 2:] - speed[..., :-2]) / (2 * dt)
        jerk = (speed[..., 2:] - 2 * speed[..., 1:-1] + speed[..., :-2]) / (dt * dt)
    else:
        if direction is None:  # which way the chord points along the stated heading
            heading = yaw[..., :-1] + turn / 2
            forward = dx * xp.cos(heading) + dy * xp.sin(heading) >= 0
            direction = xp.where(forward, xp.ones_like(chord), -xp.ones_like(chord))
        arc = arc * direction
        pace = arc / dt
        # A line through the two outermost segments carries speed to the first and the last sample.
        first, last = (3 * pace[..., :1] - pace[..., 1:2]) / 2, (3 * pace[..., -1:] - pace[..., -2:-1]) / 2
        speed = xp.concat([first, (pace[..., 1:] + pace[..., :-1]) / 2, last], axis=-1)
        acceleration = (pace[..., 1:] - pace[..., :-1]) / dt
        jerk = _between((acceleration[..., 1:] - acceleration[..., :-1]) / dt)

    moving = xp.abs(pace) >= min_speed  # per segment
    if t.yaw is not None:
        # A segment across a stop has no curvature, nor has one whose chord says that it stands.
        moving = moving & (speed[..., 1:] * speed[..., :-1] > 0) & (xp.abs(arc) >= min_speed / 2 * dt)
        both = moving[..., 1:] & moving[..., :-1]
        bend = xp.where(moving, turn, 0.0) / xp.where(moving, arc, 1.0)  # per segment; double where, as above
        # A segment's turn over arc is its curvature weighted by speed, so it belongs to the time at which the mean
        # of v t over v lies: later than the middle where the car speeds up. `late` is that time, in steps.
        late = xp.where(moving, speed[..., :-1] + 2 * speed[..., 1:], 1.5) / xp.where(moving, 6 * pace, 3.0)
        before, after = 1.0 - late[..., :-1], late[..., 1:]
        curvature = (bend[..., :-1] * after + bend[..., 1:] * before) / (before + after)
        curvature_rate = (bend[..., 1:] - bend[..., :-1]) / (dt * (before + after))
        steady = both
    else:
        mean = (arc[..., 1:] + arc[..., :-1]) / 2
        # Around a change of gear the two arcs have opposite signs and their mean means nothing: slow, by continuity.
        both = moving[..., 1:] & moving[..., :-1] & (xp.abs(mean) >= min_speed * dt)
        curvature = xp.where(both, corner, 0.0) / xp.where(both, mean, 1.0)
        curvature_rate = _between((curvature[..., 1:] - curvature[..., :-1]) / dt)
        steady = _all_between(both[..., 1:] & both[..., :-1])

    def interior(a: Array) -> Array:
        return xp.concat([a[..., :1], a, a[..., -1:]], axis=-1)

    return Motion(
        x=t.x,
        y=t.y,
        yaw=yaw,
        speed=speed,
        acceleration=interior(acceleration),
        jerk=interior(jerk),
        curvature=interior(curvature),
        curvature_rate=interior(curvature_rate),
        gaps=_gaps(xp, t, both, steady),
        xp=xp,
    )


def _between_known(xp: Namespace, a: Array, known: Array) -> Array:
    """Like `_between`, of the neighbours that are known; 0 where neither is."""
    none = xp.zeros_like(a[..., :1])
    total = xp.concat([none, xp.where(known, a, 0.0), none], axis=-1)
    count = xp.concat([none, xp.astype(known, a.dtype), none], axis=-1)
    total, count = total[..., 1:] + total[..., :-1], count[..., 1:] + count[..., :-1]
    return total / xp.where(count > 0, count, 1.0)


def _course(xp: Namespace, dx: Array, dy: Array, chord: Array, whole: Array) -> tuple[Array, Array, Array]:
    """From chords alone: yaw at samples (T), direction of travel on segments (±1), turn at inner samples (T - 2).

    `whole` `(..., T - 2)` tells the inner samples with both neighbours: the filler of a missing sample turns nothing.
    """
    # Below, the squares of cross and dot, which the slope of atan2 is divided by, would underflow in float32.
    usable = whole & (chord[..., 1:] > SHORTEST_STEP) & (chord[..., :-1] > SHORTEST_STEP)
    cross = dx[..., :-1] * dy[..., 1:] - dy[..., :-1] * dx[..., 1:]
    dot = dx[..., :-1] * dx[..., 1:] + dy[..., :-1] * dy[..., 1:]
    corner = xp.atan2(xp.where(usable, cross, 0.0), xp.where(usable, dot, 1.0))
    # No car turns by more than 90° in a step: the gear changed. Fold the turn and flip the direction of travel.
    reversal = xp.abs(corner) > np.pi / 2
    one = xp.ones_like(corner)
    corner = corner - xp.where(reversal, np.pi * xp.where(corner > 0, one, -one), 0.0)
    flips = xp.cumulative_sum(xp.astype(reversal, xp.int32), axis=-1)
    flips = xp.concat([xp.zeros_like(flips[..., :1]), flips], axis=-1)
    direction = 1.0 - 2.0 * xp.astype(flips % 2, chord.dtype)
    still = chord <= SHORTEST_STEP
    course = xp.atan2(xp.where(still, 0.0, dy * direction), xp.where(still, 1.0, dx * direction))
    yaw = xp.concat(
        [course[..., :1] - corner[..., :1] / 2, course[..., :-1] + corner / 2, course[..., -1:] + corner[..., -1:] / 2],
        axis=-1,
    )
    return wrap(xp, yaw), direction, corner


def _all_between(known: Array) -> Array:
    """Like `_between`, for masks: known at a point if known at each neighbouring midpoint."""
    xp = namespace(known)
    return xp.concat([known[..., :1], known[..., 1:] & known[..., :-1], known[..., -1:]], axis=-1)


def _gaps(xp: Namespace, t: Trajectory, both: Array, steady: Array) -> dict[str, Array]:
    """Gap codes per field; a field's stencil is the samples that its difference reads."""
    three = t.valid[..., 2:] & t.valid[..., 1:-1] & t.valid[..., :-2]
    five = _all_between(three[..., 1:] & three[..., :-1])
    two = _all_between(t.valid[..., 1:] & t.valid[..., :-1])
    stated = t.speed is not None

    def code(present: Array, *reasons: tuple[Any, Gap]) -> Array:
        codes = xp.zeros_like(xp.astype(present, xp.int32))
        for condition, gap in reasons:
            codes = xp.where(condition, int(gap), codes)
        codes = xp.where(present, codes, int(Gap.MISSING))
        if present.shape[-1] == t.horizon:
            return codes
        edge = xp.full_like(codes[..., :1], int(Gap.EDGE))
        return xp.concat([edge, codes, edge], axis=-1)

    too_coarse = xp.zeros_like(three) | (t.dt > COARSEST_DT)
    return {
        "x": code(t.valid),
        "y": code(t.valid),
        "yaw": code(t.valid if t.yaw is not None else two),
        "speed": code(t.valid if stated else two),
        "acceleration": code(three),
        "jerk": code(three if stated else five, (too_coarse, Gap.COARSE)),
        "curvature": code(three, (~both, Gap.SLOW)),
        "curvature_rate": code(three if t.yaw is not None else five, (too_coarse, Gap.COARSE), (~steady, Gap.SLOW)),
    }


def _smooth(t: Trajectory, window: int, order: int) -> Trajectory:
    """Every stated column through the Savitzky-Golay smoother; a sample whose window has a gap becomes a gap."""
    xp = namespace(t.x)
    matrix = _savgol_matrix(t.horizon, window, order)
    smoother = xp.asarray(matrix.T, dtype=t.x.dtype)
    reach = xp.asarray((matrix != 0).T.astype(np.float64), dtype=t.x.dtype)

    def apply(a: Array | None) -> Array | None:
        return None if a is None else a @ smoother

    yaw = t.yaw
    if yaw is not None:  # smooth the continuous heading, not the wrapped one
        steps = xp.cumulative_sum(wrap(xp, yaw[..., 1:] - yaw[..., :-1]), axis=-1)
        yaw = xp.concat([yaw[..., :1], yaw[..., :1] + steps], axis=-1)
    holes = xp.astype(~t.valid, t.x.dtype) @ reach
    return dataclasses.replace(
        t, x=apply(t.x), y=apply(t.y), yaw=apply(yaw), speed=apply(t.speed), valid=t.valid & (holes < 0.5)
    )


@functools.cache
def _savgol_matrix(steps: int, window: int, order: int) -> np.ndarray:
    """`(T, T)`: row k holds the weights of a least-squares polynomial over the window of sample k, taken at k."""
    if window % 2 == 0 or window < 3:
        raise ValueError(f"window: expected an odd number of samples, at least 3, got {window}")
    if not 0 <= order < window:
        raise ValueError(f"order: expected 0 <= order < window = {window}, got {order}")
    window = min(window, steps - 1 + steps % 2)
    order = min(order, window - 1)  # a horizon shorter than the window is fitted as well as it allows
    matrix = np.zeros((steps, steps))
    for k in range(steps):
        start = min(max(k - window // 2, 0), steps - window)
        offsets = np.arange(start, start + window) - k
        fit = np.linalg.pinv(np.vander(offsets / window, order + 1, increasing=True))
        matrix[k, start : start + window] = fit[0]
    return matrix
