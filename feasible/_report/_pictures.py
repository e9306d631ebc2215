"""The pictures of the page, PNG inside the page: narrow enough for a telephone, and two abreast on a desk."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from feasible._report._findings import Case, Findings
from feasible._report._tally import EXCESS_EDGES, Reading
from feasible.plot import _displacement, _heatmap, compare
from feasible.plot._style import AFTER, BEFORE, SMALL, dress, legend_below, nothing, words

_WIDTH, _DPI = 4.8, 150  # inches; 720 pixels


def overview(findings: Findings) -> dict[str, str]:
    """The pictures about all trajectories and about the sample, by name."""
    tally, limits = findings.tally, findings.limits
    height = 1.1 + 0.33 * len(limits)
    pictures = {"limits": _drawn(1.2 + 0.42 * len(limits), lambda ax: _shares(ax, findings))}
    for name, reading in (("raw", tally.raw), ("smooth", tally.smooth)):
        pictures[name] = _drawn(height, lambda ax, r=reading: _heat(ax, findings, r))
    pictures["excess"] = _drawn(2.9, lambda ax: _excess(ax, tally.raw, tally.smooth))
    pictures["displacement"] = _drawn(3.1, lambda ax: _displacement.draw(ax, *findings.displaced()))
    return pictures


def before_and_after(case: Case, findings: Findings) -> str:
    """One row from above, and against the two limits it breaks worst."""
    figure = _figure(5.0)
    row = case.row.trajectory
    compare(row, findings.vehicle, findings.limits, projection=case.projection, index=0, panels=2, figure=figure)
    figure.axes[0].set_title("")  # the page says it in words
    return _encoded(figure)


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _drawn(height: float, draw: Any) -> str:
    figure = _figure(height)
    draw(figure.add_subplot())
    return _encoded(figure)


def _encoded(figure: Any) -> str:
    from PIL import Image

    drawn, target = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    # A palette makes it a third of the size, and 96 colours are more than a figure has but for the edges of letters.
    Image.open(drawn).convert("RGB").quantize(96).save(target, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode("ascii")


def _shares(ax: Any, findings: Findings) -> None:
    """Share of the trajectories over each limit, raw and smoothed."""
    dress(ax, "trajectories over the limit [%]", None)
    raw, smooth = findings.tally.raw.summary, findings.tally.smooth.summary
    if raw is None or smooth is None:
        nothing(ax, "no trajectory")
        return
    at = np.arange(len(raw.rows))
    ax.barh(at - 0.19, [100 * r.share_over for r in raw.rows], 0.36, color=BEFORE, label="raw differences")
    ax.barh(
        at + 0.19, [100 * r.share_over for r in smooth.rows], 0.36, color=AFTER, hatch="///", edgecolor="white", lw=0.3,
        label="smoothed",
    )  # fmt: skip
    ax.set_yticks(at, [words(r.name) for r in raw.rows], fontsize=SMALL)
    ax.set(xlim=(0, 100), ylim=(len(at) - 0.5, -0.5))
    legend_below(ax)


def _heat(ax: Any, findings: Findings, reading: Reading) -> None:
    if reading.over is None or reading.known is None:
        dress(ax, "time [s]", None)
        nothing(ax, "no trajectory")
        return
    _heatmap.draw(ax, findings.limits, reading.over, reading.known, findings.dt)


def _excess(ax: Any, raw: Reading, smooth: Reading) -> None:
    """Of all trajectories: how far over its worst limit each is."""
    dress(ax, "worst excess over a bound, in bounds [1]", "trajectories [%]")
    if not raw.excess.any():
        nothing(ax, "no trajectory could be assessed")
        return
    for reading, color, dash, label in ((raw, BEFORE, "-", "raw differences"), (smooth, AFTER, "--", "smoothed")):
        share = 100 * np.cumsum(reading.excess) / max(int(reading.excess.sum()), 1)
        ax.plot(EXCESS_EDGES[:-1], share[:-1], color=color, lw=1.8, ls=dash, label=label)
    ax.axvline(1.0, color="0.6", lw=0.8, ls=":", zorder=0)
    ax.set_xscale("log")
    ax.set(ylim=(0, 101), xlim=(EXCESS_EDGES[0], EXCESS_EDGES[-1]))
    legend_below(ax, drop=36)
