"""The latency benchmark: its problems are what they are said to be, its judge judges, its table says what was found."""

import numpy as np
import pytest

import feasible
from benchmarks.peers import cycles, latency_report


@pytest.fixture(scope="module")
def steady(data_folder):
    """Six drives without jitter."""
    return cycles.build(6, 6, 0.0, 0, str(data_folder)).plans


def test_consecutive_plans_agree_but_for_the_jitter(steady, data_folder):
    now, after = steady[:, :-1, 0, 1:], steady[:, 1:, 0, :-1]
    np.testing.assert_allclose(now, after, atol=1e-9)
    noisy = cycles.build(6, 1, 1.0, 0, str(data_folder)).plans
    tenth = cycles.build(6, 1, 0.1, 0, str(data_folder)).plans
    np.testing.assert_allclose((noisy - steady[:, :, :1]) * 0.1, tenth - steady[:, :, :1], atol=1e-9)
    assert np.abs(noisy - steady[:, :, :1]).max() > 0.1


def test_the_first_mode_is_the_same_for_any_number_of_modes(steady, data_folder):
    np.testing.assert_array_equal(cycles.build(6, 1, 0.0, 0, str(data_folder)).plans[:, :, 0], steady[:, :, 0])
    along = np.linalg.norm(np.diff(steady, axis=-2), axis=-1).sum(-1)
    assert (along[:, :, 5] < along[:, :, 0]).all()  # the slowest mode


def test_the_judge_passes_a_drive_and_fails_what_no_car_does():
    state, controls = np.zeros((2, 6)), np.zeros((2, cycles.STEPS, 2))
    state[:, 3] = 10.0
    controls[1, 10, 0] = 200.0  # m/s³
    along = 10.0 * 0.1 * np.arange(1, cycles.STEPS + 1)
    plans = np.stack([along, 0 * along], -1)[None].repeat(2, 0)
    passed, objective = cycles.judge(plans, state, controls, "physical")
    assert passed.tolist() == [True, False]
    assert objective[0] == pytest.approx(0.0, abs=1e-9)
    assert objective[1] > 1.0
    controls[1, 10, 0] = np.nan
    assert cycles.judge(plans, state, controls, "physical")[0].tolist() == [True, False]


def test_a_peer_answers_as_the_library_does(data_folder):
    """IPOPT on the first cycles of a drive: the same objective, from a warm start as from a cold one."""
    pytest.importorskip("casadi")
    from benchmarks.peers import callers

    plans = cycles.build(1, 1, 0.3, 0, str(data_folder)).plans[0]
    vehicle, limits = feasible.vehicles.nuplan_pacifica(), feasible.presets.physical()
    state = feasible.project(feasible.Trajectory.from_array(plans[0, 0], dt=0.1), vehicle, limits).states[0]
    peer, found = callers.make("CasADi + IPOPT", "physical"), []
    for c in range(2):
        trajectory = feasible.Trajectory.from_array(plans[c, 0], dt=0.1)
        ours = feasible.project(trajectory, vehicle, limits, initial_state=state)
        theirs = peer(plans[c], state, first=c == 0).controls
        passed, objective = cycles.judge(plans[c], state[None], theirs, "physical")
        assert passed.all()
        found.append(float(objective[0]) / float(ours.objective))
        state = ours.states[1]
    assert found == pytest.approx([1.0, 1.0], rel=1e-2)


def entry(**changes):
    times = {"median": 1.0, "p99": 12.3, "p999": 123.0, "largest": 1234.0}
    made = {"modes": 1, "warm": True, "deadline": None, "calls": 300, "iterations": 9.5, "passed": 0.9999, "near": 0.5}
    curve = np.linspace(1, 20, 3).tolist()
    return made | {"latency": times, "inside": times, "curve": curve, "inside_curve": curve} | changes


def test_the_table_goes_between_its_markers_and_the_plot_is_drawn(tmp_path):
    methods = {"Projector": entry(deadline=0.005, late=1e-4, calls=10_000), "SQP on X": entry(peer="SQP on X")}
    results = {
        "machine": {"processor": "P", "cores": 2, "load_before": [0.1], "load_after": [0.2]},
        "commit": "abc",
        "plan": {"steps": 60, "deadline": 0.005},
        "slower": [1.0, 0.5, 0.01],
        "sets": {"physical": {"methods": methods, "left_out": {"Y": "not there"}}},
    }
    text = latency_report.table(results)
    assert "| Projector | 10,000 | 9.5 | 1.00 | 12.3 | 123 | 1,234 |  |  | < 0.1 % | > 99.9 % | 50.0 % |" in text
    assert "| SQP on X | 300 | 9.5 | 1.00 | 12.3 | – | 1,234 | 1.00 | 12.3 |  | > 99.9 % | 50.0 % |" in text
    assert "Left out: Y (not there)" in text
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- latency: begin -->\nold\n<!-- latency: end -->\nb\n")
    assert latency_report.insert(readme, text)
    assert readme.read_text() == f"a\n<!-- latency: begin -->\n{text}\n<!-- latency: end -->\nb\n"
    latency_report.plot(results, tmp_path / "latency.png")
    assert (tmp_path / "latency.png").stat().st_size > 5000
