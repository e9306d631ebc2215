"""Differentiable peers on one linearised quadratic program: none of them projects onto nonlinear constraints.

    minimise 1/2 z'Pz + q'z  subject to  A z = b,  G z <= h;      loss c'z, its gradient with respect to q

The program is the first subproblem of a projection, in float64. `moreau` takes a batch of programs that differ in all
of their numbers; the others solve one at a time here, with nothing but q to be differentiated, which favours them.
The gradient is compared with that of the constraints that are active at the solution to 1e-13, which agrees with
central differences.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import clarabel
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg  # noqa: F401 - attribute of sp below

from benchmarks.peers.problems import Rows
from feasible._problem import linearise
from feasible.solvers._stage_qp import StageQP

PEERS = ("moreau", "cvxpylayers + diffcp", "qpax, condensed", "OSQP adjoint")


class Program:
    """The first subproblem of one row; the objective is made strictly convex by 1e-6, for a derivative to exist."""

    def __init__(self, rows: Rows, i: int) -> None:
        stage = StageQP(rows.problem.select(i))
        states, controls = rows.states[i], rows.controls[i]
        unit = np.asarray(stage.problem.vehicle.TYPICAL, dtype=float)
        scale = np.concatenate([np.tile(unit, stage.T), unit[: stage.S]])
        qp = stage.sparse(linearise(stage.problem, states, controls), states, controls, stage.blocks())
        equal = qp.l == qp.u
        above, below = np.isfinite(qp.u) & ~equal, np.isfinite(qp.l) & ~equal
        D = sp.diags(scale)
        full = qp.P + sp.triu(qp.P, k=1).T
        self.P = (D @ full @ D + 1e-6 * sp.eye(len(scale))).tocsr()
        self.q = scale * qp.q
        states_rows = 1.0 / np.tile(unit[: stage.S], stage.T)
        self.A, self.b = sp.diags(states_rows) @ qp.A[equal] @ D, states_rows * qp.u[equal]
        self.A = self.A.tocsr()
        self.G = (sp.vstack([qp.A[above], -qp.A[below]]) @ D).tocsr()
        self.h = np.concatenate([qp.u[above], -qp.l[below]])
        self.stage = stage
        self.c = np.zeros_like(self.q)
        self.c[: stage.T * stage.stride] = np.random.default_rng(i).normal(size=stage.T * stage.stride)
        self.c[np.arange(len(self.c)) % stage.stride >= 2] = 0.0  # a loss of positions
        self.c[: stage.stride] = 0.0  # at samples; the first state has none

    def exact(self) -> tuple[np.ndarray, np.ndarray]:
        """z, and the gradient of the loss with respect to q, from the constraints that are active in z."""
        settings = clarabel.DefaultSettings()
        settings.verbose, settings.max_iter = False, 500
        settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = 1e-13
        cones = [clarabel.ZeroConeT(len(self.b)), clarabel.NonnegativeConeT(len(self.h))]
        A, b = sp.vstack([self.A, self.G]).tocsc(), np.concatenate([self.b, self.h])
        solution = clarabel.DefaultSolver(sp.triu(self.P).tocsc(), self.q, A, b, cones, settings).solve()
        z = np.asarray(solution.x)
        active = np.asarray(solution.z)[len(self.b) :] > self.h - self.G @ z
        E = sp.vstack([self.A, self.G[active]])
        system = sp.bmat([[self.P, E.T], [E, None]]).tocsc()
        return z, -sp.linalg.spsolve(system, np.concatenate([self.c, np.zeros(E.shape[0])]))[: len(z)]

    def errors(self, z: np.ndarray, gradient: np.ndarray) -> dict[str, float]:
        """Largest distance of a coordinate [m], and relative error of the gradient by the samples' positions."""
        truth, slope = self.exact()
        at = self.c != 0.0
        far = np.abs(z - truth)[at].max() * max(self.stage.problem.vehicle.TYPICAL[:2])
        off = np.linalg.norm((gradient - slope)[at]) / np.linalg.norm(slope[at])
        return {"position_error": float(far), "gradient_error": float(off)}


def _moreau(programs: list[Program]) -> Callable[[], tuple[float, float, np.ndarray, np.ndarray]]:
    import moreau

    first, size = programs[0], len(programs)
    stacked = [sp.vstack([p.A, p.G]).tocsr() for p in programs]
    # Its default tolerance is 1e-8; at 1e-12 the gradient is the same to ten digits.
    settings = moreau.Settings(batch_size=size, enable_grad=True, device="cpu", solver="ipm")
    solver = moreau.CompiledSolver(
        n=len(first.q), m=stacked[0].shape[0], P_row_offsets=first.P.indptr, P_col_indices=first.P.indices,
        A_row_offsets=stacked[0].indptr, A_col_indices=stacked[0].indices, settings=settings,
        cones=moreau.Cones(num_zero_cones=len(first.b), num_nonneg_cones=len(first.h)),
    )  # fmt: skip
    P, A = np.stack([p.P.data for p in programs]), np.stack([a.data for a in stacked])
    q, b = np.stack([p.q for p in programs]), np.stack([np.concatenate([p.b, p.h]) for p in programs])
    c = np.stack([p.c for p in programs])

    def run() -> tuple[float, float, np.ndarray, np.ndarray]:
        began = time.perf_counter()
        solver.setup(P, A)
        x = np.asarray(solver.solve(q, b).x)
        middle = time.perf_counter()
        pulled = solver.backward(dx=c)
        return middle - began, time.perf_counter() - middle, x[0], np.asarray(pulled["dq"])[0]

    return run


def _osqp(programs: list[Program]) -> Callable[[], tuple[float, float, np.ndarray, np.ndarray]]:
    import osqp

    (p,) = programs
    solver = osqp.OSQP()
    A, low = sp.vstack([p.A, p.G]).tocsc(), np.concatenate([p.b, np.full(len(p.h), -np.inf)])
    solver.setup(
        sp.triu(p.P).tocsc(), p.q, A, low, np.concatenate([p.b, p.h]), verbose=False, eps_abs=1e-6, eps_rel=1e-6,
        max_iter=50000, warm_starting=False,
    )  # fmt: skip

    def run() -> tuple[float, float, np.ndarray, np.ndarray]:
        began = time.perf_counter()
        solver.update(q=p.q)
        x = np.asarray(solver.solve(raise_error=False).x)
        middle = time.perf_counter()
        solver.adjoint_derivative_compute(dx=p.c)
        gradient = np.asarray(solver.adjoint_derivative_get_vec()[0])
        return middle - began, time.perf_counter() - middle, x, gradient

    return run


def _qpax(programs: list[Program]) -> Callable[[], tuple[float, float, np.ndarray, np.ndarray]]:
    import jax
    import jax.numpy as jnp
    import qpax

    jax.config.update("jax_enable_x64", True)
    (p,) = programs
    stage = p.stage
    # Dense algebra: states are eliminated, z = offset + reach w with w the first state and all controls.
    free = np.zeros(len(p.q), dtype=bool)
    free[: stage.S] = True
    free[(np.arange(stage.T)[:, None] * stage.stride + stage.S + np.arange(stage.C)).ravel()] = True
    solve = sp.linalg.splu(p.A[:, ~free].tocsc()).solve
    reach, offset = np.zeros((len(p.q), int(free.sum()))), np.zeros(len(p.q))
    reach[free] = np.eye(int(free.sum()))
    reach[~free], offset[~free] = -solve(p.A[:, free].toarray()), solve(p.b)
    P, A, b = reach.T @ (p.P @ reach), np.zeros((0, int(free.sum()))), np.zeros(0)
    G, h = p.G @ reach, p.h - p.G @ offset
    P, A, b, G, h, M, o, c = (jnp.asarray(v) for v in (P, A, b, G, h, reach, offset, p.c))
    Po = jnp.asarray(p.P @ offset)

    def loss(q: Any) -> Any:
        w = qpax.solve_qp_primal(P, M.T @ (q + Po), A, b, G, h)
        z = o + M @ w
        return c @ z, z

    forward, both = jax.jit(loss), jax.jit(jax.value_and_grad(loss, has_aux=True))
    q = jnp.asarray(p.q)

    def run() -> tuple[float, float, np.ndarray, np.ndarray]:
        began = time.perf_counter()
        jax.block_until_ready(forward(q))
        middle = time.perf_counter()
        (_, z), gradient = jax.block_until_ready(both(q))
        end = time.perf_counter()
        return middle - began, max(end - middle - (middle - began), 0.0), np.asarray(z), np.asarray(gradient)

    return run


def _cvxpylayers(programs: list[Program]) -> Callable[[], tuple[float, float, np.ndarray, np.ndarray]]:
    import cvxpy as cp
    import torch
    from cvxpylayers.torch import CvxpyLayer

    (p,) = programs
    z, q = cp.Variable(len(p.q)), cp.Parameter(len(p.q))
    cost = 0.5 * cp.quad_form(z, cp.psd_wrap(p.P)) + q @ z
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cost), [p.A @ z == p.b, p.G @ z <= p.h]), [q], [z])
    value, c = torch.tensor(p.q, requires_grad=True), torch.tensor(p.c)

    def run() -> tuple[float, float, np.ndarray, np.ndarray]:
        value.grad = None
        began = time.perf_counter()
        (found,) = layer(value)
        middle = time.perf_counter()
        (found @ c).backward()
        return middle - began, time.perf_counter() - middle, found.detach().numpy(), value.grad.numpy()

    return run


_MAKERS: dict[str, Callable[[list[Program]], Any]] = {
    "moreau": _moreau,
    "cvxpylayers + diffcp": _cvxpylayers,
    "qpax, condensed": _qpax,
    "OSQP adjoint": _osqp,
}


def measure(name: str, rows: Rows, sizes: list[int], repeats: int) -> list[dict[str, Any]]:
    """Median seconds per batch, forward and backward; raises where the peer does not work."""
    out = []
    for size in sizes if name == "moreau" else [1]:
        programs = [Program(rows, i % len(rows)) for i in range(size)]
        began = time.perf_counter()
        run = _MAKERS[name](programs)
        run()
        setup = time.perf_counter() - began
        runs = [run() for _ in range(repeats)]
        _, _, z, gradient = runs[-1]
        out.append(
            {
                "batch": size,
                "forward": float(np.median([r[0] for r in runs])),
                "backward": float(np.median([r[1] for r in runs])),
                "setup": setup,
                **programs[0].errors(z, gradient),
            }
        )
    return out
