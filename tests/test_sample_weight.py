"""`sample_weight`: a mask that has degrees, on the host, behind a planner, in a loss, with its derivative."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drives import COLUMNS, random_drive

import feasible
import feasible.jax
from feasible import Projector, Trajectory, Weights, presets, project, project_vjp, projection_loss

VEHICLE, LIMITS = feasible.vehicles.nuplan_pacifica(), presets.physical()
ROWS, STEPS = 6, 20


@pytest.fixture
def noisy(rng):
    values = np.stack([random_drive(rng, steps=STEPS)[2].to_array(COLUMNS) for _ in range(ROWS)])
    return Trajectory.from_array(values + 0.1 * rng.normal(size=values.shape), dt=0.1, columns=COLUMNS)


@pytest.fixture
def counts(rng):
    return np.exp(0.5 * rng.normal(size=(ROWS, STEPS)))


def test_it_is_a_factor_of_every_weight(noisy):
    """Of the effort too if that is taken to the same power: then nothing changes."""
    mine = project(noisy, VEHICLE, LIMITS, sample_weight=4.0, weights=Weights(controls=(4e-8, 4e-4)))
    plain = project(noisy, VEHICLE, LIMITS)
    np.testing.assert_allclose(mine.states[..., :2], plain.states[..., :2], atol=1e-4)
    np.testing.assert_allclose(mine.objective, 4 * plain.objective, rtol=1e-4)


def test_the_motion_is_nearer_to_samples_that_count_more(noisy):
    counts = np.ones(STEPS)
    counts[::2] = 100.0

    def missed(**options):
        found = project(noisy, VEHICLE, LIMITS, **options).trajectory
        return np.hypot(found.x - noisy.x, found.y - noisy.y)[:, ::2].mean(1)

    assert (missed(sample_weight=counts) < missed()).all()


@pytest.mark.parametrize("nothing", [0.0, -1.0, np.nan, np.inf])
def test_what_is_no_weight_is_a_missing_sample(noisy, counts, nothing):
    """Even where the sample itself is absurd, and first, so that it would be the origin."""
    counts[:, [0, 7]] = nothing
    wild = noisy.x.copy()
    wild[:, [0, 7]] = 1e9
    missing = noisy.valid.copy()
    missing[:, [0, 7]] = False
    found = project(dataclasses.replace(noisy, x=wild), VEHICLE, LIMITS, sample_weight=counts)
    masked = project(
        dataclasses.replace(noisy, valid=missing), VEHICLE, LIMITS, sample_weight=np.where(missing, counts, 1)
    )
    np.testing.assert_array_equal(found.states, masked.states)
    np.testing.assert_array_equal(found.displacement.mean, masked.displacement.mean)


@pytest.mark.parametrize("given", [np.ones(STEPS - 1), np.ones((ROWS + 1, STEPS)), np.ones((2, ROWS, STEPS))])
def test_a_shape_that_does_not_fit_is_said(noisy, given):
    with pytest.raises(ValueError, match="sample_weight: expected shape"):
        project(noisy, VEHICLE, LIMITS, sample_weight=given)
    with pytest.raises(ValueError, match="sample_weight: expected shape"):
        projection_loss(noisy, VEHICLE, LIMITS, sample_weight=given)
    with pytest.raises(ValueError, match="sample_weight: expected shape"):
        feasible.jax.project(noisy.to_array(COLUMNS), VEHICLE, LIMITS, dt=0.1, sample_weight=given)


@pytest.mark.parametrize("kind", ["list", "number", "float32", "jax", "torch", "bfloat16"])
def test_any_kind_of_numbers(noisy, kind):
    counts = np.full((ROWS, STEPS), 2.0)
    if kind in ("torch", "bfloat16"):
        torch = pytest.importorskip("torch")
        given = torch.tensor(counts, dtype=torch.bfloat16 if kind == "bfloat16" else None, requires_grad=True)
    else:
        given = {"list": counts.tolist(), "number": 2.0, "float32": np.float32(counts), "jax": jnp.asarray(counts)}[
            kind
        ]
    np.testing.assert_array_equal(
        project(noisy, VEHICLE, LIMITS, sample_weight=given).states,
        project(noisy, VEHICLE, LIMITS, sample_weight=counts).states,
    )
    mine, theirs = (projection_loss(noisy, VEHICLE, LIMITS, sample_weight=c) for c in (given, counts))
    np.testing.assert_array_equal(mine, theirs)


def test_the_heaviest_count_as_much_as_the_solver_has_digits_for(noisy):
    counts = np.ones((ROWS, STEPS))
    counts[:, 5] = 1e300
    given = {"sample_weight": counts}
    (heavy, pull), plain = project_vjp(noisy, VEHICLE, LIMITS, **given), project(noisy, VEHICLE, LIMITS)

    def missed(found):
        return np.hypot(found.trajectory.x - noisy.x, found.trajectory.y - noisy.y)

    assert (missed(heavy)[:, 5] < 0.05 * missed(plain)[:, 5].max()).all()
    assert (missed(heavy).mean(1) < 3 * missed(plain).mean(1)).all()
    by_weight = pull(np.ones((ROWS, STEPS, 4))).sample_weight
    assert not by_weight[:, 5].any()
    assert by_weight[:, 6].all()


def test_one_trajectory_and_none(noisy):
    """Without batch axes, and with one of length 0; derivatives and a planner as well."""
    one, none = (jax.tree.map(lambda a, i=i: a[i] if np.ndim(a) else a, noisy) for i in (0, slice(0, 0)))
    _, pull = project_vjp(noisy, VEHICLE, LIMITS, sample_weight=2.0)
    _, pull_one = project_vjp(one, VEHICLE, LIMITS, sample_weight=np.full(STEPS, 2.0))
    _, pull_none = project_vjp(none, VEHICLE, LIMITS, sample_weight=np.ones((0, STEPS)))
    by_samples = np.random.default_rng(0).normal(size=(ROWS, STEPS, 4))
    found, expected, empty = (
        pull_one(by_samples[0], vehicle=True),
        pull(by_samples, vehicle=True),
        pull_none(by_samples[:0]),
    )
    np.testing.assert_allclose(found.sample_weight, expected.sample_weight[0], rtol=1e-6, atol=1e-9)
    assert found.upper["friction_circle"].shape == found.exact.shape == ()
    assert empty.sample_weight.shape == (0, STEPS)
    projector = Projector(VEHICLE, LIMITS, horizon=STEPS, dt=0.1)
    assert projector(none, sample_weight=np.ones((0, STEPS))).status.shape == (0,)


def test_its_derivative(noisy, counts, rng):
    """Against differences of the projection, which is solved to 1e-8 of the objective."""
    options = {"weights": Weights(position=2.0, yaw=0.5, speed=0.3)}
    _, pull = project_vjp(noisy, VEHICLE, LIMITS, sample_weight=counts, **options)
    by_samples = rng.normal(size=(ROWS, STEPS, 4))
    direction = rng.normal(size=counts.shape)
    errors = []
    for width in (1e-2, 1e-3):
        ends = [
            project(noisy, VEHICLE, LIMITS, sample_weight=counts + s * width * direction, **options).trajectory
            for s in (1.0, -1.0)
        ]
        apart = ends[0].to_array() - ends[1].to_array()
        slope = (apart * by_samples).sum((1, 2)) / (2 * width)
        mine = (pull(by_samples).sample_weight * direction).sum(1)
        errors.append(np.abs(mine - slope) / np.abs(slope))
    assert (np.min(errors, axis=0) < 0.05).mean() >= 0.8, errors


def test_a_planner_has_it_too(noisy, counts):
    projector = Projector(VEHICLE, LIMITS, horizon=STEPS, dt=0.1)
    counts[1, 3] = np.nan
    plan = projector(noisy, sample_weight=counts)
    found, plain = project(noisy, VEHICLE, LIMITS, sample_weight=counts), project(noisy, VEHICLE, LIMITS)
    apart = np.hypot(*np.moveaxis(plan.states[..., :2] - found.states[..., :2], -1, 0)).max(1)
    changed = np.hypot(*np.moveaxis(plain.states[..., :2] - found.states[..., :2], -1, 0)).max(1)
    assert (apart < 5e-3).all()
    assert (changed > 5 * apart).all()
    np.testing.assert_allclose(projector(noisy, sample_weight=1.0).states, projector(noisy).states)
    with pytest.raises(ValueError, match="sample_weight: expected shape"):
        projector(noisy, sample_weight=np.ones(STEPS + 1))


def test_the_loss_is_the_weighted_distance_and_its_slopes_are_the_enveloped_ones(noisy, counts):
    found = project(noisy, VEHICLE, LIMITS, sample_weight=counts).trajectory
    error = noisy.to_array(COLUMNS) - found.to_array(COLUMNS)
    error[..., 2] = (error[..., 2] + np.pi) % (2 * np.pi) - np.pi
    squares = error**2 @ [1.0, 1.0, 1.0, 0.1]

    def total(values, counts):
        trajectory = Trajectory.from_array(values, dt=0.1, columns=COLUMNS)
        return jnp.sum(projection_loss(trajectory, VEHICLE, LIMITS, sample_weight=counts))

    with jax.enable_x64(True):
        given = jnp.asarray(noisy.to_array(COLUMNS)), jnp.asarray(counts)
        value, (by_values, by_counts) = jax.value_and_grad(total, (0, 1))(*given)
    np.testing.assert_allclose(value, 0.5 * (counts * squares).sum(), rtol=1e-9)
    np.testing.assert_allclose(by_counts, 0.5 * squares, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(by_values[..., 0], counts * error[..., 0], rtol=1e-6, atol=1e-12)


def test_a_mapped_loss_with_a_batch_inside(noisy, counts):
    """Each row with its own initial state, whichever axis is mapped."""
    values, now = noisy.to_array(("x", "y"))[:, :10], np.full((3, 6), np.nan)
    values, counts = values[:3][None] + np.zeros((3, 1, 1, 1)), counts[:3, :10]
    now[:, :2] = values[0, :, 0] - 0.5

    def each(values, counts, now):
        trajectory = Trajectory.from_array(values, dt=0.1, columns=("x", "y"))
        return projection_loss(trajectory, VEHICLE, LIMITS, sample_weight=counts, initial_state=now)

    with jax.enable_x64(True):
        given = (jnp.asarray(a) for a in (values, counts, now))
        mapped = jax.vmap(each)(*given)
    one_by_one = [each(v, c, i) for v, c, i in zip(values, counts, now, strict=True)]
    np.testing.assert_allclose(mapped, one_by_one, rtol=1e-3, atol=1e-6)
