"""The independent check: against closed forms, against itself in NumPy, and on what it must not let pass."""

import jax.numpy as jnp
import numpy as np
import pytest

import feasible
from feasible import Limit, _check, presets, signals
from feasible.vehicles import KinematicBicycle

VEHICLE, LIMITS, DT = KinematicBicycle(), presets.physical(), 0.1
REST = np.zeros(6)


def driven(rng, rows, steps=20):
    """States and controls of cars that drive anyhow, some over limits."""
    first = rng.normal(size=(rows, 6)) * [50.0, 50.0, 2.0, 10.0, 2.0, 0.05]
    controls = rng.normal(size=(rows, steps, 2)) * [4.0, 0.05]
    return VEHICLE.rollout(first, controls, DT), controls


def in_numpy(states, controls, limits, ticks=100):
    start, control, following = (
        np.moveaxis(a, -1, 0).reshape(a.shape[-1], -1) for a in (states[:, :-1], controls, states[:, 1:])
    )
    return _check._measured(VEHICLE, limits, DT, ticks, start, control, following, loop=_check._repeat)


@pytest.mark.parametrize("rows", [1, 25, 26, 80])  # less than a block of steps, just less, just more, many blocks
def test_compiled_as_in_numpy(rng, rows):
    states, controls = driven(rng, rows)
    found = feasible.certify(states, controls, DT, VEHICLE, LIMITS)
    expected = in_numpy(states, controls, LIMITS).reshape(-1, rows, 20).max(-1)
    for i, limit in enumerate(LIMITS):
        np.testing.assert_allclose(found.margin[limit.name], expected[i], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.dynamics_residual, expected[-1], atol=1e-11)
    assert found.violation.max() > 0  # the limits were put to the test


def test_a_peak_within_a_step_is_found():
    """A jerk that changes sign only between steps: speed peaks where the acceleration passes zero, not at a sample."""
    controls = np.array([[[-40.0, 0.0]]])
    first = np.array([[0.0, 0.0, 0.0, 9.9, 2.0, 0.0]])  # v(t) = 9.9 + 2 t - 20 t²: largest at 0.05 s
    limit = Limit("speed", signals.speed, upper=9.9)
    found = feasible.certify(VEHICLE.rollout(first, controls, DT), controls, DT, VEHICLE, (limit,))
    assert found.margin["speed"][0] == pytest.approx(0.05 / 9.9, rel=1e-9)
    assert found.dynamics_residual[0] < 1e-9


def test_the_narrow_peak_of_the_steering_rate_is_found():
    """c L / (1 + κ² L²) is c L where κ passes zero, at no millisecond here."""
    rate = 400.0
    controls = np.array([[[0.0, rate]]])
    first = np.array([[0.0, 0.0, 0.0, 1.0, 0.0, -rate * 0.03137]])
    limit = Limit("rate", lambda motion, car: motion.steering_rate(car.wheelbase), upper=1.0)
    found = feasible.certify(VEHICLE.rollout(first, controls, DT), controls, DT, VEHICLE, (limit,), tick=1e-2)
    assert found.margin["rate"][0] == pytest.approx(rate * VEHICLE.wheelbase - 1.0, rel=1e-6)


def test_states_that_the_car_does_not_reach_are_told(rng):
    states, controls = driven(rng, 8)
    states[3, 7, 0] += 1e-4
    found = feasible.certify(states, controls, DT, VEHICLE, LIMITS).dynamics_residual
    assert found[3] == pytest.approx(1e-4, rel=1e-3)
    assert np.delete(found, 3).max() < 1e-5


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_a_row_that_is_not_finite_says_nothing_of_the_others(rng, value):
    states, controls = driven(rng, 4)
    clean = feasible.certify(states, controls, DT, VEHICLE, LIMITS)
    states[1, 5, 3] = value
    found = feasible.certify(states, controls, DT, VEHICLE, LIMITS)
    assert not found.violation[1] <= 1.0
    others = [0, 2, 3]
    np.testing.assert_array_equal(found.violation[others], clean.violation[others])
    np.testing.assert_array_equal(found.dynamics_residual[others], clean.dynamics_residual[others])


def test_a_limit_that_jax_cannot_trace_is_measured_by_numpy(rng):
    states, controls = driven(rng, 3)
    hidden = Limit("speed", lambda motion, _: np.asarray(motion.speed, dtype=float), upper=5.0, reads={"speed"})
    plain = Limit("speed", signals.speed, upper=5.0)
    with pytest.raises(TypeError):
        _check._by_xla((VEHICLE, (hidden,), DT, 1), [np.zeros((6, 1)), np.zeros((2, 1)), np.zeros((6, 1))])
    found, expected = (feasible.certify(states, controls, DT, VEHICLE, (limit,)) for limit in (hidden, plain))
    np.testing.assert_allclose(found.margin["speed"], expected.margin["speed"], rtol=1e-12)


def test_a_limit_that_looks_at_other_samples_sees_those_of_its_own_row(rng):
    """Steps are measured in blocks across rows, but not for a signal such as the distance to the mean speed."""
    states, controls = driven(rng, 5)
    limit = Limit("pace", lambda m, _: m.speed - m.xp.mean(m.speed, axis=-1, keepdims=True), upper=2.0, reads={"speed"})
    found = feasible.certify(states, controls, DT, VEHICLE, (limit,), tick=DT).margin["pace"]
    start, end = states[:, :-1, 3], states[:, 1:, 3]
    expected = np.maximum(*((v - v.mean(-1, keepdims=True)).max(-1) for v in (start, end)))
    assert (found >= (expected - 2.0) / 2.0 - 1e-12).all()  # where the wheels are straight is looked at too
    for i in range(5):
        alone = feasible.certify(states[i : i + 1], controls[i : i + 1], DT, VEHICLE, (limit,), tick=DT)
        np.testing.assert_allclose(alone.margin["pace"][0], found[i], rtol=1e-12)


def test_what_is_wrong_with_a_limit_is_said():
    broken = Limit("x", lambda motion, car: motion.speed * car.wings, upper=1.0, reads={"speed"})
    states, controls = VEHICLE.rollout(REST[None], np.zeros((1, 3, 2)), DT), np.zeros((1, 3, 2))
    with pytest.raises(AttributeError, match="wings"):
        feasible.certify(states, controls, DT, VEHICLE, (broken,))


def test_one_program_serves_other_numbers_and_other_ticks(rng):
    """Bounds, dimensions, time step and ticks are arguments of the program; another limit takes another."""
    states, controls = driven(rng, 2)
    feasible.certify(states, controls, DT, VEHICLE, LIMITS)
    known = _check._compiled._cache_size()
    car = KinematicBicycle(wheelbase=3.1, max_speed=30.0)
    feasible.certify(car.rollout(states[:, 0], controls, 0.2), controls, 0.2, car, presets.physical(), tick=0.01)
    assert _check._compiled._cache_size() == known
    feasible.certify(states, controls, DT, VEHICLE, LIMITS[:1])
    assert _check._compiled._cache_size() == known + 1


def test_double_precision_whatever_jax_was_told(rng):
    states, controls = driven(rng, 2)
    assert jnp.zeros(1).dtype == jnp.float32
    found = feasible.certify(states, controls, DT, VEHICLE, LIMITS)
    assert found.dynamics_residual.dtype == np.float64
    assert found.dynamics_residual.max() < 1e-5


@pytest.mark.parametrize("batch", [(), (0,), (2, 3)])
def test_batch_axes(rng, batch):
    states, controls = driven(rng, 6)
    rows = int(np.prod(batch))
    found = feasible.certify(
        states[:rows].reshape(*batch, 21, 6), controls[:rows].reshape(*batch, 20, 2), DT, VEHICLE, LIMITS
    )
    assert found.violation.shape == found.dynamics_residual.shape == batch
    assert all(margin.shape == batch for margin in found.margin.values())
