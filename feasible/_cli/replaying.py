"""A file of plans as the cycles of a replay, and a replay as rows of a file."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from feasible import io
from feasible._cli.work import name_of, read_source
from feasible._replay import Replay
from feasible._trajectory import COLUMNS, Trajectory


@dataclasses.dataclass(frozen=True)
class Log:
    """A whole file, and its plans `(N, T)` or `(N, K, T)` in order."""

    batch: io.Batch
    trajectory: Trajectory
    modes: int

    @property
    def initial_states(self) -> np.ndarray | None:
        """`(N, ..., d)`, or None where the file has none."""
        state = self.batch.initial_state
        return None if state is None else state.reshape(*self.trajectory.batch_shape, -1)

    @property
    def initial_state(self) -> np.ndarray | None:
        """`(d,)` of the first plan."""
        return None if self.batch.initial_state is None else self.batch.initial_state[0]


def read(source: dict[str, Any], vehicle: Any) -> Log:
    """The file that the input options describe; every plan has to be there, because its place is its time.

    Raises:
        InputError: for a row that cannot be used, or plans of different modes.
    """
    batch = next(read_source(source, vehicle, None))
    if batch.quarantined:
        raise io.InputError(f"{batch.quarantined[0]}; a replay needs every plan, because its place is its time")
    modes = np.unique(batch.mode)
    K, of_plan = len(modes), batch.mode.reshape(-1)
    whole = len(batch) % K == 0 and (of_plan.reshape(-1, K) == of_plan[:K]).all()
    if not whole or (batch.ids.reshape(-1, K) != batch.ids.reshape(-1, K)[:, :1]).any():
        raise io.InputError(
            f"{source['file']}: got {len(batch)} trajectories of {K} modes, expected the same modes of every plan"
        )
    t = batch.trajectory
    shape = (len(batch) // K, K, t.horizon) if K > 1 else (len(batch), t.horizon)

    def arranged(a: Any) -> Any:
        return None if a is None else np.asarray(a).reshape(shape)

    x, y, yaw, speed = (arranged(getattr(t, name)) for name in COLUMNS)
    return Log(batch, Trajectory(x, y, yaw, speed, t.dt, arranged(t.valid)), K)


def shown(plans: Trajectory, *, quiet: bool) -> Iterator[Trajectory]:
    """One plan after another, with a bar on the standard error."""
    from tqdm import tqdm

    for n in tqdm(range(len(plans)), "replay", unit=" plans", disable=quiet, leave=False, dynamic_ncols=True):
        yield plans[n]


def nothing_or(opened: Callable[[str], Any], out: str | None) -> Any:
    """A context of what is written, or of None."""
    return contextlib.nullcontext() if out is None else opened(out)


def rows(result: Replay) -> tuple[Trajectory, dict[str, np.ndarray]]:
    """The answers `(N * K, T)` with columns for status, certificate and latency."""
    plans = result.plans
    parts = [plan.trajectory for plan in plans]

    def flat(values: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([v.reshape(-1, *v.shape[len(plans[0].status.shape) :]) for v in values])

    x, y, yaw, speed, valid = (flat([getattr(part, name) for part in parts]) for name in (*COLUMNS, "valid"))
    trajectory = Trajectory(x, y, yaw, speed, parts[0].dt, valid)
    columns = {
        "status": np.array([name_of(code) for code in result.status.ravel().tolist()]),
        "displacement_mean": flat([plan.displacement.mean for plan in plans]),
        "displacement_max": flat([plan.displacement.max for plan in plans]),
        "violation": flat([plan.violation for plan in plans]),
        **{f"margin_{name}": flat([plan.margin[name] for plan in plans]) for name in plans[0].margin},
        "dynamics_residual": flat([plan.dynamics_residual for plan in plans]),
        "iterations": result.iterations.ravel(),
        "converged": result.converged.ravel(),
        "latency": np.repeat(result.latency, result.status[0].size),
    }
    return trajectory, columns
