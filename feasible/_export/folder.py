"""`export`: a projector as a folder that other machines and languages use, and that says what it is.

specification.json   vehicle, limits, weights, discretisation; layout of rows; format, versions, hashes
golden.json          requests and the answers that every form below reproduces
artefact/*.jax       `jax.export`: any number of rows, on cpu and cuda
c/                   C99 for one trajectory per call, and a check that runs the golden requests
README.md            how to use them
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import feasible
from feasible._export import _artefact, _c_folder, _golden
from feasible._projector import Plan, Projector
from feasible._status import Status

FORMAT = "feasible.export/3"
SPECIFICATION = "specification.json"


def export(projector: Projector, path: Any, *, artefact: bool = True, c: bool = True) -> Path:
    """Writes the folder; see `Projector.export`."""
    path = Path(path)
    empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not empty and not is_export(path):
        raise FileExistsError(f"{path}: exists and is not an export of feasible; nothing was written")
    if artefact:
        _artefact.check_flatbuffers()
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        _fill(projector, made, artefact, c)
        made.chmod(0o755)  # of a temporary folder it is 700
        _replace(path, made)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return path


def is_export(path: Path) -> bool:
    """Whether a path is a folder that `export` wrote, of any version."""
    try:
        found = json.loads((path / SPECIFICATION).read_text())
        return str(found["format"]).startswith("feasible.export/")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _replace(path: Path, made: Path) -> None:
    """`made` becomes `path`; an older export there is moved away first, since folders are not replaced in one step."""
    if path.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        os.replace(path, old)
        try:
            os.replace(made, path)
        except OSError:
            os.replace(old, path)
            raise
        shutil.rmtree(old)
    else:
        os.replace(made, path)


def _fill(projector: Projector, folder: Path, artefact: bool, c: bool) -> None:
    cases = _golden.cases(projector.horizon, projector.dt, len(projector._problem.vehicle.STATES))
    plans = _golden.answers(projector, cases)
    (folder / "golden.json").write_text(json.dumps(golden(cases, plans), indent=1, allow_nan=False))
    if artefact:
        _artefact.write(projector, folder / "artefact")
    if c:
        _c_folder.write(projector, cases, plans, folder / "c")
    parts = ("artefact",) * artefact + ("c",) * c
    (folder / "README.md").write_text(_readme(projector, parts))
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    specification = {
        "format": FORMAT,
        "feasible": feasible.__version__,
        "jax": jax.__version__,
        "configuration": projector.configuration,
        "projector": projector.specification,
        "status": {s.name: int(s) for s in Status},
        "layout": {
            "request": _artefact.layout_to_json(projector._rungs.request),
            "reply": _artefact.layout_to_json(projector._rungs.reply),
        },
        "platforms": list(_artefact.PLATFORMS) if artefact else [],
        "sha256": {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
    }
    (folder / SPECIFICATION).write_text(json.dumps(specification, indent=1, allow_nan=False) + "\n")


def golden(cases: Sequence[_golden.Case], plans: Sequence[Plan]) -> dict[str, Any]:
    """Requests and answers; numbers that are NaN are null, infinite ones are text."""
    return {
        "format": FORMAT,
        "cases": [
            {
                "name": case.name,
                "samples": _plain(case.samples),
                "initial": _plain(case.initial),
                "previous": case.previous,
                "elapsed": case.elapsed,
                "spoilt": case.spoilt,
                "iterations": case.iterations,
                "plan": {
                    "status": int(plan.status),
                    "converged": bool(plan.converged),
                    "iterations": int(plan.iterations),
                    "states": _plain(plan.states),
                    "controls": _plain(plan.controls),
                    "margin": {name: float(value) for name, value in plan.margin.items()},
                    "violation": float(plan.violation),
                    "residual": float(plan.dynamics_residual),
                    "displacement_mean": float(plan.displacement.mean),
                    "displacement_max": float(plan.displacement.max),
                    "objective": float(plan.objective),
                },
            }
            for case, plan in zip(cases, plans, strict=True)
        ],
    }


def _plain(values: np.ndarray) -> Any:
    if values.ndim:
        return [_plain(v) for v in values]
    return None if np.isnan(values) else float(values) if np.isfinite(values) else str(float(values))


def _readme(projector: Projector, parts: Sequence[str]) -> str:
    text = (Path(__file__).parent / "README.template.md").read_text()
    head, *sections = text.split("<!-- part ")
    wanted = [s.split(" -->\n", 1)[1] for s in sections if s.split(" -->")[0] in (*parts, "all")]
    limits = ", ".join(limit.name for limit in projector._problem.limits)
    words = {
        "VERSION": feasible.__version__,
        "CONFIGURATION": projector.configuration,
        "VEHICLE": type(projector._problem.vehicle).__name__,
        "LIMITS": limits or "none",
        "HORIZON": str(projector.horizon),
        "DT": str(projector.dt),
    }
    text = "".join([head, *wanted])
    for name, value in words.items():
        text = text.replace(f"@{name}@", value)
    return text
