"""The rungs of a projector as `jax.export` artefacts: flat rows in, flat rows out, any number of them.

They are traced from the same functions as the lanes of a host and the C, for "cpu" and "cuda" at once, and hold no
Python: a reader needs JAX and the places of the fields (`layout` in specification.json), not this package.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from feasible._projector import Projector, _program
from feasible._projector._request import Layout, Reply, Request
from feasible._projector._rungs import RUNGS
from feasible.solvers._riccati_kernel import Kernel
from feasible.solvers._riccati_loop import Options
from feasible.solvers._sqp import ELASTIC
from feasible.solvers._xla_rows import prepared

PLATFORMS = ("cpu", "cuda")


def write(projector: Projector, folder: Path) -> None:
    """Makes the folder, with a file per rung."""
    check_flatbuffers()
    from jax import export

    folder.mkdir()
    for name in RUNGS:
        function, width = _rows(projector, name)
        with jax.enable_x64(True):
            (count,) = export.symbolic_shape("b")
            blank = jax.ShapeDtypeStruct((count, width), np.float64)
            exported = export.export(jax.jit(function), platforms=PLATFORMS)(blank)
        (folder / f"{name}.jax").write_bytes(exported.serialize())


class Compiled:
    """An artefact on this machine's device: `width` rows at a time, padded by repetition, so it compiles once."""

    def __init__(self, file: Path, width: int):
        check_flatbuffers()
        from jax import export

        self.exported = export.deserialize(bytearray(file.read_bytes()))
        self.width = width
        self._call = jax.jit(self.exported.call)

    def flat(self, rows: np.ndarray, steps: int = 0) -> np.ndarray:
        """As `Program.flat`; the artefact knows its steps."""
        parts = []
        for first in range(0, len(rows), self.width):
            some = rows[np.minimum(np.arange(first, first + self.width), len(rows) - 1)]
            with jax.enable_x64(True):  # around the call, so that the user's setting is neither needed nor changed
                parts.append(np.asarray(self._call(some)))
        return np.concatenate(parts)[: len(rows)]


def check_flatbuffers() -> None:
    """What `jax.export` serialises with is not among JAX's own requirements."""
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise ImportError("the jax.export artefact needs flatbuffers: pip install 'feasible[export]'") from None


def _rows(projector: Projector, name: str) -> tuple[Callable[[Any], Any], int]:
    """A function of rows, and how long they are."""
    rungs = projector._rungs
    kernel = Kernel(rungs.kernel.stage, ELASTIC if name == "elastic" else None)
    # Prepared, so that XLA does not compute a stage again in each of its readers, which takes minutes to compile.
    function = prepared(functools.partial(_program.fallback if name == "brake" else _program.project, kernel))
    places, tree = jax.tree.flatten(rungs.request.at, is_leaf=_is_place)

    def run(x: Any) -> Any:
        """Rows last inside, because the scans go over the first axis."""
        leaves = [x[:, p.start] if p.stop - p.start == 1 else x[:, p].T for p in places]
        found = jax.tree.leaves(function(jax.tree.unflatten(tree, leaves)))
        found = [jnp.broadcast_to(a, (*a.shape[:-1], x.shape[0])) for a in found]
        numbers, horizons = [a for a in found if a.ndim == 1], [a.T for a in found if a.ndim == 2]
        return jnp.concatenate([jnp.stack(numbers, axis=1), *horizons], axis=1)

    return run, rungs.request.size


def layout_to_json(layout: Layout) -> dict[str, Any]:
    """Per field [first, end] of its columns, a list of those, or fields again."""

    def plain(value: Any) -> Any:
        if isinstance(value, slice):
            return [value.start, value.stop]
        if isinstance(value, list):
            return [plain(v) for v in value]
        return {name: plain(v) for name, v in value._asdict().items()}

    return {"size": layout.size, "columns": plain(layout.at)}


def layout_from_json(kind: type[Request] | type[Reply], stored: dict[str, Any]) -> Layout:
    """The inverse."""

    def place(value: Any) -> Any:
        if isinstance(value, dict):
            return Options(**{name: place(v) for name, v in value.items()})
        if value and isinstance(value[0], int):
            return slice(*value)
        return [place(v) for v in value]

    return Layout(kind(**{name: place(v) for name, v in stored["columns"].items()}), stored["size"])


def _is_place(value: Any) -> bool:
    return isinstance(value, slice)
