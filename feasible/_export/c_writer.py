"""C99 for traced functions of scalars and horizons: what a target without Python compiles with its own compiler.

The functions are those that `feasible.solvers._lanes` compiles for a host, printed in double precision for one
trajectory of a length that is fixed when it is printed. The C code allocates nothing, keeps no state between calls
and calls only <math.h>. Every function finds its memory in `work`, which the caller provides.

A result is that of JAX up to rounding: divisions are products with reciprocals, factors of units are drawn together,
and zeros have no sign. NaN and infinity are as in JAX. Counters are C's `int`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from feasible._export import _c_memory
from feasible._export._c_code import needed
from feasible._export._c_math import helpers
from feasible._export._c_text import Text
from feasible._export._c_trace import HORIZON, Writer

__all__ = ["HORIZON", "Source"]


class Source:
    """Functions of one C file.

    Args:
        steps: T, the length of a horizon.
    """

    def __init__(self, steps: int):
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        self._steps = steps
        self._functions: list[str] = []

    def add(self, name: str, function: Callable[[Any], Any], example: Any) -> None:
        """Adds `void name(in, out, work)`: arguments and results one leaf after the other, in the order of the tree.

        Args:
            name: in C.
            function: of a pytree of scalars `()` and horizons `(T,)` to such a pytree.
            example: its argument, of any values; horizons have the length `HORIZON`.
        """
        with jax.enable_x64(True):
            blank = jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), np.float64), example)
            closed = jax.make_jaxpr(function)(blank)
        writer = Writer(self._steps)
        sizes = writer.function(closed)
        body = needed(writer.scopes.top)
        work = _c_memory.arrange(body)
        lines = [f"#define {name}_{word} {n}" for word, n in zip(("IN", "OUT", "WORK"), (*sizes, work), strict=True)]
        lines += [f"void {name}(const double *restrict in, double *restrict out, double *restrict work);", ""]
        lines += [f"void {name}(const double *restrict in, double *restrict out, double *restrict work)", "{"]
        lines += [f"    (void){pointer};" for pointer in ("in", "out", "work")]
        self._functions.append("\n".join([*lines, *Text(body).lines, "}", ""]))

    def text(self) -> str:
        """The file."""
        return "\n".join(["#include <math.h>\n", helpers(), *self._functions])
