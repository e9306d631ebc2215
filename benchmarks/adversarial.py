"""Adversarial input through the projector: nothing may crash, be not finite, or claim what an audit denies.

    python benchmarks/adversarial.py [--rows 1000000] [--single 10000] [--thorough 20000] [--jobs 2]
                                     [--state FILE] [--out FILE]

Three paths: `batch`, a `Projector` called with many modes at a time; `single`, one call per row, some with a deadline
of 0 and some warm started from the row before; `thorough`, `feasible.project`. Rows are drawn chunk by chunk from the
path's name and the chunk's number, so a run that was stopped goes on where it was: every finished chunk is a line of
the state file. With `--jobs` as many processes work, each on a core of its own. The
audit below is this file's own: closed forms of the bicycle between samples, limits written out.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import copy
import functools
import json
import math
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # the matrices are small

import numpy as np
from tqdm import tqdm

import feasible
from feasible import Status

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.adversaries import CHUNK, DT, T, draw

PRESETS = ("physical", "nuplan_comfort")
AT_ONCE = 32  # rows that are audited together: what they need fits into the processor's cache
FEASIBLE, MEASURE, RESIDUAL = 1e-2, 2e-3, 1e-5  # promised excess; agreement of two measurements of it; of dynamics
SANE = 100.0  # m/s, m/s², 1/m: beyond, states are not driven, and what is measured of them depends on how
SPIN = 10.0  # rad/s, likewise


def audit(states: np.ndarray, controls: np.ndarray, preset: str) -> tuple[np.ndarray, np.ndarray]:
    """Largest normalised excess `(N,)` at 41 points of every step, and largest dynamics residual `(N,)`.

    The steering rate is measured where the wheels pass straight ahead too.

    Speed, acceleration and curvature are polynomials between samples, and yaw is one too; positions are integrated
    by Simpson's rule. Neither the model's step nor the library's signals and checks are used.
    """
    parts = [_audit(states[i : i + AT_ONCE], controls[i : i + AT_ONCE], preset) for i in range(0, len(states), AT_ONCE)]
    worst, residual = (np.concatenate(values) for values in zip(*parts, strict=True))
    return worst, residual


def _audit(states: np.ndarray, controls: np.ndarray, preset: str) -> tuple[np.ndarray, np.ndarray]:
    """Of rows that fit into the cache together."""
    car = feasible.vehicles.nuplan_pacifica()
    s = np.linspace(0.0, DT, 41)
    x, y, yaw, v0, a0, k0 = (states[:, :-1, i, None] for i in range(6))
    j, c = (controls[..., i, None] for i in range(2))
    a, v, k = a0 + j * s, v0 + a0 * s + j * s**2 / 2, k0 + c * s
    lateral, turning = v * v * k, a * k + v * c
    wobble = 2 * v * a * k + v * v * c
    straight = np.where(k[..., :1] * k[..., -1:] < 0.0, 0.0, k)  # a peak of the steering rate that 41 points may miss
    wheel, rate = np.arctan(car.wheelbase * k), car.wheelbase * c / (1 + (car.wheelbase * straight) ** 2)

    def over(value: np.ndarray, lower: float, upper: float) -> np.ndarray:
        return np.maximum((value - upper) / (abs(upper) or abs(lower)), (lower - value) / (abs(lower) or abs(upper)))

    inf = math.inf
    if preset == "physical":
        grip = 0.9 * 9.80665
        excess = [
            over(v, 0.0, 60.0),
            over(a, -10.0, 6.0),
            over(j + 0 * s, -50.0, 50.0),
            over(wheel, -car.max_steering_angle, car.max_steering_angle),
            over(rate, -car.max_steering_rate, car.max_steering_rate),
            np.hypot(a, lateral) / grip - 1.0,
        ]
    else:
        excess = [
            over(a, -4.05, 2.40),
            over(j + 0 * s, -4.13, 4.13),
            over(lateral, -4.89, 4.89),
            over(v * k, -0.95, 0.95),
            over(turning, -1.93, 1.93),
            np.hypot(j, wobble) / 8.37 - 1.0,
        ]
    worst = np.max([np.where(np.isfinite(e), e, inf).max((1, 2)) for e in excess], axis=0)
    # v κ is a cubic in time: its integral by Simpson's rule over each half interval is exact.
    turn = np.cumsum(np.diff(s) / 6 * (_at(v0, a0, j, k0, c, s[:-1], 0) + _at(v0, a0, j, k0, c, s, 1)), axis=-1)
    angle = yaw + np.concatenate([np.zeros_like(turn[..., :1]), turn], axis=-1)
    simpson = DT / 120 * np.array([1.0, *[4.0, 2.0] * 19, 4.0, 1.0])
    end = [x[..., 0] + (v * np.cos(angle)) @ simpson, y[..., 0] + (v * np.sin(angle)) @ simpson]
    end += [angle[..., -1], v[..., -1], a[..., -1], k[..., -1]]
    # Far from the origin a position has few digits: that is not the dynamics' fault.
    digits = 1e-14 * np.abs(states[..., :2]).max((1, 2)) * T
    residual = np.max([np.abs(e - states[:, 1:, i]).max(1) for i, e in enumerate(end)], axis=0) - digits
    return np.maximum(worst, 0.0), np.maximum(residual, 0.0)


def _at(v0, a0, j, k0, c, s, part: int) -> np.ndarray:
    """Simpson's terms of v κ: at the left ends (0), or four times the middles and the right ends (1)."""

    def value(t):
        return (v0 + a0 * t + j * t * t / 2) * (k0 + c * t)

    return value(s) if part == 0 else 4 * value((s[1:] + s[:-1]) / 2) + value(s[1:])


def judge(
    preset: str, initial: np.ndarray, plan: feasible.Plan | feasible.Projection, kept: np.ndarray
) -> dict[str, np.ndarray]:
    """Per sort of failure, `(N,)` bool; `kept`: what the certificate claims to be feasible."""
    finite = np.isfinite(plan.states).all((1, 2)) & np.isfinite(plan.controls).all((1, 2))
    finite &= np.isfinite(plan.violation) & np.isfinite(plan.dynamics_residual) & np.isfinite(plan.displacement.max)
    with np.errstate(all="ignore"):
        worst, residual = audit(plan.states, plan.controls, preset)
        sane = (np.abs(plan.states[..., 3:]).max((1, 2)) < SANE) & finite
        sane &= np.abs(plan.states[..., 3] * plan.states[..., 5]).max(1) < SPIN
        given = np.isfinite(initial) & np.isfinite(initial[:, :2]).all(1)[:, None]
        believed = (np.abs(np.nan_to_num(initial[:, 3:])) <= 1e6).all(1) & (np.abs(np.nan_to_num(initial)) < 1e5).all(1)
        off = np.where(given, np.abs(plan.states[:, 0] - initial), 0.0).max(1)
    return {
        "not_finite": ~finite,
        "claimed_feasible": kept & ~(worst <= FEASIBLE),
        "status_without_claim": (plan.status <= Status.PROJECTED) & ~kept,
        "violation": sane & ~(np.abs(worst - plan.violation) <= MEASURE + 0.02 * worst),
        "residual": sane & ~(residual <= RESIDUAL + 1.2 * plan.dynamics_residual),
        "residual_claim": kept & ~(plan.dynamics_residual <= RESIDUAL),
        # `project` drops a state that is nowhere near the samples; a projector drops the samples.
        "start": believed & ~(off <= 1e-6) & isinstance(plan, feasible.Plan),
    }


class Paths:
    """The three ways in, set up once."""

    def __init__(self) -> None:
        car = feasible.vehicles.nuplan_pacifica()
        self.car = car
        options = {"horizon": T, "dt": DT}
        self._made = {p: feasible.Projector(car, feasible.presets.get(p), modes=8, **options) for p in PRESETS}
        self._late = {p: copy.copy(projector) for p, projector in self._made.items()}
        for projector in self._late.values():
            projector.deadline = 0.0

    def run(self, path: str, preset: str, values: np.ndarray, initial: np.ndarray) -> list[tuple[slice, object]]:
        """Answers, each with the rows it is for."""
        if path == "batch":
            return [(slice(None), self._made[preset](values, initial_state=initial))]
        if path == "thorough":
            half = np.isfinite(initial[:, 0]) != np.isfinite(initial[:, 1])
            initial = np.where(half[:, None] & (np.arange(6) < 2), np.nan, initial)
            trajectory = feasible.Trajectory.from_array(values, dt=DT)
            limits = feasible.presets.get(preset)
            return [(slice(None), feasible.project(trajectory, self.car, limits, initial_state=initial))]
        plans, before = [], None
        for i in range(len(values)):
            projector = self._late[preset] if i % 10 == 9 else self._made[preset]
            warm = before if i % 3 == 1 else None
            rows = slice(i, i + 1)
            before = projector(values[rows], initial_state=initial[rows], warm_start=warm)
            plans.append((rows, before))
        return plans


@functools.cache
def _paths() -> Paths:
    """Of this process."""
    return Paths()


def own_core(cores: multiprocessing.Queue[int]) -> None:
    """Keeps this process on a core, so that the projector in it starts no threads beside those of the others."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})


def work(path: str, chunk: int) -> dict[str, object]:
    """One chunk: counts of statuses, and the rows that failed."""
    paths, began = _paths(), time.perf_counter()
    preset = PRESETS[chunk % len(PRESETS)]
    values, initial, names = draw(path, chunk)
    statuses: Counter[str] = Counter()
    failures: list[list[object]] = []
    try:
        for rows, plan in paths.run(path, preset, values, initial):
            kept = plan.feasible if isinstance(plan, feasible.Plan) else plan.status <= Status.PROJECTED
            statuses.update(f"{k} {Status(int(s)).name}" for k, s in zip(names[rows], plan.status, strict=True))
            statuses["kept"] += int(kept.sum())
            for sort, bad in judge(preset, initial[rows], plan, kept).items():
                index = np.arange(len(values))[rows][bad]
                failures += [[sort, int(i), str(names[i])] for i in index]
    except Exception as error:  # the point of the exercise: count it, and go on
        failures.append(["crash", -1, f"{type(error).__name__}: {error}"])
    return {
        "path": path,
        "chunk": chunk,
        "preset": preset,
        "rows": len(values),
        "seconds": time.perf_counter() - began,
        "status": dict(statuses),
        "failures": failures,
    }


def summary(lines: list[dict]) -> dict[str, dict]:
    """Totals per path."""
    result = {}
    for path in CHUNK:
        mine = [line for line in lines if line["path"] == path]
        status: Counter[str] = Counter()
        for line in mine:
            status.update(line["status"])
        kept = status.pop("kept", 0)
        by_status: Counter[str] = Counter()
        for name, count in status.items():
            by_status[name.split()[1]] += count
        failures = Counter(sort for line in mine for sort, *_ in line["failures"])
        result[path] = {
            "rows": sum(line["rows"] for line in mine),
            "seconds": round(sum(line["seconds"] for line in mine), 1),
            "claimed_feasible": kept,
            "status": dict(by_status),
            "failures": dict(failures),
            "by_kind": dict(sorted(status.items())),
        }
    return result


def main() -> int:
    """Runs what is missing of the chunks, and writes the counts; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--single", type=int, default=10_000)
    parser.add_argument("--thorough", type=int, default=20_000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--state", type=Path, default=ROOT / "benchmarks" / "results" / "adversarial.jsonl")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "adversarial.json")
    args = parser.parse_args()
    wanted = {"batch": args.rows, "single": args.single, "thorough": args.thorough}
    args.state.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(text) for text in args.state.read_text().splitlines()] if args.state.exists() else []
    done = {(line["path"], line["chunk"]) for line in lines}
    todo = [(p, c) for p, n in wanted.items() for c in range(-(-n // CHUNK[p])) if (p, c) not in done]
    spawn = multiprocessing.get_context("spawn")
    cores = spawn.Queue()
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    for job in range(args.jobs):
        cores.put(usable[job % len(usable)])
    with (
        args.state.open("a") as file,
        tqdm(total=sum(CHUNK[p] for p, _ in todo), unit="row", mininterval=5) as bar,
        concurrent.futures.ProcessPoolExecutor(args.jobs, spawn, own_core, (cores,)) as pool,
    ):
        for future in concurrent.futures.as_completed([pool.submit(work, path, chunk) for path, chunk in todo]):
            line = future.result()
            lines.append(line)
            file.write(json.dumps(line) + "\n")
            file.flush()
            bar.update(line["rows"])
            if line["failures"]:
                bar.write(f"{line['path']} {line['chunk']} {line['preset']}: {line['failures'][:5]}")
    result = summary(lines)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({p: {k: v for k, v in r.items() if k != "by_kind"} for p, r in result.items()}, indent=2))
    return int(any(r["failures"] for r in result.values()))


if __name__ == "__main__":
    sys.exit(main())
