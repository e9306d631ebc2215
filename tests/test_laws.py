"""Mathematical laws of the model, the differences, the audit and the projection."""

import dataclasses

import numpy as np
import pytest
from drives import COLUMNS, moved, random_drive, turn
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import feasible
from feasible import KinematicBicycle, Motion, Trajectory, audit, presets, project

LIMITS = presets.nuplan_comfort()
VEHICLE = feasible.vehicles.nuplan_pacifica()
seeds = st.integers(0, 10_000)
signs = st.sampled_from([1.0, -1.0])


@given(seeds, signs, st.sampled_from([0.05, 0.1, 0.2]))
def test_inverse_of_rollout_is_the_identity(seed, direction, dt):
    rng = np.random.default_rng(seed)
    state, controls, trajectory = random_drive(
        rng, dt=dt, speed=tuple(sorted((direction * 8.0, direction * 14.0))), jerk=4, curvature_rate=0.1
    )
    states, found = VEHICLE.inverse(trajectory, initial_state=state)
    np.testing.assert_allclose(found, controls, atol=1e-7)
    np.testing.assert_allclose(states[1:, :2], trajectory.to_array(("x", "y")), atol=1e-7)


@given(seeds)
def test_inverse_without_an_initial_state_passes_through_the_samples(seed):
    _, _, trajectory = random_drive(np.random.default_rng(seed))
    states, controls = VEHICLE.inverse(trajectory)
    np.testing.assert_allclose(states[1:, 2:4], trajectory.to_array(("yaw", "speed")), atol=1e-8)
    np.testing.assert_allclose(states[1:, :2], trajectory.to_array(("x", "y")), atol=2e-3)
    assert np.abs(controls).max() < 5


@given(st.floats(0.5, 40), st.floats(0.002, 0.25), signs, st.sampled_from([("x", "y"), ("x", "y", "yaw"), COLUMNS]))
def test_a_circle_gives_its_curvature_and_lateral_acceleration(speed, curvature, side, columns):
    speed = max(0.51, min(speed, 12.0 / curvature))  # at most 1.2 rad a step: more than 90° is read as a gear change
    motion = Motion.from_trajectory(turn(speed, side * curvature, columns=columns))
    np.testing.assert_allclose(motion.curvature[1:-1], side * curvature, rtol=1e-3)
    np.testing.assert_allclose(motion.lateral_acceleration[1:-1], side * speed**2 * curvature, rtol=2e-3)
    np.testing.assert_allclose(motion.acceleration, 0, atol=1e-6 * speed)


@pytest.mark.parametrize(
    ("speed", "radius", "expected"), [(20, 50, 8.0), (30, 40, 22.5), (30, 100 / 3, 27.0), (15, 5, 45.0)]
)
@pytest.mark.parametrize("columns", [("x", "y"), COLUMNS])
def test_hard_turns_are_reported_as_what_they_are(speed, radius, expected, columns):
    report = audit(turn(speed, 1 / radius, columns=columns), VEHICLE, presets.nuplan_comfort())
    row = next(r for r in report.summary.rows if r.name == "lateral_acceleration")
    assert row.worst == pytest.approx(expected, rel=0.01)
    assert not report.feasible


@settings(max_examples=25)
@given(seeds, st.floats(-3.1, 3.1), st.booleans(), st.sampled_from([10.0, 1e4, 4e6]))
def test_audit_does_not_depend_on_the_frame(seed, angle, mirror, far):
    rng = np.random.default_rng(seed)
    values = random_drive(rng, jerk=6, curvature_rate=0.08)[2].to_array()
    values[:, :2] += rng.normal(0, 0.02, (len(values), 2))
    there = moved(values, (far, -0.7 * far), angle, mirror)
    for columns in (("x", "y"), COLUMNS):
        here, other = (Trajectory.from_array(v[:, : len(columns)], dt=0.1, columns=columns) for v in (values, there))
        a, b = audit(here, VEHICLE, LIMITS), audit(other, VEHICLE, LIMITS)
        for name in a.worst:
            np.testing.assert_allclose(a.violation[name], b.violation[name], rtol=1e-4, atol=2e-5 * max(1.0, far / 1e4))


@settings(max_examples=8)
@given(seeds, st.floats(-3.1, 3.1), st.booleans())
def test_projection_does_not_depend_on_the_frame(seed, angle, mirror):
    rng = np.random.default_rng(seed)
    values = random_drive(rng)[2].to_array()
    values[:, :2] += rng.normal(0, 0.05, (len(values), 2))
    there = moved(values, (5e5, 4e6), angle, mirror)
    a, b = (project(Trajectory.from_array(v[:, :2], dt=0.1), VEHICLE, LIMITS) for v in (values, there))
    back = moved(a.trajectory.to_array(), (5e5, 4e6), angle, mirror)
    np.testing.assert_allclose(b.trajectory.to_array(("x", "y")), back[:, :2], atol=1e-3)
    assert a.status == b.status


@given(seeds)
def test_reversing_time_mirrors_what_does_not_depend_on_direction(seed):
    rng = np.random.default_rng(seed)
    values = random_drive(rng)[2].to_array(("x", "y")) + rng.normal(0, 0.01, (40, 2))
    ahead, back = (Motion.from_trajectory(Trajectory.from_array(v, dt=0.1)) for v in (values, values[::-1]))
    for name, sign in (("speed", 1), ("acceleration", -1), ("jerk", 1), ("curvature", -1)):
        np.testing.assert_allclose(getattr(back, name)[::-1], sign * getattr(ahead, name), atol=1e-6, rtol=1e-6)


@settings(max_examples=10)
@given(seeds)
def test_a_feasible_input_comes_back(seed):
    state, controls, trajectory = random_drive(np.random.default_rng(seed))
    assume(feasible.certify(VEHICLE.rollout(state, controls, 0.1), controls, 0.1, VEHICLE, LIMITS).violation == 0)
    for columns in (("x", "y"), COLUMNS):
        given_ = Trajectory.from_array(trajectory.to_array(columns), dt=0.1, columns=columns)
        result = project(given_, VEHICLE, LIMITS)
        assert result.status == feasible.Status.UNCHANGED
        assert result.displacement.max <= 1e-3


@settings(max_examples=8)
@given(seeds, st.sampled_from(["physical", "nuplan_comfort"]))
def test_projection_is_idempotent(seed, preset):
    rng, limits = np.random.default_rng(seed), presets.get(preset)
    values = random_drive(rng)[2].to_array(("x", "y")) + rng.normal(0, 0.1, (40, 2))
    once = project(Trajectory.from_array(values, dt=0.1), VEHICLE, limits)
    twice = project(once.trajectory, VEHICLE, limits)
    assert once.displacement.max > 0.01
    assert twice.displacement.max <= 1e-3
    assert twice.status <= feasible.Status.PROJECTED


@given(seeds, st.floats(0.2, 1.0))
def test_violation_grows_as_the_bound_shrinks(seed, shrink):
    rng = np.random.default_rng(seed)
    values = random_drive(rng)[2].to_array(("x", "y")) + rng.normal(0, 0.02, (40, 2))
    trajectory = Trajectory.from_array(values, dt=0.1)
    tight = tuple(
        dataclasses.replace(m, **{k: getattr(m, k) * shrink for k in ("lower", "upper") if getattr(m, k) is not None})
        for m in LIMITS
    )
    loose, strict = audit(trajectory, VEHICLE, LIMITS), audit(trajectory, VEHICLE, tight)
    for name in loose.violation:
        assert (strict.violation[name] >= loose.violation[name] - 1e-12).all()
    assert strict.feasible <= loose.feasible


@given(seeds, st.permutations(range(3)))
def test_merging_reports_does_not_depend_on_order_or_grouping(seed, order):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.05, (6, 20, 2)) + np.linspace(0, 20, 20)[:, None] * [1.0, 0.2]
    values[1, 3] = np.nan
    parts = [audit(Trajectory.from_array(v, dt=0.1), VEHICLE, LIMITS) for v in (values[:1], values[1:3], values[3:])]
    whole = audit(Trajectory.from_array(values, dt=0.1), VEHICLE, LIMITS).summary
    a, b, c = (parts[i] for i in order)
    assert a.merge(b).merge(c).summary == a.merge(b.merge(c)).summary == whole
    assert a.summary + b.summary + c.summary == whole


def test_merge_keeps_rows_in_order(rng):
    values = rng.normal(0, 0.05, (4, 20, 2)) + np.linspace(0, 20, 20)[:, None] * [1.0, 0.2]
    whole = audit(Trajectory.from_array(values, dt=0.1), VEHICLE, LIMITS)
    halves = [audit(Trajectory.from_array(v, dt=0.1), VEHICLE, LIMITS) for v in (values[:2], values[2:])]
    merged = halves[0].merge(halves[1])
    np.testing.assert_array_equal(merged.feasible, whole.feasible)
    for name in whole.violation:
        np.testing.assert_array_equal(merged.violation[name], whole.violation[name])
    assert merged.to_json() == whole.to_json()


def test_a_batch_is_a_loop_over_its_rows_and_a_bad_row_changes_no_other(rng):
    values = np.stack([random_drive(np.random.default_rng(i))[2].to_array(("x", "y")) for i in range(3)])
    values += rng.normal(0, 0.05, values.shape)
    broken = np.concatenate([values[:1], np.full((1, 40, 2), np.nan), values[1:]])
    batch = project(Trajectory.from_array(broken, dt=0.1), VEHICLE, LIMITS)
    assert batch.status[1] == feasible.Status.REJECTED
    assert np.isfinite(batch.trajectory.to_array()).all()
    for i, row in zip((0, 2, 3), values, strict=True):
        alone = project(Trajectory.from_array(row, dt=0.1), VEHICLE, LIMITS)
        np.testing.assert_allclose(batch.trajectory[i].to_array(), alone.trajectory.to_array(), atol=1e-9)
        one = audit(Trajectory.from_array(row, dt=0.1), VEHICLE, LIMITS)
        report = audit(Trajectory.from_array(broken, dt=0.1), VEHICLE, LIMITS)
        for name in one.violation:
            np.testing.assert_array_equal(report.violation[name][i], one.violation[name])


def test_batch_axes_are_kept(rng):
    values = rng.normal(0, 0.02, (2, 3, 10, 2)) + np.linspace(0, 10, 10)[:, None] * [1.0, 0.0]
    result = project(Trajectory.from_array(values, dt=0.1), VEHICLE, LIMITS)
    assert result.status.shape == result.displacement.mean.shape == (2, 3)
    assert result.trajectory.x.shape == result.motion.jerk.shape == (2, 3, 10)
    assert result.states.shape == (2, 3, 11, 6)
    assert result.multipliers["jerk"].shape == (2, 3, 10)


@given(seeds)
def test_step_composes_and_solves_the_differential_equation(seed):
    rng = np.random.default_rng(seed)
    vehicle = KinematicBicycle()
    state = rng.normal(size=6) * [10, 10, 1, 8, 2, 0.05]
    control = rng.normal(size=2) * [5, 0.1]
    whole = vehicle.step(state, control, 0.1)
    halves = vehicle.step(vehicle.step(state, control, 0.05), control, 0.05)
    np.testing.assert_allclose(whole, halves, atol=1e-7)
    rate = (vehicle.step(state, control, 1e-5) - vehicle.step(state, control, -1e-5)) / 2e-5
    np.testing.assert_allclose(rate, vehicle.derivative(state, control), atol=1e-6)
