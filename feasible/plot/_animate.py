"""`animate`: a drive as a short GIF."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from feasible._project import Projection
from feasible._trajectory import Trajectory
from feasible.plot import _birdseye
from feasible.plot._drive import Drive, pick
from feasible.plot._style import AFTER, BEFORE, NORMAL, SMALL, dress, nothing

_MOST_FRAMES = 80  # a GIF is to be short; longer drives skip samples


def animate(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    path: str | os.PathLike[str],
    *,
    projection: Projection | None = None,
    index: Any = None,
    size: tuple[float, float] = (6.4, 3.2),
    dpi: int = 80,
) -> Path:
    """Writes the drive from above as a GIF in real time: the paths, and the car where it is now.

    Args:
        trajectory: `(..., T)` the input.
        vehicle: whose outline moves.
        limits: what the input is audited against.
        path: where the GIF goes.
        projection: of `trajectory`, or None.
        index: which trajectory of the batch; None takes the first.
        size: of the picture [inches].
        dpi: dots per inch.

    Returns:
        The path.
    """
    from matplotlib.animation import PillowWriter
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    ax = figure.add_subplot()
    dress(ax, "x [m]", "y [m]")
    drive = pick(trajectory, projection, index)
    steps = [0] if drive is None else range(0, drive.before.horizon, max(1, -(-drive.before.horizon // _MOST_FRAMES)))
    pace = 1.0 if drive is None or len(steps) < 2 else 1 / (drive.dt * (steps[1] - steps[0]))
    cars: list[Any] = []
    if drive is None:
        nothing(ax, "no trajectory")
    else:
        drive = _birdseye.levelled(drive)
        cars = _stage(ax, drive, vehicle, limits)
    writer = PillowWriter(fps=pace)  # type: ignore[arg-type]  # any number above 0 is right
    with writer.saving(figure, os.fspath(path), dpi):
        for k in steps:
            if drive is not None:
                for car, lead in cars:
                    _place(car, lead, k, vehicle)
                ax.set_title(f"{drive.time[k]:.1f} s", fontsize=NORMAL, loc="right")
            writer.grab_frame()
    return Path(path)


def _stage(ax: Any, drive: Drive, vehicle: Any, limits: Any) -> list[tuple[Any, Trajectory]]:
    """Draws what stands still, and returns what moves: each mark with the trajectory that it follows."""
    over = drive.over(vehicle, limits)
    _birdseye.draw(ax, drive, vehicle, over, every=1e9, arrows=False, legend=False)
    handles, labels = ax.get_legend_handles_labels()
    ax.figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    cars = []
    if drive.before.valid.any():
        cars.append((ax.plot([], [], "o", ms=6, color=BEFORE, mec="black", mew=0.6, zorder=8)[0], drive.before))
    body = drive.after if drive.after is not None else drive.before
    if body.yaw is not None and body.valid.any():
        color = AFTER if drive.after is not None else BEFORE
        at = int(np.argmax(body.valid))
        cars.append((ax.add_patch(_birdseye.footprint(body, at, vehicle, color, alpha=0.45)), body))
    return cars


def _place(mark: Any, lead: Trajectory, k: int, vehicle: Any) -> None:
    """Moves a mark to sample k; it stays where it was at a sample that is missing."""
    if not lead.valid[k]:
        return
    if hasattr(mark, "set_data"):
        mark.set_data([lead.x[k]], [lead.y[k]])
        return
    anchor, angle = _birdseye.pose(lead, k, vehicle)
    mark.set(xy=anchor, angle=angle)
