"""The inference programs: everything between a request and a certified reply, as one traced function per rung.

    hard      start (lift or warm), interior point with hard limits, repair, verdict
    elastic   the same with limits that read states exceeded at a price
    brake     the fallback: braking from the first state, verdict

A program works in a frame of its own, x along the initial heading, so a reply does not depend on where the car drives.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from feasible._arrays import Array, wrap
from feasible._frame import FARTHEST
from feasible._projector._braking import brake
from feasible._projector._request import Reply, Request
from feasible._projector._start import begin
from feasible._projector._verdict import Motion, drive, judge
from feasible.solvers import _riccati_loop as loop
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel
from feasible.solvers._riccati_loop import Options
from feasible.solvers._riccati_rows import Barrier
from feasible.solvers._riccati_stage import Stage

# Measured on plans whose samples or first states were moved by known amounts: the barrier from which the iteration is
# shortest grows with what changed, and beyond some centimetres of every sample a cold start is shorter.
_NEWS = 0.02  # first barrier parameter of a warm start, as a share of what changed
_OUTDATED = 0.01  # m²: a warm start is dropped if more than that changed


def project(kernel: Kernel, request: Request) -> Reply:
    """The nearest motion that keeps the limits of the kernel, hard or elastic."""
    stage = kernel.stage
    if kernel.penalty is None and request.tighter:
        kernel = kernel.tightened(request.tighter)
    request, heading, lifted = localised(stage, request)
    merged, weight = towards(request)
    news = changed(kernel, request)
    warm = (request.warm > 0.0) & (news <= _OUTDATED)
    known = [jnp.isfinite(v) for v in request.initial]
    believed = [jnp.where(k, v, s) for k, v, s in zip(known, request.initial, request.first, strict=True)]
    scaled = stage.typical
    S = stage.S

    def chosen(a: list[Array], b: list[Array], units: Any) -> list[Array]:
        return [jnp.where(warm, p, q) / t for p, q, t in zip(a, b, units, strict=True)]

    nothing = Barrier([], [], [], [])
    it = Iterate(
        chosen(believed, lifted.first, scaled[:S]),
        chosen(request.states, lifted.states, scaled[:S]),
        chosen(request.controls, lifted.controls, scaled[S:]),
        nothing,
        nothing,
    )
    data = Data(
        merged,
        weight,
        [jnp.where(k, 0.0, 1.0) for k in known],
        [e * t * t for e, t in zip(request.effort, scaled[S:], strict=True)],
        steps_of(request),
    )
    state = loop.advance(kernel, data, request.options, begun(kernel, it, data, request, warm, news))
    back = [a * t for a, t in zip(state.it.x0, scaled[:S], strict=True)]
    controls = [a * t for a, t in zip(state.it.u, scaled[S:], strict=True)]
    first = [jnp.where(k, v, s) for k, v, s in zip(known, request.initial, back, strict=True)]
    motion = drive(stage, first, controls)
    found = reply(kernel, request, heading, motion, state.it.inner.z, state.it.entry.z, state.solved, state.count)
    return found._replace(merit=found.merit + moved(request, motion))


def fallback(kernel: Kernel, request: Request) -> Reply:
    """Braking from the first state, or from where the samples seem to start where that is not given."""
    stage = kernel.stage
    request, heading, lifted = localised(stage, request)
    still = jnp.zeros_like(request.warm)
    guess = [*lifted.first[:4], *(still for _ in lifted.first[4:])]
    first = [jnp.where(jnp.isfinite(v), v, g) for v, g in zip(request.initial, guess, strict=True)]
    motion = brake(stage, first, request.target, steps_of(request))
    free = [jnp.zeros_like(a) for a in request.inner], [jnp.zeros_like(a) for a in request.entry]
    return reply(kernel, request, heading, motion, *free, still, still)


def begun(kernel: Kernel, it: Iterate, data: Data, request: Request, warm: Array, news: Array) -> loop.State:
    """The first state of the iteration: on the central path, or, if `warm`, with the prices of the plan before."""
    options = request.options
    if kernel.penalty is not None:  # prices of hard rows say little about elastic ones
        return loop.begin(kernel, it, data, options)
    # Of a warm start the option is the least barrier; one that is dropped begins like a cold one.
    most = jnp.where(request.warm > 0.0, Options().mu_start, options.mu_start)
    afresh = loop.first_barrier(kernel, it, data, options._replace(mu_start=most))  # type: ignore[arg-type]
    mu = jnp.where(warm, jnp.maximum(_NEWS * news, options.mu_start), afresh)
    cold, known = loop.fresh(kernel, mu, jnp.zeros_like(mu) + options.room), loop.priced(mu, jnp.sqrt(mu))

    def make(*rows: Any) -> Barrier:
        return jax.tree.map(lambda a, b: jnp.where(warm, a, b), known(*rows), cold(*rows))

    inner, entry = (Barrier(z, z, [None] * len(z), [None] * len(z)) for z in (request.inner, request.entry))
    return loop.begin_at(kernel, it._replace(inner=inner, entry=entry), data, mu, make)


def changed(kernel: Kernel, request: Request) -> Array:
    """How far a request is from the one that its warm start answered: half a squared distance [m²].

    Of the positions of samples that both have, as far as they count beside the consistency term, and of pose and
    speed at the start in typical units.
    """

    def step(total: Array, inputs: Any) -> Any:
        a, b, w = inputs
        share = w / jnp.where(w > 0.0, w + request.consistency, 1.0)
        apart = sum(0.5 * (p - q) * (p - q) for p, q in zip(a, b, strict=True)) * share * share
        return total + jnp.where((w > 0.0) & jnp.isfinite(apart), apart, 0.0), None

    moved = zip(request.initial[:4], request.first[:4], kernel.stage.typical[:4], strict=True)
    initial = sum(jnp.where(jnp.isfinite(a), 0.5 * ((a - b) / t) ** 2, 0.0) for a, b, t in moved)
    return jax.lax.scan(step, initial, (request.samples, request.target[:2], request.weight[0]))[0]


def steps_of(request: Request) -> Array:
    """T as a number."""
    zero = jnp.zeros_like(request.warm)
    return jax.lax.scan(lambda n, _: (n + 1.0, None), zero, request.target[0])[0]


def localised(stage: Stage, request: Request) -> tuple[Request, Array, Motion]:
    """The request turned so that x points along the initial heading; that heading; and the lift as a start."""
    target, weight = cleaned(request)
    sane = jnp.ones_like(request.warm) > 0.0
    for v in request.initial:  # an initial state that is nowhere near is as good as none
        sane = sane & ~(jnp.abs(v) > FARTHEST)
    initial = [jnp.where(sane, v, jnp.nan) for v in request.initial]
    drawn = towards(request._replace(target=target, weight=weight))
    first, states = begin(stage, *drawn, initial)
    heading = first[2]
    apart = heading - request.first[2]
    back = apart - wrap(jnp, apart) - heading  # the plan before may count whole turns otherwise
    turned = request._replace(
        target=turn(target, -heading),
        weight=weight,
        initial=turn(initial, -heading),
        first=turn(request.first, back),
        states=turn(request.states, back),
        samples=rotated(request.samples, -heading),
    )
    lifted = Motion(turn(first, -heading), turn(states, -heading), [jnp.zeros_like(a) for a in request.controls])
    return turned, heading, lifted


def cleaned(request: Request) -> tuple[list[Array], list[Array]]:
    """Targets that are finite, and weights that are 0 where they were not."""
    sound = jnp.abs(request.weight[0]) < jnp.inf
    for value, w in zip(request.target, request.weight, strict=True):
        sound = sound & ((jnp.abs(value) <= FARTHEST) | (w == 0.0))
    weight = [jnp.where(sound & (w > 0.0), w, 0.0) for w in request.weight]
    return [jnp.where(w > 0.0, v, 0.0) for v, w in zip(request.target, weight, strict=True)], weight


def towards(request: Request) -> tuple[list[Array], list[Array]]:
    """Targets and weights with the consistency term: two squared distances are one, from their weighted mean."""
    c = jnp.where(request.warm != 0.0, request.consistency, 0.0)
    target, weight = list(request.target), list(request.weight)
    for i in (0, 1):
        w = weight[i] + c
        mean = (weight[i] * target[i] + c * request.states[i]) / jnp.where(w > 0.0, w, 1.0)
        target[i], weight[i] = jnp.where(w > 0.0, mean, 0.0), w
    return target, weight


def moved(request: Request, motion: Motion) -> Array:
    """What the consistency term charges a motion."""
    zero = jnp.zeros_like(request.warm)

    def step(total: Array, inputs: Any) -> Any:
        (x, y), (a, b) = inputs
        return total + (x - a) * (x - a) + (y - b) * (y - b), None

    total, _ = jax.lax.scan(step, zero, (motion.states[:2], request.states[:2]))
    return jnp.where(request.warm != 0.0, 0.5 * request.consistency * total, 0.0)


def turn(values: list[Array], angle: Array) -> list[Array]:
    """A state with its position and heading turned about the origin."""
    return [*rotated(values[:2], angle), values[2] + angle, *values[3:]]


def rotated(position: list[Array], angle: Array) -> list[Array]:
    """X and y turned about the origin."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    return [c * position[0] - s * position[1], s * position[0] + c * position[1]]


def reply(
    kernel: Kernel,
    request: Request,
    heading: Array,
    motion: Motion,
    inner: Any,
    entry: Any,
    solved: Array,
    count: Array,
) -> Reply:
    """The motion with its verdict, in the caller's frame."""
    verdict = judge(kernel.stage, motion, request.target, request.weight, request.effort)
    samples = [
        jnp.where(w > 0.0, a, b)
        for a, b, w in zip(request.target[:2], motion.states[:2], request.weight[:2], strict=True)
    ]
    zero = jnp.zeros_like(heading)
    seen = jax.lax.scan(lambda n, w: (jnp.maximum(n, jnp.where(w > 0.0, 1.0, 0.0)), None), zero, request.weight[0])[0]
    return Reply(
        turn(motion.first, heading),
        turn(motion.states, heading),
        motion.controls,
        rotated(samples, heading),
        inner,
        entry,
        any_sample=seen,
        converged=solved,
        iterations=count,
        **verdict._asdict(),
    )
