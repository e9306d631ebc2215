import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drives import random_drive

import feasible
from benchmarks.peers.problems import synthetic
from feasible import signals
from feasible._lift import lift
from feasible._limits import Limit
from feasible._problem import Problem, Weights, curvature, linearise
from feasible.solvers import _riccati_algebra as la
from feasible.solvers import _riccati_loop as loop
from feasible.solvers import osqp_, riccati
from feasible.solvers._riccati_kernel import Data, Iterate, Kernel
from feasible.solvers._riccati_rows import Barrier
from feasible.solvers._riccati_stage import Stage
from feasible.solvers._riccati_trial import enter
from feasible.solvers.riccati import Riccati
from feasible.vehicles import KinematicBicycle

STEPS, DT = 24, 0.1
VEHICLE = KinematicBicycle()
LIMITS = (
    Limit("acceleration", signals.acceleration, -4.0, 2.4),
    Limit("jerk", signals.jerk, -6.0, 6.0),
    Limit("lateral_acceleration", signals.lateral_acceleration, -3.0, 3.0),
)


def problem(rows=5, seed=0, initial=False):
    """Curves that are driven too fast and braked too late, with jitter."""
    rng = np.random.default_rng(seed)
    time = DT * np.arange(1, STEPS + 1)
    speed, curve = rng.uniform(6, 12, (rows, 1)), rng.uniform(-0.06, 0.06, (rows, 1))
    travelled = speed * time - rng.uniform(0, 2.5, (rows, 1)) * time**2 / 2
    target = np.zeros((rows, STEPS, 4))
    target[..., 0] = np.sin(curve * travelled) / curve + rng.normal(0, 0.05, (rows, STEPS))
    target[..., 1] = (1 - np.cos(curve * travelled)) / curve + rng.normal(0, 0.05, (rows, STEPS))
    weight = np.zeros_like(target)
    weight[..., :2] = 1.0
    state = np.full((rows, 6), np.nan)
    if initial:
        state[:, :4] = 0.0
        state[:, 3] = speed[:, 0]
    return Problem(VEHICLE, LIMITS, DT, target, weight, state, np.array(Weights().controls))


def start(p):
    states = lift(p.target, p.weight, p.initial_state, p.dt)
    return states, np.zeros((len(states), STEPS, 2))


def check(p, solution):
    assert solution.converged.all()
    assert np.abs(p.defect(solution.states, solution.controls)).max() <= 1e-5
    assert p.excess(solution.states, solution.controls).max() <= 2e-4


@pytest.fixture(scope="module")
def solved():
    p = problem()
    return p, riccati.solve(p, *start(p))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_agrees_with_sqp(solved):
    p, ours = solved
    check(p, ours)
    theirs = osqp_.solve(p, *start(p))
    np.testing.assert_allclose(
        p.objective(ours.states, ours.controls), p.objective(theirs.states, theirs.controls), rtol=1e-3, atol=1e-4
    )
    assert np.abs(ours.states - theirs.states)[..., :2].max() < 0.02


@pytest.mark.parametrize(
    "backend",
    [Riccati(engine="xla"), Riccati(dtype=np.float32), Riccati(width=4)],
    ids=["xla", "float32", "narrow"],
)
def test_engines_and_types_agree(solved, backend):
    p, ours = solved
    theirs = backend.solve(p, *start(p))
    assert theirs.converged.all()
    assert p.excess(theirs.states, theirs.controls).max() <= 1e-3
    np.testing.assert_allclose(theirs.states[..., :2], ours.states[..., :2], atol=2e-3)
    if backend.engine == "xla":
        np.testing.assert_allclose(theirs.multipliers, ours.multipliers, rtol=1e-3, atol=1e-4)


def test_float32_far_away_stops_at_what_it_can_tell_apart():
    """At 2 km neighbouring numbers are 0.12 mm apart, more than the defect that counts as none nearby."""
    p = problem()
    p = dataclasses.replace(p, target=p.target + np.array([2000.0, 0.0, 0.0, 0.0]))
    solution = Riccati(dtype=np.float32, attempts=riccati.ATTEMPTS[:1]).solve(p, *start(p))
    assert solution.converged.all()
    assert np.abs(p.defect(solution.states, solution.controls)).max() <= 5e-4
    assert p.excess(solution.states, solution.controls).max() <= 2e-4


def noisy(preset):
    """64 drives of 80 steps with 0.1 m of noise, and a start."""
    rng = np.random.default_rng(7)
    drives = np.stack([random_drive(rng, steps=80)[2].to_array()[:, :2] for _ in range(64)])
    drives -= drives[:, :1]
    target, weight = np.zeros((64, 80, 4)), np.zeros((64, 80, 4))
    target[..., :2], weight[..., :2] = drives + rng.normal(0, 0.1, drives.shape), 1.0
    limits = feasible.presets.get(preset)
    p = Problem(VEHICLE, limits, DT, target, weight, np.full((64, 6), np.nan), np.array(Weights().controls))
    return p, lift(p.target, p.weight, p.initial_state, p.dt), np.zeros((64, 80, 2))


def test_float32_converges_where_drives_are_long():
    """In the first attempt; at one barrier for all distances one of eighteen of these did not."""
    rows = synthetic(320, 128, "physical", 0)
    assert np.median(np.abs(rows.problem.target[..., :2]).max((1, 2))) > 300.0
    found = Riccati(dtype=np.float32).solve(rows.problem, rows.states, rows.controls, attempts=1)
    assert found.converged.mean() >= 0.96


@pytest.mark.parametrize("preset", ["physical", "nuplan_comfort"])
def test_float32_is_within_a_millimetre(preset):
    p, *first = noisy(preset)
    ours, exact = (Riccati(dtype=dtype).solve(p, *first) for dtype in (np.float32, np.float64))
    assert ours.converged.all()
    apart = np.abs(ours.states - exact.states)[..., :2].max((1, 2))
    # A barrier of 8e-8 in place of 1e-8 leaves half of the rows farther away under physical.
    assert np.quantile(apart, 0.9) <= 1e-3


@pytest.mark.parametrize(("dtype", "most"), [(np.float64, 22), (np.float32, 17)])
def test_curved_limits_take_few_iterations_in_the_first_attempt(dtype, most):
    p, *first = noisy("nuplan_comfort")
    found = Riccati(dtype=dtype).solve(p, *first, attempts=1)
    assert found.converged.mean() >= 0.95
    # Refusing steps by too strict a rule took 36 to 44, slacks that do not follow their rows down 21 in float32.
    assert found.iterations.mean() <= most


def test_multipliers_price_the_bounds_that_bind(solved):
    p, solution = solved
    lower, upper, scale = (b[:, None, None] for b in p.bounds())
    value = p.signals(solution.states[:, :-1], solution.controls)
    price = np.moveaxis(solution.multipliers, -1, 0)
    assert (price.max((1, 2)) > 1e-3).any()
    assert np.all(np.minimum(np.abs(upper - value), np.abs(value - lower))[np.abs(price) > 1e-3] / scale.max() < 1e-3)
    assert np.all(np.abs((value - upper) / scale)[price > 1e-3] < 1e-3)
    assert np.all(np.abs((value - lower) / scale)[price < -1e-3] < 1e-3)


@pytest.mark.parametrize("rows", [[3], [4, 0], [1, 3, 0] * 12])
def test_a_row_does_not_depend_on_its_batch(solved, rows):
    p, solution = solved
    states, controls = start(p)
    part = riccati.solve(p.select(rows), states[rows], controls[rows])
    np.testing.assert_allclose(part.states, solution.states[rows], atol=1e-5)


def test_a_nan_row_leaves_the_others_as_they_are(solved):
    p, solution = solved
    states, controls = start(p)
    target = p.target.copy()
    target[2, 4, 0] = np.nan
    states[2] = np.nan
    broken = riccati.solve(dataclasses.replace(p, target=target), states, controls)
    others = [0, 1, 3, 4]
    np.testing.assert_allclose(broken.states[others], solution.states[others], atol=1e-5)
    assert not broken.converged[2]
    assert broken.converged[others].all()


def test_given_components_of_the_initial_state_are_kept():
    p = problem(initial=True)
    solution = riccati.solve(p, *start(p))
    check(p, solution)
    np.testing.assert_array_equal(solution.states[:, 0, :4], p.initial_state[:, :4])


def test_elastic_rows_give_way_to_a_contradictory_start():
    p = problem(rows=2, initial=True)
    p.initial_state[:, 4] = -7.0, 4.0  # outside the acceleration limit
    states, controls = start(p)
    assert not riccati.solve(p, states, controls).converged.any()
    ours = riccati.solve(p, states, controls, elastic=True)
    theirs = osqp_.solve(p, states, controls, elastic=True)
    assert ours.converged.all()
    np.testing.assert_array_equal(ours.states[:, 0, 4], p.initial_state[:, 4])
    assert np.abs(p.defect(ours.states, ours.controls)).max() <= 1e-5
    excess = [p.excess(s.states, s.controls).sum((0, -1)) for s in (ours, theirs)]
    np.testing.assert_allclose(excess[0], excess[1], rtol=2e-3)
    jerk = [r for r, row in enumerate(p.rows) if p.limits[row.limit].name == "jerk"]
    assert p.excess(ours.states, ours.controls)[jerk].max() <= 2e-4


def test_the_users_precision_is_untouched(solved):
    assert not jax.config.jax_enable_x64


def as_iterate(kernel, states, controls):
    typical = np.asarray(kernel.stage.typical)
    x, u = states / typical[:6], controls / typical[6:]
    empty = Barrier([], [], [], [])
    return Iterate(
        [jnp.asarray(x[:1, i]) for i in range(6)],
        [jnp.asarray(x[1:, i : i + 1]) for i in range(6)],
        [jnp.asarray(u[:, i : i + 1]) for i in range(2)],
        empty,
        empty,
    )


def as_data(p):
    columns = ([jnp.asarray(a[0, :, i : i + 1]) for i in range(4)] for a in (p.target, p.weight))
    free = [jnp.asarray(np.isnan(p.initial_state[:, i]).astype(float)) for i in range(6)]
    effort = [jnp.full(1, r * t * t) for r, t in zip(p.effort, p.vehicle.TYPICAL[6:], strict=True)]
    return Data(*columns, free, effort, jnp.full(1, float(STEPS)))


def dense(matrix):
    return np.array([[0.0 if e is None else np.asarray(e).reshape(-1)[0] for e in row] for row in matrix])


def test_derivatives_of_a_stage_agree_with_central_differences(x64):
    p = problem(rows=1).select(0)
    stage = Stage(p)
    typical = np.asarray(stage.typical)
    state, control = np.array([1.0, 2.0, 0.3, 8.0, -1.0, 0.02]), np.array([2.0, -0.03])
    states, controls = np.tile(state, (STEPS + 1, 1)), np.tile(control, (STEPS, 1))
    lin = linearise(p, states, controls)
    z = [jnp.asarray([v]) for v in np.concatenate([state, control]) / typical]
    _, jacobian = stage.flows[1.0].first(z)
    expected = np.concatenate([lin.A[0], lin.B[0]], axis=1) * typical / typical[:6, None]
    np.testing.assert_allclose(dense(jacobian), expected, atol=1e-7)
    for fraction, group in stage.signals.items():
        at, move = stage.flows[fraction].first(z)
        value, gradient = group.first([*at, *z[6:]])
        chain = np.concatenate([dense(move), np.eye(8)[6:]])
        np.testing.assert_allclose(dense([value])[0], lin.value[0, list(group.rows)], atol=1e-9)
        np.testing.assert_allclose(dense(gradient) @ chain, lin.G[0, list(group.rows)] * typical, atol=1e-7)
    costate = np.arange(1.0, 7.0)
    second = curvature(p, states, controls, np.tile(costate, (STEPS, 1)), np.zeros((STEPS, len(p.rows))))[0]
    ours = dense(stage.flows[1.0].second(z, [jnp.asarray([c]) for c in costate * typical[:6]]))
    np.testing.assert_allclose(ours, second * typical * typical[:, None], atol=1e-4)


def test_structure_is_read_off_the_program():
    stage = Stage(problem(rows=1).select(0))
    assert stage.flows[1.0].first([jnp.ones(1)] * 8)[1][5] == [
        None,
        None,
        None,
        None,
        None,
        1.0,
        None,
        pytest.approx(1.0),
    ]
    assert stage.flows[0.5].second([jnp.ones(1)] * 8, [None] * 6) is None  # speed, acceleration, curvature are affine


def test_riccati_step_solves_the_dense_kkt_system(x64):
    """Gauss-Newton part by hand: with a straight, unpriced barrier-free problem the step minimises a known QP."""
    limits = (Limit("acceleration", signals.acceleration, -1e6, 1e6),)  # far away: W and y vanish
    p = dataclasses.replace(problem(rows=1), limits=limits, effort=np.array([0.1, 0.2]))
    kernel = Kernel(Stage(p.select(0)), None)
    rng = np.random.default_rng(1)
    states, controls = start(p)[0][0], rng.normal(size=(STEPS, 2)) * [0.5, 0.01]
    one = jnp.ones(1)
    make = loop.fresh(kernel, 1e-12 * one, 0.3 * one)
    _, it = enter(kernel, as_iterate(kernel, states, controls), as_data(p), make)
    gains, dx0, _, pivot = kernel.backward(it, as_data(p), 1e-12 * one, 10.0 * one)
    step, _ = kernel.forward(it, as_data(p), gains, dx0, 1e-12 * one)

    row, typical = p.select(0), np.asarray(kernel.stage.typical)
    lin = linearise(row, states, controls)
    costate = np.zeros((STEPS, 6))
    residual = np.zeros((STEPS, 6))
    residual[:, :4] = row.weight * row.residual(states)
    costate[-1] = residual[-1]
    for k in range(STEPS - 1, 0, -1):
        costate[k - 1] = residual[k - 1] + lin.A[k].T @ costate[k]
    second = curvature(row, states, controls, costate, np.zeros((STEPS, len(row.rows))))
    width = 8 * STEPS + 6
    H, q = np.zeros((width, width)), np.zeros(width)
    C, d = np.zeros((6 * STEPS, width)), np.zeros(6 * STEPS)
    for k in range(STEPS):
        here, after = slice(8 * k, 8 * k + 8), slice(8 * k + 8, 8 * k + 14)
        H[here, here] += second[k] + np.diag([10.0] * 6 + list(p.effort + 10.0))
        q[8 * k + 6 : 8 * k + 8] += p.effort * controls[k]
        H[after, after] += np.diag([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
        q[after] += residual[k]
        C[6 * k : 6 * k + 6, here] = np.concatenate([lin.A[k], lin.B[k]], axis=1)
        C[6 * k : 6 * k + 6, after] = -np.eye(6)
        d[6 * k : 6 * k + 6] = -lin.defect[k]
    H[:6, :6] += 10.0 * np.eye(6)  # the free first state is regularised once more
    kkt = np.block([[H, C.T], [C, np.zeros((len(C), len(C)))]])
    z = np.linalg.solve(kkt, np.concatenate([-q, d]))[:width]
    assert pivot > 0
    np.testing.assert_allclose(dense([step.x0])[0] * typical[:6], z[:6], rtol=1e-4, atol=1e-6)
    ours = np.stack([np.asarray(a)[:, 0] for a in step.x], axis=-1) * typical[:6]
    theirs = np.stack([z[8 * k : 8 * k + 6] for k in range(1, STEPS + 1)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_factor_solves_and_reports_negative_curvature(x64):
    rng = np.random.default_rng(2)
    root = rng.normal(size=(4, 4))
    a, b = root @ root.T + np.eye(4), rng.normal(size=4)
    entries = [[jnp.asarray([v]) for v in row] for row in a]
    low, inverse, pivot = la.factor(entries, 1e-9)
    x = la.solve(low, inverse, [jnp.asarray([v]) for v in b])
    np.testing.assert_allclose(dense([x])[0], np.linalg.solve(a, b), rtol=1e-10)
    assert pivot > 0
    assert la.factor([[-e for e in row] for row in entries], 1e-9)[2] < 0


def test_a_batch_through_project_agrees_with_osqp():
    """The whole ladder on raw predictions; a second, smaller batch reuses the program."""
    with np.load(feasible.__path__[0] + "/data/sample.npz") as file:
        values = file["pred"][::16].astype(float)
    trajectory = feasible.Trajectory.from_array(values, dt=0.1)
    vehicle, limits = feasible.vehicles.nuplan_pacifica(), feasible.presets.physical()
    mine = feasible.project(trajectory, vehicle, limits)
    other = feasible.project(trajectory, vehicle, limits, backend="osqp")
    assert (mine.status <= feasible.Status.PROJECTED).all()
    np.testing.assert_allclose(mine.objective, other.objective, rtol=1e-3, atol=1e-4)
    few = feasible.project(trajectory[3:5], vehicle, limits)
    np.testing.assert_allclose(few.states[..., :2], mine.states[3:5, :, :2], atol=1e-5)
