"""Every figure against its picture, tidy by measurement, and sensible on inputs that have nothing to show.

`FEASIBLE_BASELINE=write pytest tests/test_plot.py` draws the pictures in tests/baseline/ anew; look at them then.
"""

import itertools
import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from drives import random_drive
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

import feasible
from feasible import Status, Trajectory, plot
from feasible._project import Displacement, Projection

matplotlib.use("Agg")
BASELINE = Path(__file__).parent / "baseline"
DRAWN_WITH = "3.11"  # matplotlib; another one may place letters differently
TOLERANCE = 1.5 if matplotlib.__version__.startswith(DRAWN_WITH) else 12.0  # root mean square over 0 .. 255
DPI = 60


@pytest.fixture(autouse=True)
def plain_style():
    """matplotlib's defaults, with the font that it ships, whatever is installed or configured here."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["font.family"] = "DejaVu Sans"
        yield
    plt.close("all")


@pytest.fixture(scope="module")
def limits():
    return feasible.presets.nuplan_comfort()


def made(states, controls, vehicle, limits, dt=0.1, status=Status.PROJECTED, moved=0.0):
    """A `Projection` put together by hand, so that no solver decides what the pictures look like."""
    rows, steps = controls.shape[:2]
    samples = states[:, 1:]
    trajectory = Trajectory(*np.moveaxis(samples[..., :4], -1, 0), dt, np.ones((rows, steps), dtype=bool))
    time = np.linspace(0, 6.28, steps)
    prices = {m.name: np.maximum(np.sin(time * (i + 1)) - 0.5, 0) * 0.1 / (i + 1) for i, m in enumerate(limits)}
    prices[limits[0].name] = prices[limits[0].name] - 0.05 * (time > 5)
    none = np.zeros(rows)
    return Projection(
        trajectory=trajectory,
        motion=vehicle.motion(states, controls, dt),
        states=states,
        controls=controls,
        status=np.full(rows, int(status)),
        displacement=Displacement(none + moved, none + 3 * moved),
        violation=none,
        margin={m.name: none for m in limits},
        dynamics_residual=none,
        multipliers={name: np.tile(price, (rows, 1)) for name, price in prices.items()},
        relaxed=("",) * rows,
        objective=none,
        iterations=none.astype(int),
        limits=limits,
        vehicle=vehicle,
    )


@pytest.fixture(scope="module")
def scene(vehicle, limits):
    """`(3, 40)` drives with jitter and a sidestep, and the smooth drives that they were made from."""
    rng = np.random.default_rng(5)
    drives = [random_drive(rng, steps=40, curvature_rate=0.03) for _ in range(3)]
    controls = np.stack([drive[1] for drive in drives])
    states = np.stack([vehicle.rollout(state, u, 0.1) for state, u, _ in drives])
    values = states[:, 1:, :2] + rng.normal(0, 0.02, (3, 40, 2))
    values[:, 18:26] += 1.5
    projection = made(states, controls, vehicle, limits, moved=0.4)
    projection.status[:] = [1, 1, 2]
    projection.displacement.mean[:] = [0.4, 0.1, 1.3]
    return Trajectory.from_array(values, dt=0.1), projection


def figures(before, vehicle, limits, projection, index=0):
    """Every function with its arguments, by name; each returns Axes, an array of them, or a Figure."""
    one = {"projection": projection, "index": index}
    return {
        "birdseye": lambda: plot.birdseye(before, vehicle, limits, **one),
        "birdseye_input": lambda: plot.birdseye(before, vehicle, limits, index=index),
        "signal": lambda: plot.signal(before, vehicle, limits[1], **one),
        "signals": lambda: plot.signals(before, vehicle, limits, **one),
        "gg": lambda: plot.gg(before, vehicle, (*limits, feasible.presets.physical()[-1]), **one),
        "gg_input": lambda: plot.gg(before, vehicle, limits, index=index, differencing="savgol"),
        "heatmap": lambda: plot.heatmap(feasible.audit(before, vehicle, limits), dt=0.1),
        "displacement": lambda: plot.displacement(projection),
        "shadow_prices": lambda: plot.shadow_prices(projection, limits, index=index),
        "modes": lambda: plot.modes(before, vehicle, limits, probability=np.linspace(0.5, 0.2, len(before))),
        "compare": lambda: plot.compare(before, vehicle, limits, projection=projection, index=index),
    }


NAMES = [*figures(None, None, (None,) * 7, None)]


def figure_of(drawn):
    if isinstance(drawn, Figure):
        return drawn
    return (drawn.ravel()[0] if isinstance(drawn, np.ndarray) else drawn).figure


@pytest.mark.parametrize("name", NAMES)
def test_picture(scene, vehicle, limits, name, tmp_path):
    before, projection = scene
    figure = figure_of(figures(before, vehicle, limits, projection)[name]())
    drawn, expected = tmp_path / f"{name}.png", BASELINE / f"{name}.png"
    figure.savefig(drawn, dpi=DPI)
    if os.environ.get("FEASIBLE_BASELINE") == "write":
        BASELINE.mkdir(exist_ok=True)
        expected.write_bytes(drawn.read_bytes())
    difference = compare_images(str(expected), str(drawn), TOLERANCE)
    assert difference is None, difference


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error::UserWarning")
def test_texts_do_not_overlap_and_legends_cover_no_data(scene, vehicle, limits, name):
    before, projection = scene
    figure = figure_of(figures(before, vehicle, limits, projection)[name]())
    assert not overlapping(figure)
    assert not covering(figure)


def drawn_canvas(figure):
    """The figure drawn, and what measures texts in it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def texts(figure):
    """Boxes [pixels] of all texts that are seen, with what they say."""
    renderer = drawn_canvas(figure)
    ticks = {label for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for label in every_label(axis)}
    seen = [text for text in figure.findobj(Text) if text not in ticks]
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            seen += [label for tick in axis._update_ticks() for label in (tick.label1, tick.label2)]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in seen if t.get_visible() and t.get_text().strip()]


def every_label(axis):
    """Also of ticks beyond the axis, which keep a label that is not drawn."""
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [label for tick in ticks for label in (tick.label1, tick.label2)]


def overlapping(figure):
    pairs = itertools.combinations(texts(figure), 2)
    shrink = 0.5  # pixel: boxes that touch do not overlap
    return [
        (one, other)
        for (one, a), (other, b) in pairs
        if a.x0 + shrink < b.x1 and b.x0 + shrink < a.x1 and a.y0 + shrink < b.y1 and b.y0 + shrink < a.y1
    ]


def covering(figure):
    """Legends that lie on some axes."""
    drawn_canvas(figure)
    return [
        legend
        for legend in figure.findobj(Legend)
        for ax in figure.axes
        if legend.get_window_extent().overlaps(ax.get_window_extent())
    ]


def test_the_measurement_sees_untidy_figures():
    figure = Figure(figsize=(3, 2))
    ax = figure.add_subplot()
    ax.plot([0, 1], label="line")
    ax.legend(loc="upper left")
    ax.text(0.5, 0.5, "one text here")
    ax.text(0.55, 0.52, "and another")
    assert ("one text here", "and another") in overlapping(figure)
    assert covering(figure)


def test_birdseye_views_have_equal_scales(scene, vehicle, limits):
    before, projection = scene
    for name in ("birdseye", "modes", "gg"):
        ax = figures(before, vehicle, limits, projection)[name]()
        ax.figure.canvas.draw()
        corner, right, top = ax.transData.transform([(0, 0), (1, 0), (0, 1)])
        assert right[0] - corner[0] == pytest.approx(top[1] - corner[1], rel=1e-6)


def test_every_axis_has_a_unit(scene, vehicle, limits):
    before, projection = scene
    for name, draw in figures(before, vehicle, limits, projection).items():
        for ax in figure_of(draw()).axes:
            labels = [ax.get_xlabel(), ax.get_ylabel()]
            assert any(labels), name
            assert all("[" in label for label in labels if label), (name, labels)


def test_bands_are_named_with_their_source(scene, vehicle, limits):
    before, projection = scene
    for ax, limit in zip(plot.signals(before, vehicle, limits, projection=projection), limits, strict=True):
        title = ax.get_title(loc="left")
        assert title.startswith(limit.name.replace("_", " "))
        assert limit.source[:20] in title


def test_red_marks_are_where_the_audit_finds_excess(scene, vehicle, limits):
    before, _ = scene
    report = feasible.audit(before[1], vehicle, limits)
    over = np.any([v > report.tolerance for v in report.violation.values()], axis=0)
    ax = plot.birdseye(before, vehicle, limits, index=1)
    (line,) = [line for line in ax.get_lines() if line.get_label() == "before, over a limit"]
    np.testing.assert_array_equal(np.isfinite(line.get_xdata()), over)


def test_arrows_end_on_the_projection(scene, vehicle, limits):
    before, projection = scene
    ax = plot.birdseye(before, vehicle, limits, projection=projection, every=0.1)
    (arrows,) = [c for c in ax.collections if c.get_label() == "displacement"]
    ends = arrows.get_offsets() + np.stack([arrows.U, arrows.V], -1)
    after = np.stack([projection.trajectory.x[0], projection.trajectory.y[0]], -1)
    assert len(ends)
    assert np.min(np.linalg.norm(ends[:, None] - after, axis=-1), axis=1).max() < 1e-9


def test_heatmap_shows_the_share_of_those_assessed(scene, vehicle, limits):
    before, _ = scene
    report = feasible.audit(before, vehicle, limits)
    over, known = plot._heatmap.tally(report)
    assert over.shape == known.shape == (len(limits), 40)
    assert over.sum() == sum(row.steps_over for row in report.summary.rows)
    assert known.sum() == sum(row.steps for row in report.summary.rows)


def test_limits_outline_in_the_gg_plane_is_where_their_margin_vanishes(scene, vehicle):
    before, projection = scene
    (grip,) = [m for m in feasible.presets.physical() if m.name == "friction_circle"]
    ax = plot.gg(before, vehicle, (grip,), projection=projection)
    (outline,) = [c for c in ax.collections if type(c).__name__.endswith("ContourSet")]
    points = np.concatenate([path.vertices for path in outline.get_paths()])
    assert np.hypot(*points.T) == pytest.approx(0.9 * 9.80665, abs=0.05)


def test_misuse_is_refused(scene, vehicle, limits):
    before, projection = scene
    with pytest.raises(ValueError, match="projection: expected that of the trajectory"):
        plot.birdseye(before[:2], vehicle, limits, projection=projection)
    with pytest.raises(IndexError, match="expected 1 numbers"):
        plot.birdseye(before, vehicle, limits, index=(0, 0))
    with pytest.raises(ValueError, match="modes of one prediction"):
        plot.modes(before[0], vehicle, limits)
    with pytest.raises(ValueError, match=r"expected shape \(3,\)"):
        plot.modes(before, vehicle, limits, probability=[1.0])
    with pytest.raises(ValueError, match="'mean' or 'max'"):
        plot.displacement(projection, which="median")


# --- nothing to show -------------------------------------------------------------------------------------------------


def straight(rows):
    x = 10.0 * 0.1 * np.arange(1, 31)
    return Trajectory.from_array(np.broadcast_to(np.stack([x, 0 * x], -1), (rows, 30, 2)).copy(), dt=0.1)


@pytest.fixture(scope="module")
def poor(vehicle, limits):
    """Inputs with nothing to show, each with its projection."""
    inputs = {
        "empty": straight(0),
        "single row": straight(1),
        "all rejected": Trajectory.from_array(np.full((3, 30, 2), np.nan), dt=0.1),
        "all feasible": straight(3),
    }
    return {name: (t, feasible.project(t, vehicle, limits)) for name, t in inputs.items()}


@pytest.mark.parametrize("case", ["empty", "single row", "all rejected", "all feasible"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_poor_input_gives_a_figure(poor, vehicle, limits, name, case):
    before, projection = poor[case]
    figure = figure_of(figures(before, vehicle, limits, projection, index=None)[name]())
    assert not overlapping(figure)
    assert not covering(figure)


@pytest.mark.parametrize("case", ["empty", "single row", "all rejected", "all feasible"])
def test_poor_input_gives_an_animation(poor, vehicle, limits, case, tmp_path):
    from PIL import Image

    before, projection = poor[case]
    path = plot.animate(before, vehicle, limits, tmp_path / "drive.gif", projection=projection, size=(3, 2), dpi=40)
    with Image.open(path) as picture:
        assert picture.format == "GIF"


def test_animation_runs_in_real_time(scene, vehicle, limits, tmp_path):
    from PIL import Image

    before, projection = scene
    path = plot.animate(before, vehicle, limits, tmp_path / "drive.gif", projection=projection)
    with Image.open(path) as picture:
        assert picture.n_frames == 40
        assert picture.info["duration"] == 100  # ms
    assert path.stat().st_size < 400_000


def test_unbatched_input_needs_no_index(vehicle, limits):
    ax = plot.birdseye(straight(1)[0], vehicle, limits)
    assert len(ax.get_lines()[0].get_xdata()) == 30


def test_matplotlib_is_not_loaded_before_a_function_is_called():
    import subprocess
    import sys

    code = "import feasible.plot, sys; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
