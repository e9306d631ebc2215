"""Elementwise operations of a traced function as vector instructions, each computed once.

Equal operations on equal values are the same value (value numbering within a stretch of straight-line code), so the
algebra above need not care how often it writes a subexpression. Functions that the processor lacks are polynomials
after a reduction of the argument, to rounding in float32 and 1e-15 in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir

from feasible.solvers import _series

_COMPARE = {"gt": ">", "lt": "<", "ge": ">=", "le": "<=", "eq": "==", "ne": "!="}
_BINARY = {"add": "fadd", "add_any": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_SYMMETRIC = ("add", "add_any", "mul")
_SAME = ("copy", "stop_gradient", "reduce_or", "reduce_precision", "squeeze", "reshape", "broadcast_in_dim", "copy_p")
_FLAGS = ("contract", "nsz", "arcp")  # no assumption that values are finite
_DIVIDE = (*_FLAGS, "reassoc")  # with `ESTIMATES`, where LLVM takes the hint: an estimate and a step of Newton's method
ESTIMATES = '"reciprocal-estimates"="vec-divf:1"'  # attribute of a function; four instructions for a slow one


class Elementwise:
    """Writes operations on vectors of floats and of truth values with an IR builder."""

    def __init__(self, builder: ir.IRBuilder, vector: ir.VectorType):
        self.builder, self.vector = builder, vector
        self.double = isinstance(vector.element, ir.DoubleType)
        self._bits = ir.VectorType(ir.IntType(64 if self.double else 32), vector.count)
        self._known: dict[Any, Any] = {}
        self._constants: dict[Any, Any] = {}

    def forget(self) -> None:
        """A new stretch of code begins, which may not use values of the last one."""
        self._known = {}

    def constant(self, value: Any) -> Any:
        """A vector of equal numbers, or of equal truth values."""
        value = np.asarray(value)
        if value.ndim:
            raise NotImplementedError(f"lanes: constant of shape {value.shape}")
        truth = value.dtype == np.bool_
        key = (bool(truth), float(value))
        if key not in self._constants:
            kind = ir.VectorType(ir.IntType(1), self.vector.count) if truth else self.vector
            number = int(value) if truth else float(value if self.double else np.float32(value))
            self._constants[key] = ir.Constant(kind, [number] * self.vector.count)
        return self._constants[key]

    def number(self, value: Any) -> Any:
        """Truth values as 1 and 0; numbers as they are."""
        if value.type.element != ir.IntType(1):
            return value
        return self._once(
            "number", (value,), lambda: self.builder.select(value, self.constant(1.0), self.constant(0.0))
        )

    def truth(self, value: Any) -> Any:
        """The inverse of `number`."""
        return self._once("truth", (value,), lambda: self.builder.fcmp_ordered("!=", value, self.constant(0.0)))

    def _once(self, name: str, values: tuple[Any, ...], make: Any) -> Any:
        names = [id(v) for v in values]
        key = (name, *(sorted(names) if name in _SYMMETRIC else names))
        if key not in self._known:
            self._known[key] = (make(), values)  # the arguments are kept, so that their ids stay theirs
        return self._known[key][0]

    def op(self, name: str, a: Any, b: Any) -> Any:
        """An arithmetic operation."""
        zero, one = self.constant(0.0), self.constant(1.0)
        if name == "mul" and (a is one or b is one):
            return b if a is one else a
        if name in ("add", "add_any") and (a is zero or b is zero):
            return b if a is zero else a
        if name == "sub" and b is zero:
            return a
        flags = _DIVIDE if name == "div" else _FLAGS
        return self._once(name, (a, b), lambda: getattr(self.builder, _BINARY[name])(a, b, flags=flags))

    def apply(self, name: str, params: Any, values: list[Any]) -> Any:
        """The result of a primitive of JAX."""
        if name in _BINARY:
            return self.op(name, *values)
        if name in _SAME:
            return values[0]
        if name in _COMPARE:
            values = [self.number(v) for v in values]
            return self._once(name, tuple(values), lambda: self.builder.fcmp_ordered(_COMPARE[name], *values))
        if name == "convert_element_type":
            return self.truth(self.number(values[0])) if params["new_dtype"] == np.bool_ else self.number(values[0])
        if name == "integer_pow":
            return self._power(values[0], params["y"])
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise NotImplementedError(f"lanes: no translation of {name}")
        return self._once(name, tuple(values), lambda: method(*values))

    def _power(self, x: Any, exponent: int) -> Any:
        if exponent < 0:
            return self.op("div", self.constant(1.0), self._power(x, -exponent))
        if exponent == 0:
            return self.constant(1.0)
        half = self._power(x, exponent // 2)
        square = self.op("mul", half, half)
        return self.op("mul", square, x) if exponent % 2 else square

    def _intrinsic(self, name: str, *values: Any) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector] * len(values))
        title = f"llvm.{name}.v{self.vector.count}{'f64' if self.double else 'f32'}"
        function = self.builder.module.globals.get(title) or ir.Function(self.builder.module, kind, name=title)
        return self.builder.call(function, values)

    def _square(self, x: Any) -> Any:
        return self.op("mul", x, x)

    def _neg(self, x: Any) -> Any:
        return self.builder.fneg(x)

    def _abs(self, x: Any) -> Any:
        return self._intrinsic("fabs", x)

    def _sqrt(self, x: Any) -> Any:
        return self._intrinsic("sqrt", x)

    def _rsqrt(self, x: Any) -> Any:
        return self.op("div", self.constant(1.0), self._intrinsic("sqrt", x))

    def _floor(self, x: Any) -> Any:
        return self._intrinsic("floor", x)

    def _round(self, x: Any) -> Any:
        return self._intrinsic("rint", x)

    def _sign(self, x: Any) -> Any:
        one = self._intrinsic("copysign", self.constant(1.0), x)
        return self.builder.select(self.builder.fcmp_unordered("!=", x, self.constant(0.0)), one, x)

    def _max(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def _min(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def _select_n(self, which: Any, when_false: Any, when_true: Any) -> Any:
        return self.builder.select(which, when_true, when_false)

    def _and(self, a: Any, b: Any) -> Any:
        return self.builder.and_(a, b)

    def _or(self, a: Any, b: Any) -> Any:
        return self.builder.or_(a, b)

    def _not(self, a: Any) -> Any:
        return self.builder.not_(a)

    def _is_finite(self, x: Any) -> Any:
        return self.builder.fcmp_ordered("<", self._abs(x), self.constant(math.inf))

    def _polynomial(self, x: Any, coefficients: list[float]) -> Any:
        """Σ c_i x^i by Horner's rule."""
        total = self.constant(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            total = self.op("add", self.op("mul", total, x), self.constant(c))
        return total

    def _half_turns(self, x: Any) -> tuple[Any, Any]:
        """(-1)^n for the nearest multiple n of π, and the rest; π in three parts keeps it exact."""
        n = self._once("half turns", (x,), lambda: self._round(self.op("mul", x, self.constant(1 / math.pi))))
        rest = x
        for part in _series.half_turn(self.double):
            rest = self.op("sub", rest, self.op("mul", n, self.constant(part)))
        half = self.op("mul", n, self.constant(0.5))
        odd = self.op("mul", self.op("sub", half, self._floor(half)), self.constant(4.0))
        return self.op("sub", self.constant(1.0), odd), rest

    def _sin(self, x: Any) -> Any:
        sign, rest = self._half_turns(x)
        series = self._polynomial(self.op("mul", rest, rest), _series.sine(self.double))
        return self.op("mul", sign, self.op("mul", rest, series))

    def _cos(self, x: Any) -> Any:
        sign, rest = self._half_turns(x)
        return self.op("mul", sign, self._polynomial(self.op("mul", rest, rest), _series.cosine(self.double)))

    def _atan(self, x: Any) -> Any:
        """Odd series after two reductions, to |t| <= tan(π/16): atan(x) = n π/8 + atan((x - t_n) / (1 + x t_n))."""
        size = self._abs(x)
        over = self.builder.fcmp_ordered(">", size, self.constant(1.0))
        t = self.builder.select(over, self.op("div", self.constant(1.0), size), size)
        base = self.constant(0.0)
        tangent = self.constant(0.0)
        for n in (1, 2):
            above = self.builder.fcmp_ordered(">", t, self.constant(math.tan((2 * n - 1) * math.pi / 16)))
            base = self.builder.select(above, self.constant(n * math.pi / 8), base)
            tangent = self.builder.select(above, self.constant(math.tan(n * math.pi / 8)), tangent)
        rest = self.op(
            "div", self.op("sub", t, tangent), self.op("add", self.constant(1.0), self.op("mul", t, tangent))
        )
        series = _series.arctangent(self.double)
        angle = self.op("add", base, self.op("mul", rest, self._polynomial(self.op("mul", rest, rest), series)))
        angle = self.builder.select(over, self.op("sub", self.constant(math.pi / 2), angle), angle)
        return self._intrinsic("copysign", angle, x)

    def _atan2(self, y: Any, x: Any) -> Any:
        """By the smaller over the larger of the two, so that nothing is divided by 0 but 0 by itself."""
        zero, pi = self.constant(0.0), math.pi
        steep = self.builder.fcmp_ordered(">", self._abs(y), self._abs(x))
        above, below = self.builder.select(steep, x, y), self.builder.select(steep, y, x)
        nothing = self.builder.fcmp_ordered("==", below, zero)
        small = self._atan(self.op("div", above, self.builder.select(nothing, self.constant(1.0), below)))
        behind = self.builder.fcmp_ordered("<", x, zero)
        turned = self.op("add", small, self._intrinsic("copysign", self.constant(pi), y))
        flat = self.builder.select(behind, turned, small)
        return self.builder.select(
            steep, self.op("sub", self._intrinsic("copysign", self.constant(pi / 2), y), small), flat
        )

    def _log(self, x: Any) -> Any:
        """Exponent and mantissa m in [√½, √2); then log m = 2 atanh((m - 1) / (m + 1))."""
        mantissa = 52 if self.double else 23
        element = self._bits.element

        def integer(value: int) -> Any:
            return ir.Constant(self._bits, [element(value)] * self.vector.count)

        bits = self.builder.bitcast(x, self._bits)
        half = int(
            np.asarray(math.sqrt(0.5), np.float64 if self.double else np.float32).view(f"i{8 if self.double else 4}")
        )
        offset = self.builder.sub(bits, integer(half))
        exponent = self.builder.ashr(offset, integer(mantissa))
        m = self.builder.bitcast(self.builder.sub(bits, self.builder.shl(exponent, integer(mantissa))), self.vector)
        one = self.constant(1.0)
        s = self.op("div", self.op("sub", m, one), self.op("add", m, one))
        series = _series.logarithm(self.double)
        value = self.op("mul", s, self._polynomial(self.op("mul", s, s), series))
        scale = self.builder.sitofp(exponent, self.vector)
        value = self.op("add", value, self.op("mul", scale, self.constant(math.log(2.0))))
        good = self.builder.fcmp_ordered(">", x, self.constant(0.0))
        return self.builder.select(good, value, self.constant(math.nan))
