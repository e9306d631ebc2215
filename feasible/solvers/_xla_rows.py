"""Any number of rows through a program of plain JAX: in chunks that fit a processor's cache, and under `vmap`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from feasible.solvers._xla import on_graphics, on_processor, written
from feasible.solvers._xla_kernel import ROWS

# Rows of a chunk on a processor, in a program that others compile, with JAX's options (`_xla_engine` has its own).
# LLVM unrolls shorter loops before it looks for vectors then: a row of a chunk of 48 takes a quarter longer, one of
# 192 just as long.
WIDTH = 96


def prepared(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function of a pytree of arrays with the rows last, and numbers, to be compiled by `jax.jit`.

    Rows must not depend on each other: on a processor more than fit its cache go through it in chunks.
    """

    def run(arguments: Any) -> Any:
        rows = next((a.shape[-1] for a in jax.tree.leaves(arguments) if a.ndim), 0)
        if not isinstance(rows, int):  # of an export for any number
            return written(function)(arguments)
        width = WIDTH if on_processor() else rows
        block = width if rows > width else ROWS if on_graphics() else 1
        whole = jax.tree.map(lambda a: _repeated(a, -rows % block), arguments)
        if rows <= width:
            found = written(function)(whole)
        else:
            leaves, tree = jax.tree.flatten(whole)
            parts = [jnp.moveaxis(a.reshape(*a.shape[:-1], -1, width), -2, 0) for a in leaves if a.ndim]

            def part(some: list[Any]) -> Any:
                given = iter(some)
                return written(function)(jax.tree.unflatten(tree, [next(given) if a.ndim else a for a in leaves]))

            found = jax.lax.map(part, parts)
            found = jax.tree.map(lambda a: jnp.moveaxis(a, 0, -2).reshape(*a.shape[1:-1], -1), found)
        return jax.tree.map(lambda a: a[..., :rows], found)

    return run


def _repeated(a: Any, more: int) -> Any:
    """With the last row so many times more; a number as it is."""
    return jnp.concatenate([a, jnp.repeat(a[..., -1:], more, axis=-1)], axis=-1) if a.ndim and more else a


def mapped(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function of a pytree of arrays with the rows last, of which an axis of `jax.vmap` makes more rows.

    JAX would map every operation instead, with the rows that there are, often one, as the axis that lies in memory.
    """
    run = jax.custom_batching.custom_vmap(function)

    def folded(size: int, given: Any, batched: bool) -> Any:
        whole = jnp.moveaxis(given if batched else jnp.broadcast_to(given, (size, *given.shape)), 0, -2)
        return whole.reshape(*whole.shape[:-2], size * whole.shape[-1])

    def unfolded(size: int, found: Any) -> Any:
        return jnp.moveaxis(found.reshape(*found.shape[:-1], size, found.shape[-1] // size), -2, 0)

    @run.def_vmap
    def rule(size: int, batched: list[Any], given: Any) -> tuple[Any, Any]:
        found = run(jax.tree.map(lambda a, b: folded(size, a, b), given, batched[0]))
        return jax.tree.map(lambda a: unfolded(size, a), found), jax.tree.map(lambda _: True, found)

    return run
