"""The implicit derivative of the projection against central differences of the projection itself.

Differences need a projection to many more digits than anybody else does, so each one starts from the solution and its
prices, and is converged to rounding (`resolve`).
"""

import dataclasses

import numpy as np
import pytest
from test_reference import local_problem

import feasible
from feasible import Trajectory, presets, project_vjp
from feasible._ladder import _start
from feasible.solvers._riccati_arrays import apart, prices, unpack
from feasible.solvers._riccati_central import Aim
from feasible.solvers._riccati_vjp import WHOLE, arguments, pull_back
from feasible.solvers.riccati import Riccati

VEHICLE, LIMITS = feasible.vehicles.nuplan_pacifica(), presets.physical()
SHARP = Aim(iterations=300, change=1e-5, gain=1e-13, defect=1e-10)  # below 1e-13 of the objective is rounding
ROWS = 32
WIDTHS = (1e-4, 1e-5, 1e-6)  # rounding wants a large one, and limits that bind and let go a small one


def resolve(problem, states, controls, multipliers, aim=SHARP):
    known = np.isfinite(problem.initial_state)
    states = states.copy()
    states[:, 0] = np.where(known, problem.initial_state, states[:, 0])
    kernel, engine = Riccati().compiled(problem, False, WHOLE)
    none = np.zeros_like(states), np.zeros_like(controls)
    point = apart(engine(arguments(kernel, problem, states, controls, multipliers, aim, *none)).point)
    return *unpack(kernel, point), prices(kernel, point.it.inner.z, point.it.entry.z), np.asarray(point.solved) > 0


@pytest.fixture(scope="module")
def values():
    with np.load(feasible.__path__[0] + "/data/sample.npz") as file:
        return file["pred"][: 8 * ROWS : 8].astype(float)


@pytest.fixture(scope="module")
def solved(values):
    """A problem, half of whose rows have a given pose and speed, its solution, cotangents and what they pull back."""
    problem = local_problem(values, "physical")
    start = _start(problem, 0.02)
    initial = problem.initial_state.copy()
    initial[::2, :4] = start[::2, 0, :4]
    problem = dataclasses.replace(problem, initial_state=initial)
    found = Riccati().solve(problem, start, np.zeros((ROWS, 60, 2)))
    *solution, done = resolve(problem, found.states, found.controls, found.multipliers)
    assert done.all()
    rng = np.random.default_rng(0)
    against = rng.normal(size=solution[0].shape), 0.1 * rng.normal(size=solution[1].shape)
    return problem, solution, against, pull_back(problem, *solution, *against, vehicle=True)


@pytest.mark.parametrize("engine", ["lanes", "xla"])
def test_a_row_alone_and_on_either_engine(solved, engine):
    """What a program of JAX pulls back, what one for vector registers does, and what does for one row of it alone."""
    if engine == "lanes":
        pytest.importorskip("llvmlite", reason="the lanes engine needs llvmlite")
    problem, solution, against, found = solved
    rows = slice(None) if engine == "xla" else slice(3, 4)
    backend = Riccati(engine=engine, width=None if engine == "xla" else 1)
    other = pull_back(problem.select(rows), *(a[rows] for a in (*solution, *against)), vehicle=True, backend=backend)
    for field in dataclasses.fields(found):
        mine, theirs = getattr(found, field.name), getattr(other, field.name)
        for name in mine if isinstance(mine, dict) else [None]:
            a, b = (mine, theirs) if name is None else (mine[name], theirs[name])
            np.testing.assert_allclose(b, a[rows], rtol=1e-5, atol=1e-6 * max(1.0, np.abs(a).max()))


def agrees(solved, mine, change, *, share=0.9, widths=WIDTHS, floor=1e-2):
    _, solution, against, found = solved
    assert found.solved.all()

    def value(problem):
        states, controls, _, done = resolve(problem, *solution)
        assert done.all()
        return (states * against[0]).sum((1, 2)) + (controls * against[1]).sum((1, 2))

    references = np.stack([(value(change(h)) - value(change(-h))) / (2 * h) for h in widths])
    error = (np.abs(mine - references) / np.maximum(np.abs(references), floor)).min(0)
    # The others have a limit that is about to bind or to let go, where the derivative has a kink.
    assert (error <= 1e-4).mean() >= share, error
    assert (error <= 1e-2).all(), error


def test_by_the_target(solved):
    problem, found = solved[0], solved[3]
    direction = np.random.default_rng(1).normal(size=problem.target.shape) * (problem.weight > 0)
    change = lambda h: dataclasses.replace(problem, target=problem.target + h * direction)  # noqa: E731
    agrees(solved, (found.target * direction).sum((1, 2)), change)


def test_smoothed_by_the_target_at_weakly_active_limits_too(solved):
    problem, solution, against, _ = solved
    aim = SHARP._replace(mu=1e-6)
    found = pull_back(problem, *solution, *against, smoothing=1e-6)
    direction = np.random.default_rng(1).normal(size=problem.target.shape) * (problem.weight > 0)

    def value(width):
        moved = dataclasses.replace(problem, target=problem.target + width * direction)
        states, controls, _, done = resolve(moved, *solution, aim)
        return np.where(done, (states * against[0]).sum((1, 2)) + (controls * against[1]).sum((1, 2)), np.nan)

    references = np.stack([(value(h) - value(-h)) / (2 * h) for h in WIDTHS])
    mine = (found.target * direction).sum((1, 2))
    error = (np.abs(mine - references) / np.maximum(np.abs(references), 1e-2)).min(0)
    known = found.solved & np.isfinite(error)  # a few are not solved to rounding, from so far away
    assert known.mean() >= 0.85
    assert (error[known] <= 1e-4).all(), error


def test_by_the_initial_state(solved):
    problem, found = solved[0], solved[3]
    direction = np.random.default_rng(2).normal(size=problem.initial_state.shape) * [1.0, 1.0, 0.1, 1.0, 1.0, 0.1]
    change = lambda h: dataclasses.replace(problem, initial_state=problem.initial_state + h * direction)  # noqa: E731
    agrees(solved, (found.initial_state * direction).sum(1), change)
    assert not found.initial_state[1::2].any()
    assert np.abs(found.initial_state[::2, :4]).max(0).min() > 0


def test_by_the_weights(solved):
    problem, found = solved[0], solved[3]
    direction = np.random.default_rng(3).uniform(size=problem.weight.shape) * (problem.weight > 0)
    change = lambda h: dataclasses.replace(problem, weight=problem.weight + h * direction)  # noqa: E731
    agrees(solved, (found.weight * direction).sum((1, 2)), change)


def test_by_a_bound(solved):
    problem, found = solved[0], solved[3]
    i = next(i for i, limit in enumerate(LIMITS) if limit.name == "friction_circle")

    def change(h):
        limits = list(problem.limits)
        limits[i] = dataclasses.replace(limits[i], upper=limits[i].upper + h)
        return dataclasses.replace(problem, limits=tuple(limits))

    agrees(solved, found.upper["friction_circle"], change, widths=(1e-4,))
    assert np.abs(found.upper["friction_circle"]).max() > 0


def test_by_the_vehicle(solved):
    problem, found = solved[0], solved[3]
    assert not found.vehicle["width"].any()

    def change(h):
        return dataclasses.replace(problem, vehicle=dataclasses.replace(VEHICLE, wheelbase=VEHICLE.wheelbase + h))

    agrees(solved, found.vehicle["wheelbase"], change, share=0.8, widths=(1e-3, 1e-4, 1e-5), floor=0.1)
    assert np.abs(found.vehicle["wheelbase"]).max() > 0


def turned(values, angle, shift):
    c, s = np.cos(angle), np.sin(angle)
    return values @ np.array([[c, s], [-s, c]]) + shift


def test_gradients_turn_with_the_world(values):
    """The public function: cotangents go into the rows' frames and come back."""
    by_samples = np.random.default_rng(4).normal(size=(ROWS, 60, 4))
    found = solve(values)[1](by_samples).trajectory[..., :2]
    shift = np.array([300.0, -200.0])
    by_turned = np.concatenate([turned(by_samples[..., :2], 2.0, 0.0), by_samples[..., 2:]], axis=-1)
    again = solve(turned(values, 2.0, shift))[1](by_turned).trajectory[..., :2]
    error = np.abs(again - turned(found, 2.0, 0.0)).max((1, 2)) / np.abs(found).max((1, 2))
    assert (error < 1e-4).mean() > 0.9


def solve(values, **options):
    return project_vjp(Trajectory.from_array(values, dt=0.1), VEHICLE, LIMITS, **options)


def test_a_feasible_trajectory_passes_gradients_through(values):
    positions = solve(values)[0].trajectory
    feasible_values = np.stack([positions.x, positions.y], axis=-1)
    result, pull = solve(feasible_values)
    smooth = np.broadcast_to(np.sin(np.linspace(0, 3, 60))[:, None] * [1.0, 0, 0, 0], (ROWS, 60, 4))
    assert np.isfinite(pull(smooth).trajectory).all()
    assert (result.displacement.max < 1e-2).all()


def test_rows_without_a_solution_have_no_gradient(values):
    positions = values[:3].copy()
    positions[1] = np.nan
    _, pull = solve(positions)
    found = pull(np.ones((3, 60, 4)))
    assert found.exact.tolist() == [True, False, True]
    assert not found.trajectory[1].any()
    assert found.trajectory[[0, 2]].any((1, 2)).all()


def test_smoothing_gives_a_finite_nearby_derivative(values):
    by_samples = np.random.default_rng(5).normal(size=(ROWS, 60, 4))
    _, pull = solve(values)
    sharp, smooth = pull(by_samples), pull(by_samples, smoothing=1e-7)
    both = sharp.exact & smooth.exact
    assert both.mean() > 0.9
    size = np.linalg.norm(sharp.trajectory, axis=(1, 2))
    change = np.linalg.norm(smooth.trajectory - sharp.trajectory, axis=(1, 2)) / size
    assert 0 < np.median(change[both]) < 0.5


def test_smoothed_far_from_the_solution_where_newtons_method_alone_does_not_arrive():
    with np.load(feasible.__path__[0] + "/data/sample.npz") as file:
        problem = local_problem(file["pred"][64:68].astype(float), "physical")
    backend, smoothing, rng = Riccati(), 1e-3, np.random.default_rng(6)
    at = backend.solve(problem, _start(problem, 0.02), np.zeros((4, 60, 2)))
    solution = at.states, at.controls, at.multipliers
    assert not resolve(problem, *solution, SHARP._replace(mu=smoothing))[-1].all()
    against = rng.normal(size=at.states.shape), 0.1 * rng.normal(size=at.controls.shape)
    found = pull_back(problem, *solution, *against, smoothing=smoothing)
    assert found.solved.all()

    smooth = dataclasses.replace(backend, attempts=tuple(o._replace(mu_end=smoothing) for o in backend.attempts))
    near = smooth.solve(problem, at.states, at.controls)
    direction = rng.normal(size=problem.target.shape) * (problem.weight > 0)

    def value(width):
        moved = dataclasses.replace(problem, target=problem.target + width * direction)
        aim = SHARP._replace(mu=smoothing)
        states, controls, _, done = resolve(moved, near.states, near.controls, near.multipliers, aim)
        assert done.all()
        return (states * against[0]).sum((1, 2)) + (controls * against[1]).sum((1, 2))

    slope = (value(1e-5) - value(-1e-5)) / 2e-5
    np.testing.assert_allclose((found.target * direction).sum((1, 2)), slope, rtol=1e-3)
