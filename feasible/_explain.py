"""`explain`: in words, which limits moved a sample, when, and what share of the way each of them accounts for.

A multiplier is the fall of the objective for a relative widening of its limit at one step. The share of a limit in
the sum of all multipliers is therefore its first-order share in what keeps the trajectory from its samples; the
displacement is divided in these shares. That is an attribution, not an experiment: without the limit another one
might bind instead.
"""

from __future__ import annotations

import numpy as np

from feasible._limits import Limit
from feasible._project import Projection
from feasible._status import Status

_NOTHING = 1e-6  # m²: sum of multipliers of a sample that no limit holds; what the solvers leave is below
_LEAST = 1e-2  # share of all multipliers below which a limit is not mentioned
_FAINT = 1e-3  # share of a limit's largest multiplier below which a step does not count as held
_BRIDGE = 2  # steps: a shorter pause does not end a stretch


def explain(projection: Projection, index: int | tuple[int, ...] = ()) -> tuple[str, ...]:
    """Sentences about one sample of a projection, the most important limit first.

    Args:
        projection: of `project`.
        index: of the sample in the batch axes; `()` for a projection without any.

    Returns:
        One sentence per limit that binds, such as "lateral_acceleration held at 4 m/s² from 2.1 to 3.4 s; it
        accounts for 0.83 m of the 0.91 m moved"; what was relaxed; one sentence on the status where nothing binds.
    """
    status: Status = {int(s): s for s in Status}[int(projection.status[index])]
    moved = float(projection.displacement.max[index])
    prices = {limit.name: projection.multipliers[limit.name][index] for limit in projection.limits}
    total = {name: float(np.abs(price).sum()) for name, price in prices.items()}
    everything = sum(total.values())
    sentences = []
    if status <= Status.RELAXED and everything > _NOTHING:
        for limit in sorted(projection.limits, key=lambda m: -total[m.name]):
            if total[limit.name] >= _LEAST * everything:
                share = moved * total[limit.name] / everything
                held = " and ".join(_stretches(limit, prices[limit.name], projection.trajectory.dt))
                sentences.append(f"{limit.name} held {held}; it accounts for {share:.2f} m of the {moved:.2f} m moved")
    row = int(np.arange(projection.status.size).reshape(projection.status.shape)[index])
    if projection.relaxed[row]:
        sentences.append(projection.relaxed[row])
    return tuple(sentences) or (status.meaning,)


def _stretches(limit: Limit, price: np.ndarray, dt: float) -> list[str]:
    """For each bound that binds: its value and the times at which it does."""
    found = []
    for sign, bound in ((1.0, limit.upper), (-1.0, limit.lower)):
        binds = np.flatnonzero(sign * price > _FAINT * np.abs(price).max())
        if not binds.size or bound is None:
            continue
        ends = np.flatnonzero(np.diff(binds) > _BRIDGE)
        firsts, lasts = binds[np.r_[0, ends + 1]], binds[np.r_[ends, -1]]
        times = [f"{a * dt:.1f} to {(b + 1) * dt:.1f} s" for a, b in zip(firsts, lasts, strict=True)]
        more = f" and {len(times) - 3} more" if len(times) > 3 else ""
        found.append(f"at {float(bound):.3g} {limit.unit} from {', '.join(times[:3])}{more}")
    return found
