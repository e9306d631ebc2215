"""Projects every prediction file and log of the development data, and judges the results.

    python benchmarks/real_data.py [--data FOLDER] [--rows N] [--jobs 2] [--backend riccati] [--out results.json]

For each file and each of `physical` and `nuplan_comfort`: status shares, the audit of the exact motion (1e-3), the
audit of the samples by finite differences (5e-2), and the continuous-time check (1e-2). `--rows` takes that many rows
of each file, evenly spread; without it all are taken. Logs are resampled to 10 Hz and cut into windows of 60 steps.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import platform
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import feasible

ROOT = Path(__file__).resolve().parents[1]
PRESETS = ("physical", "nuplan_comfort")
STEPS, DT = 60, 0.1
LOGS = (
    "apollo_garage_log",
    "apollo_plans",
    "apollo_predictions",
    "comma2k19_seg40",
    "commonroad_ngsim_obstacles",
    "commonroad_solutions",
    "fiss_executed",
    "fiss_plans",
)
AT_ONCE = 128  # rows in one piece of work


def folder(given: str | None = None) -> Path:
    """The development data: the argument, FEASIBLE_DATA, or ../shared/data beside the repository."""
    return Path(given or os.environ.get("FEASIBLE_DATA") or ROOT.parent / "shared" / "data")


def load(data: Path) -> dict[str, tuple[np.ndarray, float]]:
    """Per file: positions `(N, T, 2)` in the file's own coordinates and their dt [s]."""
    sets = {}
    for path in sorted((data / "predictions").glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            sets[path.stem] = np.asarray(file["pred"], dtype=float), float(file["dt"])
    for name in LOGS:
        with np.load(data / f"{name}.npz", allow_pickle=False) as file:
            tracks = [slice(a, b) for a, b in zip(file["start"][:-1], file["start"][1:], strict=True)]
            t, x, y = (np.asarray(file[k], dtype=float) for k in ("t", "x", "y"))
            rows = [w for s in tracks for w in windows(t[s], x[s], y[s])]
        if rows:
            sets[name] = np.stack(rows), DT
    return sets


def windows(t: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Consecutive windows `(60, 2)` of one track at 10 Hz; repeated stamps are dropped, gaps interpolated."""
    keep = np.concatenate([[True], np.diff(t) > 1e-3]) & np.isfinite(t + x + y)
    t, x, y = t[keep], x[keep], y[keep]
    if t.size < 4:
        return []
    now = t[0] + DT * np.arange(int(round((t[-1] - t[0]) / DT, 6)) + 1)
    path = np.stack([np.interp(now, t, x), np.interp(now, t, y)], axis=-1)
    return [path[i : i + STEPS] for i in range(0, len(path) - STEPS + 1, STEPS)]


def moving(values: np.ndarray) -> np.ndarray:
    """`(N,)`: finite, and at least a metre from end to end."""
    return np.isfinite(values).all((1, 2)) & (np.ptp(values, axis=1).max(-1) >= 1.0)


def judge(values: np.ndarray, dt: float, preset: str, backend: str) -> dict[str, np.ndarray]:
    """Projects positions `(N, T, 2)` and measures; each entry `(N,)`."""
    vehicle, limits = feasible.vehicles.nuplan_pacifica(), feasible.presets.get(preset)
    trajectory = feasible.Trajectory.from_array(values, dt=dt)
    started = time.perf_counter()
    result = feasible.project(trajectory, vehicle, limits, backend=backend)
    seconds = (time.perf_counter() - started) / len(values)

    def worst(report: feasible.Report) -> np.ndarray:
        return np.max([report.worst[m.name] for m in limits], axis=0)

    return {
        "status": result.status,
        "finite": np.isfinite(result.trajectory.to_array()).all((1, 2)),
        "moving": moving(values),
        "mean": result.displacement.mean,
        "max": result.displacement.max,
        "motion": worst(feasible.audit(result.motion, vehicle, limits)),
        "samples": worst(feasible.audit(result.trajectory, vehicle, limits)),
        "continuous": result.violation,
        "residual": result.dynamics_residual,
        "iterations": result.iterations,
        "seconds": np.full(len(values), seconds),
    }


def summarise(rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Shares and worst values of one file under one preset."""
    solved = rows["status"] <= feasible.Status.PROJECTED
    some = rows["moving"]
    counts = {s.name.lower(): int((rows["status"] == s).sum()) for s in feasible.Status}

    def top(name: str) -> float:
        return float(rows[name][solved].max(initial=0.0))

    return {
        "rows": len(solved),
        **counts,
        "finite": float(rows["finite"].mean()),
        "moving_rows": int(some.sum()),
        "moving_solved": int((solved & some).sum()),
        "motion_worst": top("motion"),
        "samples_worst": top("samples"),
        "continuous_worst": top("continuous"),
        "residual_worst": float(rows["residual"].max(initial=0.0)),
        "mean_displacement": float(rows["mean"].mean()),
        "iterations_mean": float(rows["iterations"].mean()),
        "seconds_per_row": float(rows["seconds"].mean()),
    }


def main() -> None:
    """Runs the measurement and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--backend", default="riccati")
    parser.add_argument("--files", help="comma-separated names; all if absent")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"  # the matrices are small, and each job has one core

    sets = load(folder(args.data))
    if args.files:
        sets = {name: sets[name] for name in args.files.split(",")}
    if args.rows:
        sets = {k: (v[spread(len(v), args.rows)], dt) for k, (v, dt) in sets.items()}
    jobs = [
        (n, p, v[i : i + AT_ONCE], dt)
        for n, (v, dt) in sets.items()
        for p in PRESETS
        for i in range(0, len(v), AT_ONCE)
    ]
    parts: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(args.jobs, mp_context=spawn) as pool:
        futures = [(n, p, pool.submit(judge, v, dt, p, args.backend)) for n, p, v, dt in jobs]
        for name, preset, future in tqdm(futures, unit="piece", mininterval=10):
            parts.setdefault((name, preset), []).append(future.result())
    results = {}
    for (name, preset), pieces in parts.items():
        rows = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
        results[f"{name}/{preset}"] = summarise(rows)
        print(f"{name} {preset} {json.dumps(results[f'{name}/{preset}'])}", flush=True)
    total = {k: sum(r[k] for r in results.values()) for k in ("rows", "moving_rows", "moving_solved")}
    print("total", total, f"{total['moving_solved'] / max(total['moving_rows'], 1):.4%} of moving rows solved")
    if args.out:
        machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        content = {"backend": args.backend, "rows": args.rows, "machine": machine, "results": results}
        args.out.write_text(json.dumps(content, indent=2) + "\n")


def spread(size: int, count: int) -> np.ndarray:
    """At most `count` indices, evenly over `size`."""
    return np.unique(np.linspace(0, size - 1, min(size, count)).astype(int))


if __name__ == "__main__":
    main()
