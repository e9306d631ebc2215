"""Reading arrays: `.npz` and `.npy`, of shape `(N, T, D)` or `(N, K, T, D)`; nothing is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from feasible._trajectory import MIN_STEPS
from feasible.io._batch import HALF_STATE, STATE_SIZES, InputError, Problem, Rows, Source, is_half, too_short
from feasible.io._columns import ALIASES, CARRIED, Columns, listed, needed

_BROKEN = (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error)


def open_npy(file: str, columns: Columns, state: Any, batch_rows: int | None) -> tuple[Source, Iterator[Rows]]:
    """The values of a `.npy`, read from disk as they are needed."""
    if columns.names or state:
        raise InputError(f"{file}: a .npy has one array and no names; write a .npz to name ids or an initial state")
    values = _load(file, "the array", lambda: np.load(file, allow_pickle=False, mmap_mode="r"))
    values = _check(values, f"{file}: the array")
    axis = columns.last_axis(values.shape[-1], f"{file}: the array")
    return Source(axis, None), _slices(file, values, {}, batch_rows)


def open_npz(file: str, columns: Columns, state: Any, batch_rows: int | None) -> tuple[Source, Iterator[Rows]]:
    """The values of a `.npz` with what stands beside them: `columns`, `dt`, `ids`, `mode`, `initial_state`."""
    archive = _load(file, "the archive", lambda: np.load(file, allow_pickle=False))
    if not hasattr(archive, "files"):
        raise InputError(f"{file}: holds a single array, not named ones; expected a .npz archive, or the suffix .npy")
    with archive:
        names = archive.files

        def take(name: str) -> np.ndarray:
            return _load(file, f"array {name!r}", lambda: archive[name])

        key = columns.find("values", names, file) or _only_candidate(file, names, take)
        where = f"{file}: array {key!r}"
        values = _check(take(key), where)
        if columns.axis is None and "columns" in names:
            columns = Columns.parse([str(name) for name in take("columns").reshape(-1)])
        axis = columns.last_axis(values.shape[-1], where)
        dt = None
        if "dt" in names:
            stated = take("dt")
            if stated.size != 1 or stated.dtype.kind not in "fiu":
                raise InputError(f"{file}: array 'dt' has shape {stated.shape}, expected one number of seconds")
            dt = float(stated.reshape(()))

        beside: dict[str, np.ndarray] = {}
        for role in ("id", "mode"):
            name = columns.find(role, names, file)
            if name:
                beside[role] = _per_row(take(name), len(values), file, name)
        if beside.get("id", np.empty(0, int)).dtype.kind not in "iuU":
            raise InputError(f"{file}: array of ids has dtype {beside['id'].dtype}, expected integers or text")
        for name, kind in CARRIED.items():
            if name in names:
                beside[name] = _per_row(take(name), len(values), file, name).astype(kind)
        chosen = state[0] if state else ("initial_state" if state is None and "initial_state" in names else None)
        if chosen is not None:
            beside["initial_state"] = _state(take(needed(chosen, names, file)), values, f"{file}: array {chosen!r}")
    return Source(axis, dt, "array 'dt'"), _slices(file, values, beside, batch_rows)


def _load(file: str, what: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except _BROKEN as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise InputError(
                f"{file}: {what} holds Python objects (or is no NumPy file), expected an array of numbers; pad rows of "
                "unequal length with NaN"
            ) from None
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{file}: {what} cannot be read ({reason}); expected a whole NumPy file") from None


def _only_candidate(file: str, names: list[str], take: Callable[[str], np.ndarray]) -> str:
    """The array to read where none has a known name: the only one with enough axes."""
    candidates = [name for name in names if take(name).ndim in (3, 4)]
    if len(candidates) == 1:
        return candidates[0]
    known = listed(ALIASES["values"])
    raise InputError(
        f"{file}: expected an array of shape (N, T, D) or (N, K, T, D) called {known}, got {listed(names)}; name it "
        "with columns values=NAME"
    )


def _check(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype.kind not in "fiu":
        raise InputError(f"{where} has dtype {values.dtype}, expected numbers")
    if values.ndim not in (3, 4):
        raise InputError(f"{where} has shape {values.shape}, expected (N, T, D) or (N, K, T, D)")
    if 0 in values.shape[:-2]:
        raise InputError(f"{where} is empty, of shape {values.shape}; expected at least one trajectory")
    if values.shape[-2] < MIN_STEPS:
        raise InputError(f"{where} {too_short(values.shape[-2])} on its time axis, of shape {values.shape}")
    return values


def _per_row(array: np.ndarray, rows: int, file: str, name: str) -> np.ndarray:
    if array.shape != (rows,):
        raise InputError(f"{file}: array {name!r} has shape {array.shape}, expected ({rows},), one entry for each row")
    return array


def _state(array: np.ndarray, values: np.ndarray, where: str) -> np.ndarray:
    """`(N, d)` or `(N, K, d)` initial states, as `values` has rows and modes."""
    allowed = [values.shape[:1], values.shape[:-2]]
    if array.shape[:-1] not in allowed or array.shape[-1] not in STATE_SIZES or array.dtype.kind not in "fiu":
        raise InputError(
            f"{where} has shape {array.shape} and dtype {array.dtype}, expected ({len(values)}, 4) numbers: x, y, yaw, "
            "speed, or 6 with acceleration and curvature"
        )
    return array.astype(np.float64)


def _slices(file: str, values: np.ndarray, beside: dict[str, np.ndarray], batch_rows: int | None) -> Iterator[Rows]:
    """Cuts the arrays into batches and lays the modes of a row one after another."""
    modes = values.shape[1] if values.ndim == 4 else 1
    step = len(values) if batch_rows is None else max(1, batch_rows // modes)
    for start in range(0, len(values), step):
        part = values[start : start + step]
        n = len(part)
        row = np.repeat(np.arange(start, start + n), modes)
        columns = {name: np.repeat(array[start : start + n], modes, axis=0) for name, array in beside.items()}
        ids = columns.pop("id", row)
        mode = columns.pop("mode", np.zeros(n * modes, dtype=np.int64))
        state = columns.pop("initial_state", None)
        if state is not None and state.ndim == 3:
            state = beside["initial_state"][start : start + n].reshape(n * modes, -1)
        bad = np.zeros(n * modes, dtype=bool) if state is None else is_half(state)
        problems = [
            Problem(file, int(row[i]), ids[i].item() if "id" in beside else None, "initial_state", HALF_STATE)
            for i in np.flatnonzero(bad)
        ]
        flat = np.asarray(part.reshape(-1, *part.shape[-2:]))[~bad]
        yield Rows(
            values=flat if flat.dtype in (np.float32, np.float64) else flat.astype(np.float64),
            ids=ids[~bad],
            mode=(np.tile(np.arange(modes), n) if modes > 1 else mode)[~bad],
            modes=modes,
            initial_state=None if state is None else state[~bad],
            carried={name: column[~bad] for name, column in columns.items()},
            problems=problems,
            total=len(values) * modes,
        )
