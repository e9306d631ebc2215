"""`displacement`: how far trajectories were moved, as a distribution by status."""

from __future__ import annotations

from typing import Any

import numpy as np

from feasible._project import Projection
from feasible._status import Status
from feasible.plot._style import SERIES, axes, dress, legend_below, nothing

FLOOR = 1e-4  # m; what moved less is drawn here, because a logarithmic axis has no 0
_DASH, _COLOR = (":", "-", "--", "-."), (2, 0, 1, 5)  # of each status but the last, which has no displacement


def displacement(projection: Projection, *, which: str = "mean", ax: Any = None, legend: bool = True) -> Any:
    """The share of trajectories that moved at most so far: all of them, and each status by itself.

    Rejected trajectories had no position to move from; the legend counts them.

    Args:
        projection: `(...)` of many trajectories.
        which: "mean" over time, or "max".
        ax: Axes to draw into; None makes one.
        legend: draw a legend below the axes.

    Raises:
        ValueError: if `which` is neither.
    """
    if which not in ("mean", "max"):
        raise ValueError(f"which: expected 'mean' or 'max', got {which!r}")
    return draw(ax, getattr(projection.displacement, which), projection.status, which=which, legend=legend)


def draw(ax: Any, moved: np.ndarray, status: np.ndarray, *, which: str = "mean", legend: bool = True) -> Any:
    """`displacement` of values [m] with their status codes, any shape."""
    ax = axes(ax, 6, 3.6)
    reading = {"mean": "mean over time", "max": "largest"}[which]
    dress(ax, f"displacement, {reading} [m]", "trajectories [%]")
    moved, status = np.ravel(moved), np.ravel(status)
    measured = status != Status.REJECTED
    if not measured.any():
        return nothing(ax, f"no displacement: {status.size} rejected" if status.size else "no trajectory")
    present = [s for s in Status if s != Status.REJECTED and (status == s).any()]
    if len(present) > 1:
        _steps(ax, moved[measured], color="0.7", lw=4, label=f"all: {measured.sum()}")
    for s in present:
        at = status == s
        color, label = SERIES[_COLOR[s]], f"{s.name.lower()}: {at.sum()}"
        _steps(ax, moved[at], color=color, lw=1.8, ls=_DASH[s], label=label)
    ax.set_xscale("log")
    ax.set_xlim(FLOOR * 0.9, max(1.0, 1.3 * float(moved[measured].max())))
    ax.set_ylim(0, 101)
    if (rejected := int((~measured).sum())) and legend:
        ax.plot([], [], " ", label=f"rejected: {rejected}, no displacement")
    if legend:
        legend_below(ax, columns=3, drop=36)
    return ax


def _steps(ax: Any, values: np.ndarray, **style: Any) -> None:
    """The empirical distribution of values: a step at each."""
    ordered = np.sort(np.maximum(values, FLOOR))
    share = 100 * np.arange(1, len(ordered) + 1) / len(ordered)
    far = max(1.0, 1.3 * float(ordered[-1]))
    x, y = [FLOOR / 2, *ordered, 2 * far], [0, *share, 100]
    ax.plot(x, y, drawstyle="steps-post", **style)
