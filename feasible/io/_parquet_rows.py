"""One piece of a parquet file as rows: its bad ones taken out, each with the first thing that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from feasible._trajectory import MIN_STEPS
from feasible.io._batch import HALF_STATE, STATE_SIZES, Problem, Rows, is_half, too_short
from feasible.io._columns import CARRIED
from feasible.io._lists import Lists, place_within, scatter, take_apart

Wrong: TypeAlias = dict[int, tuple[str | None, str]]  # row of the piece: column and sentence


@dataclass(frozen=True)
class Layout:
    """Which column holds what, and the sizes that all rows share."""

    file: str
    axis: tuple[str, ...]
    values: tuple[str, ...]  # one nested column, or one column of lists for each axis
    depth: int  # levels of lists: 1 per axis, 2 for (T, D), 3 for (K, T, D)
    ids: tuple[str, ...]
    mode: str | None
    state: tuple[str, ...]
    carried: tuple[str, ...]
    modes: int
    horizon: int
    is_ragged: bool
    total: int

    @property
    def columns(self) -> list[str]:
        """All columns to read, each once."""
        mode = () if self.mode is None else (self.mode,)
        return list(dict.fromkeys((*self.values, *self.ids, *mode, *self.state, *self.carried)))


def rows_of(columns: dict[str, Any], layout: Layout, offset: int, seen: dict[Any, int]) -> Rows:
    """One piece of the file, its bad rows taken out and named."""
    import pyarrow.compute as pc

    n = len(columns[layout.values[0]])
    wrong: Wrong = {}
    ids = _ids(columns, layout, offset, wrong)
    if layout.depth == 1:
        values, lengths = _from_axes([take_apart(columns[name]) for name in layout.values], layout, wrong)
        owner = np.arange(n)
    else:
        values, lengths, owner = _from_nested(take_apart(columns[layout.values[0]]), layout, wrong)
    for row in np.flatnonzero(lengths < MIN_STEPS):
        wrong.setdefault(int(owner[row]), (layout.values[0], too_short(int(lengths[row]))))
    state = _state(columns, layout, n, wrong)

    keep = ~np.isin(owner, list(wrong))
    owner = owner[keep]
    if layout.mode is not None and layout.depth < 3:
        mode = pc.fill_null(columns[layout.mode], 0).to_numpy(zero_copy_only=False)[owner]
    else:
        mode = np.array([_count(seen, ident) for ident in ids[owner].tolist()], dtype=np.int64)
    problems = [
        Problem(
            layout.file,
            offset + row,
            ids[row].item() if layout.ids and column not in layout.ids else None,
            column,
            what,
        )
        for row, (column, what) in sorted(wrong.items())
    ]
    return Rows(
        values=values[keep],
        ids=ids[owner],
        mode=mode,
        modes=layout.modes,
        initial_state=None if state is None else state[owner],
        lengths=lengths[keep] if layout.is_ragged else None,
        carried={name: _carried(columns[name], CARRIED[name])[owner] for name in layout.carried},
        problems=problems,
        total=layout.total * layout.modes,
    )


def _count(seen: dict[Any, int], ident: Any) -> int:
    seen[ident] = seen.get(ident, -1) + 1
    return seen[ident]


def _from_axes(axes: list[Lists], layout: Layout, wrong: Wrong) -> tuple[np.ndarray, np.ndarray]:
    """`(n, horizon, D)` and `(n,)` lengths from one column of lists for each axis."""
    first = axes[0].lengths[0]
    for name, lists in zip(layout.values, axes, strict=True):
        for row in np.flatnonzero(lists.is_missing):
            wrong.setdefault(int(row), (name, "is missing, expected a list of numbers"))
        for row in np.flatnonzero(lists.lengths[0] != first):
            what = f"has {lists.lengths[0][row]} samples where {layout.values[0]!r} has {first[row]}, expected as many"
            wrong.setdefault(int(row), (name, what))
    parts = []
    for lists in axes:
        owner = np.repeat(np.arange(len(first)), lists.lengths[0])
        is_good = ~np.isin(owner, list(wrong))
        lengths = np.where(np.isin(np.arange(len(first)), list(wrong)), 0, lists.lengths[0])
        parts.append(scatter(lists.numbers[is_good, None], owner[is_good], lengths, layout.horizon))
    return np.concatenate(parts, axis=-1), first


def _from_nested(lists: Lists, layout: Layout, wrong: Wrong) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(m, horizon, D)`, `(m,)` lengths and `(m,)` rows of the m trajectories of a nested column."""
    name, size = layout.values[0], len(layout.axis)
    outer, inner = lists.lengths[-2], lists.lengths[-1]
    n = len(lists.is_missing)
    owner = np.repeat(np.arange(n), lists.lengths[0]) if layout.depth == 3 else np.arange(n)
    for row in np.flatnonzero(lists.lengths[0] == 0):
        wrong.setdefault(int(row), (name, "is missing, expected lists of numbers"))
    of_sample = np.repeat(np.arange(len(outer)), outer)  # which trajectory a sample belongs to
    is_odd = inner != size
    for k in np.flatnonzero(is_odd):
        what = f"has a sample of {inner[k]} numbers, expected {size} for {','.join(layout.axis)}"
        wrong.setdefault(int(owner[of_sample[k]]), (name, what))
    is_bad = np.isin(owner, list(wrong))  # trajectories
    is_kept = ~is_bad[of_sample]  # samples
    numbers = lists.numbers[np.repeat(is_kept, inner)].reshape(-1, size)
    values = scatter(numbers, of_sample[is_kept], np.where(is_bad, 0, outer), layout.horizon)
    return values, outer, owner


def _ids(columns: dict[str, Any], layout: Layout, offset: int, wrong: Wrong) -> np.ndarray:
    """`(n,)` integers where the one id column has them, otherwise text; the row's index where there is no id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not layout.ids:
        return offset + np.arange(len(columns[layout.values[0]]))
    for name in layout.ids:
        for row in np.flatnonzero(columns[name].is_null().to_numpy(zero_copy_only=False)):
            wrong.setdefault(int(row), (name, "is missing, expected an id"))
    parts = [columns[name] for name in layout.ids]
    if len(parts) == 1 and pa.types.is_integer(parts[0].type):
        return pc.fill_null(parts[0], 0).to_numpy(zero_copy_only=False)
    texts = [_texts(part) for part in parts]
    return texts[0] if len(texts) == 1 else np.array(["/".join(pair) for pair in zip(*texts, strict=True)])


def _texts(column: Any) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return np.array(pc.fill_null(pc.cast(column, pa.string()), "").to_pylist(), dtype=str)


def _carried(column: Any, kind: type) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return _texts(column) if kind is str else pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)


def _state(columns: dict[str, Any], layout: Layout, n: int, wrong: Wrong) -> np.ndarray | None:
    """`(n, 4)` or `(n, 6)` initial states; a missing number is NaN, which the projection estimates."""
    if not layout.state:
        return None
    name = layout.state[0]
    if len(layout.state) > 1:
        parts = [columns[column].to_numpy(zero_copy_only=False).astype(np.float64) for column in layout.state]
        state = np.stack(parts, axis=-1)
    else:
        state = _state_lists(columns[name], name, n, wrong)
    for row in np.flatnonzero(is_half(state)):
        wrong.setdefault(int(row), (name, HALF_STATE))
    return state


def _state_lists(column: Any, name: str, n: int, wrong: Wrong) -> np.ndarray:
    """`(n, 4)` or `(n, 6)` from a column of lists of either length."""
    lists = take_apart(column)
    lengths = lists.lengths[0]
    for row in np.flatnonzero(~lists.is_missing & ~np.isin(lengths, STATE_SIZES)):
        wrong.setdefault(int(row), (name, f"has {lengths[row]} numbers, expected 4 (x, y, yaw, speed) or 6"))
    state = np.full((n, max(STATE_SIZES) if np.any(lengths == max(STATE_SIZES)) else min(STATE_SIZES)), np.nan)
    owner = np.repeat(np.arange(n), lengths)
    place = place_within(lengths, owner)
    fits = np.isin(lengths[owner], STATE_SIZES)
    state[owner[fits], place[fits]] = lists.numbers[fits]
    return state
