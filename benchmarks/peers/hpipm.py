"""HPIPM through its C interface, as a solver of SQP subproblems.

The wheel `comma-deps-acados` has the compiled library. It also has a reduced CasADi that would replace the one IPOPT
needs, so it goes into a folder of its own, which FEASIBLE_HPIPM names:

    pip install --no-deps --target build/hpipm comma-deps-acados
"""

from __future__ import annotations

import ctypes
import os
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.peers.sqp import Subproblem, same_structure
from feasible._problem import Problem
from feasible.solvers._stage_qp import StageQP

FOLDER = Path(__file__).resolve().parents[2] / "build" / "hpipm"
SPEED_ABS, BALANCE = 0, 2
TOLERANCE = 1e-6
_S, _C = 6, 2


def library() -> ctypes.CDLL:
    """The library; raises ImportError where it is not."""
    folder = Path(os.environ.get("FEASIBLE_HPIPM", FOLDER)) / "acados" / "install" / "lib"
    try:
        ctypes.CDLL(str(folder / "libblasfeo.so"))  # not global: PIQP has a BLASFEO of its own, whose symbols clash
        lib = ctypes.CDLL(str(folder / "libhpipm.so"))
    except OSError as error:
        raise ImportError(f"pip install --no-deps --target build/hpipm comma-deps-acados ({error})") from error
    for name in ("dim", "", "sol", "ipm_arg", "ipm_ws"):
        stem = f"d_ocp_qp_{name}_" if name else "d_ocp_qp_"
        for end in ("strsize", "memsize"):
            getattr(lib, stem + end).restype = ctypes.c_size_t
    return lib


def version() -> str | None:
    """Of the wheel, or None."""
    place = os.environ.get("FEASIBLE_HPIPM", str(FOLDER))
    return next((found.version for found in metadata.distributions(name="comma-deps-acados", path=[place])), None)


class Hpipm:
    """HPIPM in its fastest mode, started from the last multipliers, `balance` where that fails.

    Args:
        fixed: the first state is given, and every start has it: it is no variable then, as after the elimination that
            acados does. Rows that read it alone are left out, because no control moves them.
    """

    def __init__(self, *, fixed: bool = False) -> None:
        self._lib = library()
        self._fixed = fixed
        self._kept: list[np.ndarray] = []  # memory that the library points into
        self._stage: StageQP | None = None

    def reset(self) -> None:
        """Forgets the last row, and any NaN that it left in the library's memory."""
        if self._stage is not None:
            self._allocate()

    def stage(self, problem: Problem) -> StageQP:
        """The structure, found once per horizon."""
        if self._stage is None or not same_structure(self._stage, problem):
            self._stage = StageQP(problem)
            self._buffers()
            self._allocate()
        self._stage.problem = problem
        return self._stage

    def _buffers(self) -> None:
        """Arrays that the library reads and writes, a row of pointers to the stages of each."""
        stage = self._stage
        assert stage is not None
        T, R = stage.T, stage.R
        self.inner = stage.row_mask[-1]
        self.first = self.inner if self._fixed else stage.row_mask[0]
        shapes = {
            "A": (T, _S, _S), "B": (T, _S, _C), "b": (T, _S), "Q": (T + 1, _S, _S), "S": (T + 1, _C, _S),
            "R": (T + 1, _C, _C), "q": (T + 1, _S), "r": (T + 1, _C), "C": (T + 1, R, _S), "D": (T + 1, R, _C),
            "lg": (T + 1, R), "ug": (T + 1, R), "x": (T + 1, _S), "u": (T + 1, _C),
            "low": (T + 1, R), "high": (T + 1, R), "pi": (T, _S), "none": (T + 1, 1),
        }  # fmt: skip
        self.arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
        self._pointers = {
            name: (ctypes.c_void_p * len(a))(*[a.ctypes.data + k * a.strides[0] for k in range(len(a))])
            for name, a in self.arrays.items()
        }

    def _memory(self, size: int) -> ctypes.c_void_p:
        raw = np.zeros(size + 64, dtype=np.uint8)
        self._kept.append(raw)
        return ctypes.c_void_p(raw.ctypes.data + -raw.ctypes.data % 64)

    def _make(self, name: str, *given: object) -> ctypes.c_void_p:
        stem = f"d_ocp_qp_{name}_" if name else "d_ocp_qp_"
        struct = self._memory(getattr(self._lib, stem + "strsize")())
        memory = self._memory(getattr(self._lib, stem + "memsize")(*given))
        getattr(self._lib, stem + "create")(*given, struct, memory)
        return struct

    def _allocate(self) -> None:
        stage, lib = self._stage, self._lib
        assert stage is not None
        self._kept.clear()
        T = stage.T
        self._dim = self._make("dim", ctypes.c_int(T))
        counts = np.full(T, self.inner.sum())
        counts[0] = self.first.sum()
        columns = [
            [0 if self._fixed else _S] + [_S] * T,
            [_C] * T + [0],
            [0] * (T + 1),
            [0] * (T + 1),
            [*counts.tolist(), 0],
        ]
        columns += [[0] * (T + 1)] * 3
        lib.d_ocp_qp_dim_set_all(*[(ctypes.c_int * (T + 1))(*c) for c in columns], self._dim)
        self._qp = self._make("", self._dim)
        lib.d_ocp_qp_set_all_zero(self._qp)
        self._sol = self._make("sol", self._dim)
        self._solvers = {}
        for mode in (SPEED_ABS, BALANCE):
            arg = self._make("ipm_arg", self._dim)
            lib.d_ocp_qp_ipm_arg_set_default(ctypes.c_int(mode), arg)
            for field in ("tol_stat", "tol_eq", "tol_ineq", "tol_comp"):
                getattr(lib, f"d_ocp_qp_ipm_arg_set_{field}")(ctypes.byref(ctypes.c_double(TOLERANCE)), arg)
            lib.d_ocp_qp_ipm_arg_set_iter_max(ctypes.byref(ctypes.c_int(100)), arg)
            self._solvers[mode] = arg, self._make("ipm_ws", self._dim, arg)
        self._masked = False
        self._known = False  # whether there are multipliers to start from

    def _masks(self) -> None:
        """One-sided rows have one side only; the mask is part of the problem, not of its values."""
        stage = self._stage
        assert stage is not None
        for k in range(stage.T):
            rows = self.first if k == 0 else self.inner
            for side, bound in (("lg", stage.lower), ("ug", stage.upper)):
                mask = np.isfinite(bound[rows]).astype(float)
                getattr(self._lib, f"d_ocp_qp_set_{side}_mask")(
                    ctypes.c_int(k), ctypes.c_void_p(mask.ctypes.data), self._qp
                )

    def __call__(self, sub: Subproblem) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool, float]:
        """Steps of states and controls, prices of the rows, whether it is solved, seconds inside the solver."""
        stage, lib, a = sub.stage, self._lib, self.arrays
        unit = np.asarray(stage.problem.vehicle.TYPICAL, dtype=float)  # jerk weighs 1e-8, a position 1
        x, u = unit[:_S], unit[_S:]
        a["A"][:], a["B"][:] = sub.lin.A / x[:, None] * x, sub.lin.B / x[:, None] * u
        a["b"][:] = sub.lin.defect / x
        blocks = sub.second * unit[:, None] * unit
        a["Q"][:-1], a["S"][:-1], a["R"][:-1] = blocks[:, :_S, :_S], blocks[:, _S:, :_S], blocks[:, _S:, _S:]
        a["Q"][-1] = np.diag(stage.last_weight() * x**2)
        slope, last = stage.gradient(sub.states, sub.controls)
        a["q"][:-1], a["r"][:-1], a["q"][-1] = slope[:, :_S] * x, slope[:, _S:] * u, last * x
        low, high, G = stage.lower - sub.lin.value, stage.upper - sub.lin.value, sub.lin.G * unit
        for k, rows in ((slice(0, 1), self.first), (slice(1, stage.T), self.inner)):
            n = int(rows.sum())
            a["C"].reshape(stage.T + 1, -1)[k, : n * _S] = G[k][:, rows, :_S].reshape(-1, n * _S)
            a["D"].reshape(stage.T + 1, -1)[k, : n * _C] = G[k][:, rows, _S:].reshape(-1, n * _C)
            a["lg"][k, :n] = np.maximum(low[k][:, rows], -1e6)
            a["ug"][k, :n] = np.minimum(high[k][:, rows], 1e6)
        p, none = self._pointers, self._pointers["none"]
        lib.d_ocp_qp_set_all_rowmaj(
            p["A"], p["B"], p["b"], p["Q"], p["S"], p["R"], p["q"], p["r"], none, none, none, none, none, none,
            p["C"], p["D"], p["lg"], p["ug"], none, none, none, none, none, none, none, self._qp,
        )  # fmt: skip
        if not self._masked:
            self._masks()
            self._masked = True
        seconds, status = 0.0, 1
        for mode, warm in ((SPEED_ABS, 2 if self._known else 0), (BALANCE, 0)):
            arg, ws = self._solvers[mode]
            lib.d_ocp_qp_ipm_arg_set_warm_start(ctypes.byref(ctypes.c_int(warm)), arg)
            began = time.perf_counter()
            lib.d_ocp_qp_ipm_solve(self._qp, self._sol, arg, ws)
            seconds += time.perf_counter() - began
            code = ctypes.c_int()
            lib.d_ocp_qp_ipm_get_status(ws, ctypes.byref(code))
            status = code.value
            if status == 0:
                break
        lib.d_ocp_qp_sol_get_all(
            self._sol, p["u"], p["x"], none, none, p["pi"], p["low"], p["high"], p["low"], p["high"], none, none
        )
        price = np.zeros((stage.T, stage.R))
        for k, rows in ((slice(0, 1), self.first), (slice(1, stage.T), self.inner)):
            n = int(rows.sum())
            price[k, rows] = a["high"][k, :n] - a["low"][k, :n]
        good = status == 0 and bool(np.isfinite(a["x"]).all())
        self._known = good
        if not good:
            self._allocate()
        return a["x"] * x, a["u"][:-1] * u, price, good, seconds
