"""`Status`: what became of a sample, in one sentence each."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """How a projected sample came about; the higher, the further from what was asked for."""

    meaning: str

    UNCHANGED = 0, "It was feasible: no position moved by more than a millimetre. Use it."
    PROJECTED = 1, "It was moved to the nearest trajectory found that keeps every limit. Use it; see displacement."
    RELAXED = (
        2,
        (
            "No trajectory from the given initial state keeps every limit, or none was found: the limits named in "
            "`relaxed` are exceeded as little as possible. Check the initial state, or free part of it with NaN."
        ),
    )
    FALLBACK = (
        3,
        (
            "The solver found nothing usable: this is jerk-limited braking on the initial curvature, not a projection. "
            "Treat the plan as lost, and report the sample."
        ),
    )
    REJECTED = (
        4,
        (
            "The input has no finite sample: the output stands at the initial state, or brakes from it. "
            "Fix the source of the NaN."
        ),
    )

    def __new__(cls, value: int, meaning: str) -> Status:
        """An integer member that carries its sentence."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member
