"""`loss`, `reward`, `projection_loss`, `guidance`, `decode`, `encode`: values and gradients in every namespace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drives import COLUMNS, random_controls, random_drive, turn

import feasible
from feasible import Limit, Trajectory, presets, signals
from feasible._arrays import namespace
from feasible._elementary import arctangent, arctangent_within_one, log1p, sum_log1p_rows
from feasible._loss import KINDS
from feasible._pointwise import is_pointwise

VEHICLE = feasible.vehicles.nuplan_pacifica()
PHYSICAL = presets.physical()
COLUMN_SETS = (("x", "y"), ("x", "y", "yaw"), COLUMNS)


def trajectory(values, columns=("x", "y")):
    return Trajectory.from_array(values, dt=0.1, columns=columns[: values.shape[-1]])


def noisy(rng, rows=3, steps=20, size=0.05, columns=("x", "y")):
    drives = np.stack([random_drive(rng, steps=steps)[2].to_array(COLUMNS) for _ in range(rows)])
    return (drives + size * rng.normal(size=drives.shape))[..., : len(columns)]


def wild():
    """Inputs with no usable slope somewhere: standstill, constant, reverse, yaw at ±π, teleports, gaps."""
    t = 0.1 * np.arange(12.0)
    line = np.stack([5 * t, 0 * t, 0 * t, 5 + 0 * t], axis=-1)
    seam = np.stack([-5 * t, 1e-9 * np.sin(40 * t), np.pi * np.sign(np.sin(40 * t + 0.1)), 5 + 0 * t], axis=-1)
    crawl = line * 1e-9
    jump, absurd, gap, nothing = line.copy(), line.copy(), line.copy(), np.full_like(line, np.nan)
    jump[5:, :2] += 1e5
    absurd[5, :2] = 1e30
    gap[4] = np.nan
    reverse = line * [-1, 1, 1, -1]
    zigzag = line.copy()
    zigzag[::2, 0] -= 2.0
    return {
        "standstill": 0 * line,
        "constant": 0 * line + 3.0,
        "crawl": crawl,
        "reverse": reverse,
        "seam": seam,
        "jump": jump,
        "absurd": absurd,
        "gap": gap,
        "nothing": nothing,
        "zigzag": zigzag,
        "line": line,
    }


def test_a_feasible_trajectory_costs_nothing_and_a_broken_limit_costs_its_excess():
    good, fast = turn(10.0, 0.02), turn(10.0, 0.15)  # 2 and 15 m/s² of lateral acceleration
    limit = Limit("lateral", signals.lateral_acceleration, -5.0, 5.0, "m/s²")
    assert feasible.loss(good, VEHICLE, limit) == 0
    assert feasible.reward(good, VEHICLE, limit)[0] == 0
    for kind, value in (("hinge", 2.0), ("squared", 4.0), ("smooth", np.log(3.0))):
        assert feasible.loss(fast, VEHICLE, limit, kind=kind) == pytest.approx(value, rel=1e-4)
    assert feasible.reward(fast, VEHICLE, limit)[0] == pytest.approx(-2 / 3, rel=1e-4)
    assert feasible.loss(good, VEHICLE, limit, margin=0.7, kind="hinge") == pytest.approx(0.1, rel=1e-3)


def test_it_agrees_with_the_audit(rng):
    """The same reading and the same meaning of a limit: the mean of the audit's violations over its known samples."""
    values = noisy(rng)
    report = feasible.audit(trajectory(values), VEHICLE, PHYSICAL)
    total, parts = feasible.loss(trajectory(values), VEHICLE, PHYSICAL, kind="hinge", components=True)
    for limit in PHYSICAL:
        known = report.gaps[limit.name] == 0
        want = report.violation[limit.name].sum(-1) / known.sum(-1)
        np.testing.assert_allclose(parts[limit.name], want, atol=1e-9)
        np.testing.assert_allclose(parts[f"{limit.name}/known"], known.mean(-1))
    np.testing.assert_allclose(total, sum(parts[limit.name] for limit in PHYSICAL))


def test_weights_and_their_names(rng):
    values = trajectory(noisy(rng))
    _, parts = feasible.loss(values, VEHICLE, PHYSICAL, components=True)
    only = {limit.name: 0.0 for limit in PHYSICAL} | {"jerk": 2.0}
    np.testing.assert_allclose(feasible.loss(values, VEHICLE, PHYSICAL, weights=only), 2 * parts["jerk"])
    with pytest.raises(ValueError, match=r"expected names out of .* got 'jerks'"):
        feasible.loss(values, VEHICLE, PHYSICAL, weights={"jerks": 1.0})
    with pytest.raises(ValueError, match="kind: expected one of"):
        feasible.loss(values, VEHICLE, PHYSICAL, kind="cubic")


@pytest.mark.parametrize("columns", COLUMN_SETS)
@pytest.mark.parametrize("differencing", ["raw", "savgol"])
def test_namespaces_agree(rng, columns, differencing):
    torch = pytest.importorskip("torch")
    values = noisy(rng, columns=columns)
    limits = (*PHYSICAL, *(m for m in presets.nuplan_comfort() if m.name not in {p.name for p in PHYSICAL}))
    for function in (feasible.loss, feasible.reward):
        for dtype, tolerance in (("float64", 1e-6), ("float32", 1e-4)):
            if dtype == "float32":  # the same rounded input for all
                values = (values - values[:, :1] * [1, 1, 0, 0][: len(columns)]).astype(np.float32).astype(float)
            with jax.enable_x64(dtype == "float64"):
                arrays = (
                    values.astype(dtype),
                    jnp.asarray(values, dtype),
                    torch.tensor(values, dtype=getattr(torch, dtype)),
                )
                found = [function(trajectory(a, columns), VEHICLE, limits, differencing=differencing) for a in arrays]
                found = [f[0] if isinstance(f, tuple) else f for f in found]
                assert found[0].dtype == dtype
                assert found[1].dtype == dtype
                for other in found[1:]:
                    scale = np.maximum(np.abs(found[0]), 1.0)
                    np.testing.assert_allclose(np.asarray(other) / scale, found[0] / scale, atol=tolerance)


@pytest.mark.parametrize("name", wild())
@pytest.mark.parametrize("columns", COLUMN_SETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_are_finite_everywhere(name, columns, dtype):
    torch = pytest.importorskip("torch")
    for kind in KINDS:
        for differencing in ("raw", "savgol"):
            values = torch.tensor(wild()[name][:, : len(columns)], dtype=getattr(torch, dtype), requires_grad=True)
            t = trajectory(values, columns)
            loss = feasible.loss(t, VEHICLE, PHYSICAL, kind=kind, differencing=differencing)
            reward, _ = feasible.reward(t, VEHICLE, PHYSICAL, differencing=differencing)
            (loss + reward).backward()
            assert torch.isfinite(loss)
            assert torch.isfinite(values.grad).all()
            assert -1 <= reward.item() <= 0
    with jax.enable_x64(dtype == "float64"):
        array = jnp.asarray(wild()[name][:, : len(columns)], dtype)
        gradient = jax.grad(lambda a: feasible.loss(trajectory(a, columns), VEHICLE, PHYSICAL))(array)
        assert np.isfinite(gradient).all()


def against_numpy(values, limits, mask=None):
    """The compiled loss and its gradient in float32 against the plain loss of the same rows in NumPy and PyTorch."""
    torch = pytest.importorskip("torch")

    def total(a):
        return feasible.loss(trajectory(a), VEHICLE, limits, mask=mask)

    plain = total(values)
    np.testing.assert_allclose(jax.jit(total)(jnp.asarray(values)) / (1 + plain), plain / (1 + plain), atol=1e-4)
    tensor = torch.tensor(values, requires_grad=True)
    given = None if mask is None else torch.tensor(mask)
    feasible.loss(trajectory(tensor), VEHICLE, limits, mask=given).sum().backward()
    gradient = jax.jit(jax.grad(lambda a: total(a).sum()))(jnp.asarray(values))
    want = tensor.grad.numpy()
    np.testing.assert_allclose(gradient, want, atol=1e-3 * np.abs(want).max())


def test_rows_in_chunks_are_rows_at_once(rng):
    """More rows than fit a chunk, in two leading axes and not a multiple of its size, one of them broken."""
    values = np.repeat(noisy(rng, rows=7, steps=12), 191, axis=0).astype(np.float32)
    values = (values + 0.01 * rng.normal(size=values.shape).astype(np.float32)).reshape(191, 7, 12, 2)
    values[3, 2, 5] = np.nan
    against_numpy(values, PHYSICAL, mask=np.arange(12) < rng.integers(6, 13, size=(191, 7, 1)))


def test_a_limit_that_is_not_elementwise_sees_time_last(rng):
    """A signal over time, and one that closes over an array of the batch, among limits that are elementwise."""
    values = noisy(rng, rows=130, steps=90).astype(np.float32)
    bound = np.linspace(2.0, 9.0, 130, dtype=np.float32)[:, None]

    def swing(motion, vehicle):
        a = motion.acceleration
        return motion.xp.concat([a[..., :1], a[..., 1:] - a[..., :-1]], axis=-1)

    def share(motion, vehicle):
        own = motion.xp.asarray(bound)
        return motion.speed / own

    own = (Limit("swing", swing, -1.0, 1.0), Limit("share", share, None, 1.0))
    against_numpy(values, (*PHYSICAL, *own))
    xp = namespace(jnp.zeros(1))
    assert all(is_pointwise(limit, VEHICLE, xp, jnp.float32) for limit in (*PHYSICAL, *presets.iso15622()))
    assert not any(is_pointwise(limit, VEHICLE, xp, jnp.float32) for limit in own)


def test_elementary_functions_are_exact_to_the_last_digits_of_float32(rng):
    xp = namespace(jnp.zeros(1))
    small = np.logspace(-12, 30, 2001).astype(np.float32)
    np.testing.assert_allclose(jax.jit(lambda a: log1p(xp, a))(small), np.log1p(small.astype(float)), rtol=3e-7)
    slope = (rng.normal(size=4000) * 10.0 ** rng.uniform(-6, 6, 4000)).astype(np.float32)
    slope[:3] = 0.0, 1.0, -1.0
    for function, given in ((arctangent, slope), (arctangent_within_one, slope[np.abs(slope) <= 1])):
        angle = jax.jit(lambda a, f=function: f(xp, a))(given)
        np.testing.assert_allclose(angle, np.arctan(given.astype(float)), rtol=4e-7)
        change = jax.vmap(jax.grad(lambda a, f=function: f(xp, a)))(given)
        np.testing.assert_allclose(change, 1 / (1 + given.astype(float) ** 2), rtol=4e-7)


@pytest.mark.parametrize("rows", [1, 2, 3, 80, 301])
def test_sums_of_logarithms_that_share_them_are_those_of_each(rng, rows):
    """At every size of the terms, up to beyond the cap, and with rows that are left over."""
    xp = namespace(jnp.zeros(1))
    terms = 10.0 ** rng.uniform([-12, -3, 0, 7], [-5, 0, 3, 18], size=(rows, 4))
    given = jnp.asarray(terms, jnp.float32)
    np.testing.assert_allclose(sum_log1p_rows(xp, given), np.log1p(terms).sum(0), rtol=2e-6)
    slopes = jax.grad(lambda a: sum_log1p_rows(xp, a).sum())(given)
    np.testing.assert_allclose(slopes, 1 / (1 + terms), rtol=2e-6)
    far = jnp.full((rows, 1), 1e30, jnp.float32)
    assert np.isfinite(jax.grad(lambda a: sum_log1p_rows(xp, a).sum())(far)).all()
    assert (sum_log1p_rows(xp, far) > 43 * rows).all()


def test_masked_samples_have_no_say_and_are_counted(rng):
    torch = pytest.importorskip("torch")
    values = noisy(rng, rows=2, steps=24)
    padded = values.copy()
    padded[:, 16:] = 1e3 * rng.normal(size=padded[:, 16:].shape)
    mask = np.arange(24) < 16
    cut, parts = feasible.loss(trajectory(values[:, :16]), VEHICLE, PHYSICAL, components=True)
    tensor = torch.tensor(padded, requires_grad=True)
    whole, more = feasible.loss(trajectory(tensor), VEHICLE, PHYSICAL, mask=torch.tensor(mask), components=True)
    # The last samples of a cut trajectory get the difference beside them, those before padding do not exist: so only
    # limits that read no jerk agree to the digit.
    np.testing.assert_allclose(more["friction_circle"].detach(), parts["friction_circle"], rtol=1e-9)
    assert np.all(more["jerk/known"].detach().numpy() < 16 / 24)
    whole.sum().backward()
    assert torch.isfinite(tensor.grad).all()
    assert (tensor.grad[:, 16:] == 0).all()
    assert (cut > 0).all()
    _, parts = feasible.reward(trajectory(padded), VEHICLE, PHYSICAL, mask=mask)
    assert np.all(parts["invalid"] == 0)


def test_slow_samples_are_counted_not_zeroed():
    still = trajectory(np.zeros((12, 2)))
    _, parts = feasible.loss(still, VEHICLE, PHYSICAL, components=True)
    assert parts["steering_angle/known"] == 0
    assert parts["speed/known"] == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_reward_has_a_floor_and_a_bad_row_leaves_the_others_alone(rng, bad):
    values = noisy(rng, rows=4)
    clean, _ = feasible.reward(trajectory(values), VEHICLE, PHYSICAL)
    loss = feasible.loss(trajectory(values), VEHICLE, PHYSICAL)
    values[2, 7, 0] = bad
    broken, parts = feasible.reward(trajectory(values), VEHICLE, PHYSICAL)
    others = [0, 1, 3]
    np.testing.assert_array_equal(broken[others], clean[others])
    np.testing.assert_array_equal(feasible.loss(trajectory(values), VEHICLE, PHYSICAL)[others], loss[others])
    assert broken[2] == -1
    assert parts["invalid"][2] > 0
    assert np.all(parts["invalid"][others] == 0)
    assert all(np.isfinite(p).all() for p in parts.values())


def test_worse_is_worse(rng):
    path = random_drive(rng, steps=30)[2].to_array(("x", "y"))
    noise = rng.normal(size=path.shape)
    series = [feasible.reward(trajectory(path + s * noise), VEHICLE, PHYSICAL)[0] for s in (0, 0.02, 0.2, 2.0)]
    losses = [feasible.loss(trajectory(path + s * noise), VEHICLE, PHYSICAL) for s in (0, 0.02, 0.2, 2.0)]
    assert series == sorted(series, reverse=True)
    assert losses == sorted(losses)
    assert losses[0] == 0


def test_jit_vmap_and_grad_agree_with_the_plain_call(rng):
    values = jnp.asarray(noisy(rng) - 0.0, jnp.float32)
    loss = functools.partial(feasible.loss, vehicle=VEHICLE, limits=PHYSICAL)
    plain = loss(trajectory(values))
    for function in (jax.jit, jax.vmap):
        np.testing.assert_allclose(function(lambda a: loss(trajectory(a)))(values), plain, rtol=2e-3)
    gradient = feasible.guidance(trajectory(values), VEHICLE, PHYSICAL)
    step = 1e-4 * gradient / np.abs(gradient).max()
    assert np.all(loss(trajectory(values - step)) <= plain + 1e-6)
    assert gradient.shape == values.shape


def test_guidance_of_numpy_is_numpy_and_zero_where_all_is_well(rng):
    values = np.stack([random_drive(rng, steps=20)[2].to_array(("x", "y")) for _ in range(2)])
    values -= values[:, :1]
    gradient = feasible.guidance(trajectory(values), VEHICLE, PHYSICAL)
    assert isinstance(gradient, np.ndarray)
    assert np.all(gradient == 0)


def test_projection_loss_is_the_envelope_of_the_projection(rng):
    values = noisy(rng, rows=2, steps=15, columns=COLUMNS)

    def objective(v):
        return feasible.project(trajectory(v, COLUMNS), VEHICLE, PHYSICAL, backend="osqp").objective

    with jax.enable_x64(True):
        f = functools.partial(feasible.projection_loss, vehicle=VEHICLE, limits=PHYSICAL, backend="osqp")
        total = jax.jit(jax.grad(lambda v: f(trajectory(v, COLUMNS)).sum()))
        gradient = total(jnp.asarray(values))
        np.testing.assert_allclose(jax.grad(lambda v: f(trajectory(v, COLUMNS)).sum())(values), gradient, atol=1e-9)
        np.testing.assert_allclose(f(trajectory(values, COLUMNS)), objective(values), rtol=1e-2)
        for index in ((0, 4, 0), (0, 9, 1), (1, 3, 2), (1, 8, 3)):
            shift = np.zeros_like(values)
            shift[index] = 1e-3
            slope = (objective(values + shift) - objective(values - shift)).sum() / 2e-3
            assert gradient[index] == pytest.approx(slope, rel=0.02, abs=2e-4)


def test_projection_loss_of_nothing_is_nothing(rng):
    values = noisy(rng, rows=2, steps=12)
    values[1] = np.nan
    loss, parts = feasible.projection_loss(trajectory(values), VEHICLE, PHYSICAL, backend="osqp", components=True)
    assert loss[0] > 0
    assert loss[1] == 0
    assert parts["status"][1] == feasible.Status.REJECTED


@pytest.mark.parametrize("library", ["numpy", "jax", "torch"])
def test_decoded_controls_keep_their_bounds_whatever_the_network_says(rng, library):
    bounds = (
        *PHYSICAL,
        Limit("curvature_rate", signals.curvature_rate, -0.16, None),
        Limit("j", signals.jerk, None, 20.0),
    )
    raw = 1e3 * rng.normal(size=(3, 12, 2))
    make = {"numpy": np.asarray, "jax": jnp.asarray, "torch": lambda a: pytest.importorskip("torch").tensor(a)}[library]
    with jax.enable_x64(True):
        trajectory, motion = feasible.decode(make(raw), make(np.array([0, 0, 0, 9.0, 0, 0])), VEHICLE, bounds, dt=0.1)
    jerk, rate = np.asarray(motion.jerk), np.asarray(motion.curvature_rate)
    assert -50 <= jerk.min() < -49
    assert 19 < jerk.max() <= 20
    assert -0.16 <= rate.min() < -0.15
    assert np.isfinite(np.asarray(trajectory.to_array())).all()
    gentle = random_controls(rng, 12, jerk=0.1)
    _, motion = feasible.decode(gentle, np.array([0, 0, 0, 9.0, 0, 0]), VEHICLE, PHYSICAL, dt=0.1)
    np.testing.assert_allclose(motion.jerk, gentle[:, 0], rtol=1e-4)


def test_decode_has_gradients_in_jax(rng):
    start = jnp.array([0, 0, 0, 9.0, 0, 0])

    def reach(u):
        return feasible.decode(u, start, VEHICLE, PHYSICAL, dt=0.1)[0].x[-1]

    gradient = jax.grad(reach)(jnp.zeros((12, 2)))
    assert np.isfinite(gradient).all()
    assert np.all(gradient[:-1, 0] > 0)


def test_encode_gives_the_controls_of_the_projection(rng):
    values = noisy(rng, rows=2, steps=20)
    options = {"sample_weight": np.linspace(0.2, 5.0, 20), "backend": "osqp"}
    encode = functools.partial(feasible.encode, trajectory(values), VEHICLE, PHYSICAL, **options)
    actions = encode()
    projected = feasible.project(trajectory(values), VEHICLE, PHYSICAL, **options).trajectory
    decode = functools.partial(feasible.decode, vehicle=VEHICLE, limits=PHYSICAL, dt=0.1)
    again, _ = decode(actions.controls, actions.initial_state, squash=False)
    np.testing.assert_allclose(again.to_array(), projected.to_array(), atol=1e-3)
    raw = encode(squash=True)
    again, _ = decode(raw.controls, raw.initial_state)
    np.testing.assert_allclose(again.to_array(), projected.to_array(), atol=1e-2)


def test_motion_fields_of_a_long_rollout_are_those_of_its_steps(rng):
    state, controls, _ = random_drive(rng, steps=60)
    states = [state]
    for u in controls:
        states.append(VEHICLE.step(states[-1], u, 0.1))
    np.testing.assert_allclose(VEHICLE.rollout(state, controls, 0.1), states, atol=1e-9)
