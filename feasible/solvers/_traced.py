"""A traced function without repetition: every operation once, and none that nothing needs.

Derivatives of derivatives repeat themselves: a step's traced Hessian has six times the operations that it needs.
XLA would find most of them, but only after minutes of work on what it was given. So equal operations on equal values
are merged (value numbering), products with one and sums with zero vanish, and what no result needs is dropped.

Constants go outwards: of scalars every value is kept as a number times another value (`Scaled`), and products, sums
and quotients work on that. A step in units of its own multiplies by them on the way in and on the way out, and the
derivatives do so once more each; of all those products one is left, at the end.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.api_util import debug_info
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call")
_LOOPS = ("scan", "while", "cond")
_SYMMETRIC = ("add", "add_any", "mul", "max", "min")
_BILINEAR = ("mul", "square", "div", "neg", "add", "add_any", "sub")


class Scaled(NamedTuple):
    """A constant times a value, by number."""

    factor: float
    number: int


class _Call:
    """A call as an operation: with what JAX knows of its derivative."""

    multiple_results = True

    def __init__(self, equation: Any):
        self.name = equation.primitive.name
        self._given = list(dict.fromkeys(v for v in equation.invars if not isinstance(v, Literal)))
        self._places = [equation.invars.index(v) for v in self._given]
        about = debug_info(
            self.name, self.bind, self._given, {}, result_paths_thunk=lambda: ("",) * len(equation.outvars)
        )
        alone = Jaxpr([], self._given, equation.outvars, [equation], debug_info=about)
        self._run = jaxpr_as_fun(ClosedJaxpr(alone, []))

    def bind(self, *values: Any, **_: Any) -> list[Any]:
        return self._run(*(values[i] for i in self._places))


class Step(NamedTuple):
    """An operation: its inputs, by number where they are computed or given, else constants, and its outputs."""

    primitive: Any
    params: dict[str, Any]
    values: list[Any]
    out: list[int]

    @property
    def name(self) -> str:
        return str(self.primitive.name)

    @property
    def inputs(self) -> list[int]:
        """Numbers of the values that it reads, each once."""
        return list(dict.fromkeys(v for v in self.values if isinstance(v, int)))

    def bind(self, values: Sequence[Any]) -> list[Any]:
        """What it makes of the values of its inputs."""
        found = self.primitive.bind(*values, **self.params)
        return list(found) if self.primitive.multiple_results else [found]


class Traced:
    """A function of arrays to arrays, traced once and simplified.

    Args:
        function: of a list to a list.
        example: arrays, or their shapes and types.
        opaque: names of calls that stay one operation, because it knows its own derivative.
        spelled: functions by the name of the operation that they stand for.
    """

    def __init__(
        self,
        function: Callable[[list[Any]], list[Any]],
        example: Sequence[Any],
        opaque: Sequence[str] = (),
        spelled: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    ):
        closed = jax.make_jaxpr(function)(list(example))
        self._spelled = spelled
        self._opaque = frozenset(opaque)
        self.steps: list[Step] = []
        self._numbers: dict[Any, list[int]] = {}
        self.held: dict[int, Any] = {}  # arrays that the function closes over, possibly of an outer trace
        self.inputs = self._count = len(closed.jaxpr.invars)
        self.results = self._walk(closed.jaxpr, closed.consts, list(range(self._count)))
        needed = {r for r in self.results if isinstance(r, int)}
        kept = []
        for step in reversed(self.steps):
            if needed.intersection(step.out):
                kept.append(step)
                needed.update(step.inputs)
        self.steps = kept[::-1]
        del self._numbers

    def __len__(self) -> int:
        return len(self.steps)

    def fixed(self, inputs: int) -> list[float | None]:
        """Per result: its value if it does not depend on any input, else None."""
        varying = set(range(inputs))
        for step in self.steps:
            if varying.intersection(step.inputs):
                varying.update(step.out)
        env = self._run([None] * inputs, only=lambda out: not varying.intersection(out))
        return [None if isinstance(r, int) and r in varying else float(value(r, env)) for r in self.results]

    def values(self, inputs: Sequence[Any]) -> dict[int, Any]:
        """All values by number."""
        return self._run(inputs)

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        env = self._run(inputs)
        return [value(r, env) for r in self.results]

    def _run(self, inputs: Sequence[Any], only: Callable[[list[int]], bool] = lambda out: True) -> dict[int, Any]:
        env: dict[int, Any] = {**dict(enumerate(inputs)), **self.held}
        for step in self.steps:
            if only(step.out):
                env.update(zip(step.out, step.bind([value(v, env) for v in step.values]), strict=True))
        return env

    def _walk(self, jaxpr: Any, consts: Sequence[Any], arguments: list[Any]) -> list[Any]:
        """Adds a traced program's operations; an int is a value's number, anything else a constant."""
        env: dict[Any, Any] = dict(zip(jaxpr.invars, arguments, strict=True))
        for variable, const in zip(jaxpr.constvars, consts, strict=True):
            env[variable] = self._count
            self.held[self._count] = const
            self._count += 1

        def read(a: Any) -> Any:
            if isinstance(a, Literal):
                kind: Any = a.aval
                return np.asarray(a.val, kind.dtype)
            return env[a]

        for equation in jaxpr.eqns:
            values, name, params = [read(a) for a in equation.invars], equation.primitive.name, equation.params
            if name in self._spelled:
                spelled = _program(self._spelled[name], *(a.aval for a in equation.invars))
                env.update(zip(equation.outvars, self._walk(spelled.jaxpr, spelled.consts, values), strict=True))
                continue
            if name in CALLS and name not in self._opaque:
                inner, more = called(params)
                env.update(zip(equation.outvars, self._walk(inner, more, values), strict=True))
                continue
            kind = equation.outvars[0].aval
            plain = "square" if name == "integer_pow" and params["y"] == 2 else name
            if plain in _BILINEAR and not kind.shape and np.issubdtype(kind.dtype, np.floating):
                out = [self._scaled(plain, values, kind.dtype)]
            else:
                values = [self._whole(v, a.aval.dtype) for v, a in zip(values, equation.invars, strict=True)]
                same = _identity(name, params, values, equation)
                primitive = _Call(equation) if name in self._opaque else equation.primitive
                out = [same] if same is not None else self._number(primitive, params, values, len(equation.outvars))
            env.update(zip(equation.outvars, out, strict=True))
        return [self._whole(read(a), a.aval.dtype) for a in jaxpr.outvars]

    def _number(self, primitive: Any, params: Any, values: list[Any], outputs: int = 1) -> list[int]:
        name = primitive.name
        keys = [v if isinstance(v, int) else ("constant", v.dtype.str, v.tobytes(), v.shape) for v in values]
        told: Any = id(params) if name in _LOOPS else str(params)  # the text of a loop is its whole program
        key = (name, *(sorted(keys, key=str) if name in _SYMMETRIC else keys), told)
        if key not in self._numbers:
            out = [self._count + i for i in range(outputs)]
            self._count += len(out)
            self.steps.append(Step(primitive, params, values, out))
            self._numbers[key] = out
        return self._numbers[key]

    def _whole(self, v: Any, dtype: Any) -> Any:
        """A value as a number or a constant, with its factor multiplied in."""
        if not isinstance(v, Scaled):
            return v
        if v.factor == 1.0:
            return v.number
        if v.factor == -1.0:
            return self._number(*_arithmetic("neg"), [v.number])[0]
        return self._number(*_arithmetic("mul"), [v.number, np.asarray(v.factor, dtype)])[0]

    def _scaled(self, name: str, values: list[Any], dtype: Any) -> Any:
        """Arithmetic on scalars: a constant, or a `Scaled`."""
        terms = [v if isinstance(v, Scaled) else Scaled(1.0, v) if isinstance(v, int) else float(v) for v in values]
        a, b = terms[0], terms[-1]
        if name in ("mul", "square"):
            return self._constant(self._product(a, b), dtype)
        if name == "neg":
            return self._constant(self._product(-1.0, a), dtype)
        if name == "sub":
            return self._constant(self._sum(a, self._product(-1.0, b), dtype), dtype)
        if name != "div":
            return self._constant(self._sum(a, b, dtype), dtype)
        if isinstance(b, float):
            return self._constant(self._product(a, 1.0 / b if b else math.nan), dtype)
        factor, top = (a, np.ones((), dtype)) if isinstance(a, float) else a
        over = self._number(*_arithmetic("div"), [top, b.number])[0]
        return self._constant(self._product(factor / b.factor, Scaled(1.0, over)), dtype)

    @staticmethod
    def _constant(v: Any, dtype: Any) -> Any:
        return np.asarray(v, dtype) if isinstance(v, float) else v

    def _product(self, a: Any, b: Any) -> Any:
        if isinstance(a, float) and isinstance(b, float):
            return a * b
        if isinstance(a, float) or isinstance(b, float):
            c, v = (a, b) if isinstance(a, float) else (b, a)
            return 0.0 if c == 0.0 else Scaled(c * v.factor, v.number)
        return Scaled(a.factor * b.factor, self._number(*_arithmetic("mul"), [a.number, b.number])[0])

    def _sum(self, a: Scaled | float, b: Scaled | float, dtype: Any) -> Scaled | float:
        if isinstance(a, float):
            return a + b if isinstance(b, float) else self._shifted(b, a, dtype)
        if isinstance(b, float):
            return self._shifted(a, b, dtype)
        if a.number == b.number:
            total = a.factor + b.factor
            return Scaled(total, a.number) if total else 0.0
        if a.number > b.number:
            a, b = b, a
        share = b.factor / a.factor
        if share == -1.0:
            return Scaled(a.factor, self._number(*_arithmetic("sub"), [a.number, b.number])[0])
        other = self._whole(Scaled(share, b.number), dtype)
        return Scaled(a.factor, self._number(*_arithmetic("add"), [a.number, other])[0])

    def _shifted(self, v: Scaled, by: float, dtype: Any) -> Scaled:
        if by == 0.0:
            return v
        return Scaled(1.0, self._number(*_arithmetic("add"), [self._whole(v, dtype), np.asarray(by, dtype)])[0])


@functools.cache
def _program(function: Callable[..., Any], *inputs: Any) -> ClosedJaxpr:
    """The traced program of a function, which may stand in many places."""
    return jax.make_jaxpr(function)(*inputs)


@functools.cache
def _arithmetic(name: str) -> tuple[Any, dict[str, Any]]:
    """A primitive, with the parameters that this version of JAX gives it."""
    function = {"neg": lambda a, b: -a}.get(name) or getattr(operator, {"div": "truediv"}.get(name, name))
    (equation,) = jax.make_jaxpr(function)(1.0, 1.0).eqns
    return equation.primitive, equation.params


def called(params: Mapping[str, Any]) -> tuple[Any, Sequence[Any]]:
    """The program that a call runs, and what it closes over, from the call's parameters."""
    inner = params.get("jaxpr") or params["call_jaxpr"]
    return (inner.jaxpr, inner.consts) if hasattr(inner, "jaxpr") else (inner, [])


def scanned(params: Mapping[str, Any]) -> tuple[Any, int, int]:
    """A scan's body, how many values it closes over and how many it carries, from the scan's parameters."""
    if "ft_in" in params:  # JAX 0.11 and later count them by trees
        constants, carried, _ = map(len, params["ft_in"].unpack())
        return params["jaxpr"], constants, carried
    return params["jaxpr"], params["num_consts"], params["num_carry"]


def value(v: Any, env: dict[int, Any]) -> Any:
    """What an input of a step or a result stands for."""
    return env[v] if isinstance(v, int) else v


def _identity(name: str, params: Any, values: list[Any], equation: Any) -> Any:
    """The value that an operation passes through unchanged, or None."""
    shape = equation.outvars[0].aval.shape
    if name in ("copy", "copy_p", "stop_gradient"):
        return values[0]
    if name == "convert_element_type" and params["new_dtype"] == equation.invars[0].aval.dtype:
        return values[0]
    if name == "broadcast_in_dim" and equation.invars[0].aval.shape == shape:
        return values[0]
    neutral = {"mul": 1.0, "add": 0.0, "add_any": 0.0}.get(name)
    if neutral is not None:
        for i, j in ((0, 1), (1, 0)):
            v = values[i]
            if not isinstance(v, int) and np.all(v == neutral) and equation.invars[j].aval.shape == shape:
                return values[j]
    return None
