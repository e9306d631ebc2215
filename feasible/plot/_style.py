"""One look for all figures: colours, axes, legends below the axes, and what an empty figure says."""

from __future__ import annotations

import textwrap
from typing import Any

from feasible._limits import Limit

BEFORE, AFTER, VIOLATED, BAND = "#E69F00", "#0072B2", "#D00000", "#009E73"
# Okabe and Ito without the four above, then those again: for things that are told apart by number
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (8, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "++", "oo", "**")
SMALL, NORMAL = 8, 9  # pt
_LETTER = 0.56 * SMALL  # pt, the average of DejaVu Sans
_BELOW = 32  # pt from the axes down to a legend: the height of tick labels and an axis label


def axes(ax: Any, width: float, height: float) -> Any:
    """The given axes, or the only ones of a new figure of that size [inches]."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height), layout="constrained").add_subplot()


def dress(ax: Any, xlabel: str | None, ylabel: str | None) -> None:
    """Labels, ticks and a light grid behind the data."""
    if xlabel is not None:
        ax.set_xlabel(xlabel, fontsize=NORMAL)
    if ylabel is not None:
        ax.set_ylabel(ylabel, fontsize=NORMAL)
    ax.tick_params(labelsize=SMALL)
    ax.grid(color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def legend_below(ax: Any, handles: Any = None, *, columns: int = 4, drop: float = _BELOW) -> None:
    """A legend under the axes, `drop` points down, so that it covers no data at any size of the axes."""
    from matplotlib.transforms import ScaledTranslation

    handles = ax.get_legend_handles_labels()[0] if handles is None else handles
    if not handles:
        return
    columns = min(columns, fitting([h.get_label() for h in handles], ax.get_position().width * _inches(ax)))
    down = ScaledTranslation(0, -drop / 72, ax.figure.dpi_scale_trans)
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=ax.transAxes + down,
        ncols=columns, fontsize=SMALL, frameon=False, borderaxespad=0,
        handlelength=2.2, columnspacing=1.4,
    )  # fmt: skip


def nothing(ax: Any, why: str) -> Any:
    """What an empty figure says instead of data."""
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", fontsize=NORMAL, color="0.35")
    ax.set(xticks=[], yticks=[])
    return ax


def unit(limit: Limit) -> str:
    """The limit's unit as an axis says it."""
    return "share" if limit.unit == "1" else limit.unit


def words(name: str) -> str:
    """A limit's name to read."""
    return name.replace("_", " ")


def bounds(limit: Limit) -> str:
    """The bounds in words: "-4 .. 2", "<= 8"."""
    lower, upper = (None if b is None else float(b) for b in (limit.lower, limit.upper))
    if lower is None:
        return f"≤ {upper:g}"
    if upper is None:
        return f"≥ {lower:g}"
    return f"± {upper:g}" if lower == -upper else f"{lower:g} … {upper:g}"


def letters(ax: Any) -> int:
    """How many letters of the small font fit across the axes; a wider text would squeeze the axes to nothing."""
    return max(20, int(1.1 * 72 * ax.get_position().width * _inches(ax) / _LETTER))  # layout widens axes by a tenth


def fitting(labels: list[str], inches: float) -> int:
    """How many columns of a legend with these labels fit across so many inches."""
    widths = [len(label) * _LETTER + 5 * SMALL for label in labels]  # with the line beside it and the gap to the next
    if sum(widths) <= 72 * inches:
        return len(labels)
    return max(1, min(len(labels), int(72 * inches / max(widths))))


def _inches(ax: Any) -> float:
    """Width of the figure or subfigure that holds the axes."""
    return float(ax.figure.bbox.width / ax.figure.dpi)


def described(limit: Limit, width: int, lines: int = 1) -> str:
    """Name, bounds, unit and source, in so many lines of at most `width` characters; a longer source ends in "…"."""
    measure = "" if limit.unit == "1" else f" {limit.unit}"
    source = f" ({limit.source})" if limit.source else ""
    text = f"{words(limit.name)} {bounds(limit)}{measure}{source}"
    most = lines * width - 4 * (lines - 1)  # words that do not fit at the end of a line
    return textwrap.fill(text if len(text) <= most else text[: most - 1].rstrip() + "…", width)
