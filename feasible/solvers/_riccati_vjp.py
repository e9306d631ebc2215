"""From cotangents of states and controls to those of what a projection depends on; see `_riccati_adjoint`.

Rows are brought from their solution and its prices to the central path (`_riccati_central`), whatever solver found
them, and then the adjoint sweep follows in the same program. What its result means for targets, weights, bounds and the
initial state is read off the Lagrangian; for parameters of the vehicle JAX differentiates it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from feasible._problem import SMOOTHING, Problem, check_smoothing
from feasible.solvers._riccati_adjoint import Adjoint, Cotangent, adjoint
from feasible.solvers._riccati_arrays import across, apart, example, prices, stack, together, unpack
from feasible.solvers._riccati_central import AFTER, Aim, Central, central
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel
from feasible.solvers._riccati_rows import Barrier
from feasible.solvers.riccati import Engine, Riccati, Task

_NOTHING = Barrier([], [], [], [])


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
    smoothing: float = SMOOTHING,
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

    Raises:
        ValueError: for a smoothing that is not positive.
    """
    check_smoothing(smoothing)
    backend = backend or Riccati()
    aim = AFTER[np.dtype(backend.dtype).itemsize]._replace(mu=smoothing)
    if np.dtype(backend.dtype) != np.float64:
        backend = dataclasses.replace(backend, dtype=np.float64)  # prices over slacks need the digits
    kernel, engine = backend.compiled(problem, False, WHOLE if vehicle else ADJOINT)
    answer = engine(arguments(kernel, problem, states, controls, multipliers, aim, by_states, by_controls))
    left = np.flatnonzero(np.asarray(answer.solved) <= 0)
    if left.size and smoothing > SMOOTHING:
        # Newton's method alone does not get so far from every solution; the solver does, and leaves it the rest.
        attempts = tuple(options._replace(mu_end=smoothing) for options in backend.attempts)
        rows, by = problem.select(left), (by_states[left], by_controls[left])
        at = dataclasses.replace(backend, attempts=attempts).solve(rows, states[left], controls[left])
        again = engine(arguments(kernel, rows, at.states, at.controls, at.multipliers, aim, *by))
        for whole, part in zip(jax.tree.leaves(answer), jax.tree.leaves(again), strict=True):
            whole[left] = part
    return _parameters(kernel, problem, answer)


class Arguments(NamedTuple):
    """Of the program; arrays `(N, k)` and `(N, k, T)` in place of lists of k, as in its result.

    Attributes:
        it: states and controls. data: what rows are about. aim: numbers of an `Aim`. against: cotangents. All of them
            in units, not in typical ones: a single row's arrays are scaled in less time in the program.
        prices: of every row of the problem. first: of those with entry rows, in their order.
    """

    it: Iterate
    data: Data
    aim: Any
    against: Cotangent
    prices: Any
    first: Any


def arguments(
    kernel: Kernel,
    problem: Problem,
    states: np.ndarray,
    controls: np.ndarray,
    multipliers: np.ndarray,
    aim: Aim,
    by_states: np.ndarray,
    by_controls: np.ndarray,
) -> Arguments:
    """Of the program of `ADJOINT` and `WHOLE`, for N rows; arrays as for `pull_back`."""
    it, data = stack(kernel, problem, states, controls)
    x, u = across(by_states), across(by_controls)
    first = multipliers[:, 0, [r for r, _ in kernel.one_sided()[1]]]
    against = Cotangent(x[..., 0], x[..., 1:], u)
    aims = np.repeat(np.array(aim, dtype=float)[None], len(states), axis=0)
    return Arguments(it, data, aims, against, across(multipliers), first)


class Answer(NamedTuple):
    """Of the program.

    Attributes:
        adjoint: what the adjoint system says. solved: `(N,)` positive where the row is at a solution.
        point: the solution, without slacks; None unless parameters of the vehicle need it.
    """

    adjoint: Adjoint
    solved: Any
    point: Central | None


def _adjoint(kernel: Kernel, whole: bool, given: Arguments) -> Answer:
    of_steps, of_entry = kernel.one_sided()
    inner = [jnp.maximum(sign * given.prices[r], 0.0) for r, sign in of_steps]
    entry = [jnp.maximum(sign * price, 0.0) for (_, sign), price in zip(of_entry, given.first, strict=True)]
    typical, S = kernel.stage.typical, kernel.stage.S
    sizes = typical[:S], typical[:S], typical[S:]  # of the first state, of states and of controls
    x0, x, u = ([a * (1.0 / t) for a, t in zip(*one, strict=True)] for one in zip(given.it[:3], sizes, strict=True))
    it = Iterate(x0, x, u, _NOTHING._replace(z=inner), _NOTHING._replace(z=entry))
    against = Cotangent(*([v * t for v, t in zip(*one, strict=True)] for one in zip(given.against, sizes, strict=True)))
    data = given.data._replace(effort=[r * (t * t) for r, t in zip(given.data.effort, typical[S:], strict=True)])
    aim = Aim(*given.aim)
    point = central(kernel, it, data, aim)
    found = adjoint(kernel, point.it, data, aim.mu, against, whole=whole)
    there, left = point.it, None
    if whole:
        barriers = (_NOTHING._replace(z=barrier.z) for barrier in (there.inner, there.entry))
        left = point._replace(it=Iterate(*there[:3], *barriers))
    return Answer(found, point.solved * found.finite, left)


def _example(kernel: Kernel, number: Any, horizon: Any) -> Arguments:
    """For tracing."""
    it, data, _ = example(kernel, number, horizon)
    S, C, rows = kernel.stage.S, kernel.stage.C, len(kernel.stage.problem.rows)
    against = Cotangent([number] * S, [horizon] * S, [horizon] * C)
    aim = [number] * len(Aim._fields)
    return Arguments(it, data, aim, against, [horizon] * rows, [number] * len(kernel.entry_sides))


def _in_lanes(whole: bool, kernel: Kernel, width: int | None) -> Engine:
    from feasible.solvers._lanes import HORIZON, Program

    blank = _example(kernel, np.zeros(()), np.zeros(HORIZON))
    return Program(functools.partial(_adjoint, kernel, whole), blank, kernel.stage.dtype, width)


def _by_xla(whole: bool, kernel: Kernel) -> Engine:
    from feasible.solvers._xla_engine import Chunks

    chunks = Chunks(functools.partial(_adjoint, kernel, whole), kernel.stage.dtype)
    return lambda given: together(chunks(apart(given)))


ADJOINT, WHOLE = (
    Task(functools.partial(_in_lanes, whole), functools.partial(_by_xla, whole)) for whole in (False, True)
)


def _parameters(kernel: Kernel, problem: Problem, answer: Answer) -> Pulled:
    found, solved = answer.adjoint, np.asarray(answer.solved) > 0
    if not solved.all():  # nothing rather than a wrong derivative
        found = jax.tree.map(lambda a: np.where(solved.reshape(-1, *[1] * (a.ndim - 1)), a, 0.0), found)
    names = [limit.name for limit in problem.limits]
    return Pulled(
        target=np.swapaxes(found.target, 1, 2),
        weight=np.swapaxes(found.weight, 1, 2),
        initial_state=np.asarray(found.first) * ~np.isnan(problem.initial_state),
        effort=np.asarray(found.effort),
        lower=dict(zip(names, np.transpose(found.lower), strict=True)),
        upper=dict(zip(names, np.transpose(found.upper), strict=True)),
        vehicle={} if answer.point is None else _vehicle(kernel, problem, apart(answer.point), found),
        solved=solved,
    )


def _vehicle(kernel: Kernel, problem: Problem, point: Central, found: Adjoint) -> dict[str, np.ndarray]:
    """Cotangents of the vehicle's parameters: JAX on the part of the Lagrangian that reads them."""
    stage, rest = kernel.stage, found.rest
    assert rest is not None
    typical, S = np.asarray(stage.typical), stage.S
    states, controls = unpack(kernel, point)
    parts: Any = rest.x0, rest.x, rest.u, rest.costate, rest.lam
    x0, x, u, costate, lam = (np.moveaxis(a, 1, -1) for a in parts)
    at = states, controls, lam / typical[:S], prices(kernel, point.it.inner.z, point.it.entry.z)
    along = (
        np.concatenate([x0[:, None], x], axis=1) * typical[:S],
        u * typical[S:],
        costate / typical[:S],
        prices(kernel, *apart((rest.inner, rest.entry))),
    )
    leaves, tree = jax.tree.flatten(problem.vehicle)
    scale = problem.bounds()[2]

    def lagrangian(parameters: Any, states: Any, controls: Any, costate: Any, price: Any) -> Any:
        car = jax.tree.unflatten(tree, parameters)
        start = states[:-1]
        total = jnp.sum(costate * car.step(start, controls, problem.dt))
        motions = {f: car.motion_of(car.step(start, controls, f * problem.dt), controls) for f in problem.fractions}
        for r, row in enumerate(problem.rows):
            value = problem.limits[row.limit].signal(motions[row.fraction], car) / scale[r]
            limit = stage.restated.get(row.limit)
            total += jnp.sum(price[:, r] * (value if limit is None else limit.of(value)))
        return total

    def directional(parameters: Any, at: Any, along: Any) -> Any:
        return -jax.jvp(lambda *w: lagrangian(parameters, *w), at, along)[1]

    with jax.enable_x64(True):
        real = [jnp.asarray(float(v)) for v in leaves]
        pulled = jax.vmap(jax.grad(directional), in_axes=(None, 0, 0))(real, *jax.tree.map(jnp.asarray, (at, along)))
        names = [path[-1].name for path, _ in jax.tree_util.tree_leaves_with_path(problem.vehicle)]
        return dict(zip(names, map(np.array, pulled), strict=True))
