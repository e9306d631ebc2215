"""`load_projector`: an exported folder as a `Projector` again, its rungs run by XLA from the artefact.

The ladder, the warm start and the certificate are the host's; the vehicle's and the limits' Python code is not
needed, so a projector with limits of your own loads where their code is not installed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from feasible._export._artefact import Compiled, layout_from_json
from feasible._export.folder import FORMAT, SPECIFICATION, is_export
from feasible._problem import Weights
from feasible._projector import Projector
from feasible._projector._request import Reply, Request
from feasible._projector._rungs import RUNGS, Rungs
from feasible._projector._specification import digest


def load_projector(path: Any, *, deadline: float | None = None, modes: int = 1) -> Projector:
    """A projector from a folder of `Projector.export`.

    XLA compiles a rung when it is first needed, some ten seconds each; `warmup` does it beforehand. `Plan.projection`
    needs the limits' code and is not there.

    Args:
        path: of the folder.
        deadline: as of `Projector`.
        modes: rows that are answered at once; more go in groups.

    Raises:
        ValueError: if it is not such a folder, of another format, or changed since.
    """
    folder = Path(path)
    specification = _checked(folder)
    return _Loaded(folder, specification, deadline, modes)


def _checked(folder: Path) -> dict[str, Any]:
    if not is_export(folder):
        raise ValueError(f"{folder}: expected a folder that Projector.export wrote")
    found: dict[str, Any] = json.loads((folder / SPECIFICATION).read_text())
    if found["format"] != FORMAT:
        raise ValueError(f"{folder}: expected format {FORMAT}, got {found['format']}; export it anew")
    if not found["platforms"]:
        raise ValueError(f"{folder}: expected an export with artefact=True, this one has none")
    if digest(found["projector"]) != found["configuration"]:
        raise ValueError(f"{folder}: the specification is not that of configuration {found['configuration']}")
    for name, expected in found["sha256"].items():
        file = folder / name
        if name.startswith("artefact/") and (
            not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != expected
        ):
            raise ValueError(f"{file}: missing, or changed since it was exported")
    return found


class _LoadedRungs(Rungs):
    """Programs from files."""

    def __init__(self, folder: Path, specification: dict[str, Any], problem: Any, width: int):
        self.horizon, self.width, self.problem = specification["projector"]["horizon"], width, problem
        self._programs: dict[str, Any] = {}
        self._locks = {rung: threading.Lock() for rung in RUNGS}
        self._folder = folder
        self.request = layout_from_json(Request, specification["layout"]["request"])
        self.reply = layout_from_json(Reply, specification["layout"]["reply"])

    def program(self, rung: str) -> Any:
        """From its file."""
        with self._locks[rung]:
            if rung not in self._programs:
                self._programs[rung] = Compiled(self._folder / "artefact" / f"{rung}.jax", self.width)
        return self._programs[rung]

    @property
    def kernel(self) -> Any:
        """There is none."""
        raise NotImplementedError("a loaded projector has no limits' code: project its plan with the original")

    def function(self, rung: str) -> Any:
        """There is none."""
        return self.kernel


class _Loaded(Projector):
    def __init__(self, folder: Path, specification: dict[str, Any], deadline: float | None, modes: int):
        if deadline is not None and not deadline >= 0:
            raise ValueError(f"deadline: expected seconds >= 0 or None, got {deadline}")
        if modes < 1:
            raise ValueError(f"modes: expected at least 1, got {modes}")
        spec = specification["projector"]
        self.specification, self.configuration = spec, specification["configuration"]
        self.horizon, self.dt, self.deadline = spec["horizon"], spec["dt"], deadline
        self.consistency = spec["weights"]["consistency"]
        names = {f.name for f in dataclasses.fields(Weights)}
        weights: dict[str, Any] = {name: value for name, value in spec["weights"].items() if name in names}
        self.weights = Weights(**weights | {"controls": tuple(weights["controls"])})
        vehicle = SimpleNamespace(STATES=tuple(spec["vehicle"]["states"]), CONTROLS=tuple(spec["vehicle"]["controls"]))
        limits = tuple(SimpleNamespace(**limit) for limit in spec["limits"])
        self._problem: Any = SimpleNamespace(vehicle=vehicle, limits=limits, dt=self.dt)
        self._rungs = _LoadedRungs(folder, specification, self._problem, modes)
        self._blanks, self._cost = {}, {}
