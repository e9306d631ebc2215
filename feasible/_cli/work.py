"""Auditing and projecting a stream of batches, with totals over all of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import click
import numpy as np

from feasible import io, presets, vehicles
from feasible._arrays import to_numpy
from feasible._audit import audit
from feasible._limits import Limit, check_limits
from feasible._project import Displacement, Projection, distance, project
from feasible._status import Status
from feasible._summary import Summary
from feasible._trajectory import Trajectory

_STATUS = {int(status): status for status in Status}


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turns what a user can get wrong into an error of the command line."""
    try:
        yield
    except io.InputError as error:
        raise click.ClickException(str(error)) from None


def limits_named(names: str) -> tuple[Limit, ...]:
    """The limits of one preset, or of several with commas between their names."""
    try:
        return check_limits([limit for name in names.split(",") for limit in presets.get(name.strip())])
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def vehicle_named(name: str) -> Any:
    """The named vehicle."""
    try:
        return vehicles.get(name)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def read_source(source: dict[str, Any], vehicle: Any, batch_rows: int | None) -> Iterator[io.Batch]:
    """The batches of the file that the input options describe; None for a single one."""
    state = source["initial_state"]
    return io.read_batches(
        source["file"],
        dt=source["dt"],
        columns=source["columns"],
        initial_state=None if state is None else [] if state == "none" else [n.strip() for n in state.split(",")],
        reference_point=source["reference_point"],
        vehicle=vehicle,
        batch_rows=batch_rows,
    )


def progress(batches: Iterable[io.Batch], what: str, *, quiet: bool) -> Iterator[io.Batch]:
    """The batches, with a bar of trajectories on the standard error."""
    from tqdm import tqdm

    with tqdm(desc=what, unit=" trajectories", disable=quiet, leave=False, dynamic_ncols=True) as bar:
        for batch in batches:
            bar.total = batch.total
            bar.refresh()
            yield batch
            bar.update(len(batch) + len(batch.quarantined))


@dataclasses.dataclass
class Audited:
    """An audit of a whole file; `rows` are the verdicts by id, kept where they are asked for."""

    summary: Summary | None = None
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    distances: list[Displacement] = dataclasses.field(default_factory=list)
    quarantined: list[io.Problem] = dataclasses.field(default_factory=list)

    @property
    def infeasible(self) -> float:
        """Share of the trajectories that break a limit, or have nothing to assess."""
        return 0.0 if self.summary is None else 1.0 - self.summary.feasible / self.summary.trajectories

    def distance(self) -> dict[str, float] | None:
        """How far the trajectories are from feasible [m]: median, 99th percentile and largest of both readings."""
        if not self.distances:
            return None
        quantiles = {"median": 0.5, "p99": 0.99, "largest": 1.0}
        facts: dict[str, float] = {}
        for reading in ("mean", "max"):
            values = np.concatenate([getattr(part, reading) for part in self.distances])
            facts |= {f"{reading}_{label}": float(np.quantile(values, share)) for label, share in quantiles.items()}
        return facts


def audit_batches(
    batches: Iterable[io.Batch],
    vehicle: Any,
    limits: tuple[Limit, ...],
    *,
    tolerance: float | None,
    differencing: str,
    keep_rows: bool,
    distance_by: str | None,
) -> Audited:
    """Audits batch by batch and adds up the summaries; `distance_by` is a backend, to measure distances as well."""
    result = Audited()
    for batch in batches:
        result.quarantined += batch.quarantined
        if not len(batch):
            continue
        report = audit(batch.trajectory, vehicle, limits, tolerance=tolerance, differencing=differencing)
        result.summary = _sum(result.summary, report.summary)
        if keep_rows:
            verdicts = json.loads(report.to_json())["rows"]
            keys = zip(batch.ids.tolist(), batch.mode.tolist(), verdicts, strict=True)
            result.rows += [{"id": ident, "mode": mode, **verdict} for ident, mode, verdict in keys]
        if distance_by:
            state = batch.initial_state
            moved = distance(batch.trajectory, vehicle, limits, initial_state=state, backend=distance_by)
            result.distances.append(moved)
    return result


def _sum(total: Summary | None, part: Summary) -> Summary:
    return part if total is None else total + part


@dataclasses.dataclass
class Projected:
    """A projection of a whole file, with its audits before and after."""

    before: Summary | None = None
    after: Summary | None = None
    status: Counter[Status] = dataclasses.field(default_factory=Counter)
    displacement_sum: float = 0.0
    displacement_max: float = 0.0
    measured: int = 0
    quarantined: list[io.Problem] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    last: tuple[Trajectory, Projection] | None = None

    def add(self, batch: io.Batch, projection: Projection, vehicle: Any, limits: tuple[Limit, ...]) -> None:
        """Counts a projected batch; displacements of rejected rows, which had no position, are left out."""
        self.before = _sum(self.before, audit(batch.trajectory, vehicle, limits).summary)
        after = audit(_trim(projection.trajectory, batch.lengths), vehicle, limits)
        self.after = _sum(self.after, after.summary)
        self.status.update(_STATUS[code] for code in projection.status.tolist())
        known = projection.status != Status.REJECTED
        self.measured += int(known.sum())
        self.displacement_sum += float(projection.displacement.mean[known].sum())
        self.displacement_max = max(self.displacement_max, float(projection.displacement.max[known].max(initial=0.0)))
        self.last = batch.trajectory, projection

    def totals(self) -> dict[str, Any]:
        """Trajectories by status, displacement [m] and time of the projection [s]."""
        return {
            "samples": self.status.total(),
            **{status.name.lower(): self.status[status] for status in Status},
            "mean_displacement": self.displacement_sum / max(self.measured, 1),
            "max_displacement": self.displacement_max,
            "seconds": self.seconds,
        }

    def line(self) -> str:
        """`totals` as one line."""
        totals = self.totals()
        counts = ", ".join(f"{self.status[status]} {status.name.lower()}" for status in Status)
        return (
            f"{totals['samples']} samples: {counts}; displacement mean {totals['mean_displacement']:.3f} m, "
            f"max {totals['max_displacement']:.3f} m; {totals['seconds']:.1f} s"
        )

    @property
    def unsolved(self) -> float:
        """Share of the trajectories that are neither unchanged nor projected."""
        solved = self.status[Status.UNCHANGED] + self.status[Status.PROJECTED]
        return 1.0 - solved / max(self.status.total(), 1)

    def document(self) -> dict[str, Any]:
        """Both audits and the totals, for JSON."""
        return {
            "before": None if self.before is None else self.before.to_dict(),
            "after": None if self.after is None else self.after.to_dict(),
            "totals": self.totals(),
            "quarantined": [problem.to_dict() for problem in self.quarantined],
        }


def project_batches(
    batches: Iterable[io.Batch],
    vehicle: Any,
    limits: tuple[Limit, ...],
    table: io.TableWriter,
    *,
    backend: str,
    show_rows: bool = False,
) -> Projected:
    """Projects batch by batch and writes each with its certificate; `show_rows` is a progress bar within a batch."""
    result = Projected()
    for batch in batches:
        result.quarantined += batch.quarantined
        if not len(batch):
            continue
        start = time.perf_counter()
        projection = project(
            batch.trajectory, vehicle, limits, initial_state=batch.initial_state, backend=backend, progress=show_rows
        )
        result.seconds += time.perf_counter() - start
        result.add(batch, projection, vehicle, limits)
        columns = {**batch.carried, **certificate(projection)}
        table.write(batch.ids, batch.mode, projection.trajectory, columns, lengths=batch.lengths)
    return result


def _trim(trajectory: Trajectory, lengths: np.ndarray | None) -> Trajectory:
    """The trajectory with everything after the row's own samples `(N,)` marked as not valid."""
    if lengths is None:
        return trajectory
    is_own = np.arange(trajectory.horizon) < lengths[:, None]
    return dataclasses.replace(trajectory, valid=to_numpy(trajectory.valid) & is_own)


def certificate(projection: Projection) -> dict[str, np.ndarray]:
    """What the projection says of each row, as columns."""
    return {
        "status": np.array([name_of(code) for code in projection.status.tolist()]),
        "displacement_mean": projection.displacement.mean,
        "displacement_max": projection.displacement.max,
        "violation": projection.violation,
        **{f"margin_{name}": margin for name, margin in projection.margin.items()},
        "dynamics_residual": projection.dynamics_residual,
        "iterations": projection.iterations,
        "relaxed": np.array(projection.relaxed, dtype=str),
    }


def name_of(code: int) -> str:
    """A status as files and tables write it."""
    return _STATUS[code].name.lower()
