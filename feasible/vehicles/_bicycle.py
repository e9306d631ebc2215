"""The kinematic bicycle at the rear axle, in curvature form, discretised exactly.

State (x, y, yaw, v, a, κ), control (j, κ̇), held constant over a step of length h:

    a(t) = a + j t            v(t) = v + a t + j t²/2          κ(t) = κ + κ̇ t
    yaw(t) = yaw + ∫ v κ dt   a polynomial of degree four       (ẋ, ẏ) = v (cos yaw, sin yaw)

Positions are integrated by three-point Gauss quadrature, exact to 1e-8 m for driving at steps of 0.1 s (an Euler
step is off by 0.9 m after 4 s at 10 m/s and κ = 0.1). Steering angle and rate follow as atan(L κ) and
L κ̇ / (1 + L² κ²); tyre slip is left out, so yaw rate is overstated at high lateral acceleration.
"""

from __future__ import annotations

from typing import Any

from feasible._arrays import Array, Namespace, namespace, pytree, static, wrap
from feasible._motion import Motion
from feasible._trajectory import Trajectory

# Gauss-Legendre nodes and weights on [0, 1]; Abramowitz and Stegun, 25.4.30
_NODES = (0.5 - 0.5 * 0.6**0.5, 0.5, 0.5 + 0.5 * 0.6**0.5)
_WEIGHTS = (5.0 / 18.0, 8.0 / 18.0, 5.0 / 18.0)


@pytree
class KinematicBicycle:
    """A vehicle: its dimensions, what its actuators can do, and the model that moves it.

    Attributes:
        wheelbase: rear axle to front axle [m].
        width: overall width [m].
        front: rear axle to front bumper [m].
        rear: rear axle to rear bumper, positive [m].
        max_steering_angle: largest road-wheel angle either way [rad].
        max_steering_rate: largest road-wheel rate either way [rad/s].
        min_speed: fastest reverse, a negative number or 0 [m/s].
        max_speed: fastest forward [m/s].
        max_acceleration: largest drive acceleration at low speed [m/s²].
        switching_speed: speed above which engine power, not torque, bounds acceleration [m/s]; inf for never.
        name: what reports call it.
        source: where its numbers come from.
    """

    wheelbase: Any = 2.8
    width: Any = 1.9
    front: Any = 3.8
    rear: Any = 1.0
    max_steering_angle: Any = 0.6
    max_steering_rate: Any = 0.5
    min_speed: Any = -15.0
    max_speed: Any = 60.0
    max_acceleration: Any = 11.5
    switching_speed: Any = float("inf")
    name: str = static(default="kinematic_bicycle")
    source: str = static(default="generic passenger car (ours)")

    STATES = ("x", "y", "yaw", "speed", "acceleration", "curvature")
    CONTROLS = ("jerk", "curvature_rate")
    TYPICAL = (1.0, 1.0, 0.1, 1.0, 1.0, 0.01, 10.0, 0.1)  # sizes that states and controls change by, for scaling

    def __post_init__(self) -> None:
        for field in ("wheelbase", "width", "max_steering_angle", "max_steering_rate"):
            value = getattr(self, field)
            if isinstance(value, int | float) and not value > 0:
                raise ValueError(f"{type(self).__name__}: expected {field} > 0, got {value}")

    @property
    def rear_axle_to_center(self) -> Any:
        """From the rear axle forward to the middle of the footprint [m]."""
        return (self.front - self.rear) / 2

    def derivative(self, state: Array, control: Array) -> Array:
        """`(..., 6)`: the state's rate in continuous time, for integrators that know nothing of `step`."""
        xp = namespace(state)
        yaw, v, a, k = (state[..., i] for i in range(2, 6))
        return xp.stack([v * xp.cos(yaw), v * xp.sin(yaw), v * k, a, control[..., 0], control[..., 1]], axis=-1)

    def step(self, state: Array, control: Array, dt: Any) -> Array:
        """`(..., 6)`: the state after `dt` [s] under a constant control `(..., 2)`; broadcasts."""
        xp = namespace(state, control)
        x, y, yaw, v, a, k = (state[..., i] for i in range(6))
        j, c = control[..., 0], control[..., 1]
        # v κ is a cubic in time; its integral gives the heading by Horner's rule.
        linear, quadratic, cubic = (a * k + v * c) / 2, (j * k / 2 + a * c) / 3, j * c / 8

        def heading(t: Any) -> Array:
            return yaw + t * (v * k + t * (linear + t * (quadratic + t * cubic)))

        def speed(t: Any) -> Array:
            return v + t * (a + t * (j / 2))

        ahead, aside = 0.0, 0.0
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            t = node * dt
            angle, reach = heading(t), speed(t) * (weight * dt)
            ahead, aside = ahead + reach * xp.cos(angle), aside + reach * xp.sin(angle)
        return xp.stack([x + ahead, y + aside, heading(dt), speed(dt), a + j * dt, k + c * dt], axis=-1)

    def rollout(self, initial_state: Array, controls: Array, dt: Any) -> Array:
        """`(..., T + 1, 6)`: states from `initial_state` `(..., 6)` under controls `(..., T, 2)`."""
        xp = namespace(initial_state, controls)
        j, c = controls[..., 0], controls[..., 1]
        x, y, yaw, v, a, k = (initial_state[..., i : i + 1] + xp.zeros_like(j[..., :1]) for i in range(6))

        def summed(start: Array, increments: Array) -> Array:
            return xp.cumulative_sum(xp.concat([start, increments], axis=-1), axis=-1)

        # Each state is a sum of increments that read only the states above it, so T steps take four sums, not T calls:
        # a T-fold shorter graph to trace, compile and differentiate.
        a, k = summed(a, j * dt), summed(k, c * dt)
        v = summed(v, (a[..., :-1] + j * (dt / 2)) * dt)
        still = xp.zeros_like(j)
        before = xp.stack([still, still, still, v[..., :-1], a[..., :-1], k[..., :-1]], axis=-1)
        turns = self.step(before, controls, dt)[..., 2]
        yaw = summed(yaw, turns)
        before = xp.stack([still, still, yaw[..., :-1], v[..., :-1], a[..., :-1], k[..., :-1]], axis=-1)
        moves = self.step(before, controls, dt)
        return xp.stack([summed(x, moves[..., 0]), summed(y, moves[..., 1]), yaw, v, a, k], axis=-1)

    def motion(self, states: Array, controls: Array, dt: Any, *, fraction: float = 1.0) -> Motion:
        """The exact motion at a fraction of each step, `(..., T)`.

        Args:
            states: `(..., T + 1, 6)`.
            controls: `(..., T, 2)`; control k moves state k to state k + 1.
            dt: step [s].
            fraction: 0 for the start of each step, 1 (default) for its end, where the samples are.
        """
        start = states[..., :-1, :]
        if fraction == 0.0:
            at = start
        elif fraction == 1.0:
            at = states[..., 1:, :]
        else:
            at = self.step(start, controls, fraction * dt)
        return self.motion_of(at, controls)

    def motion_of(self, state: Array, control: Array, xp: Namespace = None) -> Motion:
        """The exact motion in a state `(..., 6)` under a control `(..., 2)`: fields `(...)`."""
        xp = namespace(state) if xp is None else xp
        x, y, yaw, v, a, k = (state[..., i] for i in range(6))
        return Motion(x, y, yaw, v, a, control[..., 0], k, control[..., 1], gaps={}, xp=xp)

    def inverse(self, trajectory: Trajectory, *, initial_state: Array | None = None) -> tuple[Array, Array]:
        """States `(..., T + 1, 6)` and controls `(..., T, 2)` that pass through a trajectory's speed and yaw.

        The trajectory states yaw and speed, and its samples are the ends of the T steps. Every speed then gives one
        jerk and every yaw one curvature rate, exactly; positions follow from them. With the whole initial state
        given, `inverse(rollout(...))` is the identity. Without it the steps start at the first sample (whose step
        gets the second's control, played backwards), and of the one-parameter family of accelerations that share
        the speeds, and curvatures that share the yaws, the one with the smallest controls is taken.

        The trajectory must be valid throughout and should obey the model; a noisy one has wild controls, and
        `project` is the inverse for it.

        Raises:
            ValueError: if yaw or speed is not stated.
        """
        if trajectory.yaw is None or trajectory.speed is None:
            raise ValueError("inverse: expected a trajectory that states yaw and speed; project() estimates them")
        xp, dt = namespace(trajectory.x), trajectory.dt
        speed, yaw = trajectory.to_array(("speed",))[..., 0], trajectory.to_array(("yaw",))[..., 0]
        if initial_state is not None:
            speed = xp.concat([initial_state[..., 3:4], speed], axis=-1)
            yaw = xp.concat([initial_state[..., 2:3], yaw], axis=-1)
        turns = wrap(xp, yaw[..., 1:] - yaw[..., :-1])
        steps = turns.shape[-1]

        # Speeds: a_{k+1} + a_k = 2 (v_{k+1} - v_k) / h. One free number a_0; its sign alternates through the chain.
        def chain(sums: Array, first: Array | None) -> tuple[Array, Array]:
            values = [xp.zeros_like(sums[..., 0]) if first is None else first]
            for k in range(steps):
                values.append(sums[..., k] - values[-1])
            path = xp.stack(values, axis=-1)
            if first is None:  # add the alternating sequence that makes the rates smallest
                sign = xp.asarray([(-1.0) ** k for k in range(steps + 1)], dtype=path.dtype)
                rates, swing = path[..., 1:] - path[..., :-1], sign[1:] - sign[:-1]
                path = path - sign * (xp.sum(rates * swing, axis=-1) / xp.sum(swing * swing))[..., None]
            return path, (path[..., 1:] - path[..., :-1]) / dt

        first = (None, None) if initial_state is None else (initial_state[..., 4], initial_state[..., 5])
        a, j = chain(2 * (speed[..., 1:] - speed[..., :-1]) / dt, first[0])

        # Yaws: with v(t) and a(t) known, the turn of a step is m0 κ + m1 κ̇, moments of v over the step.
        v0, a0 = speed[..., :-1], a[..., :-1]
        m0 = dt * (v0 + dt * (a0 / 2 + dt * j / 6))
        m1 = dt * dt * (v0 / 2 + dt * (a0 / 3 + dt * j / 8))
        still = xp.abs(m1) < 1e-9  # standing: any curvature passes through the same yaw, so keep it
        inverse_m1 = xp.where(still, 0.0, 1.0 / xp.where(still, 1.0, m1))
        gain, push = 1.0 - dt * m0 * inverse_m1, dt * turns * inverse_m1  # κ_{k+1} = gain κ_k + push

        def curve(first: Array, pushes: Array) -> Array:
            values = [first]
            for k in range(steps):
                values.append(gain[..., k] * values[-1] + pushes[..., k])
            return xp.stack(values, axis=-1)

        if first[1] is not None:
            k_path = curve(first[1], push)
        else:
            base = curve(xp.zeros_like(push[..., 0]), push)
            free = curve(xp.ones_like(push[..., 0]), xp.zeros_like(push))
            base_rate, free_rate = base[..., 1:] - base[..., :-1], free[..., 1:] - free[..., :-1]
            weight = xp.sum(free_rate * free_rate, axis=-1)
            fit = xp.sum(base_rate * free_rate, axis=-1) / xp.where(weight > 0, weight, 1.0)
            k_path = base - free * fit[..., None]
        c = (k_path[..., 1:] - k_path[..., :-1]) / dt

        controls = xp.stack([j, c], axis=-1)
        if initial_state is not None:
            return self.rollout(initial_state, controls, dt), controls
        start = [trajectory.x[..., 0], trajectory.y[..., 0], yaw[..., 0], speed[..., 0], a[..., 0], k_path[..., 0]]
        before = self.step(xp.stack(start, axis=-1), controls[..., 0, :], -dt)
        controls = xp.concat([controls[..., :1, :], controls], axis=-2)
        return self.rollout(before, controls, dt), controls
