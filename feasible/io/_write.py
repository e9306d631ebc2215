"""Writing: rows with their ids to `.parquet`, `.npz`, `.npy` or `.csv`, under a temporary name until all is written.

| suffix | holds |
|---|---|
| .parquet | id, mode, one column of lists per axis, the extra columns; dt in the metadata |
| .npz | `pred` `(N, T, D)`, `columns`, `dt`, `ids`, `mode`, the extra columns |
| .csv | one line per point: id, mode, time, the axes, the extra columns repeated |
| .npy | `(N, T, D)` only |

Invalid samples are written as NaN (an empty cell in a csv), so that a file read back has the same mask.
"""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from feasible._arrays import to_numpy
from feasible._trajectory import Trajectory
from feasible.io._batch import InputError

_ROW_GROUP = 8192  # trajectories; a row group is what a reader has to hold at once


def write_table(
    path: str | os.PathLike[str],
    ids: np.ndarray,
    mode: np.ndarray,
    trajectory: Trajectory,
    extra: dict[str, np.ndarray] | None = None,
    *,
    lengths: np.ndarray | None = None,
) -> None:
    """Writes trajectories with their ids, in order; the file appears whole or not at all.

    Args:
        path: target; its suffix chooses the format, and a file of that name is replaced.
        ids: `(N,)` integers or text.
        mode: `(N,)` which mode of its id each trajectory is.
        trajectory: batch shape `(N,)`.
        extra: further columns `(N,)` by name: numbers, bool or text.
        lengths: `(N,)` samples of each row that are not padding, or None where all are.

    Raises:
        InputError: if the suffix is unknown or the folder does not exist.
        ValueError: if a column has not one entry for each trajectory.
    """
    with open_table(path) as table:
        table.write(ids, mode, trajectory, extra, lengths=lengths)


@contextlib.contextmanager
def open_table(path: str | os.PathLike[str]) -> Iterator[TableWriter]:
    """`write_table` for a stream of batches with the same columns; with nothing written there is no file.

    Raises:
        InputError: if the suffix is unknown or the folder does not exist.
    """
    path = Path(path)
    formats: dict[str, type[_Format]] = {".parquet": _Parquet, ".npz": _Npz, ".npy": _Npy, ".csv": _Csv}
    suffix = path.suffix.lower()
    if suffix not in formats:
        raise InputError(f"{path}: cannot write {suffix or 'without a suffix'}, expected {', '.join(formats)}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: folder {path.parent} does not exist; make it first")
    with replacing(path) as temporary:
        with open(temporary, "wb") as stream:
            sink = formats[suffix](stream)
            try:
                yield TableWriter(sink)
                sink.finish()
            except BaseException:
                sink.discard()
                raise
            stream.flush()
            os.fsync(stream.fileno())
        if not temporary.stat().st_size:
            temporary.unlink()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder, renamed to `path` at the end; after an exception neither file is new."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        if temporary.exists():
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class TableWriter:
    """An open table, see `open_table`."""

    def __init__(self, sink: _Format) -> None:
        self._sink = sink

    def write(
        self,
        ids: np.ndarray,
        mode: np.ndarray,
        trajectory: Trajectory,
        extra: dict[str, np.ndarray] | None = None,
        *,
        lengths: np.ndarray | None = None,
    ) -> None:
        """Appends a batch, see `write_table`."""
        axes = {}
        valid = to_numpy(trajectory.valid)
        for name in trajectory.columns:
            axes[name] = np.where(valid, to_numpy(getattr(trajectory, name)).astype(np.float64), np.nan)
        columns = {"id": np.asarray(ids), "mode": np.asarray(mode)}
        columns |= {name: np.asarray(column) for name, column in (extra or {}).items()}
        for name, column in columns.items():
            if column.shape != valid.shape[:1]:
                raise ValueError(f"{name}: expected shape {valid.shape[:1]} like the trajectories, got {column.shape}")
        clash = set(axes) & set(columns)
        if clash:
            raise ValueError(f"extra: {sorted(clash)} are columns of the trajectory already")
        self._sink.add(columns, axes, float(trajectory.dt), lengths)


class _Format(Protocol):
    """Appends batches to an open file: `columns` `(n,)` by name, `axes` `(n, T)` by name."""

    def __init__(self, stream: IO[bytes]) -> None: ...

    def add(
        self, columns: dict[str, np.ndarray], axes: dict[str, np.ndarray], dt: float, lengths: np.ndarray | None
    ) -> None: ...

    def finish(self) -> None: ...

    def discard(self) -> None: ...


class _Parquet:
    """Row groups of a useful size, from batches of any size."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._writer: Any = None
        self._schema: Any = None
        self._waiting: list[Any] = []

    def add(
        self, columns: dict[str, np.ndarray], axes: dict[str, np.ndarray], dt: float, lengths: np.ndarray | None
    ) -> None:
        import pyarrow as pa

        arrays = {name: pa.array(column) for name, column in columns.items()}
        for name, axis in axes.items():
            horizon = axis.shape[1]
            if lengths is None:
                arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(axis.reshape(-1)), horizon)
            else:
                offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
                numbers = pa.array(axis[np.arange(horizon) < np.asarray(lengths)[:, None]])
                arrays[name] = pa.ListArray.from_arrays(pa.array(offsets), numbers)
        table = pa.table(arrays).replace_schema_metadata({"dt": repr(dt)})
        self._schema = self._schema or table.schema
        self._waiting.append(table.cast(self._schema))
        if sum(len(table) for table in self._waiting) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._waiting:
            self._writer = self._writer or pq.ParquetWriter(self._stream, self._schema)
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []

    def finish(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def discard(self) -> None:
        """Closes the writer while the stream is open; otherwise it would do so, and complain, when collected."""
        if self._writer is not None:
            with contextlib.suppress(Exception):
                self._writer.close()


class _Csv:
    """One line per point; numbers as Python writes them, which is exact."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._has_header = stream, False

    def add(
        self, columns: dict[str, np.ndarray], axes: dict[str, np.ndarray], dt: float, lengths: np.ndarray | None
    ) -> None:
        text = _Text(self._stream)
        writer = csv.writer(text, lineterminator="\n")
        if not self._has_header:
            writer.writerow(["id", "mode", "time", *axes, *(name for name in columns if name not in ("id", "mode"))])
            self._has_header = True
        n, horizon = next(iter(axes.values())).shape
        points = np.stack(list(axes.values()), axis=-1)
        time = [round(k * dt, 9) for k in range(horizon)]
        kept = {name: column.tolist() for name, column in columns.items()}
        for i in range(n):
            ident, mode, *rest = (column[i] for column in kept.values())
            for k in range(horizon if lengths is None else int(lengths[i])):
                cells = ["" if np.isnan(value) else value for value in points[i, k].tolist()]
                writer.writerow([ident, mode, time[k], *cells, *rest])

    def finish(self) -> None: ...

    def discard(self) -> None: ...


class _Text:
    """The text side of a binary file, for the csv module."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(text.encode())


class _Npz:
    """All batches in memory until the end: an archive cannot be appended to."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._batches: list[dict[str, np.ndarray]] = []
        self._facts: dict[str, Any] = {}

    def add(
        self, columns: dict[str, np.ndarray], axes: dict[str, np.ndarray], dt: float, lengths: np.ndarray | None
    ) -> None:
        self._facts = {"columns": np.array(list(axes)), "dt": dt}
        self._batches.append({"pred": np.stack(list(axes.values()), axis=-1), **columns})

    def _joined(self) -> dict[str, np.ndarray]:
        return {name: np.concatenate([batch[name] for batch in self._batches]) for name in self._batches[0]}

    def finish(self) -> None:
        if self._batches:
            arrays: dict[str, Any] = self._joined() | self._facts
            np.savez_compressed(self._stream, ids=arrays.pop("id"), **arrays)

    def discard(self) -> None: ...


class _Npy(_Npz):
    """The values alone."""

    def finish(self) -> None:
        if self._batches:
            np.save(self._stream, self._joined()["pred"])
