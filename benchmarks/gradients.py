"""The implicit derivative: how exact it is, in float64 and float32, and what it costs beside the projection.

    python benchmarks/gradients.py [--rows 200] [--out FILE]

Exactness, by the target along a random direction of it and a random cotangent of the motion:

- float64 against central differences of the projection, solved anew to rounding. The width is the best of four, of
  those at which both ends were solved, two at least, for rounding wants a large one and limits that bind and let go a
  small one: the barrier of 1e-10 m² rounds a kink off over about 1e-5 m.
- After a float32 solve, against the one after a float64 solve, where both found the same motion to 5 mm. How far the
  motions are from each other, at their farthest sample, is given too.

A limit that is about to bind or to let go is weakly active: there the projection has a kink, and no derivative. Rows
near one are told apart by smoothing: the error that the barrier of 1e-10 m² leaves is about a tenth of what one of 1e-9
in its place would change. So a row is `clear` to a bound if that changes its derivative by less than ten times the
bound, in float32 by less than the bound. Everything is given for all rows and for the clear ones.

Cost: CPU seconds of forward and backward together over those of forward: of the solver, alone (the median of rows) and
in batches; and of `project_vjp` beside `project`, which measures what it answers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script

from benchmarks.peers.host import commit, machine
from benchmarks.peers.problems import Rows, real, synthetic
from feasible import Trajectory, project, project_vjp
from feasible._problem import Problem, Solution
from feasible.solvers._riccati_arrays import apart, unpack
from feasible.solvers._riccati_central import Aim
from feasible.solvers._riccati_vjp import WHOLE, Pulled, arguments, pull_back
from feasible.solvers.riccati import Riccati

DATA = Path(os.environ.get("FEASIBLE_DATA", ROOT.parent / "shared" / "data"))
PRESETS = ("physical", "nuplan_comfort")
WIDTHS = (1e-4, 1e-5, 1e-6, 1e-7)  # m
SAME = 5e-3  # m
DOUBLE, SINGLE = 1e-4, 1e-2  # relative errors
FLOOR = 1e-2  # of a directional derivative, below which its error is not relative
SHARP = Aim(iterations=100, change=1e-5, gain=1e-13, defect=1e-10)  # below 1e-13 of the objective is rounding
ALONE = 20


def resolved(problem: Problem, at: Solution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States, controls and which rows converged: solved to rounding from a solution with its prices."""
    states = at.states.copy()
    states[:, 0] = np.where(np.isfinite(problem.initial_state), problem.initial_state, states[:, 0])
    kernel, engine = Riccati().compiled(problem, False, WHOLE)
    none = np.zeros_like(states), np.zeros_like(at.controls)
    point = apart(engine(arguments(kernel, problem, states, at.controls, at.multipliers, SHARP, *none)).point)
    return *unpack(kernel, point), np.asarray(point.solved) > 0


def spread(error: np.ndarray, bound: float) -> dict[str, float]:
    """Of relative errors: the share within a bound, and quantiles."""
    return {
        "rows": len(error),
        "within": float((error <= bound).mean()),
        "median": float(np.median(error)),
        "p99": float(np.quantile(error, 0.99)),
        "worst": float(error.max()),
    }


def exactness(rows: Rows) -> dict[str, Any]:
    """Of one set, as above."""
    problem, rng = rows.problem, np.random.default_rng(0)
    double, single = Riccati(), Riccati(dtype=np.float32)
    a, b = (backend.solve(problem, rows.states, rows.controls) for backend in (double, single))
    by_x, by_u = rng.normal(size=a.states.shape), 0.1 * rng.normal(size=a.controls.shape)
    direction = rng.normal(size=problem.target.shape) * (problem.weight > 0)

    def pulled(at: Solution, backend: Riccati, smoothing: float = 1e-10) -> Pulled:
        return pull_back(
            problem, at.states, at.controls, at.multipliers, by_x, by_u, smoothing=smoothing, backend=backend
        )

    exact, smooth, after_single = pulled(a, double), pulled(a, double, 1e-9), pulled(b, single)
    size = np.linalg.norm(exact.target, axis=(1, 2))

    def away(other: Pulled) -> np.ndarray:
        found: np.ndarray = np.linalg.norm(other.target - exact.target, axis=(1, 2)) / size
        return found

    mine, smoothed = ((found.target * direction).sum((1, 2)) for found in (exact, smooth))
    clear = np.abs(smoothed - mine) <= 10 * DOUBLE * np.maximum(np.abs(mine), FLOOR)
    errors, references = [], np.zeros(len(rows), dtype=int)
    for width in WIDTHS:
        ends, sound = [], exact.solved.copy()
        for sign in (1.0, -1.0):
            x, u, converged = resolved(
                dataclasses.replace(problem, target=problem.target + sign * width * direction), a
            )
            ends.append((x * by_x).sum((1, 2)) + (u * by_u).sum((1, 2)))
            sound &= converged
        difference = (ends[0] - ends[1]) / (2.0 * width)
        error = np.abs(mine - difference) / np.maximum(np.abs(difference), FLOOR)
        errors.append(np.where(sound, error, np.inf))
        references += sound
    error, sound = np.min(errors, axis=0), references > 1
    distance = np.abs(a.states - b.states)[..., :2].max((1, 2))
    near = distance <= SAME
    near &= exact.solved & after_single.solved
    return {
        "rows": len(rows),
        "solved": float(exact.solved.mean()),
        "with_active_limits": float((np.abs(a.multipliers).max((1, 2)) > 1e-6).mean()),
        "float64_against_differences": {
            "all": spread(error[sound], DOUBLE),
            "clear": spread(error[sound & clear], DOUBLE),
        },
        "float32_motion_mm": {
            "within_1": float((distance <= 1e-3).mean()),
            "median": 1e3 * float(np.median(distance)),
            "p99": 1e3 * float(np.quantile(distance, 0.99)),
        },
        "float32_against_float64": {
            "all": spread(away(after_single)[near], SINGLE),
            "clear": spread(away(after_single)[near & (away(smooth) <= SINGLE)], SINGLE),
        },
    }


def cpu(call: Callable[[], Any], repeats: int) -> float:
    """The least of some runs: what others do to the clock only adds."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        seconds.append(time.process_time() - began)
    return min(seconds)


def cost(rows: Rows) -> dict[str, dict[str, float]]:
    """Forward and backward together over forward alone, per dtype and number of rows."""

    def ratio(part: Rows, backend: Riccati, repeats: int) -> float:
        p, rng = part.problem, np.random.default_rng(0)
        at = backend.solve(p, part.states, part.controls)
        by_x, by_u = rng.normal(size=at.states.shape), np.zeros_like(at.controls)
        back = lambda: pull_back(p, at.states, at.controls, at.multipliers, by_x, by_u, backend=backend)  # noqa: E731
        back()
        forward = cpu(lambda: backend.solve(p, part.states, part.controls), repeats)
        return 1.0 + cpu(back, repeats) / forward

    found = {}
    for dtype in (np.float64, np.float32):
        alone, batch = Riccati(dtype=dtype, width=1), Riccati(dtype=dtype)
        found[np.dtype(dtype).name] = {
            "1": float(np.median([ratio(rows.take(slice(i, i + 1)), alone, 30) for i in range(ALONE)])),
            **{str(n): ratio(rows.take(np.arange(n) % len(rows)), batch, 10) for n in (64, 256)},
        }
    return found


def called(rows: Rows) -> dict[str, float]:
    """The same of what a user calls, in a batch of all rows, per dtype of the backend."""
    p, found = rows.problem, {}
    trajectory = Trajectory.from_array(p.target[..., :2], dt=p.dt)
    start = p.initial_state if np.isfinite(p.initial_state).any() else None
    for dtype in (np.float64, np.float32):
        given = {"initial_state": start, "backend": Riccati(dtype=dtype)}
        _, pull = project_vjp(trajectory, p.vehicle, p.limits, **given)
        by_samples = np.random.default_rng(0).normal(size=(*p.target.shape[:2], 4))
        pull(by_samples)
        forward = cpu(lambda given=given: project(trajectory, p.vehicle, p.limits, **given), 3)
        found[np.dtype(dtype).name] = 1.0 + cpu(lambda pull=pull, by=by_samples: pull(by), 5) / forward
    return found


def main() -> None:
    """Measures, writes the JSON, prints a line per set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gradients.json")
    args = parser.parse_args()
    sets = {f"synthetic T=80 {preset}": synthetic(80, args.rows, preset, args.seed) for preset in PRESETS}
    if DATA.exists():
        sets |= {k: v for k, v in real(DATA, args.rows, args.seed).items() if v.preset in PRESETS}
    results: dict[str, Any] = {"commit": commit(), **machine(), "sets": {}}
    for name, rows in sets.items():
        results["sets"][name] = {
            **exactness(rows),
            "forward_and_backward": cost(rows),
            "project_and_pull": called(rows),
        }
        print(name, json.dumps(results["sets"][name], indent=1), flush=True)
    args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
