"""Adversarial input for `adversarial.py`: random walks, teleports, holes, huge and tiny numbers, contradictions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

T, DT = 50, 0.1
CHUNK = {"batch": 2000, "single": 200, "thorough": 200}  # rows, by path


def kinds() -> dict[str, Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]]:
    """Per name, a draw of positions `(T, 2)` and an initial state `(6,)`, NaN where free."""
    t = DT * np.arange(1, T + 1)
    free = np.full(6, np.nan)

    def drive(rng: np.random.Generator) -> np.ndarray:
        v, yaw, bend = rng.uniform(0.5, 30), rng.uniform(-4, 4), rng.normal(0, 0.02)
        angle = yaw + bend * v * t
        path = np.stack([np.cumsum(v * DT * np.cos(angle)), np.cumsum(v * DT * np.sin(angle))], -1)
        return path + rng.normal(0, 0.1, (T, 2)) * rng.choice([0.0, 0.1, 1.0])

    def now(rng: np.random.Generator) -> np.ndarray:
        return np.array([0, 0, rng.uniform(-4, 4), rng.uniform(-5, 40), rng.normal(0, 3), rng.normal(0, 0.1)])

    def walk(rng):
        return rng.normal(0, 10 ** rng.uniform(-3, 2), (T, 2)).cumsum(0), free

    def teleport(rng):
        at = rng.integers(1, T, rng.integers(1, 5))
        jumps = np.zeros((T, 2))
        jumps[at] = rng.normal(0, 10 ** rng.uniform(0, 7), (len(at), 2))
        return drive(rng) + jumps.cumsum(0), free

    def holes(rng):
        values = drive(rng)
        bad = rng.random((T, 2)) < rng.choice([0.02, 0.3, 0.9, 0.99, 1.0])
        values[bad] = rng.choice([np.nan, np.inf, -np.inf], int(bad.sum()))
        state = now(rng)
        state[rng.random(6) < rng.choice([0.0, 0.3, 1.0])] = rng.choice([np.nan, np.inf])
        return values, state

    def huge(rng):
        return drive(rng) + rng.normal(0, 1, 2) * 10 ** rng.uniform(3, 300), free

    def stretched(rng):
        return drive(rng) * 10 ** rng.uniform(-300, 300), rng.choice([now(rng), free])

    def contradictory(rng):
        state = now(rng) * rng.choice([1, 1, -1, 10, 1e3, 1e8], 6)
        state[:2] += rng.normal(0, 10 ** rng.uniform(-1, 8), 2)
        return drive(rng), state

    def short(rng):
        values = drive(rng)
        return (values[:1] if rng.random() < 0.5 else values[rng.integers(0, 2, T)]) + np.zeros((T, 2)), now(rng)

    def backwards(rng):
        values = drive(rng)[::-1]
        state = now(rng)
        state[:2] = values[0] + rng.normal(0, 1, 2)
        return values.copy(), rng.choice([state, free])

    def constant(rng):
        return np.full((T, 2), rng.normal(0, 10 ** rng.uniform(-6, 9))), rng.choice([free, 0 * free])

    def zigzag(rng):
        side = np.where(np.arange(T) % rng.integers(2, 6), 1.0, -1.0)[:, None]
        return drive(rng) + side * rng.normal(0, 10 ** rng.uniform(-2, 2), 2), free

    def outside(rng):
        state = now(rng) * [1, 1, 1, 3, 5, 10]
        return drive(rng), state

    return {f.__name__: f for f in (walk, teleport, holes, huge, stretched, contradictory, short, backwards)} | {
        f.__name__: f for f in (constant, zigzag, outside)
    }


def draw(path: str, chunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions `(N, T, 2)`, initial states `(N, 6)` and kinds `(N,)` of a chunk."""
    rng = np.random.default_rng([0, *path.encode(), chunk])
    table = kinds()
    names = rng.choice(list(table), CHUNK[path])
    rows = [table[name](rng) for name in names]
    return np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows]), names
