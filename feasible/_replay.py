"""`replay`: a projector over a sequence of plans as a vehicle would run it, and what that was like.

Plan n comes in at time n · period, in one world frame. The vehicle drives its projection for one period, and where it
is then is the initial state of the next call; the answer is the next call's warm start. A replay is the rehearsal
before a projector goes behind a planner: its latency on this machine, how often it does not project, and whether
consecutive plans agree on the future that both of them describe.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
from collections import Counter
from typing import Any

import numpy as np

from feasible._arrays import to_numpy
from feasible._projector import Plan, Projector
from feasible._status import Status
from feasible._trajectory import Trajectory

QUANTILES = {"median": 0.5, "p99": 0.99, "p999": 0.999, "largest": 1.0}


@dataclasses.dataclass(frozen=True, eq=False)
class Jump:
    """Between consecutive plans at equal times [m]: `mean` and `max` over their overlap; NaN where there is none."""

    mean: np.ndarray
    max: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Replay:
    """What N calls were like; `str()` is a table, `to_json()` has the certificates as well.

    Attributes:
        plans: the answers, in order.
        latency: `(N,)` seconds that the caller waited for each.
        executed: `(N + 1, S)` where the vehicle was at each call, and one period after the last.
        jump: of the answers, `(N - 1, ...)` with the modes' axis where there is one.
        given_jump: of the plans as they came in; what the projector was up against.
        period: between calls [s]. deadline: of the projector [s], or None.
    """

    plans: tuple[Plan, ...]
    latency: np.ndarray
    executed: np.ndarray
    jump: Jump
    given_jump: Jump
    period: float
    deadline: float | None

    @functools.cached_property
    def status(self) -> np.ndarray:
        """`(N, ...)` int, members of `Status`."""
        return np.stack([plan.status for plan in self.plans])

    @functools.cached_property
    def iterations(self) -> np.ndarray:
        """`(N, ...)`."""
        return np.stack([plan.iterations for plan in self.plans])

    @functools.cached_property
    def converged(self) -> np.ndarray:
        """`(N, ...)` bool."""
        return np.stack([plan.converged for plan in self.plans])

    @property
    def late(self) -> int:
        """Calls that took longer than the deadline."""
        return 0 if self.deadline is None else int((self.latency > self.deadline).sum())

    @property
    def unsolved(self) -> float:
        """Share of the trajectories that are neither unchanged nor projected."""
        return float((self.status > Status.PROJECTED).mean())

    def to_dict(self) -> dict[str, Any]:
        """Totals, and a certificate per call and mode, for JSON: what is not a number is None."""
        counts = Counter(self.status.ravel().tolist())
        cycles = [
            {"time": n * self.period, "latency": float(self.latency[n]), "certificates": list(plan.certificates)}
            for n, plan in enumerate(self.plans)
        ]
        for n, cycle in enumerate(cycles[1:]):
            cycle |= {"jump_mean": _numbers(self.jump.mean[n]), "jump_max": _numbers(self.jump.max[n])}
        return {
            "plans": len(self.plans),
            "modes": self.status[0].size,
            "period": self.period,
            "deadline": self.deadline,
            "late": self.late,
            "latency": _quantiles(self.latency),
            "status": {s.name.lower(): counts[s] / self.status.size for s in Status},
            "converged": float(self.converged.mean()),
            "iterations": _quantiles(self.iterations),
            "jump_mean": _quantiles(self.jump.mean),
            "jump_max": _quantiles(self.jump.max),
            "given_jump_mean": _quantiles(self.given_jump.mean),
            "given_jump_max": _quantiles(self.given_jump.max),
            "cycles": cycles,
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def __str__(self) -> str:
        lines: list[tuple[str, ...]] = [("", "median", "99 %", "99.9 %", "largest")]
        for label, values, unit in (
            ("latency [ms]", self.latency, 1e3),
            ("iterations", self.iterations, 1),
            ("jump, mean [m]", self.jump.mean, 1),
            ("jump, largest [m]", self.jump.max, 1),
            ("given jump, mean [m]", self.given_jump.mean, 1),
            ("given jump, largest [m]", self.given_jump.max, 1),
        ):
            found = [v if v is None else unit * v for v in _quantiles(values).values()]
            lines.append((label, *("–" if v is None else f"{v:.3g}" for v in found)))
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        table = [
            "  ".join([label.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))])
            for label, *cells in lines
        ]
        counts = Counter(self.status.ravel().tolist())
        shares = ", ".join(f"{counts[s] / self.status.size:.1%} {s.name.lower()}" for s in Status)
        modes = "" if self.status.ndim == 1 else f" of {self.status.shape[1]} modes"
        due = "no deadline" if self.deadline is None else f"{self.late} later than {1e3 * self.deadline:g} ms"
        share = f"{self.converged.mean():.1%} converged"
        head = f"{len(self.plans)} plans{modes}, one each {self.period:g} s; {due}; {share}"
        return "\n".join([*table, head, shares])


def replay(
    plans: Any,
    projector: Projector,
    *,
    period: float | None = None,
    initial_state: Any = None,
    feedback: bool = True,
    warm: bool = True,
    mode: int = 0,
) -> Replay:
    """Calls a projector with one plan after another.

    Args:
        plans: `(N, T)` or `(N, K, T)`, or an iterable of what the projector takes; in one frame, in order. Modes are
            matched by their place, so they should keep it.
        projector: warmed up, unless its first calls are to show what they cost.
        period: time between plans [s]; None for one step.
        initial_state: `(d,)` of the first call. Without feedback `(N, d)` or `(N, K, d)`, of every call. None: free.
        feedback: start each call where the vehicle is after driving the answer before. Off for a log of a vehicle that
            drove something else, as its plans do not start where these answers lead.
        warm: pass each answer on as the next call's warm start.
        mode: which of the K modes the vehicle drives.

    Raises:
        ValueError: for a period or mode that cannot be, or no plans, and what the projector raises.
    """
    vehicle, dt = projector._problem.vehicle, projector.dt
    period = check_period(period, projector.horizon, dt)
    state, latency, executed = initial_state, [], []
    done: list[Plan] = []
    jumps: list[tuple[np.ndarray, np.ndarray]] = []
    given_jumps: list[tuple[np.ndarray, np.ndarray]] = []
    seen = None
    for n, given in enumerate(plans):
        if not feedback and initial_state is not None:
            state = initial_state[n]
        before = done[-1] if done else None
        began = time.perf_counter()
        plan = projector(given, initial_state=state, warm_start=before if warm else None, elapsed=period)
        latency.append(time.perf_counter() - began)
        samples = _samples(given)
        if before is not None and seen is not None:
            jumps.append(_distance(_ahead(before, vehicle, dt, period), plan.states[..., 1:, :2]))
            given_jumps.append(_distance(_shifted(seen, period / dt), samples))
        done.append(plan)
        seen = samples
        here = plan.states, plan.controls
        if plan.status.ndim:
            if not 0 <= mode < len(plan.status):
                raise ValueError(f"mode: expected one of the {len(plan.status)} modes from 0, got {mode}")
            here = plan.states[mode], plan.controls[mode]
        executed.append(here[0][0])
        after = _state(*here, vehicle, dt, period)
        state = after if feedback else None
    if not done:
        raise ValueError("plans: expected at least one")
    batch = done[0].status.shape
    return Replay(
        plans=tuple(done),
        latency=np.array(latency),
        executed=np.stack([*executed, after]),
        jump=_jump(jumps, batch),
        given_jump=_jump(given_jumps, batch),
        period=period,
        deadline=projector.deadline,
    )


def check_period(period: float | None, horizon: int, dt: float) -> float:
    """The period [s]; raises ValueError for one in which a vehicle would come to the end of its plan."""
    if period is None:
        return dt
    if not 0 < period <= horizon * dt * (1 + 1e-9):
        raise ValueError(f"period: expected seconds up to the plan's {horizon * dt:g}, got {period:g}")
    return float(period)


def _split(steps: float, most: int) -> tuple[int, float]:
    """Whole steps, and the rest as a share of one."""
    whole = min(math.floor(steps + 1e-6), most)
    return whole, max(steps - whole, 0.0) if steps - whole > 1e-6 else 0.0


def _state(states: np.ndarray, controls: np.ndarray, vehicle: Any, dt: float, period: float) -> np.ndarray:
    """Where a motion is after a period, by the model."""
    whole, rest = _split(period / dt, len(controls))
    return vehicle.step(states[whole], controls[whole], rest * dt) if rest else states[whole]


def _ahead(plan: Plan, vehicle: Any, dt: float, period: float) -> np.ndarray:
    """Positions `(..., n, 2)` of a plan at the times of the next plan's samples, as far as it reaches."""
    horizon = plan.controls.shape[-2]
    whole, rest = _split(period / dt, horizon)
    if not rest:
        return plan.states[..., whole + 1 :, :2]
    later = slice(whole + 1, horizon)
    return vehicle.step(plan.states[..., later, :], plan.controls[..., later, :], rest * dt)[..., :2]


def _shifted(samples: np.ndarray, steps: float) -> np.ndarray:
    """Positions `(..., n, 2)` of samples that many steps later, linear in between."""
    whole, rest = _split(steps, samples.shape[-2])
    later = samples[..., whole:, :]
    return later if not rest else (1 - rest) * later[..., :-1, :] + rest * later[..., 1:, :]


def _samples(given: Any) -> np.ndarray:
    """Positions `(..., T, 2)` of what a projector was given, NaN where a sample is missing."""
    if isinstance(given, Trajectory):
        points = np.stack([to_numpy(given.x), to_numpy(given.y)], axis=-1).astype(float)
        return np.where(to_numpy(given.valid)[..., None], points, np.nan)
    points = np.asarray(to_numpy(given), dtype=float)
    return np.where(np.isfinite(points).all(-1, keepdims=True), points[..., :2], np.nan)


def _distance(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and largest distance of positions `(..., T, 2)` that are there in both."""
    both = min(before.shape[-2], after.shape[-2])
    gap = before[..., :both, :] - after[..., :both, :]
    far = np.hypot(gap[..., 0], gap[..., 1])
    known = np.isfinite(far)
    some = known.any(-1)
    mean = np.where(known, far, 0.0).sum(-1) / np.maximum(known.sum(-1), 1)
    return np.where(some, mean, np.nan), np.where(some, np.where(known, far, 0.0).max(-1, initial=0.0), np.nan)


def _jump(found: list[tuple[np.ndarray, np.ndarray]], batch: tuple[int, ...]) -> Jump:
    mean, most = (np.array([pair[i] for pair in found]).reshape(-1, *batch) for i in (0, 1))
    return Jump(mean, most)


def _quantiles(values: np.ndarray) -> dict[str, float | None]:
    known = values[np.isfinite(values)]
    return {name: float(np.quantile(known, q)) if known.size else None for name, q in QUANTILES.items()}


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values.ravel()]
