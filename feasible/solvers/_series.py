"""Numbers of the elementary functions that both engines spell out: parts of π, and series in the reduced argument.

Each takes whether it is for float64; the series end where the next term is below rounding.
"""

from __future__ import annotations

import math

_BEYOND = 1.2246467991473532e-16  # of π, beyond float64


def half_turn(double: bool) -> list[float]:
    """π as a sum of three, the first two short enough that small multiples of them are exact."""
    parts, left, bits = [], math.pi, 33 if double else 11
    for _ in range(2):
        scale = 2.0 ** (bits - math.frexp(left)[1])
        parts.append(math.floor(left * scale) / scale)
        left -= parts[-1]
    return [*parts, left + _BEYOND]


def sine(double: bool) -> list[float]:
    """Of sin(x) / x in x², |x| <= π/2."""
    return [(-1.0) ** i / math.factorial(2 * i + 1) for i in range(12 if double else 7)]


def cosine(double: bool) -> list[float]:
    """Of cos(x) in x², |x| <= π/2."""
    return [(-1.0) ** i / math.factorial(2 * i) for i in range(13 if double else 8)]


def arctangent(double: bool) -> list[float]:
    """Of atan(x) / x in x², |x| <= tan(π/16)."""
    return [(-1.0) ** i / (2 * i + 1) for i in range(11 if double else 5)]


def logarithm(double: bool) -> list[float]:
    """Of log((1 + s) / (1 - s)) / s in s², |s| <= 0.172."""
    return [2.0 / (2 * i + 1) for i in range(11 if double else 5)]
