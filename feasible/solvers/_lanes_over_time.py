"""Writes a single row's scan as the loops of `_lanes_split`: a register of steps in place of a register of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from feasible.solvers._lanes_math import Elementwise
from feasible.solvers._lanes_memory import INT, Block
from feasible.solvers._lanes_split import FIXED, Split
from feasible.solvers._traced import Step

if TYPE_CHECKING:
    from feasible.solvers._lanes_writer import Writer


class OverTime:
    """A scan of one row.

    Registers of steps begin at every multiple of their size, so the last one may reach beyond the horizon: what is
    read there is not used, and memory has room for what is written there.

    Args:
        writer: of the function that it is part of.
        split: its body.
        reverse: whether it runs backwards.
        fixed, start, inputs: what the body closes over, what it carries at the start, and inputs of all steps.
    """

    def __init__(
        self,
        writer: Writer,
        split: Split,
        fixed: Sequence[Any],
        start: Sequence[Any],
        inputs: Sequence[Block],
        *,
        reverse: bool,
    ):
        self._writer, self._split, self._reverse = writer, split, reverse
        self._builder, self._memory, self._narrow = writer.builder, writer.memory, writer.math
        self._wide = Elementwise(writer.builder, writer.memory.register)
        self._start = [self._narrow.number(v) for v in start]
        self._entry = len(fixed)  # number of the first carried value
        carried = len(start)
        self._after, self._results = split.traced.results[:carried], split.traced.results[carried:]
        held = {n: writer.math.constant(c) for n, c in split.traced.held.items()}
        self._fixed: dict[int, Any] = {**dict(enumerate(fixed)), **held}
        for c in set(range(carried)) - {*split.cyclic, *split.reduced, *split.delayed}:
            self._fixed[self._entry + c] = self._start[c]
        self._place: dict[int, Block] = dict(enumerate(inputs, self._entry + carried))
        self._truths: set[int] = set()  # numbers of truth values, which lie in memory as 1 and 0
        self._targets: dict[int, list[Block]] = {}  # where a value goes
        self._slots: dict[int, Any] = {}

    def write(self) -> list[Any]:
        """What the scan returns: carried values, then blocks."""
        split, memory = self._split, self._memory
        for step in split.loops.get(FIXED, ()):
            self._apply(step, self._fixed, self._fixed.__getitem__)
        outputs = [memory.new() for _ in self._results]
        blocks = {c: memory.new() for c in split.delayed}
        self._assign_memory(outputs, blocks)
        for c in split.cyclic:
            self._slots[c] = self._slot(self._writer.vector, self._start[c])
        for c, name in split.reduced.items():
            self._slots[c] = self._slot(self._memory.register, self._neutral(name, self._start[c]))
        self._copy(outputs, blocks)
        for number in sorted(set(split.loops) - {FIXED}):
            (self._one_by_one if number % 2 else self._at_once)(number)
            for c, block in blocks.items():
                if self._loop_before(c) == number:
                    self._begin(c, block)
        return [*(self._final(c, blocks.get(c)) for c in range(len(self._start))), *outputs]

    def _assign_memory(self, outputs: list[Block], blocks: dict[int, Block]) -> None:
        """Where values lie that other loops read, or that are the scan's results."""
        level = self._split.level
        for result, block in zip(self._results, outputs, strict=True):
            if isinstance(result, int):
                self._targets.setdefault(result, []).append(block)
        for c, block in blocks.items():
            self._place[self._entry + c] = self._moved(block) if self._reverse else block
            if isinstance(self._after[c], int):
                self._targets.setdefault(self._after[c], []).append(self._goal(block))
        for number, steps in self._split.loops.items():
            for v in {v for step in steps for v in step.inputs}:
                if level[v] not in (FIXED, number) and v not in self._place:
                    self._place[v] = self._memory.new()
                    self._targets.setdefault(v, []).append(self._place[v])

    def _copy(self, outputs: list[Block], blocks: dict[int, Block]) -> None:
        """What no loop computes: late inputs, and results that are inputs or constants."""

        def lateness(c: int) -> int:
            after = self._after[c]
            return 1 + lateness(after - self._entry) if isinstance(after, int) and after - self._entry in blocks else 0

        late = [c for c in blocks if self._loop_before(c) == FIXED]
        for c in sorted(late, key=lateness):
            self._fill(self._after[c], self._goal(blocks[c]))
            self._begin(c, blocks[c])
        for result, block in zip(self._results, outputs, strict=True):
            if not isinstance(result, int) or self._split.level[result] == FIXED:
                self._fill(result, block)

    def _moved(self, block: Block) -> Block:
        """The block from its second place on."""
        return Block(self._memory.at(block.pointer, INT(1)), block.home)

    def _goal(self, block: Block) -> Block:
        """Where a value goes, at its own step, that is read from the block a step later."""
        return block if self._reverse else self._moved(block)

    def _fill(self, v: Any, target: Block) -> None:
        """A value that no loop computes to a block."""

        def one(k: Any) -> None:
            value = self._value(v, self._narrow, lambda n: self._read(n, k, self._narrow))
            self._memory.write(value, self._memory.at(target.pointer, k))

        self._memory.loop(self._memory.steps, one)

    def _loop_before(self, c: int) -> int:
        """The loop that has what a late value is late of."""
        after = self._after[c]
        return self._split.level[after] if isinstance(after, int) else FIXED

    def _begin(self, c: int, block: Block) -> None:
        """A late value at the first step; after the loop that writes the others, maybe beyond the end."""
        place = self._memory.steps if self._reverse else INT(0)
        self._memory.write(self._start[c], self._memory.at(block.pointer, place))

    def _one_by_one(self, number: int) -> None:
        cyclic = [c for c in self._split.cyclic if self._split.level[self._entry + c] == number]

        def one(k: Any) -> None:
            last = self._builder.sub(self._memory.steps, INT(1))
            at = self._builder.sub(last, k) if self._reverse else k
            env = {self._entry + c: self._builder.load(self._slots[c]) for c in cyclic}
            get = self._body(number, env, at, self._narrow, self._memory.write)
            for c in cyclic:
                self._builder.store(self._narrow.number(get(self._after[c])), self._slots[c])

        self._memory.loop(self._memory.steps, one)

    def _at_once(self, number: int) -> None:
        size = self._memory.together
        steps = self._split.loops[number]
        made = {v for step in steps for v in step.out}
        reduced = [c for c in self._split.reduced if self._after[c] in made]
        groups = self._builder.sdiv(self._builder.add(self._memory.steps, INT(size - 1)), INT(size))

        def write(value: Any, pointer: Any) -> None:
            self._memory.write_register(self._wide.number(value), pointer)

        def one(group: Any) -> None:
            self._wide.forget()
            k = self._builder.mul(group, INT(size))
            env = {self._entry + c: self._builder.load(self._slots[c]) for c in reduced}
            before = dict(env)
            get = self._body(number, env, k, self._wide, write)
            if reduced:
                within = self._within(k)
                for c in reduced:
                    chosen = self._builder.select(within, get(self._after[c]), before[self._entry + c])
                    self._builder.store(chosen, self._slots[c])

        with self._writer.speaking(self._wide):
            self._memory.loop(groups, one)

    def _body(
        self, number: int, env: dict[int, Any], at: Any, math: Elementwise, write: Callable[[Any, Any], None]
    ) -> Callable[[int], Any]:
        """The operations of a loop at some step, or a register of them; returns how to get values."""

        def get(n: int) -> Any:
            if n not in env:
                env[n] = self._read(n, at, math)
            return env[n]

        for step in self._split.loops[number]:
            self._apply(step, env, get)
        for n, targets in self._targets.items():
            if self._split.level[n] == number:
                value = get(n)
                if value.type.element == ir.IntType(1):
                    self._truths.add(n)
                for target in targets:
                    write(value, self._memory.at(target.pointer, at))
        return get

    def _apply(self, step: Step, env: dict[int, Any], get: Callable[[int], Any]) -> None:
        math = self._writer.math
        values = [self._value(v, math, get) for v in step.values]
        if step.name == "while":
            found = self._writer.loop(step.params, values, set())
        else:
            found = [math.apply(step.name, step.params, values)]
        env.update(zip(step.out, found, strict=True))

    def _value(self, v: Any, math: Elementwise, get: Callable[[int], Any]) -> Any:
        return get(v) if isinstance(v, int) else math.constant(v)

    def _read(self, n: int, at: Any, math: Elementwise) -> Any:
        """A value that the loop at hand does not compute."""
        if n in self._fixed:
            return self._fixed[n] if math is self._narrow else self._memory.spread(self._fixed[n])
        pointer = self._memory.at(self._place[n].pointer, at)
        value = self._memory.read(pointer) if math is self._narrow else self._memory.read_register(pointer)
        return math.truth(value) if n in self._truths else value

    def _final(self, c: int, block: Block | None) -> Any:
        """A carried value after the last step."""
        if block is not None:
            place = INT(0) if self._reverse else self._memory.steps
            return self._memory.read(self._memory.at(block.pointer, place))
        if c not in self._slots:
            return self._start[c]
        value = self._builder.load(self._slots[c])
        if c in self._split.reduced:
            size = self._memory.together
            while size > 1:
                size //= 2
                other = self._memory.shuffled(
                    value, [(i + size) % self._memory.together for i in range(self._memory.together)]
                )
                value = self._wide.apply(self._split.reduced[c], {}, [value, other])
            value = self._memory.shuffled(value, [0])
        return value

    def _neutral(self, name: str, start: Any) -> Any:
        """Lanes that make the start when they are reduced."""
        if name in ("max", "min"):
            return self._memory.spread(start)
        zero = self._wide.constant(0.0)
        return self._builder.insert_element(zero, self._builder.extract_element(start, INT(0)), INT(0))

    def _within(self, k: Any) -> Any:
        """Which lanes of the register that begins at step k are steps at all."""
        kind = ir.VectorType(INT, self._memory.together)
        count = ir.Constant(kind, list(range(self._memory.together)))
        left = self._builder.sub(self._memory.steps, k)
        first = self._builder.insert_element(ir.Constant(kind, ir.Undefined), left, INT(0))
        return self._builder.icmp_signed("<", count, self._memory.shuffled(first, [0] * self._memory.together))

    def _slot(self, kind: Any, value: Any) -> Any:
        place = ir.IRBuilder(self._writer.entry).alloca(kind)
        self._builder.store(value, place)
        return place
