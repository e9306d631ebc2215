"""Lists within lists: a parquet column as the lengths of its lists, level by level, and one flat array of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from feasible.io._batch import InputError


@dataclass(frozen=True)
class Lists:
    """A column taken apart: the lengths of its lists at each level, its numbers, and the rows without a list."""

    lengths: list[np.ndarray]
    numbers: np.ndarray
    is_missing: np.ndarray


def is_list(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def depth_of(file: str, name: str, kind: Any) -> int:
    """Levels of lists in a column's type, whose innermost values have to be numbers."""
    import pyarrow as pa

    inner, depth = kind, 0
    if isinstance(kind, pa.FixedShapeTensorType):
        inner, depth = kind.value_type, len(kind.shape)
    while is_list(inner):
        inner, depth = inner.value_type, depth + 1
    if not (pa.types.is_floating(inner) or pa.types.is_integer(inner)):
        raise InputError(f"{file}: column {name!r} is of {kind}, expected numbers in it")
    return depth


def take_apart(column: Any) -> Lists:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_missing = column.is_null().to_numpy(zero_copy_only=False)
    if isinstance(column.type, pa.FixedShapeTensorType):
        numbers = column.filter(column.is_valid()).to_numpy_ndarray()
        sizes = numbers.shape[1:]
        lengths = [np.where(is_missing, 0, sizes[0])]
        for k, size in enumerate(sizes[1:], start=1):
            lengths.append(np.full(int(np.prod(numbers.shape[: k + 1])), size))
        return Lists(lengths, numbers.reshape(-1), is_missing)
    lengths = []
    while is_list(column.type):
        length = pc.fill_null(pc.list_value_length(column), 0)
        lengths.append(length.to_numpy(zero_copy_only=False).astype(np.int64))
        column = column.flatten()  # leaves out missing lists, whose length is 0 above
    return Lists(lengths, column.to_numpy(zero_copy_only=False), is_missing)


def scatter(numbers: np.ndarray, owner: np.ndarray, lengths: np.ndarray, horizon: int) -> np.ndarray:
    """`(n, horizon, D)`: samples `(M, D)` in file order at their places; NaN elsewhere.

    Args:
        numbers: `(M, D)`.
        owner: `(M,)` which of the n rows a sample belongs to.
        lengths: `(n,)` samples of each row.
        horizon: length of the time axis.
    """
    kind = np.float32 if numbers.dtype == np.float32 else np.float64
    values = np.full((len(lengths), horizon, numbers.shape[-1]), np.nan, dtype=kind)
    values[owner, place_within(lengths, owner)] = numbers
    return values


def place_within(lengths: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """`(M,)`: which entry of its list each of the M entries is, from the lists' lengths `(n,)`."""
    return np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner]
