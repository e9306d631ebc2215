"""How a command ends: exit codes, and a sentence for each row that was left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

CLEAN, OVER, ERROR, QUARANTINED = range(4)


def name_problems(quarantined: Sequence[Any]) -> None:
    """Says on the standard error what was left out."""
    from feasible._cli import text

    for line in text.problems(quarantined):
        click.echo(line, err=True)


def verdict(share: float, fail_over: float | None, quarantined: Sequence[Any]) -> int:
    """The exit code: what the user asked to fail on comes before what was left out."""
    if fail_over is not None and share > fail_over:
        click.echo(f"{share:.2%} of the trajectories are not in order, more than the {fail_over:.2%} allowed", err=True)
        return OVER
    return QUARANTINED if quarantined else CLEAN
