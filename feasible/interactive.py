"""`explore`: sliders for the limits of a projection, in a notebook; needs ipywidgets."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np

try:
    import ipywidgets as widgets
except ImportError as error:
    raise ImportError("feasible.interactive needs ipywidgets: pip install 'feasible[notebook]'") from error

from feasible._arrays import to_numpy
from feasible._limits import Limit, check_limits
from feasible._project import project
from feasible._status import Status
from feasible._trajectory import Trajectory
from feasible.plot import compare

_TIGHTEST, _WIDEST = 0.1, 3.0  # times the bounds as given


def explore(
    trajectory: Trajectory,
    vehicle: Any,
    limits: Any,
    *,
    index: int = 0,
    initial_state: Any = None,
    panels: int = 3,
    **options: Any,
) -> Any:
    """A slider for each limit; letting go of one projects again, and the picture and the status follow.

    Args:
        trajectory: `(T,)` or `(N, T)`.
        vehicle: the model.
        limits: where the sliders stand at first; each multiplies the bounds of one limit.
        index: which trajectory of a batch.
        initial_state: `(d,)` or `(N, d)`, see `project`.
        panels: how many limits are drawn at most.
        **options: of `project`.

    Returns:
        An `ipywidgets.VBox` of the sliders, a line about the projection, and the picture. Its `projection` is the last
        result, and its `limits` those that it was made with.

    Raises:
        ValueError: for what `project` refuses.
    """
    limits = check_limits(limits)
    one = trajectory if not trajectory.batch_shape else trajectory[index]
    state = None if initial_state is None else np.asarray(to_numpy(initial_state), dtype=float)
    state = state if state is None or state.ndim == 1 else state[index]
    sliders = [
        widgets.FloatSlider(
            value=1.0, min=_TIGHTEST, max=_WIDEST, step=0.05, readout_format=".2f", continuous_update=False,
            description=limit.name.replace("_", " "), style={"description_width": "12em"},
            layout=widgets.Layout(width="32em"),
        )
        for limit in limits
    ]  # fmt: skip
    line, picture = widgets.HTML(), widgets.Image(format="png")
    view = widgets.VBox([*sliders, line, picture])

    def update(_: Any = None) -> None:
        view.limits = tuple(scaled(m, s.value) for m, s in zip(limits, sliders, strict=True))
        view.projection = project(one, vehicle, view.limits, initial_state=state, **options)
        figure = compare(one, vehicle, view.limits, projection=view.projection, panels=panels)
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=90)
        line.value, picture.value = _sentence(view.projection), target.getvalue()

    for slider in sliders:
        slider.observe(update, names="value")
    update()
    return view


def scaled(limit: Limit, factor: float) -> Limit:
    """The limit with both bounds multiplied."""
    lower, upper = (None if bound is None else factor * float(bound) for bound in (limit.lower, limit.upper))
    return dataclasses.replace(limit, lower=lower, upper=upper)


def _sentence(projection: Any) -> str:
    status = next(s for s in Status if s == int(projection.status))
    moved = projection.displacement
    far = f"moved by {float(moved.mean):.2f} m on average, {float(moved.max):.2f} m at most"
    return f"<b>{status.name.lower()}</b>, {far}. {projection.relaxed[0]}"
