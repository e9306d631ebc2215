"""A traced function without repetition: every operation once, and none that nothing needs.

Derivatives of derivatives repeat themselves: a step's traced Hessian has six times the operations that it needs.
XLA would find most of them, but only after minutes of work on what it was given. So equal operations on equal values
are merged (value numbering), products with one and sums with zero vanish, and what no result needs is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal

CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call")
_SYMMETRIC = ("add", "add_any", "mul", "max", "min")


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
    """

    def __init__(self, function: Callable[[list[Any]], list[Any]], example: Sequence[Any]):
        closed = jax.make_jaxpr(function)(list(example))
        self.steps: list[Step] = []
        self._numbers: dict[Any, list[int]] = {}
        self.held: dict[int, Any] = {}  # arrays that the function closes over, possibly of an outer trace
        self._count = len(closed.jaxpr.invars)
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
            if name in CALLS:
                inner = params.get("jaxpr") or params["call_jaxpr"]
                inner, more = (inner.jaxpr, inner.consts) if hasattr(inner, "jaxpr") else (inner, [])
                env.update(zip(equation.outvars, self._walk(inner, more, values), strict=True))
                continue
            same = _identity(name, params, values, equation)
            out = [same] if same is not None else self._number(equation, name, values)
            env.update(zip(equation.outvars, out, strict=True))
        return [read(a) for a in jaxpr.outvars]

    def _number(self, equation: Any, name: str, values: list[Any]) -> list[int]:
        keys = [v if isinstance(v, int) else ("constant", v.dtype.str, v.tobytes(), v.shape) for v in values]
        key = (name, *(sorted(keys, key=str) if name in _SYMMETRIC else keys), str(equation.params))
        if key not in self._numbers:
            out = [self._count + i for i in range(len(equation.outvars))]
            self._count += len(out)
            self.steps.append(Step(equation.primitive, equation.params, values, out))
            self._numbers[key] = out
        return self._numbers[key]


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
