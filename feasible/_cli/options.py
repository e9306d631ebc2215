"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

BACKENDS = ("riccati", "osqp", "cvxpy")

Command = Callable[..., Any]


def options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in their order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_reading = options(
    click.option("--dt", type=float, help="Time between samples [s], where the file does not say."),
    click.option(
        "--columns",
        help="Names of the last axis (x,y,yaw,speed), or the file's names for things (x=east,id=track,time=t).",
    ),
    click.option(
        "--initial-state",
        help="Array or list column, or 4 or 6 columns with commas: x, y, yaw, speed[, acceleration, curvature] before "
        "the first sample; 'none' ignores the one in the file.",
    ),
    click.option(
        "--reference-point",
        type=click.Choice(["rear_axle", "center"]),
        default="rear_axle",
        show_default=True,
        help="Which point of the vehicle the samples are.",
    ),
)
input_options = options(click.argument("file", type=click.Path(dir_okay=True)), _reading)
log_options = options(click.argument("file", metavar="LOG", type=click.Path(dir_okay=True)), _reading)
vehicle_option = click.option(
    "--vehicle", default="nuplan_pacifica", show_default=True, help="A name of `feasible presets`."
)
backend_option = click.option("--backend", type=click.Choice(BACKENDS), default=BACKENDS[0], show_default=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
quiet_option = click.option("--quiet", is_flag=True, help="No progress bar.")
fail_over_option = click.option(
    "--fail-over",
    type=click.FloatRange(0, 1),
    metavar="FRACTION",
    help="Exit with 1 if a larger share of the trajectories is not in order.",
)


def limits_option(default: str) -> Callable[[Command], Command]:
    """The option --limits with a default."""
    return click.option(
        "--limits", default=default, show_default=True, help="A preset, or several with commas; see `feasible presets`."
    )
