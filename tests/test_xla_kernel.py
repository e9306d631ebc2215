"""Scans as kernels of a graphics processor, interpreted here, and chunks of a processor's cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import feasible
from feasible import presets
from feasible._lift import STIFFNESS
from feasible._projector._start import lift
from feasible.solvers import _xla, _xla_engine, _xla_rows
from feasible.solvers._traced import scanned
from feasible.solvers._xla_kernel import ROWS, RowKernel
from feasible.solvers.riccati import Riccati

T, B = 7, 2 * ROWS


def smoothly(c, state, x):
    """A step with everything a kernel may hold: a number, functions that are spelled out, rounding."""
    a, b = state
    a = a + c * jnp.sin(x) - jnp.round(b)
    b = jnp.where(x > 0.0, jnp.sqrt(jnp.abs(a)), jnp.arctan2(x, a) + jnp.log(1.0 + x * x))
    return (a, b), (a * b, b)


def searching(c, state, x):
    """A step with a loop that rows leave one by one."""

    def halve(carry):
        v, n = carry
        return jnp.where(jnp.abs(v) > c, 0.5 * v, v), n + 1.0

    v, n = jax.lax.while_loop(lambda carry: jnp.any(jnp.abs(carry[0]) > c), halve, (8.0 * x + state, 0.0 * x))
    return v, (v, 0.0 * n)


def traced(step, state, reverse, c=0.3):
    x = jnp.asarray(np.random.default_rng(3).normal(size=(T, B)).astype(np.float32))

    def whole(c, state, x):
        return jax.tree.leaves(jax.lax.scan(lambda s, v: step(c, s, v), state, x, reverse=reverse))

    closed = jax.make_jaxpr(whole)(jnp.float32(c), state, x)
    (equation,) = (e for e in closed.jaxpr.eqns if e.primitive.name == "scan")
    body, consts, carried = scanned(equation.params)
    values = [*[jnp.float32(c)] * consts, *jax.tree.leaves(state), x]
    return RowKernel(body, consts), carried, values, whole(jnp.float32(c), state, x)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("step", [smoothly, searching], ids=["smooth", "loop"])
def test_a_kernel_is_the_scan(step, reverse):
    state = jnp.linspace(-1.0, 1.0, B, dtype=jnp.float32)
    kernel, carried, values, expected = traced(step, (state, 0.5 * state) if step is smoothly else state, reverse)
    assert kernel.fits
    found = kernel.scan(T, reverse, carried, values)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_halves_are_rounded_to_even():
    x = jnp.tile(jnp.asarray([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 7.0], jnp.float32), B // 8)
    kernel, carried, values, _ = traced(lambda c, s, v: (jnp.round(s), jnp.round(v)), x, False)
    found = kernel.scan(T, False, carried, [*values[:-1], jnp.broadcast_to(x, (T, B))])
    np.testing.assert_array_equal(found[1], np.broadcast_to(np.round(np.asarray(x)), (T, B)))


@pytest.mark.parametrize(
    "step",
    [lambda c, s, v: (s + jnp.sum(v), v), lambda c, s, v: (s, jnp.cumsum(v)), lambda c, s, v: (s[::-1], v)],
    ids=["sum", "cumulative", "reversed"],
)
def test_what_mixes_rows_is_no_kernel(step):
    kernel, *_ = traced(step, jnp.zeros(B, jnp.float32), False)
    assert not kernel.fits


@pytest.fixture
def graphics(monkeypatch):
    """Programs as for a graphics processor, and of every kernel whether blocks of it may do nothing."""
    for module in (_xla, _xla_engine, _xla_rows):
        monkeypatch.setattr(module, "on_processor", lambda: False)
    for module in (_xla, _xla_rows):
        monkeypatch.setattr(module, "on_graphics", lambda: True)
    some, scan = [], RowKernel.scan

    def noted(kernel, length, reverse, carried, values, going=None):
        some.append(going is not None)
        return scan(kernel, length, reverse, carried, values, going)

    monkeypatch.setattr(RowKernel, "scan", noted)
    return some


def test_a_solver_of_kernels_agrees_with_lanes(graphics, monkeypatch, rng):
    """Of a number of rows that is no multiple of a block, all of them padded and none lost."""
    monkeypatch.setattr(_xla_engine, "_ELSEWHERE", ROWS)
    t = 0.1 * np.arange(1, 9)
    values = np.stack(
        [6 * t + 0 * rng.normal(size=(ROWS + 3, 8)), np.sin(t)[None] + 0.1 * rng.normal(size=(ROWS + 3, 8))], -1
    )
    trajectory = feasible.Trajectory.from_array(values, dt=0.1)
    car, limits = feasible.vehicles.nuplan_pacifica(), presets.waymax(dynamics=True)
    found, expected = (
        feasible.project(trajectory, car, limits, backend=Riccati(dtype=np.float32, engine=engine))
        for engine in ("xla", "lanes")
    )
    assert {*graphics} == {False, True}  # before the iteration and in it
    np.testing.assert_array_equal(found.status, expected.status)
    np.testing.assert_allclose(found.states[..., :2], expected.states[..., :2], atol=1e-3)


def test_a_processor_takes_rows_in_chunks_of_its_cache():
    """Also where an array is so large that XLA would share it among threads, which no single function can do."""

    def run(given):
        x, n = given
        y = jnp.sin(x) * jnp.cos(2.0 * x) + n
        return jax.lax.scan(lambda a, v: (0.5 * a + v, a * v), y[0], y)

    for rows, steps in ((_xla_rows.WIDTH, 3), (5 * _xla_rows.WIDTH + 1, 3), (3 * _xla_rows.WIDTH, 5000)):
        x = jnp.asarray(np.random.default_rng(rows).normal(size=(steps, rows)).astype(np.float32))
        for a, b in zip(
            jax.jit(_xla_rows.prepared(run))((x, jnp.float32(0.5))), run((x, jnp.float32(0.5))), strict=True
        ):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("steps", [20, 80, 640])
def test_the_start_is_as_smooth_in_float32(steps, rng):
    """The lift; its normal equations would lose decimetres."""
    t = 0.1 * np.arange(steps)[:, None] * np.ones(4)
    x, y = 12.0 * t + 0.1 * rng.normal(size=t.shape), 5.0 * np.sin(0.2 * t) + 0.1 * rng.normal(size=t.shape)

    def start(dtype):
        with jax.enable_x64(dtype == np.float64):
            zero, one = np.zeros(t.shape, dtype), np.ones(t.shape, dtype)
            target = [x.astype(dtype), y.astype(dtype), zero, zero]
            weight, free = [one, one, zero, zero], [zero[0] * np.nan] * 6
            first, states = jax.jit(lambda *a: lift(*a, 0.1, STIFFNESS))(target, weight, free)
            return np.concatenate([np.stack(first)[:, None], np.stack(states)], axis=1)

    double, single = start(np.float64), start(np.float32)
    assert single.dtype == np.float32
    assert (np.abs(single - double).max((1, 2)) <= [0.02, 0.02, 0.005, 0.05, 0.05, 0.005]).all()


@pytest.mark.parametrize("few", [None, 0.5], ids=["any", "some"])
def test_blocks_that_are_done_do_nothing(graphics, few):
    """And what they leave undefined comes to nothing: a step of length zero would not be enough for that.

    Not in a loop inside the loop either, which would not end on it, also in a scan that is no kernel, nor in a number
    that is counted beside the rows.
    """

    def halve(a):
        return jax.lax.while_loop(
            lambda c: jnp.any(~(jnp.abs(c[0]) <= 1.0)) & (c[1] < 50), lambda c: (0.5 * c[0], c[1] + 1), (a, 0)
        )

    def run(x):
        def wants(n):
            return n < 1.0 + jnp.abs(x[0])

        def test(carry):
            going = wants(carry[1])
            return jnp.any(going) if few is None else jnp.sum(going) > few

        def turn(carry):
            v, n, turns = carry
            on = jnp.where(wants(n), 1.0, 0.0)
            last, steps = jax.lax.scan(lambda s, a: (s + a * n, jnp.sin(s + a)), v, x)
            halved, inner = halve(last)
            _, deeper = jax.lax.scan(
                lambda s, a: (halve(s)[0] + 0.0 * jax.lax.lgamma(1.0 + a * a), halve(s)[1]), last, x
            )
            endless = (inner == 50) | jnp.any(deeper == 50)
            return v + on * (0.1 * halved + steps[-1]), n + on, turns + 1 + 100 * endless

        v, n, turns = jax.lax.while_loop(test, turn, (x[0], 0.0 * x[0], 0))
        return v, n, 0.0 * n + turns

    x = np.random.default_rng(3).normal(size=(T, B)).astype(np.float32)
    x[0, :ROWS], x[0, ROWS] = 0.0, 7.5  # the first block is done after one turn, a row of the second after nine
    found = _xla_rows.prepared(run)(x)
    assert graphics == [True]
    assert (np.asarray(found[1])[:ROWS] == 1.0).all()
    assert found[1].max() == 9.0
    assert (np.asarray(found[2]) == 9.0).all()
    # Alone, for here the loop inside goes on for all rows until the last is done.
    for i in (0, ROWS - 1, ROWS, B - 1):
        for a, b in zip(found[:2], run(x[:, i : i + 1])[:2], strict=True):
            np.testing.assert_allclose(a[i], b[0], rtol=1e-4, atol=1e-4)
