"""The JAX side: the same network, batches and optimiser in plain JAX."""

from __future__ import annotations

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

import feasible
from benchmarks.training import data as d


def predict(way: str, weights: list, history: jax.Array) -> jax.Array:
    """Positions `(B, 60, 2)` from history `(B, 11, 4)`."""
    out = (history / d.SCALE).reshape(len(history), -1)
    for matrix, bias in weights[:-1]:
        out = jax.nn.relu(out @ matrix + bias)
    out = out @ weights[-1][0] + weights[-1][1]
    if way != "decoder":
        return jnp.cumsum(out.reshape(-1, d.FUTURE, 2), axis=1)
    still, speed = jnp.zeros_like(out[:, :3]), history[:, -1, 3:4]
    start = jnp.concatenate([still, speed, out[:, :2] * d.START_SCALE], axis=-1)
    controls = out[:, 2:].reshape(-1, d.FUTURE, 2) * d.CONTROL_SCALE
    trajectory, _ = feasible.decode(controls, start, d.VEHICLE, d.DECODED, dt=d.DT)
    return jnp.stack([trajectory.x, trajectory.y], axis=-1)


def objective(
    weights: list, batch: jax.Array, strength: jax.Array, way: str, settings: d.Settings, project: bool
) -> jax.Array:
    prediction = predict(way, weights, batch[:, : d.HISTORY])
    error = prediction - batch[:, d.HISTORY :, :2]
    value = jnp.sqrt(jnp.sum(error**2, axis=-1) + 1e-4).mean()
    if way == "+ loss":
        trajectory = feasible.Trajectory.from_array(prediction, dt=d.DT)
        penalty = feasible.loss(trajectory, d.VEHICLE, d.PHYSICAL, margin=settings.margin)
        value = value + strength * penalty.mean()
    if project:
        trajectory = feasible.Trajectory.from_array(prediction[: settings.projection_rows], dt=d.DT)
        distance = feasible.projection_loss(trajectory, d.VEHICLE, d.PHYSICAL, backend="riccati")
        value = value + settings.projection_weight * distance.mean()
    return value


@functools.partial(jax.jit, static_argnames="settings", donate_argnums=0)
def update(state: tuple, gradient: list, i: jax.Array, settings: d.Settings) -> tuple:
    """AdamW with a clipped gradient and a cosine rate, and the average of the weights."""
    weights, mean, square, averaged = state
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
    gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, settings.clip / (norm + 1e-6)), gradient)
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
    square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, gradient)
    rate = settings.rate * (0.5 + 0.5 * jnp.cos(jnp.pi * i / settings.steps))
    fade, fade_square = 1.0 - 0.9 ** (i + 1), 1.0 - 0.999 ** (i + 1)

    def move(w: jax.Array, m: jax.Array, s: jax.Array) -> jax.Array:
        return w * (1 - rate * settings.decay) - rate * m / fade / (jnp.sqrt(s / fade_square) + 1e-8)

    weights = jax.tree.map(move, weights, mean, square)
    keep = jnp.where(i == 0, 0.0, settings.average)
    averaged = jax.tree.map(lambda a, w: keep * a + (1 - keep) * w, averaged, weights)
    return weights, mean, square, averaged


def train(way: str, data: d.Split, seed: int, settings: d.Settings) -> tuple[np.ndarray, dict[str, float]]:
    """The held-out predictions `(N, 60, 2)`, and seconds per step (median), with and without the projection."""
    settings = d.shortened(way, settings)
    weights = jax.tree.map(jnp.asarray, d.weights(seed, d.outputs(way)))
    zero = jax.tree.map(jnp.zeros_like, weights)
    state = (weights, zero, jax.tree.map(jnp.copy, zero), jax.tree.map(jnp.copy, weights))
    slow = jax.grad(functools.partial(objective, way=way, settings=settings, project=True))
    fast = jax.jit(jax.grad(functools.partial(objective, way=way, settings=settings, project=False)))
    seconds: dict[str, list[float]] = {"step": [], "projection_step": []}
    for i, batch in enumerate(d.batches(data, seed, settings)):
        begun = time.perf_counter()
        late = i >= settings.projection_from * settings.steps and i % settings.projection_every == 0
        project = way == "+ projection_loss" and late
        strength = settings.loss_weight * min(1.0, (i + 1) / (settings.loss_ramp * settings.steps))
        # Not jitted where it projects: there the projector gets concrete arrays and may run JAX itself.
        gradient = (slow if project else fast)(state[0], jnp.asarray(batch), strength)
        state = jax.block_until_ready(update(state, gradient, i, settings))
        seconds["projection_step" if project else "step"].append(time.perf_counter() - begun)
    prediction = predict(way, state[3], jnp.asarray(data.test[:, : d.HISTORY]))
    return np.asarray(prediction, dtype=float), {name: float(np.median(v)) for name, v in seconds.items() if v}
