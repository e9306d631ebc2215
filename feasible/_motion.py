"""`Motion`: everything that a limit can be about, exactly from a model or by finite differences from samples.

Finite differences ("raw"). Let c_k be the chord from sample k to k+1, δ_k the turn from chord c_{k-1} to c_k, and
θ_k the turn along segment k. An arc of turn θ over a chord |c| has the length

    s = |c| (θ/2) / sin(θ/2) = |c| / (1 - θ²/24 + θ⁴/1920 - θ⁶/322560 + ...),

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

import enum
from collections.abc import Mapping

from feasible._arrays import Array, Namespace, namespace, pytree, static
from feasible._differences import COARSEST_DT, MIN_SPEED, Stencil, differences
from feasible._elementary import arctangent, safe_hypot
from feasible._savgol import SAVGOL_ORDER, SAVGOL_WINDOW, smooth
from feasible._trajectory import Trajectory


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
        return arctangent(self.xp, wheelbase * self.curvature)

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
        t, xp = trajectory, namespace(trajectory.x)

        def first(a: Array | None) -> Array | None:
            return None if a is None else xp.moveaxis(a, -1, 0)

        def last(a: Array) -> Array:
            return xp.moveaxis(a, 0, -1)

        columns, valid = (first(t.x), first(t.y), first(t.yaw), first(t.speed)), first(t.valid)
        if differencing == "savgol":
            columns, valid = smooth(xp, columns, valid, window, order)
        elif differencing != "raw":
            raise ValueError(f"differencing: expected 'raw' or 'savgol', got {differencing!r}")
        fields, stencils = differences(xp, columns, t.dt, valid, min_speed)
        gaps = {name: last(_codes(xp, stencil, t)) for name, stencil in stencils.items()}
        return cls(**{name: last(field) for name, field in fields.items()}, gaps=gaps, xp=xp)


def _codes(xp: Namespace, stencil: Stencil, t: Trajectory) -> Array:
    """`(T, ...)` `Gap` codes of a field with that stencil."""
    codes = xp.zeros_like(xp.astype(stencil.present, xp.int32))
    if stencil.fine:
        codes = xp.where(xp.zeros_like(stencil.present) | (t.dt > COARSEST_DT), int(Gap.COARSE), codes)
    if stencil.steady is not None:
        codes = xp.where(stencil.steady, codes, int(Gap.SLOW))
    codes = xp.where(stencil.present, codes, int(Gap.MISSING))
    if codes.shape[0] == t.horizon:
        return codes
    edge = xp.full_like(codes[:1], int(Gap.EDGE))
    return xp.concat([edge, codes, edge], axis=0)
