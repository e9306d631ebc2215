"""`gg`: longitudinal against lateral acceleration, coloured by time, inside the limits on both."""

from __future__ import annotations

from typing import Any

import numpy as np

from feasible._limits import Limit, check_limits
from feasible._motion import Gap, Motion
from feasible._project import Projection
from feasible._trajectory import Trajectory, recentre
from feasible.plot._drive import Drive, pick
from feasible.plot._style import BAND, BEFORE, DASHES, axes, described, dress, legend_below, letters, nothing

_IN_THE_PLANE = {"acceleration", "curvature", "speed"}  # what a limit may read to have an outline in this plane
_GRID = 201


def gg(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    projection: Projection | None = None,
    index: Any = None,
    ax: Any = None,
    differencing: str = "raw",
    legend: bool = True,
) -> Any:
    """The friction circle: what the drive asks of the tyres, along and across.

    The outline of each limit that bounds this plane is drawn as the limit says it, at the drive's median speed (a limit
    on yaw rate, say, allows more lateral acceleration the faster the car is).

    Args:
        trajectory: `(..., T)` the input.
        vehicle: whose signals are meant.
        limits: those on acceleration, curvature, speed or what follows from them get an outline.
        projection: of `trajectory`; None colours the input itself.
        index: which trajectory of the batch; None takes the first.
        ax: Axes to draw into; None makes one.
        differencing: of the input, "raw" or "savgol".
        legend: draw a legend below the axes, and the time scale beside them.

    Returns:
        The Axes, with equal scales.
    """
    ax = axes(ax, 5.2, 5.4)
    dress(ax, "lateral acceleration [m/s²]", "longitudinal acceleration [m/s²]")
    drive = pick(trajectory, projection, index)
    if drive is None:
        return nothing(ax, "no trajectory")
    lateral, along, speed = _before(drive, differencing)
    exact = drive.motion
    seen = (lateral, along) if exact is None else (exact.lateral_acceleration, exact.acceleration)
    speed = speed if exact is None else exact.speed
    if not np.isfinite(seen[0]).any():
        return nothing(ax, "no acceleration can be assessed")
    pace = max(float(np.nanmedian(np.abs(speed))), 1.0)
    inside = [limit for limit in check_limits(limits) if limit.reads <= _IN_THE_PLANE and limit.reads != {"speed"}]
    reach = 1.25 * max(float(np.nanquantile(np.abs(np.concatenate(seen)), 0.98)), 2.0)
    bounds = [_extent(limit, vehicle, pace) for limit in inside]
    reach = float(np.clip(1.15 * max(bounds, default=reach), reach, max(3 * reach, 6.0)))
    handles = [_outline(ax, limit, vehicle, pace, reach, DASHES[i % len(DASHES)]) for i, limit in enumerate(inside)]
    if exact is not None:
        ax.plot(lateral, along, "x", color=BEFORE, ms=4, mew=1.1, zorder=2)
        beyond = int((np.maximum(np.abs(lateral), np.abs(along)) > reach).sum())
        handles.insert(0, _before_handle(beyond, int(np.isfinite(lateral).sum())))
    dots = ax.scatter(*seen, c=drive.time, cmap="viridis", s=18, zorder=3, edgecolors="0.25", linewidths=0.3)
    ax.plot(*seen, "-", color="0.55", lw=0.6, zorder=2.5)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.axhline(0, color="0.75", lw=0.6, zorder=0)
    ax.axvline(0, color="0.75", lw=0.6, zorder=0)
    if legend:
        bar = ax.figure.colorbar(dots, ax=ax, shrink=0.75, pad=0.02)
        bar.set_label("time [s]" if exact is None else "after, time [s]", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        legend_below(ax, [h for h in handles if h is not None], columns=1)
    return ax


def _before(drive: Drive, differencing: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lateral and longitudinal acceleration [m/s²] and speed [m/s] of the input, NaN where they cannot be told."""
    motion = Motion.from_trajectory(recentre(drive.before)[0], differencing=differencing)
    speed = np.where(motion.gaps["speed"] == Gap.NONE, motion.speed, np.nan)
    told = (motion.gaps["acceleration"] == Gap.NONE) & (motion.gaps["curvature"] == Gap.NONE)
    return np.where(told, motion.lateral_acceleration, np.nan), np.where(told, motion.acceleration, np.nan), speed


def _plane(lateral: np.ndarray, along: np.ndarray, speed: float) -> Motion:
    """A motion with these accelerations at one speed, and nothing else going on."""
    import array_api_compat.numpy as xp

    none = np.zeros_like(lateral)
    return Motion(none, none, none, none + speed, along, none, lateral / speed**2, none, {}, xp)


def _extent(limit: Limit, vehicle: Any, speed: float) -> float:
    """How far from the origin the limit is reached at the latest along one of the axes [m/s²]; 0 if beyond 40."""
    ray, none = np.linspace(0, 40, 401), np.zeros(401)
    margins = [limit.margin(_plane(x, y, speed), vehicle) for x, y in ((ray, none), (none, ray), (none, -ray))]
    ends = [int(np.argmax(np.broadcast_to(m, ray.shape) > 0)) for m in margins]
    return float(ray[max(ends)])


def _outline(ax: Any, limit: Limit, vehicle: Any, speed: float, reach: float, dash: Any) -> Any:
    """Draws where the margin is 0 and returns the handle for the legend; None if that is not in the picture."""
    from matplotlib.lines import Line2D

    line = np.linspace(-reach, reach, _GRID)
    lateral, along = np.meshgrid(line, line)
    margin = np.broadcast_to(limit.margin(_plane(lateral, along, speed), vehicle), lateral.shape)
    if (margin > 0).all() or (margin <= 0).all():
        return None
    ax.contour(lateral, along, margin, levels=[0.0], colors=[BAND], linewidths=1.4, linestyles=[dash], zorder=1)
    label = f"{described(limit, letters(ax) - 12, 2)} at {speed:.0f} m/s"
    return Line2D([], [], color=BAND, lw=1.4, ls=dash, label=label)


def _before_handle(beyond: int, known: int) -> Any:
    from matplotlib.lines import Line2D

    note = f"before ({beyond} of {known} samples beyond the axes)" if beyond else "before"
    return Line2D([], [], color=BEFORE, marker="x", ls="", ms=5, label=note)
