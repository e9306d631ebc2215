"""What a vehicle would ask for, cycle after cycle: real predictions seen anew every 0.1 s, and the judge of answers.

A prediction of 6 s is smoothed; what was smoothed away is its jitter. Cycle c looks 6 s ahead from c steps down the
smoothed path (which goes on straight at its end), with that jitter on top, turned in time and in sign anew: so plans
of consecutive cycles agree up to the noise that the model itself has. Six modes are the path driven slower, and
drifting to the sides. The initial state is that of a vehicle which drives the answers, recorded once, so that
everybody gets the same problems.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from scipy.signal import savgol_filter

import feasible
from benchmarks.peers.problems import VEHICLE, pick
from benchmarks.real_data import DT, folder
from feasible._check import certify
from feasible._project import CERTIFIED

STEPS, CYCLES = 60, 10
PACE = np.array([1.0, 0.85, 1.0, 1.0, 0.85, 0.7])  # of the modes
DRIFT = np.array([0.0, 0.0, 3.0, -3.0, 3.0, 0.0])  # m to the left at the end
TICK = 5e-3  # s between measurements of the judge
NEAR, CLOSE = 1e-2, 1e-4  # above the best objective known: relative, absolute [m²]


@dataclasses.dataclass(frozen=True)
class Cycles:
    """`plans` `(drives, cycles, K, T, 2)` and the `state` `(drives, cycles, 6)` at each, NaN where not recorded."""

    plans: np.ndarray
    state: np.ndarray


def build(drives: int, modes: int, scale: float, seed: int, data: str | None = None) -> Cycles:
    """The plans of some drives, with `scale` times the jitter of their predictions."""
    path = pick(folder(data), drives, seed)
    smooth = savgol_filter(path, 15, 3, axis=1)
    jitter = scale * (path - smooth)
    velocity = (smooth[:, -1] - smooth[:, -11])[:, None] / 10
    path = np.concatenate([smooth, smooth[:, -1:] + velocity * np.arange(1, CYCLES + 1)[:, None]], axis=1)
    rng = np.random.default_rng([seed, 1])  # the same for any number of modes: mode 0 is always the same
    turned, sign = rng.integers(0, STEPS, (drives, CYCLES)), rng.choice([-1.0, 1.0], (drives, CYCLES))
    plans = np.empty((drives, CYCLES, modes, STEPS, 2))
    step = np.arange(STEPS)
    for c in range(CYCLES):
        ahead = path[:, c + 10] - path[:, c]
        aside = np.stack([-ahead[:, 1], ahead[:, 0]], -1) / np.maximum(np.linalg.norm(ahead, axis=-1), 1e-9)[:, None]
        noise = sign[:, c, None, None] * np.take_along_axis(
            jitter, ((step + turned[:, c, None]) % STEPS)[..., None], axis=1
        )
        for m in range(modes):
            # Sample k is one step after k: with a pace of 1 it is point c + k, as point c - 1 is where the car is.
            at = c - 1 + PACE[m] * (step + 1)
            whole = np.clip(np.floor(at).astype(int), 0, None)
            rest = (at - whole)[:, None]
            along = (1 - rest) * path[:, whole] + rest * path[:, whole + 1]
            drift = DRIFT[m] * ((step + 1) / STEPS) ** 2
            plans[:, c, m] = along + drift[:, None] * aside[:, None] + noise
    return Cycles(plans, np.full((drives, CYCLES, 6), np.nan))


def recorded(cycles: Cycles, preset: str) -> np.ndarray:
    """`(drives, cycles, 6)`: the states of vehicles that drive their answers to mode 0, the first estimated."""
    projector = feasible.Projector(VEHICLE, feasible.presets.get(preset), horizon=STEPS, dt=DT).warmup()
    return np.stack([feasible.replay(plans[:, 0], projector).executed[:-1] for plans in cycles.plans])


def saved(place: Path, drives: int, preset: str, scale: float, seed: int, data: str | None) -> None:
    """Records the states into a file."""
    np.save(place, recorded(build(drives, 1, scale, seed, data), preset))


def judge(plans: np.ndarray, state: np.ndarray, controls: np.ndarray, preset: str) -> tuple[np.ndarray, np.ndarray]:
    """Of N answers: whether a vehicle that applies the controls `(N, T, C)` keeps the limits, and the objective.

    It shares no code with any solver: the model is integrated from the state `(N, S)`, and every limit is measured on
    the way, with the allowance that a `Projector` has.
    """
    states = VEHICLE.rollout(state, controls, DT)
    violation = certify(states, controls, DT, VEHICLE, feasible.presets.get(preset), tick=TICK).violation
    error = states[:, 1:, :2] - plans
    effort = np.asarray(feasible.Weights().controls)
    objective = 0.5 * (feasible.Weights().position * error**2).sum((1, 2)) + 0.5 * (effort * controls**2).sum((1, 2))
    return np.nan_to_num(violation, nan=np.inf) <= CERTIFIED, np.nan_to_num(objective, nan=np.inf)
