"""Where in the workspace each buffer lies: one place for buffers that are never alive together.

Copies come from the meaning of a traced loop, whose carried horizons are new ones after every turn. Most of them
need no memory of their own: a horizon that replaces another element by element, after the last look at the old one,
is written over it; one that is only copied to an output is written there at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from feasible._export._c_code import Block, Buffer, Copy, For, Statement, walk


@dataclasses.dataclass
class _Access:
    """Of a buffer: when, by which statement, in which list, and in which loops from the outermost in."""

    time: int
    block: Block
    writes: bool
    body: Sequence[Statement]
    loops: tuple[Statement, ...]


class _Log:
    """All accesses to buffers that are or may become part of the workspace, in the order of the text."""

    def __init__(self, body: list[Statement]):
        self.of: dict[Buffer, list[_Access]] = {}
        self.spans: dict[Statement, tuple[int, int]] = {}
        self.time = 0
        self._walk(body, ())

    def _walk(self, body: Sequence[Statement], loops: tuple[Statement, ...]) -> None:
        for statement in body:
            self.time += 1
            start = self.time
            for block, writes in [*((b, False) for b in statement.loads), *((b, True) for b in statement.stores)]:
                access = _Access(start, block, writes, body, loops)
                self.of.setdefault(block.buffer.root, []).append(access)
            for inner in statement.bodies:
                self._walk(inner, (*loops, statement))
            self.spans[statement] = start, self.time

    def merge(self, gone: Buffer, into: Buffer) -> None:
        """Both are one from now on."""
        self.of[into] = sorted(self.of[into] + self.of.pop(gone), key=lambda a: a.time)
        gone.merged = into


def arrange(body: list[Statement]) -> int:
    """Finds every buffer its place, and returns the size of the workspace in doubles."""
    log = _Log(body)
    for statement, around in list(walk(body)):
        if isinstance(statement, Copy):
            (source,), (target,) = statement.loads, statement.stores
            a, b = source.buffer.root, target.buffer.root
            whole = source.length == a.length == b.length and source.offset == target.offset == 0
            time = log.spans[statement][0]
            if a is not b and a.base == "work" and whole and _may_share(log, a, b, time, around):
                log.merge(a, b)
    return _place(log)


def _may_share(log: _Log, a: Buffer, b: Buffer, time: int, around: Sequence[Statement]) -> bool:
    """Whether a, copied to b at a time, may lie there from the beginning."""
    mine, theirs = log.of[a], log.of[b]
    inside = {id(around), *(id(body) for s, _ in walk(around) for body in s.bodies)}
    if any(id(x.body) not in inside for x in mine):
        return False  # a lives longer than one turn of the loop around
    if all(x.time <= time for x in mine) and all(x.time >= time for x in theirs):
        return True
    if any(x.time > time for x in mine):
        return False
    write = next(x for x in mine if x.writes)
    here = [x for x in theirs if id(x.body) in inside and x.time != time]
    return not any(x.writes or (x.time > write.time and not _together(x, write)) for x in here)


def _together(read: _Access, write: _Access) -> bool:
    """Whether a read of the old block is of the element that the same turn of a loop writes anew."""
    loop = read.loops[-1] if read.loops else None
    same = isinstance(loop, For) and loop.elementwise and write.loops[-1:] == (loop,)
    return same and read.block.offset == write.block.offset == 0


def _place(log: _Log) -> int:
    """First fit, by time of birth."""
    size, alive = 0, list[tuple[int, Buffer]]()
    spans = {b: _lifetime(log, accesses) for b, accesses in log.of.items() if b.base == "work"}
    for buffer, (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        alive = [(last, b) for last, b in alive if last >= start]
        place = 0
        for _, other in sorted(alive, key=lambda item: item[1].place):
            if place + buffer.length <= other.place:
                break
            place = max(place, other.place + other.length)
        buffer.place = place
        alive.append((end, buffer))
        size = max(size, place + buffer.length)
    return size


def _lifetime(log: _Log, accesses: Sequence[_Access]) -> tuple[int, int]:
    """From first to last access; through all turns of a loop that is not around every one of them."""
    start, end = accesses[0].time, accesses[-1].time
    shared = set(accesses[0].loops).intersection(*(a.loops for a in accesses))
    for access in accesses:
        for loop in access.loops:
            if loop not in shared:
                first, last = log.spans[loop]
                start, end = min(start, first), max(end, last)
    return start, end
