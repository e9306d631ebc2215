"""The command line: what it prints and writes, its exit codes, and one sentence for every mistake."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from feasible import io
from feasible.__main__ import main

ROOT = Path(__file__).parents[1]
T = 12


def drive(speed, *, side=0.0):
    """`(T, 2)`: straight ahead at constant speed."""
    along = speed * 0.1 * np.arange(1, T + 1)
    return np.stack([along, np.full(T, side)], axis=-1)


@pytest.fixture
def values():
    """`(4, T, 2)`: three that can be driven and one that teleports."""
    rows = np.stack([drive(10.0), drive(8.0, side=3.0), drive(12.0), drive(5.0)])
    rows[2, 6:, 1] += 40.0
    return rows


@pytest.fixture
def file(tmp_path, values):
    np.savez(tmp_path / "in.npz", pred=values, dt=0.1, ids=np.array(["a", "b", "jump", "d"]))
    return str(tmp_path / "in.npz")


@pytest.fixture
def mixed(tmp_path, values):
    """A csv with a bad trajectory between good ones, one of them shorter."""
    rows = ["id,time,x,y"]
    for name, points in (("a", values[0]), ("bad", values[1]), ("short", values[3][:8]), ("d", values[3])):
        for k, (x, y) in enumerate(points.tolist()):
            rows.append(f"{name},{k * 0.1:.1f},{'oops' if name == 'bad' and k == 3 else x},{y}")
    (tmp_path / "mixed.csv").write_text("\n".join(rows))
    return str(tmp_path / "mixed.csv")


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def shell(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)


# --- help ------------------------------------------------------------------------------------------------------------


def test_help_answers_within_half_a_second():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = shell("-m", "feasible", "--help")
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0
        assert all(command in done.stdout for command in ("audit", "demo", "presets", "project", "replay", "report"))
    assert min(seconds) < 0.5


def test_help_imports_no_heavy_module():
    code = (
        "import sys; from feasible.__main__ import main; main(['project', '--help']); main(['replay', '--help']); "
        "sys.exit(bool({'jax', 'numpy', 'pyarrow', 'matplotlib', 'cvxpy', 'tqdm'} & set(sys.modules)))"
    )
    assert shell("-c", code).returncode == 0


def test_no_command_prints_help_and_is_an_error(capsys):
    code, out, err = run(capsys)
    assert code == 2
    assert not out
    assert "Usage: feasible" in err


# --- presets ---------------------------------------------------------------------------------------------------------


def test_presets_lists_limits_and_vehicles(capsys):
    from feasible import presets, vehicles

    code, out, _ = run(capsys, "presets")
    assert code == 0
    assert all(name in out for name in (*presets.names(), *vehicles.names()))
    code, out, _ = run(capsys, "presets", "--json")
    assert json.loads(out) == {"limits": list(presets.names()), "vehicles": list(vehicles.names())}


def test_every_number_of_every_preset_has_a_unit_and_a_source(capsys):
    from feasible import presets, vehicles

    for name in presets.names():
        listed = json.loads(run(capsys, "presets", name, "--json")[1])["limits"]
        assert [entry["name"] for entry in listed] == [limit.name for limit in presets.get(name)]
        assert all(entry["unit"] and entry["source"] for entry in listed)
        text = run(capsys, "presets", name)[1]
        assert all(entry["name"] in text and entry["source"] in text for entry in listed)
    for name in vehicles.names():
        listed = {e["name"]: e for e in json.loads(run(capsys, "presets", name, "--json")[1])["vehicle"]}
        assert listed["wheelbase"]["value"] == pytest.approx(vehicles.get(name).wheelbase)
        assert all(entry["unit"] and entry["source"] for entry in listed.values())
        assert "wheelbase" in run(capsys, "presets", name)[1]


def test_every_number_of_a_vehicle_is_listed():
    import dataclasses

    from feasible import vehicles
    from feasible._cli.text import VEHICLE_UNITS

    numbers = [f.name for f in dataclasses.fields(vehicles.KinematicBicycle) if not f.metadata.get("static")]
    assert list(VEHICLE_UNITS) == numbers


def test_backends_are_those_of_the_library():
    from feasible._cli.options import BACKENDS
    from feasible._project import BACKENDS as SOLVERS

    assert tuple(SOLVERS) == BACKENDS


# --- audit -----------------------------------------------------------------------------------------------------------


def test_audit_prints_the_report(capsys, file):
    code, out, err = run(capsys, "audit", file, "--quiet")
    assert code == 0
    assert "friction_circle" in out
    assert not err


@pytest.mark.parametrize(("fraction", "expected"), [("0.2", 1), ("0", 1), ("0.25", 0), ("1", 0)])
def test_audit_fails_over_a_fraction(capsys, file, fraction, expected):
    code, _, err = run(capsys, "audit", file, "--quiet", "--fail-over", fraction)
    assert code == expected
    if expected:
        assert "25.00% of the trajectories are not in order" in err


def test_audit_json_is_all_that_is_printed(capsys, mixed):
    code, out, err = run(capsys, "audit", mixed, "--json")
    assert code == 3
    document = json.loads(out)
    assert document["report"]["trajectories"] == 3
    assert [row["id"] for row in document["rows"]] == ["a", "short", "d"]
    (problem,) = document["quarantined"]
    assert problem == {
        "file": mixed,
        "row": 17,
        "id": "bad",
        "column": "x",
        "what": "got 'oops', expected a number, or nothing where the sample is missing",
    }
    assert "left out: " in err
    assert "oops" in err


def test_audit_of_batches_is_the_audit_of_the_file(capsys, monkeypatch, file):
    from feasible._cli import work

    whole = json.loads(run(capsys, "audit", file, "--json", "--quiet")[1])
    read = work.read_source
    monkeypatch.setattr(work, "read_source", lambda source, vehicle, rows: read(source, vehicle, 1))
    assert json.loads(run(capsys, "audit", file, "--json", "--quiet")[1]) == whole


def test_audit_options(capsys, file):
    from feasible import presets

    names = ("comfort", "physical")
    distinct = len({limit.name for name in names for limit in presets.get(name)})
    if distinct == sum(len(presets.get(name)) for name in names):
        assert run(capsys, "audit", file, "--limits", "comfort, physical", "--quiet")[0] == 0
    code, out, _ = run(capsys, "audit", file, "--differencing", "savgol", "--tolerance", "0.1", "--quiet")
    assert code == 0
    assert out
    tolerant = run(capsys, "audit", file, "--tolerance", "1e9", "--fail-over", "0", "--quiet")
    assert tolerant[0] == 0


def test_audit_distance(capsys, file):
    code, out, _ = run(capsys, "audit", file, "--distance", "--json", "--quiet")
    assert code == 0
    far = json.loads(out)["distance"]
    assert far["mean_median"] < 0.01 < far["max_largest"]
    code, out, _ = run(capsys, "audit", file, "--distance", "--quiet")
    assert "distance to feasible: mean over a trajectory 0.0" in out


# --- project ---------------------------------------------------------------------------------------------------------


def test_project_writes_ids_order_status_and_certificate(capsys, file, tmp_path, values):
    out_file = tmp_path / "out.parquet"
    code, out, _ = run(capsys, "project", file, "-o", out_file, "--quiet")
    assert code == 0
    assert re.search(r"friction_circle +1 +<= 1", out)
    assert re.search(r"4 samples: \d unchanged, \d projected, \d relaxed, \d fallback, \d rejected; displacement", out)
    table = pq.read_table(out_file)
    assert table["id"].to_pylist() == ["a", "b", "jump", "d"]
    assert set(table["status"].to_pylist()) <= {"unchanged", "projected", "relaxed", "fallback", "rejected"}
    for name in ("displacement_mean", "displacement_max", "violation", "margin_jerk", "dynamics_residual", "relaxed"):
        assert name in table.column_names
    batch = io.read(out_file)
    assert batch.trajectory.columns == ("x", "y", "yaw", "speed")
    assert batch.trajectory.batch_shape == (4,)
    np.testing.assert_allclose(batch.trajectory.x[0], values[0, :, 0], atol=1e-2)
    assert run(capsys, "audit", out_file, "--quiet", "--fail-over", "0", "--tolerance", "0.05")[0] == 0


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".csv", ".npy"])
def test_project_keeps_the_good_rows(capsys, mixed, tmp_path, suffix):
    out_file = tmp_path / f"out{suffix}"
    code, _, err = run(capsys, "project", mixed, "-o", out_file, "--quiet")
    assert code == 3
    assert "line 17 (id 'bad'), column 'x': got 'oops', expected a number" in err
    if suffix == ".npy":
        assert np.load(out_file).shape == (3, T, 4)
        return
    batch = io.read(out_file)
    assert batch.ids.tolist() == ["a", "short", "d"]
    expected = None if suffix == ".npz" else [T, 8, T]
    assert (None if batch.lengths is None else batch.lengths.tolist()) == expected


def test_project_json_and_fail_over(capsys, file, tmp_path):
    out_file = tmp_path / "out.npz"
    code, out, _ = run(capsys, "project", file, "-o", out_file, "--json", "--fail-over", "1")
    assert code == 0
    document = json.loads(out)
    assert document["totals"]["samples"] == 4
    assert document["out"] == str(out_file)
    assert document["before"]
    assert document["after"]
    assert document["quarantined"] == []


def test_project_fail_over_counts_what_is_not_solved(capsys, tmp_path, values):
    values[1] = np.nan  # nothing to project: rejected
    np.savez(tmp_path / "in.npz", pred=values[:2], dt=0.1)
    arguments = ("project", tmp_path / "in.npz", "-o", tmp_path / "out.npz", "--quiet")
    assert run(capsys, *arguments, "--fail-over", "0.5")[0] == 0
    code, out, err = run(capsys, *arguments, "--fail-over", "0.4")
    assert code == 1
    assert "1 rejected" in out
    assert "50.00% of the trajectories are not in order" in err


def test_project_modes_and_initial_state(capsys, tmp_path, values):
    modes = np.stack([values[:2], values[:2] + np.array([0.0, 0.5])], axis=1)
    state = np.array([[0.0, 0.0, 0.0, 10.0], [0.0, 3.0, 0.0, 8.0]])
    np.savez(tmp_path / "in.npz", pred=modes, dt=0.1, ids=[7, 9], now=state)
    for name in ("now", "none"):
        code, _, _ = run(
            capsys, "project", tmp_path / "in.npz", "-o", tmp_path / "out.npz", "--initial-state", name, "--quiet"
        )
        assert code == 0
    written = np.load(tmp_path / "out.npz")
    assert written["ids"].tolist() == [7, 7, 9, 9]
    assert written["mode"].tolist() == [0, 1, 0, 1]


def test_progress_goes_to_the_standard_error(capsys, file):
    code, out, err = run(capsys, "audit", file, "--json")
    assert code == 0
    json.loads(out)
    assert "audit" in err


def test_demo(capsys, monkeypatch, tmp_path, values):
    import importlib.resources

    (tmp_path / "data").mkdir()
    state = np.array([[0, 0, 0, 10], [0, 3, 0, 8], [0, 0, 0, 12], [0, 0, 0, 5]], dtype=float)
    np.savez(tmp_path / "data" / "sample.npz", pred=values, dt=0.1, ids=np.arange(4), initial_state=state)
    files = importlib.resources.files  # of other packages stay theirs
    monkeypatch.setattr(importlib.resources, "files", lambda p: tmp_path if p == "feasible" else files(p))
    code, out, _ = run(capsys, "demo", "--out", tmp_path / "results", "--quiet")
    assert code == 0
    assert re.search(r"limit +unit +bound +over before +over after +worst before +worst after", out)
    assert re.search(r"acceleration +m/s² +-4.05 .. 2.4", out)
    assert "4 samples: " in out
    names = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert names == ["audit.json", "before_after.png", "cleaned.parquet"]
    document = json.loads((tmp_path / "results" / "audit.json").read_text(encoding="utf-8"))
    assert document["totals"]["samples"] == 4
    assert io.read(tmp_path / "results" / "cleaned.parquet").ids.tolist() == [0, 1, 2, 3]


def test_the_bundled_sample_can_be_read():
    batch = io.read(ROOT / "feasible" / "data" / "sample.npz")
    assert len(batch) >= 256
    assert batch.initial_state.shape == (len(batch), 4)
    assert len(set(batch.ids.tolist())) == len(batch)


# --- mistakes: one sentence, exit code 2, nothing written ------------------------------------------------------------


MISTAKES = {
    "no such file": (["audit", "nowhere.npz"], r"nowhere.npz: does not exist, expected a file"),
    "no such preset": (["audit", "IN", "--limits", "confort"], r"presets: expected one of .*nuplan_comfort.*'confort'"),
    "no such vehicle": (["audit", "IN", "--vehicle", "tank"], r"vehicles: expected one of .*nuplan_pacifica.*'tank'"),
    "twice the same": (["audit", "IN", "--limits", "comfort,comfort"], r"limits: expected distinct names"),
    "no such name": (["presets", "confort"], r"presets: got 'confort', expected one of nuplan_comfort"),
    "negative dt": (["audit", "IN", "--dt", "-0.1"], r"dt: expected a positive number of seconds, got -0.1"),
    "another dt": (["audit", "IN", "--dt", "0.2"], r"in.npz: got dt 0.2 s, but array 'dt' says 0.1 s"),
    "not a number": (["audit", "IN", "--dt", "fast"], r"'--dt': 'fast' is not a valid float"),
    "column": (["audit", "IN", "--columns", "x,z"], r"columns: got 'z', expected x, y, yaw or speed"),
    "columns": (["audit", "IN", "--columns", "x,y,yaw"], r"array 'pred' has a last axis of 2, expected 3 for x,y,yaw"),
    "state": (["audit", "IN", "--initial-state", "s0"], r"in.npz: has no column 's0'; it has pred, dt, ids"),
    "center": (["audit", "IN", "--reference-point", "center"], r"'center' needs a yaw column"),
    "fraction": (["audit", "IN", "--fail-over", "2"], r"2.0 is not in the range 0<=x<=1"),
    "command": (["audti", "IN"], r"No such command 'audti'"),
    "option": (["audit", "IN", "--limit", "comfort"], r"No such option.*--limit"),
    "no target": (["project", "IN"], r"Missing option '-o' / '--out'"),
    "target": (["project", "IN", "-o", "DIR/out.xlsx"], r"cannot write .xlsx, expected .parquet, .npz, .npy, .csv"),
    "folder": (["project", "IN", "-o", "DIR/nowhere/out.npz"], r"folder .*nowhere does not exist; make it first"),
    "backend": (
        ["project", "IN", "-o", "DIR/out.npz", "--backend", "magic"],
        r"'magic' is not one of 'riccati', 'osqp', 'cvxpy'",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_gets_one_sentence(capsys, tmp_path, file, case):
    arguments, message = MISTAKES[case]
    before = sorted(tmp_path.iterdir())
    arguments = [a.replace("IN", file).replace("DIR", str(tmp_path)) for a in arguments]
    code, out, err = run(capsys, *arguments, *([] if "presets" in arguments else ["--quiet"]))
    assert code == 2
    assert not out
    assert re.fullmatch(rf"Error: .*{message}.*\n", err), err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("error", "code", "message"), [(RuntimeError("boom"), 2, "boom"), (KeyboardInterrupt, 130, "In")]
)
def test_a_crash_leaves_no_file_and_is_not_exit_code_1(capsys, monkeypatch, tmp_path, file, error, code, message):
    from feasible._cli import work

    def crash(*_, **__):
        raise error

    monkeypatch.setattr(work, "certificate", crash)
    before = sorted(tmp_path.iterdir())
    got, out, err = run(capsys, "project", file, "-o", tmp_path / "out.parquet", "--quiet")
    assert got == code
    assert not out
    assert message in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_cannot_be_written_gets_one_sentence(capsys, tmp_path):
    (tmp_path / "taken").write_text("")
    code, _, err = run(capsys, "demo", "--out", tmp_path / "taken", "--quiet")
    assert code == 2
    assert re.fullmatch(r"Error: .*taken: File exists\n", err)


def test_a_closed_pipe_is_quiet():
    command = [sys.executable, "-m", "feasible", "presets"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as done:
        done.stdout.close()
        _, err = done.communicate()
    assert done.returncode == 2
    assert not err
