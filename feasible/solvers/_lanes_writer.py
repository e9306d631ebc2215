"""From a traced function to LLVM: scalars are vectors of rows, horizons are blocks of memory, scans are loops."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from jax.extend.core import Literal
from llvmlite import ir

from feasible.solvers._lanes_math import ESTIMATES, Elementwise
from feasible.solvers._lanes_memory import INT, Block, Choice, Memory, homes
from feasible.solvers._lanes_over_time import OverTime
from feasible.solvers._lanes_split import Split
from feasible.solvers._traced import CALLS, called, scanned

SPARE = 2  # vectors of a block beyond the horizon


def together(width: int, double: bool) -> int:
    """Steps that a single row's loops do at once."""
    return 64 // (8 if double else 4) if width == 1 else 1


class Writer:
    """Translates one traced function; SSA values are vectors, `Block` is memory."""

    def __init__(self, width: int, double: bool):
        self.module = ir.Module(name="lanes")
        self.module.triple = llvm.get_default_triple()
        scalar = ir.DoubleType() if double else ir.FloatType()
        self.vector = ir.VectorType(scalar, width)
        self.width = width
        self.align = width * (8 if double else 4)
        self.together = together(width, double)

    def function(
        self, closed: Any, inputs: Sequence[bool], outputs: Sequence[bool], in_place: Sequence[int] | None = None
    ) -> tuple[int, int]:
        """Writes `run(T, in, out, arena)`.

        Args:
            closed: the traced function.
            inputs: which of them are horizons.
            outputs: likewise.
            in_place: per output the input in whose place it is written; None for a memory of their own.

        Returns:
            The number of blocks of the arena, and what each has beyond T vectors.
        """
        pointer = self.vector.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [INT, pointer, pointer, pointer])
        function = ir.Function(self.module, kind, name="run")
        set.add(function.attributes, ESTIMATES)  # llvmlite's own `add` knows no attributes with values
        for argument in function.args[1:]:
            argument.add_attribute("noalias")
        self.steps, source, sink, arena = function.args
        self.entry = function.append_basic_block("entry")
        first = function.append_basic_block("first")
        self.builder = ir.IRBuilder(first)
        self.math = Elementwise(self.builder, self.vector)
        spare = SPARE + (self.together if self.together > 1 else 0)
        self.memory = memory = Memory(self.builder, self.math, self.steps, arena, self.align, spare, self.together)
        places = [memory.at(source, p) for p in self._offsets(inputs)]
        values = [memory.block(p) if long else memory.read(p) for long, p in zip(inputs, places, strict=True)]
        mine = homes(*(values[i] for i in in_place or ()))
        constants = [self.math.constant(c) for c in closed.consts]
        results = self.evaluate(closed.jaxpr, constants, values, mine)
        if in_place is None:
            targets = [memory.at(sink, p) for p in self._offsets(outputs)]
            blocks = [memory.block(t) for t in targets]
        else:
            targets = [places[i] for i in in_place]
            blocks = [values[i] for i in in_place]
        long = [i for i, is_long in enumerate(outputs) if is_long]
        memory.assign([blocks[i] for i in long], [results[i] for i in long])
        for i in set(range(len(outputs))) - set(long):
            memory.write(results[i], targets[i])
        self.builder.ret_void()
        ir.IRBuilder(self.entry).branch(first)
        return memory.blocks, spare

    def _offsets(self, kinds: Sequence[bool]) -> list[Any]:
        scalars, horizons, found = 0, 0, []
        total = sum(not long for long in kinds)
        for long in kinds:
            if long:
                offset = self.builder.mul(self.steps, INT(horizons))
                found.append(self.builder.add(offset, INT(total)))
                horizons += 1
            else:
                found.append(INT(scalars))
                scalars += 1
        return found

    def _slot(self) -> Any:
        """A place on the stack for a value that a loop carries; LLVM turns it into a register."""
        return ir.IRBuilder(self.entry).alloca(self.vector)

    def evaluate(
        self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any], mine: Collection[int] = ()
    ) -> list[Any]:
        """The values of a traced function's results.

        Args:
            jaxpr: the function.
            consts: what it closes over.
            arguments: its inputs.
            mine: homes of arguments that may be overwritten after their last use.
        """
        env: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, arguments, strict=True))
        foreign = homes(*env.values()) - set(mine)
        last = {v: i for i, e in enumerate(jaxpr.eqns) for v in e.invars if not isinstance(v, Literal)}
        last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if not isinstance(v, Literal)}

        def read(a: Any) -> Any:
            return self.math.constant(a.val) if isinstance(a, Literal) else env[a]

        for i, equation in enumerate(jaxpr.eqns):
            values = [read(a) for a in equation.invars]
            if equation.primitive.name in ("while", "scan"):
                kept = foreign | homes(*(v for a, v in env.items() if last.get(a, -1) > i))
                write = self.loop if equation.primitive.name == "while" else self._scan
                found = write(equation.params, [self.memory.made(v) for v in values], kept)
            else:
                found = self._equation(equation, values)
            env.update(zip(equation.outvars, found, strict=True))
        return [read(a) for a in jaxpr.outvars]

    def _equation(self, equation: Any, values: list[Any]) -> list[Any]:
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            inner, consts = called(params)
            return self.evaluate(inner, [self.math.constant(c) for c in consts], values)
        values = [self.memory.made(v) for v in values]
        if not any(isinstance(v, Block) for v in values) and all(v.aval.ndim == 0 for v in equation.outvars):
            return [self.math.apply(name, params, values)]
        return [self._shaped(equation, name, params, values)]

    def _shaped(self, equation: Any, name: str, params: Any, values: list[Any]) -> Any:
        """An operation with a horizon among its arguments or results."""
        shape = equation.outvars[0].aval.shape
        length, truth = shape[0] if shape else 1, equation.outvars[0].aval.dtype == np.bool_
        if name == "slice":
            (start,) = params["start_indices"]
            return Block(self.memory.at(values[0].pointer, INT(start)), values[0].home, length, truth)
        if name in ("squeeze", "reshape") and not shape:
            return self.memory.load(values[0], INT(0))
        if name == "broadcast_in_dim" and shape == (1,):
            block = self.memory.new(length)
            self.memory.write(values[0], block.pointer)
            return block
        if name == "concatenate":
            block, offset = self.memory.new(length, truth), INT(0)
            for value in values:
                self.memory.put(value, self.memory.at(block.pointer, offset))
                offset = self.builder.add(offset, self.memory.length(value.length))
            return block
        if name == "select_n" and not truth and [isinstance(v, Block) for v in values] == [False, True, True]:
            return Choice(*values)
        block = self.memory.new(length, truth)

        def one(k: Any) -> None:
            at = [self.memory.load(v, k) if isinstance(v, Block) else v for v in values]
            result = at[0] if name == "broadcast_in_dim" else self.math.apply(name, params, at)
            self.memory.write(result, self.memory.at(block.pointer, k))

        self.memory.loop(self.memory.length(length), one)
        return block

    def _scan(self, params: Any, values: list[Any], kept: set[int]) -> list[Any]:
        """A loop over the steps; its results go where inputs lie that nobody reads again, unless a home is `kept`."""
        closed, constants, carried = scanned(params)
        fixed, start, xs = values[:constants], values[constants : constants + carried], values[constants + carried :]
        if self.together > 1:
            split = Split.of(closed, constants, carried)
            return OverTime(self, split, fixed, start, xs, reverse=params["reverse"]).write()
        slots = [self._slot() for _ in start]
        for slot, value in zip(slots, start, strict=True):
            self.builder.store(self.math.number(value), slot)
        # A step reads its inputs before it writes its results, so these may lie in the same place.
        kept = kept | homes(*fixed)
        free = list({x.home: x for x in xs if x.home not in kept and not x.truth}.values())
        ys = [free.pop(0) if free else self.memory.new() for _ in closed.jaxpr.outvars[carried:]]

        def one(k: Any) -> None:
            at = self.builder.sub(self.builder.sub(self.steps, INT(1)), k) if params["reverse"] else k
            carry = [self.builder.load(slot) for slot in slots]
            inputs = [self.memory.load(x, at) for x in xs]
            consts = [self.math.constant(c) for c in closed.consts]
            results = self.evaluate(closed.jaxpr, consts, [*fixed, *carry, *inputs])
            for slot, value in zip(slots, results[:carried], strict=True):
                self.builder.store(self.math.number(value), slot)
            for y, value in zip(ys, results[carried:], strict=True):
                self.memory.write(value, self.memory.at(y.pointer, at))

        self.memory.loop(self.steps, one)
        return [*(self.builder.load(slot) for slot in slots), *ys]

    @contextmanager
    def speaking(self, math: Elementwise) -> Iterator[None]:
        """With vectors of another size."""
        before = self.math, self.vector, self.width
        self.math, self.vector, self.width = math, math.vector, math.vector.count
        yield
        self.math, self.vector, self.width = before

    def loop(self, params: Any, values: list[Any], kept: set[int]) -> list[Any]:
        """A while loop; what it carries lies where it began, unless that is a home to be `kept`."""
        first, second = params["cond_nconsts"], params["body_nconsts"]
        test, body = params["cond_jaxpr"], params["body_jaxpr"]
        outside, fixed, start = values[:first], values[first : first + second], values[first + second :]
        masks = [v.aval.dtype == np.bool_ for v in body.jaxpr.outvars]
        places: list[Any] = []
        kept = kept | homes(*outside, *fixed)
        for value in start:
            if isinstance(value, Block):
                value = self.memory.moved(value) if value.home in kept else value
                kept.add(value.home)
                places.append(value)
            else:
                places.append(self._slot())
                self.builder.store(self.math.number(value), places[-1])

        def now() -> list[Any]:
            loaded = []
            for place, mask in zip(places, masks, strict=True):
                value = place if isinstance(place, Block) else self.builder.load(place)
                loaded.append(self.math.truth(value) if mask else value)
            return loaded

        head = self.builder.append_basic_block("while")
        inside = self.builder.append_basic_block("do")
        after = self.builder.append_basic_block("done")
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.math.forget()
        (go,) = self.evaluate(test.jaxpr, [self.math.constant(c) for c in test.consts], [*outside, *now()])
        bits = self.builder.bitcast(go, ir.IntType(self.width))
        some = self.builder.icmp_unsigned("!=", bits, ir.IntType(self.width)(0))
        self.builder.cbranch(some, inside, after)
        self.builder.position_at_end(inside)
        self.math.forget()
        mine = homes(*(place for place in places if isinstance(place, Block)))
        results = self.evaluate(body.jaxpr, [self.math.constant(c) for c in body.consts], [*fixed, *now()], mine)
        long = [i for i, place in enumerate(places) if isinstance(place, Block)]
        self.memory.assign([places[i] for i in long], [results[i] for i in long])
        for i in set(range(len(places))) - set(long):
            self.builder.store(self.math.number(results[i]), places[i])
        self.builder.branch(head)
        self.builder.position_at_end(after)
        self.math.forget()
        return now()
