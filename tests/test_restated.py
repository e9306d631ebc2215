"""Limits restated by squares and tangents: the same motions are allowed, at the same price where a limit binds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_reference import local_problem

import feasible
from feasible import Limit, Trajectory, presets, project, project_vjp, signals
from feasible._elementary import safe_hypot
from feasible.solvers._components import Components
from feasible.solvers._restated import restated
from feasible.solvers._riccati_stage import Stage

INF = np.inf
LENGTHS = {
    "kept from its kink": lambda z: safe_hypot(jnp, z[0], z[1]),
    "root": lambda z: jnp.sqrt(z[0] * z[0] + z[1] * z[1]),
    "share": lambda z: safe_hypot(jnp, z[0], z[1]) * 3.0 / 4.0,
    "size": lambda z: 2.0 * jnp.abs(z[0] - z[1]),
    "hypot": lambda z: Components(z).__array_namespace__().hypot(z[0], z[1]),
    "larger": lambda z: jnp.maximum(jnp.abs(z[0]), jnp.sqrt(0.5 + z[1] * z[1])),
    "by another": lambda z: jnp.abs(z[0]) / jnp.sqrt(1.0 + z[1] * z[1]),
    "from none": lambda z: jnp.where(z[0] > 0.0, jnp.abs(z[1]), 0.0),
}
ANGLES = {
    "angle": lambda z: jnp.arctan(3.0 * z[0]),
    "share of an angle": lambda z: jnp.arctan(z[0] + z[1]) / 0.7,
    "to the right": lambda z: -0.5 * jnp.arctan(z[0] * z[1]),
}
PLAIN = {
    "signed": lambda z: z[0] * jnp.abs(z[1]),
    "negative": lambda z: -jnp.abs(z[1]),
    "shifted": lambda z: jnp.sqrt(1.0 + z[0] * z[0]) - 1.0,
    "affine": lambda z: 2.0 * z[0],
    "product with an angle": lambda z: z[1] * jnp.arctan(z[0]),
    "constants of several numbers": lambda z: jnp.interp(z[0], jnp.arange(3.0), jnp.array([1.0, 2.0, 1.0])),
    "guarded against overflow": lambda z: jnp.hypot(z[0], z[1]),
    "other choice": lambda z: jnp.where(z[0] > 0.0, jnp.abs(z[1]), z[0]),
}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def check(signal, one, rng, lower, upper):
    z = [jnp.asarray(v) for v in rng.normal(size=(2, 400))]
    value, found = signal(z), jax.vmap(lambda *w: one.read(list(w)))(*z)
    np.testing.assert_array_equal((found > one.upper) | (found < one.lower), (value > upper) | (value < lower))
    assert 20 < np.sum(np.asarray(value) > upper) < 380  # bounds that some of them break
    near = np.abs(value) < 2.0 * upper  # a tangent is far away, and has few digits, where its angle is not
    np.testing.assert_allclose(one.of(value[near]), found[near], rtol=1e-6, atol=1e-12)
    for bound, as_stated in ((lower, one.lower), (upper, one.upper)):
        if np.isfinite(as_stated):
            np.testing.assert_allclose(one.of(bound), as_stated, rtol=1e-12)
            np.testing.assert_allclose(jax.grad(one.of)(bound), 1.0, rtol=1e-12)


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("lower", [-INF, 0.0])
def test_a_length_is_bounded_by_its_square(name, lower, rng):
    signal = LENGTHS[name]
    one = restated(signal, 2, np.float64, lower, 0.9)
    assert one.lower == -INF  # that a length is not negative needs no row
    check(signal, one, rng, lower, 0.9)


@pytest.mark.parametrize("name", ANGLES)
@pytest.mark.parametrize("lower", [-INF, -0.35])
def test_an_angle_is_bounded_by_its_tangent(name, lower, rng):
    one = restated(ANGLES[name], 2, np.float64, lower, 0.35)
    check(ANGLES[name], one, rng, lower, 0.35)


def test_no_kink_is_left():
    one = restated(LENGTHS["kept from its kink"], 2, np.float64, -INF, 2.0)
    bent = jax.hessian(lambda z: one.read([z[0], z[1]]))(jnp.zeros(2))
    np.testing.assert_allclose(bent, np.eye(2) / 2.0)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_no_length_and_no_angle_stays(name):
    assert restated(PLAIN[name], 2, np.float64, -0.3, 0.3) is None


@pytest.mark.parametrize(("lower", "upper"), [(0.1, 0.5), (-INF, 0.0), (-0.5, INF), (-INF, -0.5)])
def test_lengths_with_other_bounds_stay(lower, upper):
    assert restated(LENGTHS["root"], 2, np.float64, lower, upper) is None


@pytest.mark.parametrize(("lower", "upper"), [(-0.1, 0.5), (-1.6, 1.6)])
def test_angles_with_other_bounds_stay(lower, upper):
    """One slope for two bounds would misprice one of them, and no angle is as large as the others."""
    assert restated(ANGLES["angle"], 2, np.float64, lower, upper) is None


def test_a_lower_bound_alone():
    one = restated(ANGLES["angle"], 2, np.float64, 0.2, INF)
    assert one.upper == INF
    np.testing.assert_allclose(one.of(0.2), one.lower, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_presets_in_either_precision(dtype):
    """Lengths and angles of the library are found; the middle of a step needs no row of an angle."""
    problem = local_problem(np.zeros((1, 20, 2)), "physical")
    stage = Stage(problem.select(0), dtype)
    names = [limit.name for limit in problem.limits]
    assert {names[i] for i in stage.restated} == {"steering_angle", "friction_circle"}
    middle = {names[problem.rows[r].limit] for r in stage.signals[0.5].rows}
    assert middle == {"speed", "steering_rate", "friction_circle"}
    assert not stage.plain().restated
    assert stage.plain().signals[0.5].rows == stage.signals[0.5].rows


def drives():
    with np.load(feasible.__path__[0] + "/data/sample.npz") as file:
        return file["pred"][:64:4].astype(float)


@pytest.mark.parametrize("smoothing", [1e-8, 1e-6, 1e-4])
def test_smoothed_derivatives_exist_where_jerk_is_bounded_as_a_length(smoothing):
    vehicle, values = feasible.vehicles.nuplan_pacifica(), drives()
    found, pull = project_vjp(Trajectory.from_array(values, dt=0.1), vehicle, presets.nuplan_comfort())
    moved = found.status == feasible.Status.PROJECTED
    assert moved.mean() > 0.5
    assert pull(np.ones((*values.shape[:2], 4)), smoothing=smoothing).exact[moved].all()


def _size_of_jerk(motion, vehicle):
    return motion.xp.abs(motion.jerk)


@pytest.mark.parametrize("jerk", [Limit("jerk", signals.jerk, -5.0, 5.0), Limit("jerk", _size_of_jerk, None, 5.0)])
def test_a_limit_on_controls_alone(jerk):
    """Then no row reads the first state."""
    found = project(Trajectory.from_array(drives(), dt=0.1), feasible.vehicles.nuplan_pacifica(), (jerk,))
    assert (found.status == feasible.Status.PROJECTED).all()
    assert np.abs(found.motion.jerk).max() <= 5.0 * (1 + 1e-3)


def test_prices_are_those_of_the_signal():
    """Prices are of a relative change of the limit, and a square changes twice as much."""
    vehicle, values = feasible.vehicles.nuplan_pacifica(), drives()
    bound = 2.0  # m/s²
    lateral = Limit("total_acceleration", signals.total_acceleration, None, bound, "m/s²")
    square = Limit("square", _square_of_total, None, bound**2, "m²/s⁴")
    a, b = (
        project(Trajectory.from_array(values, dt=0.1), vehicle, (limit,), initial_state=None)
        for limit in (lateral, square)
    )
    both = (a.status == feasible.Status.PROJECTED) & (b.status == feasible.Status.PROJECTED)
    assert both.sum() >= 5
    prices, squares = a.multipliers["total_acceleration"][both], b.multipliers["square"][both]
    np.testing.assert_allclose(prices, 2.0 * squares, rtol=0.02, atol=0.02 * prices.max())


def _square_of_total(motion, vehicle):
    return motion.acceleration**2 + motion.lateral_acceleration**2
