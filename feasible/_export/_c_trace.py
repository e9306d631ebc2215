"""From a traced function to the statements of a C function.

`jax.make_jaxpr` gives a list of elementwise operations, scans, while loops and branches. Scalars become values and
horizons blocks of memory; a horizon whose elements are all equal stays a scalar.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from feasible._export._c_code import Assign, Block, Buffer, Choose, Copy, For, Leave, Scalar, Store, While
from feasible._export._c_scope import Scopes
from feasible.solvers._lanes_memory import HORIZON
from feasible.solvers._traced import CALLS, called, scanned

_REDUCE = {
    "reduce_sum": ("add", 0.0),
    "reduce_max": ("max", -np.inf),
    "reduce_min": ("min", np.inf),
    "reduce_or": ("or", False),
    "reduce_and": ("and", True),
}


class Writer:
    """Translates one traced function.

    Args:
        steps: T, which `HORIZON` stands for.
    """

    def __init__(self, steps: int):
        self.steps = steps
        self.scopes = Scopes()
        self.math = self.scopes.math

    def function(self, closed: Any) -> tuple[int, int]:
        """Writes its statements; the sizes of `in` and `out`."""
        values: list[Any] = []
        size = 0
        for variable in closed.jaxpr.invars:
            buffer = Buffer(self._size(variable.aval), "in", size)
            block = Block(buffer, buffer.length)
            values.append(block if variable.aval.shape else self.scopes.load(block))
            size += buffer.length
        given, size = size, 0
        results = self._evaluate(closed.jaxpr, closed.consts, values)
        for variable, value in zip(closed.jaxpr.outvars, results, strict=True):
            buffer = Buffer(self._size(variable.aval), "out", size)
            self._fill(Block(buffer, buffer.length), value)
            size += buffer.length
        return given, size

    def _length(self, traced: int) -> int:
        return traced if traced < HORIZON // 2 else self.steps + traced - HORIZON

    def _size(self, aval: Any) -> int:
        shape = aval.shape
        if len(shape) > 1:
            raise NotImplementedError(f"C: expected scalars and horizons, got an array of shape {shape}")
        return self._length(shape[0]) if shape else 1

    def _new(self, aval: Any) -> Block:
        length = self._size(aval)
        return Block(Buffer(length), length, 0, _kind(aval))

    def _fill(self, target: Block, value: Any) -> None:
        """Writes a block's elements."""
        if isinstance(value, Block):
            self.scopes.add(Copy(loads=[value], stores=[target]))
        elif target.length == 1:
            self.scopes.add(Store([self.math.number(value)], stores=[target]))
        else:
            self._elementwise(target, lambda k: value)

    def _elementwise(self, target: Block, value: Callable[[Scalar], Scalar]) -> None:
        self._loop(
            target.length,
            lambda k: self.scopes.add(Store([self.math.number(value(k)), k], stores=[target])),
            elementwise=True,
        )

    def _loop(self, count: int, body: Callable[[Scalar], Any], **options: Any) -> None:
        with self.scopes.inner() as inside:
            k = Scalar("index", self.scopes.depth)
            body(k)
        self.scopes.add(For(writes=[k], bodies=[inside], count=count, **options))

    def _evaluate(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        env: dict[Any, Any] = dict(zip(jaxpr.invars, arguments, strict=True))
        env.update(zip(jaxpr.constvars, map(self.scopes.constant, consts), strict=True))

        def read(a: Any) -> Any:
            return self.scopes.constant(a.val, a.aval.dtype) if hasattr(a, "val") else env[a]

        for equation in jaxpr.eqns:
            values = [read(a) for a in equation.invars]
            env.update(zip(equation.outvars, self._equation(equation, values), strict=True))
        return [read(a) for a in jaxpr.outvars]

    def _closed(self, closed: Any, arguments: Sequence[Any]) -> list[Any]:
        return self._evaluate(closed.jaxpr, closed.consts, arguments)

    def _equation(self, equation: Any, values: list[Any]) -> list[Any]:
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            return self._evaluate(*called(params), values)
        special = {"scan": self._scan, "while": self._while, "cond": self._cond}.get(name)
        if special:
            return special(equation, values)
        if name == "not":
            params = {"truth": equation.invars[0].aval.dtype == np.bool_}
        if name == "pow" and any(v.kind == "int" for v in values if isinstance(v, Scalar)):
            values = [self.math.number(v) if isinstance(v, Scalar) else v for v in values]
        length = self._size(equation.outvars[0].aval)
        if name in _REDUCE and not equation.invars[0].aval.shape:
            return values
        if not any(isinstance(v, Block) for v in values) and name not in ("concatenate", *_REDUCE):
            return values if name == "slice" else [self.math.apply(name, params, values)]
        key = (name, str(params), length, *(v if isinstance(v, Block) else id(v) for v in values))
        return [self.scopes.once(key, functools.partial(self._shaped, equation, name, params, values, length), values)]

    def _shaped(self, equation: Any, name: str, params: Any, values: list[Any], length: int) -> Any:
        """An operation with a horizon among its arguments or results."""
        if name in _REDUCE:
            block = values[0]
            if isinstance(block, Scalar):
                block = self._new(equation.invars[0].aval)
                self._fill(block, values[0])
            return self._reduce(name, block, equation.outvars[0].aval)
        if name == "slice":
            if params["strides"] not in (None, (1,)):
                raise NotImplementedError(f"C: slice with strides of {params['strides']}")
            (start,) = params["start_indices"]
            offset = values[0].offset + self._length(start)
            return dataclasses.replace(values[0], length=length, offset=offset)
        if name in ("squeeze", "reshape", "broadcast_in_dim"):
            same = equation.outvars[0].aval.shape and length == values[0].length
            return values[0] if same else self.scopes.load(values[0])
        block = self._new(equation.outvars[0].aval)
        if name == "concatenate":
            offset = 0
            for variable, value in zip(equation.invars, values, strict=True):
                part = dataclasses.replace(block, length=self._size(variable.aval), offset=offset)
                self._fill(part, value)
                offset += part.length
            return block

        def one(k: Scalar) -> Scalar:
            at = [self.scopes.load(v, k) if isinstance(v, Block) else v for v in values]
            return self.math.apply(name, params, at)

        self._elementwise(block, one)
        return block

    def _reduce(self, name: str, block: Block, aval: Any) -> Scalar:
        operation, start = _REDUCE[name]
        (total,) = carry = self._begin([self.scopes.constant(start)], [aval])

        def body(k: Scalar) -> None:
            (before,) = self._inside(carry, [aval])
            self._end(carry, [self.math.apply(operation, {}, [before, self.scopes.load(block, k)])])

        self._loop(block.length, body)
        return total

    def _begin(self, start: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
        """What a loop carries, before it; what has no type in `avals` never changes."""
        carry: list[Any] = []
        for value, aval in zip(start, avals, strict=True):
            if aval is None:
                carry.append(value)
            elif aval.shape:
                carry.append(self._new(aval))
                self._fill(carry[-1], value)
            else:
                carry.append(Scalar(_kind(aval), self.scopes.depth))
                self.scopes.add(Assign([value], [carry[-1]], new=True))
        return carry

    def _inside(self, carry: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
        """The same, in the loop."""
        depth = self.scopes.depth
        pairs = zip(carry, avals, strict=True)
        return [a if aval is None or aval.shape else Scalar(a.kind, depth, of=a) for a, aval in pairs]

    def _end(self, carry: Sequence[Any], results: Sequence[Any]) -> None:
        """Their values after a turn; those that are another's value now are put aside first."""
        changed = [(a, b) for a, b in zip(carry, results, strict=True) if b is not None]
        ready = []
        for target, value in changed:
            if isinstance(value, Scalar) and value.of:
                value = self.scopes.emit(value.kind, "{0}", value)
            elif isinstance(value, Block) and any(
                isinstance(other, Block) and other.buffer is value.buffer for other, _ in changed
            ):
                aside = dataclasses.replace(value, buffer=Buffer(value.length), offset=0)
                self._fill(aside, value)
                value = aside
            ready.append((target, value))
        for target, value in ready:
            if isinstance(target, Block):
                self._fill(target, value)
            else:
                self.scopes.add(Assign([value], [target]))

    def _scan(self, equation: Any, values: list[Any]) -> list[Any]:
        params = equation.params
        closed, constants, carried = scanned(params)
        fixed, start, xs = values[:constants], values[constants : constants + carried], values[constants + carried :]
        variables, outs = closed.jaxpr.invars[constants : constants + carried], closed.jaxpr.outvars
        avals = _changing(variables, outs[:carried])
        carry = self._begin(start, avals)
        length = self._length(params["length"])
        ys = [self._new(v.aval) for v in equation.outvars[carried:]]

        def body(k: Scalar) -> None:
            given = [self.scopes.load(x, k) if isinstance(x, Block) else x for x in xs]
            results = self._closed(closed, [*fixed, *self._inside(carry, avals), *given])
            for y, value in zip(ys, results[carried:], strict=True):
                self.scopes.add(Store([self.math.number(value), k], stores=[y]))
            self._end(carry, [aval and result for aval, result in zip(avals, results, strict=False)])

        self._loop(length, body, reverse=params["reverse"])
        return [*carry, *ys]

    def _while(self, equation: Any, values: list[Any]) -> list[Any]:
        params = equation.params
        first, second = params["cond_nconsts"], params["body_nconsts"]
        test, body = params["cond_jaxpr"], params["body_jaxpr"]
        outside, fixed, start = values[:first], values[first : first + second], values[first + second :]
        avals = _changing(body.jaxpr.invars[second:], body.jaxpr.outvars)
        carry = self._begin(start, avals)
        with self.scopes.inner() as inside:
            now = self._inside(carry, avals)
            self.scopes.add(Leave(self._closed(test, [*outside, *now])))
            self.scopes.forget()  # memory that the test filled may not become part of the loop's result
            results = self._closed(body, [*fixed, *now])
            self._end(carry, [aval and result for aval, result in zip(avals, results, strict=True)])
        self.scopes.add(While(bodies=[inside]))
        return carry

    def _cond(self, equation: Any, values: list[Any]) -> list[Any]:
        which, *operands = values
        branches = equation.params["branches"]
        results: list[Any] = []
        for variable in equation.outvars:
            if variable.aval.shape:
                results.append(self._new(variable.aval))
            else:
                results.append(Scalar(_kind(variable.aval), self.scopes.depth))
                self.scopes.add(Assign((), [results[-1]], new=True))
        bodies = []
        for branch in branches:
            with self.scopes.inner(barrier=True) as inside:
                for target, value in zip(results, self._closed(branch, operands), strict=True):
                    if isinstance(target, Block):
                        self._fill(target, value)
                    else:
                        self.scopes.add(Assign([value], [target]))
            bodies.append(inside)
        self.scopes.add(Choose([which], bodies=bodies))
        return results


def _kind(aval: Any) -> str:
    return "double" if aval.dtype.kind == "f" else "int"


def _changing(variables: Sequence[Any], results: Sequence[Any]) -> list[Any]:
    """The types of what a loop carries, None for what it hands on as it is."""
    return [None if v is result else v.aval for v, result in zip(variables, results, strict=True)]
