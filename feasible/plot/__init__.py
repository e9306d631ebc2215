"""Pictures of trajectories before and after; plain matplotlib functions that take and return Axes.

All that draw trajectories are called like the verbs, `(trajectory, vehicle, limits, *, projection=..., index=...)`, and
`index` picks one row of a batch. `ax` is where to draw; None makes a figure. Nothing sets a title: that is yours.

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers, and differ in line or marker too, so that
a print in grey can be read; red is kept for violated stretches. matplotlib is imported when a function is called.
"""

from feasible.plot._animate import animate
from feasible.plot._birdseye import birdseye
from feasible.plot._compare import compare
from feasible.plot._displacement import displacement
from feasible.plot._gg import gg
from feasible.plot._heatmap import heatmap
from feasible.plot._modes import modes
from feasible.plot._prices import shadow_prices
from feasible.plot._signals import signal, signals

__all__ = [
    "animate",
    "birdseye",
    "compare",
    "displacement",
    "gg",
    "heatmap",
    "modes",
    "shadow_prices",
    "signal",
    "signals",
]
