"""A compiled loop that is never idle: a row that is done makes room in its lane for the next one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from feasible._threads import cores, share
from feasible.solvers._lanes import Program

_BURSTS = np.arange(4.0, 33.0)  # iterations until rows that are done make room
_CHANGE = 0.8  # what it takes to make room, in iterations
_RECENT = 512  # rows that tell how long the next ones will take


class Stream:
    """A compiled loop in bursts: a row that is done makes room in its lane for the next one.

    Rows need unequal numbers of iterations, and a group of lanes would wait for its slowest. How long a burst is
    follows from how many iterations recent rows needed. A row's result depends neither on that nor on its neighbours,
    for its lane starts afresh and stops when it is done.

    Args:
        function: of (given, state, fresh, most) to the state after at most that many iterations; a row starts anew
            where `fresh` is positive.
        given: what rows are about: a pytree of scalars and horizons, as for `Program`.
        state: of the loop; such a pytree.
        answer: of a state: a pytree of some of its leaves, wanted of rows that are done.
        done: of a state: its leaf that is positive where a row is done.
        turns: of a state: its leaf that counts a row's iterations.
        dtype: float32 or float64.
        width: rows in a vector.
    """

    def __init__(
        self,
        function: Callable[[Any, Any, Any, Any], Any],
        given: Any,
        state: Any,
        answer: Callable[[Any], Any],
        done: Callable[[Any], Any],
        turns: Callable[[Any], Any],
        dtype: Any,
        width: int | None = None,
    ):
        number = np.zeros(())
        leaves, tree = jax.tree.flatten(state)
        first = len(jax.tree.leaves(given))
        self._program = Program(
            lambda a: function(*a),
            (given, state, number, number),
            dtype,
            width,
            in_place=range(first, first + len(leaves)),
        )
        numbered = jax.tree.unflatten(tree, list(range(first, first + len(leaves))))
        self._wanted, self._tree = jax.tree.flatten(answer(numbered))
        self._done, self._turns = done(numbered), turns(numbered)
        self._pace = _Pace()
        self._given, self._known = first, dict[int, _Places]()

    def __call__(self, arguments: Any) -> Any:
        """Answers of rows, from what they are about: pytrees of arrays `(N,)` and `(N, T)`."""
        leaves = [np.asarray(a) for a in jax.tree.leaves(arguments)]
        run, count = self._program, len(leaves[0])
        steps = next(a.shape[1] for a in leaves if a.ndim == 2)
        at = self._places(steps)
        # As in memory: all scalars first, then all horizons.
        table = np.concatenate([leaves[i].reshape(count, -1) for i in at.order], axis=1, dtype=run.dtype)
        given = at.given
        result = np.empty((count, at.wanted[-1].stop), run.dtype)
        rows = iter(range(count))
        workers = min(cores(), -(-count // run.width))
        waiting = count > workers * run.width

        def work(_: int) -> None:
            source, sink = run.room(steps)
            source[at.done] = 1.0
            row = np.full(run.width, -1)
            while True:
                idle = np.flatnonzero(row < 0)
                new = list(itertools.islice(rows, len(idle)))
                lanes = idle[: len(new)]
                row[lanes] = new
                source[:given, lanes], source[at.horizons, lanes] = table[new, :given].T, table[new, given:].T
                source[at.fresh, lanes] = 1.0
                if (row < 0).all():
                    return
                # Once nobody waits for room, none is made.
                source[at.most] = self._pace.burst if waiting and len(new) == len(idle) else np.inf
                run.once(source, sink, steps)
                source[at.fresh] = 0.0
                lanes = np.flatnonzero((source[at.done] > 0.0) & (row >= 0))
                if lanes.size:
                    if waiting:
                        self._pace.saw(source[at.turns, lanes])
                    for p, q in at.stretches:
                        result[row[lanes], q] = source[p][:, lanes].T
                    row[lanes] = -1

        share(work, workers)
        parts = [
            result[:, p] if run.inputs[i] else result[:, p.start] for p, i in zip(at.wanted, self._wanted, strict=True)
        ]
        return jax.tree.unflatten(self._tree, parts)

    def _places(self, steps: int) -> _Places:
        """Where things lie for a horizon of so many steps."""
        if steps not in self._known:
            inputs = self._program.inputs
            scalars = inputs.count(False)
            places = self._program.places(inputs, steps)
            wanted, end = [], 0
            for i in self._wanted:
                wanted.append(slice(end, end := end + places[i].stop - places[i].start))
            given = range(self._given)
            order = sorted(given, key=lambda i: inputs[i])
            count = sum(not inputs[i] for i in given)
            self._known[steps] = _Places(
                order=order,
                given=count,
                horizons=slice(scalars, scalars + (self._given - count) * steps),
                done=places[self._done].start,
                turns=places[self._turns].start,
                fresh=scalars - 2,
                most=scalars - 1,
                wanted=wanted,
                stretches=_joined([places[i] for i in self._wanted], wanted),
            )
        return self._known[steps]


class _Pace:
    """How long a burst should be: the shorter, the sooner rows that are done make room, which takes its time too."""

    def __init__(self) -> None:
        self.burst = 12.0  # until something is known
        self._turns, self._news = np.empty(0), 0

    def saw(self, turns: np.ndarray) -> None:
        """Rows that are done, and after how many iterations; of several threads the last one counts."""
        self._turns, self._news = np.concatenate([turns, self._turns[: _RECENT - len(turns)]]), self._news + len(turns)
        if self._news >= min(len(self._turns), _RECENT // 4):
            bursts = np.ceil(self._turns[:, None] / _BURSTS)
            self.burst, self._news = _BURSTS[np.argmin((bursts * (_BURSTS + _CHANGE)).mean(0))], 0


class _Places(NamedTuple):
    """Of a stream's memory, for one horizon.

    Attributes:
        order: of the leaves that rows are given, scalars first.
        given: how many of these are scalars. horizons: where the others lie.
        done, turns, fresh, most: scalars of the loop.
        wanted: where the leaves of an answer go. stretches: pairs of where some lie together and where they go.
    """

    order: list[int]
    given: int
    horizons: slice
    done: int
    turns: int
    fresh: int
    most: int
    wanted: list[slice]
    stretches: list[tuple[slice, slice]]


def _joined(places: Sequence[slice], targets: Sequence[slice]) -> list[tuple[slice, slice]]:
    """Pairs of places, in as few stretches as there are."""
    joined: list[tuple[slice, slice]] = []
    for p, q in zip(places, targets, strict=True):
        if joined and joined[-1][0].stop == p.start:
            before, target = joined.pop()
            p, q = slice(before.start, p.stop), slice(target.start, q.stop)
        joined.append((p, q))
    return joined
