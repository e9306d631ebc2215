"""Backend `riccati`: a primal-dual interior point on the nonlinear problem itself, a batch at a time, in pure JAX.

Every iteration linearises anew and solves Newton's system, with the exact Hessian of the Lagrangian, by a Riccati
recursion over the steps (Wright, 1996; Rao, Wright and Rawlings, 1998); see `_riccati_kernel` and `_riccati_loop`.
Rows go through one compiled program of fixed width, so a row's result does not depend on its batch. Rows that an
attempt leaves unsolved are tried again from the start with another pace of the barrier.

Limits of this version: float64 on the host, and compilation for every new vehicle, set of limits, dt and horizon.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from feasible._problem import Problem, Solution
from feasible.solvers._riccati_algebra import Vector
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel
from feasible.solvers._riccati_loop import Options, State
from feasible.solvers._riccati_loop import solve as run
from feasible.solvers._riccati_rows import Barrier
from feasible.solvers._riccati_stage import Stage
from feasible.solvers._sqp import ELASTIC

CHUNK = 512  # rows that `project` hands over at once
WIDTH = 32  # rows per call: the working set of a chunk stays in the cache
ATTEMPTS = (Options(iterations=60, caution=1e-2, hold=0.5), Options(), Options(shrink=0.5, hold=0.9, room=1.0))


@dataclasses.dataclass(frozen=True)
class _Structure:
    """What a program is compiled for; equal by `key`."""

    key: tuple[Any, ...]
    problem: Problem = dataclasses.field(compare=False)
    elastic: bool = False


def solve(problem: Problem, states: np.ndarray, controls: np.ndarray, *, elastic: bool = False) -> Solution:
    """Solves N rows.

    Args:
        problem: N rows.
        states: `(N, T + 1, S)` start.
        controls: `(N, T, C)` start.
        elastic: whether rows that read states may be exceeded, at `ELASTIC` per unit of normalised excess.
    """
    leaves, structure = jax.tree.flatten(problem.vehicle)
    limits = tuple((m.signal, m.reads, m.lower, m.upper) for m in problem.limits)
    key = (structure, tuple(leaves), limits, problem.dt, problem.fractions, tuple(problem.effort), elastic)
    kernel, program = _compile(_Structure(key, problem, elastic))

    count, steps = len(states), controls.shape[-2]
    known = np.isfinite(problem.initial_state)
    states = np.array(states, dtype=float)
    states[:, 0] = np.where(known, problem.initial_state, states[:, 0])
    solution = Solution(
        states.copy(),
        np.array(controls, dtype=float),
        np.zeros((count, steps, len(problem.rows))),
        np.zeros(count, dtype=int),
        np.zeros(count, dtype=bool),
    )
    pending = np.flatnonzero(np.isfinite(states).all((1, 2)) & np.isfinite(problem.target).all((1, 2)))
    for options in ATTEMPTS:
        for chunk in np.array_split(pending, range(WIDTH, len(pending), WIDTH)):
            if chunk.size:
                _solve_chunk(kernel, program, options, problem, states, controls, chunk, solution)
        pending = pending[~solution.converged[pending]]
    return solution


@functools.lru_cache(maxsize=16)
def _compile(structure: _Structure) -> tuple[Kernel, Callable[..., State]]:
    problem = structure.problem
    kernel = Kernel(Stage(problem), problem.effort, ELASTIC if structure.elastic else None)
    return kernel, jax.jit(functools.partial(run, kernel))


def _solve_chunk(
    kernel: Kernel,
    program: Callable[..., State],
    options: Options,
    problem: Problem,
    states: np.ndarray,
    controls: np.ndarray,
    chunk: np.ndarray,
    solution: Solution,
) -> None:
    """Solves up to `WIDTH` rows and writes them into `solution`."""
    S = kernel.stage.S
    typical = np.asarray(kernel.stage.typical)
    rows = np.resize(chunk, WIDTH)  # padded by repetition: one shape, one program, one rounding
    with jax.enable_x64(True):  # around trace and call, so that the user's setting is neither needed nor changed
        x, u = _batch_last(states[rows] / typical[:S]), _batch_last(controls[rows] / typical[S:])
        nothing = Barrier([], [], [], [])
        start = Iterate([a[0] for a in x], [a[1:] for a in x], u, nothing, nothing)
        free = [jnp.asarray(f) for f in np.isnan(problem.initial_state[rows]).T]
        data = Data(_batch_last(problem.target[rows]), _batch_last(problem.weight[rows]), free)
        state = jax.tree.map(np.asarray, program(start, data, options))
    it, kept = state.it, len(chunk)
    first, rest = np.stack(it.x0, axis=-1), np.moveaxis(np.stack(it.x, axis=-1), 1, 0)
    solution.states[chunk] = (np.concatenate([first[:, None], rest], axis=1) * typical[:S])[:kept]
    solution.controls[chunk] = (np.moveaxis(np.stack(it.u, axis=-1), 1, 0) * typical[S:])[:kept]
    solution.multipliers[chunk] = _prices(kernel, it)[:kept]
    solution.iterations[chunk] += state.count[:kept]
    solution.converged[chunk] = state.solved[:kept]


def _batch_last(values: np.ndarray) -> Vector:
    """`(B, T, n)` as n arrays `(T, B)`."""
    return [jnp.asarray(v) for v in np.moveaxis(values, (2, 1, 0), (0, 1, 2))]


def _prices(kernel: Kernel, it: Iterate) -> np.ndarray:
    """Multipliers `(B, T, R)` from the prices of one-sided rows."""
    steps, width = it.u[0].shape
    price = np.zeros((width, steps, len(kernel.stage.problem.rows)))
    sides = [(kernel.stage.signals[f].rows[i], sign) for f, group in kernel.sides.items() for i, sign, _ in group]
    for (r, sign), z in zip(sides, it.inner.z, strict=True):
        price[:, :, r] += sign * z.T
    entry = [(kernel.stage.entry.rows[i], sign) for i, sign, _ in kernel.entry_sides]
    for (r, sign), z in zip(entry, it.entry.z, strict=True):
        price[:, 0, r] += sign * z
    return price
