"""Reading `.csv`: one line per point, with a column that names the trajectory.

The points of a trajectory may stand anywhere in the file, in the order of time, so the file is parsed whole, into
eight bytes per number. Lines of one id are told apart by a `mode` column or, in AV2 submissions, by their probability.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from feasible._trajectory import MIN_STEPS
from feasible.io._batch import HALF_STATE, STATE_SIZES, InputError, Problem, Rows, Source, too_short
from feasible.io._columns import ALIASES, CARRIED, COUNTS, SECONDS, Columns, listed, needed

STEP_TOLERANCE = 0.01  # of a step: stamps rounded to 1 ms at 10 Hz are uniform, a missing sample is not


@dataclass
class _Layout:
    """Where in a line each thing stands."""

    file: str
    header: list[str]
    axes: dict[str, int]
    id: list[int]
    mode: int | None
    is_probability: bool  # the modes of an id are told apart by their probability
    time: int | None
    state: list[int]
    carried: dict[str, int]

    @property
    def time_name(self) -> str:
        return "" if self.time is None else self.header[self.time]


@dataclass
class _Points:
    """The points of one trajectory: line, time and the axes of each, one after another."""

    id: str
    mode: str
    order: int
    first: list[str]
    state: list[float]
    numbers: array = field(default_factory=lambda: array("d"))
    problem: Problem | None = None
    step: float = math.nan


def open_csv(file: str, columns: Columns, state: Any, batch_rows: int | None) -> tuple[Source, Iterator[Rows]]:
    """The trajectories of a `.csv` in the order of their first points; dt from the time stamps, where there are any."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            if not header:
                raise InputError(f"{file}: is empty; expected a header line and one line per point")
            layout = _layout(file, header, columns, state)
            found, stray = _parse(reader, layout)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: is not a text of comma-separated values in UTF-8 ({error})") from None
    if not found and not stray:
        raise InputError(f"{file}: has a header and no points; expected one line per point")
    dt = _check_time(found, layout)
    _check_length(found, layout)
    where = f"column {layout.time_name!r}"
    return Source(tuple(layout.axes), dt, where), _batches(found, stray, layout, batch_rows)


def _layout(file: str, header: list[str], columns: Columns, state: Any) -> _Layout:
    place = {name: i for i, name in reversed(list(enumerate(header)))}
    axes = columns.axes(header, file)
    ids = columns.id_columns(header, file)
    if not ids:
        raise InputError(
            f"{file}: found no column that names the trajectory of a point ({', '.join(ALIASES['id'])}, track_id); it "
            f"has {listed(header)}; name it with columns id=NAME"
        )
    numbered = columns.find("mode", header, file)
    mode = numbered or ("probability" if "probability" in header else None)
    time = columns.find("time", header, file)
    if state and len(state) not in STATE_SIZES:
        raise InputError(f"{file}: got {len(state)} columns for the initial state, expected 4 or 6: {listed(state)}")
    return _Layout(
        file,
        header,
        {role: place[name] for role, name in axes.items()},
        [place[name] for name in ids],
        None if mode is None else place[mode],
        mode is not None and numbered is None,
        None if time is None else place[time],
        [place[needed(name, header, file)] for name in state or ()],
        {name: place[name] for name in CARRIED if name in place},
    )


def _parse(reader: Any, layout: _Layout) -> tuple[list[_Points], list[Problem]]:
    """The trajectories by first appearance, and the lines that belong to none."""
    found: dict[tuple[str, str], _Points] = {}
    stray: list[Problem] = []
    modes: dict[str, int] = {}
    cells = [*([] if layout.time is None else [layout.time]), *layout.axes.values()]
    no_time = [0.0] if layout.time is None else []
    width = len(layout.header)
    for line in reader:
        if not line:
            continue
        number = reader.line_num
        ident = "/".join(line[i].strip() for i in layout.id if i < len(line))
        if not ident.strip("/"):
            stray.append(Problem(layout.file, number, None, layout.header[layout.id[0]], "is empty, expected an id"))
            continue
        mode = line[layout.mode] if layout.mode is not None and layout.mode < len(line) else ""
        points = found.get((ident, mode))
        if points is None:
            order = modes[ident] = modes.get(ident, -1) + 1
            points = found[ident, mode] = _Points(ident, mode, order, line, [])
        if points.problem is not None:
            continue
        if len(line) != width:
            what = f"has {len(line)} cells, expected {width} as in the header"
            points.problem = Problem(layout.file, number, ident, None, what)
            continue
        try:
            if not points.numbers:
                points.state = [float(line[i] or "nan") for i in layout.state]
                if points.state and math.isfinite(points.state[0]) != math.isfinite(points.state[1]):
                    column = layout.header[layout.state[0]]
                    points.problem = Problem(layout.file, number, ident, column, HALF_STATE)
                    continue
            points.numbers.extend([number, *no_time, *(float(line[i] or "nan") for i in cells)])
        except ValueError:
            bad = next(i for i in (*layout.state, *cells) if not _is_number(line[i]))
            what = f"got {line[bad]!r}, expected a number, or nothing where the sample is missing"
            points.problem = Problem(layout.file, number, ident, layout.header[bad], what)
    return list(found.values()), stray


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def _table(points: _Points, layout: _Layout) -> np.ndarray:
    """`(T, 2 + D)`: line, time and axes of each point."""
    return np.frombuffer(points.numbers).reshape(-1, 2 + len(layout.axes))


def _check_time(found: list[_Points], layout: _Layout) -> float | None:
    """Finds the step that the trajectories share, marks those with another one or none; returns it in seconds."""
    if layout.time is None:
        return None
    name = layout.time_name
    good = [p for p in found if p.problem is None and len(_table(p, layout)) >= MIN_STEPS]
    for points in good:
        table = _table(points, layout)
        lines, time = table[:, 0], table[:, 1]
        if np.isnan(time).any():
            k = int(np.argmax(np.isnan(time)))
            what = f"the {_ordinal(k + 1)} sample has no time, expected a number"
            points.problem = Problem(layout.file, int(lines[k]), points.id, name, what)
            continue
        steps = np.diff(time)
        step = float(np.median(steps))
        wrong = ~(np.abs(steps - step) <= STEP_TOLERANCE * abs(step))
        if wrong.any() or not step > 0:
            k = int(np.argmax(wrong)) if wrong.any() else 0
            what = (
                f"the {_ordinal(k + 2)} sample comes {_amount(steps[k])} after the one before it, expected "
                f"{_amount(step) if step > 0 else 'a later time'}, the same step throughout"
            )
            points.problem = Problem(layout.file, int(lines[k + 1]), points.id, name, what)
        else:
            points.step = float((time[-1] - time[0]) / (len(time) - 1))
    good = [p for p in good if p.problem is None]
    if not good:
        return None
    shared = float(np.median([p.step for p in good]))
    for points in good:
        if abs(points.step - shared) > STEP_TOLERANCE * shared:
            what = f"its samples are {_amount(points.step)} apart, expected {_amount(shared)} as in the others"
            points.problem = Problem(layout.file, int(_table(points, layout)[0, 0]), points.id, name, what)
    return None if name in COUNTS else round(shared * SECONDS.get(name, 1.0), 9)


def _amount(value: float) -> str:
    return f"{value:.6g}"


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _check_length(found: list[_Points], layout: _Layout) -> None:
    """Marks trajectories that are too short, and modes that fell together because their probabilities are equal."""
    lengths = [len(_table(p, layout)) for p in found if p.problem is None]
    shortest = min((n for n in lengths if n >= MIN_STEPS), default=0)
    only_probability = layout.time is None and layout.is_probability
    for points in found:
        if points.problem is not None:
            continue
        table = _table(points, layout)
        n, line = len(table), int(table[0, 0])
        if n < MIN_STEPS:
            points.problem = Problem(layout.file, line, points.id, None, too_short(n))
        elif only_probability and n > shortest and n % shortest == 0:
            what = f"has {n} points of one probability where others have {shortest}; a 'mode' column would part them"
            points.problem = Problem(layout.file, line, points.id, "probability", what)


def _batches(found: list[_Points], stray: list[Problem], layout: _Layout, batch_rows: int | None) -> Iterator[Rows]:
    """Cuts the trajectories into batches, all padded to the longest of the file."""
    problems = stray + [p.problem for p in found if p.problem is not None]
    problems.sort(key=lambda problem: problem.row)
    good = [p for p in found if p.problem is None]
    lengths = np.array([len(_table(p, layout)) for p in good], dtype=np.int64)
    horizon = int(lengths.max(initial=MIN_STEPS))
    ids = _integers([p.id for p in good])
    mode = _integers([p.mode for p in good])
    if layout.is_probability or mode.dtype.kind != "i":
        mode = np.array([p.order for p in good], dtype=np.int64)
    step = len(good) if batch_rows is None else batch_rows
    for start in range(0, max(len(good), 1), max(step, 1)):
        part = slice(start, start + step)
        values = np.full((len(good[part]), horizon, len(layout.axes)), np.nan)
        for row, points in zip(values, good[part], strict=True):
            table = _table(points, layout)
            row[: len(table)] = table[:, 2:]
        yield Rows(
            values=values,
            ids=ids[part],
            mode=mode[part],
            initial_state=np.array([p.state for p in good[part]]) if layout.state else None,
            lengths=lengths[part] if np.any(lengths != horizon) else None,
            carried={
                name: np.array([_carry(p.first[i], CARRIED[name]) for p in good[part]], dtype=CARRIED[name])
                for name, i in layout.carried.items()
            },
            problems=problems,
            total=len(found),
        )
        problems = []


def _integers(cells: list[str]) -> np.ndarray:
    """`(N,)` integers if all cells are written as integers, otherwise the texts."""
    try:
        numbers = np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(cells, dtype=str)
    return numbers if [str(n) for n in numbers] == cells else np.array(cells, dtype=str)


def _carry(cell: str, kind: type) -> Any:
    return kind(cell) if kind is str or (cell and _is_number(cell)) else math.nan
