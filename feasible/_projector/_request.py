"""What goes into a call of the inference programs and what comes out, as traced values and as flat arrays.

The programs (`_program`) are functions of scalars and horizons, like the solver, so the same traced function runs in
vector lanes, is exported as an artefact of JAX, and is printed as C. All three see one row of numbers: the scalars
first, then the horizons of T numbers each, in the order of the fields here.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from feasible._arrays import Array
from feasible.solvers._riccati_kernel import Kernel
from feasible.solvers._riccati_loop import Options


class Request(NamedTuple):
    """One trajectory, in a frame whose origin is near it; SI units.

    Attributes:
        target: 4 horizons: x, y, yaw, speed; a sample that is not finite counts as missing.
        weight: 4 horizons, of their squared errors; 0 where nothing is stated.
        initial: S scalars; NaN where free.
        first, states, controls: an earlier plan in the same frame (S scalars, S and C horizons).
        samples: 2 horizons, the positions that it answered; NaN where not known.
        inner, entry: prices of the one-sided rows at that start: horizons, scalars.
        warm: 0 if there is no such plan; positive to start from it; negative if it is there for `consistency` only.
        consistency: weight of the squared distance from the plan's positions [1/m²], 0 for none.
        effort: C scalars, weights of the squared controls.
        tighter: a scalar per limit, by how much of it its bounds are tightened, for the hard rung; or empty.
        options: of the iteration.
    """

    target: list[Array]
    weight: list[Array]
    initial: list[Array]
    first: list[Array]
    states: list[Array]
    controls: list[Array]
    samples: list[Array]
    inner: list[Array]
    entry: list[Array]
    warm: Array
    consistency: Array
    effort: list[Array]
    tighter: list[Array]
    options: Options


class Reply(NamedTuple):
    """What can be driven, and what the independent integration says of it; frame and units of the request.

    Attributes:
        first, states, controls: the motion: S scalars, S and C horizons; consistent to rounding.
        samples: 2 horizons, the positions asked for; where none was, those of the motion.
        inner, entry: prices of the one-sided rows.
        usable: 1 if every number of the motion is finite.
        any_sample: 1 if the request had a sample to stay close to.
        converged: 1 if the solver met its own tolerance. iterations: linearisations used.
        objective: of the motion, without the consistency term.
        merit: objective, consistency term and the price of excess, to compare motions by.
        excess: largest normalised excess where limits are imposed.
        residual: largest distance of a stored state from the integrated one.
        margins: a scalar per limit: largest signed normalised excess, integrated and measured within each step.
        mean, most: distance of positions from the samples [m]. turned: largest error of stated yaw and speed.
    """

    first: list[Array]
    states: list[Array]
    controls: list[Array]
    samples: list[Array]
    inner: list[Array]
    entry: list[Array]
    usable: Array
    any_sample: Array
    converged: Array
    iterations: Array
    objective: Array
    merit: Array
    excess: Array
    residual: Array
    margins: list[Array]
    mean: Array
    most: Array
    turned: Array


def example(kernel: Kernel, number: Any, horizon: Any) -> Request:
    """A request made of one scalar and one horizon, for tracing and for shapes."""
    S, C = kernel.stage.S, kernel.stage.C
    of_steps, of_entry = kernel.one_sided()
    return Request(
        [horizon] * 4,
        [horizon] * 4,
        [number] * S,
        [number] * S,
        [horizon] * S,
        [horizon] * C,
        [horizon] * 2,
        [horizon] * len(of_steps),
        [number] * len(of_entry),
        number,
        number,
        [number] * C,
        [number] * len(kernel.stage.problem.limits),
        Options(*[number] * len(Options._fields)),
    )


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the leaves of a request or reply lie in a flat row of T steps.

    Attributes:
        at: the same named tuple, with a slice of the row in place of each leaf.
        size: numbers in a row.
    """

    at: Any
    size: int

    @classmethod
    def of(cls, tree: Any, steps: int) -> Layout:
        """Of a tree of scalars `()` and horizons `(any,)`."""
        leaves, structure = jax.tree.flatten(tree)
        scalars = sum(np.ndim(leaf) == 0 for leaf in leaves)
        places, first, second = [], 0, scalars
        for leaf in leaves:
            if np.ndim(leaf):
                places.append(slice(second, second + steps))
                second += steps
            else:
                places.append(slice(first, first + 1))
                first += 1
        return cls(jax.tree.unflatten(structure, places), second)
