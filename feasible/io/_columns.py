"""Names: which column or array of a file holds what.

A user's `columns` is a list of x, y, yaw, speed, in the order of the last axis of an array; `x=east` says that the
file calls it "east"; `id=`, `mode=`, `time=` and `values=` name the other columns. Names that are common in the field,
those of AV2 submissions among them, are found without being told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from feasible._trajectory import COLUMNS, check_columns
from feasible.io._batch import InputError

ALIASES = {
    "x": ("x", "predicted_trajectory_x", "position_x"),
    "y": ("y", "predicted_trajectory_y", "position_y"),
    "yaw": ("yaw", "heading", "theta"),
    "speed": ("speed", "v"),
    "id": ("id", "ids", "row_id", "trajectory_id"),
    "mode": ("mode",),
    "time": ("time", "t", "timestamp", "timestamp_ns", "timestep", "step", "frame"),
    "values": ("pred", "values", "trajectory", "trajectories", "prediction"),
}
AV2_ID = ("scenario_id", "track_id")  # together they name a prediction
CARRIED = {"scenario_id": str, "track_id": str, "probability": float}  # what an AV2 submission needs beside x and y
SECONDS = {"timestamp_ns": 1e-9}  # per unit of the column
COUNTS = ("timestep", "step", "frame")  # counts of samples, which do not say what dt is


@dataclass(frozen=True)
class Columns:
    """A user's choice of columns.

    Attributes:
        axis: names of the last axis in order, or None where the user did not say.
        names: the file's names that the user gave.
    """

    axis: tuple[str, ...] | None = None
    names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, columns: str | Sequence[str] | None) -> Columns:
        """Reads `("x", "y=north", "id=track")`, or the same as a text with commas.

        Raises:
            InputError: if an entry is none of these, is repeated, or x or y is missing.
        """
        entries = columns.split(",") if isinstance(columns, str) else list(columns or ())
        axis, names = [], {}
        for entry in entries:
            role, is_named, name = (part.strip() for part in entry.partition("="))
            if role not in ALIASES or (is_named and not name) or (not is_named and role not in COLUMNS):
                raise InputError(
                    f"columns: got {entry!r}, expected x, y, yaw or speed, each alone or with the file's name for it "
                    "as in x=NAME, or id=NAME, mode=NAME, time=NAME, values=NAME"
                )
            if role in COLUMNS:
                axis.append(role)
            if is_named:
                names[role] = name
        if axis:
            try:
                check_columns(tuple(axis))
            except ValueError as error:
                raise InputError(str(error)) from None
        return cls(tuple(axis) or None, names)

    def find(self, role: str, available: Collection[str], file: str) -> str | None:
        """The file's column for a role, or None; a name that the user gave must be there."""
        if role in self.names:
            return needed(self.names[role], available, file)
        return next((name for name in ALIASES[role] if name in available), None)

    def axes(self, available: Collection[str], file: str) -> dict[str, str]:
        """The file's column of each of x, y and, where asked for or found, yaw and speed.

        Raises:
            InputError: if one is missing.
        """
        found = {role: self.find(role, available, file) for role in self.axis or COLUMNS}
        for role in self.axis or ("x", "y"):
            if found[role] is None:
                raise InputError(
                    f"{file}: found no column for {role} ({', '.join(ALIASES[role])}); it has {listed(available)}; "
                    f"name it with columns {role}=NAME"
                )
        return {role: name for role, name in found.items() if name is not None}

    def id_columns(self, available: Collection[str], file: str) -> tuple[str, ...]:
        """The columns that together name a row; empty where there is none."""
        one = self.find("id", available, file)
        return (one,) if one else tuple(name for name in AV2_ID if name in available)

    def last_axis(self, size: int, where: str) -> tuple[str, ...]:
        """Names for the last axis of an array; x, y is believed without being told, anything else is not.

        Raises:
            InputError: if the axis has another size.
        """
        axis = self.axis or ("x", "y")
        if size != len(axis):
            hint = "" if self.axis else "; columns says what else it holds, for example x,y,yaw,speed"
            raise InputError(f"{where} has a last axis of {size}, expected {len(axis)} for {','.join(axis)}{hint}")
        return axis


def needed(name: str, available: Collection[str], file: str) -> str:
    """The name, if the file has it; raises InputError with those that it has otherwise."""
    if name not in available:
        raise InputError(f"{file}: has no column {name!r}; it has {listed(available)}")
    return name


def listed(names: Iterable[str]) -> str:
    """Names for a message."""
    return ", ".join(names) or "none"
