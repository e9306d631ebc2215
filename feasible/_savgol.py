"""The "savgol" reading: samples through the smoother of Savitzky and Golay (1964) before they are differenced."""

from __future__ import annotations

import functools

import jax
import numpy as np

from feasible._arrays import Array, Namespace, wrap
from feasible._differences import Columns

SAVGOL_WINDOW = 11  # samples, 1.1 s at 10 Hz: wide enough for centimetre noise, narrow enough for a swerve
SAVGOL_ORDER = 3


def smooth(
    xp: Namespace,
    columns: Columns,
    valid: Array,
    window: int = SAVGOL_WINDOW,
    order: int = SAVGOL_ORDER,
) -> tuple[Columns, Array]:
    """Columns x, y, yaw, speed `(T, ...)` smoothed, and which are valid: a sample whose window has a gap is a gap."""
    x, y, yaw, speed = columns
    matrix = _matrix(x.shape[0], window, order)
    smoother, reach = (xp.asarray(m, dtype=x.dtype) for m in (matrix, (matrix != 0).astype(np.float64)))

    def apply(a: Array | None) -> Array | None:
        return None if a is None else _weighted(xp, smoother, a)

    if yaw is not None:  # smooth the continuous heading, not the wrapped one
        steps = xp.cumulative_sum(wrap(xp, yaw[1:] - yaw[:-1]), axis=0)
        yaw = xp.concat([yaw[:1], yaw[:1] + steps], axis=0)
    holes = _weighted(xp, reach, xp.astype(~valid, x.dtype))
    return (apply(x), apply(y), apply(yaw), apply(speed)), valid & (holes < 0.5)


def _weighted(xp: Namespace, matrix: Array, a: Array) -> Array:
    """`(T, ...)`: sums over the samples with the weights of each row."""
    # JAX keeps ten bits of a float32 in products of matrices on a graphics processor: 3 cm of a position 100 m away.
    with jax.default_matmul_precision("highest"):
        return xp.tensordot(matrix, a, axes=1)


@functools.cache
def _matrix(steps: int, window: int, order: int) -> np.ndarray:
    """`(T, T)`: row k holds the weights of a least-squares polynomial over the window of sample k, taken at k."""
    if window % 2 == 0 or window < 3:
        raise ValueError(f"window: expected an odd number of samples, at least 3, got {window}")
    if not 0 <= order < window:
        raise ValueError(f"order: expected 0 <= order < window = {window}, got {order}")
    window = min(window, steps - 1 + steps % 2)
    order = min(order, window - 1)  # a horizon shorter than the window is fitted as well as it allows
    matrix = np.zeros((steps, steps))
    for k in range(steps):
        start = min(max(k - window // 2, 0), steps - window)
        offsets = np.arange(start, start + window) - k
        fit = np.linalg.pinv(np.vander(offsets / window, order + 1, increasing=True))
        matrix[k, start : start + window] = fit[0]
    return matrix
