"""Statements of a C function before it is text: what each reads and writes, and which of them nothing needs.

Between a traced function and its text stands this tree, because three things are decided only when all of it is
known: which statements a result depends on, where in the workspace each block of memory may lie (`_c_memory`), and
which values are named. Scalars are assigned once, but for the variables that loops and branches carry.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any


@dataclasses.dataclass(eq=False)
class Scalar:
    """A number, or a truth value or counter; told apart by identity.

    Attributes:
        kind: "double" or "int".
        depth: of the scope that it belongs to.
        text: of a constant.
        of: the variable that it is, in a deeper scope.
    """

    kind: str
    depth: int = 0
    text: str = ""
    of: Scalar | None = None

    @property
    def root(self) -> Scalar:
        """The variable behind it."""
        return self.of.root if self.of else self


@dataclasses.dataclass(eq=False)
class Buffer:
    """Doubles in memory: of the caller's `in` or `out` at a known place, or of `work` at one that is found later."""

    length: int
    base: str = "work"
    place: int = 0
    merged: Buffer | None = None

    @property
    def root(self) -> Buffer:
        """The buffer whose memory it shares."""
        return self.merged.root if self.merged else self


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a buffer: a horizon, or a piece of one. Of kind "int" if its doubles are truth values or counters."""

    buffer: Buffer
    length: int
    offset: int = 0
    kind: str = "double"


@dataclasses.dataclass(eq=False)
class Statement:
    """The fields that a kind of statement does not use stay empty."""

    reads: Sequence[Scalar] = ()
    writes: Sequence[Scalar] = ()
    loads: Sequence[Block] = ()
    stores: Sequence[Block] = ()
    bodies: Sequence[list[Statement]] = ()


@dataclasses.dataclass(eq=False)
class Let(Statement):
    """A value from others. With more than one target the template is a call that takes their addresses last."""

    template: str = ""


@dataclasses.dataclass(eq=False)
class Load(Statement):
    """An element of a block into a scalar: at the index `reads[0]`, or the first."""


@dataclasses.dataclass(eq=False)
class Store(Statement):
    """The value `reads[0]` into a block: at the index `reads[1]`, or the first."""


@dataclasses.dataclass(eq=False)
class Copy(Statement):
    """A block into another of its length."""


@dataclasses.dataclass(eq=False)
class Assign(Statement):
    """A variable's value, if it has one yet; with `new`, its declaration."""

    new: bool = False


@dataclasses.dataclass(eq=False)
class For(Statement):
    """A loop of known length over the index `writes[0]`; `elementwise` if no element depends on another."""

    count: int = 0
    reverse: bool = False
    elementwise: bool = False


@dataclasses.dataclass(eq=False)
class While(Statement):
    """Test and body in one; what follows `Leave` in it runs only if the loop goes on."""


@dataclasses.dataclass(eq=False)
class Leave(Statement):
    """Leaves the innermost `While` unless `reads[0]`."""


@dataclasses.dataclass(eq=False)
class Choose(Statement):
    """The body whose number is `reads[0]`; the last one for any other number."""


def walk(body: Sequence[Statement]) -> Iterator[tuple[Statement, Sequence[Statement]]]:
    """Every statement with the list that it stands in; a loop comes before what it contains."""
    for statement in body:
        yield statement, body
        for inner in statement.bodies:
            yield from walk(inner)


def needed(body: list[Statement]) -> list[Statement]:
    """Without the statements that no output depends on."""
    makers: dict[Any, list[Statement]] = {}
    around: dict[Statement, Statement] = {}
    queue = []
    for statement, _ in walk(body):
        for made in [*(s.root for s in statement.writes), *(b.buffer for b in statement.stores)]:
            makers.setdefault(made, []).append(statement)
        for inner in statement.bodies:
            around.update(dict.fromkeys(inner, statement))
            if isinstance(statement, While):
                leave = next(s for s in inner if isinstance(s, Leave))
                makers.setdefault(statement, []).append(leave)
        if any(b.buffer.base == "out" for b in statement.stores):
            queue.append(statement)
    kept = set(queue)
    while queue:
        statement = queue.pop()
        wanted: list[Any] = [*(s.root for s in statement.reads), *(b.buffer for b in statement.loads), statement]
        further = [maker for want in wanted for maker in makers.get(want, [])]
        further += [around[statement]] if statement in around else []
        queue += dict.fromkeys(s for s in further if s not in kept)
        kept.update(further)
    return _only(body, kept)


def _only(body: list[Statement], kept: set[Statement]) -> list[Statement]:
    found = [statement for statement in body if statement in kept]
    for statement in found:
        statement.bodies = [_only(inner, kept) for inner in statement.bodies]
    return found
