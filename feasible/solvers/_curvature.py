"""First and second derivatives of functions of scalars, in few operations.

Second derivatives are by edge pushing (Gower and Mello, 2012). A function is a list of operations; v̄ is the derivative
of the result by a value v, and H the second derivatives by pairs of values that are live. Going backwards over the
operations, each value i = φ(j, k, ...) is replaced by its arguments:

    H_jp += φ_j H_ip  (twice that for p = j),   H_jk += φ_j φ_k H_ii + v̄_i φ_jk,   v̄_j += v̄_i φ_j.

What is left at the end are the second derivatives by the inputs. Symmetry is used throughout, and a sum of products
that many entries share is pushed once: of a step's dynamics this leaves half of the operations of forward over
reverse mode, which goes through the function once per input.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from feasible._arrays import Array
from feasible.solvers import _riccati_algebra as la
from feasible.solvers._riccati_algebra import Entry
from feasible.solvers._traced import Step, Traced, value

Function = Callable[[list[Array]], list[Array]]
_OPAQUE = ("custom_jvp_call",)


class _Pairs:
    """Symmetric entries by pairs of values."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, Entry]] = {}

    def add(self, i: int, j: int, entry: Entry) -> None:
        if entry is not None:
            total = la.add(self._rows.get(i, {}).get(j), entry)
            self._rows.setdefault(i, {})[j] = total
            self._rows.setdefault(j, {})[i] = total

    def get(self, i: int, j: int) -> Entry:
        return self._rows.get(i, {}).get(j)

    def pop(self, i: int) -> tuple[Entry, dict[int, Entry]]:
        """The entry (i, i), and the others of i by their partner."""
        row = self._rows.pop(i, {})
        own = row.pop(i, None)
        for p in row:
            del self._rows[p][i]
        return own, row


def jacobian(function: Function) -> Function:
    """Values, then the derivatives of all of them by the first input, by the second, ...

    In forward mode, one input at a time, so that JAX's symbolic zeros survive. Eliminating the values in between in
    the order of fewest products (Markowitz) saved 6 % of a step's operations, too little for another algorithm.
    """

    def both(z: list[Array]) -> list[Array]:
        out = list(function(z))
        for i in range(len(z)):
            out += jax.jvp(lambda t, i=i: list(function([*z[:i], t, *z[i + 1 :]])), (z[i],), (jnp.ones_like(z[i]),))[1]
        return out

    return both


def tangent(function: Function, size: int) -> Function:
    """Values, then their derivatives along a direction, given after the `size` inputs."""

    def both(inputs: list[Array]) -> list[Array]:
        values, slopes = jax.jvp(function, (inputs[:size],), (inputs[size:],))
        return [*values, *slopes]

    return both


def _varying(traced: Traced, inputs: list[Array], size: int) -> tuple[dict[int, Any], set[int]]:
    """All values, and which of them depend smoothly on the first `size` inputs."""
    env, varying = traced.values(inputs), set(range(size))
    for step in traced.steps:
        if varying.intersection(step.inputs):
            varying.update(o for o in step.out if jnp.issubdtype(env[o].dtype, jnp.floating))
    return env, varying


def hessian(function: Callable[[list[Array], list[Array]], Array], size: int) -> Function:
    """Upper triangle of the second derivatives by the first `size` inputs; the others are coefficients."""

    def second(inputs: list[Array]) -> list[Array]:
        traced = Traced(lambda given: [function(given[:size], given[size:])], inputs, _OPAQUE)
        env, varying = _varying(traced, inputs, size)
        (result,) = traced.results
        pairs, slope = _Pairs(), {result: 1.0} if isinstance(result, int) else {}  # no slope of a constant
        for step in reversed(traced.steps):
            for place in reversed(range(len(step.out))):
                if step.out[place] in varying:
                    _push(step, place, [v for v in step.inputs if v in varying], env, slope, pairs)
        triangle = [pairs.get(i, j) for i in range(size) for j in range(i, size)]
        return [jnp.zeros_like(inputs[0]) if e is None else e + jnp.zeros_like(inputs[0]) for e in triangle]

    return second


def _push(
    step: Step, place: int, arguments: list[int], env: dict[int, Any], slope: dict[int, Any], pairs: _Pairs
) -> None:
    """Replaces an output of a step by its arguments, in slopes and pairs."""
    bar = slope.pop(step.out[place], None)
    own, row = pairs.pop(step.out[place])
    if bar is None and own is None and not row:
        return
    first, second = _local(step, place, arguments, env)
    for a, j in enumerate(arguments):
        for p, entry in row.items():
            pushed = la.mul(first[a], entry)
            pairs.add(j, p, None if pushed is None else 2.0 * pushed if p == j else pushed)
        slope[j] = la.add(slope.get(j), la.mul(first[a], bar))
        for b in range(a, len(arguments)):
            pairs.add(j, arguments[b], la.mul(la.mul(first[a], first[b]), own))
            pairs.add(j, arguments[b], la.mul(bar, second[a][b]))


def _local(step: Step, place: int, arguments: Sequence[int], env: dict[int, Any]) -> tuple[la.Vector, la.Matrix]:
    """First derivatives of an output by the arguments, and second ones; None where they are always 0."""
    given = [value(v, env) for v in step.inputs]
    where = [step.inputs.index(v) for v in arguments]
    program, fixed = _derivatives(_Shape(step, place, tuple(where)), tuple(jnp.asarray(g).dtype for g in given))
    found = [(f or None) if f is not None else v for f, v in zip(fixed, program(given), strict=True)]
    count = len(arguments)
    return found[:count], [found[count * (1 + a) : count * (2 + a)] for a in range(count)]


class _Shape:
    """An output of a step as a key: equal where operation, constants and repeated arguments are."""

    def __init__(self, step: Step, place: int, where: tuple[int, ...]):
        self.step, self.place, self.where = step, place, where
        inputs = step.inputs
        given = tuple(inputs.index(v) if isinstance(v, int) else (v.dtype.str, v.tobytes()) for v in step.values)
        self._key = step.name, str(step.params), given, place, where

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shape) and self._key == other._key


@functools.lru_cache(maxsize=512)
def _derivatives(shape: _Shape, dtypes: tuple[Any, ...]) -> tuple[Traced, list[float | None]]:
    step, place, where = shape.step, shape.place, shape.where

    def out(given: list[Array]) -> Array:
        env = dict(zip(step.inputs, given, strict=True))
        return step.bind([value(v, env) for v in step.values])[place]

    def along(f: Callable[[list[Array]], Array], i: int) -> Callable[[list[Array]], Array]:
        def slope(given: list[Array]) -> Array:
            return jax.jvp(lambda t: f([*given[:i], t, *given[i + 1 :]]), (given[i],), (jnp.ones_like(given[i]),))[1]

        return slope

    def both(given: list[Array]) -> list[Array]:
        first = [along(out, i) for i in where]
        return [f(given) for f in first] + [along(f, j)(given) for f in first for j in where]

    traced = Traced(both, [jax.ShapeDtypeStruct((), d) for d in dtypes])
    return traced, traced.fixed(len(dtypes))
