"""Batches on a program of JAX: chunks of fixed width, and no chunk waits for its slowest rows.

Every chunk has the same shape, padded by repetition: one program, one rounding, whatever the batch. Chunks are handed
over together, so that all cores work. A chunk of the iteration ends when a quarter of its rows are left; those of all
chunks close ranks and go on together.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from feasible._threads import cores, share
from feasible.solvers import _riccati_loop as loop
from feasible.solvers._riccati_kernel import Kernel
from feasible.solvers._riccati_loop import State
from feasible.solvers._stacked import Collected, Rows, Stacked, Table
from feasible.solvers._xla import on_processor
from feasible.solvers._xla_rows import prepared

# Rows of a chunk on a processor: few, so that what a step works on is near. Loops this short LLVM unrolls before it
# looks for vectors, unless it is asked for less than its utmost; of 32 rows each takes a quarter longer.
_NEAR = 48
_OPTIONS = {
    "xla_backend_optimization_level": 2,
    "xla_cpu_prefer_vector_width": 512,  # XLA halves the registers otherwise; ignored where there are none
    "xla_cpu_enable_fast_min_max": True,  # a twentieth faster; what is not a number is seen in sums
}
# Rows of a chunk on other devices than a processor. An H100 takes 1.3 ms for an iteration of 1,024 rows, 1.9 of 8,192
# and 2.8 of 32,768 (T = 80, float32), but a chunk that is not full is padded.
_ELSEWHERE = 4096
_FEW = 0.25  # share of a chunk that is left when it ends


class Program:
    """A function of pytrees of arrays with the batch last, and of numbers, compiled for chunks of rows.

    Args:
        run: the function, made of `prepared` ones.
        dtype: float32 or float64.
    """

    def __init__(self, run: Callable[..., Any], dtype: np.dtype[Any]):
        self._on_processor = on_processor()
        self._given: tuple[Any, ...] = ()  # structures of the arguments and of the result, from the first call
        self._found: Stacked | None = None

        # Lists of arrays go in and out: JAX would ask for the structure of anything else at every call.
        def whole(given: list[Any]) -> list[Any]:
            pairs = zip(self._given, given, strict=True)
            self._found = Stacked.of(run(*(b.over(a).apart() if isinstance(b, Stacked) else a for b, a in pairs)))
            return self._found.arrays

        self._program = jax.jit(whole, compiler_options=_OPTIONS if self._on_processor else None)
        self._ready, self._lock = dict[Any, Callable[[list[Any]], list[Any]]](), threading.Lock()  # by shapes
        self.width, self.dtype = _NEAR if self._on_processor else _ELSEWHERE, dtype

    def each(
        self,
        count: int,
        cut: Callable[[Rows], tuple[Stacked | Any, ...]],
        handle: Callable[[slice, Stacked], None],
    ) -> None:
        """Runs the program on rows 0 to `count` - 1, a chunk at a time, on all cores.

        Args:
            count: of rows.
            cut: arguments of the program for some rows.
            handle: is given the rows and the result of every chunk; in any order, from several threads.
        """
        firsts = iter(range(0, count, self.width))

        def finish(rows: slice, found: list[Any]) -> None:
            assert self._found is not None
            handle(rows, self._found.over([np.asarray(a)[..., : rows.stop - rows.start] for a in found]))

        def work(_: int) -> None:
            # Two at a time in every thread, so that the device's threads do not fall asleep between chunks; not all,
            # for the memory of many goes back to the system every time and is taken anew.
            waiting: collections.deque[Any] = collections.deque()
            # x64 around trace and call, so that the user's setting is neither needed nor changed
            with jax.enable_x64(self.dtype.itemsize == 8):
                for first in firsts:
                    rows = slice(first, min(first + self.width, count))
                    full = rows.stop - first == self.width
                    padded = rows if full else np.minimum(np.arange(first, first + self.width), count - 1)
                    waiting.append((rows, self._run(cut(padded))))
                    if len(waiting) == 2:
                        finish(*waiting.popleft())
                while waiting:
                    finish(*waiting.popleft())

        share(work, min(cores(), -(-count // self.width)) if self._on_processor else 1)

    def _run(self, arguments: tuple[Stacked | Any, ...]) -> list[Any]:
        given = [a.arrays if isinstance(a, Stacked) else a for a in arguments]
        shapes = tuple(a.shape for a in jax.tree.leaves(given))
        with self._lock:  # two threads would compile it twice
            if shapes not in self._ready:
                self._given = tuple(a.over([]) if isinstance(a, Stacked) else a for a in arguments)
                self._ready[shapes] = self._program.lower(given).compile()
        return self._ready[shapes](given)


class Chunks:
    """A function of a pytree of arrays with the batch last, called with the batch first.

    Args:
        run: the function.
        dtype: float32 or float64.
    """

    def __init__(self, run: Callable[[Any], Any], dtype: np.dtype[Any]):
        once = prepared(run)
        self._program = Program(once, dtype)

    def __call__(self, arguments: Any) -> Any:
        table = Table(arguments, self._program.dtype)
        result = Collected(len(table))
        self._program.each(len(table), lambda rows: (table.cut(rows),), lambda rows, found: result.put(found, rows))
        return result.apart()


class Rounds:
    """The interior-point iteration: from a start, and on from a state.

    One program does both, for it takes seconds to compile.

    Args:
        kernel: of the problem's structure.
        dtype: float32 or float64.
        answer: of a state, whatever its leaves are: a pytree of some of them, wanted of rows that are done.
    """

    def __init__(self, kernel: Kernel, dtype: np.dtype[Any], answer: Callable[[State], Any]):
        def advance(given: Any) -> State:
            (_, data, options), state, few = given
            return loop.advance(kernel, data, options, state, few=few)

        self._begin = lambda given: loop.begin(kernel, *given)
        first, onward = prepared(self._begin), prepared(advance)

        def run(given: Any, state: State, fresh: Any, few: Any) -> State:
            return onward((given, jax.lax.cond(fresh > 0, lambda: first(given), lambda: state), few))

        self._program = Program(run, dtype)
        self._dtype, self._answer = dtype, answer
        self._nothing = dict[int, Stacked]()  # states of no rows, by T
        self._parts: tuple[Callable[[Stacked], Any], ...] | None = None  # of a state: the answer, and what is done

    def __call__(self, arguments: Any, take: Callable[[Rows, Any], None]) -> None:
        """Solves N rows.

        Args:
            arguments: batch first.
            take: is handed rows and answers, batch first, by several threads; rows that were not done once more.
        """
        start, yes, no = Table(arguments, self._dtype), np.int32(1), np.int32(0)
        nothing, everyone = self._blank(start), np.arange(len(start))
        rows, state = self._round(lambda at: (start.cut(at), nothing, yes), everyone, take)
        while state is not None:

            def on(at: Rows, rows: np.ndarray = rows, state: Stacked = state) -> tuple[Any, ...]:
                return start.cut(rows[at]), state.over([a[..., at] for a in state.arrays]), no

            rows, state = self._round(on, rows, take)

    def _blank(self, start: Table) -> Stacked:
        """What stands in the place of a state where rows begin."""
        if start.steps not in self._nothing:
            given, found = start.cut(np.zeros(self._program.width, dtype=int)), list[Stacked]()

            def begin(arrays: list[Any]) -> list[Any]:
                found.append(Stacked.of(self._begin(given.over(arrays).apart())))
                return found[0].arrays

            with jax.enable_x64(self._dtype.itemsize == 8):
                blank = [jax.device_put(np.zeros(a.shape, a.dtype)) for a in jax.eval_shape(begin, given.arrays)]
            self._nothing[start.steps] = found[0].over(blank)
        return self._nothing[start.steps]

    def _round(
        self, cut: Callable[[Rows], tuple[Any, ...]], rows: np.ndarray, take: Callable[[Rows, Any], None]
    ) -> tuple[np.ndarray, Stacked | None]:
        """Rows that are left when every chunk has ended, and their state; the answers of all are handed over."""
        run = self._program
        few = run.dtype.type(_FEW * run.width if len(rows) > run.width else 0.0)
        left: list[tuple[np.ndarray, Stacked]] = []

        def handle(at: slice, state: Stacked) -> None:
            some = rows[at]
            together = some[-1] - some[0] == len(some) - 1
            into = slice(some[0], some[-1] + 1) if together else some  # a slice is faster
            if self._parts is None:
                self._parts = state.choice(self._answer), state.choice(lambda state: state.done)
            answer, done = self._parts
            take(into, answer(state))
            if (go := np.flatnonzero(done(state) == 0.0)).size:
                left.append((some[go], state.over([a[..., go] for a in state.arrays])))

        run.each(len(rows), lambda at: (*cut(at), few), handle)
        if not left:
            return rows[:0], None
        left.sort(key=lambda part: part[0][0])  # as they were, whichever thread was first
        arrays = [np.concatenate(parts, axis=-1) for parts in zip(*(state.arrays for _, state in left), strict=True)]
        return np.concatenate([some for some, _ in left]), left[0][1].over(arrays)
