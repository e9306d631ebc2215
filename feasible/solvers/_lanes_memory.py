"""Blocks of vectors in memory: what the arrays over the horizon are in the programs of `_lanes`.

A block that nobody reads any more may be written over, so a loop carries its arrays in the place where they began, and
what a scan makes of arrays that it is the last to read lies where they did. The choice between the old and the new
iterate, the last thing such a loop does, is put off until it is known where to: it then changes in their place the
rows that moved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from feasible.solvers._lanes_math import Elementwise

HORIZON = 1009  # stands for T while tracing: a length that nothing else has
INT = ir.IntType(64)


@dataclasses.dataclass(frozen=True)
class Block:
    """Vectors in memory, one after the other: as many as `HORIZON` in the traced length stands for.

    Truth values lie there as 1 and 0 (`truth`). `home` tells which stretch of memory it is part of.
    """

    pointer: Any
    home: int
    length: int = HORIZON
    truth: bool = False

    @property
    def parts(self) -> tuple[Block, ...]:
        """The blocks that it consists of."""
        return (self,)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of two blocks, row by row, not yet made."""

    which: Any
    when_false: Block
    when_true: Block

    @property
    def parts(self) -> tuple[Block, ...]:
        """The blocks that it consists of."""
        return self.when_false, self.when_true


def homes(*values: Any) -> set[int]:
    """Of all blocks among values."""
    return {part.home for v in values if isinstance(v, Block | Choice) for part in v.parts}


class Memory:
    """Writes what is done with blocks.

    Args:
        builder: of the function.
        math: its arithmetic, which forgets its values where a stretch of code ends.
        steps: T. arena: memory of as many blocks as `blocks` tells in the end, each of T + `spare` vectors.
        align: of a vector, in bytes.
        together: vectors that are read and written at once, where a vector is a single number; else 1.
    """

    def __init__(
        self, builder: ir.IRBuilder, math: Elementwise, steps: Any, arena: Any, align: int, spare: int, together: int
    ):
        self.builder, self.math, self.steps, self._arena, self._align = builder, math, steps, arena, align
        self._spare, self.together = spare, together
        self.register = ir.VectorType(math.vector.element, together)
        self.blocks, self._homes = 0, 0

    def at(self, pointer: Any, offset: Any) -> Any:
        """A place in memory."""
        return self.builder.gep(pointer, [offset], inbounds=True)

    def block(self, pointer: Any, length: int = HORIZON, truth: bool = False) -> Block:
        """A block that is nobody else's."""
        self._homes += 1
        return Block(pointer, self._homes, length, truth)

    def new(self, length: int = HORIZON, truth: bool = False) -> Block:
        """A block in the arena."""
        size = self.builder.add(self.steps, INT(self._spare))
        self.blocks += 1
        return self.block(self.at(self._arena, self.builder.mul(size, INT(self.blocks - 1))), length, truth)

    def read(self, pointer: Any) -> Any:
        """The vector at a place."""
        return self.builder.load(pointer, align=self._align)

    def write(self, value: Any, pointer: Any) -> None:
        """A vector to a place."""
        self.builder.store(self.math.number(value), pointer, align=self._align)

    def load(self, block: Block, k: Any) -> Any:
        """The vector k of a block."""
        value = self.read(self.at(block.pointer, k))
        return self.math.truth(value) if block.truth else value

    def length(self, traced: int) -> Any:
        """What a traced length is at run time."""
        if traced < HORIZON // 2:
            return INT(traced)
        return self.builder.add(self.steps, INT(traced - HORIZON)) if traced != HORIZON else self.steps

    def read_register(self, pointer: Any) -> Any:
        """The numbers from a place on."""
        return self.builder.load(self.builder.bitcast(pointer, self.register.as_pointer()), align=self._align)

    def write_register(self, value: Any, pointer: Any) -> None:
        """Numbers to a place and those after it."""
        self.builder.store(value, self.builder.bitcast(pointer, self.register.as_pointer()), align=self._align)

    def spread(self, value: Any) -> Any:
        """A single number or truth value in all places of a register."""
        return self.shuffled(value, [0] * self.together)

    def shuffled(self, value: Any, places: list[int]) -> Any:
        """A register of what stands at some places of another."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
        return self.builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)

    def loop(self, count: Any, body: Callable[[Any], None], *, perhaps: bool = False) -> None:
        """`body(k)` for k = 0 .. count - 1, count > 0, or >= 0 if `perhaps`."""
        before = self.builder.block
        block = self.builder.append_basic_block("loop")
        after = self.builder.append_basic_block("after")
        if perhaps:
            self.builder.cbranch(self.builder.icmp_signed(">", count, INT(0)), block, after)
        else:
            self.builder.branch(block)
        self.builder.position_at_end(block)
        k = self.builder.phi(INT)
        k.add_incoming(INT(0), before)
        self.math.forget()
        body(k)
        following = self.builder.add(k, INT(1))
        k.add_incoming(following, self.builder.block)
        self.builder.cbranch(self.builder.icmp_signed("<", following, count), block, after)
        self.builder.position_at_end(after)
        self.math.forget()

    def put(self, value: Block | Choice, target: Any) -> None:
        """A block, or the one that is chosen, to a place."""
        first = value.parts[0]
        if isinstance(value, Block) and value.pointer is target:
            return

        def one(k: Any) -> None:
            vectors = [self.read(self.at(part.pointer, k)) for part in value.parts]
            chosen = vectors[0] if isinstance(value, Block) else self.builder.select(value.which, *vectors[::-1])
            self.write(chosen, self.at(target, k))

        if self.together == 1:
            self.loop(self.length(first.length), one)
            return

        def several(group: Any) -> None:
            k = self.builder.mul(group, INT(self.together))
            numbers = [self.read_register(self.at(part.pointer, k)) for part in value.parts]
            if isinstance(value, Choice):
                numbers = [self.builder.select(self.spread(value.which), *numbers[::-1])]
            self.write_register(numbers[0], self.at(target, k))

        count = self.length(first.length)
        groups = self.builder.sdiv(count, INT(self.together))
        done = self.builder.mul(groups, INT(self.together))
        self.loop(groups, several, perhaps=True)
        self.loop(self.builder.sub(count, done), lambda k: one(self.builder.add(done, k)), perhaps=True)

    def made(self, value: Any) -> Any:
        """A value that is a block of its own if it was not yet made."""
        return self.moved(value) if isinstance(value, Choice) else value

    def moved(self, value: Block | Choice) -> Block:
        """A copy."""
        block = self.new(value.parts[0].length, value.parts[0].truth)
        self.put(value, block.pointer)
        return block

    def assign(self, targets: Sequence[Block], values: Sequence[Block | Choice]) -> None:
        """Blocks to where they belong; one that lies where another goes is moved away first."""
        taken = {target.home for target in targets}

        def in_the_way(value: Block | Choice, target: Block) -> bool:
            return any(part.home in taken and part.pointer is not target.pointer for part in value.parts)

        pairs = [(self.moved(v) if in_the_way(v, t) else v, t) for v, t in zip(values, targets, strict=True)]
        for value, target in pairs:
            self.put(value, target.pointer)
