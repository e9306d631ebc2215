"""The projection inside a jitted program, on whatever device JAX has: time by batch, and how near it is to float64.

    python benchmarks/accelerator.py [--rows 1024,8192,65536] [--preset physical] [--steps 80] [--out results.json]

Noisy synthetic drives in float32, already on the device; forward, and forward with backward; best of twenty
calls after the first. The programs are traced one after the other and compiled beside each other, on all cores.
The distance is that of the first rows' positions to the host's projection in float64.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.host import commit, machine
from benchmarks.peers.problems import VEHICLE, synthetic
from benchmarks.real_data import DT

import feasible
import feasible.jax
from feasible import presets

CHECKED, CALLS = 256, 20


class Compiled:
    """A function of values on the device, and the seconds that tracing and compiling it took."""

    def __init__(self, function: Callable[[Any], Any], values: Any):
        began = time.perf_counter()
        self._lowered = jax.jit(function).lower(values)
        self._values, self.tracing, self.compiling = values, time.perf_counter() - began, 0.0

    def finish(self) -> Compiled:
        """Compiles it; in any thread."""
        began = time.perf_counter()
        self._run = self._lowered.compile()
        self.compiling = time.perf_counter() - began
        return self

    def timed(self) -> tuple[Any, float]:
        """What it returns, and the seconds of the best of `CALLS` calls after the first."""
        times = []
        for _ in range(1 + CALLS):
            began = time.perf_counter()
            found = jax.block_until_ready(self._run(self._values))
            times.append(time.perf_counter() - began)
        return found, min(times[1:])


def main() -> None:
    """Runs and prints a line per batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1024,8192,65536")
    parser.add_argument("--preset", default="physical")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    sizes, limits = [int(n) for n in args.rows.split(",")], presets.get(args.preset)
    positions = synthetic(args.steps, max(sizes), args.preset, 0).problem.target[..., :2]
    host = feasible.project(feasible.Trajectory.from_array(positions[:CHECKED], dt=DT), VEHICLE, limits)

    def forward(values: Any) -> feasible.jax.Projected:
        return feasible.jax.project(values, VEHICLE, limits, dt=DT)

    def length(values: Any) -> Any:
        return jnp.sum(forward(values).samples[..., :2] ** 2)

    result: dict[str, Any] = {
        "device": str(jax.devices()[0].device_kind),
        "jax": jax.__version__,
        "commit": commit(),
        "machine": machine(),
        "preset": args.preset,
        "steps": args.steps,
        "batches": {},
    }
    print(result["device"], "JAX", jax.__version__)
    programs = [
        Compiled(f, jnp.asarray(positions[:count], jnp.float32)) for count in sizes for f in (forward, jax.grad(length))
    ]
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(min(len(programs), os.cpu_count() or 1)) as pool:
        list(pool.map(Compiled.finish, programs))
    result["compiling_all_s"] = time.perf_counter() - began
    for count, one, two in zip(sizes, programs[::2], programs[1::2], strict=True):
        (found, seconds), (gradient, both) = one.timed(), two.timed()
        apart = np.abs(np.asarray(found.states)[:CHECKED, ..., :2] - host.states[:count, ..., :2]).max((1, 2))
        status = np.asarray(found.status)
        line = {
            "forward_ms": 1e3 * seconds,
            "both_ms": 1e3 * both,
            "forward_rate": count / seconds,
            "both_rate": count / both,
            "tracing_s": [one.tracing, two.tracing],
            "compiling_s": [one.compiling, two.compiling],
            "projected": float((status <= feasible.Status.PROJECTED).mean()),
            "median_mm": 1e3 * float(np.median(apart)),
            "p99_mm": 1e3 * float(np.quantile(apart, 0.99)),
            "gradient_finite": bool(np.isfinite(np.asarray(gradient)).all()),
        }
        result["batches"][count] = line
        print(
            f"{count:7d} rows  forward {1e3 * seconds:8.1f} ms {count / seconds:9.0f}/s  with backward "
            f"{1e3 * both:8.1f} ms {count / both:9.0f}/s  projected {100 * line['projected']:.2f} %  from float64 "
            f"{line['median_mm']:.2f} mm (p99 {line['p99_mm']:.2f})  compiled in {one.compiling:.0f} and "
            f"{two.compiling:.0f} s",
            flush=True,
        )
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
