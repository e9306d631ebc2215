"""Many small arrays handed to a compiled program, and back, as a few large ones.

JAX and NumPy take some microseconds for every array that they touch, whatever its size. A state of the solver has a
hundred, and its program is done with a chunk of rows in five milliseconds.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Place = tuple[int, int]  # of a leaf: which array, and which entry of it
Rows = slice | np.ndarray


class Stacked:
    """A pytree of arrays, those of one shape in one array or a few.

    Args:
        arrays: of leaves of one shape each, `(leaves, *shape)`.
        tree: structure. places: of its leaves.
    """

    def __init__(self, arrays: Sequence[Any], tree: Any, places: tuple[Place, ...]):
        self.arrays, self.tree, self.places = list(arrays), tree, places

    @classmethod
    def of(cls, whole: Any) -> Stacked:
        """Stacks the leaves of a pytree, inside a program."""
        leaves, tree = jax.tree.flatten(whole)
        groups, places = _grouped(leaves, [a.shape for a in leaves])
        return cls([jnp.stack(group) for group in groups], tree, places)

    def over(self, arrays: Sequence[Any]) -> Stacked:
        """The same structure over other arrays."""
        return Stacked(arrays, self.tree, self.places)

    def apart(self) -> Any:
        """The pytree; its leaves are parts of the arrays."""
        return jax.tree.unflatten(self.tree, [self.arrays[i][k] for i, k in self.places])

    def choice(self, choose: Callable[[Any], Any]) -> Callable[[Stacked], Any]:
        """A function that takes some leaves, rows first, as another pytree out of stacks of this structure.

        Args:
            choose: makes the other pytree, whatever the leaves are.
        """
        numbers, tree = jax.tree.flatten(choose(jax.tree.unflatten(self.tree, range(len(self.places)))))
        places = [self.places[n] for n in numbers]
        return lambda stacked: jax.tree.unflatten(tree, [stacked.arrays[i][k].T for i, k in places])


class Table:
    """A pytree of arrays `(N,)` and `(N, T)`, of which some rows at a time go into a program.

    Args:
        whole: the pytree.
        dtype: what the program is for.
    """

    def __init__(self, whole: Any, dtype: Any):
        leaves, self._tree = jax.tree.flatten(whole)
        self._groups, self._places = _grouped([np.asarray(a) for a in leaves], [np.shape(a)[1:] for a in leaves])
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._groups[0][0])

    @property
    def steps(self) -> int:
        """T."""
        return max(group[0].shape[-1] for group in self._groups if group[0].ndim == 2)

    def cut(self, rows: Rows) -> Stacked:
        """Some rows; in the arrays they are last."""
        arrays = []
        for group in self._groups:
            stack = np.empty((len(group), *group[0][rows].shape[::-1]), self._dtype)
            for k, a in enumerate(group):
                stack[k] = a[rows].astype(self._dtype).T  # one after the other is a quarter faster than both at once
            arrays.append(stack)
        return Stacked(arrays, self._tree, self._places)


class Collected:
    """What a program returns for some rows at a time, put together, the rows first; threads may bring it.

    Args:
        count: of all rows.
    """

    def __init__(self, count: int):
        self._count, self._whole, self._lock = count, list[Stacked](), threading.Lock()

    def put(self, part: Stacked, rows: Rows) -> None:
        """Writes some rows, which are last in the arrays of the part."""
        with self._lock:
            if not self._whole:
                self._whole.append(self._room(part))
        for whole, a in zip(self._whole[0].arrays, part.arrays, strict=True):
            whole[:, rows] = np.moveaxis(a, -1, 1)

    def apart(self) -> Any:
        """The pytree, arrays `(N, ...)`."""
        return self._whole[0].apart()

    def _room(self, part: Stacked) -> Stacked:
        """Uninitialised arrays in one stretch of memory: it takes few large pages in place of many."""
        shapes = [(len(a), self._count, *a.shape[1:-1]) for a in part.arrays]
        ends = np.cumsum([0, *map(math.prod, shapes)])
        room = np.empty(ends[-1], part.arrays[0].dtype)
        return part.over([room[a:b].reshape(s) for a, b, s in zip(ends[:-1], ends[1:], shapes, strict=True)])


def _grouped(leaves: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> tuple[list[list[Any]], tuple[Place, ...]]:
    """Leaves of one shape together, and where each went."""
    groups: dict[tuple[int, ...], list[Any]] = {shape: [] for shape in shapes}
    numbers, places = {shape: i for i, shape in enumerate(groups)}, list[Place]()
    for leaf, shape in zip(leaves, shapes, strict=True):
        places.append((numbers[shape], len(groups[shape])))
        groups[shape].append(leaf)
    return list(groups.values()), tuple(places)
