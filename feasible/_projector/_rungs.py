"""The compiled rungs of a projector, and how long they take."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from feasible._problem import Problem
from feasible._projector import _program
from feasible._projector._request import Layout, Reply, Request, example
from feasible.solvers._lanes import HORIZON, Program
from feasible.solvers._riccati_kernel import Kernel
from feasible.solvers._riccati_loop import Options
from feasible.solvers._riccati_stage import Stage
from feasible.solvers._sqp import ELASTIC

RUNGS = ("hard", "elastic", "brake")
_LISTS = ("first", "states", "controls", "inner", "entry", "margins")
_NUMBERS = tuple(name for name in Reply._fields if name not in _LISTS)


class Rungs:
    """Programs of flat rows, compiled when first needed.

    Args:
        problem: whose vehicle, limits and time step they are for.
        horizon: T.
        width: rows in a vector.
    """

    def __init__(self, problem: Problem, horizon: int, width: int):
        self.horizon, self.width = horizon, width
        self._kernels = {
            "hard": Kernel(Stage(problem, np.float64), None),
        }
        self.problem = problem
        self._programs: dict[str, Program] = {}
        self._locks = {rung: threading.Lock() for rung in RUNGS}
        number = np.zeros(())
        self.request = Layout.of(example(self.kernel, number, np.zeros(1)), horizon)
        self.reply = Layout.of(self._reply(), horizon)

    @property
    def kernel(self) -> Kernel:
        """Of the hard problem."""
        return self._kernels["hard"]

    def function(self, rung: str) -> tuple[Kernel, Callable[[Request], Reply]]:
        """The traced function of a rung, and its kernel."""
        if rung == "elastic" and rung not in self._kernels:
            self._kernels[rung] = Kernel(self.kernel.stage, ELASTIC)
        kernel = self._kernels.get(rung, self.kernel)
        return kernel, functools.partial(_program.fallback if rung == "brake" else _program.project, kernel)

    def program(self, rung: str) -> Program:
        """Compiled at the first call."""
        if rung not in self._programs:
            with self._locks[rung]:
                if rung not in self._programs:
                    kernel, function = self.function(rung)
                    arguments = example(kernel, np.zeros(()), np.zeros(HORIZON))
                    self._programs[rung] = Program(function, arguments, np.float64, self.width)
        return self._programs[rung]

    def run(self, rung: str, rows: np.ndarray) -> np.ndarray:
        """Flat replies `(N, reply.size)` to flat requests `(N, request.size)`."""
        return self.program(rung).flat(rows, self.horizon)

    def timed(self, rung: str, rows: np.ndarray, repeats: int) -> list[float]:
        """Seconds of some runs."""
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            self.run(rung, rows)
            seconds.append(time.perf_counter() - began)
        return seconds

    def set_options(self, rows: np.ndarray, which: Any, options: Options) -> None:
        """Writes the numbers of the iteration into some requests."""
        _block(rows, self.request.at.options)[which] = options

    def motion(self, replies: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Views of first states `(N, S)`, states `(N, S, T)` and controls `(N, C, T)`."""
        at = self.reply.at
        states, controls = (
            _block(replies, a).reshape(len(replies), len(a), self.horizon) for a in (at.states, at.controls)
        )
        return _block(replies, at.first), states, controls

    def start_from(self, requests: np.ndarray, replies: np.ndarray, offset: np.ndarray, shift: int) -> None:
        """Writes replies, `shift` steps later and moved by `offset` `(N, 2)`, as warm starts into requests.

        Beyond their end the car rolls on in the same gear; rows that are not finite stay cold.
        """
        at, to, T, dt = self.reply.at, self.request.at, self.horizon, self.problem.dt
        first, states, controls = self.motion(replies)
        prices = _block(replies, at.inner).reshape(len(replies), -1, T)
        usable = np.isfinite(replies).all(1) & np.isfinite(offset).all(1)
        moved, inputs, costs = (np.zeros((len(replies), a.shape[1], T)) for a in (states, controls, prices))
        keep = T - shift
        moved[:, :, :keep], inputs[:, :, :keep], costs[:, :, :keep] = (
            a[:, :, shift:] for a in (states, controls, prices)
        )
        rolling = states[:, :, -1].copy()
        rolling[:, 4:] = 0.0
        for k in range(keep, T):
            rolling = self.problem.vehicle.step(rolling, np.zeros((len(rolling), controls.shape[1])), dt)
            moved[:, :, k] = rolling
        start = states[:, :, shift - 1].copy() if shift else first.copy()
        start[:, :2] += offset
        moved[:, :2] += offset[:, :, None]
        for place, value in ((to.first, start), (to.states, moved), (to.controls, inputs), (to.inner, costs)):
            _block(requests, place)[usable] = value.reshape(len(value), -1)[usable]
        if shift == 0:
            _block(requests, to.entry)[usable] = _block(replies, at.entry)[usable]
        requests[usable, to.warm] = 1.0

    def _reply(self) -> Reply:
        """A reply of blank scalars and horizons."""
        kernel = self.kernel
        S, C = kernel.stage.S, kernel.stage.C
        of_steps, of_entry = kernel.one_sided()
        number, horizon = np.zeros(()), np.zeros(1)
        return Reply(
            first=[number] * S,
            states=[horizon] * S,
            controls=[horizon] * C,
            inner=[horizon] * len(of_steps),
            entry=[number] * len(of_entry),
            margins=[number] * len(self.problem.limits),
            **dict.fromkeys(_NUMBERS, number),
        )


def _block(rows: np.ndarray, places: list[slice]) -> np.ndarray:
    """The view of neighbouring leaves."""
    return rows[:, places[0].start : places[-1].stop] if places else rows[:, :0]
