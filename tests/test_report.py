"""The report page: whole, self-contained, honest about its sample, and sensible on inputs with nothing in them."""

import html.parser
import json
import re

import numpy as np
import pytest

import feasible
from feasible import Status, Trajectory, _report
from feasible.__main__ import main
from feasible._cli.text import to_json
from feasible._report._sample import Sample
from feasible._report._tally import Tally
from feasible.io import Batch

T = 20
VOID = {"meta", "link", "img", "br", "hr", "input"}


@pytest.fixture(scope="module")
def limits():
    return feasible.presets.physical()


def rows(count, *, jitter=0.0, jump=0.0, seed=0):
    """`(count, T, 2)` straight drives at 10 m/s, with jitter, and a sidestep in the middle."""
    values = np.zeros((count, T, 2))
    values[..., 0] = np.arange(1, T + 1)
    values[:, T // 2 :, 1] += jump
    return values + np.random.default_rng(seed).normal(0, 1, values.shape) * jitter


def batch(values, ids=None):
    trajectory = Trajectory.from_array(values, dt=0.1)
    ids = np.arange(len(values)) if ids is None else ids
    return Batch(trajectory, ids, np.zeros(len(values), int), total=len(values))


def examined(batches, vehicle, limits, **options):
    facts = {"file": "in.npz", "vehicle": "nuplan_pacifica", "limits": "physical"}
    return _report.examine(batches, vehicle, limits, configuration=facts, **options)


class Page(html.parser.HTMLParser):
    """Checks that tags nest, and collects what the page refers to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        assert tag != "img" or dict(attributes).get("alt")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def page_of(findings):
    text = _report.to_html(findings)
    return text, Page(text), re.sub(r"\s+", " ", " ".join(Page(text).text))


@pytest.fixture(scope="module")
def mixed(vehicle, limits):
    """Feasible rows, jittery ones, sidesteps and one without a finite sample."""
    values = np.concatenate([rows(5), rows(4, jitter=0.03), rows(3, jump=8.0), np.full((1, T, 2), np.nan)])
    return examined([batch(values)], vehicle, limits)


def test_page_is_self_contained_html(mixed):
    text, page, _ = page_of(mixed)
    assert text.startswith("<!doctype html>")
    assert {"html", "head", "title", "main", "table", "img"} <= set(page.tags)
    assert "script" not in page.tags
    assert all(source.startswith("data:") for source in page.sources)
    assert not re.search(r"url\(|@import|https?://", text)


def test_page_says_what_was_counted(mixed):
    _, _, words = page_of(mixed)
    facts = _report.to_dict(mixed)
    assert facts["totals"]["trajectories"] == 13
    assert (facts["totals"]["feasible"], facts["totals"]["jitter"]) == (5, 4)
    assert (facts["totals"]["persistent"], facts["totals"]["unassessed"]) == (3, 1)
    assert "38.5 % keep every limit" in words
    for limit in mixed.limits:
        assert limit.name.replace("_", " ") in words
        assert limit.source in words


def test_a_small_file_is_projected_whole_and_says_so(mixed):
    _, _, words = page_of(mixed)
    sample = _report.to_dict(mixed)["sample"]
    assert sample["all"]
    assert sample["random"] == sample["projected"] == 13
    assert "All 13 trajectories were projected" in words
    assert sum(entry["random"] for entry in sample["status"]) == 13


def test_worst_are_in_order_with_their_reason(mixed):
    worst = _report.to_dict(mixed)["worst"]
    moved = [case["displacement"]["mean"] for case in worst]
    assert moved == sorted(moved, reverse=True)
    assert {case["row"] for case in worst[:3]} == {9, 10, 11}  # the sidesteps
    assert "still over" in " ".join(worst[0]["reason"])
    assert re.search(r"moved by \d\.\d\d m on average", worst[0]["reason"][-1])
    jitter = next(case for case in worst if case["row"] in range(5, 9))
    assert any("jitter, not a manoeuvre" in sentence for sentence in jitter["reason"])
    assert not any(case["status"] in ("rejected", "unchanged") for case in worst)


def test_sample_is_stated_where_it_is_one(vehicle, limits):
    findings = examined([batch(rows(60, jitter=0.02))], vehicle, limits, project_rows=6, seed=3)
    _, _, words = page_of(findings)
    sample = _report.to_dict(findings)["sample"]
    assert (sample["all"], sample["projected"]) == (False, len(findings.cases))
    assert len(findings.cases) <= 6
    assert "drawn at random from all 60 (seed 3)" in words
    assert sample["share_error"] == pytest.approx(np.sqrt(np.log(40) / (2 * sample["random"])))


def test_no_projection_begins_after_the_budget(vehicle, limits):
    findings = examined([batch(rows(9, jitter=0.02))], vehicle, limits, budget=0.0)
    assert findings.early
    assert findings.cases == ()
    _, _, words = page_of(findings)
    assert "was up before" in words


@pytest.mark.parametrize(
    "values",
    [None, rows(0), rows(1), np.full((4, T, 2), np.nan), rows(6)],
    ids=["no batch", "empty", "single row", "all rejected", "all feasible"],
)
@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_poor_input_gives_a_page(vehicle, limits, values):
    findings = examined([] if values is None else [batch(values)], vehicle, limits)
    _, page, words = page_of(findings)
    size = 0 if values is None else len(values)
    assert f"{size} trajectories held against" in words
    assert page.tags.count("img") >= 5
    json.loads(to_json(_report.to_dict(findings)))
    if not size:
        assert "There is no trajectory in it." in words
    if size == 4:
        (rejected,) = [s for s in _report.to_dict(findings)["sample"]["status"] if s["name"] == "rejected"]
        assert rejected["random"] == 4


def test_text_from_the_file_cannot_become_markup(vehicle, limits):
    ids = np.array(["<script>alert(1)</script>"])
    text, page, _ = page_of(examined([batch(rows(1, jump=5.0), ids)], vehicle, limits))
    assert "script" not in page.tags
    assert "&lt;script&gt;" in text


# --- the parts -------------------------------------------------------------------------------------------------------


def test_tally_does_not_depend_on_the_batches(vehicle, limits):
    values = np.concatenate([rows(7, jitter=0.03), rows(5, jump=3.0), rows(3)])
    whole, cut = Tally(), Tally()
    badness = whole.add(Trajectory.from_array(values, dt=0.1), vehicle, limits)
    parts = [cut.add(Trajectory.from_array(v, dt=0.1), vehicle, limits) for v in np.array_split(values, 4)]
    np.testing.assert_array_equal(np.concatenate(parts), badness)
    assert whole.verdicts == cut.verdicts
    for name in ("raw", "smooth"):
        a, b = getattr(whole, name), getattr(cut, name)
        assert str(a.summary) == str(b.summary)
        for field in ("over", "known", "excess"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


def test_tally_adds_horizons(vehicle, limits):
    tally = Tally()
    for steps in (8, 12, 10):
        tally.add(Trajectory.from_array(rows(2)[:, :steps], dt=0.1), vehicle, limits)
    assert tally.raw.known.shape == (len(limits), 12)
    assert tally.raw.known[0].tolist()[:2] == [6, 6]
    assert tally.raw.known[0, -1] == 2


def test_smoothed_excess_ranks_before_raw(vehicle, limits):
    values = np.concatenate([rows(1), rows(1, jitter=0.06), rows(1, jump=6.0), np.full((1, T, 2), np.nan)])
    badness = Tally().add(Trajectory.from_array(values, dt=0.1), vehicle, limits)
    assert np.argsort(badness).tolist() == [3, 0, 1, 2]
    assert badness[3] == -np.inf


def chosen(sizes, seed, keys, size=8):
    sample, start = Sample(size, seed), 0
    for n in sizes:
        sample.offer(batch(rows(n), np.arange(start, start + n)), keys[start : start + n])
        start += n
    picked, random = sample.rows()
    return [row.number for row in picked], random


def test_sample_is_seeded_and_stratified_whatever_the_batches():
    keys = np.random.default_rng(1).random(100)
    keys[[7, 70]] = [5.0, 4.0]
    picked, random = chosen([100], 0, keys)
    assert chosen([30, 1, 69], 0, keys) == (picked, random)
    assert chosen([100], 1, keys)[1] != random
    assert len(random) == 4
    assert {7, 70} <= set(picked)
    worst = [n for n in picked if n not in random]
    assert set(worst) <= set(np.argsort(-keys)[:4].tolist())


def test_every_row_has_the_same_chance():
    counts = np.zeros(10)
    for seed in range(2000):
        counts[list(chosen([6, 4], seed, np.zeros(10), size=6)[1])] += 1
    assert counts / 2000 == pytest.approx(0.3, abs=0.05)  # 3 of 10 at random, five standard deviations


def test_rows_of_several_horizons_are_projected(vehicle, limits):
    batches = [batch(rows(2, jitter=0.02)), batch(rows(2, jitter=0.02)[:, :12])]
    findings = examined(batches, vehicle, limits)
    assert sorted(case.row.trajectory.horizon for case in findings.cases) == [12, 12, T, T]


# --- the command -----------------------------------------------------------------------------------------------------


def test_command_writes_page_and_json(tmp_path, capsys):
    np.savez(tmp_path / "in.npz", pred=np.concatenate([rows(3), rows(2, jump=4.0)]), dt=0.1)
    target = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "in.npz"), "-o", str(target), "--quiet", "--project-rows", "4"]) == 0
    assert f"wrote {target}" in capsys.readouterr().out
    facts = json.loads((tmp_path / "page.json").read_text())
    assert facts["totals"]["trajectories"] == 5
    assert facts["configuration"]["project_rows"] == 4
    assert target.stat().st_size < 3e6
    Page(target.read_text())


def test_command_refuses_another_suffix(tmp_path, capsys):
    np.savez(tmp_path / "in.npz", pred=rows(1), dt=0.1)
    assert main(["report", str(tmp_path / "in.npz"), "-o", str(tmp_path / "page.pdf")]) == 2
    assert "ends in .html" in capsys.readouterr().err


def test_command_says_what_was_left_out(tmp_path, capsys):
    lines = ["id,time,x,y"]
    lines += [f"a,{0.1 * k:.1f},{k},0" for k in range(8)] + [
        f"b,{0.1 * k:.1f},{'oops' if k == 3 else k},0" for k in range(8)
    ]
    (tmp_path / "in.csv").write_text("\n".join(lines))
    assert main(["report", str(tmp_path / "in.csv"), "-o", str(tmp_path / "page.html"), "--quiet"]) == 3
    assert "left out" in capsys.readouterr().err
    assert "oops" in (tmp_path / "page.html").read_text()


# --- rich display ----------------------------------------------------------------------------------------------------


def test_results_show_themselves_in_a_notebook(vehicle, limits):
    trajectory = Trajectory.from_array(rows(3), dt=0.1)
    report = feasible.audit(trajectory, vehicle, limits)
    projection = feasible.project(trajectory, vehicle, limits)
    shown = feasible.presets.show(limits)
    for thing in (report, projection, shown):
        Page(thing._repr_html_())
    assert all(limit.source in report._repr_html_() for limit in limits)
    assert Status.UNCHANGED.name in projection._repr_html_()
    assert all(limit.name in str(shown) for limit in limits)
    empty = feasible.project(trajectory[:0], vehicle, limits)
    assert "No samples" in empty._repr_html_()
    assert "0 of 0" in feasible.audit(trajectory[:0], vehicle, limits)._repr_html_()


def test_sliders_move_the_projection(vehicle, limits):
    pytest.importorskip("ipywidgets")
    from feasible.interactive import explore

    view = explore(Trajectory.from_array(rows(2, jump=1.0), dt=0.1), vehicle, limits, index=1)
    *sliders, line, picture = view.children
    assert [slider.description for slider in sliders] == [limit.name.replace("_", " ") for limit in limits]
    first, moved = bytes(picture.value), float(view.projection.displacement.mean)
    assert first.startswith(b"\x89PNG")
    assert "projected" in line.value
    steering = [limit.name for limit in limits].index("steering_rate")
    sliders[steering].value = 0.4
    assert view.limits[steering].upper == pytest.approx(0.4)
    assert float(view.projection.displacement.mean) > moved
    assert bytes(picture.value) != first


def test_interactive_view_needs_ipywidgets_and_says_so(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.delitem(sys.modules, "feasible.interactive", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'feasible\[notebook\]'"):
        import feasible.interactive  # noqa: F401
