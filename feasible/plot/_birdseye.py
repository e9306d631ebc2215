"""`birdseye`: a trajectory from above, before and after, with footprints and displacement."""

from __future__ import annotations

from typing import Any

import numpy as np

from feasible._project import Projection
from feasible._trajectory import Trajectory
from feasible.plot._drive import Drive, pick
from feasible.plot._style import AFTER, BEFORE, VIOLATED, axes, dress, legend_below, nothing

_SHORTEST_ARROW = 0.012  # of the picture's extent; a shorter arrow is a dot


def birdseye(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any = None,
    *,
    projection: Projection | None = None,
    index: Any = None,
    ax: Any = None,
    every: float = 1.0,
    arrows: bool = True,
    differencing: str = "raw",
    legend: bool = True,
) -> Any:
    """One trajectory from above: the input, red where it breaks a limit, and its projection with footprints.

    Args:
        trajectory: `(..., T)` the input.
        vehicle: whose footprint is drawn.
        limits: what the input is audited against; None marks nothing.
        projection: of `trajectory`; None draws the input alone, with its footprints if it states yaw.
        index: which trajectory of the batch; None takes the first.
        ax: Axes to draw into; None makes one.
        every: time between footprints, and between arrows [s].
        arrows: draw where samples were moved to, where that is far enough to be seen.
        differencing: of the audit, "raw" or "savgol".
        legend: draw a legend below the axes.

    Returns:
        The Axes, with equal scales.
    """
    ax = axes(ax, 7, 3.8)
    dress(ax, "x [m]", "y [m]")
    drive = pick(trajectory, projection, index)
    if drive is None:
        return nothing(ax, "no trajectory")
    over = np.zeros(drive.before.horizon, bool) if limits is None else drive.over(vehicle, limits, differencing)
    return draw(ax, drive, vehicle, over, every=every, arrows=arrows, legend=legend)


def draw(
    ax: Any, drive: Drive, vehicle: Any, over: np.ndarray, *, every: float, arrows: bool, legend: bool = True
) -> Any:
    """`birdseye` of one drive whose input is over a limit at the samples `over` `(T,)`."""
    before, after, valid = drive.before, drive.after, drive.before.valid
    if after is None and not valid.any():
        return nothing(ax, "no finite sample")
    stride = max(1, round(every / drive.dt))
    shown = range(stride - 1, before.horizon, stride)
    body = before if after is None else after
    if body.yaw is not None:
        for k in shown:
            if body.valid[k]:
                ax.add_patch(footprint(body, k, vehicle, AFTER if after is not None else BEFORE))
    _track(ax, before, valid, color=BEFORE, lw=1.3, label="before", zorder=3)
    hit = valid & over
    if hit.any():
        _track(ax, before, hit, color=VIOLATED, lw=1.3, marker="o", ms=2.8, label="before, over a limit", zorder=4)
    if after is not None:
        ax.plot(after.x, after.y, "-", color=AFTER, lw=1.9, label="after", zorder=5)
        if arrows:
            _arrows(ax, drive, [k for k in shown if valid[k]])
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.06)
    if legend:
        legend_below(ax)
    return ax


def footprint(trajectory: Trajectory, k: int, vehicle: Any, color: str, *, alpha: float = 0.13) -> Any:
    """The outline at sample k: a rectangle around the rear axle."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    anchor, angle = pose(trajectory, k, vehicle)
    return Rectangle(
        anchor, vehicle.front + vehicle.rear, vehicle.width, angle=angle,
        fc=to_rgba(color, alpha), ec=to_rgba(color, 0.5), lw=0.7, zorder=1,
    )  # fmt: skip


def pose(trajectory: Trajectory, k: int, vehicle: Any) -> tuple[tuple[float, float], float]:
    """The rear right corner x, y [m] and the heading [degrees] at sample k."""
    yaw = float(trajectory.to_array(("yaw",))[k, 0])
    corner = np.array([-vehicle.rear, -vehicle.width / 2])
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    x, y = turn @ corner + [trajectory.x[k], trajectory.y[k]]
    return (float(x), float(y)), float(np.degrees(yaw))


def levelled(drive: Drive) -> Drive:
    """The drive turned and moved so that it starts at the origin and ends on the x axis: long drives lie flat."""
    import dataclasses

    lead = drive.before if drive.after is None else drive.after
    at = np.flatnonzero(lead.valid)
    if not at.size:
        return drive
    x, y = lead.x[at[0]], lead.y[at[0]]
    angle = np.arctan2(lead.y[at[-1]] - y, lead.x[at[-1]] - x)
    c, s = np.cos(angle), np.sin(angle)

    def turned(t: Trajectory) -> Trajectory:
        dx, dy = t.x - x, t.y - y
        yaw = None if t.yaw is None else t.yaw - angle
        return Trajectory(c * dx + s * dy, c * dy - s * dx, yaw, t.speed, t.dt, t.valid)

    return dataclasses.replace(
        drive, before=turned(drive.before), after=None if drive.after is None else turned(drive.after)
    )


def _track(ax: Any, trajectory: Trajectory, shown: np.ndarray, **style: Any) -> None:
    """A line through the shown samples, broken where one is not shown."""
    ax.plot(np.where(shown, trajectory.x, np.nan), np.where(shown, trajectory.y, np.nan), "-", **style)


def _arrows(ax: Any, drive: Drive, at: list[int]) -> None:
    before, after = drive.before, drive.after
    assert after is not None  # only called with one
    dx, dy = after.x - before.x, after.y - before.y
    extent = max(np.ptp(after.x), np.ptp(after.y), 1.0)
    far = [k for k in at if np.hypot(dx[k], dy[k]) > _SHORTEST_ARROW * extent]
    if far:
        ax.quiver(
            before.x[far], before.y[far], dx[far], dy[far], angles="xy", scale_units="xy", scale=1,
            width=0.0026, headwidth=4, headlength=5, minlength=0, color="0.2", zorder=6, label="displacement",
        )  # fmt: skip
