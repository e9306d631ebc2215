"""Whether any motion recovers monotonically from a state, asked of IPOPT: a search of its own, not the fallback's.

Over N steps of constant controls (jerk j, curvature rate c), at P points of the steps, with the normalised margins m_i
of the limits,

    minimise    sum of e_i,p / P  +  100 sum of r_i  +  small efforts
    subject to  (v, a, κ) exact at the points,  m_i,p <= e_i,p,  0 <= e_i,p+1 <= e_i,p + r_i / P,  e_i,0 = what is given

Where all r_i vanish, e is an envelope that never rises and starts at the first excess. The excess itself may still dip
below the envelope and come back; so a second program, from the solution of the first, asks for e_i,p <= max(m_i,p, 0),
smoothed. Whoever asks judges the motion by a measure of their own. Given no excess at all, the same program asks for a
motion that keeps the limits.

IPOPT finds local solutions. What it does not find from any of the starts may exist all the same: no proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import casadi as ca
import numpy as np

_SHARES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0)  # of a step, where limits are imposed
_ROOM = 1e-4  # normalised: what a signal may exceed between those points
_SMOOTH, _DIP = 2e-4, 5e-4  # normalised: of the smoothed maximum, and how far the excess may lie under its envelope
_RISE, _EFFORT = 100.0, 1e-4  # costs beside that of the mean excess
_ITERATIONS = 200
_UNIT = np.array([10.0, 1.0])  # m/s³, 1/(m s): scale of controls


class _Scalars(tuple[Any, ...]):
    """Symbols that look to a vehicle model like an array whose last axis they are."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key[1])


_NAMESPACE = SimpleNamespace(
    __name__="casadi", abs=ca.fabs, where=ca.if_else, sqrt=lambda a: ca.sqrt(a + 1e-12), atan=ca.atan
)


class Recovery:
    """The program for a vehicle, limits and a number of steps; built once, solved from many states."""

    def __init__(self, vehicle: Any, limits: Sequence[Any], steps: int, dt: float):
        self.vehicle, self.limits, self.steps, self.dt = vehicle, limits, steps, dt
        self._rows: list[Any] = []
        self._high: list[float] = []
        self._dips: list[int] = []
        points, cost = steps * len(_SHARES), 0.0
        X, U = ca.SX.sym("X", 3, steps + 1), ca.SX.sym("U", 2, steps)
        first, given, rises = ca.SX.sym("x", 3), ca.SX.sym("e", len(limits)), ca.SX.sym("r", len(limits))
        last, envelope, dynamics = [given[i] + 2 * _ROOM for i in range(len(limits))], [], [X[:, 0] - first]
        for k in range(steps):
            (v, a, κ), (j, c) = ca.vertsplit(X[:, k]), (_UNIT[i] * U[i, k] for i in range(2))
            for share in _SHARES:
                t = share * dt
                x = v + a * t + j * t**2 / 2, a + j * t, κ + c * t
                motion = vehicle.motion_of(_Scalars((0, 0, 0, *x)), _Scalars((j, c)), xp=_NAMESPACE)
                for i, limit in enumerate(limits):
                    if self._is_known(limit, share, k):
                        continue
                    envelope.append(ca.SX.sym(f"e{i}_{k}_{share}"))
                    self._bound(limit, limit.signal(motion, vehicle), envelope[-1])
                    self._require(envelope[-1] - last[i] - rises[i] / points, 0.0)
                    last[i] = envelope[-1]
            dynamics.append(ca.vertcat(*x) - X[:, k + 1])
            cost += _EFFORT * (ca.sumsqr(U[:, k]) + X[0, k + 1] ** 2)
        e = ca.vertcat(*envelope)
        nlp = {
            "x": ca.vertcat(ca.vec(X), ca.vec(U), e, rises),
            "p": ca.vertcat(first, given),
            "f": cost + ca.sum1(e) / points + _RISE * ca.sum1(rises),
            "g": ca.vertcat(*self._rows, *dynamics),
        }
        options = {"print_time": False, "ipopt.print_level": 0, "ipopt.sb": "yes", "ipopt.max_iter": _ITERATIONS}
        options |= {"ipopt.tol": 1e-6, "ipopt.acceptable_tol": 1e-4, "ipopt.mu_strategy": "adaptive"}
        self._solver = ca.nlpsol("recovery", "ipopt", nlp, options)
        self._states, self._controls, self._free = X.numel(), U.numel(), e.numel() + rises.numel()

    def motions(self, state: np.ndarray, given: np.ndarray, starts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Controls `(N, 2)` that were found from a state `(6,)`, at most two for each start `(N, 2)`.

        Args:
            state: (x, y, yaw, v, a, κ).
            given: `(L,)` excess that each limit may have at first.
            starts: controls.
        """
        found, cut = [], slice(self._states, self._states + self._controls)
        for start in starts:
            path = self.vehicle.rollout(state, start, self.dt)[:, 3:]
            guess = np.concatenate([np.full(self._free - len(given), given.max()), np.zeros(len(given))])
            z = np.concatenate([path.ravel(), (start / _UNIT).ravel(), guess])
            for tight in (False, True):
                z = self._solve(z, state, given, tight=tight)
                found.append(z[cut].reshape(self.steps, 2) * _UNIT)
        return found

    def _solve(self, z: np.ndarray, state: np.ndarray, given: np.ndarray, *, tight: bool) -> np.ndarray:
        high = np.array(self._high)
        high[self._dips] = _DIP if tight else np.inf
        dynamics = np.zeros(self._states)
        lower = np.concatenate([np.full(self._states + self._controls, -np.inf), np.zeros(self._free)])
        low = np.concatenate([np.full(len(high), -np.inf), dynamics])
        p, high = np.concatenate([state[3:], given]), np.concatenate([high, dynamics])
        return np.asarray(self._solver(x0=z, p=p, lbx=lower, lbg=low, ubg=high)["x"]).ravel()

    def _is_known(self, limit: Any, share: float, k: int) -> bool:
        """Whether another point states the same: of a signal that is constant over the step, or continuous."""
        controls = set(self.vehicle.CONTROLS)
        if limit.reads <= controls:
            return share > 0.0
        return share == 0.0 and k > 0 and not limit.reads & controls

    def _bound(self, limit: Any, value: Any, e: Any) -> None:
        margins = [
            sign * (value - bound) / size
            for bound, sign, size in zip((limit.lower, limit.upper), (-1.0, 1.0), limit.scales(np), strict=True)
            if bound is not None
        ]
        for margin in margins:
            self._require(margin - e, -_ROOM)
        over = ca.fmax(*margins) if len(margins) == 2 else margins[0]
        self._dips.append(len(self._rows))
        self._require(e - 0.5 * (over + ca.sqrt(over**2 + _SMOOTH**2)), np.inf)

    def _require(self, row: Any, high: float) -> None:
        self._rows.append(row)
        self._high.append(high)
