"""`Trajectory` and finite differences: namespaces, gaps, gradients, edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drives import COLUMNS, random_drive, turn

import feasible
from feasible import Gap, Motion, Trajectory, audit, presets
from feasible._motion import FIELDS

VEHICLE = feasible.vehicles.nuplan_pacifica()


def drive(rng, **options):
    return random_drive(rng, **options)[2]


def test_products_keep_all_digits_on_every_device():
    """JAX's default on graphics processors is ten bits, 3 cm of a position 100 m away."""

    def smoothed(values):
        motion = Motion.from_trajectory(Trajectory.from_array(values, dt=0.1), differencing="savgol")
        return motion.speed

    traced = str(jax.make_jaxpr(smoothed)(jnp.zeros((30, 2), jnp.float32)))
    assert traced.count("HIGHEST") == 2 * traced.count("dot_general") > 0


@pytest.mark.parametrize("columns", [("x", "y"), ("x", "y", "yaw"), ("x", "y", "speed"), COLUMNS])
@pytest.mark.parametrize("differencing", ["raw", "savgol"])
def test_namespaces_agree(rng, columns, differencing):
    torch = pytest.importorskip("torch")
    values = drive(rng).to_array(columns)
    motions = [
        Motion.from_trajectory(Trajectory.from_array(v, dt=0.1, columns=columns), differencing=differencing)
        for v in (values, torch.tensor(values))
    ]
    with jax.enable_x64(True):
        motions.append(
            Motion.from_trajectory(
                Trajectory.from_array(jnp.asarray(values), dt=0.1, columns=columns), differencing=differencing
            )
        )
        for name in FIELDS:
            for other in motions[1:]:
                np.testing.assert_allclose(np.asarray(getattr(other, name)), getattr(motions[0], name), atol=1e-6)
    assert isinstance(motions[1].jerk, torch.Tensor)


@pytest.mark.parametrize("columns", [("x", "y"), COLUMNS])
def test_differences_approach_the_exact_motion(rng, columns):
    state, controls, trajectory = random_drive(rng, dt=0.02, steps=200)
    exact = VEHICLE.motion(VEHICLE.rollout(state, controls, 0.02), controls, 0.02)
    # random_drive used a generic car, but the curvature form does not know the wheelbase
    sampled = Motion.from_trajectory(Trajectory.from_array(trajectory.to_array(columns), dt=0.02, columns=columns))
    for name, tolerance in (("speed", 1e-3), ("acceleration", 0.02), ("curvature", 1e-4), ("jerk", 0.1)):
        inner = slice(3, -3)
        np.testing.assert_allclose(getattr(sampled, name)[inner], getattr(exact, name)[inner], atol=tolerance)


@pytest.mark.parametrize("seed", range(4))
def test_differences_of_bang_bang_motion_stay_within_the_exact_bounds(seed):
    """Extreme jerk and steering at walking speed, where a middle-of-segment curvature rate would be off by 100 %."""
    rng = np.random.default_rng(seed)
    state = np.array([0, 0, 0.3, 1.2, 0.0, 0.3])
    jerk = 50.0 * rng.choice([-1, 1], 4).repeat(2)
    controls = np.stack([np.concatenate([jerk, -jerk]), rng.choice([-0.15, 0.15], 16)], axis=-1)
    states = VEHICLE.rollout(state, controls, 0.1)
    motion = Motion.from_trajectory(Trajectory.from_array(states[1:, :4], dt=0.1, columns=COLUMNS))
    known = motion.gaps["curvature_rate"] == Gap.NONE
    assert np.abs(motion.jerk).max() <= 50.0 + 1e-9
    assert np.abs(motion.curvature_rate[known]).max(initial=0) <= 0.15 * 1.05


def test_gaps_say_why():
    trajectory = turn(10, 0.01, steps=20, columns=("x", "y"))
    gaps = Motion.from_trajectory(trajectory).gaps
    assert (gaps["acceleration"][[0, -1]] == Gap.EDGE).all()
    assert (gaps["acceleration"][1:-1] == Gap.NONE).all()
    slow = Motion.from_trajectory(turn(0.2, 0.01, steps=20, columns=("x", "y"))).gaps
    assert (slow["curvature"][1:-1] == Gap.SLOW).all()
    assert (slow["speed"] == Gap.NONE).all()
    coarse = Motion.from_trajectory(turn(10, 0.01, dt=0.5)).gaps
    assert (coarse["jerk"][1:-1] == Gap.COARSE).all()
    values = trajectory.to_array()
    values[10] = np.nan
    missing = Motion.from_trajectory(Trajectory.from_array(values, dt=0.1)).gaps
    assert (missing["acceleration"][9:12] == Gap.MISSING).all()
    assert (missing["acceleration"][3:8] == Gap.NONE).all()
    report = audit(Trajectory.from_array(values, dt=0.1), VEHICLE, presets.nuplan_comfort())
    assert report.feasible
    row = report.summary.rows[0]
    assert row.unassessed == {"edge": 2, "missing": 3}


def test_standstill_and_reverse_are_defined():
    still = Trajectory.from_array(np.full((12, 2), [3.0, 4.0]), dt=0.1)
    assert audit(still, VEHICLE, presets.physical()).feasible
    back = drive(np.random.default_rng(0), speed=(-6.0, -5.0))
    motion = Motion.from_trajectory(back)
    assert (motion.speed < 0).all()
    # From positions alone reverse looks like forward; with a change of gear on the way it is seen.
    there = np.concatenate([np.linspace(0, 5, 11), np.linspace(4.6, 0, 10)])
    gear = Motion.from_trajectory(Trajectory.from_array(np.stack([there, 0 * there], -1), dt=0.1))
    assert gear.speed[2] > 0 > gear.speed[-3]
    assert np.abs(gear.curvature).max() == 0


def test_heading_crosses_pi():
    trajectory = turn(10, 0.05, steps=140)  # more than a full circle
    wrapped = trajectory.to_array()
    wrapped[:, 2] = (wrapped[:, 2] + np.pi) % (2 * np.pi) - np.pi
    for values in (wrapped, wrapped[:, :2]):
        motion = Motion.from_trajectory(Trajectory.from_array(values, dt=0.1, columns=COLUMNS[: values.shape[1]]))
        np.testing.assert_allclose(motion.yaw_rate[1:-1], 0.5, rtol=1e-3)


@pytest.mark.parametrize("case", ["still", "reverse", "cusp", "pi", "teleport", "gap"])
@pytest.mark.parametrize("columns", [("x", "y"), COLUMNS])
def test_gradients_are_finite(case, columns):
    t = np.linspace(0.1, 2, 20)
    values = np.stack([5 * t, 0 * t, 0 * t, 5 + 0 * t], axis=-1)
    if case == "still":
        values = np.zeros((20, 4))
    elif case == "reverse":
        values[:, 3] = -5
        values[:, 2] = np.pi
    elif case == "cusp":
        values[10:, 0] = values[10, 0] - 5 * (t[10:] - t[10])
    elif case == "pi":
        values[:, 2] = np.pi
        values[:, 0] *= -1
    elif case == "teleport":
        values[10:, :2] += 1e3
    elif case == "gap":
        values[[3, 4]] = np.nan

    def total(v):
        motion = Motion.from_trajectory(Trajectory.from_array(v[:, : len(columns)], dt=0.1, columns=columns))
        margins = [m.margin(motion, VEHICLE) for m in (*presets.physical(), *presets.nuplan_comfort())]
        return sum((jnp.where(margin > 0, margin, 0.0) ** 2).mean() for margin in margins) + motion.yaw_rate.sum()

    slope = jax.grad(total)(jnp.asarray(values, dtype=jnp.float32))
    assert np.isfinite(np.asarray(slope)).all()


def test_smoothing_reads_manoeuvre_instead_of_jitter(rng):
    values = drive(rng).to_array(("x", "y")) + rng.normal(0, 0.01, (40, 2))
    trajectory = Trajectory.from_array(values, dt=0.1)
    raw, smooth = (audit(trajectory, VEHICLE, presets.physical(), differencing=d) for d in ("raw", "savgol"))
    assert np.abs(raw.value["jerk"]).max() > 5 * np.abs(smooth.value["jerk"]).max()
    assert not raw.feasible
    assert smooth.feasible
    assert smooth.reading == "savgol(11, 3)"
    polynomial = np.stack([t**3 * 0.1 + 5 * t for t in (0.1 * np.arange(30),) * 2], axis=-1)
    kept = Motion.from_trajectory(Trajectory.from_array(polynomial, dt=0.1), differencing="savgol")
    np.testing.assert_allclose(kept.x, polynomial[:, 0], atol=1e-9)


@pytest.mark.parametrize("steps", [4, 5, 8, 11, 12])
def test_smoothing_short_horizons(steps):
    line = np.stack([5 * 0.1 * np.arange(steps), np.zeros(steps)], axis=-1)
    motion = Motion.from_trajectory(Trajectory.from_array(line, dt=0.1), differencing="savgol")
    np.testing.assert_allclose(motion.speed, 5.0, atol=1e-9)
    with pytest.raises(ValueError, match="order: expected"):
        Motion.from_trajectory(Trajectory.from_array(line, dt=0.1), differencing="savgol", window=3, order=3)
    with pytest.raises(ValueError, match="window: expected an odd"):
        Motion.from_trajectory(Trajectory.from_array(line, dt=0.1), differencing="savgol", window=8)


def test_trajectory_is_a_pytree_and_survives_transformations(rng):
    trajectory = Trajectory.from_array(jnp.asarray(drive(rng).to_array(), dtype=jnp.float32), dt=0.1, columns=COLUMNS)
    doubled = jax.tree.map(lambda a: a * 1, trajectory)
    assert doubled.columns == trajectory.columns
    speed = jax.jit(lambda t: Motion.from_trajectory(t).speed)(trajectory)
    np.testing.assert_allclose(speed, trajectory.speed, rtol=1e-6)
    stack = jax.tree.map(lambda a: jnp.stack([jnp.asarray(a)] * 3), trajectory)
    jerk = jax.vmap(lambda t: Motion.from_trajectory(t).jerk)(stack)
    assert jerk.shape == (3, 40)


def test_reference_point_moves_to_the_rear_axle(rng):
    rear = drive(rng)
    values = rear.to_array()
    offset = VEHICLE.rear_axle_to_center
    values[:, 0] += offset * np.cos(values[:, 2])
    values[:, 1] += offset * np.sin(values[:, 2])
    back = Trajectory.from_array(values, dt=0.1, columns=COLUMNS, reference_point="center", vehicle=VEHICLE)
    np.testing.assert_allclose(back.to_array(), rear.to_array(), atol=1e-12)
    with pytest.raises(ValueError, match="needs a yaw column and vehicle"):
        Trajectory.from_array(values[:, :2], dt=0.1, reference_point="center", vehicle=VEHICLE)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((3, 2)), {}, "at least 4 time steps, got 3"),
        (np.zeros((9, 3)), {}, "expected a last axis of 2"),
        (np.zeros(9), {}, r"expected shape \(..., T, 2\)"),
        (np.zeros((9, 2)), {"dt": 0.0}, "dt: expected a positive number of seconds, got 0.0"),
        (np.zeros((9, 2)), {"dt": -0.1}, "dt: expected a positive"),
        (np.zeros((9, 2)), {"dt": np.nan}, "dt: expected a positive"),
        (np.zeros((9, 2)), {"columns": ("x", "z")}, "columns: expected names out of .* got 'z'"),
        (np.zeros((9, 2)), {"columns": ("x", "x")}, "each name once"),
        (np.zeros((9, 2)), {"columns": ("x", "yaw")}, "x and y among them"),
        ([[0.0, 1.0], [2.0]], {}, "rows of equal length"),
        (np.zeros((9, 2), dtype=bool), {}, "expected real numbers"),
        (np.zeros((9, 2)), {"reference_point": "nose"}, "reference_point: expected"),
    ],
)
def test_structure_errors_name_field_got_and_expected(values, options, message):
    with pytest.raises(ValueError, match=message):
        Trajectory.from_array(values, **{"dt": 0.1, **options})


def test_audit_of_a_batch_reports_first_step_and_worst():
    values = np.stack([turn(10, 0.01, columns=("x", "y")).to_array()] * 2)
    values[1, 20:] += [0.0, 0.5]  # a jump to the side
    report = audit(Trajectory.from_array(values, dt=0.1), VEHICLE, presets.physical())
    assert report.feasible.tolist() == [True, False]
    first = report.first_step["friction_circle"]
    assert first.mask.tolist() == [True, False]
    assert 18 <= first[1] <= 20
    text = str(report)
    assert "friction_circle" in text
    assert "1 of 2 trajectories feasible" in text
    assert '"feasible": false' in report.to_json()


def test_a_trajectory_of_nothing_is_not_feasible():
    assert not audit(Trajectory.from_array(np.full((8, 2), np.nan), dt=0.1), VEHICLE, presets.physical()).feasible


def test_far_away_coordinates_change_nothing(rng):
    values = drive(rng).to_array(("x", "y")) + rng.normal(0, 0.02, (40, 2))
    near, far = (
        audit(Trajectory.from_array(v, dt=0.1), VEHICLE, presets.physical())
        for v in (values, values + np.array([5e5, 4e6]))
    )
    for name in near.worst:
        np.testing.assert_allclose(far.worst[name], near.worst[name], rtol=1e-4, atol=1e-4)
