"""Machine code kept on disk: a program that was compiled once on this machine is there at once the next time.

The key is the text of the program with the processor and the compiler's version, so an entry can be stale but never
wrong. `FEASIBLE_CACHE` names another folder than the user's cache; empty, it switches the cache off. A folder that
cannot be read or written is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

KEPT = 64  # programs; the oldest go first


def folder() -> Path | None:
    """Where programs are kept, or None."""
    named = os.environ.get("FEASIBLE_CACHE")
    if named is not None:
        return Path(named) if named else None
    base = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # no home directory
        return (Path(base) if base else Path.home() / ".cache") / "feasible"
    return None


def key(*parts: str) -> str:
    """Of texts that determine the machine code."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def load(name: str) -> bytes | None:
    """The machine code, if it is kept."""
    place = folder()
    if place is None:
        return None
    with contextlib.suppress(OSError):
        code = (place / f"{name}.o").read_bytes()
        os.utime(place / f"{name}.o")
        return code
    return None


def store(name: str, code: bytes) -> None:
    """Keeps machine code; written to a temporary name and renamed, so that no reader sees half of it."""
    place = folder()
    if place is None:
        return
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=place, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(code)
        os.replace(temporary, place / f"{name}.o")
        kept = sorted(place.glob("*.o"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[KEPT:]:
            path.unlink(missing_ok=True)
