"""The folder `c` of an export: the printed programs, their numbers as a header, and the hand-written call around them.

What is written by hand (the folder `c` of this package) is the same for every projector; all that differs between
two of them is in `config.h`, `golden.h` and `programs.c`, and comes from the Python objects, so that no constant is
typed twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from feasible._export._golden import Case
from feasible._export.c_writer import HORIZON, Source
from feasible._project import ACCEPTED, STILL
from feasible._projector import Plan, Projector, _descent
from feasible._projector._request import Layout, example
from feasible._projector._rungs import RUNGS
from feasible._projector._verdict import _BIG, BETWEEN
from feasible.solvers._components import Components
from feasible.solvers._riccati_loop import Options

SOURCES = Path(__file__).parent / "c"
_LADDER = ("COLD", "WARM", "TIGHTER", "AGAIN", "RELAX")


def write(projector: Projector, cases: Sequence[Case], plans: Sequence[Plan], folder: Path) -> None:
    """Makes the folder."""
    folder.mkdir()
    for file in SOURCES.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    source, programs = Source(projector.horizon), []
    for name in (*RUNGS, "roll"):
        programs.append(f"feasible_{name}")
        source.add(programs[-1], *_flat(projector, name))
    text = source.text()
    (folder / "programs.c").write_text(text)
    work = max(int(text.split(f"#define {name}_WORK ")[1].split()[0]) for name in programs)
    (folder / "config.h").write_text(_config(projector, work))
    (folder / "golden.h").write_text(_golden(projector, cases, plans))


def _flat(projector: Projector, name: str) -> tuple[Any, Any]:
    """A program of all scalars and then all horizons, as the rows of `Layout` have them, and its example."""
    if name == "roll":
        vehicle = projector._problem.vehicle
        still = Components([0.0] * len(vehicle.CONTROLS))
        return (
            lambda x: vehicle.step(Components(x), still, projector.dt).arrays,
            [np.zeros(())] * len(vehicle.STATES),
        )
    kernel, function = projector._rungs.function(name)
    leaves, tree = jax.tree.flatten(example(kernel, np.zeros(()), np.zeros(HORIZON)))
    long = [leaf.ndim > 0 for leaf in leaves]

    def sorted_by_rank(leaves: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        return [a for a in leaves if not a.ndim], [a for a in leaves if a.ndim]

    def run(arguments: Any) -> Any:
        scalars, horizons = map(iter, arguments)
        request = jax.tree.unflatten(tree, [next(horizons if is_long else scalars) for is_long in long])
        return sorted_by_rank(jax.tree.leaves(function(request)))

    return run, sorted_by_rank(leaves)


def _config(projector: Projector, work: int) -> str:
    """Sizes, places in the rows, and the numbers of the ladder."""
    rungs, vehicle, weights = projector._rungs, projector._problem.vehicle, projector.weights
    limits = projector._problem.limits
    at = rungs.request.at
    assert Options._fields[0] == "iterations"
    values = {
        "CONFIGURATION": _text(projector.configuration),
        "STEPS": projector.horizon,
        "DT": _number(projector.dt),
        "STATES": len(vehicle.STATES),
        "STATE_NAMES": ", ".join(map(_text, vehicle.STATES)),
        "CONTROLS": len(vehicle.CONTROLS),
        "CONTROL_NAMES": ", ".join(map(_text, vehicle.CONTROLS)),
        "LIMITS": len(limits),
        "LIMIT_NAMES": ", ".join(_text(limit.name) for limit in limits) or '""',
        "INNER": len(at.inner),
        "ENTRY": len(at.entry),
        "CONSISTENCY": _number(projector.consistency),
        "WEIGHTS": _numbers(weights.of_sample),
        "EFFORT": _numbers(weights.controls),
        **{name: _numbers(getattr(_descent, name)) for name in _LADDER},
        "ACCEPTED": _number(ACCEPTED),
        "BETWEEN": _number(BETWEEN),
        "STILL": _number(STILL),
        "NEAR": _number(_descent.NEAR),
        "BY": _number(_descent.BY),
        "MORE": _number(_descent.MORE),
        "BIG": _number(_BIG),
        "IN": rungs.request.size,
        "OUT": rungs.reply.size,
        "NUMBERS": rungs.request.size + 2 * rungs.reply.size + work,
        **_places("IN", rungs.request),
        **_places("OUT", rungs.reply),
    }
    lines = [f"#define FEASIBLE_{name} {value}" for name, value in values.items()]
    return "\n".join(["/* Numbers of this export; projector.h explains what a caller needs. */", *lines, ""])


def _places(side: str, layout: Layout) -> dict[str, int]:
    """Where each field begins: the leaves of a field are neighbours."""
    found = {}
    for name, value in layout.at._asdict().items():
        places = jax.tree.leaves(value, is_leaf=lambda a: isinstance(a, slice))
        assert all(a.stop == b.start for a, b in itertools.pairwise(places)), name
        found[f"{side}_{name.upper()}"] = places[0].start if places else 0
    return found


def _golden(projector: Projector, cases: Sequence[Case], plans: Sequence[Plan]) -> str:
    """The golden requests and plans as C."""
    head = """typedef struct {
    const char *name;
    int previous, elapsed, spoilt, iterations, status;
    feasible_sample samples[FEASIBLE_STEPS];
    double initial[FEASIBLE_STATES];
    double states[FEASIBLE_STEPS + 1][2];
} golden_case;
"""
    rows = [
        "{"
        + ",\n ".join(
            [
                f"{_text(case.name)}, {case.previous}, {case.elapsed}, {int(case.spoilt)}, {case.iterations}, "
                f"{int(plan.status)}",
                _table(case.samples),
                _numbers(case.initial),
                _table(plan.states[:, :2]),
            ]
        )
        + "}"
        for case, plan in zip(cases, plans, strict=True)
    ]
    return (
        f"{head}\n#define GOLDEN_CASES {len(rows)}\nstatic const golden_case golden[] = {{\n"
        + ",\n".join(rows)
        + "};\n"
    )


def _table(values: np.ndarray) -> str:
    return "{" + ",\n  ".join(map(_numbers, values)) + "}"


def _numbers(values: Any) -> str:
    return "{" + ", ".join(map(_number, values)) + "}"


def _number(value: Any) -> str:
    """Exact: the shortest decimal that is read back as the same double."""
    number = float(value)
    if math.isfinite(number):
        return repr(number)
    return "NAN" if math.isnan(number) else "INFINITY" if number > 0 else "-INFINITY"


def _text(value: str) -> str:
    """A string literal; what is not printable ASCII becomes a question mark."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in value)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
