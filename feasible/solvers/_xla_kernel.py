"""A scan over the steps as one kernel of a graphics processor: each of its threads takes a row through all steps.

Left alone, XLA launches several kernels for every step of every scan, thousands in one iteration of the interior
point, and the processor waits for launches. Here the body of a scan, which is elementwise over the rows, becomes a
kernel of Pallas with the loop over the steps inside: what the scan carries stays in registers. A while loop in the
body runs in every block of rows until none of its rows wants to go on. Where the scan is itself in such a loop, blocks
that are done do nothing, and what they would have written is undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from feasible._arrays import Array
from feasible.solvers._traced import Step, Traced, value
from feasible.solvers._xla_math import FUNCTIONS

ROWS = 32  # of a block of threads: one warp, so that few rows spread over many multiprocessors
_ELEMENTWISE = frozenset((
    "abs", "acos", "add", "add_any", "and", "asin", "bitcast_convert_type", "broadcast_in_dim", "cbrt", "clamp",
    "convert_element_type", "cosh", "div", "eq", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow",
    "is_finite", "le", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pow", "reduce_or",
    "rem", "round", "rsqrt", "select_n", "shift_left", "shift_right_arithmetic", "sign", "sinh", "sqrt", "square",
    "sub", "tan", "tanh",
))  # fmt: skip


class RowKernel:
    """The body of a scan over arrays of rows `(B,)`.

    Args:
        body: of what it closes over, what it carries and a step's inputs.
        consts: how many values it closes over; these may be numbers.
    """

    def __init__(self, body: ClosedJaxpr, consts: int):
        self._consts, self._body = consts, _Rows(body)
        self._out = [v.aval.dtype for v in body.jaxpr.outvars]
        varying = [v.aval.shape for v in [*body.jaxpr.invars[consts:], *body.jaxpr.outvars]]
        self._rows = varying[0][-1] if varying and varying[0] else 0
        whole = isinstance(self._rows, int) and self._rows > 0 and self._rows % ROWS == 0
        alike = all(s == (self._rows,) for s in varying) and self._body.shapes <= {(), (self._rows,)}
        numbers = all(np.issubdtype(v.aval.dtype, np.floating) for v in [*body.jaxpr.invars, *body.jaxpr.outvars])
        self.fits = whole and alike and numbers and self._body.plain  # whether it can be a kernel

    def scan(
        self, length: int, reverse: bool, carried: int, values: Sequence[Array], going: Array | None = None
    ) -> list[Array]:
        """What is carried after the last step, and the outputs of the steps `(T, B)`.

        Args:
            length: T, number of steps.
            reverse: whether from the last step to the first.
            carried: how many values are.
            values: what the body closes over and what it carries, `(B,)`, and the inputs of the steps, `(T, B)`.
            going: `(B,)` bool: rows whose results matter; all of them if None.
        """
        from jax.experimental import pallas as pl  # here, for not every build of JAX has both
        from jax.experimental.pallas import triton

        first = self._consts + carried
        values = [jnp.broadcast_to(v, (self._rows,)) for v in values[: self._consts]] + list(values[self._consts :])
        shapes = [(self._rows,)] * carried + [(length, self._rows)] * (len(self._out) - carried)
        asked = [] if going is None else [jnp.where(going, np.float32(1), np.float32(0))]

        def block(shape: tuple[int, ...]) -> pl.BlockSpec:
            last = (lambda i: (i,)) if len(shape) == 1 else (lambda i: (0, i))
            return pl.BlockSpec((*shape[:-1], ROWS), last)

        def kernel(*refs: Any) -> None:
            given, found = refs[len(asked) : len(asked) + len(values)], refs[len(asked) + len(values) :]

            def run() -> None:
                closed = [ref[...] for ref in given[: self._consts]]

                def step(i: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
                    t = length - 1 - i if reverse else i
                    after = self._body([*closed, *state, *(ref[t, :] for ref in given[first:])])
                    after = [jnp.broadcast_to(v, (ROWS,)) for v in after]
                    for ref, v in zip(found[carried:], after[carried:], strict=True):
                        ref[t, :] = v
                    return tuple(after[:carried])

                state = jax.lax.fori_loop(0, length, step, tuple(ref[...] for ref in given[self._consts : first]))
                for ref, v in zip(found[:carried], state, strict=True):
                    ref[...] = v

            if asked:
                pl.when(jnp.max(refs[0][...]) > 0.0)(run)
            else:
                run()

        call = pl.pallas_call(
            kernel,
            [jax.ShapeDtypeStruct(s, dtype) for s, dtype in zip(shapes, self._out, strict=True)],
            grid=(self._rows // ROWS,),
            in_specs=[block(v.shape) for v in (*asked, *values)],
            out_specs=[block(s) for s in shapes],
            interpret=jax.default_backend() == "cpu",  # in tests
            compiler_params=triton.CompilerParams(num_warps=1),
        )
        return list(call(*asked, *values))


def wanting(test: ClosedJaxpr) -> Callable[[Sequence[Any]], Array] | None:
    """Which rows want to go on, `(B,)` bool, from the inputs of a loop's test that asks whether any does, or some do.

    None if the test asks something else.
    """
    blank = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in test.jaxpr.invars]
    traced = Traced(lambda inputs: jaxpr_as_fun(test)(*inputs), blank)
    asked = [step for step in traced.steps if step.name in ("reduce_or", "reduce_sum")]
    if len(asked) != 1 or asked[0].params["axes"] != (0,):
        return None
    (number,) = asked[0].inputs
    return lambda inputs: traced.values(inputs)[number] != 0


class _Rows:
    """A traced function of arrays of B rows and numbers, for a block of rows.

    Attributes:
        plain: whether it is elementwise but for loops. shapes: of its values.
    """

    def __init__(self, closed: ClosedJaxpr):
        blank = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]
        self._traced = Traced(lambda inputs: jaxpr_as_fun(closed)(*inputs), blank, spelled=FUNCTIONS)
        self._loops = {
            step.out[0]: (_Rows(step.params["cond_jaxpr"]), _Rows(step.params["body_jaxpr"]))
            for step in self._traced.steps
            if step.name == "while"
        }
        inner = [rows for pair in self._loops.values() for rows in pair]
        known = all(step.name in _ELEMENTWISE or step.name == "while" for step in self._traced.steps)
        self.plain: bool = known and not self._traced.held and all(rows.plain for rows in inner)
        self.shapes: set[Any] = {a.shape for a in blank}.union(*(rows.shapes for rows in inner))

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        env: dict[int, Any] = dict(enumerate(inputs))
        for step in self._traced.steps:
            values = [value(v, env) for v in step.values]
            found = self._loop(step, values) if step.name == "while" else _bind(step, values)
            env.update(zip(step.out, found, strict=True))
        return [value(r, env) for r in self._traced.results]

    def _loop(self, step: Step, values: list[Any]) -> list[Array]:
        test, body = self._loops[step.out[0]]
        tests, first = step.params["cond_nconsts"], step.params["cond_nconsts"] + step.params["body_nconsts"]
        like = [v.aval for v in step.params["body_jaxpr"].jaxpr.outvars]

        def whole(carry: Sequence[Any]) -> list[Array]:  # a block of rows, or a number, whatever the value was
            pairs = zip(carry, like, strict=True)
            return [jnp.broadcast_to(jnp.asarray(v, a.dtype), (ROWS,) * a.ndim) for v, a in pairs]

        return jax.lax.while_loop(
            lambda carry: test([*values[:tests], *carry])[0],
            lambda carry: whole(body([*values[tests:first], *carry])),
            whole(values[first:]),
        )


def _bind(step: Step, values: list[Any]) -> list[Any]:
    if step.name == "broadcast_in_dim":
        return [jnp.broadcast_to(values[0], (ROWS,) * len(step.params["shape"]))]
    if step.name == "reduce_or":  # unknown to Triton, like the next
        return [jnp.max(jnp.where(values[0], 1.0, 0.0)) > 0.0]
    if step.name == "round":  # halves go to the even neighbour
        up = jnp.floor(values[0] + 0.5)
        return [jnp.where(up - values[0] == 0.5, 2.0 * jnp.floor(0.5 * up), up)]
    return step.bind(values)
