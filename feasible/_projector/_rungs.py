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
_LISTS = ("first", "states", "controls", "samples", "inner", "entry", "margins")
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
            self._kernels[rung] = Kernel(self.kernel.stage.plain(), ELASTIC)
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
        at, to, keep = self.reply.at, self.request.at, self.horizon - shift
        S, C = len(at.first), len(at.controls)
        usable = np.isfinite(replies).all(1) & np.isfinite(offset).all(1)
        before, path = self._path(replies, at), self._path(requests, to)
        first = _block(requests, to.first)
        with np.errstate(invalid="ignore", over="ignore"):  # of rows that stay cold
            path[:, :, :keep] = before[:, :, shift:]
            first[:] = before[:, :S, shift - 1] if shift else _block(replies, at.first)
            if shift:
                x, y, yaw, speed = before[:, :4, -1, None].swapaxes(0, 1)
                ahead = speed * (self.problem.dt * np.arange(1, shift + 1))
                path[:, 0, keep:], path[:, 1, keep:] = x + ahead * np.cos(yaw), y + ahead * np.sin(yaw)
                path[:, 2, keep:], path[:, 3, keep:], path[:, 4:, keep:] = yaw, speed, 0.0
                path[:, S + C : S + C + 2, keep:] = np.nan
            else:
                _block(requests, to.entry)[:] = _block(replies, at.entry)
            path[:, :2] += offset[:, :, None]
            path[:, S + C : S + C + 2] += offset[:, :, None]
            first[:, :2] += offset
        requests[:, to.warm] = 1.0
        if not usable.all():
            for values in (path, first, _block(requests, to.entry), requests[:, to.warm]):
                values[~usable] = 0.0

    def _path(self, rows: np.ndarray, at: Any) -> np.ndarray:
        """The view `(N, S + C + 2 + Z, T)` of states, controls, samples and prices of requests or replies."""
        places = [*at.states, *at.controls, *at.samples, *at.inner]
        return rows[:, places[0].start : places[-1].stop].reshape(len(rows), len(places), self.horizon)

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
            samples=[horizon] * 2,
            inner=[horizon] * len(of_steps),
            entry=[number] * len(of_entry),
            margins=[number] * len(self.problem.limits),
            **dict.fromkeys(_NUMBERS, number),
        )


def _block(rows: np.ndarray, places: list[slice]) -> np.ndarray:
    """The view of neighbouring leaves."""
    return rows[:, places[0].start : places[-1].stop] if places else rows[:, :0]
