"""Numbers of the elementary functions that both engines spell out: parts of π/2, and series in the reduced argument.

Each takes whether it is for float64; the series end where the next term is below rounding.
"""

from __future__ import annotations

import math

_BEYOND = 6.123233995736766e-17  # of π/2, beyond float64


def quarter_turn(double: bool) -> list[float]:
    """π/2 as a sum of three, the first two short enough that small multiples of them are exact."""
    parts, left, bits = [], math.pi / 2, 33 if double else 11
    for _ in range(2):
        scale = 2.0 ** (bits - math.frexp(left)[1])
        parts.append(math.floor(left * scale) / scale)
        left -= parts[-1]
    return [*parts, left + _BEYOND]


def sine(double: bool) -> list[float]:
    """Of sin(x) / x in x², |x| <= π/4."""
    return [(-1.0) ** i / math.factorial(2 * i + 1) for i in range(9 if double else 5)]


def cosine(double: bool) -> list[float]:
    """Of cos(x) in x², |x| <= π/4."""
    return [(-1.0) ** i / math.factorial(2 * i) for i in range(10 if double else 6)]


def arctangent(double: bool) -> list[float]:
    """Of atan(x) / x in x², |x| <= tan(π/16)."""
    return [(-1.0) ** i / (2 * i + 1) for i in range(11 if double else 5)]


def logarithm(double: bool) -> list[float]:
    """Of log((1 + s) / (1 - s)) / s in s², |s| <= 0.172."""
    return [2.0 / (2 * i + 1) for i in range(11 if double else 5)]
