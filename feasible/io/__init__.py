"""Files to batches with row ids, and back: `.npz`, `.npy`, `.csv` and `.parquet`.

A bad row is left out, named in `Batch.quarantined`, and takes no other row with it; row order and ids are kept. What is
wrong with a whole file raises `InputError`, a `ValueError` whose text is one sentence. Samples that are NaN or infinite
are neither: they are data with `valid=False`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from feasible._trajectory import check_dt
from feasible.io._arrays import open_npy, open_npz
from feasible.io._batch import Batch, InputError, Problem, build
from feasible.io._columns import Columns
from feasible.io._csv import STEP_TOLERANCE, open_csv
from feasible.io._parquet import open_parquet
from feasible.io._write import TableWriter, open_table, replacing, write_table

__all__ = [
    "Batch",
    "InputError",
    "Problem",
    "TableWriter",
    "open_table",
    "read",
    "read_batches",
    "replacing",
    "write_table",
]

_READERS = {".npz": open_npz, ".npy": open_npy, ".csv": open_csv, ".parquet": open_parquet}


def read(
    path: str | os.PathLike[str],
    *,
    dt: float | None = None,
    columns: str | Sequence[str] | None = None,
    initial_state: str | Sequence[str] | None = None,
    reference_point: str = "rear_axle",
    vehicle: Any = None,
) -> Batch:
    """Reads a whole file.

    Args:
        path: a .npz, .npy, .csv or .parquet file.
        dt: time between samples [s]; needed where the file does not say, and checked where it does.
        columns: names of an array's last axis, or the file's names, such as `("x=east", "y=north", "id=track")`; x, y
            and the names that are common in the field are found without it.
        initial_state: name of the array or list column, or names of 4 or 6 columns, with x, y, yaw, speed[,
            acceleration, curvature] at the time before the first sample; `initial_state` is found without it, and
            `()` reads none.
        reference_point: "rear_axle" or "center", see `Trajectory.from_array`.
        vehicle: the vehicle that "center" needs.

    Raises:
        InputError: if the file cannot be used as a whole, or none of its rows can.
    """
    batches = read_batches(
        path,
        dt=dt,
        columns=columns,
        initial_state=initial_state,
        reference_point=reference_point,
        vehicle=vehicle,
        batch_rows=None,
    )
    return next(batches)


def read_batches(
    path: str | os.PathLike[str],
    *,
    dt: float | None = None,
    columns: str | Sequence[str] | None = None,
    initial_state: str | Sequence[str] | None = None,
    reference_point: str = "rear_axle",
    vehicle: Any = None,
    batch_rows: int | None = 4096,
) -> Iterator[Batch]:
    """Reads a file in batches of about `batch_rows` trajectories, all of the same horizon; see `read`.

    The problems of a piece of the file without a good row come with the next batch, or at the end with an empty one.
    """
    file = os.fspath(path)
    if dt is not None:
        try:
            check_dt(dt)
        except ValueError as error:
            raise InputError(str(error)) from None
    suffix = Path(file).suffix.lower()
    if suffix not in _READERS:
        got = suffix or "no suffix"
        raise InputError(f"{file}: got {got}, expected a file that ends in {', '.join(_READERS)}")
    if not os.path.isfile(file):
        raise InputError(f"{file}: {'is a folder' if os.path.isdir(file) else 'does not exist'}, expected a file")
    if os.path.getsize(file) == 0:
        raise InputError(f"{file}: is empty (0 bytes), expected trajectories")
    names = (initial_state,) if isinstance(initial_state, str) else initial_state
    source, pieces = _READERS[suffix](file, Columns.parse(columns), names, batch_rows)
    step = _agreed(file, dt, source.dt, source.dt_where)
    return _batches(file, pieces, source.axis, step, reference_point, vehicle)


def _agreed(file: str, given: float | None, stated: float | None, where: str) -> float:
    """The time step [s], as given or stated by the file; both have to agree."""
    if given is None and stated is None:
        raise InputError(f"{file}: does not say its time step; give it as dt, in seconds (10 Hz is 0.1)")
    if stated is not None and not 0 < stated < float("inf"):
        raise InputError(f"{file}: {where} gives a time step of {stated:g} s, expected a positive number")
    if given is not None and stated is not None and abs(given - stated) > STEP_TOLERANCE * stated:
        raise InputError(
            f"{file}: got dt {given:g} s, but {where} says {stated:g} s; leave dt out, or correct one of the two"
        )
    return float(given if stated is None else stated)  # type: ignore[arg-type]


def _batches(
    file: str, pieces: Any, axis: tuple[str, ...], dt: float, reference_point: str, vehicle: Any
) -> Iterator[Batch]:
    waiting: list[Problem] = []
    count, rows = 0, None
    for rows in pieces:
        waiting += rows.problems
        if len(rows.ids):
            yield _built(file, rows, axis, dt, reference_point, vehicle, waiting)
            count, waiting = count + 1, []
    if not count:
        raise InputError(f"no row can be used of the {len(waiting)} that have something wrong, the first: {waiting[0]}")
    if waiting and rows is not None:
        yield _built(file, rows, axis, dt, reference_point, vehicle, waiting)


def _built(
    file: str, rows: Any, axis: tuple[str, ...], dt: float, reference_point: str, vehicle: Any, problems: list[Problem]
) -> Batch:
    try:
        return build(rows, axis, dt, reference_point, vehicle, problems)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
