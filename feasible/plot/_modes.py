"""`modes`: the K modes of one prediction with their probabilities, and which of them can be driven."""

from __future__ import annotations

from typing import Any

import numpy as np

from feasible._arrays import to_numpy
from feasible._audit import audit
from feasible._trajectory import Trajectory
from feasible.plot._style import DASHES, SERIES, VIOLATED, axes, dress, legend_below, nothing, words

_NAMED = 8  # modes told apart by colour; the others are grey


def modes(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    probability: Any = None,
    ax: Any = None,
    differencing: str = "raw",
    legend: bool = True,
) -> Any:
    """K modes from above: the more probable the wider, a cross at the end of each that breaks a limit.

    Args:
        trajectory: `(K, T)` the modes of one prediction.
        vehicle: whose signals are meant.
        limits: what each mode is audited against.
        probability: `(K,)`, or None where it is not known.
        ax: Axes to draw into; None makes one.
        differencing: of the audit, "raw" or "savgol".
        legend: draw a legend below the axes, the most probable mode first.

    Returns:
        The Axes, with equal scales.

    Raises:
        ValueError: if the trajectory has not one batch axis, or the probabilities are not one a mode.
    """
    if len(trajectory.batch_shape) != 1:
        raise ValueError(f"trajectory: expected the modes of one prediction, (K, T), got {tuple(trajectory.x.shape)}")
    size = trajectory.batch_shape[0]
    ax = axes(ax, 7, 4.2)
    dress(ax, "x [m]", "y [m]")
    if probability is None:
        weight = np.full(size, 1 / max(size, 1))
    else:
        weight = np.asarray(to_numpy(probability), dtype=float)
        if weight.shape != (size,):
            raise ValueError(f"probability: expected shape ({size},) like the modes, got {weight.shape}")
    valid = to_numpy(trajectory.valid).astype(bool)
    if not valid.any():
        return nothing(ax, "no trajectory" if not size else "no finite sample")
    report = audit(trajectory, vehicle, limits, differencing=differencing)
    widest = max(float(np.nanmax(weight)), 1e-9)
    x, y = (np.where(valid, to_numpy(v), np.nan) for v in (trajectory.x, trajectory.y))
    order = np.argsort(-np.nan_to_num(weight), kind="stable")
    for rank, k in enumerate(order):
        named = rank < _NAMED
        ax.plot(
            x[k], y[k], color=SERIES[rank] if named else "0.7", ls=DASHES[rank] if named else "-",
            lw=0.8 + 2.4 * float(np.nan_to_num(weight[k])) / widest, zorder=3 + size - rank,
            label=_label(k, None if probability is None else weight[k], report) if named else None,
        )  # fmt: skip
        ends = np.flatnonzero(valid[k])
        if not report.feasible[k] and ends.size:
            ax.plot(x[k, ends[-1]], y[k, ends[-1]], "X", ms=7, color=VIOLATED, mec="white", mew=0.7, zorder=99 + size)
    if size > _NAMED:
        ax.plot([], [], color="0.7", label=f"{size - _NAMED} more modes")
    if not report.feasible.all():
        ax.plot([], [], "X", ms=7, color=VIOLATED, mec="white", label="breaks a limit")
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.06)
    if legend:
        legend_below(ax, columns=2)
    return ax


def _label(k: int, weight: float | None, report: Any) -> str:
    """One line of the legend: which mode, how probable, and what it breaks worst."""
    share = "" if weight is None else f" {weight:.0%}"
    if report.feasible[k]:
        return f"mode {k}{share}: feasible"
    name = max(report.worst, key=lambda n: float(report.worst[n][k]))
    if report.worst[name][k] <= report.tolerance:
        return f"mode {k}{share}: cannot be assessed"
    return f"mode {k}{share}: {words(name)} over by {_times(float(report.worst[name][k]))}"


def _times(excess: float) -> str:
    return f"{excess:.0%}" if excess < 1 else f"{excess:.1f}× its bound" if excess < 100 else "100× its bound or more"
