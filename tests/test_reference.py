"""Backends against each other, and against IPOPT on the same nonlinear problem."""

import numpy as np
import pytest
from ipopt_reference import NUPLAN_BOUNDS, Reference, physical_bounds

import feasible
from benchmarks.real_data import spread
from feasible import Status, Trajectory, presets, project
from feasible._frame import initial_states, localise
from feasible._ladder import _start
from feasible._problem import Weights, curvature, linearise
from feasible.solvers import osqp_
from feasible.solvers._sqp import solve_row
from feasible.solvers._stage_qp import StageQP
from feasible.solvers.cvxpy_ import Cvxpy

VEHICLE = feasible.vehicles.nuplan_pacifica()
FILES = (
    "av2_nohren_main",
    "av2_nohren_noaccel",
    "tk_lstm_on_apollo_garage_log",
    "tk_lstm_on_comma2k19_seg40",
    "tk_lstm_on_commonroad_ngsim_obstacles",
    "walenet_on_ngsim",
)
ROWS = 4  # of each file here; benchmarks/agreement.py measures 50 and 100


def local_problem(values, preset):
    """The rows as the solvers see them: in frames of their own."""
    trajectory = Trajectory.from_array(values, dt=0.1)
    start = initial_states(None, trajectory.batch_shape, 6)
    return localise(trajectory, VEHICLE, presets.get(preset), start, Weights())[1]


def reference(preset, steps):
    bounds = (
        NUPLAN_BOUNDS
        if preset == "nuplan_comfort"
        else physical_bounds(VEHICLE.max_steering_angle, VEHICLE.max_steering_rate)
    )
    return Reference(steps, 0.1, bounds, wheelbase=VEHICLE.wheelbase, efforts=Weights().controls)


@pytest.fixture(scope="module")
def sample():
    with np.load(feasible.__path__[0] + "/data/sample.npz") as file:
        return file["pred"].astype(float)


def test_ipopt_states_the_same_problem(sample):
    problem = local_problem(sample[:1], "nuplan_comfort").select(0)
    states = _start(problem, 0.02)
    controls = np.zeros((60, 2))
    objective, states, controls, ok = reference("nuplan_comfort", 60).solve(problem.target, states, controls)
    assert ok
    assert problem.objective(states, controls) == pytest.approx(objective, rel=1e-9)
    assert np.abs(problem.defect(states, controls)).max() < 1e-7
    assert problem.excess(states, controls).max() < 1e-6


@pytest.mark.parametrize("preset", ["physical", "nuplan_comfort"])
@pytest.mark.parametrize("name", FILES)
def test_as_good_as_ipopt(real_sets, name, preset):
    values = real_sets[name][0]
    values = values[spread(len(values), ROWS)]
    problem = local_problem(values, preset)
    judge = reference(preset, values.shape[1])
    result = project(Trajectory.from_array(values, dt=0.1), VEHICLE, presets.get(preset))
    assert (result.status <= Status.PROJECTED).all()
    for i in range(len(values)):
        row = problem.select(i)
        best, _, _, ok = judge.solve(row.target, _start(row, 0.02), np.zeros((values.shape[1], 2)))
        if ok:
            assert result.objective[i] <= 1.001 * best + 1e-6


@pytest.mark.parametrize("preset", ["physical", "nuplan_comfort"])
@pytest.mark.parametrize("name", FILES)
def test_osqp_and_cvxpy_agree(real_sets, name, preset):
    values = real_sets[name][0]
    trajectory = Trajectory.from_array(values[spread(len(values), ROWS)], dt=0.1)
    a, b = (project(trajectory, VEHICLE, presets.get(preset), backend=backend) for backend in ("osqp", "cvxpy"))
    np.testing.assert_allclose(a.objective, b.objective, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(a.states[..., :2], b.states[..., :2], atol=5e-3)


def test_cvxpy_takes_terms_of_the_user(sample):
    import cvxpy as cp

    limit = 3.0

    def slow_at_the_end(problem, states, controls):
        return 1e-3 * cp.sum_squares(controls[1:, 0] - controls[:-1, 0]), [states[-1, 3] <= limit]

    trajectory = Trajectory.from_array(sample[0], dt=0.1)
    plain = project(trajectory, VEHICLE, presets.nuplan_comfort())
    mine = project(trajectory, VEHICLE, presets.nuplan_comfort(), backend=Cvxpy(extra=slow_at_the_end))
    assert plain.motion.speed[-1] > limit + 0.5
    assert mine.motion.speed[-1] <= limit + 1e-3
    assert mine.violation <= 1e-2


def test_central_differences_match_autodiff(sample):
    import jax

    problem = local_problem(sample[:1], "nuplan_comfort").select(0)
    states, controls = _start(problem, 0.02), np.random.default_rng(0).normal(size=(60, 2)) * [3, 0.05]
    controls[:, 0] += np.sign(controls[:, 0])  # away from the kink of the jerk's magnitude at 0
    lin = linearise(problem, states, controls)
    rng = np.random.default_rng(1)
    costate, price = rng.normal(size=(60, 6)), rng.normal(size=(60, len(problem.rows)))
    second = curvature(problem, states, controls, costate, price)
    scale = problem.bounds()[2]
    with jax.enable_x64(True):
        import jax.numpy as jnp

        def step(z):
            return VEHICLE.step(z[:6], z[6:], 0.1)

        def rows(z):
            out = []
            for row in problem.rows:
                at = VEHICLE.step(z[:6], z[6:], row.fraction * 0.1) if row.fraction else z[:6]
                out.append(problem.limits[row.limit].signal(VEHICLE.motion_of(at, z[6:]), VEHICLE))
            return jnp.stack(out) / scale

        z = jnp.asarray(np.concatenate([states[:-1], controls], axis=1))
        A = np.asarray(jax.vmap(jax.jacobian(step))(z))
        G = np.asarray(jax.vmap(jax.jacobian(rows))(z))
        H = np.asarray(jax.vmap(jax.hessian(lambda z, c, p: c @ step(z) + p @ rows(z)))(z, costate, price))
    np.testing.assert_allclose(np.concatenate([lin.A, lin.B], axis=-1), A, atol=1e-7)
    np.testing.assert_allclose(lin.G, G, atol=1e-6)
    np.testing.assert_allclose(second, H, atol=2e-3 * np.abs(H).max())


def test_the_subproblem_satisfies_its_optimality_conditions(sample):
    problem = local_problem(sample[:1], "nuplan_comfort").select(0)
    stage = StageQP(problem)
    states, controls = _start(problem, 2.0), np.zeros((60, 2))
    lin = linearise(problem, states, controls)
    at = lin, states, controls, stage.blocks()
    for qp in (stage.sparse(*at), stage.condensed(*at, np.zeros((60, stage.R)))):
        result = osqp_.interior_point(qp)
        assert result.solved
        P = qp.P + qp.P.T
        P.setdiag(P.diagonal() / 2)
        np.testing.assert_allclose(P @ result.z + qp.q + qp.A.T @ result.y, 0, atol=1e-5)
        value = qp.A @ result.z
        assert (value <= qp.u + 1e-6).all()
        assert (value >= qp.l - 1e-6).all()


def test_sparse_and_condensed_subproblems_have_one_solution(sample):
    problem = local_problem(sample[3:4], "nuplan_comfort").select(0)
    stage = StageQP(problem)
    states, controls = _start(problem, 2.0), np.zeros((60, 2))
    lin = linearise(problem, states, controls)
    at = lin, states, controls, stage.blocks()
    qps = [stage.sparse(*at), stage.condensed(*at, np.zeros((60, stage.R)))]
    found = [osqp_.interior_point(qp).z for qp in qps]
    P = qps[0].P + qps[0].P.T
    P.setdiag(P.diagonal() / 2)
    # What the samples cannot tell, such as the speed before the first, is only determined through tiny weights;
    # so the values of the objective must agree, and the positions at the samples.
    values = [0.5 * z @ (P @ z) + qps[0].q @ z for z in found]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    steps = [stage.split(z, np.zeros(len(qps[0].l)))[0] for z in found]
    np.testing.assert_allclose(steps[0][1:, :2], steps[1][1:, :2], atol=1e-3)


def test_a_row_alone_satisfies_its_own_first_order_conditions(sample):
    """The solution is stationary: no feasible direction of the linearised problem lowers the objective."""
    problem = local_problem(sample[:1], "nuplan_comfort").select(0)
    found = solve_row(problem, _start(problem, 0.02), np.zeros((60, 2)), osqp_.RowSolver())
    assert found.converged
    stage = StageQP(problem)
    lin = linearise(problem, found.states, found.controls)
    result = osqp_.interior_point(stage.sparse(lin, found.states, found.controls, stage.blocks()))
    step, _, _ = stage.split(result.z, result.y)
    assert np.abs(step[:, :2]).max() < 5e-3
