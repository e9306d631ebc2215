"""Text and JSON of the command line: tables of limits and vehicles, totals, problems."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

VEHICLE_UNITS = {
    "wheelbase": "m",
    "width": "m",
    "front": "m",
    "rear": "m",
    "max_steering_angle": "rad",
    "max_steering_rate": "rad/s",
    "min_speed": "m/s",
    "max_speed": "m/s",
    "max_acceleration": "m/s²",
    "switching_speed": "m/s",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns as wide as their widest cell; those whose index is in `right` are aligned to the right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]

    def cell(i: int, text: str) -> str:
        return text.rjust(widths[i]) if i in right else text.ljust(widths[i])

    lines.insert(1, ["─" * width for width in widths])
    return "\n".join("  ".join(cell(i, text) for i, text in enumerate(line)).rstrip() for line in lines)


def number(value: Any) -> str:
    """Four significant digits, or a dash where there is no value."""
    return "–" if value is None or math.isnan(float(value)) else f"{float(value):.4g}"


def bound(lower: Any, upper: Any) -> str:
    """Both bounds of a limit, or the one it has."""
    if lower is None:
        return f"<= {number(upper)}"
    if upper is None:
        return f">= {number(lower)}"
    if lower == -upper:
        return f"± {number(upper)}"
    return f"{number(lower)} .. {number(upper)}"


def before_and_after(before: Any, after: Any) -> str:
    """One line per limit of two summaries: unit, bound, share of samples over it and worst value, before and after."""
    head = ("limit", "unit", "bound", "over before", "over after", "worst before", "worst after")
    rows = [
        (b.name, b.unit, bound(b.lower, b.upper), _share(b), _share(a), number(b.worst), number(a.worst))
        for b, a in zip(before.rows, after.rows, strict=True)
    ]
    return table(head, rows, right=(3, 4, 5, 6))


def _share(row: Any) -> str:
    """Share of the samples that could be assessed that are over the limit; a few in many never read as none."""
    if not row.samples:
        return "–"
    share = 100 * row.over / row.samples
    return f"{share:.2f} %" if share == 0 or share >= 0.005 else "< 0.01 %"


def limits_table(limits: Iterable[Any]) -> str:
    """Every number of a set of limits with unit and source."""
    rows = [(limit.name, bound(limit.lower, limit.upper), limit.unit, limit.source) for limit in limits]
    return table(("limit", "bound", "unit", "source"), rows)


def limits_facts(limits: Iterable[Any]) -> list[dict[str, Any]]:
    """`limits_table` for JSON."""
    facts = ("name", "lower", "upper", "unit", "source")
    return [{fact: getattr(limit, fact) for fact in facts} for limit in limits]


def vehicle_facts(vehicle: Any) -> list[dict[str, Any]]:
    """Every number of a vehicle with unit and source."""
    values = {field.name: getattr(vehicle, field.name) for field in dataclasses.fields(vehicle)}
    return [
        {"name": name, "value": float(values[name]), "unit": unit, "source": vehicle.source}
        for name, unit in VEHICLE_UNITS.items()
    ]


def vehicle_table(vehicle: Any) -> str:
    """`vehicle_facts` to read."""
    rows = [(fact["name"], number(fact["value"]), fact["unit"], fact["source"]) for fact in vehicle_facts(vehicle)]
    return table(("parameter", "value", "unit", "source"), rows, right=(1,))


def problems(quarantined: Sequence[Any], shown: int = 10) -> list[str]:
    """One sentence for each row left out, up to `shown` of them."""
    lines = [f"left out: {problem}" for problem in quarantined[:shown]]
    if len(quarantined) > shown:
        lines.append(f"left out: {len(quarantined) - shown} more rows (--json lists them all)")
    return lines


def to_json(document: Any) -> str:
    """JSON that any reader takes: numbers that are not finite become null."""
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
