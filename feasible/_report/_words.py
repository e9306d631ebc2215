"""Reasons in words: what a trajectory breaks, whether that is jitter, and what its projection did about it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from feasible._audit import Report
from feasible._limits import Limit
from feasible._motion import Gap
from feasible._project import Projection
from feasible._report._tally import JITTER, PERSISTENT, verdict
from feasible._status import Status
from feasible.plot._style import bounds, words

_NAMED = 2  # limits named in a sentence; the others are counted


def reason(raw: Report, smooth: Report, projection: Projection, dt: float) -> tuple[str, ...]:
    """Sentences about one row; the reports and the projection are of `(1, T)`."""
    return tuple(s for s in (_broken(raw, dt), _jitter(raw, smooth, dt), _moved(projection)) if s)


def _broken(report: Report, dt: float) -> str:
    """What raw differences find."""
    over = _over(report)
    if not over:
        known = any((report.gaps[m.name] == Gap.NONE).any() for m in report.limits)
        return "Raw differences keep every limit." if known else "Nothing of it could be assessed."
    return f"Raw: {_listed(report, over, dt)}."


def _jitter(raw: Report, smooth: Report, dt: float) -> str:
    """What is left of it after smoothing."""
    kind = verdict(raw, smooth)[0]
    if kind == JITTER:
        return "After smoothing it keeps every limit: jitter, not a manoeuvre."
    if kind == PERSISTENT:
        return f"Smoothed it is still over: {_listed(smooth, _over(smooth), dt)}."
    return ""


def _moved(projection: Projection) -> str:
    """What the projection did."""
    status = int(projection.status[0])
    if status == Status.REJECTED:
        return "Rejected: it has no finite sample."
    mean, most = float(projection.displacement.mean[0]), float(projection.displacement.max[0])
    if status == Status.UNCHANGED:
        return "Its projection is the trajectory itself: no position moved by more than a millimetre."
    moved = f"moved by {mean:.2f} m on average and {most:.2f} m at most"
    if status == Status.FALLBACK:
        return f"The solver found nothing usable: braking on the initial curvature instead, {moved}."
    cost = {name: float(np.abs(price[0]).sum()) for name, price in projection.multipliers.items()}
    whole = sum(cost.values())
    dear = [name for name in sorted(cost, key=lambda n: -cost[n]) if cost[name] > 0.05 * whole][:_NAMED]
    why = ", ".join(f"{words(name)} ({cost[name] / whole:.0%})" for name in dear)
    why = f", mostly because of {why}" if why else ""
    if status == Status.RELAXED:
        return f"No trajectory from its initial state keeps every limit: {moved}{why}; {projection.relaxed[0]}."
    return f"Projected: {moved}{why}."


def _over(report: Report) -> list[Limit]:
    """The limits that the row is over, worst first."""
    over = [m for m in report.limits if report.worst[m.name][0] > report.tolerance]
    return sorted(over, key=lambda m: -float(report.worst[m.name][0]))


def _listed(report: Report, over: list[Limit], dt: float) -> str:
    text = "; ".join(_excess(report, limit, dt) for limit in over[:_NAMED])
    more = len(over) - _NAMED
    return text if more <= 0 else f"{text}; and {more} other limit{'s' if more > 1 else ''}"


def _excess(report: Report, limit: Limit, dt: float) -> str:
    """One limit: the value at its worst step, the bound, and when."""
    excess = report.violation[limit.name][0]
    at = np.flatnonzero(excess > report.tolerance)
    k = int(np.argmax(excess))
    value = float(report.value[limit.name][0, k])
    unit = "" if limit.unit == "1" else f" {limit.unit}"
    known = int((report.gaps[limit.name][0] == Gap.NONE).sum())
    first = f"{(at[0] + 1) * dt:.1f} s"
    when = f"at {first}" if at.size == 1 else f"{at.size} of {known} steps, first at {first}"
    return f"{words(limit.name)} {number(value)}{unit}, allowed {bounds(limit)} ({when})"


def number(value: Any) -> str:
    """Three significant digits without an exponent below a million, or a dash."""
    if value is None or not math.isfinite(float(value)):
        return "–"
    size = abs(float(value))
    if 1000 <= size < 1e6:
        return f"{float(value):,.0f}".replace(",", "\u202f").replace("-", "−")
    return f"{float(value):.3g}".replace("-", "−")
