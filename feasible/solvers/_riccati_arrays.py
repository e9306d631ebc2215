"""Between arrays of rows and what the solver works on: lists with an entry per component, in typical units."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import numpy as np

from feasible._problem import Problem
from feasible._threads import by_rows
from feasible.solvers._riccati_central import Aim, Central
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel
from feasible.solvers._riccati_loop import Options, State
from feasible.solvers._riccati_rows import Barrier, Totals

Numbers = TypeVar("Numbers", Options, Aim)
_NOTHING = Barrier([], [], [], [])


def example(kernel: Kernel, number: Any, horizon: Any) -> tuple[Iterate, Data, Options]:
    """Arguments of the iteration for tracing."""
    S, C = kernel.stage.S, kernel.stage.C
    it = Iterate([number] * S, [horizon] * S, [horizon] * C, _NOTHING, _NOTHING)
    data = Data([horizon] * 4, [horizon] * 4, [number] * S, [number] * C, number)
    return it, data, Options(*[number] * len(Options._fields))


def numbers(options: Numbers, count: int) -> Numbers:
    """Options as arrays `(N,)`."""
    return type(options)(*np.repeat(np.array(options, dtype=float)[:, None], count, axis=1))


def pack(kernel: Kernel, problem: Problem, states: np.ndarray, controls: np.ndarray) -> tuple[Iterate, Data]:
    """The solver's view of N rows: a list entry per component, each `(N,)` or `(N, T)`, in typical units."""
    stage = kernel.stage
    typical = np.asarray(stage.typical)
    count, steps = controls.shape[:2]
    x, u = (np.empty((a.shape[-1], *a.shape[:-1])) for a in (states, controls))

    def fill(rows: slice) -> None:
        for into, a, t in ((x, states, typical[: stage.S]), (u, controls, typical[stage.S :])):
            np.divide(a[rows].transpose(2, 0, 1), t[:, None, None], out=into[:, rows])

    by_rows(fill, count)
    effort = problem.effort * typical[stage.S :] ** 2
    data = Data(
        list(problem.target.transpose(2, 0, 1)),
        list(problem.weight.transpose(2, 0, 1)),
        list(np.isnan(problem.initial_state).T.astype(float)),
        [np.full(count, e) for e in effort],
        np.full(count, float(steps)),
    )
    return Iterate([a[:, 0] for a in x], [a[:, 1:] for a in x], list(u), _NOTHING, _NOTHING), data


def stack(kernel: Kernel, problem: Problem, states: np.ndarray, controls: np.ndarray) -> tuple[Any, Any]:
    """`pack`, but in their units, and with an array `(N, k)` or `(N, k, T)` in place of every list of k: views."""
    count, steps = controls.shape[:2]
    x, u, target, weight = map(across, (states, controls, problem.target, problem.weight))
    effort: Any = np.broadcast_to(problem.effort, (count, len(problem.effort)))
    free: Any = np.isnan(problem.initial_state)
    return Iterate(x[..., 0], x[..., 1:], u, _NOTHING, _NOTHING), Data(
        target, weight, free, effort, np.full(count, steps)
    )


def across(a: np.ndarray) -> Any:
    """`(N, k, T)` of `(N, T, k)`."""
    return np.swapaxes(a, 1, 2)


def apart(stacked: Any) -> Any:
    """A pytree with a list in place of every array `(N, k)` or `(N, k, ...)`."""
    return jax.tree.map(lambda a: list(np.moveaxis(a, 1, 0)) if a.ndim > 1 else a, stacked)


def together(whole: Any) -> Any:
    """A pytree with an array `(N, k, ...)` in place of every list of k arrays `(N, ...)`; empty ones stay."""

    def one(part: Any) -> Any:
        return np.stack(part, axis=1) if isinstance(part, list) and part else part

    return jax.tree.map(one, whole, is_leaf=lambda a: isinstance(a, list))


def answer(state: State) -> State:
    """A state without slacks and totals, of which nobody asks when a row is done."""
    inner, entry = (Barrier([], b.z, [], []) for b in (state.it.inner, state.it.entry))
    return state._replace(it=state.it._replace(inner=inner, entry=entry), totals=Totals(*[()] * 6))


class Answers:
    """Solutions of N rows, filled as an engine hands them over; any thread may bring any rows.

    Args:
        kernel: of the problem's structure.
        count: of rows. steps: T.

    Attributes:
        states: `(N, T + 1, S)`, uninitialised. controls: `(N, T, C)`, uninitialised.
        multipliers: `(N, T, R)`, 0 at first.
        iterations: `(N,)` of the last attempt. solved: `(N,)`.
    """

    def __init__(self, kernel: Kernel, count: int, steps: int):
        self._kernel, S = kernel, kernel.stage.S
        self.states = np.empty((count, steps + 1, S))
        self.controls = np.empty((count, steps, len(kernel.stage.typical) - S))
        self._prices = np.zeros((len(kernel.stage.problem.rows), count, steps))
        self.multipliers = np.moveaxis(self._prices, 0, -1)
        self.iterations, self.solved = np.zeros(count, dtype=int), np.zeros(count, dtype=bool)

    def take(self, rows: slice | np.ndarray, state: State) -> None:
        """Writes some rows: an `answer`, arrays `(n,)` and `(n, T)`."""
        _write_motion(self._kernel, state.it, rows, self.states, self.controls)
        _write_prices(self._kernel, state.it.inner.z, state.it.entry.z, rows, self._prices)
        self.iterations[rows], self.solved[rows] = state.count, np.asarray(state.solved) > 0


def unpack(kernel: Kernel, state: State | Central) -> tuple[np.ndarray, np.ndarray]:
    """States `(N, T + 1, S)` and controls `(N, T, C)` in their units."""
    (count, steps), S = state.it.x[0].shape, kernel.stage.S
    states, controls = np.empty((count, steps + 1, S)), np.empty((count, steps, len(kernel.stage.typical) - S))

    def fill(rows: slice) -> None:
        x0, x, u = ([a[rows] for a in part] for part in state.it[:3])
        _write_motion(kernel, state.it._replace(x0=x0, x=x, u=u), rows, states, controls)

    by_rows(fill, count)
    return states, controls


def prices(kernel: Kernel, inner: Any, entry: Any) -> np.ndarray:
    """Multipliers `(N, T, R)` from the prices of one-sided rows, `(N, T)` of the steps and `(N,)` of the entry."""
    count, steps = inner[0].shape
    price = np.zeros((len(kernel.stage.problem.rows), count, steps))

    def fill(rows: slice) -> None:
        _write_prices(kernel, [z[rows] for z in inner], [z[rows] for z in entry], rows, price)

    by_rows(fill, count)
    return np.moveaxis(price, 0, -1)


def _write_motion(kernel: Kernel, it: Iterate, rows: Any, states: np.ndarray, controls: np.ndarray) -> None:
    """Writes some rows' states and controls, in their units."""
    typical, S = np.asarray(kernel.stage.typical), kernel.stage.S
    for i, (a, b, t) in enumerate(zip(it.x0, it.x, typical, strict=False)):
        states[rows, 0, i], states[rows, 1:, i] = a * t, b * t
    for i, (a, t) in enumerate(zip(it.u, typical[S:], strict=True)):
        controls[rows, :, i] = a * t


def _write_prices(kernel: Kernel, inner: Any, entry: Any, rows: Any, price: np.ndarray) -> None:
    """Writes some rows' multipliers, rows of the problem first; those without a one-sided row are left alone."""
    of_steps, of_entry = kernel.one_sided()
    of_row: dict[int, Any] = {}
    for (r, sign), z in zip(of_steps, inner, strict=True):
        signed = z if sign > 0 else -z
        of_row[r] = of_row[r] + signed if r in of_row else signed
    for r, value in of_row.items():
        price[r, rows] = value
    first: dict[int, Any] = {}
    for (r, sign), z in zip(of_entry, entry, strict=True):
        first[r] = first.get(r, 0.0) + sign * z
    for r, value in first.items():
        price[r, rows, 0] = value + (price[r, rows, 0] if r in of_row else 0.0)
