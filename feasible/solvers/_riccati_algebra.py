"""Small matrices as lists of lists, unrolled while JAX traces: the stage algebra of the Riccati recursion.

An entry is None for a structural zero, a Python number for a constant of the model, or an array over the batch. So
what is zero or one costs nothing in the compiled program, and there is no call of a linear-algebra library in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from feasible._arrays import Array

Entry: TypeAlias = Any  # None, float or array
Vector: TypeAlias = list[Any]
Matrix: TypeAlias = list[list[Any]]


def mul(a: Entry, b: Entry) -> Entry:
    """The product of two entries."""
    if a is None or b is None:
        return None
    if isinstance(a, float) and a == 1.0:
        return b
    if isinstance(b, float) and b == 1.0:
        return a
    return a * b


def add(a: Entry, b: Entry) -> Entry:
    """The sum of two entries."""
    if a is None:
        return b
    if b is None:
        return a
    return a + b


def dot(a: Sequence[Entry], b: Sequence[Entry]) -> Entry:
    """The inner product of two vectors."""
    total = None
    for p, q in zip(a, b, strict=True):
        total = add(total, mul(p, q))
    return total


def plus(a: Sequence[Entry], b: Sequence[Entry]) -> Vector:
    """The sum of two vectors."""
    return [add(p, q) for p, q in zip(a, b, strict=True)]


def transpose(a: Matrix) -> Matrix:
    """Aᵀ."""
    return [list(row) for row in zip(*a, strict=True)]


def apply(a: Matrix, x: Sequence[Entry]) -> Vector:
    """A x."""
    return [dot(row, x) for row in a]


def matmul(a: Matrix, b: Matrix) -> Matrix:
    """A B."""
    columns = transpose(b)
    return [[dot(row, column) for column in columns] for row in a]


def symmetric(a: Matrix, b: Matrix) -> Matrix:
    """Aᵀ B where that is known to be symmetric: half of the work."""
    left, right = transpose(a), transpose(b)
    size = len(left)
    product: Matrix = [[None] * size for _ in range(size)]
    for i in range(size):
        for j in range(i, size):
            product[i][j] = product[j][i] = dot(left[i], right[j])
    return product


def madd(a: Matrix, b: Matrix) -> Matrix:
    """A + B."""
    return [plus(p, q) for p, q in zip(a, b, strict=True)]


def congruence(h: Matrix, m: Matrix, a: Matrix) -> Matrix:
    """H + Aᵀ M A for symmetric H and M."""
    return madd(h, symmetric(a, matmul(m, a)))


def from_triangle(entries: Sequence[Entry], size: int) -> Matrix:
    """The symmetric matrix of an upper triangle."""
    a: Matrix = [[None] * size for _ in range(size)]
    it = iter(entries)
    for i in range(size):
        for j in range(i, size):
            a[i][j] = a[j][i] = next(it)
    return a


def factor(a: Matrix, floor: float) -> tuple[Matrix, Vector, Array]:
    """A = L D Lᵀ with the pivots made positive: L (unit lower), 1 / D, and the smallest pivot before that.

    A pivot d becomes max(|d|, floor): a direction of negative curvature is taken by its size, as in saddle-free
    Newton methods (Dauphin et al., 2014), so a step along it descends and is not overlong.
    """
    size = len(a)
    low: Matrix = [[None] * size for _ in range(size)]
    inverse: Vector = []
    smallest: Array = jnp.inf
    for j in range(size):
        scaled = [mul(low[j][k], a_jk) for k, a_jk in enumerate(low[j][:j])]
        pivot = a[j][j]
        for k in range(j):
            pivot = pivot - scaled[k] / inverse[k]
        smallest = jnp.minimum(smallest, pivot)
        inverse.append(1.0 / jnp.maximum(jnp.abs(pivot), floor))
        for i in range(j + 1, size):
            entry = a[i][j]
            for k in range(j):
                entry = entry - low[i][k] * low[j][k] / inverse[k]
            low[i][j] = entry * inverse[j]
    return low, inverse, smallest


def solve(low: Matrix, inverse: Vector, b: Sequence[Entry]) -> Vector:
    """X with L D Lᵀ x = b."""
    size = len(inverse)
    x: Vector = list(b)
    for i in range(size):
        for k in range(i):
            x[i] = x[i] - low[i][k] * x[k]
    x = [mul(d, v) for d, v in zip(inverse, x, strict=True)]
    for i in reversed(range(size)):
        for k in range(i + 1, size):
            x[i] = x[i] - low[k][i] * x[k]
    return x


def scan(body: Callable[[Any, Any], Any], start: Any, inputs: Any, *, reverse: bool = False) -> tuple[Any, Any]:
    """`jax.lax.scan`; numbers and Nones in what the body returns become arrays or stay out."""

    def filled(carry: Any, given: Any) -> Any:
        after, out = body(carry, given)
        like = jax.tree.leaves(carry)[0] if jax.tree.leaves(carry) else jax.tree.leaves(given)[0]
        return jax.tree.map(lambda a: a + jnp.zeros_like(like) if isinstance(a, float) else a, (after, out))

    return jax.lax.scan(filled, start, inputs, reverse=reverse)
