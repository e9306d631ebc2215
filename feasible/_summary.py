"""`Summary`: the totals of an audit, which add up over batches in any order."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class LimitSummary:
    """One limit over many trajectories.

    Attributes:
        name, unit, lower, upper, source: of the limit.
        samples: trajectories in which it could be assessed at some step. over: those that break it.
        steps: time steps at which it could be assessed. steps_over: those over it.
        worst: the signal's value [unit] where the normalised margin is largest; None if nothing was assessed.
        worst_margin: that margin; negative where even the worst step keeps the limit.
        unassessed: time steps that could not be assessed, by reason (see `Gap`).
    """

    name: str
    unit: str
    lower: float | None
    upper: float | None
    source: str
    samples: int
    over: int
    steps: int
    steps_over: int
    worst: float | None
    worst_margin: float
    unassessed: dict[str, int]

    @property
    def share_over(self) -> float:
        """Trajectories over the limit, of those assessed."""
        return self.over / self.samples if self.samples else 0.0

    @property
    def bound(self) -> str:
        """The bounds in words: "-4 .. 2", "<= 8", ">= 0"."""
        if self.lower is None:
            return f"<= {self.upper:g}"
        if self.upper is None:
            return f">= {self.lower:g}"
        if self.lower == -self.upper:
            return f"± {self.upper:g}"
        return f"{self.lower:g} .. {self.upper:g}"

    def __add__(self, other: LimitSummary) -> LimitSummary:
        # Of two equal margins the larger value is kept, so that the order of a sum does not show.
        mine, theirs = ((s.worst_margin, -1e300 if s.worst is None else s.worst) for s in (self, other))
        lead = self if mine >= theirs else other
        reasons = sorted({*self.unassessed, *other.unassessed})
        return dataclasses.replace(
            self,
            samples=self.samples + other.samples,
            over=self.over + other.over,
            steps=self.steps + other.steps,
            steps_over=self.steps_over + other.steps_over,
            worst=lead.worst,
            worst_margin=lead.worst_margin,
            unassessed={r: self.unassessed.get(r, 0) + other.unassessed.get(r, 0) for r in reasons},
        )


@dataclasses.dataclass(frozen=True)
class Summary:
    """Totals of an audit; `a + b` is the summary of both batches, whatever their horizons.

    Attributes:
        trajectories: how many were audited. feasible: how many keep every limit.
        rows: one per limit.
        tolerance, reading: of the audit.
    """

    trajectories: int
    feasible: int
    rows: tuple[LimitSummary, ...]
    tolerance: float
    reading: str

    def __add__(self, other: Summary) -> Summary:
        mine, theirs = ([(r.name, r.lower, r.upper) for r in s.rows] for s in (self, other))
        if mine != theirs or (self.tolerance, self.reading) != (other.tolerance, other.reading):
            raise ValueError("add: expected two summaries of the same limits, tolerance and differencing")
        rows = tuple(a + b for a, b in zip(self.rows, other.rows, strict=True))
        total, kept = self.trajectories + other.trajectories, self.feasible + other.feasible
        return Summary(total, kept, rows, self.tolerance, self.reading)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a limit that was never assessed has a null margin."""
        content = dataclasses.asdict(self)
        for row in content["rows"]:
            if row["worst"] is None:
                row["worst_margin"] = None
        return content

    def __str__(self) -> str:
        head = ("limit", "unit", "bound", "over", "share", "worst", "not assessed")
        lines = [head]
        for r in self.rows:
            gaps = ", ".join(f"{count} {reason}" for reason, count in r.unassessed.items()) or "-"
            worst = "-" if r.worst is None else f"{r.worst:.3g}"
            lines.append((r.name, r.unit, r.bound, f"{r.over}/{r.samples}", f"{r.share_over:.1%}", worst, gaps))
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        table = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        note = (
            f"differencing: {self.reading}; tolerance {self.tolerance:g} of the bound; 'not assessed' counts time steps"
        )
        return "\n".join([*table, f"{self.feasible} of {self.trajectories} trajectories feasible ({note})"])
