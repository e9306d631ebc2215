"""The post-processor at inference: every rung is forced, and a certificate never claims what a check denies."""

import copy
import json
import threading
from importlib import resources
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
from drives import moved, random_drive

import feasible
from feasible import Status, Trajectory
from feasible._brake import brake
from feasible._projector import _descent
from feasible._projector._specification import digest
from feasible._stop import Bounds
from feasible.presets import nuplan_comfort

VEHICLE, LIMITS = feasible.vehicles.nuplan_pacifica(), nuplan_comfort()
T, DT = 40, 0.1
TIMES = DT * np.arange(1, T + 1)
LINE = np.stack([8.0 * TIMES, 0.0 * TIMES], axis=-1)
NOW = np.array([0.0, 0.0, 0.0, 8.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def projector():
    return feasible.Projector(VEHICLE, LIMITS, horizon=T, dt=DT, modes=4).warmup()


def with_(projector, **changes):
    """The same programs under another deadline or consistency."""
    other = copy.copy(projector)
    for name, value in changes.items():
        setattr(other, name, value)
    return other


class Few:
    """A clock that leaves time for so many iterations of each rung."""

    def __init__(self, most):
        self.most = most

    def iterations(self, rung, most):
        return min(self.most, int(most))


def rough(rng, rows=None, noise=0.1):
    values = LINE + np.stack([0 * TIMES, 2.0 * np.sin(0.6 * TIMES)], axis=-1)
    return values + rng.normal(0, noise, (T, 2) if rows is None else (rows, T, 2))


def check(plan, shape=()):
    """What holds of every plan."""
    assert plan.states.shape == (*shape, T + 1, 6)
    assert plan.controls.shape == (*shape, T, 2)
    assert plan.status.shape == shape
    assert np.isfinite(plan.states).all()
    assert np.isfinite(plan.controls).all()
    found = feasible.certify(plan.states, plan.controls, DT, VEHICLE, LIMITS)
    assert (found.violation[plan.feasible] <= 1e-2).all()
    np.testing.assert_allclose(plan.violation, found.violation, rtol=1e-2, atol=1e-3)
    assert (found.dynamics_residual < 1e-5).all()
    assert plan.feasible[plan.status <= Status.PROJECTED].all()
    schema = feasible.Projector.certificate_schema()
    for certificate in json.loads(plan.to_json()):
        jsonschema.validate(certificate, schema, cls=jsonschema.Draft202012Validator)
    return plan


# The rungs


def test_feasible_input_is_unchanged(projector, rng):
    plan = check(projector(random_drive(rng, steps=T)[2].to_array(("x", "y"))))
    assert plan.status == Status.UNCHANGED
    assert plan.displacement.max <= 1e-3


def test_noise_is_projected(projector, rng):
    plan = check(projector(rough(rng)))
    assert plan.status == Status.PROJECTED
    assert plan.certificates[0]["exceeded"] == {}


def test_a_state_outside_the_limits_is_relaxed_and_named(projector):
    state = np.array([0.0, 0.0, 0.0, 8.0, -6.0, 0.0])  # m/s², where nuPlan's comfort ends at -4.05
    plan = check(projector(LINE, initial_state=state))
    assert plan.status == Status.RELAXED
    assert plan.converged
    exceeded = plan.certificates[0]["exceeded"]
    assert exceeded["acceleration"] == pytest.approx(6.0 / 4.05 - 1, abs=1e-3)
    np.testing.assert_allclose(plan.states[0], state, atol=1e-9)


@pytest.mark.parametrize("consistency", [0.0, 0.01])
def test_an_excess_between_the_points_is_taken_back(projector, monkeypatch, consistency):
    values = np.stack([0.1 * TIMES, 0.0 * TIMES], axis=-1) + np.random.default_rng(143).normal(0, 0.3, (T, 2))
    projector = with_(projector, consistency=consistency)
    with monkeypatch.context() as without:
        without.setattr(_descent, "NEAR", 0.0)
        before = projector(values) if consistency else None
        broken = check(projector(values, warm_start=before, elapsed=0.0))
    assert broken.status == Status.RELAXED
    assert max(broken.margin, key=broken.margin.get) == "yaw_acceleration"
    plan = check(projector(values, warm_start=before, elapsed=0.0))
    assert plan.status == Status.PROJECTED
    assert plan.converged
    assert plan.iterations < broken.iterations / 2
    assert broken.objective < plan.objective < 1.001 * broken.objective
    np.testing.assert_allclose(plan.states[:, :2], broken.states[:, :2], atol=2e-3)


def test_a_deadline_of_zero_gives_the_fallback(projector):
    plan = check(with_(projector, deadline=0.0)(LINE, initial_state=NOW))
    assert plan.status == Status.FALLBACK
    assert plan.iterations == 0
    assert plan.feasible  # by construction, and the certificate says so
    assert (np.diff(plan.states[:, 3]) <= 1e-12).all()
    np.testing.assert_allclose(plan.states[:, 5], 0.0, atol=1e-12)


def test_no_finite_sample_is_rejected_and_brakes(projector):
    plan = check(projector(np.full((2, T, 2), np.nan), initial_state=np.stack([NOW, NOW * np.nan])), (2,))
    assert (plan.status == Status.REJECTED).all()
    np.testing.assert_allclose(plan.states[0, 0], NOW)
    assert plan.states[0, -1, 3] < 0.5
    np.testing.assert_array_equal(plan.states[1], 0.0)


def test_samples_that_are_nowhere_near_the_state_are_rejected(projector):
    plan = check(projector(LINE + 1e9, initial_state=NOW))
    assert plan.status == Status.REJECTED
    assert plan.states[-1, 3] < 0.5


# What comes in


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("batch", [(), (1,), (3,)])
def test_shapes(projector, rng, columns, batch):
    values = np.broadcast_to(random_drive(rng, steps=T)[2].to_array()[:, :columns], (*batch, T, columns))
    plan = check(projector(values), batch)
    assert (plan.status <= Status.PROJECTED).all()
    assert plan.trajectory.x.shape == (*batch, T)
    assert len(plan.certificates) == max(1, int(np.prod(batch)))


def test_no_modes_at_all(projector):
    plan = projector(np.zeros((0, T, 2)))
    assert plan.states.shape == (0, T + 1, 6)
    assert plan.certificates == ()
    assert plan.projection.status.shape == (0,)


def test_a_trajectory_with_a_mask_is_the_array_with_nan(projector, rng):
    trajectory = random_drive(rng, steps=T)[2]
    valid = np.ones(T, dtype=bool)
    valid[[0, 9, 10, T - 1]] = False
    masked = Trajectory(trajectory.x, trajectory.y, trajectory.yaw, trajectory.speed, DT, valid)
    holes = trajectory.to_array()
    holes[~valid] = np.nan
    plan = check(projector(masked))
    np.testing.assert_array_equal(plan.states, projector(holes).states)
    assert plan.status == Status.UNCHANGED


def test_rows_do_not_feel_their_neighbours(projector, rng):
    rows = rough(rng, 5)
    alone = [projector(row).states for row in rows]
    rows = np.concatenate([rows, rows * np.nan, rows * 1e9])
    plan = check(projector(rows), (15,))
    np.testing.assert_array_equal(plan.states[:5], np.stack(alone))
    assert (plan.status[5:10] == Status.REJECTED).all()


@pytest.mark.parametrize("shift", [(0.0, 0.0), (4.4e5, 5.4e6)])
@pytest.mark.parametrize("angle", [0.0, 1.0, np.pi, -3.0])
def test_where_and_which_way_does_not_matter(projector, rng, shift, angle):
    values = rough(rng)
    padded = np.concatenate([values, np.zeros((T, 2))], axis=-1)
    reference, plan = projector(values), projector(moved(padded, shift, angle)[:, :2])
    expected = moved(reference.states[:, :4], shift, angle)[:, :2]
    np.testing.assert_allclose(plan.states[:, :2], expected, atol=1e-4)
    assert plan.status == reference.status


def test_yaw_may_wrap(projector):
    back = np.stack([-LINE[:, 0], LINE[:, 1], np.where(np.arange(T) % 2, np.pi, -np.pi), 8 + 0 * TIMES], axis=-1)
    plan = check(projector(back, initial_state=[0.0, 0.0, -np.pi, 8.0]))
    assert plan.status == Status.UNCHANGED


def test_standstill_and_reverse(projector):
    still = check(projector(np.zeros((T, 2)), initial_state=NOW * 0))
    assert still.status <= Status.PROJECTED
    assert still.displacement.max < 0.01
    reverse = check(projector(-LINE, initial_state=[0.0, 0.0, 0.0, -8.0]))
    assert reverse.status == Status.UNCHANGED
    assert (reverse.states[:, 3] < 0).all()


@pytest.mark.filterwarnings("error")
def test_no_number_raises(projector):
    values = np.stack([LINE * 1e30, LINE + 1e300, LINE * 1e-300, np.where(LINE > 9, 1.7e308, -1.7e308), LINE])
    values[4, 5] = [np.inf, -np.inf]
    states = np.tile(NOW, (5, 1))
    states[:, 3] = [8, 1e9, 8, 1e5, np.inf]
    states[0, 0] = np.nan  # half a position
    states[2, 0] = 1e300
    check_finite = projector(values, initial_state=states)
    assert np.isfinite(check_finite.states).all()
    later = projector(values, initial_state=states, warm_start=check_finite, elapsed=np.inf)
    assert np.isfinite(later.states).all()


# What comes out


def test_agreement_with_project(projector):
    with resources.as_file(resources.files("feasible") / "data" / "sample.npz") as path:
        batch = feasible.io.read(path)
    values = batch.trajectory.to_array(("x", "y"))
    values = values.reshape(-1, *values.shape[-2:])
    values = values[np.isfinite(values[:, :T]).all((1, 2))][:12, :T]
    thorough = feasible.project(Trajectory.from_array(values, dt=DT), VEHICLE, LIMITS)
    plan = check(projector(values), (len(values),))
    both = (plan.status <= Status.PROJECTED) & (thorough.status <= Status.PROJECTED)
    assert both.mean() > 0.95
    same = both & (np.abs(plan.objective - thorough.objective) <= 1e-3 * thorough.objective + 1e-4)
    assert same.sum() >= both.sum() - 1  # near standstill there may be several optima
    gap = np.hypot(*np.moveaxis(plan.states - thorough.states, -1, 0)[:2])
    assert np.quantile(gap[same].max(-1), 0.9) < 5e-3


def test_the_answer_of_an_answer_is_itself(projector, rng):
    plan = projector(rough(rng))
    again = projector(plan.trajectory)
    assert again.status <= Status.PROJECTED
    assert again.displacement.max < 5e-3


def test_the_projection_is_good_for_plots_and_sentences(projector, rng):
    values = np.stack([0.5 * 4.0 * TIMES**2, 0 * TIMES], axis=-1)  # 4 m/s², where comfort ends at 2.4
    plan = projector(values)
    assert plan.projection.multipliers["acceleration"].sum() > 0
    assert any("acceleration" in sentence for sentence in feasible.explain(plan.projection))
    before = Trajectory.from_array(values, dt=DT)
    assert feasible.plot.birdseye(before, VEHICLE, projection=plan.projection) is not None
    assert plan.projection.states is plan.states
    lost = with_(projector, deadline=0.0)(values).projection
    assert all((price == 0).all() for price in lost.multipliers.values())


def test_the_certificate_says_which_configuration(projector):
    certificate = projector(LINE).certificates[0]
    assert certificate["schema"] == projector.certificate_schema()["$id"]
    assert certificate["configuration"] == projector.configuration
    assert set(certificate["margin"]) == {limit.name for limit in LIMITS}
    other = projector.specification | {"weights": projector.specification["weights"] | {"consistency": 0.1}}
    assert digest(other) != projector.configuration == digest(projector.specification)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(certificate | {"feasible": False}, projector.certificate_schema())


# From call to call


def test_a_warm_start_saves_iterations_and_keeps_the_answer(projector, rng):
    values = rough(rng, 8)
    cold = projector(values)
    warm = check(projector(values, warm_start=cold, elapsed=0.0), (8,))
    assert warm.iterations.mean() < 0.5 * cold.iterations.mean()
    np.testing.assert_allclose(warm.states[..., :2], cold.states[..., :2], atol=5e-3)


@pytest.mark.parametrize("missing", [False, True])
def test_a_warm_start_is_as_short_as_what_changed_is_small_and_dropped_if_it_is_not(projector, rng, missing):
    values = rough(rng, 8)
    values[:, 3:6] = np.where(missing, np.nan, values[:, 3:6])
    before, iterations = projector(values), []
    for size in (0.0, 1e-3, 5e-3, 0.1):
        after = values + size * rng.normal(size=values.shape)
        cold, warm = projector(after), projector(after, warm_start=before, elapsed=0.0)
        np.testing.assert_allclose(warm.objective, cold.objective, rtol=1e-3, atol=1e-4)
        iterations.append(warm.iterations.mean())
    assert iterations[0] < 0.5 * iterations[-1]
    assert iterations[1] < 0.8 * iterations[-1]
    np.testing.assert_array_equal(warm.states, cold.states)


def test_a_warm_start_from_another_place_is_dropped(projector, rng):
    values = rough(rng)
    plan = projector(values)
    elsewhere = plan.states[0] + [0.0, 3.0, 0.0, 0.0, 0.0, 0.0]
    cold = projector(values, initial_state=elsewhere)
    warm = projector(values, initial_state=elsewhere, warm_start=plan, elapsed=0.0)
    np.testing.assert_array_equal(warm.states, cold.states)


def test_the_next_cycle_starts_from_the_plan_moved_on(projector):
    whole = np.stack([8.0 * DT * np.arange(1, T + 4), 2.0 * np.sin(0.06 * np.arange(1, T + 4))], axis=-1)
    before = projector(whole[:T])
    for steps in (1, 3):
        start = before.states[steps]
        cold = projector(whole[steps : T + steps], initial_state=start)
        warm = projector(whole[steps : T + steps], initial_state=start, warm_start=before, elapsed=steps * DT)
        wrong = projector(whole[steps : T + steps], initial_state=start, warm_start=before, elapsed=20 * DT)
        np.testing.assert_allclose(warm.states[:, :2], cold.states[:, :2], atol=5e-3)
        assert warm.iterations <= wrong.iterations
    gone = projector(whole[:T], warm_start=before, elapsed=T * DT)  # nothing of the plan is left
    np.testing.assert_array_equal(gone.states, projector(whole[:T]).states)


@pytest.mark.parametrize("turns", [-2, 1])
def test_a_heading_whole_turns_away_is_the_same_warm_start(projector, rng, turns):
    values = rough(rng, 8)
    state = projector(values).states[:, 0]
    before = projector(values, initial_state=state)
    state[:, 2] += 2 * np.pi * turns
    cold, warm = (projector(values, initial_state=state, warm_start=plan, elapsed=0.0) for plan in (None, before))
    assert warm.iterations.mean() < 0.5 * cold.iterations.mean()
    # Jerk costs little: of 320 such drives accelerations are up to 0.055 m/s² apart, 0.025 before the last sample, but
    # positions 0.3 mm, and objectives 5e-5.
    tolerance = np.full((T + 1, 6), [1e-3, 1e-3, 5e-3, 5e-3, 0.03, 5e-3])
    tolerance[-1, 4] = 0.06
    assert np.all(np.abs(warm.states - cold.states) <= tolerance)
    np.testing.assert_allclose(warm.states[:, 0, 2], state[:, 2])


def test_a_warm_start_that_is_not_finite_is_dropped(projector, rng):
    values = rough(rng, 2)
    plan = projector(values)
    poisoned = plan._rows.copy()
    poisoned[0, 7] = np.nan
    bad = copy.copy(plan)
    object.__setattr__(bad, "_rows", poisoned)
    found = projector(values, warm_start=bad, elapsed=0.0)
    np.testing.assert_array_equal(found.states[0], plan.states[0])
    assert not np.array_equal(found.states[1], plan.states[1])  # the other row did start from its plan
    np.testing.assert_allclose(found.states[1, :, :2], plan.states[1, :, :2], atol=5e-3)


def test_consistency_keeps_plans_from_jumping(projector, rng):
    def jump(planner):
        noise = np.random.default_rng(5)
        plan, total = planner(rough(noise)), 0.0
        for _ in range(4):
            after = planner(rough(noise), warm_start=plan, elapsed=0.0)
            total += np.hypot(*(after.states - plan.states)[:, :2].T).mean()
            plan = check(after)
        return total

    assert jump(with_(projector, consistency=3.0)) < 0.6 * jump(projector)


def test_a_call_with_nan_leaves_no_trace(projector, rng):
    values = rough(rng)
    expected = projector(values)
    projector(values * np.nan, initial_state=NOW * np.nan)
    projector(np.where(rng.random((T, 2)) < 0.5, np.inf, values))
    after = projector(values)
    for name in ("states", "controls", "status", "iterations", "violation", "objective", "_rows"):
        np.testing.assert_array_equal(getattr(after, name), getattr(expected, name))
    warm = projector(values, warm_start=expected, elapsed=0.0)
    lost = projector(values * np.nan, warm_start=expected, elapsed=0.0)
    assert lost.status == Status.REJECTED
    np.testing.assert_array_equal(projector(values, warm_start=expected, elapsed=0.0).states, warm.states)


def test_threads_share_a_projector(projector, rng):
    rows = rough(rng, 6)
    expected = [projector(row).states for row in rows]
    found = [None] * len(rows)

    def work(i):
        for _ in range(5):
            found[i] = projector(rows[i]).states

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(found, expected)


# Deadlines


@pytest.mark.parametrize("most", [0, 1, 2, 4, 8, 16, 32])
def test_an_answer_at_any_time(projector, rng, monkeypatch, most):
    monkeypatch.setattr(feasible.Projector, "_clock", lambda self, began, count: Few(most))
    values = np.concatenate([rough(rng, 3), rough(rng, 3, noise=0.6)])
    plan = check(projector(values, initial_state=NOW), (6,))
    assert (plan.iterations <= 3 * most).all()
    assert (most > 0) or (plan.status == Status.FALLBACK).all()
    # An iterate that breaks limits is never returned where braking would keep them.
    assert (plan.feasible | (plan.converged & (plan.status == Status.RELAXED))).all()


def test_the_clock_counts_iterations(monkeypatch):
    monkeypatch.setattr(_descent, "time", SimpleNamespace(perf_counter=lambda: 10.0))
    cost = {"hard": (0.001, 0.0005), "brake": (0.0005, 0.0)}
    assert _descent.Clock(None, {}, 1).iterations("hard", 80) == 80
    assert _descent.Clock(10.0115, cost, 1).iterations("hard", 80) in (19, 20)
    assert _descent.Clock(10.0115, cost, 2).iterations("hard", 80) == 8
    assert _descent.Clock(11.0, cost, 1).iterations("hard", 80) == 80
    assert _descent.Clock(10.001, cost, 1).iterations("hard", 80) < 1


# The fallback


def test_braking_keeps_the_limits_from_every_state_that_can(projector, rng):
    """From inside: feasible, unless the speed itself cannot be kept; from outside: no excess of a state rises."""
    states = np.zeros((200, 6))
    states[:, 3] = np.where(rng.random(200) < 0.3, rng.uniform(-2, 3, 200), rng.uniform(-13, 45, 200))
    states[:, 4] = rng.uniform(-4.05, 2.4, 200)
    reach = np.minimum(0.56, np.minimum(4.89 / states[:, 3] ** 2, 0.95 / np.abs(states[:, 3])))
    states[:, 5] = rng.uniform(-1, 1, 200) * reach
    turning = np.abs(states[:, 4] * states[:, 5]) <= 1.93
    plan = check(with_(projector, deadline=0.0)(np.tile(LINE, (200, 1, 1)), initial_state=states), (200,))
    assert (plan.status == Status.FALLBACK).all()
    assert plan.feasible[turning].all()

    outside = states * [1, 1, 1, 1.3, 2.5, 1.5]
    plan = with_(projector, deadline=0.0)(np.tile(LINE, (200, 1, 1)), initial_state=outside)
    motion = VEHICLE.motion_of(plan.states, np.zeros((*plan.states.shape[:2], 2)))
    stateful = [m.margin(motion, VEHICLE) for m in LIMITS if not m.reads & set(VEHICLE.CONTROLS)]
    excess = np.maximum(np.max(stateful, axis=0), 0.0)
    assert (excess[:, -1] <= 1e-3).all()
    assert (excess.max(1) <= excess[:, 0] + 1e-3).all()
    assert (np.diff(excess, axis=1).max(1) <= 1e-3).all()


@pytest.mark.parametrize(
    ("preset", "state"),
    [
        ("un_r79", (2.07866505734483, 12.0, 0.4563123971484627)),  # grip is lost and regained within a step
        ("un_r79", (-8.563924220864653, -12.0, 0.06722797386075288)),
        ("un_r79", (-0.7472471967640603, -12.0, 0.8244709439791319)),  # lateral jerk: from one bound to the other
        # Limits that can be kept at first, but not for long
        ("autoware_checker", (3.0623347647199406, -5.562849895015106, 0.8309425954020233)),
        ("autoware_checker", (3.184149419139455, -6.861304620362278, -0.8358454666845141)),
        ("physical", (59.470626156490205, 7.05166754412873, 0.001415911457713724)),  # needs all the jerk there is
        ("physical", (75.24844436562228, 2.2298438811193583, -0.001089091275280625)),
        ("physical", (67.08207251090546, 2.0895699387826916, -0.0004918726780568012)),
    ],
)
def test_braking_recovers_monotonically_where_it_can(preset, state):
    """No excess ever rises by more than 1e-3 above its least so far, the first of which is that under no control."""
    limits, blank = feasible.presets.get(preset), np.zeros((60, 4))
    problem = feasible._problem.Problem(VEHICLE, limits, 0.1, blank, blank, np.zeros(6), np.array([1e-8, 1e-4]))
    (states,), (controls,) = brake(problem, np.array([[0.0, 0.0, 0.0, *state]]))
    path = np.stack([VEHICLE.step(states[:-1], controls, t) for t in np.linspace(0.0, 0.1, 11)], axis=1)
    motion, first = VEHICLE.motion_of(path, controls[:, None]), VEHICLE.motion_of(states[:1], np.zeros((1, 2)))
    for limit in limits:
        later = np.broadcast_to(limit.margin(motion, VEHICLE), path.shape[:-1]).ravel()
        excess = np.maximum(np.concatenate([limit.margin(first, VEHICLE), later]), 0.0)
        assert (excess - np.minimum.accumulate(excess)).max() <= 1e-3, limit.name
        assert excess[-1] <= 1e-3


def test_some_states_inside_the_limits_cannot_stay_there():
    """At 0.2 m/s and -6 m/s², with a release of at most 2 m/s³, no control avoids reversing: not even the best jerk."""
    limits = feasible.presets.apollo()
    problem = feasible._problem.Problem(
        VEHICLE, limits, DT, np.zeros((T, 4)), np.zeros((T, 4)), np.zeros(6), np.array([1e-8, 1e-4])
    )
    assert Bounds.of(problem) == (-6.0, 4.0, -4.0, 2.0)
    state = np.array([0.0, 0.0, 0.0, 0.2, -6.0, 0.0])
    assert max(limit.margin(VEHICLE.motion_of(state, np.zeros(2)), VEHICLE) for limit in limits) <= 0.0
    t = np.linspace(0.0, 3.0, 301)
    assert (0.2 - 6.0 * t + 0.5 * 2.0 * t**2).min() < -0.1 - 8.0  # the largest speed that any control can have
    (states,), (controls,) = brake(problem, state[None])
    assert np.isfinite(states).all()
    assert np.isfinite(controls).all()
    assert states[:, 3].min() > -2.0  # rather a harder jerk than metres in reverse
    assert abs(states[-1, 3]) < 0.5


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dt": 0.0}, "dt"),
        ({"horizon": 2}, "horizon: expected at least"),
        ({"deadline": -1.0}, "deadline: expected seconds"),
        ({"deadline": np.nan}, "deadline: expected seconds"),
        ({"consistency": -1.0}, "consistency: expected a weight"),
        ({"modes": 0}, "modes: expected at least 1"),
        ({"limits": ()}, "limits: expected a non-empty tuple"),
    ],
)
def test_arguments_that_cannot_be_right(options, message):
    given = {"limits": LIMITS, "horizon": T, "dt": DT, **options}
    with pytest.raises(ValueError, match=message):
        feasible.Projector(VEHICLE, given.pop("limits"), **given)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (LINE[:-1], {}, r"trajectory: expected shape \(40, D\)"),
        (LINE[:, :1], {}, "columns"),
        (LINE[None, None], {}, "trajectory: expected shape"),
        (Trajectory.from_array(LINE, dt=0.2), {}, "expected dt = 0.1"),
        (LINE, {"initial_state": np.zeros(7)}, "initial_state: expected shape"),
        (LINE, {"initial_state": np.zeros((2, 4))}, "initial_state: expected batch axes"),
    ],
)
def test_requests_that_do_not_fit(projector, values, options, message):
    with pytest.raises(ValueError, match=message):
        projector(values, **options)


def test_plans_that_do_not_fit(projector):
    plan = projector(LINE)
    with pytest.raises(ValueError, match="batch axes"):
        projector(LINE[None], warm_start=plan)
    with pytest.raises(ValueError, match="elapsed: expected seconds"):
        projector(LINE, warm_start=plan, elapsed=-0.1)
    foreign = copy.copy(plan)
    object.__setattr__(foreign, "configuration", "0" * 16)
    with pytest.raises(ValueError, match="this configuration"):
        projector(LINE, warm_start=foreign)
