"""A replay drives what it projected: states, times, jumps and totals; the command prints and writes the same."""

import json
import re

import numpy as np
import pytest
from drives import random_drive, turn
from test_cli import run

import feasible
from feasible import Projector, Status, io, presets, replay

T, N = 20, 12


@pytest.fixture(scope="module")
def projector():
    return Projector(feasible.vehicles.nuplan_pacifica(), presets.physical(), horizon=T, dt=0.1, modes=2).warmup()


@pytest.fixture(scope="module")
def log():
    """First state, and plans `(N, T, 2)`: a drive seen anew every 0.1 s with 5 cm of noise."""
    rng = np.random.default_rng(3)
    state, _, drive = random_drive(rng, steps=N + T)
    path = drive.to_array(("x", "y"))
    return state, np.stack([path[n : n + T] for n in range(N)]) + 0.05 * rng.normal(size=(N, T, 2))


@pytest.fixture(scope="module")
def replayed(projector, log):
    return replay(log[1], projector, initial_state=log[0])


def at_most(deadline):
    """The same projector with a deadline: what it was warmed up for is shared."""
    return Projector(
        feasible.vehicles.nuplan_pacifica(), presets.physical(), horizon=T, dt=0.1, deadline=deadline, modes=2
    )


# --- what is driven --------------------------------------------------------------------------------------------------


def test_each_call_starts_where_the_answer_before_leads(replayed, log):
    assert replayed.executed.shape == (N + 1, 6)
    np.testing.assert_array_equal(replayed.executed[0], log[0])
    for n, plan in enumerate(replayed.plans):
        np.testing.assert_array_equal(plan.states[0], replayed.executed[n])
        np.testing.assert_array_equal(plan.states[1], replayed.executed[n + 1])


def test_the_vehicle_that_drives_is_on_one_drive_within_the_limits(replayed, projector):
    """The executed states are one motion: each follows from the one before by the control of its plan."""
    controls = np.stack([plan.controls[0] for plan in replayed.plans])
    check = feasible.certify(replayed.executed, controls, 0.1, feasible.vehicles.nuplan_pacifica(), presets.physical())
    assert check.violation <= 1e-2
    assert check.dynamics_residual <= 1e-6


def test_jumps_are_those_of_neighbouring_plans_at_equal_times(replayed, log):
    for n in range(N - 1):
        a, b = replayed.plans[n].states[2:, :2], replayed.plans[n + 1].states[1:-1, :2]
        far = np.linalg.norm(a - b, axis=-1)
        assert replayed.jump.mean[n] == pytest.approx(far.mean())
        assert replayed.jump.max[n] == pytest.approx(far.max())
        far = np.linalg.norm(log[1][n, 1:] - log[1][n + 1, :-1], axis=-1)
        assert replayed.given_jump.mean[n] == pytest.approx(far.mean())
    assert np.median(replayed.jump.mean) < np.median(replayed.given_jump.mean)


@pytest.mark.parametrize("period", [0.05, 0.1, 0.25])
def test_plans_that_agree_do_not_jump_at_any_period(projector, period):
    """A steady turn, seen again each period: the answers are one drive, and so is what is executed."""
    speed, curvature = 8.0, 0.02
    fine = turn(speed, curvature, steps=400, dt=0.05).to_array()
    start = np.array([0.0, 0.0, 0.0, speed, 0.0, curvature])
    skip = round(period / 0.05)
    plans = np.stack([fine[n * skip + 2 : n * skip + 2 + 2 * T : 2] for n in range(6)])
    found = replay(plans, projector, period=period, initial_state=start)
    assert (found.status <= Status.PROJECTED).all()
    assert found.jump.max.max() < 5e-3
    assert found.given_jump.max.max() < 5e-3  # linear in between
    np.testing.assert_allclose(found.executed[:, :2], fine[: 6 * skip + 1 : skip, :2], atol=5e-3)


def test_a_warm_start_is_used_and_changes_no_answer(projector):
    path, start = turn(8.0, 0.02, steps=N + T, dt=0.1).to_array(("x", "y")), np.array([0.0, 0.0, 0.0, 8.0, 0.0, 0.02])
    plans = np.stack([path[n : n + T] for n in range(N)]) + 1e-3 * np.random.default_rng(3).normal(size=(N, T, 2))
    warm, cold = (replay(plans, projector, initial_state=start, warm=w) for w in (True, False))
    assert warm.iterations[1:].mean() < 0.8 * cold.iterations[1:].mean()
    np.testing.assert_allclose(warm.executed[:, :2], cold.executed[:, :2], atol=2e-3)


def test_without_feedback_every_call_has_its_own_state(projector, log):
    states = np.full((N, 4), np.nan)
    states[3] = [*log[1][3, 0], 0.3, 7.0]
    found = replay(log[1], projector, initial_state=states, feedback=False)
    np.testing.assert_allclose(found.plans[3].states[0, :4], states[3])
    assert np.abs(found.plans[4].states[0, :2] - found.plans[3].states[1, :2]).max() > 1e-3


def test_modes_start_together_and_one_is_driven(projector, log):
    modes = np.stack([log[1], log[1] + [0.0, 0.4]], axis=1)
    found = replay(modes, projector, initial_state=log[0], mode=1)
    assert found.status.shape == (N, 2)
    assert found.jump.mean.shape == (N - 1, 2)
    for n in range(1, N):
        first = found.plans[n].states[:, 0]
        np.testing.assert_array_equal(first[0], first[1])
        np.testing.assert_array_equal(first[0], found.plans[n - 1].states[1, 1])


def test_a_trajectory_and_an_array_are_the_same_log(replayed, projector, log):
    found = replay(feasible.Trajectory.from_array(log[1], dt=0.1), projector, initial_state=log[0])
    np.testing.assert_array_equal(found.executed, replayed.executed)


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_lost_plan_is_braked_through_and_counted(projector, log):
    plans = log[1].copy()
    plans[4] = np.nan
    found = replay(plans, projector, initial_state=log[0])
    assert found.status.tolist().count(Status.REJECTED) == 1
    assert found.status[4] == Status.REJECTED
    assert np.isfinite(found.executed).all()
    assert found.unsolved == pytest.approx(1 / N)
    assert np.flatnonzero(np.isnan(found.given_jump.mean)).tolist() == [3, 4]
    assert np.isfinite(found.jump.mean).all()
    assert found.jump.max[3] > 10 * np.median(found.jump.max)
    document = json.loads(found.to_json())
    assert document["status"]["rejected"] == pytest.approx(1 / N)
    assert len(document["cycles"]) == N
    assert document["cycles"][4]["certificates"][0]["status"] == "REJECTED"


def test_at_a_deadline_of_nothing_all_calls_are_late_and_brake(log):
    found = replay(log[1], at_most(0.0), initial_state=log[0])
    assert found.late == N
    assert (found.status == Status.FALLBACK).all()
    assert found.unsolved == 1.0
    speed = found.executed[:, 3]
    assert (np.diff(speed) < 0).all()


def test_the_table_says_what_the_json_says(replayed):
    facts = json.loads(replayed.to_json())
    text = str(replayed)
    row = re.search(r"^latency \[ms\] +(\S+) +(\S+) +(\S+) +(\S+)$", text, re.MULTILINE)
    assert [float(v) for v in row.groups()] == pytest.approx([1e3 * v for v in facts["latency"].values()], rel=5e-3)
    assert f"{N} plans, one each 0.1 s; no deadline; 100.0% converged" in text
    assert f"{facts['status']['projected']:.1%} projected" in text
    assert facts["latency"]["largest"] == replayed.latency.max()


def test_a_single_plan_has_no_jump(projector, log):
    found = replay(log[1][:1], projector, initial_state=log[0])
    assert found.jump.mean.shape == (0,)
    assert json.loads(found.to_json())["jump_mean"]["median"] is None
    assert re.search(r"jump, mean \[m\] +– ", str(found))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"period": 0.0}, r"period: expected seconds up to the plan's 2, got 0"),
        ({"period": 2.1}, r"period: expected seconds up to"),
        ({"period": np.nan}, r"period: expected seconds up to"),
        ({"plans": []}, r"plans: expected at least one"),
        ({"mode": 2, "plans": np.zeros((3, 2, T, 2))}, r"mode: expected one of the 2 modes from 0, got 2"),
        ({"plans": np.zeros((3, T + 1, 2))}, r"trajectory: expected shape"),
    ],
)
def test_mistakes(projector, log, options, message):
    arguments = {"plans": log[1]} | options
    with pytest.raises(ValueError, match=message):
        replay(arguments.pop("plans"), projector, **arguments)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path, log):
    state = np.full((N, 6), np.nan)
    state[0] = log[0]
    np.savez(tmp_path / "log.npz", pred=log[1], dt=0.1, initial_state=state)
    return tmp_path / "log.npz"


def test_the_command_prints_the_table_and_writes_the_plans(capsys, file, tmp_path, replayed):
    out_file = tmp_path / "out.parquet"
    code, out, err = run(capsys, "replay", file, "-o", out_file, "--quiet", "--fail-over", "0")
    assert (code, err) == (0, "")
    assert re.search(rf"{N} plans, one each 0.1 s; no deadline; 100.0% converged", out)
    assert out.endswith(f"wrote {out_file}\n")
    batch = io.read(out_file)
    expected = np.stack([plan.states[1:, :2] for plan in replayed.plans])
    np.testing.assert_allclose(batch.trajectory.to_array(("x", "y")), expected, atol=1e-9)


def test_the_command_with_modes_as_json(capsys, tmp_path, log):
    modes = log[1][:3, None] + [[[0.0, 0.0]], [[0.0, 0.4]]]
    modes[1] = np.nan
    np.savez(tmp_path / "modes.npz", pred=modes, dt=0.1)
    options = ("--deadline", "5", "--period", "0.2", "--mode", "1", "--consistency", "0.5", "--cold", "--no-feedback")
    code, out, err = run(
        capsys,
        "replay",
        tmp_path / "modes.npz",
        "--json",
        "--quiet",
        "--fail-over",
        "0.3",
        "-o",
        tmp_path / "o.npz",
        *options,
    )
    assert code == 1
    assert "33.33% of the trajectories are not in order" in err
    facts = json.loads(out)
    assert (facts["plans"], facts["modes"], facts["mode"], facts["period"]) == (3, 2, 1, 0.2)
    assert (facts["warm"], facts["feedback"], facts["consistency"], facts["deadline"]) == (False, False, 0.5, 5.0)
    assert facts["status"]["rejected"] == pytest.approx(1 / 3)
    written = np.load(tmp_path / "o.npz")
    assert written["mode"].tolist() == [0, 1] * 3
    assert written["status"].tolist()[2:4] == ["rejected"] * 2


MISTAKES = {
    "no file": (["nowhere.npz"], r"nowhere.npz: does not exist, expected a file"),
    "period": (["LOG", "--period", "9"], r"--period: expected seconds up to the plan's 2, got 9"),
    "no period": (["LOG", "--period", "0"], r"'--period'.*0.0 is not in the range x>0"),
    "mode": (["LOG", "--mode", "1"], r"--mode: got 1, expected less than 1, the number of modes"),
    "target": (["LOG", "-o", "DIR/out.xlsx"], r"cannot write .xlsx, expected .parquet"),
    "limits": (["LOG", "--limits", "confort"], r"presets: expected one of .*'confort'"),
    "left out": (["DIR/half.npz"], r"row 1, column 'initial_state': .*; a replay needs every plan"),
    "uneven": (["DIR/uneven.npz"], r"uneven.npz: got 3 trajectories of 2 modes, expected the same modes of every plan"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_gets_one_sentence_before_anything_is_compiled(capsys, monkeypatch, tmp_path, file, log, case):
    monkeypatch.setattr("feasible._projector.Projector", None)
    state = np.zeros((3, 4))
    state[1, 0] = np.nan
    np.savez(tmp_path / "half.npz", pred=log[1][:3], dt=0.1, initial_state=state)
    np.savez(tmp_path / "uneven.npz", pred=log[1][:3], dt=0.1, ids=[0, 0, 1], mode=[0, 1, 0])
    arguments, message = MISTAKES[case]
    arguments = [a.replace("LOG", str(file)).replace("DIR", str(tmp_path)) for a in arguments]
    code, out, err = run(capsys, "replay", *arguments, "--quiet")
    assert code == 2
    assert not out
    assert re.fullmatch(rf"Error: .*{message}.*\n", err), err


def test_modes_that_a_file_names_are_found(tmp_path, log):
    from feasible._cli.replaying import read

    np.savez(tmp_path / "named.npz", pred=log[1][:6], dt=0.1, ids=[7, 7, 8, 8, 9, 9], mode=[0, 1] * 3)
    source = {"file": str(tmp_path / "named.npz"), "dt": None, "columns": None, "initial_state": None}
    found = read(source | {"reference_point": "rear_axle"}, None)
    assert found.modes == 2
    np.testing.assert_allclose(found.trajectory.x, log[1][:6, :, 0].reshape(3, 2, T))
