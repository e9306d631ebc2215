"""`signal` and `signals`: signals in time against the band of their limit, before and after."""

from __future__ import annotations

from typing import Any

import numpy as np

from feasible._audit import Report
from feasible._limits import Limit, check_limits
from feasible._project import Projection
from feasible._trajectory import Trajectory
from feasible.plot._drive import Drive, known, pick
from feasible.plot._style import (
    AFTER,
    BAND,
    BEFORE,
    NORMAL,
    SMALL,
    VIOLATED,
    axes,
    described,
    dress,
    legend_below,
    letters,
    nothing,
    unit,
)


def signal(
    trajectory: Trajectory,
    vehicle: Any,
    limit: Limit,
    *,
    projection: Projection | None = None,
    index: Any = None,
    ax: Any = None,
    differencing: str = "raw",
    legend: bool = True,
) -> Any:
    """One signal against its band: the input by finite differences, the projection exactly.

    The axis shows at most three times the band; a triangle at its edge stands for a sample beyond.

    Args:
        trajectory: `(..., T)` the input.
        vehicle: whose signal is meant.
        limit: the band, named with its source above the axes.
        projection: of `trajectory`, or None.
        index: which trajectory of the batch; None takes the first.
        ax: Axes to draw into; None makes one.
        differencing: of the input, "raw" or "savgol".
        legend: draw a legend below the axes.
    """
    ax = axes(ax, 7, 2.6)
    drive = pick(trajectory, projection, index)
    if drive is None:
        dress(ax, "time [s]", None)
        return nothing(ax, "no trajectory")
    draw(ax, drive, drive.audited(vehicle, (limit,), differencing), limit, vehicle)
    ax.set_xlabel("time [s]", fontsize=NORMAL)
    if legend:
        legend_below(ax, legend_handles(drive.after is not None), columns=5)
    return ax


def signals(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    projection: Projection | None = None,
    index: Any = None,
    figure: Any = None,
    differencing: str = "raw",
) -> Any:
    """Every signal against its band, one below the other; see `signal`.

    Args:
        trajectory: `(..., T)` the input.
        vehicle: whose signals are meant.
        limits: a tuple of `Limit`; a panel each.
        projection: of `trajectory`, or None.
        index: which trajectory of the batch; None takes the first.
        figure: a Figure or SubFigure to draw into; None makes one.
        differencing: of the input, "raw" or "savgol".

    Returns:
        `(L,)` array of Axes, one per limit.
    """
    limits = check_limits(limits)
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(7, 0.7 + 1.35 * len(limits)), layout="constrained")
    rows = figure.subplots(len(limits), 1, sharex=True, squeeze=False)[:, 0]
    drive = pick(trajectory, projection, index)
    if drive is None:
        for ax in rows:
            dress(ax, None, None)
            nothing(ax, "no trajectory")
        return rows
    stack(rows, drive, drive.audited(vehicle, limits, differencing), limits, vehicle)
    legend_below(rows[-1], legend_handles(drive.after is not None), columns=5)
    return rows


def stack(rows: Any, drive: Drive, report: Report, limits: tuple[Limit, ...], vehicle: Any) -> None:
    """A panel for each limit, with one time axis."""
    for ax, limit in zip(rows, limits, strict=True):
        draw(ax, drive, report, limit, vehicle)
        ax.set_xlim(0, drive.dt * drive.before.horizon)
        ax.tick_params(labelbottom=ax is rows[-1])
    rows[-1].set_xlabel("time [s]", fontsize=NORMAL)


def draw(ax: Any, drive: Drive, report: Report, limit: Limit, vehicle: Any) -> None:
    """One panel; `report` is the audit of the drive's input."""
    dress(ax, None, f"[{unit(limit)}]")
    ax.set_title(described(limit, letters(ax)), fontsize=SMALL, loc="left", color="0.25", pad=3)
    value, time = known(report, limit.name), drive.time
    over = report.violation[limit.name] > report.tolerance
    exact = np.full_like(time, np.nan)
    if drive.motion is not None:
        exact = np.broadcast_to(limit.signal(drive.motion, vehicle), time.shape)
    lower, upper = (np.nan if b is None else float(b) for b in (limit.lower, limit.upper))
    lowest = np.nanmin(np.concatenate([value, exact]), initial=np.inf)
    low, high = _band(lower, upper, lowest)
    for bound in (lower, upper):
        if not np.isnan(bound):
            ax.axhline(bound, color=BAND, lw=1, ls="--")
    ax.plot(time, value, "-", color=BEFORE, lw=1.1)
    ax.plot(time[over], value[over], "o", ms=2.6, color=VIOLATED)
    ax.plot(time, exact, "-", color=AFTER, lw=1.7)
    # A spike of differences may be a hundred times the bound: show three times the band, and mark what leaves it.
    middle, half = (low + high) / 2, (high - low) / 2
    top = np.nanmax(np.abs(np.concatenate([value - middle, exact - middle])), initial=0.0)
    window = half * np.clip(1.15 * top / half, 1.25, 3.0)
    floor = -0.04 * (middle + window) if low == 0 and lowest >= 0 else middle - window
    ax.set_ylim(floor, middle + window)
    open_below, open_above = np.isnan(lower), np.isnan(upper)
    ax.axhspan(floor if open_below else low, middle + window if open_above else high, color=BAND, alpha=0.13, lw=0)
    for side, marker in ((1, "^"), (-1, "v")):
        cut = side * (np.nan_to_num(value, nan=middle) - middle) > window
        if cut.any():
            edge = np.full(cut.sum(), middle + side * 0.93 * window)
            ax.plot(time[cut], edge, marker, ms=4, color=VIOLATED, clip_on=False)
    if np.isnan(value).all():
        ax.text(0.99, 0.9, "not assessed", transform=ax.transAxes, ha="right", va="top", fontsize=SMALL, color="0.35")


def legend_handles(projected: bool) -> list[Any]:
    """What the lines and marks of a panel mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    after = [Line2D([], [], color=AFTER, lw=1.9, label="after")] if projected else []
    return [
        Line2D([], [], color=BEFORE, label="before"),
        Line2D([], [], color=VIOLATED, marker="o", ls="", ms=4, label="before, over a limit"),
        Line2D([], [], color=VIOLATED, marker="^", ls="", ms=4, label="beyond the axis"),
        *after,
        Patch(fc=BAND, alpha=0.25, label="allowed"),
    ]


def _band(lower: float, upper: float, lowest: float) -> tuple[float, float]:
    """The band as drawn: a missing bound mirrors the other, or is 0 for a size that is never less."""
    reach = np.nanmax([abs(lower), abs(upper)]) or 1.0
    low, high = (-reach if np.isnan(lower) else lower), (reach if np.isnan(upper) else upper)
    low = 0.0 if np.isnan(lower) and lowest >= 0 and high > 0 else low
    low, high = min(low, high), max(low, high)
    return (low, high) if high > low else (low - 0.5 * reach, high + 0.5 * reach)
