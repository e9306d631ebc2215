"""Guidance and projection in the denoising loop of a small diffusion planner, trained on real logs.

    python benchmarks/diffusion.py [--data FOLDER] [--steps 6000] [--rows 64] [--out results.json]

The model denoises sixty steps of a car (DDPM, Ho et al., 2020; x_0 prediction, cosine schedule) given one second of
history, and is sampled by DDIM (Song et al., 2021) in 20 steps from the same noise in four ways:

    plain        as it is
    guided       in the later half, each clean estimate moves against `feasible.guidance`, at most 3 cm a sample
    projected    the result goes through `feasible.project`
    both         guided; then the clean estimates of the last steps are projected inside the loop, and denoising goes on
                 from there, so that the model has the last word on how to be feasible before the final projection
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

import feasible
from benchmarks.real_data import folder
from benchmarks.training import data as d

LEVELS, SAMPLING, WIDTH = 200, 20, 256
REACH = 0.03  # m: the longest move of a sample in one step of guidance
MOVES = 10  # guidance steps for each clean estimate
MARGIN = 0.1  # of each limit, kept in reserve
STEP = jnp.array([1.0, 0.2])  # m: size of what a step differs by from constant speed, along and across


def signal(level: jax.Array) -> jax.Array:
    """Share of the variance that is signal at noise level 0 .. LEVELS; cosine schedule (Nichol and Dhariwal, 2021)."""
    return jnp.cos((level / LEVELS + 0.008) / 1.008 * jnp.pi / 2) ** 2 / jnp.cos(0.008 / 1.008 * jnp.pi / 2) ** 2


def encode(path: jax.Array, speed: jax.Array) -> jax.Array:
    """Positions `(B, 60, 2)` to what is denoised: steps minus those of constant speed `(B,)`, normalised."""
    steps = jnp.diff(path, axis=1, prepend=0.0)
    return (steps - _steady(speed)) / STEP


def decode(code: jax.Array, speed: jax.Array) -> jax.Array:
    """The inverse of `encode`."""
    return jnp.cumsum(code * STEP + _steady(speed), axis=1)


def _steady(speed: jax.Array) -> jax.Array:
    return jnp.stack([speed * d.DT, 0 * speed], axis=-1)[:, None]


def denoise(weights: list, code: jax.Array, level: jax.Array, history: jax.Array) -> jax.Array:
    """The clean code that the network believes in, `(B, 60, 2)`; `level` is `(B,)`."""
    phase = level[:, None] / LEVELS * jnp.pi * 2.0 ** jnp.arange(5)
    known = (history / d.SCALE).reshape(len(code), -1)
    out = jnp.concatenate([code.reshape(len(code), -1), known, jnp.sin(phase), jnp.cos(phase)], axis=-1)
    for matrix, bias in weights[:-1]:
        out = jax.nn.silu(out @ matrix + bias)
    return (out @ weights[-1][0] + weights[-1][1]).reshape(code.shape)


def train(data: d.Split, seed: int, steps: int) -> list:
    """Averaged weights after Adam on the mean squared error of the clean code."""
    rng = np.random.default_rng(seed)
    sizes = [d.FUTURE * 2 + d.HISTORY * 4 + 10, WIDTH, WIDTH, WIDTH, d.FUTURE * 2]
    weights = [
        (jnp.asarray(rng.normal(size=(n, m)) * n**-0.5, jnp.float32), jnp.zeros(m))
        for n, m in itertools.pairwise(sizes)
    ]

    def loss(weights: list, batch: jax.Array, key: jax.Array) -> jax.Array:
        history, future = batch[:, : d.HISTORY], batch[:, d.HISTORY :, :2]
        code = encode(future, history[:, -1, 3])
        levels, noise = jax.random.split(key)
        level = jax.random.uniform(levels, (len(batch),), minval=1.0, maxval=LEVELS)
        kept = signal(level)[:, None, None]
        noisy = jnp.sqrt(kept) * code + jnp.sqrt(1 - kept) * jax.random.normal(noise, code.shape)
        return jnp.mean((denoise(weights, noisy, level, history) - code) ** 2)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: tuple, batch: jax.Array, i: jax.Array) -> tuple:
        weights, mean, square, averaged = state
        gradient = jax.grad(loss)(weights, batch, jax.random.fold_in(jax.random.key(seed), i))
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, gradient)
        rate = 1e-3 * (0.5 + 0.5 * jnp.cos(jnp.pi * i / steps))
        a, b = 1.0 - 0.9 ** (i + 1), 1.0 - 0.999 ** (i + 1)
        weights = jax.tree.map(lambda w, m, s: w - rate * (m / a) / (jnp.sqrt(s / b) + 1e-8), weights, mean, square)
        return weights, mean, square, jax.tree.map(lambda v, w: 0.995 * v + 0.005 * w, averaged, weights)

    zero = jax.tree.map(jnp.zeros_like, weights)
    state = (weights, zero, jax.tree.map(jnp.copy, zero), jax.tree.map(jnp.copy, weights))
    for i, batch in enumerate(d.batches(data, seed, d.Settings(steps=steps))):
        state = update(state, jnp.asarray(batch), i)
    return state[3]


@jax.jit
def guide(path: jax.Array) -> jax.Array:
    """Positions moved against the gradient g of the loss, by Polyak's step loss / |g|² since its minimum is 0."""
    for _ in range(MOVES):
        trajectory = feasible.Trajectory.from_array(path, dt=d.DT)
        loss = feasible.loss(trajectory, d.VEHICLE, d.PHYSICAL, margin=MARGIN)
        slope = feasible.guidance(trajectory, d.VEHICLE, d.PHYSICAL, margin=MARGIN)
        step = loss / jnp.maximum(jnp.sum(slope**2, axis=(-2, -1)), 1e-9)
        longest = jnp.sqrt(jnp.sum(slope**2, axis=-1).max(-1)) * step
        path = path - (step * jnp.minimum(1.0, REACH / jnp.maximum(longest, 1e-9)))[:, None, None] * slope
    return path


def project(path: jax.Array) -> jax.Array:
    """The nearest feasible positions."""
    trajectory = feasible.Trajectory.from_array(np.asarray(path, dtype=float), dt=d.DT)
    result = feasible.project(trajectory, d.VEHICLE, d.PHYSICAL, backend="riccati")
    return jnp.asarray(result.trajectory.to_array(("x", "y")), jnp.float32)


def sample(weights: list, history: jax.Array, key: jax.Array, *, guided: bool, inside: int) -> jax.Array:
    """Positions `(B, 60, 2)` by DDIM; `inside` is in how many of the last steps the clean estimate is projected."""
    speed = history[:, -1, 3]
    code = jax.random.normal(key, (len(history), d.FUTURE, 2))
    levels = np.linspace(LEVELS, 0, SAMPLING + 1)
    believe = jax.jit(denoise)
    for k, (now, then) in enumerate(itertools.pairwise(levels)):
        clean = believe(weights, code, jnp.full(len(history), now), history)
        path = decode(clean, speed)
        if guided and k >= SAMPLING // 2:
            path = guide(path)
        if k >= SAMPLING - inside:
            path = project(path)
        clean = encode(path, speed)
        a, b = signal(now), signal(then)
        noise = (code - jnp.sqrt(a) * clean) / jnp.sqrt(jnp.maximum(1 - a, 1e-6))
        code = jnp.sqrt(b) * clean + jnp.sqrt(jnp.maximum(1 - b, 0.0)) * noise
    return decode(code, speed)


def measure(path: jax.Array, truth: np.ndarray) -> dict[str, float]:
    """Error [m], shares infeasible under `physical`, and the distance to feasibility [m]."""
    values = np.asarray(path, dtype=float)
    trajectory = feasible.Trajectory.from_array(values, dt=d.DT)
    shares = {
        f"infeasible_{reading}": 1.0
        - feasible.audit(trajectory, d.VEHICLE, d.PHYSICAL, differencing=reading).feasible.mean()
        for reading in ("raw", "savgol")
    }
    loss = feasible.loss(trajectory, d.VEHICLE, d.PHYSICAL).mean()
    away = feasible.distance(trajectory, d.VEHICLE, d.PHYSICAL, backend="riccati").mean.mean()
    found = {"ade": np.linalg.norm(values - truth, axis=-1).mean(), **shares, "loss": loss, "distance": away}
    return {name: float(value) for name, value in found.items()}


def main() -> None:
    """Trains, samples and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    tracks, windows = d.load(folder(args.data))
    data = d.split(tracks, windows, args.seed, args.rows)
    weights = train(data, args.seed, args.steps)
    history, truth = jnp.asarray(data.test[:, : d.HISTORY]), data.test[:, d.HISTORY :, :2]
    draw = functools.partial(sample, weights, history, jax.random.key(args.seed))
    results = {}
    for name, options in {
        "plain": {"guided": False, "inside": 0},
        "guided": {"guided": True, "inside": 0},
        "projected": {"guided": False, "inside": 0},
        "both": {"guided": True, "inside": 3},
    }.items():
        begun = time.perf_counter()
        path = draw(**options)
        path = project(path) if name in ("projected", "both") else jax.block_until_ready(path)
        seconds = time.perf_counter() - begun
        results[name] = {**measure(path, truth), "seconds": seconds}
        print(f"{name:10s} " + ", ".join(f"{k} {v:.4g}" for k, v in results[name].items()), flush=True)
    if args.out:
        settings = {"steps": args.steps, "rows": args.rows, "seed": args.seed}
        args.out.write_text(json.dumps({"settings": settings, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
