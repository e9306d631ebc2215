"""From cotangents of states and controls to those of what a projection depends on; see `_riccati_adjoint`.

Rows are taken up again from their solution and its prices, which converges in a few iterations whatever solver found
it, and then the adjoint sweep follows in the same program. What its result means for targets, weights, bounds and the
initial state is read off the Lagrangian; for parameters of the vehicle JAX differentiates it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from feasible._problem import Problem
from feasible.solvers import _riccati_loop as loop
from feasible.solvers._riccati_adjoint import Adjoint, Cotangent, adjoint
from feasible.solvers._riccati_arrays import answer, example, numbers, pack, prices, unpack
from feasible.solvers._riccati_kernel import Kernel
from feasible.solvers._riccati_loop import Options, State
from feasible.solvers._riccati_rows import Barrier
from feasible.solvers.riccati import Engine, Riccati, Task

# Attempts: from a solution, eight iterations are enough for nearly all rows. A small slope of the Lagrangian says
# little of slacks and prices of limits that are only just met, on which the derivative depends, and a small gain not
# much more, so that neither may end them: they are where they belong when a step changes none of them by more than a
# thousandth, and Newton's method squares that.
POLISH = (
    Options(iterations=8, mu_start=0.0, slope=0.0, fall=1e-13, last=1e-10, change=1e-3),
    Options(iterations=40, mu_start=0.0, slope=0.0, fall=1e-13, last=1e-10, change=1e-3),
    Options(iterations=80, mu_start=1e-7, quick=0.1, slope=1e-9, fall=1e-12, last=1e-7, change=1e-2),
    Options(iterations=80, mu_start=1e-6, quick=0.2, slope=1e-7, fall=1e-9, last=0.0),
)

# What float32 solved is farther away, and its derivative is asked for fewer digits. A barrier that comes down would
# save a tenth, but leaves weakly active limits off the central path, on which their derivative depends.
_SINGLE = POLISH[0]._replace(iterations=12, change=1e-2)


@dataclasses.dataclass(frozen=True)
class Pulled:
    """Cotangents of a problem's parts, for N rows, in their units.

    Attributes:
        target: `(N, T, 4)`. weight: `(N, T, 4)`. initial_state: `(N, S)`, 0 where free. effort: `(N, C)`.
        lower: per limit `(N,)`; 0 where there is no such bound. upper: likewise.
        vehicle: per parameter `(N,)`; empty unless asked for.
        solved: `(N,)` bool: whether the row is at a solution; 0 throughout where it is not.
    """

    target: np.ndarray
    weight: np.ndarray
    initial_state: np.ndarray
    effort: np.ndarray
    lower: dict[str, np.ndarray]
    upper: dict[str, np.ndarray]
    vehicle: dict[str, np.ndarray]
    solved: np.ndarray


def pull_back(
    problem: Problem,
    states: np.ndarray,
    controls: np.ndarray,
    multipliers: np.ndarray,
    by_states: np.ndarray,
    by_controls: np.ndarray,
    *,
    smoothing: float = 1e-10,
    vehicle: bool = False,
    backend: Riccati | None = None,
) -> Pulled:
    """The vector-Jacobian product of the projection.

    Args:
        problem: N rows.
        states: `(N, T + 1, S)` their solution.
        controls: `(N, T, C)`.
        multipliers: `(N, T, R)` of the rows.
        by_states: `(N, T + 1, S)` cotangent.
        by_controls: `(N, T, C)` cotangent.
        smoothing: barrier parameter μ [m²] of the derivative: 1e-10 for that of the projection itself; larger for
            that of its smooth relative, whose bounds give way gently.
        vehicle: whether to differentiate by the vehicle's parameters too.
        backend: whose engine to use; the derivative is computed in float64 in any case.
    """
    backend = backend or Riccati()
    first = _SINGLE if np.dtype(backend.dtype) == np.float32 else POLISH[0]
    if np.dtype(backend.dtype) != np.float64:
        backend = dataclasses.replace(backend, dtype=np.float64)  # prices over slacks need the digits
    kernel, engine = backend.compiled(problem, False, WHOLE if vehicle else ADJOINT)
    result, pending = None, np.arange(len(states))
    for options in (first, *POLISH[1:]):
        some: Any = slice(None) if result is None else pending  # a slice copies nothing
        part = problem if result is None else problem.select(pending)
        it, data = pack(kernel, part, states[some], controls[some])
        inner, entry = _barriers(kernel, multipliers[some])
        typical, S = np.asarray(kernel.stage.typical), kernel.stage.S
        x = (by_states[some] * typical[:S]).transpose(2, 0, 1)
        u = (by_controls[some] * typical[S:]).transpose(2, 0, 1)
        against = Cotangent([a[:, 0] for a in x], [a[:, 1:] for a in x], list(u))
        options = options._replace(mu_start=max(options.mu_start, smoothing), mu_end=smoothing)
        arguments = it._replace(inner=inner, entry=entry), data, numbers(options, len(pending)), against
        state, moves = engine(arguments)
        found = _parameters(kernel, part, state, moves, vehicle)
        if result is None:
            result = found
        else:
            _put(result, found, pending)
        pending = pending[~found.solved]
        if not pending.size:
            break
    assert result is not None
    return result


def _put(result: Pulled, found: Pulled, rows: np.ndarray) -> None:
    """Writes what was found for some rows into the result."""
    for field in dataclasses.fields(Pulled):
        whole, part = getattr(result, field.name), getattr(found, field.name)
        pairs = [(whole[k], part[k]) for k in whole] if isinstance(whole, dict) else [(whole, part)]
        for a, b in pairs:
            a[rows] = b


def _adjoint(kernel: Kernel, whole: bool, arguments: Any) -> tuple[State, Adjoint]:
    """The solution, as much of it as is needed, and the adjoint system's."""
    it, data, options, against = arguments
    state = loop.advance(kernel, data, options, loop.again(kernel, it, data, options), central=True)
    found = adjoint(kernel, state.it, data, jnp.zeros_like(it.x0[0]) + options.mu_end, against, whole=whole)
    state = answer(state)
    nothing = Barrier([], [], [], [])
    return state if whole else state._replace(it=state.it._replace(inner=nothing, entry=nothing)), found


def _example(kernel: Kernel, number: Any, horizon: Any) -> Any:
    """Arguments of the adjoint program for tracing: those of the solver, with prices and a cotangent."""
    it, data, options = example(kernel, number, horizon)
    S, C = kernel.stage.S, kernel.stage.C
    inner, entry = (sum(map(len, kernel.sides.values())), len(kernel.entry_sides))
    it = it._replace(inner=Barrier([], [horizon] * inner, [], []), entry=Barrier([], [number] * entry, [], []))
    return it, data, options, Cotangent([number] * S, [horizon] * S, [horizon] * C)


def _in_lanes(whole: bool, kernel: Kernel, width: int | None) -> Engine:
    from feasible.solvers._lanes import HORIZON, Program

    blank = _example(kernel, np.zeros(()), np.zeros(HORIZON))
    return Program(functools.partial(_adjoint, kernel, whole), blank, kernel.stage.dtype, width)


def _by_xla(whole: bool, kernel: Kernel) -> Engine:
    from feasible.solvers._xla_engine import Chunks

    return Chunks(functools.partial(_adjoint, kernel, whole), kernel.stage.dtype)


ADJOINT, WHOLE = (
    Task(functools.partial(_in_lanes, whole), functools.partial(_by_xla, whole)) for whole in (False, True)
)


def _barriers(kernel: Kernel, multipliers: np.ndarray) -> tuple[Barrier, Barrier]:
    """Prices of the one-sided rows, `(N, T)` and `(N,)`, from multipliers `(N, T, R)`, without slacks."""
    of_steps, of_entry = kernel.one_sided()
    above, below = np.maximum(multipliers, 0.0), np.maximum(-multipliers, 0.0)
    inner = [(above if sign > 0 else below)[..., r] for r, sign in of_steps]
    entry = [(above if sign > 0 else below)[:, 0, r] for r, sign in of_entry]
    return Barrier([], inner, [], []), Barrier([], entry, [], [])


def _parameters(kernel: Kernel, problem: Problem, state: State, found: Adjoint, vehicle: bool) -> Pulled:
    stage = kernel.stage
    typical, S = np.asarray(stage.typical), stage.S
    states, controls = unpack(kernel, state)
    x, u, first = (np.stack(values, axis=-1) for values in (found.x, found.u, found.first))
    by_row = np.stack([*found.sums, *found.entry])
    # A row at a degenerate solution has an infinite derivative somewhere; it has none rather than a wrong one.
    more = jax.tree.leaves((found.x0, found.costate, found.lam, found.inner)) if vehicle else []
    parts = [by_row.T, x, u, first, *more]
    with np.errstate(invalid="ignore"):
        total = sum(a.reshape(len(states), -1).sum(1) for a in parts)
    solved = (np.asarray(state.solved) > 0) & np.isfinite(total)
    a_x, a_u = x * typical[:S], u * typical[S:]
    a_x[~solved], a_u[~solved] = 0.0, 0.0
    residual = problem.residual(states)
    fixed = first / typical[:S]
    with np.errstate(invalid="ignore"):
        by_bound = np.where(solved, _of_bounds(kernel) @ by_row, 0.0)
    names = [limit.name for limit in problem.limits]
    return Pulled(
        target=problem.weight * a_x[..., :4],
        weight=-a_x[..., :4] * residual,
        initial_state=np.where(np.isnan(problem.initial_state) | ~solved[:, None], 0.0, fixed),
        effort=-(a_u * controls).sum(1),
        lower=dict(zip(names, by_bound[: len(names)], strict=True)),
        upper=dict(zip(names, by_bound[len(names) :], strict=True)),
        vehicle=_vehicle(kernel, problem, state, found, states, controls, a_x, a_u, solved) if vehicle else {},
        solved=solved,
    )


@functools.lru_cache(maxsize=64)
def _of_bounds(kernel: Kernel) -> np.ndarray:
    """What the bound of each one-sided row counts for those of the limits, first all lower ones and then all upper."""
    stage, limits = kernel.stage, len(kernel.stage.problem.limits)
    of_steps, of_entry = kernel.one_sided()
    matrix = np.zeros((2 * limits, len(of_steps) + len(of_entry)))
    for column, (r, sign) in enumerate((*of_steps, *of_entry)):
        matrix[stage.problem.rows[r].limit + limits * (sign > 0), column] = sign / stage.scale[r]
    return matrix


def _vehicle(
    kernel: Kernel,
    problem: Problem,
    state: State,
    found: Adjoint,
    states: np.ndarray,
    controls: np.ndarray,
    a_x: np.ndarray,
    a_u: np.ndarray,
    solved: np.ndarray,
) -> dict[str, np.ndarray]:
    """Cotangents of the vehicle's parameters: JAX on the part of the Lagrangian that reads them."""
    stage = kernel.stage
    typical, S = np.asarray(stage.typical), stage.S
    a_0 = np.where(solved[:, None], np.stack(found.x0, axis=-1) * typical[:S], 0.0)
    point = (
        states,
        controls,
        np.stack(found.lam, axis=-1) / typical[:S],
        prices(kernel, state.it.inner.z, state.it.entry.z),
    )
    along = (
        np.concatenate([a_0[:, None], a_x], axis=1),
        a_u,
        np.where(solved[:, None, None], np.stack(found.costate, axis=-1) / typical[:S], 0.0),
        np.where(solved[:, None, None], prices(kernel, found.inner, found.entry), 0.0),
    )
    leaves, tree = jax.tree.flatten(problem.vehicle)
    scale = problem.bounds()[2]

    def lagrangian(parameters: Any, states: Any, controls: Any, costate: Any, price: Any) -> Any:
        car = jax.tree.unflatten(tree, parameters)
        start = states[:-1]
        total = jnp.sum(costate * car.step(start, controls, problem.dt))
        motions = {f: car.motion_of(car.step(start, controls, f * problem.dt), controls) for f in problem.fractions}
        for r, row in enumerate(problem.rows):
            total += jnp.sum(price[:, r] * problem.limits[row.limit].signal(motions[row.fraction], car)) / scale[r]
        return total

    def directional(parameters: Any, point: Any, along: Any) -> Any:
        return -jax.jvp(lambda *w: lagrangian(parameters, *w), point, along)[1]

    with jax.enable_x64(True):
        real = [jnp.asarray(float(v)) for v in leaves]
        pulled = jax.vmap(jax.grad(directional), in_axes=(None, 0, 0))(real, *jax.tree.map(jnp.asarray, (point, along)))
        names = [path[-1].name for path, _ in jax.tree_util.tree_leaves_with_path(problem.vehicle)]
        return dict(zip(names, map(np.array, pulled), strict=True))
