"""What a projector is, as numbers and names: its configuration for certificates and exports, and the hash of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from importlib import metadata
from typing import Any

from feasible._limits import Limit
from feasible._problem import Weights

FORMAT = "feasible.projector/1"


def specification(
    vehicle: Any, limits: tuple[Limit, ...], weights: Weights, horizon: int, dt: float, consistency: float
) -> dict[str, Any]:
    """JSON-serialisable: vehicle, limits, weights and discretisation."""
    return {
        "format": FORMAT,
        "feasible": metadata.version("feasible"),
        "vehicle": {
            "model": type(vehicle).__name__,
            "states": list(vehicle.STATES),
            "controls": list(vehicle.CONTROLS),
            **{f.name: _plain(getattr(vehicle, f.name)) for f in dataclasses.fields(vehicle)},
        },
        "limits": [
            {
                "name": m.name,
                "signal": f"{m.signal.__module__}.{getattr(m.signal, '__qualname__', type(m.signal).__qualname__)}",
                "reads": sorted(m.reads),
                "lower": _plain(m.lower),
                "upper": _plain(m.upper),
                "unit": m.unit,
                "source": m.source,
            }
            for m in limits
        ],
        "weights": dataclasses.asdict(weights) | {"consistency": consistency},
        "horizon": horizon,
        "dt": dt,
    }


def digest(spec: dict[str, Any]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a specification."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """A number or text; infinities as text, because JSON has none."""
    if value is None or isinstance(value, str):
        return value
    number = float(value)
    return number if abs(number) < float("inf") else str(number)
