"""Plain JAX, prepared so that XLA's compiler for processors makes short code of it.

Left alone, XLA fuses elementwise operations into each of their consumers and so computes what they share over and
over, runs every fusion as a task of its own, and clears the output of every scan before filling it. Here a traced
program is written anew, with the same operations, so that it cannot:

- functions that XLA would leave to the C library, a number at a time, are spelled out (`_xla_math`);
- equal operations are merged and dead ones dropped (`Traced`) in every loop body, before XLA sees them;
- values that are used more than once, unless they are trivial, are computed in *levels*: one level is a function that
  is not inlined, which takes values of earlier levels and returns its own, and no fusion reaches across;
- scans inside a while loop write into arrays that the loop carries along, and a level that needs one step of an array
  reads it there, without a copy;
- the whole is one "small call": a single function of machine code instead of a task per fusion.

The two attributes that ask for this are hints: where XLA does not know them, the program is the same but slower.
Other devices fuse differently and get the merged program without levels; on graphics processors a scan that is
elementwise over the rows is a kernel of its own (`_xla_kernel`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from feasible.solvers._traced import Step, Traced, scanned, value
from feasible.solvers._xla_kernel import RowKernel, wanting
from feasible.solvers._xla_math import FUNCTIONS

_LEAST = 8  # operations: what repeats fewer is repeated
_COST = {"broadcast_in_dim": 0, "convert_element_type": 0, "div": 4, "sqrt": 6}
_MOVING = ("scan", "while", "cond", "concatenate", "slice", "dynamic_slice", "squeeze", "reshape", "transpose")


def written(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function of a pytree of arrays with the rows last, and numbers, to be compiled by `jax.jit`."""

    def run(arguments: Any) -> Any:
        leaves = jax.tree.leaves(arguments)
        blank = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
        closed, shape = jax.make_jaxpr(function, return_shape=True)(blank)
        levels = _Levels(closed)

        def reading(*given: Any) -> list[Any]:
            known = dict(zip(levels.read, given, strict=True))
            return levels(*map(known.get, range(len(leaves))))

        # XLA crashes on an argument of a small call that is not read, where that is a constant or was converted.
        arguments = [leaves[i] for i in levels.read]
        found = _apart(reading, arguments, small=True) if on_processor() else reading(*arguments)
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return run


def on_processor() -> bool:
    """Whether JAX runs on a processor, for which alone programs are written in levels."""
    return jax.default_backend() == "cpu"


def on_graphics() -> bool:
    """Whether JAX runs on a graphics processor, CUDA's or ROCm's."""
    return jax.default_backend() == "gpu"


def _apart(function: Callable[..., list[Any]], arguments: Sequence[Any], *, small: bool = False) -> list[Any]:
    """`function(*arguments)` as a function of its own, which XLA does not inline."""
    shared = False

    def inner(*given: Any) -> list[Any]:
        nonlocal shared
        # Operations inside would inherit the attributes: JAX keeps them while it lowers what is called.
        with set_xla_metadata(inlineable="true", xla_cpu_small_call="false"):
            found = function(*given)
        # XLA shares the work of a single large result among threads, which cannot be inside one function of machine
        # code, and fails to link. So there is a second result, which the barrier keeps from being dropped.
        shared = len(found) == 1 and found[0].ndim > 1
        return [*found, jnp.zeros(())] if shared else found

    with set_xla_metadata(inlineable="false", xla_cpu_small_call="true" if small else "false"):
        found = jax.jit(inner)(*arguments)
    return [jax.lax.optimization_barrier(found)[0]] if shared else found


class _Entry(NamedTuple):
    """What an array has at a step: read where it is used."""

    array: Any
    step: Any  # unsigned, for XLA checks a signed index at both ends, at every use


def _read(given: Any) -> Any:
    """The value of an entry; anything else as it is."""
    if not isinstance(given, _Entry):
        return given
    return jax.lax.dynamic_index_in_dim(*given, keepdims=False, allow_negative_indices=False)


class _Levels:
    """A traced program as levels; called like a function of its inputs, arrays or entries of arrays.

    Args:
        closed: the program.
    """

    def __init__(self, closed: ClosedJaxpr):
        spelled = FUNCTIONS if on_processor() else {}
        blank = _blank(closed.jaxpr.invars)
        self._traced = Traced(lambda inputs: jaxpr_as_fun(closed)(*inputs), blank, spelled=spelled)
        used = {v for step in self._traced.steps for v in step.inputs} | {*self._traced.results}
        self.read = [i for i in range(len(blank)) if i in used]  # inputs that the results depend on
        self._maker = {o: step for step in self._traced.steps for o in step.out}
        self._level: dict[int, int] = {}  # of the values that are kept; the others are computed where they are used
        self._choose()
        self._steps: dict[int, list[Step]] = {}
        for step in self._traced.steps:
            if step.out[0] in self._level:
                self._steps.setdefault(self._level[step.out[0]], []).append(step)
        self._scans = {step.out[0]: _Scan(step) for step in self._traced.steps if step.name == "scan"}
        self.scratch = [s for scan in self._scans.values() if not scan.kernel for s in scan.outputs]

    def _choose(self) -> None:
        uses: dict[int, int] = {}
        for step in self._traced.steps:
            for v in step.inputs:
                uses[v] = uses.get(v, 0) + 1
        results = {r for r in self._traced.results if isinstance(r, int)}
        cost: dict[int, int] = {}
        ready: dict[int, int] = {}  # the level after which a value that is not kept can be computed
        for step in self._traced.steps:
            if _moves(step):
                for v in step.inputs:
                    if v in self._maker:
                        self._level.setdefault(v, ready.get(v, 0) + 1)
            inputs = [v for v in step.inputs if v not in self._level]
            first = max((self._level[v] if v in self._level else ready.get(v, 0) for v in step.inputs), default=0)
            work = _COST.get(step.name, 1) + sum(cost.get(v, 0) for v in inputs)
            for o in step.out:
                if _moves(step) or o in results or (uses.get(o, 0) - 1) * work >= _LEAST:
                    self._level[o] = first + 1
                else:
                    ready[o], cost[o] = first, work

    def __call__(self, *inputs: Any, scratch: Iterable[Any] | None = None, going: Any = None) -> list[Any]:
        """The results; of scans the outputs are written into `scratch`, if given, and returned after the results.

        Where `going` is given, `(B,)` bool, results of other rows may be undefined.
        """
        env: dict[int, Any] = {**dict(enumerate(inputs)), **self._traced.held}
        given, written = iter(scratch or ()), []
        for number in sorted(self._steps):
            steps = self._steps[number]
            self._compute([step for step in steps if not _moves(step)], env)
            for step in filter(_moves, steps):
                values = [_read(value(v, env)) for v in step.values]
                if step.name == "scan":
                    scan = self._scans[step.out[0]]
                    inside = scratch is not None and not scan.kernel
                    found = scan(values, [next(given) for _ in scan.outputs] if inside else None, going)
                    written += found[scan.carried :] if inside else []
                else:
                    found = _while(step, values, going) if step.name == "while" else step.bind(values)
                env.update(zip(step.out, found, strict=True))
        results = [_read(value(r, env)) for r in self._traced.results]
        return results if scratch is None else results + written

    def _compute(self, steps: list[Step], env: dict[int, Any]) -> None:
        """Values of one level, and what they need that is not kept."""
        if not steps:
            return
        order: dict[int, Step] = {}
        needed: dict[int, None] = {}

        def visit(step: Step) -> None:
            if step.out[0] not in order:
                for v in step.inputs:
                    if v in env:
                        needed[v] = None
                    else:
                        visit(self._maker[v])
                order[step.out[0]] = step

        for step in steps:
            visit(step)
        kept = [o for step in steps for o in step.out]

        def level(*given: Any) -> list[Any]:
            local = {v: _read(g) for v, g in zip(needed, given, strict=True)}
            for step in order.values():
                local.update(zip(step.out, step.bind([value(v, local) for v in step.values]), strict=True))
            return [local[o] for o in kept]

        arguments = [env[v] for v in needed]
        found = _apart(level, arguments) if on_processor() else level(*arguments)
        env.update(zip(kept, found, strict=True))


class _Scan:
    """A scan of a traced program, its outputs written into arrays that are given.

    Args:
        step: the scan.
    """

    def __init__(self, step: Step):
        p = step.params
        self._length, self._reverse = p["length"], p["reverse"]
        self._body, self._consts, self.carried = scanned(p)
        self.outputs = [
            jax.ShapeDtypeStruct((self._length, *a.shape), a.dtype) for a in self._body.out_avals[self.carried :]
        ]
        kernel = RowKernel(self._body, self._consts) if on_graphics() else None
        self.kernel = kernel if kernel and kernel.fits else None

    def __call__(self, values: list[Any], scratch: list[Any] | None, going: Any = None) -> list[Any]:
        if self.kernel:
            return self.kernel.scan(self._length, self._reverse, self.carried, values, going)
        body, first = _Levels(self._body), self._consts + self.carried
        consts, carry, inputs = values[: self._consts], values[self._consts : first], values[first:]
        if scratch is None:
            scratch = [jnp.zeros(s.shape, s.dtype) for s in self.outputs]

        def step(i: Any, state: Any) -> Any:
            carry, outputs = state
            t = self._length - 1 - i if self._reverse else i
            at = t.astype(np.uint32)
            found = body(*consts, *carry, *(_Entry(a, at) for a in inputs), going=going)
            pairs = zip(outputs, found[self.carried :], strict=True)
            written = [jax.lax.dynamic_update_index_in_dim(a, b, t, 0) for a, b in pairs]
            return found[: self.carried], written

        carry, outputs = jax.lax.fori_loop(0, self._length, step, (carry, scratch))
        return [*carry, *outputs]


def _while(step: Step, values: list[Any], among: Any = None) -> list[Any]:
    """A while loop that carries the outputs of its scans along, so that they need not be cleared and copied.

    On graphics processors it leaves rows as they are that do not want to go on, which a body must leave alone anyway,
    or are not `among` those that matter.
    """
    p = step.params
    tests, steps = p["cond_nconsts"], p["body_nconsts"]
    test, body = jaxpr_as_fun(p["cond_jaxpr"]), _Levels(p["body_jaxpr"])
    of_test, of_body, carry = values[:tests], values[tests : tests + steps], values[tests + steps :]
    scratch = [jnp.zeros(s.shape, s.dtype) for s in body.scratch]
    which = wanting(p["cond_jaxpr"]) if on_graphics() else None

    def going(state: Any) -> Any:
        wants = None if which is None else which([*of_test, *state[0]])
        return wants if wants is None or among is None else wants & among

    def goes_on(state: Any) -> Any:
        some = test(*of_test, *state[0])[0]
        return some if which is None or among is None else some & jnp.any(going(state))

    def turn(state: Any) -> Any:
        rows = going(state)
        found = body(*of_body, *state[0], scratch=state[1], going=rows)
        after = found[: len(carry)]
        if rows is not None:
            pairs = zip(after, state[0], strict=True)
            after = [jnp.where(rows, a, b) if a.shape[-1:] == rows.shape else a for a, b in pairs]
        return after, found[len(carry) :]

    return jax.lax.while_loop(goes_on, turn, (carry, scratch))[0]


def _moves(step: Step) -> bool:
    """Whether an operation is not elementwise; such operations stay outside of the levels' functions."""
    return step.name in _MOVING or step.name.startswith("reduce_")


def _blank(variables: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(v.aval.shape, np.dtype(v.aval.dtype)) for v in variables]
