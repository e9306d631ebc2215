"""The projection problem: what is minimised, what is constrained, and its linearisation.

    minimise   1/2 Σ_k ( w_p |p_k - p̂_k|² + w_ψ wrap(ψ_k - ψ̂_k)² + w_v (v_k - v̂_k)² )  +  1/2 Σ_k r · u_k²
    over       states x_0..x_T, controls u_0..u_{T-1};  sample k is state x_{k+1}
    subject to x_{k+1} = f(x_k, u_k);  lower_i <= signal_i <= upper_i at the start, middle and end of each step;
               x_0 = initial state where that is a number, free where it is NaN

Limits hold between the samples too: the state moves on under the same control, so a limit kept only where a step
starts is broken before it ends. A signal that reads controls only is constant in a step and needs one row; one that
reads states only has the end of one step at the start of the next, and needs the start row in the first step alone.

This module is NumPy in float64: it states the problem for backends that run on the host, and judges every backend.
Jacobians are central differences, because signals and models are plain functions that nobody has to differentiate
by hand; their error of 1e-9 is far below what a Gauss-Newton step notices.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from feasible._arrays import Array, namespace, to_numpy, wrap
from feasible._limits import Limit

FRACTIONS = (0.0, 0.5, 1.0)  # of a step, where limits are imposed
HEAVIEST = 1e6  # weight of a sample: beyond, the solver's numbers have no digits left for the others
SMOOTHING = 1e-10  # m²: barrier parameter at which a derivative counts as that of the projection itself
_PROBE_SECOND = 1e-3  # of the typical size: balances rounding (1e-16 / h²) against truncation (h²)
_PROBE = 1e-5  # half-width of central differences; states and controls are of order 0.1 to 100


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights of the projection's objective.

    The control weights are small: they decide between motions that the samples cannot tell apart, and move a
    feasible trajectory by less than a millimetre.

    Attributes:
        position: of a squared position error [1/m²].
        yaw: of a squared heading error [1/rad²], where the trajectory states yaw.
        speed: of a squared speed error [s²/m²], where the trajectory states speed.
        controls: of the squared controls of the vehicle model; jerk [s⁶/m²] and curvature rate [m² s²].
    """

    position: float = 1.0
    yaw: float = 1.0
    speed: float = 0.1
    controls: tuple[float, ...] = (1e-8, 1e-4)

    @property
    def of_sample(self) -> tuple[float, float, float, float]:
        """Of the squared errors in x, y, yaw and speed."""
        return self.position, self.position, self.yaw, self.speed

    def __post_init__(self) -> None:
        for name in ("position", "yaw", "speed"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"weights: expected {name} >= 0, got {value}")
        if self.position <= 0 or any(not (np.isfinite(c) and c > 0) for c in self.controls):
            raise ValueError(f"weights: expected position and controls > 0, got {self.position} and {self.controls}")


def sample_counts(sample_weight: Any, ones: Array) -> Array:
    """What samples' squared errors count in the objective: `HEAVIEST` at most, and 0 where they are missing.

    Args:
        sample_weight: numbers of any kind that broadcast to `(..., T)`; None for 1.
        ones: `(..., T)`, whose namespace, dtype and device the result has.

    Raises:
        ValueError: for a shape that does not fit.
    """
    if sample_weight is None:
        return ones
    xp = namespace(ones)
    if not hasattr(sample_weight, "shape") or namespace(sample_weight) is not xp:
        sample_weight = xp.asarray(to_numpy(sample_weight), dtype=ones.dtype)
        sample_weight = sample_weight.to(ones) if hasattr(ones, "detach") else sample_weight
    try:
        given = xp.broadcast_to(xp.astype(sample_weight, ones.dtype), ones.shape)
    except (RuntimeError, ValueError):
        shapes = f"{tuple(ones.shape)} like the samples, got {tuple(sample_weight.shape)}"
        raise ValueError(f"sample_weight: expected shape {shapes}") from None
    capped = xp.where(given < HEAVIEST, given, HEAVIEST)
    return xp.where((given > 0) & (given < np.inf), capped, 0.0)


def check_smoothing(smoothing: Any) -> float:
    """The barrier parameter of the derivative as a number; raises ValueError if it cannot be one."""
    try:
        value = float(smoothing)
    except (TypeError, ValueError):
        value = np.nan
    if isinstance(smoothing, str) or not 0.0 < value < np.inf:
        raise ValueError(f"smoothing: expected a positive number of m², got {smoothing!r}")
    return value


@dataclasses.dataclass(frozen=True)
class Row:
    """One constraint per step: a limit at a fraction of the step."""

    limit: int
    fraction: float
    first_step_only: bool = False


@dataclasses.dataclass(frozen=True)
class Problem:
    """N independent projections that share vehicle, limits and time step.

    Attributes:
        vehicle: the model; see `KinematicBicycle`.
        limits: L limits.
        dt: step [s].
        target: `(..., T, 4)` x, y, yaw, speed to stay close to; finite everywhere.
        weight: `(..., T, 4)` of their squared errors, 0 where nothing is stated.
        initial_state: `(..., S)`, NaN where free.
        effort: `(C,)` weights of the squared controls.
        fractions: of a step, where limits are imposed: start, middle and end, or more.
    """

    vehicle: Any
    limits: tuple[Limit, ...]
    dt: float
    target: np.ndarray
    weight: np.ndarray
    initial_state: np.ndarray
    effort: np.ndarray
    fractions: tuple[float, ...] = FRACTIONS

    @functools.cached_property
    def rows(self) -> tuple[Row, ...]:
        """The constraint rows of every step."""
        controls = frozenset(self.vehicle.CONTROLS)
        rows = []
        for i, limit in enumerate(self.limits):
            if limit.reads <= controls:
                rows.append(Row(i, 1.0))
                continue
            stateful = not limit.reads & controls
            rows += [Row(i, fraction, stateful and fraction == 0.0) for fraction in self.fractions]
        return tuple(rows)

    def bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lower bounds, upper bounds (±inf where absent) and scales, each `(R,)` in the order of `rows`."""
        limits = [self.limits[row.limit] for row in self.rows]
        lower = np.array([-np.inf if m.lower is None else float(m.lower) for m in limits])
        upper = np.array([np.inf if m.upper is None else float(m.upper) for m in limits])
        return lower, upper, np.array([max(map(float, m.scales(np))) for m in limits])

    def row_mask(self) -> np.ndarray:
        """`(R, T)` bool: where a row exists."""
        mask = np.ones((len(self.rows), self.target.shape[-2]), dtype=bool)
        for r, row in enumerate(self.rows):
            mask[r, 1:] = not row.first_step_only
        return mask

    def select(self, index: Any) -> Problem:
        """The rows of the batch that `index` selects."""
        take = {name: getattr(self, name)[index] for name in ("target", "weight", "initial_state")}
        return dataclasses.replace(self, **take)

    def objective(self, states: np.ndarray, controls: np.ndarray) -> np.ndarray:
        """`(...)` from states `(..., T + 1, S)` and controls `(..., T, C)`."""
        error = self.residual(states)
        return 0.5 * np.sum(self.weight * error**2, (-2, -1)) + 0.5 * np.sum(self.effort * controls**2, (-2, -1))

    def residual(self, states: np.ndarray) -> np.ndarray:
        """`(..., T, 4)`: state minus target in x, y, yaw (wrapped), speed."""
        error = states[..., 1:, :4] - self.target
        error[..., 2] = wrap(np, error[..., 2])
        return error

    def defect(self, states: np.ndarray, controls: np.ndarray) -> np.ndarray:
        """`(..., T, S)`: f(x_k, u_k) - x_{k+1}."""
        return self.vehicle.step(states[..., :-1, :], controls, self.dt) - states[..., 1:, :]

    def signals(self, start: np.ndarray, controls: np.ndarray) -> np.ndarray:
        """`(R, ..., T)`: the signal of each row, in the limit's unit, from states at the start of each step."""
        motions = {}
        for fraction in {row.fraction for row in self.rows}:
            at = start if fraction == 0.0 else self.vehicle.step(start, controls, fraction * self.dt)
            motions[fraction] = self.vehicle.motion_of(at, controls)
        return np.stack([self.limits[r.limit].signal(motions[r.fraction], self.vehicle) for r in self.rows])

    def excess(self, states: np.ndarray, controls: np.ndarray) -> np.ndarray:
        """`(R, ..., T)`: normalised excess of each row, 0 where the limit holds or the row does not exist."""
        over = self.signals(states[..., :-1, :], controls)  # in place from here: memory is what takes time
        for r, (row, lower, upper, scale) in enumerate(zip(self.rows, *self.bounds(), strict=True)):
            below = lower - over[r] if lower > -np.inf else None
            over[r] -= upper
            if below is not None:
                np.maximum(over[r], below, out=over[r])
            over[r] /= scale
            np.maximum(over[r], 0.0, out=over[r])
            if row.first_step_only:
                over[r, ..., 1:] = 0.0
        return over


@dataclasses.dataclass(frozen=True)
class Solution:
    """What a backend returns for N problems; it is judged by residuals, never by its own word.

    Attributes:
        states: `(N, T + 1, S)`. controls: `(N, T, C)`.
        multipliers: `(N, T, R)` of the rows over their scales [m²]: positive where an upper bound binds, negative
            where a lower one does.
        iterations: `(N,)` linearisations used.
        converged: `(N,)` bool, whether the backend met its own tolerance.
    """

    states: np.ndarray
    controls: np.ndarray
    multipliers: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray


@dataclasses.dataclass(frozen=True)
class Linearisation:
    """First order of dynamics and rows at a trajectory: `(T, ...)`, a leading axis for each step.

    Attributes:
        defect: `(T, S)`. A: `(T, S, S)`. B: `(T, S, C)`: next state's derivatives.
        value: `(T, R)` signals over their scales. G: `(T, R, S + C)`: their derivatives.
    """

    defect: np.ndarray
    A: np.ndarray
    B: np.ndarray
    value: np.ndarray
    G: np.ndarray


def curvature(
    problem: Problem, states: np.ndarray, controls: np.ndarray, costate: np.ndarray, price: np.ndarray
) -> np.ndarray:
    """`(T, S + C, S + C)`: second derivatives of costate · f + price · rows over each step's state and control.

    Args:
        problem: of one row.
        states: `(T + 1, S)`.
        controls: `(T, C)`.
        costate: `(T, S)` multipliers of the dynamics.
        price: `(T, R)` multipliers of the rows over their scales.
    """
    start, S = states[:-1], states.shape[-1]
    size = S + controls.shape[-1]
    width = _PROBE_SECOND * np.asarray(problem.vehicle.TYPICAL)
    pairs = [(i, j) for i in range(size) for j in range(i, size)]
    unit = np.diag(width)
    offsets = np.array([a * unit[i] + b * unit[j] for i, j in pairs for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))])
    x, u = start + offsets[:, None, :S], controls + offsets[:, None, S:]
    value = np.einsum("nts,ts->nt", problem.vehicle.step(x, u, problem.dt), costate)
    value += np.einsum("rnt,tr->nt", problem.signals(x, u) / problem.bounds()[2][:, None, None], price)
    second = np.zeros((len(start), size, size))
    for n, (i, j) in enumerate(pairs):  # on the diagonal the cross difference spans two widths, and is as exact
        pp, pm, mp, mm = value[4 * n : 4 * n + 4]
        second[:, i, j] = second[:, j, i] = (pp - pm - mp + mm) / (4 * width[i] * width[j])
    return second


def linearise(problem: Problem, states: np.ndarray, controls: np.ndarray) -> Linearisation:
    """Of one row: states `(T + 1, S)`, controls `(T, C)`."""
    start, S = states[:-1], states.shape[-1]
    size = S + controls.shape[-1]
    offsets = np.concatenate([np.zeros((1, size)), _PROBE * np.eye(size), -_PROBE * np.eye(size)])[:, None]
    x, u = start + offsets[..., :S], controls + offsets[..., S:]
    following = problem.vehicle.step(x, u, problem.dt)
    signal = problem.signals(x, u) / problem.bounds()[2][:, None, None]
    slope = (following[1 : size + 1] - following[size + 1 :]) / (2 * _PROBE)
    gradient = (signal[:, 1 : size + 1] - signal[:, size + 1 :]) / (2 * _PROBE)
    jacobian = np.moveaxis(slope, 0, -1)
    return Linearisation(
        defect=following[0] - states[1:],
        A=jacobian[..., :S],
        B=jacobian[..., S:],
        value=signal[:, 0].T,
        G=np.moveaxis(gradient, (0, 1, 2), (1, 2, 0)),
    )
