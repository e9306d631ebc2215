"""Reading `.parquet`, one row per trajectory: a tensor column, nested lists, or one list column per axis.

A row may be missing, short or of another length than the rest. Files are read in batches; the lists are measured
first, so that every batch has the horizon of the whole file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from feasible._trajectory import MIN_STEPS
from feasible.io._batch import STATE_SIZES, InputError, Rows, Source, too_short
from feasible.io._columns import CARRIED, Columns, listed, needed
from feasible.io._lists import depth_of, is_list, take_apart
from feasible.io._parquet_rows import Layout, rows_of


def open_parquet(file: str, columns: Columns, state: Any, batch_rows: int | None) -> tuple[Source, Iterator[Rows]]:
    """The trajectories of a `.parquet`; dt from the file's metadata, where `write_table` left it."""
    import pyarrow.parquet as pq

    with _whole(file):
        handle = pq.ParquetFile(file)
        layout = _layout(file, handle, columns, state)
    stated = (handle.schema_arrow.metadata or {}).get(b"dt")
    try:
        dt = None if stated is None else float(stated)
    except ValueError:
        raise InputError(f"{file}: the metadata gives dt as {stated!r}, expected a number of seconds") from None
    return Source(layout.axis, dt, "the metadata"), _batches(handle, layout, batch_rows)


@contextlib.contextmanager
def _whole(file: str) -> Iterator[None]:
    """Turns what pyarrow says of a damaged file into one sentence."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{file}: is damaged or no parquet file ({reason}); expected a whole one") from None


def _layout(file: str, handle: Any, columns: Columns, state: Any) -> Layout:
    import pyarrow as pa

    schema = handle.schema_arrow
    names = schema.names
    total = handle.metadata.num_rows
    if total == 0:
        raise InputError(f"{file}: is empty, it has no rows; expected one row per trajectory")
    is_nested = "values" in columns.names or not any(columns.find(r, names, file) for r in ("x", "y"))
    if is_nested:
        values: tuple[str, ...] = (columns.find("values", names, file) or _only_candidate(file, schema),)
    else:
        axes = columns.axes(names, file)
        values = tuple(axes.values())
    depths = {depth_of(file, name, schema.field(name).type) for name in values}
    depth = depths.pop()
    if depths or depth not in ((2, 3) if is_nested else (1,)):
        got = ", ".join(f"{name!r} of {schema.field(name).type}" for name in values)
        expected = "lists of shape (T, D) or (K, T, D)" if is_nested else "lists of numbers, one row per trajectory"
        raise InputError(f"{file}: column {got}, expected {expected}")
    modes, horizon, is_ragged, size = _measure(handle, values[0], depth)
    axis = columns.last_axis(size, f"{file}: column {values[0]!r}") if is_nested else tuple(axes)
    if horizon < MIN_STEPS:
        raise InputError(f"{file}: column {values[0]!r} {too_short(horizon)} in its longest row")
    if state is None:
        state = ["initial_state"] if "initial_state" in names else []
    state = tuple(needed(name, names, file) for name in state)
    if state and len(state) not in (1, *STATE_SIZES):
        raise InputError(f"{file}: got {len(state)} columns for the initial state, expected 4 or 6, or one of lists")
    for name in state:
        if depth_of(file, name, schema.field(name).type) != (len(state) == 1):
            expected = "lists of 4 or 6 numbers" if len(state) == 1 else "one number in each row"
            raise InputError(f"{file}: column {name!r} is of {schema.field(name).type}, expected {expected}")
    ids, mode = columns.id_columns(names, file), columns.find("mode", names, file)
    for name in ids:
        if pa.types.is_nested(schema.field(name).type):
            raise InputError(f"{file}: column {name!r} is of {schema.field(name).type}, expected integers or text")
    if mode is not None and not pa.types.is_integer(schema.field(mode).type):
        raise InputError(f"{file}: column {mode!r} is of {schema.field(mode).type}, expected integers")
    return Layout(
        file,
        axis,
        values,
        depth,
        ids,
        mode,
        state,
        tuple(name for name in CARRIED if name in names),
        modes,
        horizon,
        is_ragged,
        total,
    )


def _only_candidate(file: str, schema: Any) -> str:
    """The column to read where none has a known name: the only one with lists of lists."""
    import pyarrow as pa

    nested = [f.name for f in schema if is_list(f.type) and is_list(f.type.value_type)]
    nested += [f.name for f in schema if isinstance(f.type, pa.FixedShapeTensorType)]
    if len(nested) == 1:
        return nested[0]
    raise InputError(
        f"{file}: expected list columns x and y, or a column of (T, D) lists or tensors, got {listed(schema.names)}; "
        "name them with columns x=NAME,y=NAME or values=NAME"
    )


def _measure(handle: Any, name: str, depth: int) -> tuple[int, int, bool, int]:
    """Largest number of modes, longest horizon, whether horizons differ, and the commonest size of the last axis."""
    modes, horizons, sizes = 1, set(), np.zeros(1, dtype=np.int64)
    for batch in handle.iter_batches(batch_size=8192, columns=[name]):
        lists = take_apart(batch.column(0))
        if depth == 3:
            modes = max(modes, int(lists.lengths[0].max(initial=1)))
        steps = lists.lengths[max(depth - 2, 0)]
        horizons |= set(np.unique(steps[steps > 0]).tolist())
        if depth > 1:
            counts = np.bincount(lists.lengths[-1])
            sizes = np.pad(sizes, (0, max(0, len(counts) - len(sizes))))
            sizes[: len(counts)] += counts
    return modes, max(horizons, default=0), len({h for h in horizons if h >= MIN_STEPS}) > 1, int(np.argmax(sizes))


def _batches(handle: Any, layout: Layout, batch_rows: int | None) -> Iterator[Rows]:
    """Reads the file piece by piece; modes that no column numbers are counted along each id, over the whole file."""
    import pyarrow as pa

    seen: dict[Any, int] = {}
    offset = 0

    def tables() -> Iterator[Any]:
        if batch_rows is None:
            yield handle.read(columns=layout.columns)
            return
        step = max(1, batch_rows // layout.modes)
        for batch in handle.iter_batches(batch_size=step, columns=layout.columns):
            yield pa.Table.from_batches([batch])

    with _whole(layout.file), contextlib.closing(handle):
        for table in tables():
            columns = {name: table[name].combine_chunks() for name in table.column_names}
            yield rows_of(columns, layout, offset, seen)
            offset += table.num_rows
