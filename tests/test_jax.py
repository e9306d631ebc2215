"""`feasible.jax.project`: the projection as one program, against the host's projection and its derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import feasible
import feasible.jax
from feasible import Status, Trajectory, presets

VEHICLE = feasible.vehicles.nuplan_pacifica()
LIMITS = presets.waymax(dynamics=True)  # two limits, so that XLA compiles soon
DT, STEPS, SMOOTHING = 0.1, 12, 1e-10


@pytest.fixture(scope="module")
def noisy():
    t = DT * np.arange(1, STEPS + 1)
    rng = np.random.default_rng(0)
    rows = [np.stack([6 * t + 0.2 * i, np.sin(t + i)], axis=-1) for i in range(5)]
    return np.stack(rows) + 0.15 * rng.normal(size=(5, STEPS, 2))


@pytest.fixture(scope="module")
def compiled(noisy):
    """Forward and backward in float64, one program of each."""
    weight = np.random.default_rng(1).normal(size=(5, STEPS, 4))

    def total(values, counts, smoothing):
        found = feasible.jax.project(values, VEHICLE, LIMITS, dt=DT, sample_weight=counts, smoothing=smoothing)
        return jnp.sum(weight * found.samples), found

    def run(values, counts=1.0, smoothing=SMOOTHING):
        counts = jnp.broadcast_to(counts, (5, STEPS))
        (_, found), slopes = compiled(jnp.asarray(values), jnp.asarray(counts, float), smoothing)
        return jax.tree.map(np.asarray, (found, slopes))

    compiled = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    run._cache_size = compiled._cache_size
    with jax.enable_x64(True):
        found, (gradient, _) = run(noisy)
    return run, weight, found, gradient


def test_inside_jit_it_is_the_same_projection(noisy, compiled):
    _, _, found, _ = compiled
    host = feasible.project(Trajectory.from_array(noisy, dt=DT), VEHICLE, LIMITS)
    np.testing.assert_array_equal(found.status, host.status)
    assert (found.status == Status.PROJECTED).any()
    np.testing.assert_allclose(found.states[..., :2], host.states[..., :2], atol=1e-5)
    np.testing.assert_allclose(found.samples, host.trajectory.to_array(), atol=1e-4)
    assert found.violation.max() <= 1e-2


def test_its_gradient_is_the_implicit_derivative(noisy, compiled):
    _, weight, _, gradient = compiled
    _, pull = feasible.project_vjp(Trajectory.from_array(noisy, dt=DT), VEHICLE, LIMITS)
    expected = pull(weight).trajectory[..., :2]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())


def test_smoothing_is_that_of_the_host_and_a_number_of_the_same_program(noisy, compiled):
    run, weight, _, sharp = compiled
    _, pull = feasible.project_vjp(Trajectory.from_array(noisy, dt=DT), VEHICLE, LIMITS)
    expected = pull(weight, smoothing=1e-5).trajectory[..., :2]
    with jax.enable_x64(True):
        smooth = run(noisy, smoothing=1e-5)[1][0]
    assert run._cache_size() == 1
    assert np.abs(smooth - sharp).max() > 1e-2 * np.abs(sharp).max()
    np.testing.assert_allclose(smooth, expected, atol=1e-4 * np.abs(expected).max())


def test_weights_of_samples_are_those_of_the_host(noisy, compiled):
    run, weight, _, _ = compiled
    counts = np.exp(np.random.default_rng(2).normal(size=(5, STEPS)))
    counts[1, 3], counts[2, 4] = 0.0, np.nan
    result, pull = feasible.project_vjp(Trajectory.from_array(noisy, dt=DT), VEHICLE, LIMITS, sample_weight=counts)
    with jax.enable_x64(True):
        found, slopes = run(noisy, counts)
    np.testing.assert_allclose(found.states[..., :2], result.states[..., :2], atol=1e-5)
    expected = pull(weight)
    for mine, theirs in zip(slopes, (expected.trajectory[..., :2], expected.sample_weight), strict=True):
        assert np.abs(theirs).max() > 0.01
        np.testing.assert_allclose(mine, theirs, atol=1e-4 * np.abs(theirs).max())


def test_mapped_rows_are_a_batch_and_constants_are_rows_too(noisy):
    """In float32, where the derivative is in float64: `vmap` of one row, of its weights alone, and twice."""
    values = jnp.asarray(noisy, jnp.float32)
    counts = jnp.asarray(np.exp(np.random.default_rng(3).normal(size=(2, 5, STEPS))), jnp.float32)

    def total(values, counts):
        return jnp.sum(feasible.jax.project(values, VEHICLE, LIMITS, dt=DT, sample_weight=counts).samples ** 2)

    slope = jax.grad(total, (0, 1))
    twice = jax.jit(jax.vmap(jax.vmap(slope), (None, 0)))(values, counts)
    by_weights = jax.jit(jax.vmap(lambda c: slope(values[1], c)[1]))(counts[:, 1])
    every = jax.jit(slope)(jnp.broadcast_to(values, (2, *values.shape)), counts)
    for mine, theirs in ((twice[0], every[0]), (twice[1], every[1]), (by_weights, every[1][:, 1])):
        assert np.abs(theirs).max() > 0.01
        np.testing.assert_allclose(mine, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("x64", [False, True])
def test_float32_has_the_derivative_of_float64(noisy, compiled, x64):
    _, weight, _, gradient = compiled

    def total(values):
        return jnp.sum(weight.astype(np.float32) * feasible.jax.project(values, VEHICLE, LIMITS, dt=DT).samples)

    with jax.enable_x64(x64):  # JAX's default type is not that of the values where it is float64
        single = jax.jit(jax.grad(total))(jnp.asarray(noisy, jnp.float32))
        assert single.dtype == jnp.float32
    size = np.linalg.norm(gradient, axis=(1, 2))
    assert size.min() > 0.1
    assert (np.linalg.norm(np.asarray(single) - gradient, axis=(1, 2)) <= 1e-2 * size).all()


def test_a_row_of_nan_changes_no_other_and_has_no_gradient(noisy, compiled):
    run, _, found, gradient = compiled
    broken = noisy.copy()
    broken[2] = np.nan
    with jax.enable_x64(True):
        other, (slope, _) = run(broken)
    assert other.status[2] == Status.REJECTED
    assert np.isfinite(np.asarray(other.states)).all()
    assert (slope[2] == 0).all()
    kept = [0, 1, 3, 4]
    np.testing.assert_allclose(np.asarray(other.states)[kept], found.states[kept], atol=1e-9)
    np.testing.assert_allclose(slope[kept], gradient[kept], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 2), {}, "values: expected shape"),
        ((8, 1), {}, "columns"),
        ((8, 2), {"dt": 0.0}, "dt"),
        ((8, 2), {"columns": ("x", "yaw")}, "columns"),
        ((8, 2), {"smoothing": 0.0}, "smoothing"),
    ],
)
def test_what_cannot_be_right_is_said_in_a_sentence(shape, options, message):
    with pytest.raises(ValueError, match=message):
        feasible.jax.project(np.zeros(shape), VEHICLE, LIMITS, **({"dt": DT} | options))
