"""An exported folder: the same answers from Python, from the artefact and from C, and safe whatever comes in."""

import copy
import ctypes
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import feasible
from feasible._export import _golden
from feasible._export._artefact import Compiled, layout_from_json
from feasible._projector._request import Reply, Request

STEPS, DT = 20, 0.1
STRICT = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic")
SOURCES = ("projector.c", "programs.c")


@pytest.fixture(scope="module")
def projector():
    limits = [m for m in feasible.presets.physical() if m.name in ("acceleration", "steering_angle")]
    return feasible.Projector(feasible.vehicles.nuplan_pacifica(), limits, horizon=STEPS, dt=DT)


@pytest.fixture(scope="module")
def has_artefact():
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.fixture(scope="module")
def folder(projector, has_artefact, tmp_path_factory):
    return projector.export(tmp_path_factory.mktemp("export") / "made", artefact=has_artefact)


@pytest.fixture(scope="module")
def golden(folder):
    return json.loads((folder / "golden.json").read_text())["cases"]


@pytest.fixture(scope="module")
def loaded(folder, has_artefact):
    if not has_artefact:
        pytest.skip("no flatbuffers, which jax.export needs: pip install 'feasible[export]'")
    return feasible.load_projector(folder)


@pytest.fixture(scope="module")
def compiled(folder, tmp_path_factory):
    """The C as a library, and the check as a program."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler `cc` on this machine")
    out = tmp_path_factory.mktemp("c")
    compile_c(folder / "c", [*SOURCES, "-fPIC", "-shared"], out / "lib.so")
    compile_c(folder / "c", ["check.c", out / "lib.so"], out / "check")
    return out


def compile_c(folder, sources, out):
    done = subprocess.run(["cc", *STRICT, *sources, "-o", out, "-lm"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]


def numbers(values):
    return np.array([[np.nan if v is None else float(v) for v in row] for row in np.atleast_2d(values)])


class C:
    """`feasible_project` by ctypes, with its structures laid out as the header has them."""

    def __init__(self, library, steps, counts):
        self._counts = counts
        S, controls, limits, inner, entry = counts
        double = ctypes.c_double

        class Plan(ctypes.Structure):
            _fields_ = [
                ("states", double * S * (steps + 1)),
                ("controls", double * controls * steps),
                ("margin", double * limits),
                *[(n, double) for n in ("violation", "residual", "displacement_mean", "displacement_max", "objective")],
                *[(n, ctypes.c_int) for n in ("status", "converged", "iterations")],
                ("samples", double * 2 * steps),
                ("inner", double * steps * max(inner, 1)),
                ("entry", double * max(entry, 1)),
            ]

        class Request(ctypes.Structure):
            _fields_ = [
                ("samples", double * 4 * steps),
                ("initial", double * S),
                ("previous", ctypes.POINTER(Plan)),
                ("elapsed", ctypes.c_int),
                ("iterations", ctypes.c_int),
                ("consistency", double),
            ]

        self.Plan, self.Request = Plan, Request
        self.library = ctypes.CDLL(str(library / "lib.so"))
        config = (library / "config.h").read_text()
        self._numbers = int(config.split("FEASIBLE_NUMBERS ")[1].split()[0])

    def request(self, samples, initial=None, previous=None, elapsed=0, iterations=-1):
        request = self.Request()
        self.library.feasible_clear(ctypes.byref(request))
        np.ctypeslib.as_array(request.samples)[:, : np.shape(samples)[1]] = samples
        if initial is not None:
            np.ctypeslib.as_array(request.initial)[: len(initial)] = initial
        if previous is not None:
            request.previous = ctypes.pointer(previous)
        request.elapsed, request.iterations = elapsed, iterations
        return request

    def workspace(self):
        return (ctypes.c_double * self._numbers)()

    def __call__(self, request, plan=None, workspace=None):
        plan = self.Plan() if plan is None else plan
        work = workspace or self.workspace()
        status = self.library.feasible_project(ctypes.byref(request), ctypes.byref(plan), work)
        assert status == plan.status
        return plan


def library(folder, projector):
    at = projector._rungs.request.at
    return C(folder, projector.horizon, (6, 2, len(projector._problem.limits), len(at.inner), len(at.entry)))


@pytest.fixture(scope="module")
def c(compiled, folder, projector):
    shutil.copy(folder / "c" / "config.h", compiled)
    return library(compiled, projector)


def states(plan):
    return np.ctypeslib.as_array(plan.states).copy()


def finite(plan):
    arrays = [
        np.ctypeslib.as_array(getattr(plan, n)) for n in ("states", "controls", "margin", "samples", "inner", "entry")
    ]
    return (
        all(np.isfinite(a).all() for a in arrays)
        and np.isfinite(
            [plan.violation, plan.residual, plan.displacement_mean, plan.displacement_max, plan.objective]
        ).all()
    )


def same(plan, expected):
    """Within 1e-6 m, and the same status and certificate."""
    assert int(plan.status) == expected["status"]
    assert int(plan.iterations) == expected["iterations"]
    assert bool(plan.converged) == expected["converged"]
    np.testing.assert_allclose(plan.states, expected["states"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(plan.violation, expected["violation"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(plan.displacement.max, expected["displacement_max"], rtol=1e-6, atol=1e-6)


def test_golden_vectors_cover_the_ladder(golden):
    assert {case["plan"]["status"] for case in golden} == {int(s) for s in feasible.Status}
    assert {case["plan"]["converged"] for case in golden} == {True, False}
    assert any(max(case["plan"]["margin"].values()) > -1e-3 for case in golden if case["plan"]["status"] == 1)


def test_python_reproduces_the_golden_vectors(projector, golden):
    found = _golden.answers(projector, _golden.cases(STEPS, DT, 6))
    for plan, case in zip(found, golden, strict=True):
        same(plan, case["plan"])


@pytest.mark.slow
def test_the_artefact_reproduces_the_golden_vectors(loaded, golden):
    cases = _golden.cases(STEPS, DT, 6)
    found = _golden.answers(loaded, cases)
    for plan, case in zip(found, golden, strict=True):
        same(plan, case["plan"])
    assert found[0].certificates[0]["configuration"] == loaded.configuration
    assert found[0].trajectory.horizon == STEPS
    with pytest.raises(NotImplementedError, match="original"):
        _ = found[0].projection
    values = np.stack([cases[0].samples[:, :2], cases[1].samples[:, :2]])
    both = loaded(values)
    np.testing.assert_array_equal(both.states[0], loaded(values[0]).states)


def test_the_artefact_takes_any_number_of_rows(loaded, folder, projector):
    for name in ("hard", "elastic", "brake"):
        exported = Compiled(folder / "artefact" / f"{name}.jax", 1).exported
        assert exported.platforms == ("cpu", "cuda")
        assert str(exported.in_avals[0].shape[0]) == "b"
    exported = Compiled(folder / "artefact" / "brake.jax", 1).exported
    case = _golden.cases(STEPS, DT, 6)[0]
    values, stated = case.samples[None], (True, True, False, False)
    row = projector._request(values, stated, case.initial[None], np.zeros((1, 2)))
    expected = projector._rungs.run("brake", row)
    with jax.enable_x64(True):
        one, five = (np.asarray(exported.call(np.repeat(row, n, axis=0))) for n in (1, 5))
    assert one.dtype == np.float64
    # The first state is free and read from a fit whose third differences are divided by dt³: rounding grows 1e7 times.
    np.testing.assert_allclose(one, expected, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(five, np.repeat(one, 5, axis=0), rtol=0, atol=1e-12)


def test_c_reproduces_the_golden_vectors(compiled):
    done = subprocess.run([compiled / "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_c_gives_the_certificate_too(c, golden):
    plans = []
    for case in golden:
        previous = c.Plan.from_buffer_copy(plans[case["previous"]]) if case["previous"] >= 0 else None
        if case["spoilt"]:
            previous.states[1][0] = np.nan
        samples, initial = numbers(case["samples"]), numbers(case["initial"])[0]
        plan = c(c.request(samples, initial, previous, case["elapsed"], case["iterations"]))
        plans.append(plan)
        expected = case["plan"]
        assert finite(plan)
        assert (plan.status, plan.iterations) == (expected["status"], expected["iterations"]), case["name"]
        assert bool(plan.converged) == expected["converged"]
        np.testing.assert_allclose(states(plan), expected["states"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(plan.controls, expected["controls"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(plan.margin, list(expected["margin"].values()), rtol=1e-6, atol=1e-6)
        for name in ("violation", "residual", "displacement_mean", "displacement_max", "objective"):
            assert getattr(plan, name) == pytest.approx(expected[name], rel=1e-6, abs=1e-6)


def test_c_takes_back_an_excess_between_the_points_as_python_does(compiled, tmp_path):
    steps = 40
    limits = feasible.presets.nuplan_comfort()
    bent = feasible.Projector(feasible.vehicles.nuplan_pacifica(), limits, horizon=steps, dt=DT)
    source = bent.export(tmp_path / "made", artefact=False) / "c"
    compile_c(source, [*SOURCES, "-fPIC", "-shared"], source / "lib.so")
    function, staying = library(source, bent), copy.copy(bent)
    values = np.random.default_rng(143).normal(0, 0.3, (steps, 2))
    values[:, 0] += 0.1 * DT * np.arange(1, steps + 1)
    for staying.consistency in (0.0, 0.01):  # with it the plan before keeps its place, and the second attempt is cold
        plan, last = None, None
        for _ in range(2):
            last = staying(values, warm_start=last, elapsed=0.0)
            request = function.request(values, previous=plan)
            request.consistency = staying.consistency
            plan = function(request)
            assert (plan.status, plan.iterations) == (int(last.status), int(last.iterations))
            np.testing.assert_allclose(states(plan), last.states, rtol=0, atol=1e-6)
            assert plan.status == feasible.Status.PROJECTED


def test_c_is_not_poisoned(c):
    cases, work = _golden.cases(STEPS, DT, 6), c.workspace()
    good = c.request(cases[0].samples, cases[6].initial)
    before = bytes(c(good, workspace=work))
    poison = np.full((STEPS, 4), np.nan)
    spoilt = c.Plan.from_buffer_copy(before)
    ctypes.memset(ctypes.byref(spoilt), 0xFF, ctypes.sizeof(spoilt))  # all NaN, and counters of -1
    assert finite(c(c.request(poison, [np.nan] * 6, spoilt), workspace=work))
    assert finite(c(c.request(cases[0].samples, [np.inf, 1.0, -np.inf], spoilt, elapsed=-7), workspace=work))
    assert bytes(c(good, workspace=work)) == before
    ctypes.memset(work, 0xFF, ctypes.sizeof(work))
    assert bytes(c(good, workspace=work)) == before


def test_c_answers_whatever_comes(c):
    rng = np.random.default_rng(0)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, 1e308, -1e308, 5e-324, 1e7])
    plan, work = None, c.workspace()
    for _ in range(60):
        samples = rng.normal(size=(STEPS, 4)) * 10.0 ** rng.integers(-3, 9)
        where = rng.random(samples.shape) < rng.choice([0.0, 0.1, 0.9])
        samples[where] = rng.choice(special, where.sum())
        initial = np.where(rng.random(6) < 0.5, rng.choice(special, 6), rng.normal(size=6))
        previous = plan if rng.random() < 0.5 else None
        request = c.request(samples, initial, previous, int(rng.integers(0, 4)), int(rng.integers(-1, 12)))
        plan = c(request, workspace=work)
        assert finite(plan)
        assert 0 <= plan.status <= 4


def test_c_writes_over_the_previous_plan(c):
    cases = _golden.cases(STEPS, DT, 6)
    first = c(c.request(cases[0].samples))
    apart = c(c.request(cases[1].samples, previous=first, elapsed=1))
    c(c.request(cases[1].samples, previous=first, elapsed=1), plan=first)
    assert bytes(first) == bytes(apart)


def test_c_serves_threads(c):
    requests = [c.request(case.samples, case.initial) for case in _golden.cases(STEPS, DT, 6)] * 4
    expected = [bytes(c(request)) for request in requests]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda request: bytes(c(request)), requests)) == expected


def test_c_is_refused_without_nan(compiled, folder):
    command = ["cc", "-std=c99", "-ffast-math", "-c", "projector.c", "-o", compiled / "fast.o"]
    done = subprocess.run(command, cwd=folder / "c", capture_output=True, text=True)
    assert done.returncode != 0
    assert "fast-math" in done.stderr


def test_the_header_is_cpp_too(folder):
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler `c++` on this machine")
    command = ["c++", "-x", "c++", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "projector.h"]
    done = subprocess.run(command, cwd=folder / "c", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_specification_says_what_it_is(folder, projector):
    found = json.loads((folder / "specification.json").read_text())
    assert found["format"] == "feasible.export/3"
    assert found["configuration"] == projector.configuration
    assert found["projector"] == json.loads(json.dumps(projector.specification))
    for kind, layout in ((Request, projector._rungs.request), (Reply, projector._rungs.reply)):
        assert layout_from_json(kind, found["layout"][kind.__name__.lower()]) == layout
    readme = (folder / "README.md").read_text()
    assert "not collisions" in readme
    assert "@" not in readme


def test_wrong_folders_are_named(folder, projector, has_artefact, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="nothing was written"):
        projector.export(tmp_path / "mine", artefact=False)
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "file.txt"]
    with pytest.raises(ValueError, match=r"expected a folder that Projector\.export wrote"):
        feasible.load_projector(tmp_path / "mine")
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "specification.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"format": "feasible.export/0"}))
    with pytest.raises(ValueError, match="export it anew"):
        feasible.load_projector(tmp_path / "copy")
    path.write_text(json.dumps(found | {"platforms": []}))
    with pytest.raises(ValueError, match="artefact=True"):
        feasible.load_projector(tmp_path / "copy")
    path.write_text(json.dumps(found | {"platforms": ["cpu"], "projector": found["projector"] | {"dt": 0.2}}))
    with pytest.raises(ValueError, match="not that of configuration"):
        feasible.load_projector(tmp_path / "copy")
    if has_artefact:
        path.write_text(json.dumps(found))
        (tmp_path / "copy" / "artefact" / "hard.jax").write_bytes(b"else")
        with pytest.raises(ValueError, match="changed since"):
            feasible.load_projector(tmp_path / "copy")


def test_an_export_is_replaced_by_the_next(projector, tmp_path):
    path = projector.export(tmp_path / "out", artefact=False, c=False)
    (path / "left over").write_text("")
    projector.export(path, artefact=False, c=False)
    assert sorted(p.name for p in path.iterdir()) == ["README.md", "golden.json", "specification.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
