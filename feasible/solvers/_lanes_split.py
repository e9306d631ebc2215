"""A single row's scans as loops over time: most of a step needs nothing of the step before, so steps share a register.

Of a Riccati recursion only the products with the cost to go wait for each other. The derivatives of the motion and of
the limits, what they weigh, and everything that is done with the step found, are the same computation at every time.
So the body of a scan is taken apart (loop distribution; Kennedy and McKinley, 1990): operations that depend on
themselves a step ago stay in loops from step to step, and all others go to loops that do a register of steps at
once, alternately, as far as one needs the results of the other. What a later loop needs waits in memory. Sums, maxima
and minima over time are taken lane by lane first.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from feasible.solvers._traced import Step, Traced

FIXED = -1  # level of what is the same in every step, or given
_REDUCTIONS = ("add", "add_any", "max", "min")


@dataclasses.dataclass(frozen=True)
class Split:
    """The body of a scan in loops, numbered in order: even ones do a register of steps at once, odd ones one by one.

    Attributes:
        traced: the body; its inputs are what it closes over, what it carries, and a step's inputs.
        level: per value, by number, the loop that has it first; `FIXED` if it is the same in every step or an input.
        reduced: per carried value that is a sum, maximum or minimum over time, by place, the operation's name.
        cyclic: places of carried values that depend on themselves.
        delayed: places of carried values that are some other value of the step before.
        loops: per loop its operations.
    """

    traced: Traced
    level: dict[int, int]
    reduced: dict[int, str]
    cyclic: list[int]
    delayed: list[int]
    loops: dict[int, list[Step]]

    @classmethod
    def of(cls, closed: Any, constants: int, carried: int) -> Split:
        """Takes a scan's body apart.

        Args:
            closed: the body, of what it closes over, what it carries, and a step's inputs.
            constants: how many values it closes over.
            carried: how many it carries.
        """
        blank = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]
        with jax.enable_x64(any(a.dtype == np.float64 for a in blank)):
            traced = Traced(lambda inputs: jaxpr_as_fun(closed)(*inputs), blank)
        graph = _Graph(traced, constants, carried)
        level = graph.levels()
        graph.postpone(level)
        loops: dict[int, list[Step]] = {}
        for step in traced.steps:
            loops.setdefault(level[step.out[0]], []).append(step)
        for v in [*(constants + c for c in graph.delayed), *graph.results]:
            if level[v] != FIXED:
                loops.setdefault(level[v], [])
        return cls(traced, level, graph.reduced, graph.cyclic, graph.delayed, loops)


class _Graph:
    """What depends on what in a step, and through what is carried on a step before."""

    def __init__(self, traced: Traced, constants: int, carried: int):
        self.traced, self.inputs = traced, range(constants + carried, traced.inputs)
        self.entry = dict(enumerate(range(constants, constants + carried)))  # number of a carried value, by place
        self.after = dict(enumerate(traced.results[:carried]))
        self.results = [r for r in traced.results if isinstance(r, int)]
        self.group = self._groups()
        moving = [c for c in self.entry if self.after[c] != self.entry[c]]
        turning = [c for c in moving if self._among(self.after[c], self.entry[c])]
        self.reduced = {c: name for c in turning if (name := self._reduction(c))}
        self.cyclic = [c for c in turning if c not in self.reduced]
        self.delayed = [c for c in moving if c not in turning]
        self.serial = {self.group[self.entry[c]] for c in self.cyclic}
        self.varying = {*(self.entry[c] for c in moving), *self.inputs}
        for step in traced.steps:
            if self.varying.intersection(step.inputs):
                self.varying.update(step.out)

    def levels(self) -> dict[int, int]:
        """Per value the first loop that can have it."""
        level = dict.fromkeys([*range(self.traced.inputs), *self.traced.held], FIXED)
        level.update({v: FIXED for step in self.traced.steps for v in step.out})
        lowest = dict.fromkeys(self.serial, 1)  # of values that depend on each other; they stay together
        accumulators = {self.entry[c] for c in self.reduced}
        before: Any = None
        while before != (level, lowest):
            before = dict(level), dict(lowest)
            level.update({self.entry[c]: lowest[self.group[self.entry[c]]] for c in self.cyclic})
            for c in self.delayed:
                source = level[self.after[c]] if isinstance(self.after[c], int) else FIXED
                level[self.entry[c]] = FIXED if source == FIXED else 2 * (source // 2) + 2
            for step in self.traced.steps:
                if self.varying.intersection(step.out):
                    own = self.group[step.out[0]]
                    odd = own in self.serial
                    known = [level[v] for v in step.inputs if v not in accumulators]
                    first = max([int(odd), *(n + (n % 2 != odd) for n in known if n != FIXED)])
                    if odd:
                        first = lowest[own] = max(first, lowest[own])
                    level.update(dict.fromkeys(step.out, first))
        return level

    def postpone(self, level: dict[int, int]) -> None:
        """Moves operations to the loop that reads their results, where that makes no more values wait in memory."""
        users: dict[int, list[Step]] = {}
        for step in self.traced.steps:
            for v in step.inputs:
                users.setdefault(v, []).append(step)
        tied = self.serial | {self.group[self.entry[c]] for c in self.reduced}
        for step in reversed(self.traced.steps):
            own = level[step.out[0]]
            latest = min((2 * (level[u.out[0]] // 2) for v in step.out for u in users.get(v, ())), default=0)
            wanted = self.group[step.out[0]] in tied or step.name == "while" or set(step.out).intersection(self.results)
            if own == FIXED or latest <= own or wanted:
                continue
            waiting = 0
            for v in step.inputs:
                levels = {level[u.out[0]] for u in users[v] if u is not step}
                waiting += level[v] != FIXED and levels == {level[v]}
            if waiting <= 1:  # in place of the result
                level.update(dict.fromkeys(step.out, latest))

    def _groups(self) -> np.ndarray:
        """Per value, by number, which of the sets it is in whose members depend on each other."""
        edges = [(i, o) for step in self.traced.steps for i in step.inputs for o in step.out]
        for step in self.traced.steps:  # what one operation makes is made at once
            edges += [pair for a, b in zip(step.out, step.out[1:], strict=False) for pair in ((a, b), (b, a))]
        edges += [(self.after[c], v) for c, v in self.entry.items() if isinstance(self.after[c], int)]
        size = 1 + max([0, *self.entry.values(), *(v for edge in edges for v in edge)])
        rows, columns = np.array(edges, dtype=int).reshape(-1, 2).T
        graph = csr_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
        return np.asarray(connected_components(graph, directed=True, connection="strong")[1])

    def _among(self, v: Any, other: int) -> bool:
        return isinstance(v, int) and bool(self.group[v] == self.group[other])

    def _reduction(self, c: int) -> str | None:
        """The operation that a carried value is reduced by, if that is all that happens to it."""
        members = set(np.flatnonzero(self.group == self.group[self.entry[c]]).tolist())
        chain: list[Step] = []
        others: list[Step] = []
        for step in self.traced.steps:
            (chain if step.out[0] in members else others).append(step)
        names = {step.name for step in chain}
        if members - {v for step in chain for v in step.out} != {self.entry[c]} or len(names) != 1:
            return None
        if any(sum(v in members for v in step.values if isinstance(v, int)) != 1 for step in chain):
            return None
        if any(members.intersection(step.inputs) for step in others) or members.intersection(
            r for i, r in enumerate(self.traced.results) if i != c and isinstance(r, int)
        ):
            return None
        name = names.pop()
        return name if name in _REDUCTIONS else None
