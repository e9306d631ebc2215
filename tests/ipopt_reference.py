"""The projection problem written again in CasADi and solved by IPOPT: a judge that shares no code with the library.

Same objective, same discretisation and the same limits at start, middle and end of each step as
`feasible._problem` states; every formula is written out here by hand.
"""

from __future__ import annotations

import casadi as ca
import numpy as np

G = 9.80665
SQRT06 = 0.6**0.5
NODES, WEIGHTS = (0.5 - SQRT06 / 2, 0.5, 0.5 + SQRT06 / 2), (5 / 18, 8 / 18, 5 / 18)


def _flow(x, u, h):
    """State after h under a constant control."""
    yaw, v, a, k = x[2], x[3], x[4], x[5]
    j, c = u[0], u[1]

    def heading(t):
        return yaw + v * k * t + (a * k + v * c) * t**2 / 2 + (j * k / 2 + a * c) * t**3 / 3 + j * c * t**4 / 8

    px, py = x[0], x[1]
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        t = node * h
        speed = v + a * t + j * t**2 / 2
        px += weight * h * speed * ca.cos(heading(t))
        py += weight * h * speed * ca.sin(heading(t))
    return ca.vertcat(px, py, heading(h), v + a * h + j * h**2 / 2, a + j * h, k + c * h)


def _signals(x, u, wheelbase):
    v, a, k, j, c = x[3], x[4], x[5], u[0], u[1]
    lateral, lateral_jerk = v**2 * k, 2 * v * a * k + v**2 * c
    return {
        "speed": v,
        "acceleration": a,
        "jerk": j,
        "lateral_acceleration": lateral,
        "yaw_rate": v * k,
        "yaw_acceleration": a * k + v * c,
        "jerk_square": j**2 + lateral_jerk**2,  # the square is smooth where the root is not
        "friction_square": a**2 + lateral**2,
        "slope": wheelbase * k,
        "steering_rate": wheelbase * c / (1 + (wheelbase * k) ** 2),
    }


def physical_bounds(steering_angle, steering_rate):
    """Bounds of the `physical` preset for a vehicle with this steering."""
    return {
        "speed": (0, 60),
        "acceleration": (-10, 6),
        "jerk": (-50, 50),
        "slope": (-np.tan(steering_angle), np.tan(steering_angle)),
        "steering_rate": (-steering_rate, steering_rate),
        "friction_square": (-np.inf, (0.9 * G) ** 2),
    }


NUPLAN_BOUNDS = {
    "acceleration": (-4.05, 2.40),
    "jerk": (-4.13, 4.13),
    "lateral_acceleration": (-4.89, 4.89),
    "yaw_rate": (-0.95, 0.95),
    "yaw_acceleration": (-1.93, 1.93),
    "jerk_square": (-np.inf, 8.37**2),
}


class Reference:
    """The problem for one horizon, vehicle and set of bounds; built once, solved for many targets."""

    def __init__(self, steps, dt, bounds, *, wheelbase, efforts, tol=1e-8):
        X, U = ca.SX.sym("X", 6, steps + 1), ca.SX.sym("U", 2, steps)
        target, position_weight = ca.SX.sym("P", 2, steps), ca.SX.sym("w", steps)
        rows, low, high = [], [], []
        cost = 0
        for k in range(steps):
            x, u = X[:, k], U[:, k]
            rows.append(_flow(x, u, dt) - X[:, k + 1])
            low += [0.0] * 6
            high += [0.0] * 6
            for fraction in (0.0, 0.5, 1.0):
                values = _signals(_flow(x, u, fraction * dt) if fraction else x, u, wheelbase)
                for name, (lower, upper) in bounds.items():
                    size = max(abs(b) for b in (lower, upper) if np.isfinite(b))
                    rows.append(values[name] / size)
                    low.append(lower / size)
                    high.append(upper / size)
            cost += 0.5 * position_weight[k] * ca.sumsqr(X[:2, k + 1] - target[:, k])
            cost += 0.5 * (efforts[0] * u[0] ** 2 + efforts[1] * u[1] ** 2)
        z = ca.vertcat(ca.vec(X), ca.vec(U))
        nlp = {"x": z, "p": ca.vertcat(ca.vec(target), position_weight), "f": cost, "g": ca.vertcat(*rows)}
        options = {"print_time": False, "ipopt.print_level": 0, "ipopt.sb": "yes", "ipopt.tol": tol}
        options |= {"ipopt.max_iter": 600, "ipopt.bound_relax_factor": 0.0, "ipopt.honor_original_bounds": "yes"}
        self._solver = ca.nlpsol("projection", "ipopt", nlp, options)
        self._steps, self._low, self._high = steps, low, high

    def solve(self, target, states, controls, initial_state=None, weight=None):
        """Objective, states `(T + 1, 6)`, controls `(T, 2)` and whether IPOPT converged, from a start."""
        steps = self._steps
        weight = np.ones(steps) if weight is None else weight
        bound = np.full(states.size + controls.size, np.inf)
        lower, upper = -bound, bound.copy()
        if initial_state is not None:
            known = np.flatnonzero(np.isfinite(initial_state))
            lower[known] = upper[known] = initial_state[known]
        result = self._solver(
            x0=np.concatenate([states.ravel(), controls.ravel()]),
            p=np.concatenate([target[:, :2].ravel(), weight]),
            lbx=lower,
            ubx=upper,
            lbg=self._low,
            ubg=self._high,
        )
        z = np.asarray(result["x"]).ravel()
        cut = states.size
        stats = self._solver.stats()
        return float(result["f"]), z[:cut].reshape(states.shape), z[cut:].reshape(controls.shape), stats["success"]
