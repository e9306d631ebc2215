"""The interior-point iteration around `Kernel`, row by row inside one batch: barrier, regularisation, acceptance.

A trial point is taken if it lowers the infeasibility or the barrier objective (a filter of one point; Fletcher and
Leyffer, 2002; switching and Armijo rules as in IPOPT, Wächter and Biegler, 2006), and if the linearised problem was
convex. Otherwise the row stays where it is and the next iteration works with more regularisation, and a shorter
step if convexity was not the reason. A step that the slacks cut short asks for more regularisation too: near
standstill the objective is a valley of which only a small part is well described by its second order.

Rows are independent. A row that is done does not change any more, and the loop ends when all are.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from feasible._arrays import Array
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel
from feasible.solvers._riccati_rows import Barrier, Totals


class Options(NamedTuple):
    """Numbers of the iteration; run-time values, so that another attempt needs no other program.

    Attributes:
        iterations: bound on linearisations.
        mu_start: first barrier parameter [m²]. mu_end: last; the objective is then within mu_end times the number of
            one-sided rows.
        shrink: of the mean complementarity after a good step; after a short one it is `shrink_short`.
        caution: μ stays above this share of the optimality error, but is not raised; `hold` bounds it as a share of
            the mean complementarity.
        margin: share of the way to the boundary that a step may go.
        room: smallest first slack, in units of the limits.
        defect: largest defect of a converged row in typical units. gap: largest violation in units of the limits.
        slope: of the Lagrangian, or `fall`: predicted relative fall of the objective, that counts as stationary.
    """

    iterations: int = 200
    mu_start: float = 1.0
    mu_end: float = 1e-8
    shrink: float = 0.2
    shrink_short: float = 0.8
    caution: float = 1e-4
    hold: float = 1.0
    margin: float = 0.99
    room: float = 0.3
    defect: float = 5e-6
    gap: float = 5e-5
    slope: float = 1e-4
    fall: float = 1e-6


class State(NamedTuple):
    """Of the loop; `(B,)` but for the iterate.

    Attributes:
        it: the iterate. totals: what it is judged by.
        mu: barrier parameter. delta: regularisation. cap: bound on the step length.
        done: whether the row does not change any more. solved: whether it is done because it converged.
        count: linearisations used.
    """

    it: Iterate
    totals: Totals
    mu: Array
    delta: Array
    cap: Array
    done: Array
    solved: Array
    count: Array


# Regularisation δ, in units of m² per physical unit squared (`Kernel.metric`)
_FIRST = 1e-3  # after a trial that was refused
_LEAST = 1e-6  # below, none
_CONVEXIFY = 1e-5  # after a problem that was not convex
_HOPELESS = 1e8  # above, the row is given up
_SMALL = 1e-4  # Σ |infeasibility| below which the barrier objective must fall


def solve(kernel: Kernel, it: Iterate, data: Data, options: Options) -> State:
    """Iterates from states and controls; the barrier of `it` is ignored."""
    it = _start(kernel, it, options)
    totals, it = kernel.totals(it, data)
    zero = jnp.zeros_like(it.x0[0])
    none = jnp.zeros(zero.shape, bool)
    lost = ~jnp.isfinite(totals.objective + totals.infeasibility)
    count = jnp.zeros(zero.shape, jnp.int32)
    state = State(it, totals, zero + options.mu_start, zero, zero + 1.0, lost, none, count)

    def unfinished(state: State) -> Array:
        return jnp.any(~state.done & (state.count < options.iterations))

    return jax.lax.while_loop(unfinished, lambda state: _iterate(kernel, data, options, state), state)


def _iterate(kernel: Kernel, data: Data, options: Options, state: State) -> State:
    it, totals, mu, delta = state.it, state.totals, state.mu, state.delta
    gains, dx0, slope, pivot = kernel.backward(it, data, mu, delta)
    step, (primal, dual, fall) = kernel.forward(it, data, gains, dx0, mu)
    convex = pivot > 0.0

    feasible = (totals.defect <= options.defect) & (totals.gap <= options.gap)
    # Regularisation makes the predicted fall look small, so it counts only where there is next to none.
    still = convex & (delta <= 1e-2) & (jnp.abs(fall) <= options.fall * (1e-3 + totals.objective))
    tight = _complementarity(it) <= 2.0 * options.mu_end
    solved = state.solved | (~state.done & feasible & tight & ((slope <= options.slope) | still))
    done = state.done | solved | (delta > _HOPELESS)

    reach = jnp.minimum(1.0, options.margin / jnp.maximum(primal, 1e-9))
    length = reach * state.cap
    trial = _move(it, step, length, jnp.minimum(1.0, options.margin / jnp.maximum(dual, 1e-9)))
    trial_totals, trial = kernel.totals(trial, data)
    accepted = convex & _acceptable(totals, trial_totals, mu, fall, length)

    take = accepted & ~done
    it = jax.tree.map(lambda new, old: jnp.where(take, new, old), trial, it)
    totals = jax.tree.map(lambda new, old: jnp.where(take, new, old), trial_totals, totals)
    mean = _complementarity(it)
    error = jnp.maximum(slope, totals.gap)
    lowest = jnp.maximum(options.mu_end, jnp.minimum(options.caution * error, options.hold * mean))
    shrink = jnp.where(length >= 0.5, options.shrink, options.shrink_short)
    next_mu = jnp.where(take, jnp.maximum(shrink * mean, lowest), mu)

    eased = jnp.where(reach > 0.5, delta / 4.0, delta)
    eased = jnp.where(reach < 0.1, 4.0 * jnp.maximum(delta, _LEAST), eased)
    eased = jnp.where(eased >= _LEAST, eased, 0.0)
    raised = jnp.maximum(jnp.where(convex, _FIRST, _CONVEXIFY), 8.0 * delta)
    cap = jnp.where(accepted, jnp.minimum(1.0, 2.0 * state.cap), jnp.where(convex, 0.5 * state.cap, state.cap))
    return State(
        it,
        totals,
        next_mu,
        jnp.where(done, delta, jnp.where(accepted, eased, raised)),
        jnp.where(done, state.cap, cap),
        done | (state.count + 1 >= options.iterations),
        solved,
        state.count + ~state.done,
    )


def _acceptable(old: Totals, new: Totals, mu: Array, fall: Array, length: Array) -> Array:
    """Whether a trial point improves on the iterate; false where it is not finite."""
    before, after = old.objective - mu * old.logs, new.objective - mu * new.logs
    rounding = 10.0 * jnp.finfo(before.dtype).eps * jnp.abs(before)
    armijo = after <= before + 1e-4 * length * jnp.minimum(fall, 0.0) + rounding
    better = (new.infeasibility <= (1.0 - 1e-3 * length) * old.infeasibility) | (
        after <= before - 1e-4 * old.infeasibility
    )
    small = old.infeasibility <= _SMALL
    optimising = armijo & (new.infeasibility <= 100.0 * _SMALL)
    good = jnp.where(small & (fall < 0.0), optimising, better | (armijo & small))
    return (good | (armijo & (new.infeasibility <= 0.01 * _SMALL))) & jnp.isfinite(after + new.infeasibility)


def _move(it: Iterate, step: Iterate, primal: Array, dual: Array) -> Iterate:
    """The iterate after a step of the given lengths for motion and slacks, and for prices."""

    def along(length: Array, a: list[Array], b: list[Array]) -> list[Array]:
        return [None if p is None else p + length * q for p, q in zip(a, b, strict=True)]

    def barrier(a: Barrier, b: Barrier) -> Barrier:
        return Barrier(along(primal, a.s, b.s), along(dual, a.z, b.z), along(primal, a.e, b.e), along(dual, a.w, b.w))

    return Iterate(
        along(primal, it.x0, step.x0),
        along(primal, it.x, step.x),
        along(primal, it.u, step.u),
        barrier(it.inner, step.inner),
        barrier(it.entry, step.entry),
    )


def _complementarity(it: Iterate) -> Array:
    """Mean product of slacks and prices, `(B,)`."""
    total, count = jnp.zeros_like(it.x0[0]), 0
    for barrier in (it.inner, it.entry):
        for s, z, e, w in zip(*barrier, strict=True):
            for slack, price in ((s, z), (e, w)):
                if slack is not None:
                    product = jnp.atleast_2d(slack * price)
                    total, count = total + jnp.sum(product, axis=0), count + product.shape[0]
    return total / max(count, 1)


def _start(kernel: Kernel, it: Iterate, options: Options) -> Iterate:
    """Slacks at the room that the rows leave, prices on the central path of `mu_start`."""

    def barrier(values: list[Array], soft: list[bool]) -> Barrier:
        fresh = Barrier([], [], [], [])
        for g, elastic in zip(values, soft, strict=True):
            entries: tuple[Array, ...]
            if elastic and kernel.penalty is not None:
                e = jnp.maximum(g, 0.0) + options.room
                s = jnp.maximum(e - g, options.room)
                z = jnp.minimum(options.mu_start / s, 0.5 * kernel.penalty)
                entries = s, z, e, kernel.penalty - z
            else:
                s = jnp.maximum(-g, options.room)
                entries = s, options.mu_start / s, None, None
            for store, entry in zip(fresh, entries, strict=True):
                store.append(entry)
        return fresh

    inner, entry = kernel.rows(it)
    return it._replace(inner=barrier(inner, kernel.soft()), entry=barrier(entry, kernel.soft(entry=True)))
