"""`Projector`: set up once, called many times a second; whatever comes in, what goes out can be driven.

    projector = feasible.Projector(vehicle, limits, horizon=80, dt=0.1, deadline=0.01)
    projector.warmup()
    plan = projector(values, initial_state=now)                                   # (T, 2) or (K, T, 2)
    plan = projector(values, initial_state=now, warm_start=plan, elapsed=0.1)     # the next cycle

A call descends a ladder until it has something: hard limits, from the warm start if there is one; tighter ones, where
an answer exceeds them between the points; hard limits again, from the lift; elastic limits; braking. Each rung is one
compiled program (`_program`) that ends with a check that is not the solver's, and none but the last begins without time
for its end. A projector keeps nothing between calls, so threads may share it.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

import numpy as np

from feasible._arrays import to_numpy
from feasible._frame import FARTHEST, initial_states
from feasible._limits import check_limits
from feasible._problem import Problem, Weights, sample_counts
from feasible._project import Displacement
from feasible._projector._descent import COLD, Clock, Found, descend
from feasible._projector._plan import Plan
from feasible._projector._rungs import RUNGS, Rungs
from feasible._projector._specification import digest, specification
from feasible._trajectory import COLUMNS, MIN_STEPS, Trajectory, check_columns, check_dt

_LATE = 2.0  # a rung may take that much longer than the best time of the warm-up
_NOWHERE = 1e12  # m: beyond, differences of coordinates mean nothing


class Projector:
    """The projection of one trajectory, or of K modes, per call.

    Args:
        vehicle: the model that must be able to drive the plan.
        limits: a tuple of `Limit`.
        horizon: T, samples of a trajectory.
        dt: time between them [s].
        weights: of the objective; see `Weights`.
        deadline: seconds from a call to its answer, or None. The answer at the deadline is the solver's iterate,
            repaired and checked, or the fallback; a deadline of 0 gives the fallback. The first call after
            `warmup` keeps it; it is not a guarantee of an operating system that is not real-time.
        consistency: weight [1/m²] of the squared distance from the warm start's positions: a plan that the next
            one should not leave without reason. It moves plans away from their samples, so it is 0 by default.
        modes: the most rows per call that it is tuned for; more are served too.

    Raises:
        ValueError: for arguments that cannot be right.
    """

    def __init__(
        self,
        vehicle: Any,
        limits: Any,
        *,
        horizon: int,
        dt: float,
        weights: Weights | None = None,
        deadline: float | None = None,
        consistency: float = 0.0,
        modes: int = 1,
    ):
        check_dt(dt)
        if horizon < MIN_STEPS:
            raise ValueError(f"horizon: expected at least {MIN_STEPS} time steps, got {horizon}")
        if deadline is not None and not deadline >= 0:
            raise ValueError(f"deadline: expected seconds >= 0 or None, got {deadline}")
        if not 0 <= consistency < np.inf:
            raise ValueError(f"consistency: expected a weight >= 0, got {consistency}")
        if modes < 1:
            raise ValueError(f"modes: expected at least 1, got {modes}")
        self.horizon, self.dt, self.deadline, self.consistency = int(horizon), float(dt), deadline, float(consistency)
        self.weights = weights or Weights()
        limits = check_limits(limits)
        S = len(vehicle.STATES)
        blank = np.zeros((1, self.horizon, 4))
        effort = np.asarray(self.weights.controls)
        self._problem = Problem(vehicle, limits, self.dt, blank, blank, np.full((1, S), np.nan), effort)
        self._rungs = Rungs(self._problem, self.horizon, 1 if modes == 1 else 4 if modes <= 4 else 8)
        self.specification = specification(vehicle, limits, self.weights, self.horizon, self.dt, self.consistency)
        self.configuration = digest(self.specification)
        self._blanks: dict[tuple[bool, ...], np.ndarray] = {}
        self._cost: dict[str, tuple[float, float]] = {}  # per rung: seconds of a call, and of an iteration

    def warmup(self) -> Projector:
        """Compiles every rung and measures its time, some seconds; returns itself.

        Without it the first call that needs a rung compiles it, and a deadline is kept from then on.
        """
        with ThreadPoolExecutor(len(RUNGS)) as pool:  # LLVM works outside of Python's lock
            list(pool.map(self._rungs.program, RUNGS))
        self._measure()
        return self

    @staticmethod
    def certificate_schema() -> dict[str, Any]:
        """The JSON schema (draft 2020-12) of one of a plan's `certificates`."""
        return json.loads(resources.files("feasible._projector").joinpath("certificate.schema.json").read_text())

    def __call__(
        self,
        trajectory: Any,
        *,
        initial_state: Any = None,
        sample_weight: Any = None,
        warm_start: Plan | None = None,
        elapsed: float | None = None,
    ) -> Plan:
        """Answers one request.

        Args:
            trajectory: a `Trajectory` `(T)` or `(K, T)`, or an array `(..., T, D)` of x, y and, with D > 2, yaw and
                speed. Samples that are not finite count as missing.
            initial_state: `(d,)` or `(K, d)`, d <= 6, *now*, one step before the first sample: x, y, yaw, speed,
                acceleration, curvature. Missing or NaN components are free, and half a position is none. None: all
                are estimated. Where the samples are nowhere near it, it is believed and they are not.
            sample_weight: `(T)` or `(K, T)`, see `feasible.project`.
            warm_start: the plan of an earlier call, with as many modes; one that is not finite is dropped, and
                one whose samples were some centimetres elsewhere, from which a cold start is shorter. Weights of
                samples are not compared: where they changed threefold it is shorter without the plan.
            elapsed: time since that call [s], rounded to steps; None for one step.

        Raises:
            ValueError: for a shape, a dt or a plan that does not fit. No value of a number raises.
        """
        began = time.perf_counter()
        batch, values, stated = self._values(trajectory)
        count = len(values)
        initial = initial_states(_whole(initial_state), batch, len(self._problem.vehicle.STATES))
        counts = None
        if sample_weight is not None:
            counts = sample_counts(sample_weight, np.ones((*batch, self.horizon))).reshape(count, self.horizon)
            values = np.where(counts[..., None] > 0.0, values, np.nan)
        origin = _origin(values, initial)
        request = self._request(values, stated, initial, origin)
        if counts is not None:  # a missing sample is NaN, and one without weight would count as present
            _horizons(request, self._rungs.request.at.weight)[:] *= np.where(counts > 0.0, counts, 1.0)[:, None]
        if warm_start is not None:
            self._warm(request, warm_start, batch, origin, self.dt if elapsed is None else elapsed)
        given = self._given(request)
        found = descend(self._rungs, request, given, self._clock(began, count))
        return self._plan(batch, found, origin, began)

    def export(self, path: Any, *, artefact: bool = True, c: bool = True) -> Any:
        """Writes a folder that answers as this projector does, without Python or on an accelerator.

        It holds specification.json (vehicle, limits, weights, discretisation), golden.json (requests and their
        answers), a README, and two forms of the programs: `artefact/`, by `jax.export` for any number of rows on cpu
        and cuda, which `feasible.load_projector` calls like this class; and `c/`, C99 for one trajectory per call
        that allocates nothing and needs <math.h> and <string.h>. Both descend the same ladder and agree with the
        golden answers to 1e-4 m. In C the deadline is a bound on linearisations, since C99 has no clock for it, and
        there is no `sample_weight`.

        Args:
            path: of the folder; an earlier export there is replaced, anything else is not.
            artefact: whether to write `artefact/`; needs flatbuffers.
            c: whether to write `c/`.

        Returns:
            The path.

        Raises:
            FileExistsError: if something else is there.
            ImportError: if flatbuffers is not installed and the artefact is wanted.
        """
        from feasible._export.folder import export

        return export(self, path, artefact=artefact, c=c)

    def _clock(self, began: float, count: int) -> Clock:
        if self.deadline is None:
            return Clock(None, {}, 1)
        if not self._cost:
            self._measure()
            began = time.perf_counter()
        return Clock(began + self.deadline, self._cost, -(-count // self._rungs.width))

    def _measure(self) -> None:
        """What each rung costs, from a drive around a bend that its start is not near."""
        t = self.dt * np.arange(1, self.horizon + 1)
        values = np.full((1, self.horizon, 4), np.nan)
        values[0, :, 0], values[0, :, 1] = 10.0 * t, 3.0 * np.sin(t)
        stated, free = (True, True, False, False), np.full((1, len(self._problem.vehicle.STATES)), np.nan)
        request = self._request(values, stated, free, np.zeros((1, 2)))
        few, many = (COLD._replace(iterations=n, mu_end=0.0, slope=0.0, fall=0.0) for n in (1, 16))
        cost = {}
        for rung in RUNGS:
            seconds = []
            for options in (few, many):
                self._rungs.set_options(request, slice(None), options)
                self._rungs.run(rung, request)
                seconds.append(min(self._rungs.timed(rung, request, 9)))  # what others do to the clock is not its
            base, each = seconds[0], max(seconds[1] - seconds[0], 0.0) / 15
            cost[rung] = _LATE * base, _LATE * each
        self._cost = cost  # at once: another thread may be waiting for all of it

    def _values(self, trajectory: Any) -> tuple[tuple[int, ...], np.ndarray, tuple[bool, ...]]:
        """Batch shape, `(N, T, 4)` with NaN where a sample is missing or a column not stated, and which are."""
        if isinstance(trajectory, Trajectory):
            if abs(float(trajectory.dt) - self.dt) > 1e-9 * self.dt:
                raise ValueError(f"trajectory: expected dt = {self.dt} s, as the projector has, got {trajectory.dt}")
            columns = trajectory.columns
            values = to_numpy(trajectory.to_array(columns)).astype(float)
            values = np.where(to_numpy(trajectory.valid)[..., None], values, np.nan)
        else:
            values = np.asarray(to_numpy(trajectory), dtype=float)
            columns = COLUMNS[: values.shape[-1]] if values.ndim else ()
            check_columns(columns)
        if values.ndim not in (2, 3) or values.shape[-2:] != (self.horizon, len(columns)):
            raise ValueError(
                f"trajectory: expected shape ({self.horizon}, D) or (K, {self.horizon}, D), D from 2 to 4, "
                f"got {values.shape}"
            )
        full = np.full((*values.shape[:-1], 4), np.nan)
        if columns == COLUMNS[: len(columns)]:
            full[..., : len(columns)] = values  # a slice is faster
        else:
            full[..., [COLUMNS.index(c) for c in columns]] = values
        return values.shape[:-2], full.reshape(-1, self.horizon, 4), tuple(c in columns for c in COLUMNS)

    def _request(
        self, values: np.ndarray, stated: tuple[bool, ...], initial: np.ndarray, origin: np.ndarray
    ) -> np.ndarray:
        """Flat requests without a warm start."""
        if stated not in self._blanks:
            self._blanks[stated] = self._blank(stated)
        request = np.empty((len(values), self._rungs.request.size))
        request[:] = self._blanks[stated]
        at = self._rungs.request.at
        target, start = _horizons(request, at.target), request[:, at.initial[0].start : at.initial[-1].stop]
        target[:], start[:] = values.transpose(0, 2, 1), initial
        request[:, at.consistency] = self.consistency
        with np.errstate(over="ignore", invalid="ignore"):  # what is too far away is missing
            target[:, :2] -= origin[:, :, None]
            start[:, :2] -= origin
        return request

    def _blank(self, stated: tuple[bool, ...]) -> np.ndarray:
        """What requests with these columns have in common."""
        at, w = self._rungs.request.at, self.weights
        blank = np.zeros(self._rungs.request.size)
        for place, weight, is_stated in zip(at.weight, w.of_sample, stated, strict=True):
            blank[place] = weight if is_stated else 0.0
        for place, effort in zip(at.effort, w.controls, strict=True):
            blank[place] = effort
        return blank

    def _given(self, request: np.ndarray) -> np.ndarray:
        """`(N,)`: whether a row has any sample that the programs will not drop."""
        at = self._rungs.request.at
        target, weight = _horizons(request, at.target), _horizons(request, at.weight)
        sound: np.ndarray = ((np.abs(target) <= FARTHEST) | (weight == 0.0)).all(1).any(-1)
        return sound

    def _warm(
        self, request: np.ndarray, plan: Plan, batch: tuple[int, ...], origin: np.ndarray, elapsed: float
    ) -> None:
        """Writes the plan, moved on by the elapsed time, into the requests; not where it is not finite."""
        if plan.configuration != self.configuration:
            raise ValueError("warm_start: expected a plan of a projector with this configuration")
        if plan.status.shape != batch:
            raise ValueError(f"warm_start: expected a plan with batch axes {batch}, got {plan.status.shape}")
        if not elapsed >= 0:
            raise ValueError(f"elapsed: expected seconds >= 0, got {elapsed}")
        if elapsed / self.dt < self.horizon - 0.5:
            self._rungs.start_from(request, plan._rows, plan._origin - origin, round(elapsed / self.dt))

    def _plan(self, batch: tuple[int, ...], found: Found, origin: np.ndarray, began: float) -> Plan:
        at, rows = self._rungs.reply.at, found.rows
        S, C = len(self._problem.vehicle.STATES), len(self._problem.vehicle.CONTROLS)
        first, states, controls = self._rungs.motion(rows)
        path = np.empty((len(rows), self.horizon + 1, S))
        path[:, 0], path[:, 1:] = first, states.swapaxes(1, 2)
        path[..., :2] += origin[:, None]

        def number(place: slice) -> np.ndarray:
            return rows[:, place.start].reshape(batch)

        return Plan(
            states=path.reshape(*batch, self.horizon + 1, S),
            controls=controls.swapaxes(1, 2).reshape(*batch, self.horizon, C),
            status=found.status.reshape(batch),
            converged=(rows[:, at.converged.start] > 0).reshape(batch),
            iterations=found.iterations.reshape(batch),
            violation=found.violation.reshape(batch),
            dynamics_residual=number(at.residual),
            displacement=Displacement(number(at.mean), number(at.most)),
            objective=number(at.objective),
            configuration=self.configuration,
            _rows=rows,
            _origin=origin,
            _rungs=self._rungs,
            seconds=time.perf_counter() - began,
        )


def _horizons(rows: np.ndarray, places: list[slice]) -> np.ndarray:
    """The view `(N, len(places), T)` of neighbouring horizons."""
    return rows[:, places[0].start : places[-1].stop].reshape(len(rows), len(places), places[0].stop - places[0].start)


def _whole(initial_state: Any) -> Any:
    """The initial state with a position of two numbers or none."""
    if initial_state is None:
        return None
    given = np.array(to_numpy(initial_state), dtype=float)
    if given.ndim and given.shape[-1] > 1:
        given[~np.isfinite(given[..., :2]).all(-1), :2] = np.nan
    return given


def _origin(values: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """`(N, 2)`: the given position, or the first sample that is finite; coordinates stay small in its frame."""
    given, first = initial[:, :2], values[:, 0, :2]
    near = (np.abs(given) <= _NOWHERE).all(1)  # NaN is not near
    if near.all():
        return given.copy()
    if not np.isfinite(first).all():
        sound = np.isfinite(values[..., :2]).all(-1)
        first = np.where(sound.any(1)[:, None], values[np.arange(len(values)), sound.argmax(1), :2], 0.0)
    return np.where(near[:, None], given, first)
