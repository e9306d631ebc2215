"""Work shared among the processor's cores; compiled code and NumPy's copies run beside each other."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_WORTH = 256  # rows: handing fewer to another thread takes longer than copying them


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(work: Callable[[int], None], workers: int) -> None:
    """`work(0)` to `work(workers - 1)`, each in a thread of its own."""
    if workers == 1:
        work(0)
    else:
        list(_pool().map(work, range(workers)))


def by_rows(work: Callable[[slice], None], count: int) -> None:
    """`work` on rows 0 to `count` - 1, a block of them on every core; in one go where there are few."""
    workers = min(cores(), max(count // _WORTH, 1))
    share(lambda k: work(slice(count * k // workers, count * (k + 1) // workers)), workers)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), thread_name_prefix="feasible")
