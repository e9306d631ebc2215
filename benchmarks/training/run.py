"""Trains one small predictor five ways on the logs, and measures what each is worth on tracks it has never seen.

    python benchmarks/training/run.py [--data FOLDER] [--framework torch|jax] [--seeds 5] [--out results.json]

plain: mean distance to what happened. + loss: plus `feasible.loss` under `physical`. + projection_loss: plus
`feasible.projection_loss`, now and then, on part of a batch. decoder: the network says controls, `feasible.decode`
drives them. projected: plain, with `feasible.project` at inference. Each seed draws another split of the tracks, other
weights and other batches; the five ways share them. Infeasible is what `audit` says of the positions.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np

import feasible
from benchmarks.real_data import folder
from benchmarks.training import data as d

WAYS = ("plain", "+ loss", "+ projection_loss", "decoder", "projected")
COLUMNS = ("ade", "fde", "physical_raw", "physical_savgol", "comfort_raw", "comfort_savgol", "distance", "step")
HEADS = ("ADE m", "FDE m", "phys raw", "phys savgol", "comf raw", "comf savgol", "distance m", "ms/step")


def measure(prediction: np.ndarray, test: np.ndarray, distance: np.ndarray) -> dict[str, float]:
    """Errors [m], shares that are infeasible, and the mean distance to feasibility [m] under `physical`."""
    error = np.linalg.norm(prediction - test[:, d.HISTORY :, :2], axis=-1)
    trajectory = feasible.Trajectory.from_array(prediction, dt=d.DT)
    found = {"ade": error.mean(), "fde": error[:, -1].mean(), "distance": distance.mean()}
    for name, limits in (("physical", d.PHYSICAL), ("comfort", d.COMFORT)):
        for reading in ("raw", "savgol"):
            report = feasible.audit(trajectory, d.VEHICLE, limits, differencing=reading)
            found[f"{name}_{reading}"] = 1.0 - report.feasible.mean()
    return {name: float(value) for name, value in found.items()}


def project(prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The projected positions, and how far each row moved [m]."""
    trajectory = feasible.Trajectory.from_array(prediction, dt=d.DT)
    result = feasible.project(trajectory, d.VEHICLE, d.PHYSICAL, backend="riccati")
    return result.trajectory.to_array(("x", "y")), result.displacement.mean


def one_seed(module: object, tracks: list, windows: object, seed: int, rows: int, settings: d.Settings) -> dict:
    data, results = d.split(tracks, windows, seed, rows), {}
    for way in WAYS[:-1]:
        prediction, seconds = module.train(way, data, seed, settings)
        projected, distance = project(prediction)
        results[way] = {**measure(prediction, data.test, distance), **seconds}
        print(f"seed {seed} {way}: " + ", ".join(f"{k} {v:.4g}" for k, v in results[way].items()), flush=True)
        if way == "plain":
            begun = time.perf_counter()
            again = project(projected)[1]
            results["projected"] = {**measure(projected, data.test, again), "step": seconds["step"]}
            results["projected"]["seconds_per_row"] = (time.perf_counter() - begun) / rows
    return results


def table(results: list[dict]) -> str:
    """Means over the seeds, and standard deviations in brackets."""
    lines = ["| way | " + " | ".join(HEADS) + " |", "|---" * (len(HEADS) + 1) + "|"]
    for way in WAYS:
        cells = []
        for name in COLUMNS:
            values = np.array([r[way][name] for r in results]) * (1000 if name == "step" else 1)
            digits = 4 if name == "distance" else 1 if name == "step" else 3
            cells.append(f"{values.mean():.{digits}f} ({values.std(ddof=min(1, len(values) - 1)):.{digits}f})")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    ade, share = ([np.mean([r[w][n] for r in results]) for w in WAYS[:2]] for n in ("ade", "physical_raw"))
    fewer, dearer = share[0] / max(share[1], 1e-9), 100 * (ade[1] / ade[0] - 1)
    lines.append(f"\n+ loss: {fewer:.1f} times fewer infeasible, ADE {dearer:+.1f} %")
    return "\n".join(lines)


def draw(results: list[dict], title: str, path: Path) -> None:
    """Share infeasible (logarithmic) against ADE, a point a seed and a bigger one for the mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
    for axis, reading in zip(axes, ("raw", "savgol"), strict=True):
        for i, way in enumerate(WAYS):
            ade = np.array([r[way]["ade"] for r in results])
            share = np.array([r[way][f"physical_{reading}"] for r in results])
            axis.scatter(ade, np.maximum(share, 1e-3), s=12, alpha=0.5, color=f"C{i}")
            axis.scatter(ade.mean(), max(share.mean(), 1e-3), s=70, color=f"C{i}", label=way)
        axis.set(xlabel="ADE [m]", title=f"{reading} differences", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share infeasible under physical\n(0 drawn at 0.001)")
    figure.legend(*axes[1].get_legend_handles_labels(), fontsize=8, loc="outside right center")
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Trains, measures, prints and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--framework", choices=("torch", "jax"), default="torch")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=300, help="held-out windows to measure on")
    parser.add_argument("--steps", type=int, default=d.Settings().steps)
    parser.add_argument("--out", type=Path, help="JSON; a plot of the same name is drawn beside it")
    parser.add_argument("--note", help="goes into the JSON: what a reader of the times should know of the machine")
    args = parser.parse_args()
    if args.framework == "torch":
        importlib.import_module("torch").set_num_threads(1)
    module = importlib.import_module(f"benchmarks.training.with_{args.framework}")
    tracks, windows = d.load(folder(args.data))
    settings = d.Settings(steps=args.steps)
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    content = {"framework": args.framework, "settings": settings._asdict(), "rows": args.rows, "machine": machine}
    content |= {"note": args.note} if args.note else {}
    results: list[dict] = []
    for seed in range(args.seeds):
        results.append(one_seed(module, tracks, windows, seed, args.rows, settings))
        print(table(results), flush=True)
        if args.out:  # after each seed, because a run takes a while
            args.out.write_text(json.dumps({**content, "seeds": results}, indent=2) + "\n")
            draw(results, f"five ways to train, {args.framework}", args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
