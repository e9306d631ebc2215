"""`feasible replay`: the command; what a replay is stands in `feasible._replay`."""

from __future__ import annotations

from typing import Any

import click

from feasible._cli.options import (
    fail_over_option,
    json_option,
    limits_option,
    log_options,
    quiet_option,
    vehicle_option,
)
from feasible._cli.outcome import verdict

SECONDS = "SECONDS"


@click.command()
@log_options
@limits_option("physical")
@vehicle_option
@click.option("--period", type=click.FloatRange(0, min_open=True), metavar=SECONDS, help="Between plans; dt if absent.")
@click.option("--deadline", type=click.FloatRange(0), metavar=SECONDS, help="From a call to its answer.")
@click.option(
    "--consistency",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    metavar="WEIGHT",
    help="Weight [1/m²] of the squared distance from the plan before.",
)
@click.option("--mode", type=click.IntRange(0), default=0, show_default=True, help="Which mode the vehicle drives.")
@click.option("--cold", is_flag=True, help="Start every call from nothing.")
@click.option(
    "--no-feedback",
    is_flag=True,
    help="Start every call at the initial state that LOG has for it, or at a free one, instead of where the answer "
    "before leads.",
)
@click.option("-o", "--out", type=click.Path(), help="Write the projected plans: .parquet, .npz, .csv or .npy.")
@fail_over_option
@json_option
@quiet_option
def replay(
    limits: str,
    vehicle: str,
    period: float | None,
    deadline: float | None,
    consistency: float,
    mode: int,
    cold: bool,
    no_feedback: bool,
    out: str | None,
    fail_over: float | None,
    as_json: bool,
    quiet: bool,
    **source: Any,
) -> int:
    """Projects the plans of LOG one after another, as a vehicle that drives them would.

    LOG has plans in the order of their time, in one frame. Each call starts where the vehicle is after driving the
    answer before for one period. Reported are latency, status and the jumps between consecutive plans.
    """
    from feasible._cli import replaying, text, work
    from feasible._projector import Projector
    from feasible._replay import check_period
    from feasible._replay import replay as run
    from feasible.io import open_table

    bounds, car = work.limits_named(limits), work.vehicle_named(vehicle)
    with work.one_sentence():
        log = replaying.read(source, car)
        if mode >= log.modes:
            raise click.ClickException(f"--mode: got {mode}, expected less than {log.modes}, the number of modes")
        trajectory = log.trajectory
        try:
            period = check_period(period, trajectory.horizon, float(trajectory.dt))
        except ValueError as error:
            raise click.ClickException(f"--{error}") from None
        with replaying.nothing_or(open_table, out) as table:
            projector = Projector(
                car,
                bounds,
                horizon=trajectory.horizon,
                dt=float(trajectory.dt),
                deadline=deadline,
                consistency=consistency,
                modes=log.modes,
            ).warmup()
            result = run(
                replaying.shown(trajectory, quiet=quiet),
                projector,
                period=period,
                initial_state=log.initial_states if no_feedback else log.initial_state,
                feedback=not no_feedback,
                warm=not cold,
                mode=mode,
            )
            if table is not None:
                table.write(log.batch.ids, log.batch.mode, *replaying.rows(result), lengths=log.batch.lengths)
    if as_json:
        facts = {"file": source["file"], "out": out, "vehicle": vehicle, "limits": limits, "consistency": consistency}
        options = {"mode": mode, "warm": not cold, "feedback": not no_feedback}
        click.echo(text.to_json(facts | options | result.to_dict()))
    else:
        click.echo(str(result) + (f"\nwrote {out}" if out else ""))
    return verdict(result.unsolved, fail_over, ())
