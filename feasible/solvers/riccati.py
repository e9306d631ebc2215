"""Backend `riccati`: a primal-dual interior point on the nonlinear problem itself, a batch at a time.

Every iteration linearises anew and solves Newton's system, with the exact Hessian of the Lagrangian, by a Riccati
recursion over the steps (Wright, 1996; Rao, Wright and Rawlings, 1998); see `_riccati_kernel` and `_riccati_loop`.
Rows that an attempt leaves unsolved are tried again from the start with another pace of the barrier.

The algorithm is written once, in JAX, and runs on one of two engines: "lanes" compiles it for the vector registers of
the processor (by llvmlite), "xla" is plain `jax.jit`, for any device. A row's
result does not depend on its batch: every row of a batch has a lane of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from feasible._problem import Problem, Solution
from feasible._threads import by_rows
from feasible.solvers import _riccati_loop as loop
from feasible.solvers._riccati_arrays import Answers, answer, example, numbers, pack
from feasible.solvers._riccati_kernel import Kernel
from feasible.solvers._riccati_loop import Options, State
from feasible.solvers._riccati_stage import Stage
from feasible.solvers._sqp import ELASTIC

CHUNK = 4096  # rows that `project` hands over at once
STARTS = 32  # further starts where the first may have led to a poor local optimum
ENGINES = ("lanes", "xla")
_FAR = 1e6  # a share of the objective that leaves `mu_start` alone
ATTEMPTS = (  # a quick one; patient ones that come down from a large barrier, for rows whose start says little
    Options(iterations=80, quick=0.2),
    Options(iterations=80, share=_FAR),
    Options(quick=0.2, slow=0.8, share=_FAR),
    Options(quick=0.3, slow=1.2, room=1.0, share=_FAR),
)
# What float32 can tell apart, and less than what it is asked for: 1 mm and an excess of 1e-3 of a limit. One of 200
# real rows does not come so far in the first attempt; those after it end at a larger barrier.
SINGLE = Options(mu_end=1e-8, defect=5e-5, gap=5e-4, slope=1e-3, last=3e-4, full=0.8)
_ROUGH = SINGLE._replace(mu_end=8e-8)

Engine = Callable[..., Any]
Take = Callable[[slice | np.ndarray, State], None]  # is handed rows and their answers


class Task(NamedTuple):
    """What is done with a kernel: for each engine a function that compiles it, as the same function of arrays.

    Attributes:
        lanes: of the kernel, and of the rows in a vector, None for as many as fit.
        xla: of the kernel.
    """

    lanes: Callable[[Kernel, int | None], Engine]
    xla: Callable[[Kernel], Engine]


@dataclasses.dataclass(frozen=True)
class Riccati:
    """The backend with options, for `project(..., backend=Riccati(...))`.

    Attributes:
        dtype: float64, or float32: two to three times as fast. The farthest sample is then 0.03 to 0.32 mm from
            float64's in the median, within 1 mm in 87 to 99 % of rows and within 2.4 mm in 99 %
            (`benchmarks/gradients.py`).
        engine: "lanes" or "xla"; None for "lanes" where llvmlite is installed.
        width: rows in a vector of the "lanes" engine; None for as many as fit. 1 is for a single row: a vector then
            holds steps instead, and the row takes a third of the time.
        attempts: on the rows that those before left unsolved.
        STARTS: further starts where the first may have led to a poor local optimum; 0 for speed.
    """

    dtype: Any = np.float64
    engine: str | None = None
    width: int | None = None
    attempts: tuple[Options, ...] = ATTEMPTS
    STARTS: int = STARTS

    CHUNK = CHUNK

    def __post_init__(self) -> None:
        if self.engine not in (None, *ENGINES):
            raise ValueError(f"engine: expected one of {ENGINES} or None, got {self.engine!r}")
        if np.dtype(self.dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype: expected float32 or float64, got {self.dtype}")
        if self.engine == "lanes" and not _has_llvm():
            raise ImportError('engine "lanes" needs llvmlite: pip install llvmlite')

    def solve(
        self,
        problem: Problem,
        states: np.ndarray,
        controls: np.ndarray,
        *,
        elastic: bool = False,
        attempts: int | None = None,
    ) -> Solution:
        """Solves N rows.

        Args:
            problem: N rows.
            states: `(N, T + 1, S)` start.
            controls: `(N, T, C)` start.
            elastic: whether rows that read states may be exceeded, at `ELASTIC` per unit of normalised excess.
            attempts: how many of them, at most; None for all.
        """
        kernel, engine = self.compiled(problem, elastic, SOLVE)
        count, steps = len(states), controls.shape[-2]
        known = np.isfinite(problem.initial_state)
        states, controls = np.array(states, dtype=float), np.asarray(controls, dtype=float)
        states[:, 0] = np.where(known, problem.initial_state, states[:, 0])
        pending = np.flatnonzero(np.isfinite(states).all((1, 2)) & np.isfinite(problem.target).all((1, 2)))
        found, iterations = Answers(kernel, count, steps), np.zeros(count, dtype=int)
        if len(pending) < count or not self.attempts[:attempts]:
            found.states[...], found.controls[...] = states, controls
        for i, options in enumerate(self.attempts[:attempts]):
            if pending.size:
                if np.dtype(self.dtype) == np.float32:
                    within = _ROUGH if i else SINGLE
                    options = options._replace(**{name: getattr(within, name) for name in _ACCURACY})
                everyone = len(pending) == count
                some = slice(None) if everyone else pending  # a slice copies nothing
                it, data = pack(kernel, problem.select(some), states[some], controls[some])
                engine(
                    (it, data, numbers(options, len(pending))),
                    found.take if everyone else _elsewhere(found.take, pending),
                )
                iterations[some] += found.iterations[some]
                pending = pending[~found.solved[pending]]
        return Solution(found.states, found.controls, found.multipliers, iterations, found.solved)

    def compiled(self, problem: Problem, elastic: bool, task: Task) -> tuple[Kernel, Engine]:
        """The kernel of a problem's structure, and a program on it; kept for the next call.

        Args:
            problem: whose vehicle, limits and time step it is for; its rows do not matter.
            elastic: whether rows that read states may be exceeded.
            task: what the program does, with arguments that begin as `pack` and `numbers` make them.
        """
        leaves, structure = jax.tree.flatten(problem.vehicle)
        limits = tuple((m.signal, m.reads, m.lower, m.upper) for m in problem.limits)
        engine = self.engine or ("lanes" if _has_llvm() else "xla")
        key = (structure, tuple(map(float, leaves)), limits, problem.dt, problem.fractions, elastic)
        return _compile(_Structure((*key, self.width, np.dtype(self.dtype).name, engine, task), problem, elastic))


_ACCURACY = ("mu_end", "defect", "gap", "slope", "fall", "last", "full")


def solve(
    problem: Problem, states: np.ndarray, controls: np.ndarray, *, elastic: bool = False, attempts: int | None = None
) -> Solution:
    """`Riccati().solve`: float64, on the fastest engine there is."""
    return Riccati().solve(problem, states, controls, elastic=elastic, attempts=attempts)


@dataclasses.dataclass(frozen=True)
class _Structure:
    """What a program is compiled for; equal by `key`."""

    key: tuple[Any, ...]
    problem: Problem = dataclasses.field(compare=False)
    elastic: bool = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=32)
def _compile(structure: _Structure) -> tuple[Kernel, Engine]:
    *_, width, dtype, engine, task = structure.key
    stage = Stage(structure.problem, dtype)
    kernel = Kernel(stage.plain(), ELASTIC) if structure.elastic else Kernel(stage, None)
    return kernel, task.lanes(kernel, width) if engine == "lanes" else task.xla(kernel)


def _elsewhere(take: Take, places: np.ndarray) -> Take:
    """`take`, for rows that are counted among some alone."""
    return lambda rows, state: take(places[rows], state)


def _solve_in_lanes(kernel: Kernel, width: int | None) -> Engine:
    from feasible.solvers._lanes import HORIZON
    from feasible.solvers._lanes_stream import Stream

    def turns(given: Any, state: State, fresh: Any, most: Any) -> State:
        it, data, options = given
        return loop.burst(kernel, it, data, options, state, fresh, most)

    arguments = example(kernel, np.zeros(()), np.zeros(HORIZON))
    state = jax.eval_shape(lambda a: loop.begin(kernel, *a), arguments)
    leaves = (lambda state: state.done), (lambda state: state.count)
    stream = Stream(turns, arguments, state, answer, *leaves, kernel.stage.dtype, width)

    def engine(arguments: Any, take: Take) -> None:
        found = stream(arguments)
        by_rows(lambda rows: take(rows, jax.tree.map(lambda a: a[rows], found)), len(found.count))

    return engine


def _solve_by_xla(kernel: Kernel) -> Engine:
    from feasible.solvers._xla_engine import Rounds

    return Rounds(kernel, kernel.stage.dtype, answer)


SOLVE = Task(_solve_in_lanes, _solve_by_xla)


@functools.cache
def _has_llvm() -> bool:
    return importlib.util.find_spec("llvmlite") is not None
