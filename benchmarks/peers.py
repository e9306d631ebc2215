"""Ours and the peers side by side in one run, on the same projections: speed at equal accuracy.

    pip install -e ".[bench]" && pip install --no-deps --target build/hpipm comma-deps-acados
    python benchmarks/peers.py [--quick] [--data FOLDER] [--seed 0] [--out benchmarks/results/peers.json]
    python benchmarks/peers.py --table        # prints the JSON's tables, and puts a short one into the README

Problems: rows of every prediction file (T = 60), and noisy synthetic drives (T = 80, and T = 20 to 640), under two sets
of limits, kept at start, middle and end of each step; one start, the smoothed lift. An answer counts if in float64 its
dynamics and limits hold to 1e-3 and its objective is within 0.1 % (and 1e-4 m²) of the best that anyone found. The
share solved stands beside every time, and throughput counts solved rows only. Every method runs in a process of its
own, one after the other. A peer that is not installed is left out, and the reason is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # the matrices are small
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

import numpy as np

from benchmarks.peers import gradients, measure, methods, report, sqp
from benchmarks.peers.host import alone, commit, installed, machine
from benchmarks.peers.problems import PRESETS, Rows, passes, real, synthetic
from benchmarks.real_data import folder

OUT = ROOT / "benchmarks" / "results" / "peers.json"
PACKAGES = (
    "numpy", "scipy", "jax", "jaxlib", "llvmlite", "osqp", "clarabel", "piqp", "cvxpy", "casadi", "moreau",
    "cvxpylayers", "diffcp", "qpax", "torch",
)  # fmt: skip
FULL = {"rows": 256, "budget": 10.0, "sizes": [1, 4, 16, 64, 256, 1024, 4096], "horizons": [20, 40, 80, 160, 320, 640]}
QUICK = {"rows": 12, "budget": 1.0, "sizes": [1, 16, 256], "horizons": [20, 80]}


def everything(name: str, sets: dict[str, Rows], horizons: dict[int, Rows], plan: dict[str, Any]) -> dict[str, Any]:
    """All measurements of one method but its gradients; answers included, for the judge."""
    first, is_ours = next(iter(sets.values())), name in methods.OURS
    out: dict[str, Any] = {"compile": measure.compiling(name, first), "sets": {}, "batches": {}, "horizons": {}}
    out["alone"] = {}
    is_xla = "xla" in name  # each preset and each horizon is another program, which takes long to compile
    for key, rows in sets.items():
        if is_xla and "T=80" not in key:
            continue
        out["sets"][key] = measure.latency(name, rows, plan["budget"], True)
        if is_ours:
            out["batches"][key] = {name: measure.batches(name, rows, plan["sizes"], False)}
            out["alone"][key] = measure.one_by_one(name, rows, 64)
            if "lanes" in name:
                sizes = [s for s in plan["sizes"] if s <= 1024]
                out["batches"][key][f"{name}, one core"] = measure.batches(name, rows, sizes, True)
    for steps, rows in horizons.items():
        if not is_xla or steps == 80:
            out["horizons"][steps] = measure.latency(name, rows, plan["budget"] / 4, False)
    return out


def numbers(answers: dict[str, np.ndarray], rows: Rows, best: np.ndarray) -> dict[str, float]:
    """Times in ms of the rows that pass, the share that does, and solved rows per second of work."""
    count = len(answers["seconds"])
    good = passes(rows.take(slice(0, count)).problem, answers["states"], answers["controls"], best[:count])
    out = {"solved": float(good.mean()), "subproblems": float(answers["subproblems"].mean())}
    for prefix, values in (("", answers["seconds"]), ("inside_", answers["inside"])):
        quantiles = np.quantile(values[good], [0.25, 0.5, 0.75, 0.99]) * 1e3 if good.any() else [float("nan")] * 4
        names = ("quarter", "median", "three_quarters", "p99")
        out |= {prefix + n: float(q) for n, q in zip(names, quantiles, strict=True)}
        out[prefix + "rate"] = float(good.sum() / values.sum())
    return out


def best_known(rows: Rows, raw: dict[str, Any], key: Any, part: str) -> np.ndarray:
    """`(N,)` lowest objective of answers that keep dynamics and limits ten times better than they must; else inf."""
    best = np.full(len(rows), np.inf)
    for r in raw.values():
        if key in r[part]:
            a = r[part][key]["cold"]
            count = len(a["seconds"])
            some = rows.take(slice(0, count)).problem
            good = passes(some, a["states"], a["controls"], None)
            value = np.where(good, some.objective(a["states"], a["controls"]), np.inf)
            tight = tight_enough(some, a)
            best[:count] = np.minimum(best[:count], np.where(tight, value, np.inf))
    return best


def tight_enough(problem: Any, a: dict[str, np.ndarray]) -> np.ndarray:
    """`(N,)` bool: an objective that was not bought with an excess or a defect."""
    from benchmarks.peers.problems import residuals

    defect, excess = residuals(problem, a["states"], a["controls"])
    return (defect <= 1e-4) & (excess <= 1e-4)


def judge(raw: dict[str, Any], sets: dict[str, Rows], horizons: dict[int, Rows]) -> dict[str, Any]:
    """The JSON's measurements from all answers."""
    cores = machine()["cores"]
    out: dict[str, Any] = {"sets": {}, "batches": {}, "horizons": {}, "independence": {}}
    for key, rows in sets.items():
        best = best_known(rows, raw, key, "sets")
        out["sets"][key], out["batches"][key] = {}, {}
        for name, r in raw.items():
            if key not in r["sets"]:
                continue
            a = r["sets"][key]
            entry: dict[str, Any] = {"rows": len(a["cold"]["seconds"]), "cold": numbers(a["cold"], rows, best)}
            moved = rows.take(slice(0, entry["rows"])).started_at(
                a["cold"]["states"], a["cold"]["controls"], a["shift"]
            )
            entry["warm"] = numbers(a["warm"], moved, np.full(entry["rows"], np.inf))
            entry["per_second"] = cores * entry["cold"]["rate"]
            entry["inside_per_second"] = cores * entry["cold"]["inside_rate"]
            for method, runs in r["batches"].get(key, {}).items():
                out["batches"][key][method] = {}
                for run in runs:
                    size = len(run["states"])
                    some = rows.take(np.arange(size) % len(rows))
                    good = passes(some.problem, run["states"], run["controls"], best[np.arange(size) % len(rows)])
                    rate = float(good.sum() / run["seconds"])
                    said = {"seconds": run["seconds"], "solved": float(good.mean()), "per_second": rate}
                    out["batches"][key][method][str(size)] = said
                if method == name:
                    entry["per_second"] = max(b["per_second"] for b in out["batches"][key][method].values())
                    out["independence"][f"{key}, {name}"] = apart(r["alone"][key], runs)
            out["sets"][key][name] = entry
    for steps, rows in horizons.items():
        best = best_known(rows, raw, steps, "horizons")
        for name, r in raw.items():
            if steps in r["horizons"]:
                found = numbers(r["horizons"][steps]["cold"], rows, best)
                out["horizons"].setdefault(name, {})[str(steps)] = found
    return out


def apart(single: np.ndarray, runs: list[dict[str, Any]]) -> float:
    """Largest distance [m] between a row's positions alone and in any batch."""
    far = 0.0
    for run in runs:
        count = min(len(single), len(run["states"]))
        gap = run["states"][:count, :, :2] - single[:count, :, :2]
        far = max(far, float(np.hypot(gap[..., 0], gap[..., 1]).max()))
    return far


def main() -> None:
    """Measures, writes JSON and plot, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few rows, to see that everything works")
    parser.add_argument(
        "--table", action="store_true", help="print the JSON's tables, and put a short one into the README"
    )
    parser.add_argument("--budget", type=float, help="seconds per method and set of problems")
    parser.add_argument("--methods", help="comma-separated; all if absent")
    parser.add_argument("--data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    if args.table:
        results = json.loads(args.out.read_text())
        print(report.table(results))
        report.insert(ROOT / "README.md", report.brief(results))
        report.plot(results, args.out.with_suffix(".png"))
        return
    plan = dict(QUICK if args.quick else FULL)
    plan["budget"] = args.budget or plan["budget"]
    host = machine() | {"load_before": os.getloadavg()}
    sets = {r.name: r for r in (synthetic(80, plan["rows"], p, args.seed) for p in PRESETS)}
    sets |= real(folder(args.data), plan["rows"], args.seed)
    horizons = {t: synthetic(t, 8, "nuplan_comfort", args.seed) for t in plan["horizons"]}
    raw, left_out, pulled = {}, {}, {}
    for name in args.methods.split(",") if args.methods else (*methods.OURS, methods.PROJECTOR, *methods.PEERS):
        reason = alone(measure.available, name)
        began = time.perf_counter()
        if reason:
            left_out[name] = reason
        else:
            raw[name] = alone(everything, name, sets, horizons, plan)
        print(f"{name}: {reason or f'{time.perf_counter() - began:.0f} s'}", file=sys.stderr, flush=True)
    few = sets[f"synthetic T=80 {PRESETS[1]}"]
    sizes = [1, 16] if args.quick else [1, 64, 256]
    for name in methods.OURS:
        if name in raw and "xla" not in name:
            pulled[name] = alone(measure.derivative, name, few, sizes)
    for name in gradients.PEERS:
        try:
            pulled[name] = alone(gradients.measure, name, few, [s for s in sizes if s <= 64], 3)
        except Exception as error:  # a peer that fails in any way is left out, with what it said
            left_out[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        print(f"{name}: {left_out.get(name, 'gradients')}", file=sys.stderr, flush=True)
    results = {
        "machine": host | {"load_after": os.getloadavg()},
        "commit": commit(),
        "versions": {p: installed(p) for p in PACKAGES},
        "plan": plan | {"seed": args.seed, "sqp_progress": sqp.PROGRESS},
        **judge(raw, sets, horizons),
        "compile": {name: r["compile"] for name, r in raw.items()},
        "gradients": pulled,
        "left_out": left_out,
    }
    counts = [r["cold"]["subproblems"] for m in results["sets"].values() for k, r in m.items() if "SQP" in k]
    results["subproblems"] = float(np.mean(counts)) if counts else 0.0
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    report.plot(results, args.out.with_suffix(".png"))
    print(report.table(results))


if __name__ == "__main__":
    main()
