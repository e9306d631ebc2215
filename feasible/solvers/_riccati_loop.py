"""The interior-point iteration around `Kernel`, row by row inside one batch: barrier, regularisation, acceptance.

A trial point is taken if it lowers the infeasibility or the barrier objective (a filter of one point; Fletcher and
Leyffer, 2002; switching and Armijo rules as in IPOPT, Wächter and Biegler, 2006), and if the linearised problem was
convex. Otherwise the row stays where it is and the next iteration works with more regularisation, and a shorter
step if convexity was not the reason. A step that the slacks cut short asks for more regularisation too: near
standstill the objective is a valley of which only a small part is well described by its second order. At the end of
such a valley, where nothing is left to gain, it is the rows that a long step through it breaks; there regularisation
stays, for it costs a step towards feasibility nothing. And while regularised steps still gain much beside the barrier,
that does not come down: a full one says only that it was held short, and a valley is long where the slacks are small.

Rows are independent. A row that is done does not change any more, and the loop ends when all are.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from feasible._arrays import Array
from feasible.solvers import _riccati_rows as of_rows
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel
from feasible.solvers._riccati_rows import Totals
from feasible.solvers._riccati_trial import Make, distance, enter, move, sides


class Options(NamedTuple):
    """Numbers of the iteration; run-time values, so that another attempt needs no other program.

    Attributes:
        iterations: bound on linearisations.
        mu_start: first barrier parameter [m²], at most. share: of the objective at the start, that it is too, and more
            where the first state is given: the barrier should not outweigh what it is added to. mu_end: last; the
            objective is then within mu_end times the number of one-sided rows.
        quick: μ as a share of the mean complementarity after a full step. slow: after a very short one; in between
            by the length.
        margin: share of the way to the boundary that a step may go.
        room: smallest first slack, in units of the limits.
        defect: largest defect of a converged row in typical units. gap: largest violation in units of the limits.
        slope: of the Lagrangian, or `fall`: predicted relative fall of the objective, that counts as stationary.
        last: predicted relative fall of a full step after which a row is done: Newton's method squares it.
        full: length of a step that counts as full. One of 0.8 leaves 4 % of what there was to gain, but prices and
            slacks a fifth of the way from where they belong.
    """

    iterations: int = 200
    mu_start: float = 1.0
    share: float = 0.001
    mu_end: float = 1e-10
    quick: float = 0.3
    slow: float = 1.1
    margin: float = 0.99
    room: float = 0.3
    defect: float = 5e-6
    gap: float = 5e-5
    slope: float = 1e-6
    fall: float = 1e-7
    last: float = 1e-5
    full: float = 0.98


class State(NamedTuple):
    """Of the loop; `(B,)` but for the iterate.

    Attributes:
        it: the iterate. totals: what it is judged by.
        mu: barrier parameter. delta: regularisation. cap: bound on the step length.
        done: 1 if the row does not change any more. solved: 1 if it is done because it converged.
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
_CONVEXIFY = 1e-4  # after a problem that was not convex
_HOPELESS = 1e8  # above, the row is given up
_FAINT = 1e-4  # smallest first barrier parameter [m²]
_GIVEN = 20.0  # times larger where the first state is given: samples need not fit it, and the way to them needs room
_SMALL = 1e-4  # Σ |infeasibility| below which the barrier objective must fall
_AHEAD = 0.3  # predicted fall, as a share of what the barrier can be worth, from which regularised steps leave it up
_PATIENT = 1.3  # μ as a share of the mean complementarity there
_WORTH = 1e-6  # fall of the barrier objective that makes up for infeasibility that stays, per unit of it


def begin(kernel: Kernel, it: Iterate, data: Data, options: Options) -> State:
    """The first state, from states and controls; the barrier of `it` is ignored."""
    mu = first_barrier(kernel, it, data, options)
    return begin_at(kernel, it, data, mu, fresh(kernel, mu, jnp.zeros_like(mu) + options.room))


def fresh(kernel: Kernel, mu: Array, room: Array) -> Make:
    """Makes a first barrier on the central path of μ, with slacks at the room that the rows leave, at least `room`."""
    return lambda values, sides, soft, _: of_rows.begin(values, sides, soft, mu, room, kernel.penalty)


def priced(mu: Array, least: Array) -> Make:
    """Makes a barrier of prices that are known, with slacks beside them on the central path of μ or above.

    Prices below `least` are not believed; see `known`.
    """
    return lambda values, sides, _, barrier: of_rows.known(values, sides, barrier.z, mu, least)


def first_barrier(kernel: Kernel, it: Iterate, data: Data, options: Options) -> Array:
    """The barrier parameter of a start: a share of what it is added to, within bounds."""
    free = functools.reduce(jnp.minimum, data.free)
    share = options.share * jnp.where(free > 0.0, 1.0, _GIVEN)
    return jnp.minimum(jnp.maximum(share * distance(kernel, it, data), _FAINT), options.mu_start)


def begin_at(kernel: Kernel, it: Iterate, data: Data, mu: Array, make: Make) -> State:
    """The first state from an iterate whose barrier is made."""
    zero = jnp.zeros_like(it.x0[0])
    totals, it = enter(kernel, it, data, make)
    finite = jnp.isfinite(totals.objective + totals.infeasibility)
    return State(it, totals, mu, zero, zero + 1.0, jnp.where(finite, zero, 1.0), zero, zero)


def advance(
    kernel: Kernel,
    data: Data,
    options: Options,
    state: State,
    most: Array | None = None,
    few: Array | None = None,
) -> State:
    """Iterates until every row is done, `most` times at most, or until no more than `few` rows are left."""
    options = resolved(kernel, options, data)
    turns = jnp.inf if most is None else most

    def unfinished(carry: tuple[State, Array]) -> Array:
        state, turn = carry
        going = (state.done == 0.0) & (state.count < options.iterations) & (turn < turns)
        return jnp.any(going) if few is None else jnp.sum(going) > few

    def turn(carry: tuple[State, Array]) -> tuple[State, Array]:
        return _iterate(kernel, data, options, carry[0]), carry[1] + 1.0

    return jax.lax.while_loop(unfinished, turn, (state, jnp.zeros_like(state.count)))[0]


def resolved(kernel: Kernel, options: Options, data: Data) -> Options:
    """With a defect, and a last barrier, that positions of this size can have at all.

    A kilometre away a digit of float32 is 0.06 mm, and prices are sums of weighted distances: at one barrier for all, a
    twelfth of drives of 350 m did not converge in the first attempt.
    """
    if kernel.stage.dtype != jnp.float32:
        return options

    def step(most: Array, target: list[Array]) -> tuple[Array, Any]:
        return functools.reduce(jnp.maximum, map(jnp.abs, target), most), ()

    extent, _ = jax.lax.scan(step, jnp.zeros_like(data.steps), data.target[:2])
    told = 2.0 * jnp.finfo(jnp.float32).eps * extent
    defect, mu_end = jnp.maximum(options.defect, told), jnp.maximum(options.mu_end, 4.0 * told * told)
    return options._replace(defect=defect, mu_end=mu_end)  # type: ignore[arg-type]


def burst(kernel: Kernel, it: Iterate, data: Data, options: Options, state: State, fresh: Array, most: Array) -> State:
    """`most` iterations at most, of rows in unequal states: where `fresh` is positive, a row begins with `it`."""

    def enter(carry: tuple[State, Array]) -> tuple[State, Array]:
        first = begin(kernel, it, data, options)
        return jax.tree.map(lambda a, b: jnp.where(fresh > 0.0, a, b), first, carry[0]), jnp.zeros_like(fresh)

    # A loop of one turn or none, for there is no other branch in the language of `_lanes`.
    state, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[1] > 0.0), enter, (state, fresh))
    return advance(kernel, data, options, state, most)


def _iterate(kernel: Kernel, data: Data, options: Options, state: State) -> State:
    it, totals, mu, delta = state.it, state.totals, state.mu, state.delta
    gains, dx0, slope, pivot = kernel.backward(it, data, mu, delta)
    step, (primal, dual, fall, _, _) = kernel.forward(it, data, gains, dx0, mu)
    convex = pivot > 0.0
    pairs = sides(kernel, it)
    count = data.steps * pairs[0] + pairs[1]

    def kept(totals: Totals) -> Array:
        feasible = (totals.defect <= options.defect) & (totals.gap <= options.gap)
        return feasible & (totals.products <= 2.0 * options.mu_end * count)

    active = (state.done == 0.0) & (state.count < options.iterations)
    # Regularisation makes the predicted fall look small, so it counts only where there is next to none.
    gain = jnp.abs(fall) / (1e-5 + totals.objective)
    still = convex & (delta <= 1e-2) & (gain <= options.fall)
    solved = active & kept(totals) & ((slope <= options.slope) | still)
    done = ~active | solved | (delta > _HOPELESS)

    reach = jnp.minimum(1.0, options.margin / jnp.maximum(-primal, 1e-9))
    length = reach * state.cap
    dual_length = jnp.minimum(1.0, options.margin / jnp.maximum(-dual, 1e-9))
    # Where limits may be exceeded, room comes and goes with the excess: with slacks that follow it a twentieth fewer of
    # absurd inputs were relaxed.
    follow = kernel.penalty is None
    trial_totals, trial = move(kernel, it, step, length, dual_length, data, follow=follow)
    # A start knows nothing of the limits, and the way to them leads over larger defects: the first step is free.
    free = (state.count == 0.0) & jnp.isfinite(trial_totals.objective + trial_totals.infeasibility)
    accepted = convex & (free | _acceptable(totals, trial_totals, mu, fall, length))

    take = accepted & ~done
    arrived = take & (delta == 0.0) & (length > options.full) & (gain <= options.last) & kept(trial_totals)
    solved, stopped = solved | arrived, done | arrived
    it = jax.tree.map(lambda new, old: jnp.where(take, new, old), trial, it)
    stuck = trial_totals.infeasibility > 0.5 * totals.infeasibility
    totals = jax.tree.map(lambda new, old: jnp.where(take, new, old), trial_totals, totals)
    mean = totals.products / count
    shrink = options.slow + (options.quick - options.slow) * length
    ahead = (delta > 0.0) & (-fall > _AHEAD * mu * count)
    shrink = jnp.where(ahead, jnp.maximum(shrink, _PATIENT), shrink)
    next_mu = jnp.where(take, jnp.maximum(shrink * mean, options.mu_end), mu)

    # Where nothing is left to gain but rows are broken, a longer step would break them again.
    held = ~kept(trial_totals) & (gain <= 10.0 * options.fall)
    eased = jnp.where((reach > 0.2) & ~held, delta / 4.0, delta)
    eased = jnp.where(reach < 0.03, 4.0 * jnp.maximum(delta, _LEAST), eased)
    eased = jnp.where(held & stuck & (gain <= options.fall), jnp.maximum(eased, _FIRST), eased)
    eased = jnp.where(eased >= _LEAST, eased, 0.0)
    raised = jnp.maximum(jnp.where(convex, _FIRST, _CONVEXIFY), 8.0 * delta)
    cap = jnp.where(accepted, jnp.minimum(1.0, 2.0 * state.cap), jnp.where(convex, 0.5 * state.cap, state.cap))
    tried = state.count + jnp.where(active, 1.0, 0.0)
    return State(
        it,
        totals,
        next_mu,
        jnp.where(done, delta, jnp.where(accepted, eased, raised)),
        jnp.where(done, state.cap, cap),
        jnp.where(stopped | (tried >= options.iterations), 1.0, 0.0),
        jnp.where(solved, 1.0, state.solved),
        tried,
    )


def _acceptable(old: Totals, new: Totals, mu: Array, fall: Array, length: Array) -> Array:
    """Whether a trial point improves on the iterate; false where it is not finite."""
    before, after = old.objective - mu * old.logs, new.objective - mu * new.logs
    rounding = 10.0 * jnp.finfo(before.dtype).eps * jnp.abs(before)
    armijo = after <= before + 1e-4 * length * jnp.minimum(fall, 0.0) + rounding
    better = (new.infeasibility <= (1.0 - 1e-3 * length) * old.infeasibility) | (
        after <= before - _WORTH * old.infeasibility
    )
    small = old.infeasibility <= _SMALL
    optimising = armijo & (new.infeasibility <= 100.0 * _SMALL)
    good = jnp.where(small & (fall < 0.0), optimising, better | (armijo & small))
    return (good | (armijo & (new.infeasibility <= 0.01 * _SMALL))) & jnp.isfinite(after + new.infeasibility)
