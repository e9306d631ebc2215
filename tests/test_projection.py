"""The ladder of `project`: every rung is forced, and no output is worse than its status says."""

import numpy as np
import pytest
from drives import random_drive
from hypothesis import given, settings
from hypothesis import strategies as st

import feasible
from feasible import Status, Trajectory, presets, project
from feasible._brake import brake
from feasible._problem import Problem
from feasible._stop import jerk, stop

VEHICLE = feasible.vehicles.nuplan_pacifica()
COMFORT, PHYSICAL = presets.nuplan_comfort(), presets.physical()


class Broken:
    """A backend that returns what it is told, or the start with NaN in it."""

    CHUNK = 4

    def __init__(self, states=None, controls=None):
        self.states, self.controls = states, controls

    def solve(self, problem, states, controls, *, elastic=False):
        from feasible._problem import Solution

        rows, steps = problem.target.shape[:2]
        states = np.full_like(states, np.nan) if self.states is None else np.broadcast_to(self.states, states.shape)
        controls = (
            np.full_like(controls, np.nan) if self.controls is None else np.broadcast_to(self.controls, controls.shape)
        )
        prices = np.full((rows, steps, len(problem.rows)), np.nan)
        return Solution(states, controls, prices, np.ones(rows, dtype=int), np.ones(rows, dtype=bool))


class Scattering:
    """`riccati`, which notes how many scattered starts it is handed, and finds nothing from them if `blind`."""

    CHUNK, STARTS = 64, 20

    def __init__(self, blind):
        self.blind, self.handed = blind, []

    def solve(self, problem, states, controls, *, elastic=False, attempts=None):
        from feasible.solvers import riccati

        if attempts == 1:
            self.handed.append(len(states))
        if self.blind and not elastic:
            return Broken().solve(problem, states, controls)
        return riccati.solve(problem, states, controls, elastic=elastic, attempts=attempts)


def noisy(rng, noise=0.1, **options):
    _, _, trajectory = random_drive(rng, **options)
    values = trajectory.to_array(("x", "y"))
    return Trajectory.from_array(values + rng.normal(0, noise, values.shape), dt=0.1)


def check_promises(result, shape):
    """What holds for every row whatever its status."""
    assert result.trajectory.x.shape == shape
    for field in (result.states, result.controls, result.trajectory.to_array(), result.violation):
        assert np.isfinite(field).all()
    assert (result.dynamics_residual < 1e-5).all()
    certificate = feasible.certify(result.states, result.controls, 0.1, VEHICLE, COMFORT)
    solved = result.status <= Status.PROJECTED
    assert (certificate.violation[solved] <= 1e-2).all()


def test_scattered_starts_are_tried_until_some_agree(rng):
    """A car that hardly moves, in decimetres of noise: twenty starts at most, eight at a time, no more than needed."""
    jitter = Trajectory.from_array(rng.normal(0, 0.3, (6, 40, 2)), dt=0.1)
    seeing, blind = Scattering(blind=False), Scattering(blind=True)
    assert (project(jitter, VEHICLE, COMFORT, backend=seeing).status == Status.PROJECTED).all()
    assert seeing.handed[0] == 6 * 8
    assert all(n <= 6 * size and n % size == 0 for n, size in zip(seeing.handed, (8, 8, 4), strict=False))
    assert sum(seeing.handed) < 6 * 20
    project(jitter, VEHICLE, COMFORT, backend=blind)
    assert blind.handed == [6 * 8, 6 * 8, 6 * 4]  # finding nothing is not agreeing


def test_a_row_is_scattered_as_it_is_alone(rng):
    jitter = Trajectory.from_array(rng.normal(0, 0.3, (4, 40, 2)), dt=0.1)
    together = project(jitter, VEHICLE, COMFORT)
    for i in range(4):
        alone = project(jitter[i], VEHICLE, COMFORT)
        np.testing.assert_allclose(alone.states, together.states[i], atol=1e-9)
        assert alone.iterations == together.iterations[i]


def test_noise_is_projected(rng):
    trajectory = noisy(rng)
    result = project(trajectory, VEHICLE, COMFORT)
    assert result.status == Status.PROJECTED
    assert not feasible.audit(trajectory, VEHICLE, COMFORT).feasible
    assert feasible.audit(result.motion, VEHICLE, COMFORT, tolerance=1e-3).feasible
    assert feasible.audit(result.trajectory, VEHICLE, COMFORT, tolerance=5e-2).feasible
    assert 0.01 < result.displacement.mean < 0.2
    check_promises(result, (40,))


def test_the_initial_state_is_kept_and_its_nan_is_free(rng):
    state, _, trajectory = random_drive(rng)
    values = trajectory.to_array(("x", "y")) + rng.normal(0, 0.05, (40, 2))
    result = project(Trajectory.from_array(values, dt=0.1), VEHICLE, COMFORT, initial_state=state)
    np.testing.assert_allclose(result.states[0], state, atol=1e-9)
    part = np.array([*state[:4], np.nan, np.nan])
    freer = project(Trajectory.from_array(values, dt=0.1), VEHICLE, COMFORT, initial_state=part)
    np.testing.assert_allclose(freer.states[0, :4], state[:4], atol=1e-9)
    assert freer.objective <= result.objective + 1e-9
    short = project(Trajectory.from_array(values, dt=0.1), VEHICLE, COMFORT, initial_state=state[:4])
    np.testing.assert_array_equal(short.states, freer.states)


def test_an_initial_state_outside_the_limits_is_relaxed_and_named(rng):
    state, _, trajectory = random_drive(rng)
    state = state.copy()
    state[4] = -6.0  # m/s², where nuPlan's comfort ends at -4.05
    result = project(trajectory, VEHICLE, COMFORT, initial_state=state)
    assert result.status == Status.RELAXED
    assert "acceleration exceeded by up to" in result.relaxed[0]
    assert "0.0 to" in result.relaxed[0]
    np.testing.assert_allclose(result.states[0], state, atol=1e-9)
    # The jerk limit says how soon it can be back inside: (6 - 4.05) / 4.13 = 0.47 s; by then it is.
    assert (result.motion.acceleration[5:] >= -4.05 * 1.01).all()
    check_promises(result, (40,))


def test_a_useless_solver_gives_the_fallback(rng):
    state, _, trajectory = random_drive(rng)
    result = project(trajectory, VEHICLE, COMFORT, initial_state=state, backend=Broken())
    assert result.status == Status.FALLBACK
    assert result.violation <= 1e-9
    assert abs(result.motion.speed[-1]) < state[3]
    assert all((prices == 0).all() for prices in result.multipliers.values())
    check_promises(result, (40,))


def test_a_solver_that_lies_is_not_believed(rng):
    state, _, trajectory = random_drive(rng)
    controls = np.zeros((1, 40, 2))
    controls[..., 1] = 3.0  # 1/(m s): far beyond any steering
    result = project(trajectory, VEHICLE, PHYSICAL, initial_state=state, backend=Broken(np.zeros((1, 41, 6)), controls))
    assert result.status >= Status.RELAXED


def test_no_finite_sample_is_rejected_and_still_finite():
    empty = Trajectory.from_array(np.full((2, 20, 2), np.nan), dt=0.1)
    state = np.array([[3.0, 4.0, 0.5, 8.0], [np.nan, np.nan, np.nan, np.nan]])
    result = project(empty, VEHICLE, COMFORT, initial_state=state)
    assert (result.status == Status.REJECTED).all()
    np.testing.assert_allclose(result.states[0, 0, :4], state[0])
    assert result.motion.speed[0, -1] < 8.0
    np.testing.assert_array_equal(result.trajectory.to_array()[1], 0.0)
    assert (result.displacement.max == 0).all()
    check_promises(result, (2, 20))


def test_gaps_are_filled(rng):
    values = random_drive(rng)[2].to_array(("x", "y"))
    holes = values.copy()
    holes[[0, 7, 8, 20, 39]] = np.nan
    result = project(Trajectory.from_array(holes, dt=0.1), VEHICLE, COMFORT)
    assert result.status == Status.UNCHANGED
    np.testing.assert_allclose(result.trajectory.to_array(("x", "y")), values, atol=0.02)


@pytest.mark.parametrize("preset", ["physical", "nuplan_comfort"])
@settings(max_examples=12)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["still", "creep", "teleport", "walk", "constant", "huge", "zigzag"]),
)
def test_rough_input_ends_projected(preset, seed, kind):
    rng = np.random.default_rng(seed)
    t = 0.1 * np.arange(1, 31)
    line = np.stack([8 * t, 0 * t], axis=-1)
    values = {
        "still": rng.normal(0, 0.02, (30, 2)),
        "creep": line * 0.02 + rng.normal(0, 0.02, (30, 2)),
        "teleport": line + (t > 1.5)[:, None] * [5.0, 20.0],
        "walk": rng.normal(0, 0.5, (30, 2)).cumsum(0),
        "constant": np.full((30, 2), 7.0),
        "huge": line + 4e6,
        "zigzag": line + np.where(np.arange(30) % 2, 0.5, -0.5)[:, None] * [0, 1],
    }[kind]
    result = project(Trajectory.from_array(values, dt=0.1), VEHICLE, presets.get(preset))
    assert result.status <= Status.PROJECTED
    assert result.violation <= 1e-2
    assert np.isfinite(result.trajectory.to_array()).all()


def test_absurd_numbers_stay_finite():
    t = 0.1 * np.arange(1, 21)
    base = np.stack([8 * t, 0 * t], axis=-1)
    rows = np.stack([base, base * 1e30, base + 1e300, base * 1e-300, base])
    rows[4, 5] = [np.inf, -np.inf]
    states = np.zeros((5, 6))
    states[:, 3] = [8, 1e9, 8, 0, 8]
    result = project(Trajectory.from_array(rows, dt=0.1), VEHICLE, COMFORT, initial_state=states)
    check_promises(result, (5, 20))


@pytest.mark.parametrize("speed", [0.0, 0.3, 2.0, 8.0, 25.0])
@pytest.mark.parametrize("acceleration", [-2.0, 0.0, 2.0])
def test_braking_ends_at_rest_on_a_sample(speed, acceleration):
    jerks = jerk(np, stop(np, speed, acceleration, 3.0, 4.0, 0.1), np.arange(400.0))
    state = np.array([0, 0, 0, speed, acceleration, 0.01])
    states = VEHICLE.rollout(state, np.stack([jerks, 0 * jerks], axis=-1), 0.1)
    assert abs(states[-1, 3]) < 1e-6
    assert abs(states[-1, 4]) < 1e-6
    assert np.abs(jerks).max() <= 4.0 + 1e-9
    assert states[:, 4].min() >= -3.0 - 1e-9
    if speed >= acceleration**2 / (2 * 4.0) or acceleration >= 0:  # else even releasing the brake ends in reverse
        assert states[:, 3].min() >= -0.05  # the grid rounds the release up to whole steps


def test_braking_keeps_the_limits_it_can():
    target, weight = np.zeros((60, 4)), np.zeros((60, 4))
    state = np.array([0.0, 0, 0, 12.0, 0, 0.02])
    problem = Problem(VEHICLE, COMFORT, 0.1, target, weight, state, np.array([1e-7, 1e-3]))
    (states,), (controls,) = brake(problem, state[None])
    assert problem.excess(states, controls).max() == 0
    assert (np.diff(states[:, 3]) <= 1e-12).all()
    assert states[-1, 3] < 0.1


def test_multipliers_show_the_binding_limit(rng):
    t = 0.1 * np.arange(1, 41)
    values = np.stack([0.5 * 4.0 * t**2, 0 * t], axis=-1)  # 4 m/s², where comfort ends at 2.4
    result = project(Trajectory.from_array(values, dt=0.1), VEHICLE, COMFORT)
    total = {name: np.abs(prices).sum() for name, prices in result.multipliers.items()}
    assert max(total, key=total.get) == "acceleration"
    assert result.multipliers["acceleration"].sum() > 0  # the upper bound
    assert total["lateral_acceleration"] < 1e-6


def test_distance_is_the_displacement(rng):
    trajectory = noisy(rng)
    moved = feasible.distance(trajectory, VEHICLE, COMFORT)
    assert moved.mean == project(trajectory, VEHICLE, COMFORT).displacement.mean


def test_empty_batch():
    result = project(Trajectory.from_array(np.zeros((0, 12, 2)), dt=0.1), VEHICLE, COMFORT)
    assert result.status.shape == (0,)
    assert result.trajectory.x.shape == (0, 12)
    assert str(result) == "Projection(no samples)"
    assert feasible.audit(result.trajectory, VEHICLE, COMFORT).summary.trajectories == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_state": np.zeros(7)}, "initial_state: expected shape"),
        ({"initial_state": np.zeros((3, 4))}, "initial_state: expected batch axes"),
        ({"initial_state": [0.0, np.nan, 0.0, 1.0]}, "x and y both"),
        ({"backend": "ipopt"}, "backend: expected one of"),
        ({"weights": None, "limits": ()}, "limits: expected a non-empty tuple"),
    ],
)
def test_structure_errors_say_what_was_expected(rng, options, message):
    options = {"limits": COMFORT, **options}
    limits = options.pop("limits")
    with pytest.raises(ValueError, match=message):
        project(noisy(rng), VEHICLE, limits, **options)
