"""The problems that everybody solves, and the judge of everybody's answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import feasible
from benchmarks.real_data import DT, PRESETS, load, moving
from feasible._frame import initial_states, localise
from feasible._ladder import begin
from feasible._problem import Problem, Weights

DEFECT, EXCESS = 1e-3, 1e-3  # of an answer that counts, in float64
RELATIVE, ABSOLUTE = 1e-3, 1e-4  # above the best objective known
NOISE = 0.1  # m, white, on synthetic drives
VEHICLE = feasible.vehicles.nuplan_pacifica()


@dataclasses.dataclass(frozen=True)
class Rows:
    """N projections with the start that every method gets.

    Attributes:
        name: of the set. preset: of the limits.
        problem: N rows.
        states: `(N, T + 1, S)` start. controls: `(N, T, C)` start.
    """

    name: str
    preset: str
    problem: Problem
    states: np.ndarray
    controls: np.ndarray

    def __len__(self) -> int:
        return len(self.states)

    def __reduce__(self) -> tuple[Any, ...]:
        # Limits are functions made at run time and do not travel between processes; their preset's name does.
        p = self.problem
        return _restore, (self.name, self.preset, p.target, p.weight, p.initial_state, self.states, self.controls)

    def take(self, index: object) -> Rows:
        """Some of the rows."""
        return dataclasses.replace(
            self, problem=self.problem.select(index), states=self.states[index], controls=self.controls[index]
        )

    def started_at(self, states: np.ndarray, controls: np.ndarray, shift: np.ndarray) -> Rows:
        """The same rows with positions moved by `shift` `(N, T, 2)`, and another start."""
        target = self.problem.target.copy()
        target[..., :2] += shift
        return dataclasses.replace(
            self, problem=dataclasses.replace(self.problem, target=target), states=states, controls=controls
        )


def _restore(name: str, preset: str, *arrays: np.ndarray) -> Rows:
    limits, effort = feasible.presets.get(preset), np.asarray(Weights().controls)
    return Rows(name, preset, Problem(VEHICLE, limits, DT, *arrays[:3], effort), *arrays[3:])


def build(name: str, preset: str, values: np.ndarray) -> Rows:
    """Rows from positions `(N, T, 2)`, the initial state free."""
    trajectory = feasible.Trajectory.from_array(values, dt=DT)
    free = initial_states(None, trajectory.batch_shape, 6)
    problem = localise(trajectory, VEHICLE, feasible.presets.get(preset), free, Weights())[1]
    return Rows(name, preset, problem, begin(problem), np.zeros((len(values), values.shape[1], 2)))


def pick(data: Path, count: int, seed: int) -> np.ndarray:
    """`(count, 60, 2)` moving predictions, an equal number of each file, in random order: a prefix is a fair sample."""
    rng = np.random.default_rng(seed)
    files = [v for k, (v, _) in load(data).items() if (data / "predictions" / f"{k}.npz").exists()]
    files = [v[moving(v)] for v in files if v.shape[1] == 60]
    share = -(-count // len(files))
    picked = np.concatenate([v[rng.choice(len(v), share, replace=len(v) < share)] for v in files])
    return picked[rng.permutation(len(picked))[:count]]


def real(data: Path, count: int, seed: int) -> dict[str, Rows]:
    """`pick` under each preset."""
    picked = pick(data, count, seed)
    return {f"real T=60 {p}": build(f"real T=60 {p}", p, picked) for p in PRESETS}


def synthetic(steps: int, count: int, preset: str, seed: int) -> Rows:
    """Noisy samples of drives whose jerk and curvature rate are a few sines."""
    rng = np.random.default_rng([seed, steps])
    t = DT * np.arange(steps)

    def waves(low: float, high: float) -> np.ndarray:
        frequency, phase = rng.uniform(low, high, (3, count, 1)), rng.uniform(0, 2 * np.pi, (3, count, 1))
        return np.sin(2 * np.pi * frequency * t + phase).sum(0) / 3

    # Sines of jerk shift the mean speed by jerk / ω², so the slowest is fast enough for the speed to stay positive.
    state = np.zeros((count, 6))
    state[:, 2], state[:, 3] = rng.uniform(-np.pi, np.pi, count), rng.uniform(8, 16, count)
    acceleration, curvature = 2.0 * waves(0.1, 0.3), 0.02 * waves(0.05, 0.3)
    state[:, 4], state[:, 5] = acceleration[:, 0], curvature[:, 0]
    controls = np.gradient(np.stack([acceleration, curvature], axis=-1), DT, axis=1)
    path = [state]
    for k in range(steps):
        path.append(VEHICLE.step(path[-1], controls[:, k], DT))
    values = np.stack(path[1:], axis=1)[..., :2] + NOISE * rng.normal(size=(count, steps, 2))
    name = f"synthetic T={steps} {preset}"
    return build(name, preset, values)


def residuals(problem: Problem, states: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest defect and largest normalised excess of N rows, `(N,)` each; inf where not finite."""
    with np.errstate(all="ignore"):
        defect = np.abs(problem.defect(states, controls)).max((1, 2))
        excess = problem.excess(states, controls).max((0, 2))
    return np.nan_to_num(defect, nan=np.inf), np.nan_to_num(excess, nan=np.inf)


def passes(problem: Problem, states: np.ndarray, controls: np.ndarray, best: np.ndarray | None) -> np.ndarray:
    """`(N,)` bool: kept dynamics and limits, and an objective as good as the best known where there is one."""
    states, controls = np.asarray(states, dtype=float), np.asarray(controls, dtype=float)
    defect, excess = residuals(problem, states, controls)
    good = (defect <= DEFECT) & (excess <= EXCESS)
    if best is not None:
        worst = np.where(np.isfinite(best), best * (1 + RELATIVE) + ABSOLUTE, np.inf)
        good &= problem.objective(states, controls) <= worst
    return good
