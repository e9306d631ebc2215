"""Pictures of trajectories before and after; plain matplotlib functions that take and return Axes.

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers; red is kept for violated stretches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from feasible._audit import Report, audit
from feasible._limits import Limit
from feasible._motion import Gap, Motion
from feasible._project import Projection
from feasible._trajectory import Trajectory

BEFORE, AFTER, VIOLATED, BAND = "#E69F00", "#0072B2", "#D00000", "#009E73"
_LABELS = {"1": "share of limit"}


def birdseye(
    before: Trajectory, after: Trajectory, vehicle: Any, over: np.ndarray, *, ax: Any = None, every: float = 1.0
) -> Any:
    """One trajectory from above: the input with its violated stretch in red, the projection with footprints.

    Args:
        before: `(T,)` the input.
        after: `(T,)` the projection.
        vehicle: whose footprint is drawn.
        over: `(T,)` bool, where the input breaks any limit.
        ax: Axes to draw into; None makes one.
        every: time between footprints [s].
    """
    import matplotlib.pyplot as plt

    ax = plt.figure(figsize=(7, 4), layout="constrained").add_subplot() if ax is None else ax
    x, y, valid = before.x, before.y, before.valid
    stride = max(1, round(every / after.dt))
    for k in range(stride - 1, after.horizon, stride):
        ax.add_patch(_footprint(after, k, vehicle))
    ax.plot(x[valid], y[valid], "-", color=BEFORE, lw=1.2, label="before", zorder=3)
    hit = valid & over
    if hit.any():
        ax.plot(x[hit], y[hit], "o", ms=3.2, color=VIOLATED, label="before, over a limit", zorder=4)
    ax.plot(after.x, after.y, "-", color=AFTER, lw=1.8, label="after", zorder=5)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="x [m]", ylabel="y [m]")
    ax.margins(0.06)
    return ax


def signal(limit: Limit, before: Report, after: Motion, index: Any, vehicle: Any, dt: float, *, ax: Any = None) -> Any:
    """One signal against its band, before (finite differences) and after (exact); `index` selects the trajectory."""
    import matplotlib.pyplot as plt

    ax = plt.figure(figsize=(7, 2.2), layout="constrained").add_subplot() if ax is None else ax
    value = np.where(before.gaps[limit.name][index] == Gap.NONE, before.value[limit.name][index], np.nan)
    time = dt * np.arange(1, value.shape[-1] + 1)
    over = before.violation[limit.name][index] > before.tolerance
    exact = np.broadcast_to(limit.signal(after, vehicle), after.x.shape)[index]
    lower, upper = (np.nan if b is None else float(b) for b in (limit.lower, limit.upper))
    reach = np.nanmax([abs(lower), abs(upper)])
    low, high = (-reach if np.isnan(lower) else lower), (reach if np.isnan(upper) else upper)
    ax.axhspan(low, high, color=BAND, alpha=0.13, lw=0)
    for bound in (lower, upper):
        if not np.isnan(bound):
            ax.axhline(bound, color=BAND, lw=1)
    ax.plot(time, value, "-", color=BEFORE, lw=1.0)
    ax.plot(time[over], value[over], "o", ms=2.6, color=VIOLATED)
    ax.plot(time, exact, "-", color=AFTER, lw=1.6)
    # A spike of differences may be a hundred times the bound: show twice the band, and mark what leaves it.
    middle, half = (low + high) / 2, (high - low) / 2
    top = np.nanmax(np.abs(np.concatenate([value - middle, exact - middle])), initial=0.0)
    window = half * np.clip(1.15 * top / half, 1.25, 3.0)
    ax.set_ylim(middle - window, middle + window)
    cut = np.abs(np.nan_to_num(value) - middle) > window
    ax.plot(time[cut], middle + np.sign(value[cut] - middle) * 0.95 * window, "^", ms=4, color=VIOLATED, clip_on=False)
    unit = _LABELS.get(limit.unit, limit.unit)
    name = limit.name.replace("_", "\n")
    ax.set_ylabel(f"{name} [{unit}]", fontsize=8)
    ax.tick_params(labelsize=8)
    return ax


def before_after(
    before: Trajectory,
    projection: Projection,
    vehicle: Any,
    limits: tuple[Limit, ...],
    path: str | Path | None = None,
    *,
    index: int | None = None,
) -> Any:
    """The picture of the README: one trajectory from above, and below it the three limits it broke worst.

    Args:
        before: `(N, T)` inputs.
        projection: of `before`.
        vehicle: the model.
        limits: what was asked for.
        path: where to write a PNG; None writes nothing.
        index: which trajectory; None takes the most telling: projected, well driven, clearly moved.

    Returns:
        The matplotlib Figure; None if there is no trajectory.
    """
    from matplotlib.figure import Figure

    if not projection.status.size:
        return None
    report = audit(before, vehicle, limits)
    index = _telling(projection, report) if index is None else index
    # Of the limits that were broken, those whose excess still fits a picture beside the band.
    ranked = sorted(limits, key=lambda m: (not _over(report, m, index), float(report.worst[m.name][index])))[:3]
    over = np.any([report.violation[m.name][index] > report.tolerance for m in limits], axis=0)
    figure = Figure(figsize=(8, 7.2), dpi=130, layout="constrained")
    rows = figure.subplots(1 + len(ranked), 1, height_ratios=[2.6, *[1] * len(ranked)])
    one, after = _levelled(before[index], projection.trajectory[index])
    birdseye(one, after, vehicle, over, ax=rows[0])
    moved = projection.displacement
    rows[0].set_title(
        f"moved by {moved.mean[index]:.2f} m on average, {moved.max[index]:.2f} m at most "
        f"({before.horizon * projection.trajectory.dt:.0f} s, footprint every second)",
        fontsize=10,
    )
    for ax, limit in zip(rows[1:], ranked, strict=True):
        signal(limit, report, projection.motion, index, vehicle, projection.trajectory.dt, ax=ax)
        ax.set_xlim(0, before.horizon * projection.trajectory.dt)
        ax.sharex(rows[1])
        ax.label_outer()
    rows[-1].set_xlabel("time [s]")
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Line2D([], [], color=BEFORE, label="before"),
        Line2D([], [], color=VIOLATED, marker="o", ls="", ms=4, label="before, over a limit"),
        Line2D([], [], color=VIOLATED, marker="^", ls="", ms=4, label="beyond the axis"),
        Line2D([], [], color=AFTER, label="after"),
        Patch(color=BAND, alpha=0.25, label="limit"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    if path is not None:
        figure.savefig(path)
    return figure


def _over(report: Report, limit: Limit, index: int) -> bool:
    return bool(report.worst[limit.name][index] > report.tolerance)


def _levelled(before: Trajectory, after: Trajectory) -> tuple[Trajectory, Trajectory]:
    """Both turned and moved alike, so that the drive starts at the origin and ends on the x axis."""
    x, y = after.x[0], after.y[0]
    angle = np.arctan2(after.y[-1] - y, after.x[-1] - x)
    c, s = np.cos(angle), np.sin(angle)

    def turned(t: Trajectory) -> Trajectory:
        dx, dy = np.asarray(t.x) - x, np.asarray(t.y) - y
        yaw = None if t.yaw is None else t.yaw - angle
        return Trajectory(c * dx + s * dy, c * dy - s * dx, yaw, t.speed, t.dt, t.valid)

    return turned(before), turned(after)


def _telling(projection: Projection, report: Report) -> int:
    """A projected row that turns, moves along, and was over its limits at many steps."""
    steps = np.sum([(v > report.tolerance).mean(-1) for v in report.violation.values()], axis=0)
    turn = np.abs(projection.states[..., -1, 2] - projection.states[..., 0, 2])
    way = np.hypot(*np.moveaxis(projection.states[..., -1, :2] - projection.states[..., 0, :2], -1, 0))
    score = np.minimum(turn, 1.5) + np.minimum(way / 60, 1) + np.minimum(steps, 1)
    return int(np.argmax(np.where(projection.status == 1, score, score - 100)))


def _footprint(trajectory: Trajectory, k: int, vehicle: Any) -> Any:
    """The outline at sample k: a rectangle around the rear axle."""
    from matplotlib.patches import Rectangle

    yaw = float(trajectory.to_array(("yaw",))[k, 0])
    corner = np.array([-vehicle.rear, -vehicle.width / 2])
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    anchor = turn @ corner + [trajectory.x[k], trajectory.y[k]]
    return Rectangle(
        anchor, vehicle.front + vehicle.rear, vehicle.width, angle=np.degrees(yaw),
        fc=AFTER, ec=AFTER, alpha=0.12, lw=0.8, zorder=1,
    )  # fmt: skip
