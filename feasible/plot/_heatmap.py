"""`heatmap`: which limits are broken at which time of the horizon, over many trajectories."""

from __future__ import annotations

from typing import Any

import numpy as np

from feasible._audit import Report
from feasible._limits import Limit
from feasible._motion import Gap
from feasible.plot._style import NORMAL, SMALL, axes, bounds, dress, nothing, words


def heatmap(report: Report, *, dt: float, ax: Any = None) -> Any:
    """The share of the trajectories that break each limit at each time.

    Of those that could be assessed there; hatched where none could.

    Args:
        report: an audit of `(..., T)`.
        dt: time between samples [s], which a report does not know.
        ax: Axes to draw into; None makes one.
    """
    over, known = tally(report)
    return draw(ax, report.limits, over, known, dt)


def tally(report: Report) -> tuple[np.ndarray, np.ndarray]:
    """Trajectories over each limit at each step, and those assessed there; both `(L, T)`, and they add up."""
    names = [limit.name for limit in report.limits]
    steps = report.value[names[0]].shape[-1]
    over = [(report.violation[n] > report.tolerance).reshape(-1, steps).sum(0) for n in names]
    known = [(report.gaps[n] == Gap.NONE).reshape(-1, steps).sum(0) for n in names]
    return np.array(over), np.array(known)


def draw(ax: Any, limits: tuple[Limit, ...], over: np.ndarray, known: np.ndarray, dt: float) -> Any:
    """`heatmap` of counts `(L, T)`."""
    ax = axes(ax, 7, 1.2 + 0.34 * len(limits))
    dress(ax, "time [s]", None)
    if not known.any():
        return nothing(ax, "no sample could be assessed")
    ax.grid(visible=False)
    share = np.where(known > 0, 100 * over / np.maximum(known, 1), np.nan)
    rows, steps = share.shape
    # Sample k is at (k + 1)·dt; its cell is centred there.
    edges = dt * (np.arange(steps + 1) + 0.5)
    ax.set_facecolor("0.93")
    ax.patch.set(hatch="////", edgecolor="0.75")
    mesh = ax.pcolormesh(edges, np.arange(rows + 1) - 0.5, np.ma.masked_invalid(share), cmap="OrRd", vmin=0, vmax=100)
    ax.set_yticks(range(rows), [f"{words(m.name)}  {bounds(m)}{_measure(m)}" for m in limits], fontsize=SMALL)
    ax.set_ylim(rows - 0.5, -0.5)
    for edge in np.arange(1, rows) - 0.5:
        ax.axhline(edge, color="white", lw=1)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    bar.set_label("over the limit [%]", fontsize=NORMAL)
    bar.ax.tick_params(labelsize=SMALL)
    return ax


def _measure(limit: Limit) -> str:
    return "" if limit.unit == "1" else f" {limit.unit}"
