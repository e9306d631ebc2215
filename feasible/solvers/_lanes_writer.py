"""From a traced function to LLVM: scalars are vectors of rows, horizons are blocks of memory, scans are loops."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from jax.extend.core import Literal
from llvmlite import ir

from feasible.solvers._lanes_math import ESTIMATES, Elementwise
from feasible.solvers._traced import CALLS

HORIZON = 1009  # stands for T while tracing: a length that nothing else has
_INT = ir.IntType(64)


@dataclasses.dataclass(frozen=True)
class _Block:
    """Vectors in memory, one after the other: as many as `HORIZON` in the traced length stands for.

    Truth values lie there as 1 and 0 (`truth`).
    """

    pointer: Any
    length: int = HORIZON
    truth: bool = False


class Writer:
    """Translates one traced function; SSA values are vectors, `_Block` is memory."""

    def __init__(self, width: int, double: bool):
        self.module = ir.Module(name="lanes")
        self.module.triple = llvm.get_default_triple()
        scalar = ir.DoubleType() if double else ir.FloatType()
        self.vector = ir.VectorType(scalar, width)
        self.width, self.blocks = width, 0
        self.align = width * (8 if double else 4)

    def function(self, closed: Any, inputs: Sequence[bool], outputs: Sequence[bool]) -> int:
        """Writes `run(T, in, out, arena)`; the number of blocks of the arena, each of T + 2 vectors."""
        pointer = self.vector.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [_INT, pointer, pointer, pointer])
        function = ir.Function(self.module, kind, name="run")
        set.add(function.attributes, ESTIMATES)  # llvmlite's own `add` knows no attributes with values
        for argument in function.args[1:]:
            argument.add_attribute("noalias")
        self.steps, source, sink, self.arena = function.args
        self.entry = function.append_basic_block("entry")
        first = function.append_basic_block("first")
        self.builder = ir.IRBuilder(first)
        self.math = Elementwise(self.builder, self.vector)
        values = [
            _Block(self._at(source, p)) if long else self.builder.load(self._at(source, p), align=self.align)
            for long, p in zip(inputs, self._offsets(inputs), strict=True)
        ]
        results = self.evaluate(closed.jaxpr, [self.math.constant(c) for c in closed.consts], values)
        for long, p, value in zip(outputs, self._offsets(outputs), results, strict=True):
            if long:
                self._copy(value, self._at(sink, p))
            else:
                self.builder.store(self.math.number(value), self._at(sink, p), align=self.align)
        self.builder.ret_void()
        ir.IRBuilder(self.entry).branch(first)
        return self.blocks

    def _offsets(self, kinds: Sequence[bool]) -> list[Any]:
        scalars, horizons, found = 0, 0, []
        total = sum(not long for long in kinds)
        for long in kinds:
            if long:
                offset = self.builder.mul(self.steps, _INT(horizons))
                found.append(self.builder.add(offset, _INT(total)))
                horizons += 1
            else:
                found.append(_INT(scalars))
                scalars += 1
        return found

    def _at(self, pointer: Any, offset: Any) -> Any:
        return self.builder.gep(pointer, [offset], inbounds=True)

    def _new(self, length: int = HORIZON, truth: bool = False) -> _Block:
        size = self.builder.add(self.steps, _INT(2))
        block = _Block(self._at(self.arena, self.builder.mul(size, _INT(self.blocks))), length, truth)
        self.blocks += 1
        return block

    def _load(self, block: _Block, k: Any) -> Any:
        value = self.builder.load(self._at(block.pointer, k), align=self.align)
        return self.math.truth(value) if block.truth else value

    def _length(self, traced: int) -> Any:
        if traced < HORIZON // 2:
            return _INT(traced)
        return self.builder.add(self.steps, _INT(traced - HORIZON)) if traced != HORIZON else self.steps

    def _loop(self, count: Any, body: Callable[[Any], None]) -> None:
        """`body(k)` for k = 0 .. count - 1, count > 0."""
        before = self.builder.block
        block = self.builder.append_basic_block("loop")
        after = self.builder.append_basic_block("after")
        self.builder.branch(block)
        self.builder.position_at_end(block)
        k = self.builder.phi(_INT)
        k.add_incoming(_INT(0), before)
        self.math.forget()
        body(k)
        following = self.builder.add(k, _INT(1))
        k.add_incoming(following, self.builder.block)
        self.builder.cbranch(self.builder.icmp_signed("<", following, count), block, after)
        self.builder.position_at_end(after)
        self.math.forget()

    def _copy(self, block: _Block, target: Any) -> None:
        if block.pointer is target:
            return

        def one(k: Any) -> None:
            value = self.builder.load(self._at(block.pointer, k), align=self.align)
            self.builder.store(value, self._at(target, k), align=self.align)

        self._loop(self._length(block.length), one)

    def _slot(self) -> Any:
        """A place on the stack for a value that a loop carries; LLVM turns it into a register."""
        return ir.IRBuilder(self.entry).alloca(self.vector)

    def evaluate(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        """The values of a traced function's results."""
        env: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, arguments, strict=True))

        def read(a: Any) -> Any:
            return self.math.constant(a.val) if isinstance(a, Literal) else env[a]

        for equation in jaxpr.eqns:
            values = [read(a) for a in equation.invars]
            env.update(zip(equation.outvars, self._equation(equation, values), strict=True))
        return [read(a) for a in jaxpr.outvars]

    def _equation(self, equation: Any, values: list[Any]) -> list[Any]:
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            inner = params.get("jaxpr") or params["call_jaxpr"]
            inner, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "jaxpr") else (inner, [])
            return self.evaluate(inner, [self.math.constant(c) for c in consts], values)
        if name == "scan":
            return self._scan(params, values)
        if name == "while":
            return self._while(params, values)
        if not any(isinstance(v, _Block) for v in values) and all(v.aval.ndim == 0 for v in equation.outvars):
            return [self.math.apply(name, params, values)]
        return [self._shaped(equation, name, params, values)]

    def _shaped(self, equation: Any, name: str, params: Any, values: list[Any]) -> Any:
        """An operation with a horizon among its arguments or results."""
        shape = equation.outvars[0].aval.shape
        length, truth = shape[0] if shape else 1, equation.outvars[0].aval.dtype == np.bool_
        if name == "slice":
            (start,) = params["start_indices"]
            return _Block(self._at(values[0].pointer, _INT(start)), length, truth)
        if name in ("squeeze", "reshape") and not shape:
            return self._load(values[0], _INT(0))
        if name == "broadcast_in_dim" and shape == (1,):
            block = self._new(length)
            self.builder.store(values[0], block.pointer, align=self.align)
            return block
        if name == "concatenate":
            block, offset = self._new(length, truth), _INT(0)
            for value in values:
                self._copy(value, self._at(block.pointer, offset))
                offset = self.builder.add(offset, self._length(value.length))
            return block
        block = self._new(length, truth)

        def one(k: Any) -> None:
            at = [self._load(v, k) if isinstance(v, _Block) else v for v in values]
            result = self.math.number(at[0] if name == "broadcast_in_dim" else self.math.apply(name, params, at))
            self.builder.store(result, self._at(block.pointer, k), align=self.align)

        self._loop(self._length(length), one)
        return block

    def _scan(self, params: Any, values: list[Any]) -> list[Any]:
        closed, constants, carried = params["jaxpr"], params["num_consts"], params["num_carry"]
        fixed, start, xs = values[:constants], values[constants : constants + carried], values[constants + carried :]
        slots = [self._slot() for _ in start]
        for slot, value in zip(slots, start, strict=True):
            self.builder.store(self.math.number(value), slot)
        ys = [self._new() for _ in closed.jaxpr.outvars[carried:]]

        def one(k: Any) -> None:
            at = self.builder.sub(self.builder.sub(self.steps, _INT(1)), k) if params["reverse"] else k
            carry = [self.builder.load(slot) for slot in slots]
            inputs = [self._load(x, at) for x in xs]
            consts = [self.math.constant(c) for c in closed.consts]
            results = self.evaluate(closed.jaxpr, consts, [*fixed, *carry, *inputs])
            for slot, value in zip(slots, results[:carried], strict=True):
                self.builder.store(self.math.number(value), slot)
            for y, value in zip(ys, results[carried:], strict=True):
                self.builder.store(self.math.number(value), self._at(y.pointer, at), align=self.align)

        self._loop(self.steps, one)
        return [*(self.builder.load(slot) for slot in slots), *ys]

    def _while(self, params: Any, values: list[Any]) -> list[Any]:
        first, second = params["cond_nconsts"], params["body_nconsts"]
        test, body = params["cond_jaxpr"], params["body_jaxpr"]
        outside, fixed, start = values[:first], values[first : first + second], values[first + second :]
        masks = [v.aval.dtype == np.bool_ for v in body.jaxpr.outvars]
        places: list[Any] = []
        for value in start:
            if isinstance(value, _Block):
                block = self._new(value.length)
                self._copy(value, block.pointer)
                places.append(block)
            else:
                places.append(self._slot())
                self.builder.store(self.math.number(value), places[-1])

        def now() -> list[Any]:
            loaded = []
            for place, mask in zip(places, masks, strict=True):
                value = place if isinstance(place, _Block) else self.builder.load(place)
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
        results = self.evaluate(body.jaxpr, [self.math.constant(c) for c in body.consts], [*fixed, *now()])
        for place, value in zip(places, results, strict=True):
            if isinstance(place, _Block):
                self._copy(value, place.pointer)
            else:
                self.builder.store(self.math.number(value), place)
        self.builder.branch(head)
        self.builder.position_at_end(after)
        self.math.forget()
        return now()
