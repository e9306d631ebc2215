"""Measurements of one method, in a process of its own: what one method loads or compiles does not touch another."""

from __future__ import annotations

import functools
import os
import time
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.peers.methods import Ours, make
from benchmarks.peers.problems import Rows
from benchmarks.peers.sqp import Found

QUICK = 0.1  # s; a row that takes less is run twice and the lower time counts: the machine may be shared
MOVED = 0.01  # m; samples move by this before the warm start

_method = functools.cache(make)


def available(name: str) -> str:
    """Why a method has to be left out; empty if it has not."""
    try:
        make(name)
    except (ImportError, OSError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def compiling(name: str, rows: Rows) -> float:
    """Seconds from nothing to the first answer, less those of the second; machine code of earlier runs is not used."""
    with mock.patch.dict(os.environ, FEASIBLE_CACHE=""):
        began = time.perf_counter()
        method = make(name)
        method.prepare(rows)
        first = time.perf_counter() - began
    one = rows.take(slice(0, 1))
    return first - (method.row(one, fresh=True).seconds if isinstance(method, Ours) else 0.0)


def latency(name: str, rows: Rows, budget: float, warm: bool) -> dict[str, Any]:
    """One row at a time for at most `budget` seconds; numbers per row, and the answers for the judge."""
    method = _method(name)
    method.prepare(rows)
    rng, cold, warmed = np.random.default_rng(1), [], []
    shift = MOVED * rng.normal(size=(*rows.controls.shape[:2], 2))
    began = time.perf_counter()
    for i in range(len(rows)):
        if time.perf_counter() - began > budget and i >= 2:
            break
        one = rows.take(slice(i, i + 1))
        found = _best(method, one, fresh=True)
        cold.append(found)
        if warm:
            again = one.started_at(found.states[None], found.controls[None], shift[i : i + 1])
            # A second time would start from multipliers that already fit, so the warm start is timed once.
            warmed.append(method.row(again, fresh=False))
    out = {"cold": _arrays(cold), "shift": shift[: len(cold)]}
    if warm:
        out["warm"] = _arrays(warmed)
    return out


def _best(method: Any, one: Rows, *, fresh: bool) -> Found:
    found = method.row(one, fresh=fresh)
    if found.seconds < QUICK:
        again = method.row(one, fresh=fresh)
        found = min(found, again, key=lambda f: f.seconds)
    return found


def _arrays(found: list[Found]) -> dict[str, np.ndarray]:
    names = ("states", "controls", "seconds", "inside", "subproblems")
    return {name: np.array([getattr(f, name) for f in found]) for name in names}


def one_by_one(name: str, rows: Rows, count: int) -> np.ndarray:
    """States `(count, T + 1, S)` of rows, each in a batch of its own on the program that serves batches."""
    method = _method(name)
    method.prepare(rows)
    return np.concatenate([method.batch(rows.take(slice(i, i + 1)))[0] for i in range(min(count, len(rows)))])


def batches(name: str, rows: Rows, sizes: list[int], one_core: bool) -> list[dict[str, Any]]:
    """Batches of the given sizes: best of three runs, and the answers."""
    if one_core and hasattr(os, "sched_setaffinity"):
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
    method, out = _method(name), []
    method.prepare(rows)
    for size in sizes:
        part = rows.take(np.arange(size) % len(rows))
        runs = [method.batch(part) for _ in range(3)]
        states, controls, seconds = min(runs, key=lambda r: r[2])
        out.append({"states": states, "controls": controls, "seconds": seconds})
    if one_core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, before)
    return out


def derivative(name: str, rows: Rows, sizes: list[int]) -> list[dict[str, float]]:
    """Forward, and backward after it, of the whole nonlinear projection."""
    from feasible.solvers._riccati_vjp import pull_back

    method, out = _method(name), []
    rng = np.random.default_rng(2)
    for size in sizes:
        part = rows.take(np.arange(size) % len(rows))
        by = rng.normal(size=part.states.shape) * ([1.0, 1.0] + [0.0] * (part.states.shape[-1] - 2))
        backend = method.alone if size == 1 else method.backend
        best = [np.inf, np.inf]
        for _ in range(3):  # the first of them compiles the backward program
            began = time.perf_counter()
            s = backend.solve(part.problem, part.states, part.controls)
            middle = time.perf_counter()
            pulled = pull_back(
                part.problem, s.states, s.controls, s.multipliers, by, np.zeros_like(part.controls),
                backend=backend,
            )  # fmt: skip
            best = [min(best[0], middle - began), min(best[1], time.perf_counter() - middle)]
        share = float(np.mean(pulled.solved))
        out.append({"batch": size, "forward": best[0], "backward": best[1], "solved": share})
    return out
