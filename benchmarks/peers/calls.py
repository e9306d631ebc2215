"""One method called again and again in a process of its own on one core; times, answers and verdicts go to a file."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import callers, cycles
from benchmarks.peers.host import pin

FIRST = 20  # calls before any is timed


class Collections:
    """The seconds that Python's garbage collector took since it was asked last."""

    def __init__(self) -> None:
        self._seconds, self._began = 0.0, 0.0
        gc.callbacks.append(self._called)

    def _called(self, phase: str, _: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self._seconds += time.perf_counter() - self._began

    def taken(self) -> float:
        """Since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


def measure(
    place: Path, states: Path, preset: str, job: dict[str, Any], scale: float, seed: int, data: str | None
) -> None:
    """Runs a job of `benchmarks/latency.py` and writes `place`.

    The collector runs as it does in any program: what compiling left behind is collected before, and what a call
    leaves is collected when Python thinks fit, in the time of some call.
    """
    core, modes = pin(), job["modes"]
    state = np.load(states)
    plans = cycles.build(len(state), modes, scale, seed, data).plans
    if "peer" in job:
        caller: Any = callers.make(job["peer"], preset)
    else:
        caller = callers.Ours(preset, cycles.STEPS, modes, warm=job["warm"], deadline=job["deadline"])
    drives = min(-(-job["calls"] // cycles.CYCLES), len(state))
    places = [(d, c) for d in range(drives) for c in range(cycles.CYCLES)]
    for d, c in places[:FIRST]:
        caller(plans[d, c], state[d, c], first=c == 0)
    load = os.getloadavg()
    collections, gathered = Collections(), []
    gc.collect()
    collections.taken()
    for d, c in places:
        began = time.thread_time()
        answer = caller(plans[d, c], state[d, c], first=c == 0)
        processor = time.thread_time() - began
        gathered.append((answer, processor, collections.taken()))
    answers, processor, collecting = zip(*gathered, strict=True)
    controls = np.stack([a.controls for a in answers])
    flat = plans[:drives].reshape(-1, *plans.shape[-2:]), np.repeat(state[:drives].reshape(-1, 6), modes, axis=0)
    passed, objective = cycles.judge(*flat, controls.reshape(-1, *controls.shape[-2:]), preset)
    np.savez(
        place,
        seconds=np.array([a.seconds for a in answers]),
        inside=np.array([a.inside for a in answers]),
        processor=np.array(processor),
        collecting=np.array(collecting),
        status=np.stack([a.status for a in answers]),
        iterations=np.stack([a.iterations for a in answers]),
        passed=passed.reshape(-1, modes),
        objective=objective.reshape(-1, modes),
        # A warm start is there from a drive's second call on; the first calls of drives say nothing about it.
        counted=np.array([c > 0 or not job["warm"] for _, c in places]),
        load=np.array([load, os.getloadavg()]),
        core=np.array(-1 if core is None else core),
    )
