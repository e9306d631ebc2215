"""Backends against each other and against IPOPT, on rows of every prediction file.

    python benchmarks/agreement.py [--data FOLDER] [--rows 50] [--jobs 2] [--backend riccati] [--against ipopt,cvxpy]
                                   [--out results.json]

IPOPT solves the same nonlinear problem (tests/ipopt_reference.py, written apart) from the same start. Printed per file
and preset: rows whose objective is above 1.001 times IPOPT's, the largest ratio, and against another backend the
largest relative difference of objectives and the largest distance of positions.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]

from benchmarks.real_data import DT, PRESETS, folder, load, spread

import feasible
from feasible import presets

PIECE = 5


def compare(values: np.ndarray, preset: str, backend: str, against: tuple[str, ...]) -> dict[str, list[float]]:
    """Of positions `(N, T, 2)`: entries of N numbers."""
    vehicle, limits = feasible.vehicles.nuplan_pacifica(), presets.get(preset)
    trajectory = feasible.Trajectory.from_array(values, dt=DT)
    mine = feasible.project(trajectory, vehicle, limits, backend=backend)
    out = {"objective": mine.objective.tolist(), "status": mine.status.tolist()}
    for other in against:
        if other == "ipopt":
            out["ipopt"] = ipopt(trajectory, preset)
        else:
            theirs = feasible.project(trajectory, vehicle, limits, backend=other)
            out[other] = theirs.objective.tolist()
            gap = np.hypot(*np.moveaxis(mine.states[:, 1:, :2] - theirs.states[:, 1:, :2], -1, 0)).max(-1)
            out[f"{other}_distance"] = gap.tolist()
    return out


def ipopt(trajectory: feasible.Trajectory, preset: str) -> list[float]:
    """IPOPT's objectives; NaN where it did not converge."""
    from test_reference import _start, local_problem, reference

    steps = trajectory.horizon
    problem, judge = local_problem(trajectory.to_array(("x", "y")), preset), reference(preset, steps)
    best = []
    for i in range(len(trajectory)):
        row = problem.select(i)
        objective, _, _, ok = judge.solve(row.target, _start(row, 0.02), np.zeros((steps, 2)))
        best.append(objective if ok else float("nan"))
    return best


def main() -> None:
    """Runs the comparison and prints a line per file and preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--backend", default="riccati")
    parser.add_argument("--against", default="ipopt,cvxpy")
    parser.add_argument("--files", help="comma-separated names; all prediction files if absent")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    against = tuple(args.against.split(","))
    data = folder(args.data)
    names = sorted(path.stem for path in (data / "predictions").glob("*.npz"))
    names = args.files.split(",") if args.files else names
    sets = {name: values for name, (values, _) in load(data).items() if name in names}
    jobs = []
    for name, values in sets.items():
        rows = values[spread(len(values), args.rows)]
        jobs += [(name, p, rows[i : i + PIECE]) for p in PRESETS for i in range(0, len(rows), PIECE)]
    parts: dict[tuple[str, str], list[dict[str, list[float]]]] = {}
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(args.jobs, mp_context=spawn) as pool:
        futures = [(n, p, pool.submit(compare, v, p, args.backend, against)) for n, p, v in jobs]
        for name, preset, future in tqdm(futures, unit="piece", mininterval=10):
            parts.setdefault((name, preset), []).append(future.result())
    results = {}
    for (name, preset), pieces in parts.items():
        rows = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
        line = {"rows": len(rows["status"]), "unsolved": int((rows["status"] > feasible.Status.PROJECTED).sum())}
        for other in against:
            ratio = (rows["objective"] + 1e-6) / (rows[other] + 1e-6)
            line |= {
                f"above_1.001_{other}": int((ratio > 1.001).sum()),
                f"below_0.999_{other}": int((ratio < 0.999).sum()),
                f"worst_{other}": float(np.nanmax(ratio)),
                f"median_{other}": float(np.nanmedian(ratio)),
                f"failed_{other}": int(np.isnan(ratio).sum()),
                f"rows_above_{other}": np.flatnonzero(ratio > 1.001).tolist(),
            }
            if other != "ipopt":
                gap = rows[f"{other}_distance"]
                line |= {f"farther_5mm_{other}": int((gap > 5e-3).sum()), f"farthest_{other}": float(gap.max())}
        results[f"{name}/{preset}"] = line
        print(name, preset, json.dumps(line), flush=True)
    if args.out:
        args.out.write_text(
            json.dumps({"backend": args.backend, "rows": args.rows, "results": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
