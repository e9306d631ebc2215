"""Trains the small behaviour model whose outputs are the bundled sample `feasible/data/sample.npz`.

The sample shows what the library is for, so it must be what a coordinate-regressing model really says: a
multilayer perceptron maps one second of history to sixty (x, y) points, each by weights of its own, and nothing
tells it that neighbouring points belong to one car. No noise is added to its outputs, and none is taken away.

Every prediction is for a track that its network has never seen (k folds by track, one network per fold). Only the
predictions and the initial state are written; the logs and what really happened stay where they are.

    python benchmarks/train_sample.py [--data FOLDER]
"""

import argparse
import functools
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

# One thread fixes the order of the sums in a matrix product, and so every bit of the result on one machine.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

ROOT = Path(__file__).resolve().parents[1]
SEED = 20
DT = 0.1  # [s]
PAST, FUTURE = 10, 60  # steps before t0 (so 11 samples of history) and after it
MEASURED = "## Measured"  # the script rewrites what follows this heading in feasible/data/README.md
FOLDS, STEPS, BATCH, WIDTH, LEARNING_RATE, DECAY = 3, 6000, 256, 128, 1e-3, 0.1
STRIDE = {"ngsim-us101": 22, "ngsim-lankershim": 3, "comma2k19": 10, "apollo": 4, "fiss": 4}  # steps between windows


class Track(NamedTuple):
    """One vehicle's log at 10 Hz; arrays of shape (n,) in SI units, x and y relative to the first sample."""

    source: str
    name: str
    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    speed: np.ndarray


class Windows(NamedTuple):
    """Windows of 71 samples in the frame of the pose at t0, x forward; the initial state is in the log's axes."""

    path: np.ndarray  # (N, 71, 4): x, y [m], yaw [rad], speed [m/s]
    state: np.ndarray  # (N, 4): 0, 0, yaw [rad], speed [m/s]
    track: np.ndarray  # (N,): index of the track
    step: np.ndarray  # (N,): index of t0 in the track


def load_tracks(folder: Path) -> list[Track]:
    """Reads the logs and brings them to 10 Hz; tracks that are too short, or never move, are left out."""
    files = {"ngsim": "commonroad_ngsim_obstacles", "comma2k19": "comma2k19_seg40"}
    files |= {"apollo": "apollo_garage_log", "fiss": "fiss_executed"}
    tracks = []
    for source, stem in files.items():
        with np.load(folder / f"{stem}.npz", allow_pickle=False) as log:
            columns = np.stack([log[k] for k in ("t", "x", "y", "heading", "speed")])
            for i, name in enumerate(log["name"].tolist()):
                values = columns[:, log["start"][i] : log["start"][i + 1]]
                if np.ptp(values[0]) < (PAST + FUTURE) * DT - 1e-6 or np.hypot(*np.ptp(values[1:3], axis=1)) < 2.0:
                    continue
                if source == "fiss" and log["cls"][i] != "fiss_plus":
                    continue  # four planners drove each scenario almost alike; one is enough
                kind = source if source != "ngsim" else "ngsim-us101" if "US101" in name else "ngsim-lankershim"
                label = "-".join((kind, name.split("/")[-1].split(".")[0].removesuffix("_T-1").zfill(4)))
                tracks.append(Track(kind, label, *resample(values, ego=source in ("comma2k19", "apollo"))))
    return tracks


def resample(log: np.ndarray, *, ego: bool) -> np.ndarray:
    """Brings one log to 10 Hz; samples that are there already stay as they are.

    Args:
        log: (5, n): time [s], x, y [m], yaw [rad], speed [m/s]; stamps may repeat or be irregular.
        ego: the yaw is that of a device, whose constant mounting offset from the course is taken out.

    Returns:
        (4, m): x, y relative to the first sample, yaw (unwrapped) and speed, at 10 Hz.
    """
    t, x, y, yaw, speed = log[:, np.concatenate([[True], np.diff(log[0]) > 1e-3])]
    t, x, y, yaw = t - t[0], x - x[0], y - y[0], np.unwrap(yaw)
    if ego:
        grid = np.clip(np.arange(0.0, t[-1], DT)[:, None] + [[-0.25, 0.25]], 0.0, t[-1])  # course over 0.5 s
        dx, dy = np.diff(np.interp(grid, t, x))[:, 0], np.diff(np.interp(grid, t, y))[:, 0]
        offset = np.interp(grid.mean(1), t, yaw) - np.arctan2(dy, dx)
        yaw = yaw - np.median(np.angle(np.exp(1j * offset))[np.hypot(dx, dy) > 1.0])
    now = np.arange(int(round(t[-1] / DT, 6)) + 1) * DT
    return CubicSpline(t, [x, y, yaw, np.maximum(speed, 0.0)], axis=1)(now)


def cut_windows(tracks: list[Track]) -> Windows:
    """Cuts every window of 1 s history and 6 s future.

    Yaw and speed at t0 are those of a line through the logged values of the history: it looks at no future sample,
    and the yaw of camera-tracked vehicles, a difference of positions, is too noisy to be taken from one sample. While
    a car stands, its logged yaw stands too, so standstill needs no exception.
    """
    fit = np.linalg.pinv(np.vander(np.arange(-PAST, 1), 2))[1]  # weights of the line's value at t0
    path, state, owner, steps = [], [], [], []
    for i, track in enumerate(tracks):
        for k in range(PAST, len(track.x) - FUTURE):
            x, y, yaw, speed = (a[k - PAST : k + FUTURE + 1] for a in track[2:])
            yaw_now, speed_now = fit @ yaw[: PAST + 1], max(fit @ speed[: PAST + 1], 0.0)
            turn = np.exp(-1j * yaw_now) * ((x - x[PAST]) + 1j * (y - y[PAST]))
            path.append(np.stack([turn.real, turn.imag, yaw - yaw_now, speed], axis=-1))
            state.append([0.0, 0.0, np.angle(np.exp(1j * yaw_now)), speed_now])
            owner.append(i)
            steps.append(k)
    return Windows(np.array(path), np.array(state), np.array(owner), np.array(steps))


def augment(key: jax.Array, path: jax.Array) -> jax.Array:
    """Mirrors, scales in space (and so in speed), and leads half of the windows through a turn that they did not take.

    The logs are mostly straight, so a turn of random angle, place and sharpness is bent into the path: each step is
    rotated by a smooth function of the arc length. Its lateral acceleration stays below 3 m/s².

    Args:
        key: random key.
        path: (71, 4), one window: x, y, yaw, speed.

    Returns:
        (71, 4), the same in another world.
    """
    keys = jax.random.split(key, 6)
    scale = jax.random.uniform(keys[0], minval=0.3, maxval=1.3)
    mirror = jnp.where(jax.random.bernoulli(keys[1]), -1.0, 1.0)
    x, y, yaw, speed = path[:, 0] * scale, path[:, 1] * scale * mirror, path[:, 2] * mirror, path[:, 3] * scale
    step = jnp.diff(x + 1j * y)
    arc = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.abs(step))])
    arc = arc - arc[PAST]
    angle = jax.random.uniform(keys[2], minval=-1.8, maxval=1.8) * jax.random.bernoulli(keys[3])  # [rad]
    sharpest = jax.random.uniform(keys[4], minval=0.2, maxval=3.0) / jnp.maximum(speed.max(), 4.0) ** 2  # [1/m]
    length = 1.5 * jnp.abs(angle) / sharpest + 1.0  # a smooth step is steepest in its middle, 1.5 times the mean
    begin = jax.random.uniform(keys[5], minval=-length, maxval=0.7 * arc[-1])

    def bend(s: jax.Array) -> jax.Array:
        u, u_now = (jnp.clip((q - begin) / length, 0.0, 1.0) for q in (s, 0.0))
        return angle * (u**2 * (3.0 - 2.0 * u) - u_now**2 * (3.0 - 2.0 * u_now))

    position = jnp.concatenate([jnp.zeros(1), jnp.cumsum(step * jnp.exp(1j * bend((arc[1:] + arc[:-1]) / 2.0)))])
    position = position - position[PAST]
    return jnp.stack([position.real, position.imag, yaw + bend(arc), speed], axis=-1)


def forward(weights: list[tuple[jax.Array, jax.Array]], history: jax.Array) -> jax.Array:
    """Predicts (60, 2) [m] from a history of (11, 4): x, y, yaw, speed in the frame at t0."""
    hidden = (history / jnp.array([10.0, 1.0, 0.2, 10.0])).ravel()
    for matrix, bias in weights[:-1]:
        hidden = jax.nn.relu(hidden @ matrix + bias)
    matrix, bias = weights[-1]
    return 10.0 * (hidden @ matrix + bias).reshape(FUTURE, 2)


@functools.partial(jax.jit, static_argnames="steps")
def train(key: jax.Array, paths: jax.Array, odds: jax.Array, *, steps: int = STEPS) -> tuple[list, jax.Array]:
    """Minimises the mean distance to what happened by AdamW (Loshchilov and Hutter, 2019), cosine rate.

    Args:
        key: random key of the whole run.
        paths: (N, 71, 4), the windows to learn from.
        odds: (N,), how often each is drawn.
        steps: number of batches.

    Returns:
        The weights, and the loss of each step, (steps,) [m].
    """
    key, *keys = jax.random.split(key, 5)
    sizes = [(PAST + 1) * 4, WIDTH, WIDTH, WIDTH, FUTURE * 2]
    weights = [  # drawn as torch.nn.Linear does by default, as it is the most usual choice
        (jax.random.uniform(k, (n, m), minval=-(n**-0.5), maxval=n**-0.5), jnp.zeros(m))
        for k, n, m in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]

    def loss(weights: list, batch: jax.Array) -> jax.Array:
        error = jax.vmap(forward, (None, 0))(weights, batch[:, : PAST + 1]) - batch[:, PAST + 1 :, :2]
        return jnp.sqrt(jnp.sum(error**2, axis=-1) + 1e-4).mean()

    def update(carry: tuple, i: jax.Array) -> tuple[tuple, jax.Array]:
        weights, mean, square = carry
        draw, change = jax.random.split(jax.random.fold_in(key, i))
        batch = paths[jax.random.choice(draw, len(paths), (BATCH,), p=odds)]
        value, grad = jax.value_and_grad(loss)(weights, jax.vmap(augment)(jax.random.split(change, BATCH), batch))
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, grad)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, grad)
        rate = LEARNING_RATE * (0.5 + 0.5 * jnp.cos(jnp.pi * i / steps))
        fade, fade_square = 1.0 - 0.9 ** (i + 1), 1.0 - 0.999 ** (i + 1)

        def move(w: jax.Array, m: jax.Array, s: jax.Array) -> jax.Array:
            return w - rate * (m / fade / (jnp.sqrt(s / fade_square) + 1e-8) + DECAY * w)

        return (jax.tree.map(move, weights, mean, square), mean, square), value

    zero = jax.tree.map(jnp.zeros_like, weights)
    (weights, _, _), losses = jax.lax.scan(update, (weights, zero, zero), jnp.arange(steps))
    return weights, losses


def predict_held_out(tracks: list[Track], windows: Windows) -> np.ndarray:
    """Predicts every window, (N, 60, 2) [m], by the network of the fold that has never seen its track."""
    # Folds are dealt out source by source: the single tracks must not all be missing from the same network.
    names = np.array([track.source for track in tracks])
    order = np.lexsort((np.random.default_rng(SEED).permutation(len(tracks)), names))
    fold = np.empty(len(tracks), int)
    fold[order] = np.arange(len(tracks)) % FOLDS
    # Long tracks on one straight motorway would drown the rest; the root is halfway to equal shares of the sources.
    _, source, count = np.unique(names[windows.track], return_inverse=True, return_counts=True)
    odds = count[source] ** -0.5
    paths = jnp.asarray(windows.path, jnp.float32)
    pred = np.empty((len(paths), FUTURE, 2), np.float32)
    for k in range(FOLDS):
        held_out = fold[windows.track] == k
        p = odds[~held_out] / odds[~held_out].sum()
        weights, losses = train(jax.random.key(SEED + k), paths[~held_out], jnp.asarray(p, jnp.float32))
        pred[held_out] = jax.vmap(forward, (None, 0))(weights, paths[held_out, : PAST + 1])
        print(f"fold {k}: {(~held_out).sum()} windows, loss {losses[0]:.1f} -> {losses[-100:].mean():.2f} m")
    return pred


def choose(tracks: list[Track], windows: Windows) -> np.ndarray:
    """Indices of the windows to publish: every source at its stride, and more where the car has begun to turn."""
    stride = np.array([STRIDE[tracks[i].source] for i in windows.track])
    turned = np.ptp(windows.path[:, : PAST + 1, 2], axis=-1) > 0.15  # [rad], in the second before t0
    stride[turned & (windows.state[:, 3] > 2.0)] = 2  # below 2 m/s the yaw of a camera track is mostly noise
    return np.flatnonzero((windows.step - PAST) % stride == 0)


def errors(tracks: list[Track], windows: Windows, pred: np.ndarray) -> str:
    """A table (markdown) of mean and final displacement error [m], against constant velocity, by source."""
    truth = windows.path[:, PAST + 1 :, :2]
    constant = np.zeros_like(truth)
    constant[..., 0] = windows.state[:, 3:] * (np.arange(1, FUTURE + 1) * DT)
    network_error, constant_error = (np.linalg.norm(p - truth, axis=-1) for p in (pred, constant))
    sources = np.array([tracks[i].source for i in windows.track])
    rows = ["| source | windows | ADE | FDE | ADE, constant velocity | FDE, constant velocity |", "|---" * 6 + "|"]
    for name in (*sorted(set(sources)), "all"):
        m = (sources == name) | (name == "all")
        values = (e for error in (network_error, constant_error) for e in (error[m].mean(), error[m, -1].mean()))
        rows.append(f"| {name} | {m.sum()} | " + " | ".join(f"{v:.2f}" for v in values) + " |")
    return "\n".join(rows)


def write_sample(tracks: list[Track], windows: Windows, pred: np.ndarray, table: str) -> None:
    """Writes `sample.npz`, and the measured part of its provenance `README.md`, to `feasible/data/`."""
    folder = ROOT / "feasible" / "data"
    turn = np.exp(1j * windows.state[:, 2:3]) * (pred[..., 0] + 1j * pred[..., 1])  # back to the axes of the log
    np.savez_compressed(
        folder / "sample.npz",
        pred=np.stack([turn.real, turn.imag], axis=-1).astype(np.float32),
        initial_state=windows.state,
        dt=np.float64(DT),
        ids=np.array([f"{tracks[i].name}-t{k * DT:.1f}" for i, k in zip(windows.track, windows.step, strict=True)]),
        source=np.array([tracks[i].source for i in windows.track]),
    )
    digest = hashlib.sha256((folder / "sample.npz").read_bytes()).hexdigest()
    page = folder / "README.md"
    prose = page.read_text(encoding="utf-8").partition(MEASURED)[0]
    page.write_text(
        f"{prose}{MEASURED}\n\nWritten by the script (seed {SEED}). Errors [m] on the {len(pred)} held-out windows:\n\n"
        f"{table}\n\nsha256 of `sample.npz`: `{digest}`\n",
        encoding="utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("FEASIBLE_DATA", ROOT.parent / "shared" / "data"))
    options = parser.parse_args()
    tracks = load_tracks(Path(options.data))
    windows = cut_windows(tracks)
    pred = predict_held_out(tracks, windows)
    chosen = choose(tracks, windows)
    windows, pred = Windows(*(a[chosen] for a in windows)), pred[chosen]
    table = errors(tracks, windows, pred)
    write_sample(tracks, windows, pred, table)
    print(table)
    print(f"{(windows.state[:, 3] < 1.0).mean():.1%} of the windows are slower than 1 m/s at t0")


if __name__ == "__main__":
    main()
