"""A single row's program against the same function in lanes, where a scan goes from step to step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the lanes engine needs llvmlite")

from feasible.solvers._lanes import Program
from feasible.solvers._lanes_memory import HORIZON
from feasible.solvers._lanes_split import FIXED, Split
from feasible.solvers._traced import scanned

NUMBER, ARRAY = np.zeros(()), np.zeros(HORIZON)
HORIZONS = (1, 2, 5, 7, 8, 9, 16, 23)  # a register has 8 or 16 steps


def recursion(a, b, s, reverse):
    """Alternately one by one and at once: each of y and z needs itself a step ago, z needs y, and w needs both."""

    def step(carry, inputs):
        y, z, most = carry
        p, q = inputs
        y = 0.5 * y + jnp.sin(p)
        z = z / (1.0 + z * z) + q * y
        w = y * y - z
        return (y, z, jnp.maximum(most, w)), (w, y, p * q)

    return jax.lax.scan(step, (s, s - 1.0, s - 9.0), (a, b), reverse=reverse)


def late(a, b, s, reverse):
    """Values of one, two and three steps ago, of an input, of a constant, and of what is computed."""

    def step(carry, inputs):
        p1, p2, p3, c1, w1, w2, total = carry
        p, q = inputs
        w = p * q + p3 - p2
        u = w - 2.0 * w1 + w2
        return (p, p1, p2, 3.0 * s, w, w1, total + u), (u, p1, c1, w2, p, 2.0 * s)

    return jax.lax.scan(step, (s, s + 1.0, s + 2.0, s, s - 1.0, s - 2.0, s), (a, b), reverse=reverse)


def sums(a, b, s, reverse):
    """Sums, maxima and minima of several terms; a sum that is read on the way is none."""

    def step(carry, inputs):
        total, low, high, running, kept = carry
        p, q = inputs
        running = running + p
        return (total + p + q * q, jnp.minimum(low, p - q), jnp.maximum(jnp.maximum(high, p), q), running, kept), (
            running * q
        )

    return jax.lax.scan(step, (s, s, s, s, s), (a, b), reverse=reverse)


def truths(a, b, s, reverse):
    """Truth values that wait between loops."""

    def step(carry, inputs):
        y, count = carry
        p, q = inputs
        large = (p > q) & (p > 0.0)
        y = jnp.where(large, 0.5 * y + p, y)
        return (y, count + jnp.where(large, 1.0, 0.0)), jnp.where(large, y, -y)

    return jax.lax.scan(step, (s, jnp.zeros_like(s)), (a, b), reverse=reverse)


def inner_loop(a, b, s, reverse):
    """A while loop in a step, which needs nothing of the step before, and one that does."""

    def halved(x):
        return jax.lax.while_loop(
            lambda x: jnp.any(jnp.abs(x) > 1.0), lambda x: jnp.where(jnp.abs(x) > 1.0, x / 2, x), x
        )

    def step(y, inputs):
        p, q = inputs
        y = halved(y + 3.0 * halved(4.0 * p))
        return y, (y, halved(9.0 * q))

    return jax.lax.scan(step, s, (a, b), reverse=reverse)


BODIES = (recursion, late, sums, truths, inner_loop)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("body", BODIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_a_single_row_is_what_it_is_among_others(rng, body, reverse, dtype):
    def function(x):
        return body(*x, reverse)

    alone, among = (Program(function, (ARRAY, ARRAY, NUMBER), dtype, width) for width in (1, 4))
    for steps in HORIZONS:
        a, b, s = rng.normal(size=(4, steps)), rng.normal(size=(4, steps)), rng.normal(size=4)
        one = jax.tree.leaves(alone((a, b, s)))
        for _ in range(2):  # memory keeps what the rows before left in it
            for x, y in zip(one, jax.tree.leaves(among((a, b, s))), strict=True):
                assert np.isfinite(x).all()
                np.testing.assert_allclose(
                    x, y, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-6 if dtype == np.float32 else 1e-13
                )
            one = jax.tree.leaves(alone((a, b, s)))


def test_no_loop_waits_for_what_lies_in_fresh_memory(monkeypatch):
    """Steps beyond the end of a horizon compute from whatever is there; an infinity would keep a loop for ever."""
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, 255, dtype))
    for width in (1, 4):
        program = Program(lambda x: inner_loop(*x, False), (ARRAY, ARRAY, NUMBER), np.float64, width)
        source, sink = program.room(5)
        for held in (program._workspace(100), source, sink):
            memory, last = held.base, held.ctypes.data + held.nbytes
            assert (held == 0.0).all()
            assert (memory[last - memory.ctypes.data :] == 0).all()


def test_only_what_waits_for_itself_goes_from_step_to_step():
    closed = jax.make_jaxpr(lambda a, b, s: recursion(a, b, s, False))(ARRAY, ARRAY, 0.0)
    (scan,) = (e for e in closed.jaxpr.eqns if e.primitive.name == "scan")
    split = Split.of(*scanned(scan.params))
    assert split.cyclic == [0, 1]
    assert split.reduced == {2: "max"}
    serial = [step.name for number, steps in split.loops.items() if number % 2 for step in steps]
    assert "sin" not in serial
    assert "div" in serial
    assert all(number != FIXED for number in split.loops)


def test_late_values_need_no_loop_from_step_to_step():
    closed = jax.make_jaxpr(lambda a, b, s: late(a, b, s, True))(ARRAY, ARRAY, 0.0)
    (scan,) = (e for e in closed.jaxpr.eqns if e.primitive.name == "scan")
    split = Split.of(*scanned(scan.params))
    assert not split.cyclic
    assert split.reduced == {6: "add"}
    assert len(split.delayed) == 6
