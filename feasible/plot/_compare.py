"""`compare`: the figure of the README, one trajectory from above and the limits it broke worst."""

from __future__ import annotations

from typing import Any

import numpy as np

from feasible._audit import Report, audit
from feasible._limits import check_limits
from feasible._project import Projection
from feasible._status import Status
from feasible._trajectory import Trajectory
from feasible.plot import _birdseye, _signals
from feasible.plot._drive import Drive, pick
from feasible.plot._style import SMALL, dress, fitting, nothing


def compare(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    projection: Projection,
    index: Any = None,
    panels: int = 3,
    figure: Any = None,
) -> Any:
    """One trajectory before and after: from above, and below it the limits it broke worst.

    Args:
        trajectory: `(..., T)` the inputs.
        vehicle: the model.
        limits: what was asked for.
        projection: of `trajectory`.
        index: which trajectory; None takes the most telling of `(N, T)`: projected, well driven, clearly moved.
        panels: how many limits are shown at most.
        figure: a Figure to draw into; None makes one (`figure.savefig(path)` writes it).

    Returns:
        The Figure.
    """
    limits = check_limits(limits)
    if figure is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 2.9 + 1.45 * min(panels, len(limits))), dpi=130, layout="constrained")
    if index is None and len(trajectory.batch_shape) == 1 and len(trajectory):
        index = telling(projection, audit(trajectory, vehicle, limits))
    drive = pick(trajectory, projection, index)
    if drive is None:
        ax = figure.subplots()
        dress(ax, None, None)
        nothing(ax, "no trajectory")
        return figure
    report = drive.audited(vehicle, limits)
    # Of the limits that were broken, those whose excess still fits a picture beside the band.
    ranked = sorted(limits, key=lambda m: (not report.worst[m.name] > report.tolerance, float(report.worst[m.name])))
    ranked = ranked[:panels]
    over = np.any([v > report.tolerance for v in report.violation.values()], axis=0)
    rows = figure.subplots(1 + len(ranked), 1, height_ratios=[2.4, *[1] * len(ranked)])
    dress(rows[0], "x [m]", "y [m]")
    _birdseye.draw(rows[0], _birdseye.levelled(drive), vehicle, over, every=1.0, arrows=True, legend=False)
    rows[0].set_title(caption(drive), fontsize=10)
    _signals.stack(rows[1:], drive, report, tuple(ranked), vehicle)
    figure.align_ylabels(rows)
    handles = _signals.legend_handles(True)
    columns = fitting([h.get_label() for h in handles], figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)
    return figure


def caption(drive: Drive) -> str:
    """How far it was moved, and what the footprints mean."""
    if drive.moved is None or drive.status is None:
        return ""
    time = f"{drive.before.horizon * drive.dt:.1f} s, a footprint every second"
    if drive.status == Status.REJECTED:
        return f"rejected: no finite sample ({time})"
    mean, most = drive.moved
    return f"{drive.status.name.lower()}, moved by {mean:.2f} m on average, {most:.2f} m at most ({time})"


def telling(projection: Projection, report: Report) -> int:
    """A projected row that turns, moves along, and was over its limits at many steps."""
    steps = np.sum([(v > report.tolerance).mean(-1) for v in report.violation.values()], axis=0)
    turn = np.abs(projection.states[..., -1, 2] - projection.states[..., 0, 2])
    way = np.hypot(*np.moveaxis(projection.states[..., -1, :2] - projection.states[..., 0, :2], -1, 0))
    score = np.minimum(turn, 1.5) + np.minimum(way / 60, 1) + np.minimum(steps, 1)
    return int(np.argmax(np.where(projection.status == Status.PROJECTED, score, score - 100)))
