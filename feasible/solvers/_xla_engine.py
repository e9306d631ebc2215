"""Batches on a program of JAX: chunks of fixed width, and no chunk waits for its slowest row.

Every chunk has the same shape, padded by repetition: one program, one rounding, whatever the batch. Chunks are handed
over together, so that all cores work. Rows of an iteration go on in rounds: after each, those that are done leave, and
the others close ranks in fewer chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from feasible.solvers import _riccati_loop as loop
from feasible.solvers._riccati_kernel import Kernel
from feasible.solvers._riccati_loop import State
from feasible.solvers._xla import prepared

WIDTH = 96  # rows of a chunk: the working set stays in the cache
ROUND = 10  # iterations after which rows that are done make room
_WIDE = {"xla_cpu_prefer_vector_width": 512}  # XLA halves the registers otherwise; ignored where there are none


class Chunks:
    """A program of arrays with the batch last, called with the batch first.

    Args:
        run: the program.
        dtype: float32 or float64.
    """

    def __init__(self, run: Callable[[Any], Any], dtype: np.dtype[Any]):
        options = _WIDE if jax.default_backend() == "cpu" else None
        self._program, self._dtype = jax.jit(prepared(run), compiler_options=options), dtype

    def __call__(self, arguments: Any) -> Any:
        return _first(self.rows(_last(arguments, self._dtype), np.arange(len(jax.tree.leaves(arguments)[0]))))

    def rows(self, arguments: Any, rows: np.ndarray) -> Any:
        """Of some rows, with the batch last on both sides."""
        parts = []
        # x64 around trace and call, so that the user's setting is neither needed nor changed
        with jax.enable_x64(self._dtype.itemsize == 8):
            for first in range(0, len(rows), WIDTH):
                chosen = rows[np.minimum(np.arange(first, first + WIDTH), len(rows) - 1)]
                parts.append(self._program(jax.tree.map(lambda a, c=chosen: np.take(a, c, axis=-1), arguments)))
        return jax.tree.map(lambda *a: np.concatenate(a, axis=-1)[..., : len(rows)], *parts)


class Rounds:
    """The interior-point iteration as two programs: the first state, and some more iterations.

    Args:
        kernel: of the problem's structure.
        dtype: float32 or float64.
    """

    def __init__(self, kernel: Kernel, dtype: np.dtype[Any]):
        self._dtype = dtype
        self._begin = Chunks(lambda arguments: loop.begin(kernel, *arguments), dtype)
        self._advance = Chunks(lambda arguments: loop.advance(kernel, *arguments), dtype)

    def __call__(self, arguments: Any) -> State:
        it, data, options = _last(arguments, self._dtype)
        rows = np.arange(len(options.iterations))
        most = np.full(len(rows), ROUND, self._dtype)
        state = self._begin.rows((it, data, options), rows)
        rows = rows[state.done == 0.0]
        while rows.size:
            found = self._advance.rows((data, options, state, most), rows)
            for whole, part in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
                whole[..., rows] = part
            rows = rows[found.done == 0.0]
        return _first(state)


def _last(arguments: Any, dtype: np.dtype[Any]) -> Any:
    """With the batch last, where a chunk is one stretch per step."""
    return jax.tree.map(lambda a: np.ascontiguousarray(np.moveaxis(np.asarray(a), 0, -1), dtype), arguments)


def _first(arguments: Any) -> Any:
    return jax.tree.map(lambda a: np.moveaxis(a, -1, 0), arguments)
