"""One step of a `Problem` for the structured solver: dynamics, rows and their derivatives over a batch.

States and controls are lists of `(B,)` arrays in units of `vehicle.TYPICAL`, and rows in units of their scale, so
that everything the solver sees is of order one, in float32 too. Derivatives are JAX's, taken one input at a time so
that its symbolic zeros survive; which of them are zero or constant is read off the traced program once
(`Structured`), never found by sampling, which would miss a branch of a signal.

A row is a signal of a state inside the step, s(at_f(x, u), u), with at_f the flow to the fraction f. Keeping the two
apart keeps the second order small: signals read few components, and those are mostly affine in (x, u). What is bounded
may be something simpler that grows with a signal (`_restated`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from feasible._arrays import Array
from feasible._motion import Motion
from feasible._problem import Problem, Row
from feasible.solvers._components import Components, components
from feasible.solvers._curvature import hessian, jacobian, tangent
from feasible.solvers._restated import Restated, restated
from feasible.solvers._riccati_algebra import Matrix, Vector, from_triangle
from feasible.solvers._traced import Traced

Function = Callable[[list[Array]], list[Array]]


class Structured:
    """A function of scalars to scalars that returns None for what is always 0 and a float for what is constant."""

    def __init__(self, function: Function, inputs: int, dtype: Any):
        with jax.enable_x64(np.dtype(dtype).itemsize == 8):
            self._function = Traced(function, [jax.ShapeDtypeStruct((), dtype)] * inputs)
            fixed = self._function.fixed(inputs)
        self.pattern = [... if value is None else (value or None) for value in fixed]

    def __call__(self, inputs: list[Array]) -> Vector:
        run = jax.vmap(self._function) if jnp.ndim(inputs[0]) else self._function
        return [v if p is ... else p for p, v in zip(self.pattern, run(list(inputs)), strict=True)]

    @property
    def empty(self) -> bool:
        """Whether it is 0 throughout."""
        return all(p is None for p in self.pattern)


class Flow:
    """The state at a fraction of a step, over the state and control at its start.

    Args:
        stage: whose step it is.
        fraction: of the step.
        priced: components of the state that may have a costate.
    """

    def __init__(self, stage: Stage, fraction: float, priced: Sequence[int]):
        self._stage = stage
        size = stage.S + stage.C

        def move(z: list[Array]) -> list[Array]:
            x, u = stage.physical(z)
            if fraction == 0.0:
                return list(z[: stage.S])
            at = components(stage.vehicle.step(x, u, fraction * stage.dt))
            return [a / t for a, t in zip(at, stage.typical, strict=False)]

        self.value = Structured(move, size, stage.dtype)
        self._first = Structured(jacobian(move), size, stage.dtype)
        self._along = Structured(tangent(move, size), 2 * size, stage.dtype)
        self._priced = tuple(priced)
        self._second = Structured(
            hessian(lambda z, costate: sum(move(z)[i] * c for i, c in zip(self._priced, costate, strict=True)), size),
            size + len(self._priced),
            stage.dtype,
        )

    def first(self, z: list[Array]) -> tuple[Vector, Matrix]:
        """The state `(S)` and its Jacobian `(S, S + C)`."""
        return _split(self._first(z), self._stage.S, len(z))

    def varying(self, J: Matrix) -> Vector:
        """The entries of a Jacobian that are neither zero nor constant."""
        _, pattern = _split(self._first.pattern, self._stage.S, len(J[0]))
        return [e for row, kinds in zip(J, pattern, strict=True) for e, p in zip(row, kinds, strict=True) if p is ...]

    def whole(self, varying: Vector) -> Matrix:
        """The inverse of `varying`."""
        entries = iter(varying)
        _, pattern = _split(self._first.pattern, self._stage.S, self._stage.S + self._stage.C)
        return [[next(entries) if p is ... else p for p in row] for row in pattern]

    def constant_rows(self, states: Sequence[int]) -> np.ndarray | None:
        """Of some components where they are affine: `(components, 1 + S + C)` value at 0 and derivatives; else None."""
        size = self._stage.S + self._stage.C
        _, J = _split(self._first.pattern, self._stage.S, size)
        rows = [J[i] for i in states]
        if any(e is ... for row in rows for e in row):
            return None
        with jax.enable_x64(self._stage.dtype.itemsize == 8):
            at = self.value([jnp.zeros((), self._stage.dtype)] * size)
        return np.array([[float(at[i]), *(e or 0.0 for e in row)] for i, row in zip(states, rows, strict=True)])

    def along(self, z: list[Array], dz: list[Array]) -> tuple[Vector, Vector]:
        """The state `(S)` and its derivative along a direction."""
        return _halves(self._along([*z, *dz]))

    def second(self, z: list[Array], costate: Vector) -> Matrix | None:
        """Second derivatives `(S + C, S + C)` of costate · state; None where the flow is affine."""
        price = [jnp.zeros_like(z[0]) if costate[i] is None else costate[i] for i in self._priced]
        return None if self._second.empty else from_triangle(self._second([*z, *price]), len(z))


class Signals:
    """Some rows over a state inside a step and the control: what is bounded, over scales."""

    def __init__(self, stage: Stage, rows: Sequence[int]):
        self.rows, self._states = tuple(rows), stage.S
        self._size = size = stage.S + stage.C
        problem = stage.problem

        def read(z: list[Array]) -> list[Array]:
            motion = stage.vehicle.motion_of(*stage.physical(z))

            def one(r: int) -> Array:
                limit = problem.rows[r].limit
                if limit in stage.restated:
                    return stage.restated[limit].read(z)
                return stage.signal(r, motion)

            return [one(r) for r in self.rows]

        self.value = Structured(read, size, stage.dtype)
        self._first = Structured(jacobian(read), size, stage.dtype)
        self._along = Structured(tangent(read, size), 2 * size, stage.dtype)
        self._second = Structured(
            hessian(lambda z, price: sum(a * b for a, b in zip(read(z), price, strict=True)), size),
            size + len(self.rows),
            stage.dtype,
        )

    def first(self, z: list[Array]) -> tuple[Vector, Matrix]:
        """Values `(R,)` and gradients `(R, S + C)`."""
        return _split(self._first(z), len(self.rows), len(z))

    def along(self, z: list[Array], dz: list[Array]) -> tuple[Vector, Vector]:
        """Values `(R,)` and their derivatives along a direction."""
        return _halves(self._along([*z, *dz]))

    def constant_gradient(self, r: int) -> list[float] | None:
        """The gradient of a row that is affine in the state and reads no control, `(S,)`; else None."""
        _, gradients = _split(self._first.pattern, len(self.rows), self._size)
        row = gradients[self.rows.index(r)]
        if any(e is ... for e in row) or any(row[self._states :]):
            return None
        return [e or 0.0 for e in row[: self._states]]

    @property
    def bent(self) -> list[bool]:
        """Which rows are not affine in the state and the control."""
        _, gradients = _split(self._first.pattern, len(self.rows), self._size)
        return [any(e is ... for e in row) for row in gradients]

    @property
    def states_read(self) -> list[int]:
        """Components of the state that some row depends on."""
        _, gradients = _split(self._first.pattern, len(self.rows), self._size)
        return [i for i in range(self._states) if any(row[i] is not None for row in gradients)]

    def second(self, z: list[Array], price: Vector) -> Matrix:
        """Second derivatives `(S + C, S + C)` of price · values."""
        known = [jnp.zeros_like(z[0]) if p is None else p for p in price]
        return from_triangle(self._second([*z, *known]), len(z))


class Stage:
    """What the solver knows of a problem's steps.

    Attributes:
        typical: S + C sizes of states and controls.
        flows: for each fraction at which limits are read, and 1.
        signals: rows of every step, by fraction.
        entry: rows of the first state alone.
        restated: limits on signals over their scales, by number, where something simpler is bounded.
    """

    def __init__(self, problem: Problem, dtype: Any = np.float64):
        self.problem, self.vehicle, self.dt = problem, problem.vehicle, problem.dt
        self.dtype = np.dtype(dtype)
        self.S, self.C = len(self.vehicle.STATES), len(self.vehicle.CONTROLS)
        self.typical = tuple(float(t) for t in self.vehicle.TYPICAL)
        lower, upper, scale = problem.bounds()
        self.scale = [float(s) for s in scale]
        self.lower, self.upper = lower / scale, upper / scale
        self.restated = self._restated()
        by_fraction: dict[float, list[int]] = {}
        for r, row in enumerate(problem.rows):
            if not row.first_step_only:
                by_fraction.setdefault(row.fraction, []).append(r)
        self.signals = {f: Signals(self, rows) for f, rows in sorted(by_fraction.items())}
        ends = {f: Flow(self, f, range(self.S)) for f in (0.0, 1.0)}
        self.flows = {f: ends.get(f) or Flow(self, f, s.states_read) for f, s in self.signals.items()} | {
            1.0: ends[1.0]
        }
        for f in [f for f in self.signals if 0.0 < f < 1.0]:
            kept = [
                r
                for r in self.signals[f].rows
                if not self._implied(r, self.signals[f], (ends[0.0], self.flows[f], ends[1.0]))
            ]
            if not kept:
                del self.signals[f], self.flows[f]
            elif len(kept) < len(self.signals[f].rows):
                self.signals[f] = Signals(self, kept)
        self.entry = Signals(self, [r for r, row in enumerate(problem.rows) if row.first_step_only])

    def _restated(self) -> dict[int, Restated]:
        found = {}
        for i in range(len(self.problem.limits)):
            rows = [r for r, row in enumerate(self.problem.rows) if row.limit == i]
            r = rows[0]

            def signal(z: list[Array], r: int = r) -> Array:
                return self.signal(r, self.vehicle.motion_of(*self.physical(z)))

            one = restated(signal, len(self.typical), self.dtype, self.lower[r], self.upper[r])
            if one is not None:
                found[i] = one
                self.lower[rows], self.upper[rows] = one.lower, one.upper
        return found

    def signal(self, r: int, motion: Motion) -> Array:
        """A row's signal over its scale."""
        return self.problem.limits[self.problem.rows[r].limit].signal(motion, self.vehicle) / self.scale[r]

    def plain(self) -> Stage:
        """The same rows with signals as they are: where they may be exceeded, what exceeds has a price."""
        other, (lower, upper, scale) = copy.copy(self), self.problem.bounds()
        other.restated = {}
        other.lower, other.upper = np.where(np.isfinite(self.lower), lower / scale, -np.inf), upper / scale
        other.signals = {f: Signals(other, group.rows) for f, group in self.signals.items()}
        other.entry = Signals(other, self.entry.rows)
        return other

    def _implied(self, r: int, signals: Signals, flows: Sequence[Flow]) -> bool:
        """Whether a row inside a step holds where its limit holds at the start and the end: is it linear in time?

        Told by derivatives that are constant: of the row by the state, and of the state by where the step starts.
        """
        row = signals.constant_gradient(r)
        if row is None:
            return False
        states = [i for i, g in enumerate(row) if g]
        before, inside, after = (flow.constant_rows(states) for flow in flows)
        if before is None or inside is None or after is None:
            return False
        f = self.problem.rows[r].fraction
        return np.allclose(inside, (1.0 - f) * before + f * after, rtol=1e-12, atol=1e-12)

    def physical(self, z: list[Array]) -> tuple[Components, Components]:
        """States and controls in their units, from a list in units of `typical`."""
        real = [a * t for a, t in zip(z, self.typical, strict=True)]
        return Components(real[: self.S]), Components(real[self.S :])

    def sides(self, rows: Sequence[int]) -> list[tuple[int, float, float]]:
        """The one-sided constraints sign · value <= sign · bound of some rows: place in `rows`, sign, bound."""
        found = []
        for i, r in enumerate(rows):
            if np.isfinite(self.upper[r]):
                found.append((i, 1.0, float(self.upper[r])))
            if np.isfinite(self.lower[r]):
                found.append((i, -1.0, float(self.lower[r])))
        return found

    def soft(self, r: int) -> bool:
        """Whether a row reads states, so that the elastic problem may exceed it."""
        row: Row = self.problem.rows[r]
        return not self.problem.limits[row.limit].reads <= frozenset(self.vehicle.CONTROLS)


def _split(flat: Vector, outputs: int, inputs: int) -> tuple[Vector, Matrix]:
    values, columns = flat[:outputs], flat[outputs:]
    return values, [[columns[i * outputs + o] for i in range(inputs)] for o in range(outputs)]


def _halves(flat: Vector) -> tuple[Vector, Vector]:
    half = len(flat) // 2
    return flat[:half], flat[half:]
