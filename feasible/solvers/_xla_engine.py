"""Batches on a program of JAX: chunks of fixed width, and no chunk waits for its slowest rows.

Every chunk has the same shape, padded by repetition: one program, one rounding, whatever the batch. Chunks are handed
over together, so that all cores work. A chunk of the iteration ends when a quarter of its rows are left; those of all
chunks close ranks and go on together.
"""

from __future__ import annotations

import collections
import math
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from feasible.solvers import _riccati_loop as loop
from feasible.solvers._riccati_kernel import Kernel
from feasible.solvers._riccati_loop import State
from feasible.solvers._threads import cores, share
from feasible.solvers._xla import WIDTH, on_processor, prepared

# Rows of a chunk on other devices than a processor. An H100 takes 1.3 ms for an iteration of 1,024 rows, 1.9 of 8,192
# and 2.8 of 32,768 (T = 80, float32), but a chunk that is not full is padded.
_ELSEWHERE = 4096
_FEW = 0.25  # share of a chunk that is left when it ends
_WIDE = {"xla_cpu_prefer_vector_width": 512}  # XLA halves the registers otherwise; ignored where there are none


class Chunks:
    """A program of arrays with the batch last, called with the batch first.

    Args:
        run: the program.
        dtype: float32 or float64.
    """

    def __init__(self, run: Callable[[Any], Any], dtype: np.dtype[Any]):
        self._on_processor = on_processor()
        self._program = jax.jit(prepared(run), compiler_options=_WIDE if self._on_processor else None)
        self._compiled, self._lock = set[Any](), threading.Lock()
        self.width, self.dtype = WIDTH if self._on_processor else _ELSEWHERE, dtype

    def __call__(self, arguments: Any) -> Any:
        parts: dict[int, Any] = {}

        def keep(at: np.ndarray, found: Any) -> None:
            parts[at[0]] = jax.tree.map(lambda a: np.moveaxis(a, -1, 0), found)

        self.each(keep, len(jax.tree.leaves(arguments)[0]), lambda at: self.cut(arguments, at))
        return jax.tree.map(lambda *a: np.concatenate(a), *(parts[i] for i in sorted(parts)))

    def cut(self, arguments: Any, at: np.ndarray) -> Any:
        """Some rows of arguments that have the batch first, as the program takes them."""
        return jax.tree.map(
            lambda a: np.ascontiguousarray(np.moveaxis(np.asarray(a)[at], 0, -1), self.dtype), arguments
        )

    def each(self, handle: Callable[[np.ndarray, Any], None], count: int, cut: Callable[[np.ndarray], Any]) -> None:
        """Runs the program on rows 0 to `count` - 1, a chunk at a time, on all cores.

        Args:
            handle: is given the rows and the result of every chunk, batch last; in any order, from several threads.
            count: of rows.
            cut: argument of the program for some rows.
        """
        firsts = iter(range(0, count, self.width))

        def finish(at: np.ndarray, found: Any) -> None:
            handle(at, jax.tree.map(lambda a: np.asarray(a)[..., : len(at)], found))

        def work(_: int) -> None:
            # Two at a time in every thread, so that the device's threads do not fall asleep between chunks; not all,
            # for the memory of many goes back to the system every time and is taken anew.
            waiting: collections.deque[Any] = collections.deque()
            # x64 around trace and call, so that the user's setting is neither needed nor changed
            with jax.enable_x64(self.dtype.itemsize == 8):
                for first in firsts:
                    at = np.arange(first, first + self.width)
                    waiting.append((at[: count - first], self._run(cut(np.minimum(at, count - 1)))))
                    if len(waiting) == 2:
                        finish(*waiting.popleft())
                while waiting:
                    finish(*waiting.popleft())

        share(work, min(cores(), -(-count // self.width)) if self._on_processor else 1)

    def _run(self, argument: Any) -> Any:
        shapes = tuple(a.shape for a in jax.tree.leaves(argument))
        if shapes in self._compiled:
            return self._program(argument)
        with self._lock:  # two threads would compile it twice
            found = self._program(argument)
            self._compiled.add(shapes)
        return found


class Rounds:
    """The interior-point iteration as two programs: from a start, and on from a state.

    Args:
        kernel: of the problem's structure.
        dtype: float32 or float64.
        answer: of a state: a pytree of some of its leaves, wanted of rows that are done.
    """

    def __init__(self, kernel: Kernel, dtype: np.dtype[Any], answer: Callable[[State], Any]):
        def enter(arguments: Any) -> State:
            it, data, options, few = arguments
            return loop.advance(kernel, data, options, loop.begin(kernel, it, data, options), few=few)

        def resume(arguments: Any) -> State:
            state, data, options, few = arguments
            return loop.advance(kernel, data, options, state, few=few)

        self._enter, self._resume, self._answer = Chunks(enter, dtype), Chunks(resume, dtype), answer

    def __call__(self, arguments: Any) -> Any:
        """Answers of N rows, batch first."""
        _, data, options = arguments
        count, enter, result = len(options.iterations), self._enter, list[Any]()
        rows, state = self._round(enter, lambda at: enter.cut(arguments, at), np.arange(count), result)
        while rows.size:

            def onward(at: np.ndarray, rows: np.ndarray = rows, state: State = state) -> Any:
                return jax.tree.map(lambda a: a[..., at], state), *self._resume.cut((data, options), rows[at])

            rows, state = self._round(self._resume, onward, rows, result)
        return result[0]

    def _round(
        self, run: Chunks, cut: Callable[[np.ndarray], Any], rows: np.ndarray, result: list[Any]
    ) -> tuple[np.ndarray, Any]:
        """Rows that are left when every chunk has ended, and their state; the answers of all go into `result`."""
        few = run.dtype.type(_FEW * run.width if len(rows) > run.width else 0.0)
        left: list[tuple[np.ndarray, State]] = []
        lock = threading.Lock()

        def handle(at: np.ndarray, state: State) -> None:
            some, answer = rows[at], self._answer(state)
            with lock:
                if not result:
                    result.append(_room(answer, len(rows)))
            into = slice(some[0], some[-1] + 1) if some[-1] - some[0] == len(some) - 1 else some  # a slice is faster
            for whole, part in zip(jax.tree.leaves(result[0]), jax.tree.leaves(answer), strict=True):
                whole[into] = np.moveaxis(part, -1, 0)
            if (go := np.flatnonzero(state.done == 0.0)).size:
                left.append((some[go], jax.tree.map(lambda a: a[..., go], state)))

        run.each(handle, len(rows), lambda at: (*cut(at), few))
        if not left:
            return rows[:0], None
        left.sort(key=lambda part: part[0][0])  # as they were, whichever thread was first
        return (
            np.concatenate([some for some, _ in left]),
            jax.tree.map(lambda *a: np.concatenate(a, axis=-1), *(state for _, state in left)),
        )


def _room(like: Any, count: int) -> Any:
    """Uninitialised arrays of so many rows, batch first, in one stretch: it takes few large pages in place of many."""
    leaves, tree = jax.tree.flatten(like)
    shapes = [(count, *a.shape[:-1]) for a in leaves]
    ends = np.cumsum([0, *map(math.prod, shapes)])
    whole = np.empty(ends[-1], leaves[0].dtype)
    return jax.tree.unflatten(
        tree, [whole[a:b].reshape(s) for a, b, s in zip(ends[:-1], ends[1:], shapes, strict=True)]
    )
