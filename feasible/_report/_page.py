"""The page itself, and the same facts for JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import feasible
from feasible._report import _pictures
from feasible._report._findings import Case, Findings
from feasible._report._tally import EXCESS_EDGES, FEASIBLE, JITTER, PERSISTENT, UNASSESSED, UNDECIDED, Reading
from feasible._report._words import number
from feasible._status import Status
from feasible.plot._style import words

SHARE_ERROR = 0.05  # chance that the stated error of the sampled distribution is exceeded somewhere
VERDICTS = {
    FEASIBLE: "Keeps every limit, by raw differences of its samples.",
    JITTER: "Over a limit by raw differences, within all of them after smoothing: noise between neighbouring samples.",
    PERSISTENT: "Over a limit after smoothing too: too hard a manoeuvre, or more jitter than smoothing takes away.",
    UNDECIDED: "Over a limit by raw differences; too short or too full of gaps to be smoothed.",
    UNASSESSED: "No limit could be assessed at any sample (missing samples, standstill).",
}


def to_html(findings: Findings) -> str:
    """One HTML document with everything in it: pictures, styles, no scripts, nothing from the network."""
    from importlib import resources

    from jinja2 import Environment, StrictUndefined

    source = (resources.files("feasible") / "_report" / "page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"words": words, "share": share, "number": number, "count": count}
    facts = to_dict(findings)
    return environment.from_string(source).render(
        facts=facts,
        verdicts=VERDICTS,
        pictures=_pictures.overview(findings),
        worst=[
            {**entry, "picture": _pictures.before_and_after(case, findings)}
            for case, entry in zip(findings.worst, facts["worst"], strict=True)
        ],
    )


def to_dict(findings: Findings) -> dict[str, Any]:
    """Plain values."""
    tally = findings.tally
    return {
        "version": feasible.__version__,
        "configuration": {**findings.configuration, "dt": findings.dt},
        "totals": {
            "trajectories": tally.trajectories,
            "left_out": len(findings.quarantined),
            **tally.verdicts,
        },
        "tolerance": None if tally.raw.summary is None else tally.raw.summary.tolerance,
        "smoothing": None if tally.smooth.summary is None else tally.smooth.summary.reading,
        "limits": _limits(findings),
        "over_time": {name: _over_time(reading) for name, reading in (("raw", tally.raw), ("smooth", tally.smooth))},
        "excess": {
            "edges": EXCESS_EDGES.tolist(),
            "raw": tally.raw.excess.tolist(),
            "smooth": tally.smooth.excess.tolist(),
        },
        "sample": _sample(findings),
        "worst": [_case(case) for case in findings.worst],
        "quarantined": [problem.to_dict() for problem in findings.quarantined],
        "seconds": {name: round(value, 2) for name, value in findings.seconds.items()},
    }


def _limits(findings: Findings) -> list[dict[str, Any]]:
    """A row for each limit; without a trajectory the counts are 0."""
    raw, smooth = findings.tally.raw.summary, findings.tally.smooth.summary
    rows = []
    for i, limit in enumerate(findings.limits):
        row: dict[str, Any] = {"name": limit.name, "unit": limit.unit, "source": limit.source}
        row |= {side: None if b is None else float(b) for side, b in (("lower", limit.lower), ("upper", limit.upper))}
        for name, summary in (("raw", raw), ("smooth", smooth)):
            part = None if summary is None else summary.rows[i]
            row[name] = {
                "samples": part.samples if part else 0,
                "over": part.over if part else 0,
                "worst": part.worst if part else None,
                "unassessed": part.unassessed if part else {},
            }
        rows.append(row)
    return rows


def _over_time(reading: Reading) -> dict[str, Any]:
    if reading.over is None or reading.known is None:
        return {"over": [], "assessed": []}
    return {"over": reading.over.tolist(), "assessed": reading.known.tolist()}


def _sample(findings: Findings) -> dict[str, Any]:
    moved, status = findings.displaced()
    measured = moved[status != Status.REJECTED]
    everything = findings.tally.trajectories
    size = len(moved)
    return {
        "asked": findings.asked,
        "projected": len(findings.cases),
        "random": size,
        "all": size == everything and not findings.early,
        "stopped_early": findings.early,
        # Dvoretzky, Kiefer and Wolfowitz: no point of the sampled distribution is off by more, at this chance
        "share_error": math.sqrt(math.log(2 / SHARE_ERROR) / (2 * size)) if size else None,
        "status": [
            {
                "name": s.name.lower(),
                "random": int((status == s).sum()),
                "all": sum(case.status == s for case in findings.cases),
                "meaning": s.meaning,
            }
            for s in Status
        ],
        "displacement": {
            name: float(np.quantile(measured, q)) if measured.size else None
            for name, q in (("median", 0.5), ("p90", 0.9), ("largest", 1.0))
        },
    }


def _case(case: Case) -> dict[str, Any]:
    ident = case.row.id.item() if isinstance(case.row.id, np.generic) else case.row.id
    return {
        "row": case.row.number,
        "id": ident,
        "mode": case.row.mode if case.row.modes > 1 else None,
        "random": case.random,
        "status": case.status.name.lower(),
        "displacement": dict(zip(("mean", "max"), case.moved, strict=True)),
        "violation": float(case.projection.violation[0]),
        "reason": list(case.reason),
    }


def share(part: int, whole: int) -> str:
    """A percentage in which a few of many never read as none, and nearly all never as all."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if part > 0 and percent < 0.01:
        return "< 0.01 %"
    if part < whole and percent > 99.99:
        return "> 99.99 %"
    return f"{percent:.0f} %" if part in (0, whole) else f"{percent:.1f} %" if percent >= 1 else f"{percent:.2f} %"


def count(value: int) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")
