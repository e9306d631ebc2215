"""`shadow_prices`: which limit made the projection move the trajectory, over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from feasible._limits import check_limits
from feasible._project import Projection
from feasible.plot._drive import pick
from feasible.plot._style import HATCHES, SERIES, axes, dress, legend_below, nothing, words

_SMALL = 1e-3  # of the total; a limit that costs less is not drawn


def shadow_prices(
    projection: Projection, limits: Any, *, index: Any = None, ax: Any = None, legend: bool = True
) -> Any:
    """What each limit costs at each step: the gain in the objective [m²] if its bound were relaxed by its own size.

    Above 0 an upper bound binds, below 0 a lower one. Tall bars say which limit, and when, the sample was moved for.

    Args:
        projection: `(..., T)`.
        limits: those it was projected onto.
        index: which trajectory of the batch; None takes the first.
        ax: Axes to draw into; None makes one.
        legend: draw a legend below the axes, with the share of each limit in the total.
    """
    limits = check_limits(limits)
    ax = axes(ax, 7, 3.2)
    dress(ax, "time [s]", "shadow price [m²]")
    drive = pick(projection.trajectory, projection, index)
    if drive is None:
        return nothing(ax, "no trajectory")
    total = {limit.name: float(np.abs(drive.prices[limit.name]).sum()) for limit in limits}
    whole = sum(total.values())
    # A trajectory that was feasible has prices of rounding errors, which mean nothing.
    if not whole > 1e-9:
        return nothing(ax, f"no limit cost anything ({drive.status.name.lower() if drive.status else 'no status'})")
    costly = sorted((m for m in limits if total[m.name] > _SMALL * whole), key=lambda m: -total[m.name])
    # Centimetres of jitter cost millionths of a m²: say those in mm².
    small = max(float(np.abs(drive.prices[m.name]).max()) for m in costly) < 1e-2
    scale = 1e6 if small else 1.0
    ax.set_ylabel(f"shadow price [{'mm²' if small else 'm²'}]")
    top, bottom = np.zeros_like(drive.time), np.zeros_like(drive.time)
    for i, limit in enumerate(costly):
        price = scale * drive.prices[limit.name]
        up, down = np.maximum(price, 0), np.minimum(price, 0)
        style = {
            "width": drive.dt, "color": SERIES[i % len(SERIES)], "hatch": HATCHES[i % len(HATCHES)],
            "edgecolor": "white", "lw": 0.3,
        }  # fmt: skip
        ax.bar(drive.time, up, bottom=top, label=f"{words(limit.name)}: {total[limit.name] / whole:.0%}", **style)
        ax.bar(drive.time, down, bottom=bottom, **style)
        top, bottom = top + up, bottom + down
    ax.axhline(0, color="0.3", lw=0.8)
    ax.set_xlim(0, drive.time[-1] + drive.dt)
    if legend:
        legend_below(ax, columns=3)
    return ax
