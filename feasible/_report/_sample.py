"""`Sample`: which rows of a file are projected: some drawn at random, and the worst ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from feasible._trajectory import Trajectory
from feasible.io import Batch


@dataclasses.dataclass(frozen=True)
class Row:
    """One trajectory, kept.

    Attributes:
        number: of the row among those of the file that could be read, from 0.
        id: of the row. mode: of its id. modes: how many the file has of each.
        trajectory: `(1, T)`.
        initial_state: `(1, d)`, or None.
    """

    number: int
    id: Any
    mode: int
    modes: int
    trajectory: Trajectory
    initial_state: np.ndarray | None


@dataclasses.dataclass
class _Best:
    """The `size` rows with the largest keys so far."""

    size: int
    rows: list[tuple[float, Row]] = dataclasses.field(default_factory=list)

    def offer(self, keys: np.ndarray, first: int, batch: Batch) -> None:
        bar = self.rows[-1][0] if len(self.rows) == self.size else -np.inf
        for i in np.argsort(-keys, kind="stable")[: self.size]:
            if keys[i] > bar:
                self.rows.append((float(keys[i]), _row(batch, int(i), first + int(i))))
        self.rows = sorted(self.rows, key=lambda kept: (-kept[0], kept[1].number))[: self.size]


class Sample:
    """A quarter of `size` for the worst rows, the others drawn at random without replacement.

    The random ones are those with the largest of independent random numbers, so the choice depends on the seed and the
    order of the file alone, not on how it was cut into batches.
    """

    def __init__(self, size: int, seed: int) -> None:
        worst = min(max(size // 4, 12), size // 2)
        self.worst, self.random = _Best(worst), _Best(size - worst)
        self._dice = np.random.default_rng(seed)
        self._seen = 0

    def offer(self, batch: Batch, badness: np.ndarray) -> None:
        """Considers every row of a batch; `badness` `(N,)` ranks the worst, -inf is none of them."""
        self.random.offer(self._dice.random(len(batch)), self._seen, batch)
        self.worst.offer(badness, self._seen, batch)
        self._seen += len(batch)

    def rows(self) -> tuple[list[Row], set[int]]:
        """The rows, each once, random and worst in turn so that any beginning has both; and which are random."""
        strata = [[row for _, row in best.rows] for best in (self.random, self.worst)]
        share = max(len(strata[0]), 1) / max(len(strata[1]), 1)
        ranked = [(float(i), 0, row) for i, row in enumerate(strata[0])]
        ranked += [((i + 0.5) * share, 1, row) for i, row in enumerate(strata[1])]
        unique: dict[int, Row] = {}
        for _, _, row in sorted(ranked, key=lambda entry: entry[:2]):
            unique.setdefault(row.number, row)
        return list(unique.values()), {row.number for row in strata[0]}


def _row(batch: Batch, i: int, number: int) -> Row:
    state = None if batch.initial_state is None else batch.initial_state[i : i + 1]
    # A copy: a view would keep the whole batch in memory.
    trajectory = batch.trajectory[[i]]
    return Row(number, batch.ids[i], int(batch.mode[i]), batch.modes, trajectory, state)
