"""`feasible report`: the command; what it finds and how the page looks is in `feasible._report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from feasible._cli.options import backend_option, input_options, limits_option, quiet_option, vehicle_option
from feasible._cli.outcome import CLEAN, QUARANTINED, name_problems

AUDIT_ROWS = 4096  # trajectories between two moves of the progress bar


@click.command()
@input_options
@click.option("-o", "--out", default="report.html", show_default=True, type=click.Path(), help="Target, .html.")
@limits_option("physical")
@vehicle_option
@click.option(
    "--project-rows",
    type=click.IntRange(0),
    default=64,
    show_default=True,
    help="How many trajectories to project: a quarter of them the worst, the others at random.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Begin no further projection after this time.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random choice.")
@backend_option
@quiet_option
def report(
    out: str,
    limits: str,
    vehicle: str,
    project_rows: int,
    budget: float,
    seed: int,
    backend: str,
    quiet: bool,
    **source: Any,
) -> int:
    """Writes a page with pictures about FILE, and its numbers as JSON beside it.

    Every trajectory is audited; a sample is projected, to see how far they are from feasible.
    """
    from feasible import _report
    from feasible._cli import text, work
    from feasible.io import replacing

    page = Path(out)
    if page.suffix.lower() not in (".html", ".htm"):
        raise click.ClickException(f"--out: got {out!r}, expected a name that ends in .html")
    bounds, car = work.limits_named(limits), work.vehicle_named(vehicle)
    with work.one_sentence():
        batches = work.read_source(source, car, AUDIT_ROWS)
        findings = _report.examine(
            work.progress(batches, "audit", quiet=quiet),
            car,
            bounds,
            project_rows=project_rows,
            budget=budget,
            seed=seed,
            backend=backend,
            configuration={"file": Path(source["file"]).name, "vehicle": vehicle, "limits": limits},
        )
    beside = page.with_suffix(".json")
    for target, content in ((page, _report.to_html(findings)), (beside, text.to_json(_report.to_dict(findings)))):
        with replacing(target) as temporary:
            temporary.write_text(content + "\n", encoding="utf-8")
    click.echo(f"{findings.line()}\nwrote {page}, {beside}")
    name_problems(findings.quarantined)
    return QUARANTINED if findings.quarantined else CLEAN
