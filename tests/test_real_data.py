"""On real predictions and logs; a few rows of each file here, all of them in benchmarks/real_data.py."""

import dataclasses

import numpy as np
import pytest
from test_reference import FILES

import feasible
from benchmarks.real_data import LOGS, PRESETS, judge, moving, spread, summarise
from feasible import Status, Trajectory, audit, presets, project

ROWS = 8
PERMITTED_OVER = {19}  # KS3 ZAM_Urban-7_1: brakes with 12.1 m/s² at two steps, where the friction circle ends at 11.5
MISSTAMPED = {18, 19}  # stamped at 0.1 s, but their positions and speeds agree at 0.25 s only


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", [*FILES, *LOGS])
def test_projection_is_feasible_by_every_check(real_sets, name, preset):
    if name not in real_sets:
        pytest.skip(f"{name} has no window of 60 steps")
    values, dt = real_sets[name]
    values = values[spread(len(values), ROWS)]
    rows = judge(values, dt, preset, "riccati")
    result = summarise(rows)
    assert result["finite"] == 1.0
    assert (rows["status"][moving(values)] <= Status.PROJECTED).all()
    assert result["motion_worst"] <= 1e-3
    assert result["samples_worst"] <= 5e-2
    assert result["continuous_worst"] <= 1e-2
    assert result["residual_worst"] <= 1e-5


@pytest.fixture(scope="module")
def solutions(data_folder):
    """CommonRoad's solutions: (index, vehicle, trajectory with yaw and speed)."""
    vehicles = {"KS2": feasible.vehicles.commonroad_2(), "KS3": feasible.vehicles.commonroad_3()}
    with np.load(data_folder / "commonroad_solutions.npz", allow_pickle=False) as file:
        columns = np.stack([file[k] for k in ("x", "y", "heading", "speed")], axis=-1)
        parts = [columns[a:b] for a, b in zip(file["start"][:-1], file["start"][1:], strict=True)]
        return [
            (i, vehicles[name[:3]], Trajectory.from_array(part, dt=0.1, columns=("x", "y", "yaw", "speed")))
            for i, (name, part) in enumerate(zip(file["benchmark"].tolist(), parts, strict=True))
            if len(part) >= 4
        ]


def test_commonroad_solutions_audit_as_feasible(solutions):
    assert len(solutions) == 416
    over = {i: audit(t, vehicle, presets.commonroad()) for i, vehicle, t in solutions}
    over = {i: report for i, report in over.items() if not report.feasible}
    assert set(over) == PERMITTED_OVER
    assert over[19].value["acceleration"].min() == pytest.approx(-12.1, abs=0.1)


def test_commonroad_solutions_project_onto_themselves(solutions):
    groups: dict = {}
    for i, vehicle, t in solutions:
        if i not in MISSTAMPED:
            groups.setdefault((vehicle.name, t.horizon), (vehicle, []))[1].append(t.to_array())
    assert sum(len(rows) for _, rows in groups.values()) == 414
    for vehicle, rows in groups.values():
        batch = Trajectory.from_array(np.stack(rows), dt=0.1, columns=("x", "y", "yaw", "speed"))
        result = project(batch, vehicle, presets.commonroad())
        assert result.displacement.mean.max() <= 5e-3


def test_two_commonroad_solutions_are_exact_at_another_time_step(solutions):
    for i, vehicle, t in solutions:
        if i in MISSTAMPED:
            slower = dataclasses.replace(t, dt=0.25)
            assert audit(slower, vehicle, presets.commonroad()).feasible
            assert project(slower, vehicle, presets.commonroad()).displacement.mean <= 5e-3


def test_utm_coordinates_audit_and_project_like_recentred_ones(real_sets):
    values, dt = real_sets["apollo_predictions"]
    assert np.abs(values).max() > 4e6
    near = values - values[:, :1]
    vehicle, limits = feasible.vehicles.lincoln_mkz(), presets.nuplan_comfort()
    far, close = (Trajectory.from_array(v, dt=dt) for v in (values, near))
    a, b = audit(far, vehicle, limits), audit(close, vehicle, limits)
    for name in a.worst:
        np.testing.assert_allclose(a.violation[name], b.violation[name], atol=1e-6, rtol=1e-6)
    a, b = project(far, vehicle, limits), project(close, vehicle, limits)
    np.testing.assert_array_equal(a.status, b.status)
    np.testing.assert_allclose(a.states[..., :2] - values[:, :1], b.states[..., :2], atol=1e-6)
