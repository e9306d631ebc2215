"""Command line: `feasible demo`, `audit FILE`, `project FILE -o OUT`, `report FILE -o PAGE`, `replay LOG`, `presets`.

Exit codes: 0 clean; 1 the share of infeasible (audit) or not solved (project) trajectories is over `--fail-over`; 2 the
tool or its use is in error; 3 some rows were left out. Results go to the standard output, everything else to the
standard error. The library is imported when a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from feasible._cli.options import (
    backend_option,
    fail_over_option,
    input_options,
    json_option,
    limits_option,
    quiet_option,
    vehicle_option,
)
from feasible._cli.outcome import CLEAN, ERROR, name_problems, verdict
from feasible._cli.replay import replay
from feasible._cli.report import report

INTERRUPTED = 130
PROJECT_ROWS = 32  # trajectories between two moves of the progress bar


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="feasible")
@click.pass_context
def cli(context: click.Context) -> int | None:
    """Is a predicted trajectory kinematically feasible, and what is the nearest one that is?

    Kinematics only: neither collisions nor the map.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(ERROR)
    return None


@cli.command()
@input_options
@limits_option("physical")
@vehicle_option
@click.option(
    "--differencing",
    type=click.Choice(["raw", "savgol"]),
    default="raw",
    show_default=True,
    help="Finite differences of the samples as they are, or smoothed by a Savitzky-Golay filter.",
)
@click.option("--tolerance", type=click.FloatRange(0), help="Excess over a bound, as a share of it, that is let pass.")
@click.option("--distance", is_flag=True, help="Also measure how far each trajectory is from feasible (projects all).")
@backend_option
@fail_over_option
@json_option
@quiet_option
def audit(
    limits: str,
    vehicle: str,
    differencing: str,
    tolerance: float | None,
    distance: bool,
    backend: str,
    fail_over: float | None,
    as_json: bool,
    quiet: bool,
    **source: Any,
) -> int:
    """Says which limits the trajectories of FILE break, how often and by how much."""
    from feasible._cli import text, work

    bounds, car = work.limits_named(limits), work.vehicle_named(vehicle)
    with work.one_sentence():
        batches = work.read_source(source, car, PROJECT_ROWS if distance else 4096)
        result = work.audit_batches(
            work.progress(batches, "audit", quiet=quiet),
            car,
            bounds,
            tolerance=tolerance,
            differencing=differencing,
            keep_rows=as_json,
            distance_by=backend if distance else None,
        )
    far = result.distance()
    if as_json:
        document = {
            "file": source["file"],
            "vehicle": vehicle,
            "limits": limits,
            "report": None if result.summary is None else result.summary.to_dict(),
            "rows": result.rows,
            "distance": far,
            "quarantined": [problem.to_dict() for problem in result.quarantined],
        }
        click.echo(text.to_json(document))
    else:
        click.echo(str(result.summary))
        if far:
            click.echo(
                f"distance to feasible: mean over a trajectory {far['mean_median']:.3f} m (median), "
                f"{far['mean_p99']:.3f} m (99 %); largest step {far['max_largest']:.3f} m"
            )
    name_problems(result.quarantined)
    return verdict(result.infeasible, fail_over, result.quarantined)


@cli.command()
@input_options
@click.option("-o", "--out", required=True, type=click.Path(), help="Target: .parquet, .npz, .csv or .npy.")
@limits_option("physical")
@vehicle_option
@backend_option
@fail_over_option
@json_option
@quiet_option
def project(
    out: str,
    limits: str,
    vehicle: str,
    backend: str,
    fail_over: float | None,
    as_json: bool,
    quiet: bool,
    **source: Any,
) -> int:
    """Writes the nearest feasible trajectories of FILE, with ids, status, displacement and certificate."""
    from feasible._cli import text, work
    from feasible.io import open_table

    bounds, car = work.limits_named(limits), work.vehicle_named(vehicle)
    with work.one_sentence():
        batches = work.read_source(source, car, PROJECT_ROWS)
        with open_table(out) as table:
            shown = work.progress(batches, "project", quiet=quiet)
            result = work.project_batches(shown, car, bounds, table, backend=backend)
    if as_json:
        facts = {"file": source["file"], "out": out, "vehicle": vehicle, "limits": limits}
        click.echo(text.to_json(facts | result.document()))
    else:
        click.echo(text.before_and_after(result.before, result.after))
        click.echo(f"\n{result.line()}\nwrote {out}")
    name_problems(result.quarantined)
    return verdict(result.unsolved, fail_over, result.quarantined)


@cli.command()
@click.option("--out", default="demo", show_default=True, type=click.Path(), help="Folder for the results.")
@limits_option("nuplan_comfort")
@vehicle_option
@backend_option
@json_option
@quiet_option
def demo(out: str, limits: str, vehicle: str, backend: str, as_json: bool, quiet: bool) -> int:
    """Audits the bundled predictions, projects them, audits the result; writes all of it with a picture."""
    from importlib import resources
    from pathlib import Path

    from feasible import plot
    from feasible._cli import text, work
    from feasible.io import open_table, read, replacing

    bounds, car = work.limits_named(limits), work.vehicle_named(vehicle)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with resources.as_file(resources.files("feasible") / "data" / "sample.npz") as sample, work.one_sentence():
        batch = read(sample)
        with open_table(folder / "cleaned.parquet") as table:
            result = work.project_batches([batch], car, bounds, table, backend=backend, show_rows=not quiet)
    document = text.to_json({"vehicle": vehicle, "limits": limits} | result.document())
    with replacing(folder / "audit.json") as temporary:
        temporary.write_text(document + "\n", encoding="utf-8")
    if result.last is not None:
        with replacing(folder / "before_after.png") as temporary:
            before, projection = result.last
            plot.compare(before, car, bounds, projection=projection).savefig(temporary, format="png")
    if as_json:
        click.echo(document)
    else:
        click.echo(text.before_and_after(result.before, result.after))
        wrote = ", ".join(str(folder / name) for name in ("cleaned.parquet", "audit.json", "before_after.png"))
        click.echo(f"\n{result.line()}\nwrote {wrote}")
    return CLEAN


cli.add_command(replay)
cli.add_command(report)


@cli.command("presets")
@click.argument("name", required=False)
@json_option
def presets_(name: str | None, as_json: bool) -> int:
    """Lists the named limits and vehicles, or every number of the one called NAME with unit and source."""
    from feasible import presets, vehicles
    from feasible._cli import text

    if name is None:
        if as_json:
            click.echo(text.to_json({"limits": list(presets.names()), "vehicles": list(vehicles.names())}))
            return CLEAN
        sets = [(n, str(len(presets.get(n))), _first_line(getattr(presets, n))) for n in presets.names()]
        click.echo(text.table(("limits", "number", "what"), sets, right=(1,)))
        cars = [
            (n, text.number(vehicles.get(n).wheelbase), _first_line(getattr(vehicles, n))) for n in vehicles.names()
        ]
        click.echo("\n" + text.table(("vehicle", "wheelbase [m]", "what"), cars, right=(1,)))
        click.echo("\n`feasible presets NAME` lists every number of one with unit and source.")
    elif name in presets.names():
        bounds = presets.get(name)
        facts = {"name": name, "limits": text.limits_facts(bounds)}
        click.echo(text.to_json(facts) if as_json else text.limits_table(bounds))
    elif name in vehicles.names():
        car = vehicles.get(name)
        facts = {"name": name, "vehicle": text.vehicle_facts(car)}
        click.echo(text.to_json(facts) if as_json else text.vehicle_table(car))
    else:
        expected = ", ".join((*presets.names(), *vehicles.names()))
        raise click.ClickException(f"presets: got {name!r}, expected one of {expected}")
    return CLEAN


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().split("\n")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    try:
        code = cli.main(arguments, prog_name="feasible", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        return ERROR
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except SystemExit:  # how click leaves when nobody reads on, as in `feasible presets | head -1`
        return ERROR
    except OSError as error:  # a full disk, a folder without permission
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {where}{error.strerror or error}", err=True)
        return ERROR
    except Exception:  # a fault of the tool: say all, and not with exit code 1, which has a meaning
        traceback.print_exc()
        return ERROR
    return code or CLEAN


if __name__ == "__main__":
    sys.exit(main())
