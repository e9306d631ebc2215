"""Latency of the projector behind a planner, beside real-time solvers on the same plans: median, p99, p99.9.

    pip install -e ".[bench]" && pip install --no-deps --target build/hpipm comma-deps-acados
    python benchmarks/latency.py [--calls 10000] [--peer-calls 300] [--deadline 0.005] [--limits physical]
    python benchmarks/latency.py --table      # prints the table of the JSON and puts it into the README

Plans: real predictions seen anew every 0.1 s (`benchmarks/peers/cycles.py`), T = 60, one mode and six; the initial
state is that of a vehicle that drives the answers; once with the jitter that the predictions have (decimetres to a
metre), once with a tenth of it, as a steady planner. A call's time is what its caller waits, garbage collection and
all; collections are counted, and the time that its thread had on the processor is kept beside it, which on a shared
machine says what was the library's. Every method runs in a process of its own on one core. An answer passes if a
vehicle that applies its controls keeps the limits, by a check that no solver shares; it is near if its objective is
within 1 % of the best that anyone found for that call. What was measured is kept in build/latency, so that a run that
was cut short goes on where it stopped; `--again` forgets it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # the matrices are small

import numpy as np

from benchmarks.peers import callers, calls, cycles, hpipm, latency_report
from benchmarks.peers.host import alone, commit, installed, machine

OUT = ROOT / "benchmarks" / "results" / "latency.json"
KEPT = ROOT / "build" / "latency"
PACKAGES = ("numpy", "scipy", "jax", "llvmlite", "osqp", "casadi")
QUANTILES = {"median": 0.5, "p99": 0.99, "p999": 0.999, "largest": 1.0}
CURVE = 1 - np.concatenate([np.linspace(1, 0.1, 46), 10 ** -np.linspace(1, 4, 61)[1:]])  # what the plot needs


def jobs(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """By name, what to measure: ours in all combinations, then the peers."""
    found: dict[str, dict[str, Any]] = {}
    for modes in (1, 6):
        for deadline in (None, args.deadline):
            for warm in (False, True):
                due = "" if deadline is None else f", {1e3 * deadline:g} ms"
                name = f"Projector, K = {modes}, {'warm' if warm else 'cold'}{due}"
                found[name] = {"modes": modes, "warm": warm, "deadline": deadline, "calls": args.calls}
    peer = {"modes": 1, "warm": True, "deadline": None, "calls": args.peer_calls}
    return found | {name: peer | {"peer": name} for name in callers.PEERS}


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Those of the table, in ms."""
    return {name: float(1e3 * np.quantile(values, q)) for name, q in QUANTILES.items()}


def summarise(raw: dict[str, np.ndarray], job: dict[str, Any], best: np.ndarray) -> dict[str, Any]:
    """The JSON's entry for a method; `best` is the lowest objective known, by call and mode."""
    seconds, counted = raw["seconds"], raw["counted"]
    known = best[: len(raw["objective"])]
    near = raw["passed"] & (raw["objective"] <= known * (1 + cycles.NEAR) + cycles.CLOSE)
    entry = job | {
        "calls": int(counted.sum()),
        "latency": quantiles(seconds[counted]),
        "processor": quantiles(raw["processor"][counted]),
        "inside": quantiles(raw["inside"][counted]),
        "curve": (1e3 * np.quantile(seconds[counted], CURVE)).tolist(),
        "inside_curve": (1e3 * np.quantile(raw["inside"][counted], CURVE)).tolist(),
        "passed": float(raw["passed"][counted].mean()),
        "near": float(near[counted].mean()),
        "iterations": float(raw["iterations"][counted].mean()),
        "collections": int((raw["collecting"][counted] > 0).sum()),
        "longest_collection": float(1e3 * raw["collecting"][counted].max()),
        "load": raw["load"].tolist(),
        "core": int(raw["core"]),
    }
    if job["deadline"] is not None:
        entry["late"] = float((seconds[counted] > job["deadline"]).mean())
    if "peer" not in job:
        entry["status"] = np.bincount(raw["status"][counted].ravel(), minlength=5).tolist()
    return entry


def best_known(kept: dict[str, dict[str, np.ndarray]], plan: dict[str, dict[str, Any]], modes: int) -> np.ndarray:
    """`(calls, K)` lowest objective of answers that pass."""
    some = [kept[name] for name in kept if plan[name]["modes"] == modes]
    best = np.full((max(len(r["objective"]) for r in some), modes), np.inf)
    for r in some:
        part = best[: len(r["objective"])]
        np.minimum(part, np.where(r["passed"], r["objective"], np.inf), out=part)
    return best


def measured(preset: str, scale: float, plan: dict[str, dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """All methods on one set of problems, each alone; what is kept already is not measured again."""
    drives = -(-max(args.calls, args.peer_calls) // cycles.CYCLES)
    about = json.dumps([preset, scale, drives, args.seed, commit(), cycles.STEPS, cycles.CYCLES])
    folder = KEPT / hashlib.sha256(about.encode()).hexdigest()[:12]
    if args.again:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    states = folder / "states.npy"
    if not states.exists():
        print(f"{preset}, jitter × {scale:g}: recording {drives} drives", file=sys.stderr, flush=True)
        alone(cycles.saved, states, drives, preset, scale, args.seed, args.data)
    kept, left_out = {}, {}
    for name, job in plan.items():
        what = hashlib.sha256(json.dumps([name, job]).encode()).hexdigest()[:12]
        place = folder / f"{what}.npz"
        if not place.exists():
            try:
                alone(calls.measure, place, states, preset, job, scale, args.seed, args.data)
            except (ImportError, OSError) as error:
                left_out[name] = f"{type(error).__name__}: {error}"
                print(f"{name}: {left_out[name]}", file=sys.stderr, flush=True)
                continue
        with np.load(place) as file:
            kept[name] = dict(file)
        r = kept[name]
        print(f"{name}: {1e3 * np.median(r['seconds'][r['counted']]):.2f} ms", file=sys.stderr, flush=True)
    best = {modes: best_known(kept, plan, modes) for modes in {plan[name]["modes"] for name in kept}}
    entries = {name: summarise(raw, plan[name], best[plan[name]["modes"]]) for name, raw in kept.items()}
    return {"methods": entries, "left_out": left_out}


def main() -> None:
    """Measures, writes JSON and plot, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--peer-calls", type=int, default=300)
    parser.add_argument("--deadline", type=float, default=0.005, help="seconds")
    parser.add_argument("--limits", default="physical", help="presets, with commas")
    parser.add_argument("--jitter", default="1,0.1", help="times that of the predictions, with commas")
    parser.add_argument("--only", help="measure the methods whose name has this in it")
    parser.add_argument("--again", action="store_true", help="forget what was measured before")
    parser.add_argument("--table", action="store_true", help="print the table of the JSON and put it into the README")
    parser.add_argument("--data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    if not args.table:
        plan = {name: job for name, job in jobs(args).items() if args.only is None or args.only in name}
        host = machine() | {"load_before": os.getloadavg()}
        scales = [float(scale) for scale in args.jitter.split(",")]
        sets = {
            f"{preset}, jitter × {scale:g}": measured(preset, scale, plan, args)
            for preset in args.limits.split(",")
            for scale in scales
        }
        results = {
            "machine": host | {"load_after": os.getloadavg()},
            "commit": commit(),
            "versions": {p: installed(p) for p in PACKAGES} | {"comma-deps-acados": hpipm.version()},
            "plan": {k: v for k, v in vars(args).items() if k in ("calls", "peer_calls", "deadline", "seed")}
            | {"steps": cycles.STEPS, "cycles": cycles.CYCLES},
            "slower": (1 - CURVE).tolist(),
            "sets": sets,
        }
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(args.out.read_text())
    latency_report.plot(results, args.out.with_suffix(".png"))
    print(latency_report.table(results))
    if args.table:
        latency_report.insert(ROOT / "README.md", latency_report.table(results))


if __name__ == "__main__":
    main()
