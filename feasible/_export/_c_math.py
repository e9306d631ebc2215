"""Elementwise operations of a traced function as C expressions, with JAX's meaning of NaN.

An operation is a template over its operands, which are names or parenthesised. What C's <math.h> has is called
there, but for sine and cosine: they come in pairs, of one argument, and are most of what a vehicle model costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from feasible._export._c_code import Scalar

Emit = Callable[..., Scalar]

_COMPARE = {"gt": ">", "lt": "<", "ge": ">=", "le": "<=", "eq": "==", "ne": "!="}
_BINARY = {"add": "+", "add_any": "+", "sub": "-", "mul": "*", "div": "/"}
_BITWISE = {"and": "&", "or": "|", "xor": "^"}
_SAME = ("copy", "copy_p", "stop_gradient", "reduce_precision", "squeeze", "reshape", "broadcast_in_dim", "pvary")
_LIBRARY = {
    **{name: name for name in ("sqrt", "cbrt", "exp", "exp2", "expm1", "log", "log1p", "tan", "floor", "ceil")},
    **{name: name for name in ("asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh")},
    **{name: name for name in ("atan2", "pow", "erf", "erfc", "nextafter")},
    "rem": "fmod",
}
SYMMETRIC = frozenset(f"{{0}} {sign} {{1}}" for sign in ("+", "*", "==", "!=", *_BITWISE.values()))
_HALF_PI = ("0x1.921fb544p+0", "0x1.0b4611a6p-34", "0x1.3198a2e037073p-69")
PAIR = "feasible_sincos({0}, &{1}, &{2});"


def literal(value: Any) -> tuple[str, str]:
    """Kind and text of a constant, exact."""
    value = np.asarray(value)
    if value.ndim:
        raise NotImplementedError(f"C: constant of shape {value.shape}")
    if value.dtype.kind != "f":
        return "int", f"{int(value)}" if value >= 0 else f"({int(value)})"
    number = float(value)
    if math.isfinite(number):
        text = repr(number) if len(repr(number)) <= 8 else number.hex()
    else:
        text = "NAN" if math.isnan(number) else f"{'-' * (number < 0)}INFINITY"
    return "double", f"({text})" if text.startswith("-") else text


def _value(text: str) -> float:
    """The number of a double's text."""
    text = text.strip("()").replace("INFINITY", "inf")
    return float.fromhex(text) if "0x" in text else float(text)


class Elementwise:
    """Writes operations with `emit(kind, template, *operands)`, which does each once.

    Args:
        emit: of one operation.
        pair: sine and cosine of an operand.
        constant: the scalar of a value.
    """

    def __init__(self, emit: Emit, pair: Callable[[Scalar], tuple[Scalar, Scalar]], constant: Callable[..., Scalar]):
        self._emit, self._pair, self._constant = emit, pair, constant
        self._scale_of: dict[Scalar, tuple[Scalar, Scalar]] = {}
        self._inverse_of: dict[Scalar, Scalar] = {}

    def number(self, a: Scalar) -> Scalar:
        """As a double."""
        return a if a.kind == "double" else self._emit("double", "(double){0}", a)

    def cast(self, a: Scalar, dtype: Any) -> Scalar:
        """As another type; to truth values by comparison with zero."""
        if np.dtype(dtype).kind == "f":
            return self.number(a)
        if np.dtype(dtype).kind == "b":
            return self._emit("int", "{0} != 0", a)
        return a if a.kind == "int" else self._emit("int", "(int){0}", a)

    def apply(self, name: str, params: Any, values: list[Scalar]) -> Scalar:
        """The result of a primitive of JAX."""
        if name in _BINARY:
            return self._binary(name, *values)
        if name in _SAME:
            return values[0]
        if name in _COMPARE:
            return self._emit("int", f"{{0}} {_COMPARE[name]} {{1}}", *values)
        if name in _BITWISE:
            return self._emit("int", f"{{0}} {_BITWISE[name]} {{1}}", *values)
        if name == "convert_element_type":
            return self.cast(values[0], params["new_dtype"])
        if name == "integer_pow":
            return self._power(values[0], params["y"])
        if name == "round":
            return self._emit("double", "rint({0})" if int(params["rounding_method"]) else "round({0})", values[0])
        if name == "not":
            return self._emit("int", "!{0}" if params["truth"] else "~{0}", values[0])
        if name in ("sin", "cos"):
            return self._pair(values[0])[name == "cos"]
        if name in _LIBRARY and values[0].kind == "double":
            holes = ", ".join(f"{{{i}}}" for i in range(len(values)))
            return self._emit("double", f"{_LIBRARY[name]}({holes})", *map(self.number, values))
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise NotImplementedError(f"C: no translation of the primitive {name} of {values[0].kind}s")
        return method(*values)

    def _binary(self, name: str, a: Scalar, b: Scalar) -> Scalar:
        neutral = self._constant(1.0 if name in ("mul", "div") else 0.0)
        if b is neutral:
            return a
        if a is neutral and name in ("add", "add_any", "mul"):
            return b
        if name == "mul" and self._constant(-1.0) in (a, b):
            return self._neg(b if a is self._constant(-1.0) else a)
        if name == "mul" and a.kind == "double" and (a.text or b.text):
            return self._scaled(*((b, a) if a.text else (a, b)))
        if name == "div" and a.kind == "double":
            return self._binary("mul", a, self._reciprocal(b))
        return self._emit(a.kind, f"{{0}} {_BINARY[name]} {{1}}", a, b)

    def _scaled(self, a: Scalar, factor: Scalar) -> Scalar:
        """Changes of units come one after the other; their factors make one."""
        if a in self._scale_of and not a.text:
            a, before = self._scale_of[a]
            factor = self._constant(_value(before.text) * _value(factor.text))
            if factor is self._constant(1.0):
                return a
        scaled = self._emit("double", "{0} * {1}", a, factor)
        self._scale_of[scaled] = a, factor
        return scaled

    def _reciprocal(self, a: Scalar) -> Scalar:
        """A division takes as long as ten products, and most denominators have several numerators."""
        if a.text and (number := _value(a.text)):
            return self._constant(1.0 / number)
        if a in self._inverse_of:
            return self._inverse_of[a]
        inverse = self._emit("double", "1.0 / {0}", a)
        self._inverse_of[inverse] = a
        return inverse

    def _power(self, x: Scalar, exponent: int) -> Scalar:
        if exponent < 0:
            return self._binary("div", self._constant(1.0), self._power(x, -exponent))
        if exponent == 0:
            return self._constant(1.0 if x.kind == "double" else 1)
        if exponent == 1:
            return x
        half = self._power(x, exponent // 2)
        square = self._binary("mul", half, half)
        return self._binary("mul", square, x) if exponent % 2 else square

    def _square(self, x: Scalar) -> Scalar:
        return self._binary("mul", x, x)

    def _rsqrt(self, x: Scalar) -> Scalar:
        return self._binary("div", self._constant(1.0), self._emit("double", "sqrt({0})", x))

    def _logistic(self, x: Scalar) -> Scalar:
        return self._emit("double", "1.0 / (1.0 + exp(-{0}))", x)

    def _neg(self, x: Scalar) -> Scalar:
        return self._emit(x.kind, "-{0}", x)

    def _abs(self, x: Scalar) -> Scalar:
        return self._emit(x.kind, "fabs({0})" if x.kind == "double" else "{0} < 0 ? -{0} : {0}", x)

    def _sign(self, x: Scalar) -> Scalar:
        if x.kind == "int":
            return self._emit("int", "({0} > 0) - ({0} < 0)", x)
        return self._emit("double", "{0} > 0.0 ? 1.0 : {0} < 0.0 ? -1.0 : {0}", x)  # NaN and zeros as they are

    def _rem(self, a: Scalar, b: Scalar) -> Scalar:
        return self._emit("int", "{0} % {1}", a, b)

    def _max(self, a: Scalar, b: Scalar) -> Scalar:
        return self._extreme(">", a, b)

    def _min(self, a: Scalar, b: Scalar) -> Scalar:
        return self._extreme("<", a, b)

    def _extreme(self, sign: str, a: Scalar, b: Scalar) -> Scalar:
        """NaN if either is: a comparison with NaN takes what stands last, so a constant stands first."""
        if b.text:
            a, b = b, a
        if a.text or a.kind == "int":
            return self._emit(a.kind, f"{{0}} {sign} {{1}} ? {{0}} : {{1}}", a, b)
        larger = self._emit("double", f"{{0}} {sign} {{1}} ? {{0}} : {{1}}", a, b)
        return self._emit("double", "{0} != {0} ? {0} : {1}", a, larger)

    def _clamp(self, low: Scalar, x: Scalar, high: Scalar) -> Scalar:
        return self._min(self._max(x, low), high)

    def _select_n(self, which: Scalar, *cases: Scalar) -> Scalar:
        chosen = cases[-1]
        for i, case in reversed(list(enumerate(cases[:-1]))):
            if chosen is not case:
                test = "{0}" if len(cases) == 2 else f"{{0}} > {i}"
                chosen = self._emit(case.kind, f"{test} ? {{1}} : {{2}}", which, chosen, case)
        return chosen

    def _is_finite(self, x: Scalar) -> Scalar:
        return self._emit("int", "isfinite({0}) != 0", x)


def _series(terms: list[float]) -> str:
    """Horner's rule in r2."""
    text = terms[-1].hex()
    for c in reversed(terms[:-1]):
        text = f"{c.hex()} + r2 * ({text})"
    return text


def helpers() -> str:
    """The static functions that templates call.

    The nearest multiple n of π/2 is taken off in three parts, of which the first two are so short that n times them
    is exact for |x| < 10⁵; the rest, within ±π/4, goes through the series. Larger arguments, and NaN, go to the
    library.
    """
    odd = _series([(-1.0) ** i / math.factorial(2 * i + 1) for i in range(1, 8)])
    even = _series([(-1.0) ** i / math.factorial(2 * i) for i in range(2, 9)])
    first, second, third = _HALF_PI
    return f"""static inline void feasible_sincos(double x, double *s, double *c)
{{
    if (fabs(x) < 1e5) {{
        const int n = (int)(x * {(2 / math.pi).hex()} + (x < 0.0 ? -0.5 : 0.5));
        const double r = x - n * {first} - n * {second} - n * {third};
        const double r2 = r * r;
        const double sine = r + r * r2 * ({odd});
        const double cosine = 1.0 - 0.5 * r2 + r2 * r2 * ({even});
        const double u = n & 1 ? cosine : sine, v = n & 1 ? sine : cosine;
        *s = n & 2 ? -u : u;
        *c = (n + 1) & 2 ? -v : v;
    }} else {{
        *s = sin(x);
        *c = cos(x);
    }}
}}
"""
