"""`Table`: rows that print as text and show as HTML in a notebook; every `_repr_html_` and `presets.show` use it."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable, Sequence
from typing import Any

_CELL = "text-align:left;padding:2px 10px 2px 0;vertical-align:top"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text under a head.

    Attributes:
        head: names of the columns.
        rows: cells as text.
        note: a sentence below, or "".
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __str__(self) -> str:
        lines = [self.head, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.head))]
        text = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([*text, *([self.note] if self.note else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f'<{tag} style="{_CELL}">{html.escape(c)}</{tag}>' for c in cells) + "</tr>"

        body = "".join(line(row, "td") for row in self.rows)
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"<div><table><thead>{line(self.head, 'th')}</thead><tbody>{body}</tbody></table>{note}</div>"


def limits(bounds: Iterable[Any]) -> Table:
    """Every number of a set of limits with unit and source."""
    rows = tuple((m.name, _bound(m.lower, m.upper), m.unit, m.source) for m in bounds)
    return Table(("limit", "bound", "unit", "source"), rows)


def summary(total: Any) -> Table:
    """The totals of an audit, a row for each limit."""
    rows = []
    for r in total.rows:
        gaps = ", ".join(f"{count} {reason}" for reason, count in r.unassessed.items()) or "–"
        worst = "–" if r.worst is None else f"{r.worst:.3g}"
        over = f"{r.over} of {r.samples}"
        rows.append((r.name, r.bound, r.unit, over, f"{r.share_over:.1%}", worst, gaps, r.source))
    head = ("limit", "bound", "unit", "over", "share", "worst", "steps not assessed", "source")
    note = (
        f"{total.feasible} of {total.trajectories} trajectories feasible; differencing: {total.reading}; tolerance "
        f"{total.tolerance:g} of the bound."
    )
    return Table(head, tuple(rows), note)


def projection(result: Any, statuses: Iterable[Any]) -> Table:
    """Rows of a projection by status: how many, how far they moved, and what the status means."""
    rows = []
    for s in statuses:
        at = result.status == s
        if at.any():
            mean, most = result.displacement.mean[at].mean(), result.displacement.max[at].max()
            rows.append((s.name, str(int(at.sum())), f"{mean:.3f} m", f"{most:.3f} m", s.meaning))
    note = "" if rows else "No samples."
    return Table(("status", "rows", "moved, mean", "moved, at most", "meaning"), tuple(rows), note)


def _bound(lower: Any, upper: Any) -> str:
    if lower is None:
        return f"<= {float(upper):g}"
    if upper is None:
        return f">= {float(lower):g}"
    lower, upper = float(lower), float(upper)
    return f"± {upper:g}" if lower == -upper else f"{lower:g} .. {upper:g}"
