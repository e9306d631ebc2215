"""The machine and the versions that a measurement belongs to, and a process of its own for each."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import platform
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def alone(job: Callable[..., Any], *given: Any) -> Any:
    """Runs a measurement in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(job, *given).result()


def machine() -> dict[str, Any]:
    """Processor and cores."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        first = info.read_text().split("\n\n")[0].splitlines()
        said = {key.strip(): text.strip() for key, _, text in (line.partition(":") for line in first)}
        model = said.get("model name", model)
        if "cpu family" in said:  # a virtual machine may hide which processor of a make it is
            model += f" (family {said['cpu family']}, model {said['model']})"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": model, "cores": cores, "system": platform.system(), "python": platform.python_version()}


def commit() -> str:
    """Of the working tree, with a + where it differs."""
    try:
        run = ["git", "-C", str(ROOT)]
        head = subprocess.check_output([*run, "rev-parse", "--short", "HEAD"], text=True).strip()
        return head + ("+" if subprocess.check_output([*run, "status", "--porcelain", "feasible"]) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def installed(package: str) -> str | None:
    """Its version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def pin() -> int | None:
    """Keeps this process on one core, the last that it may use; its number, or None where that cannot be done."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core
