"""What both frameworks train on: windows of the logs, split by track, and the same batches in the same order."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np

import feasible
from benchmarks.train_sample import DT, FUTURE, PAST, cut_windows, load_tracks
from feasible import signals

HISTORY, WIDTH = PAST + 1, 128
SCALE = np.array([10.0, 1.0, 0.2, 10.0], np.float32)  # m, m, rad, m/s: sizes of the columns of the history
CONTROL_SCALE = np.array([10.0, 0.1], np.float32)  # m/s³, 1/(m s): the decoder's unit of network output
START_SCALE = np.array([3.0, 0.03], np.float32)  # m/s², 1/m: the same for its initial acceleration and curvature
HELD_OUT = 3  # every third track of each source


class Settings(NamedTuple):
    """One training run; the same for all ways."""

    steps: int = 12000
    batch: int = 128
    rate: float = 1e-3  # AdamW with cosine decay to 0
    decay: float = 0.1
    clip: float = 1.0  # norm of the gradient
    average: float = 0.99  # of the weights, exponential; evaluated are the averaged ones
    loss_weight: float = 20.0
    loss_ramp: float = 0.5  # share of the steps over which the weight grows from 0
    margin: float = 0.2
    projection_weight: float = 10.0
    projection_from: float = 0.4  # share of the steps before the projection loss begins
    projection_every: int = 120  # steps
    projection_rows: int = 32
    decoder_share: float = 0.25  # of the steps: it has learned by then


class Split(NamedTuple):
    """Windows `(N, 71, 4)` x, y, yaw, speed at 10 Hz in the frame at t0; `odds` of drawing a training window."""

    train: np.ndarray
    odds: np.ndarray
    test: np.ndarray


def load(folder: Path) -> tuple[list, object]:
    tracks = load_tracks(folder)
    return tracks, cut_windows(tracks)


def split(tracks: list, windows: object, seed: int, rows: int) -> Split:
    """A third of the tracks of each source is held out, others for each seed; of them `rows` windows, evenly spread."""
    names = np.array([track.source for track in tracks])
    order = np.lexsort((np.random.default_rng(seed).permutation(len(tracks)), names))
    held_out = np.empty(len(tracks), bool)
    held_out[order] = np.arange(len(tracks)) % HELD_OUT == 0
    test = held_out[windows.track]
    # Long tracks on one straight motorway would drown the rest; the root is halfway to equal shares of the sources.
    _, source, count = np.unique(names[windows.track], return_inverse=True, return_counts=True)
    odds = (count[source] ** -0.5)[~test]
    path = windows.path.astype(np.float32)
    held = path[test]
    return Split(path[~test], odds / odds.sum(), held[np.linspace(0, len(held) - 1, rows).astype(int)])


def batches(data: Split, seed: int, settings: Settings):
    """The batches `(B, 71, 4)` of a run, mirrored and scaled in space at random."""
    rng = np.random.default_rng(seed)
    for _ in range(settings.steps):
        rows = data.train[rng.choice(len(data.train), settings.batch, p=data.odds)]
        scale = rng.uniform(0.3, 1.3, (settings.batch, 1))
        mirror = rng.choice([-1.0, 1.0], (settings.batch, 1))
        yield (rows * np.stack([scale, scale * mirror, mirror, scale], axis=-1)).astype(np.float32)


def weights(seed: int, outputs: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Initial weights of the multilayer perceptron, drawn as torch.nn.Linear does by default."""
    rng = np.random.default_rng(1000 + seed)
    sizes = [HISTORY * 4, WIDTH, WIDTH, WIDTH, outputs]

    def draw(n: int, *shape: int) -> np.ndarray:
        return rng.uniform(-(n**-0.5), n**-0.5, shape).astype(np.float32)

    return [(draw(n, n, m), draw(n, m)) for n, m in itertools.pairwise(sizes)]


def shortened(way: str, settings: Settings) -> Settings:
    """The settings of one way."""
    return settings._replace(steps=int(settings.steps * settings.decoder_share)) if way == "decoder" else settings


def outputs(way: str) -> int:
    """Network outputs: 60 steps, or 60 controls and the initial acceleration and curvature."""
    return 2 * FUTURE + (2 if way == "decoder" else 0)


VEHICLE = feasible.vehicles.nuplan_pacifica()
PHYSICAL, COMFORT = feasible.presets.physical(), feasible.presets.comfort()
# A curvature rate that keeps the steering rate at every curvature; see feasible.decode.
_RATE = VEHICLE.max_steering_rate / VEHICLE.wheelbase
DECODED = (
    *PHYSICAL,
    feasible.Limit("curvature_rate", signals.curvature_rate, -_RATE, _RATE, "1/(m s)", "steering rate at κ = 0"),
)
__all__ = ["COMFORT", "DT", "FUTURE", "HISTORY", "PHYSICAL", "VEHICLE", "Settings", "Split", "batches", "load", "split"]
