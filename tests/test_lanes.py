import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the lanes engine needs llvmlite")

from feasible.solvers._lanes import Program
from feasible.solvers._lanes_memory import HORIZON
from feasible.solvers._lanes_stream import Stream, _Pace

NUMBER, ARRAY = np.zeros(()), np.zeros(HORIZON)


def turning(state, most):
    """Arrays that change places, one that a row keeps when it is done, and a count; a step per turn."""

    def unfinished(carry):
        return carry[-1] < most

    def turn(carry):
        a, b, kept, count = carry
        moved = kept + a
        return b, a + 1.0, jnp.where(count < 2.0, moved, kept), count + 1.0

    return jax.lax.while_loop(unfinished, turn, state)


def expected(a, b, kept, turns):
    for count in range(turns):
        a, b, kept = b, a + 1.0, kept + a if count < 2 else kept
    return a, b, kept


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 5])
def test_a_loop_carries_arrays_in_their_place(rng, turns, in_place):
    a, b, kept = rng.normal(size=(3, 5, 7))
    places = range(4) if in_place else None
    program = Program(lambda x: turning(*x), ((ARRAY, ARRAY, ARRAY, NUMBER), NUMBER), np.float64, 4, places)
    arguments = ((a, b, kept, np.zeros(5)), np.full(5, float(turns)))
    if in_place:  # a group of four rows, as a stream would run it
        source, sink = program.room(7)
        rows = np.concatenate([np.zeros((5, 1)), np.full((5, 1), float(turns)), a, b, kept], axis=1)
        source[:] = rows[:4].T
        program.once(source, sink, 7)
        found = [source[2 + 7 * i : 9 + 7 * i].T for i in range(3)]
    else:
        found = [f[:4] for f in program(arguments)[:3]]
    for f, e in zip(found, expected(a, b, kept, turns), strict=True):
        np.testing.assert_array_equal(f, e[:4])


def test_an_input_that_is_read_after_a_loop_is_not_overwritten(rng):
    def function(x):
        a, most = x
        out, _ = jax.lax.while_loop(
            lambda c: c[1] < most, lambda c: (c[0] * 2.0, c[1] + 1.0), (a, jnp.zeros_like(most))
        )
        return out - a

    a = rng.normal(size=(3, 6))
    program = Program(function, (ARRAY, NUMBER), np.float64, 4)
    np.testing.assert_allclose(program((a, np.full(3, 3.0))), 7.0 * a)


@pytest.mark.parametrize("rows", [1, 3, 9])  # one, less than a vector, more than two
def test_several_arrays_in_one(rng, rows):
    """As separate arrays: numbers and horizons mixed, lists of several, of one and of none, and one that is no list."""

    def function(x):
        numbers, horizons, weight, single = x
        total = sum(a * (i + 1.0) for i, a in enumerate(numbers))
        return [h * total for h in horizons], weight + 1.0, [], [total, weight], [single + weight]

    program = Program(function, ([NUMBER] * 2, [ARRAY] * 3, NUMBER, ARRAY), np.float64, 4)
    numbers, weight = rng.normal(size=(rows, 2)), rng.normal(size=rows)
    horizons, single = rng.normal(size=(rows, 3, 7)), rng.normal(size=(rows, 1, 7))
    found = program((numbers, horizons, weight, single))
    expected = program(([*numbers.T], [*np.moveaxis(horizons, 1, 0)], weight, single[:, 0]))
    assert [a.shape for a in found] == [(rows, 3, 7), (rows,), (rows, 0), (rows, 2), (rows, 1, 7)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    total = numbers @ [1.0, 2.0]
    np.testing.assert_allclose(found[0], horizons * total[:, None, None])
    np.testing.assert_allclose(found[3], np.stack([total, weight], axis=1))
    with pytest.raises(ValueError, match="expected 3 scalars and 4 horizons, got 3 and 3"):
        program((numbers, horizons, weight, single[:, :0]))


def test_a_stream_gives_every_row_what_it_gets_alone(rng):
    def turns(given, state, fresh, most):
        (start, wanted) = given
        begun = jnp.where(fresh > 0.0, start, state[0])
        count, done = (jnp.where(fresh > 0.0, 0.0, s) for s in state[1:])

        def turn(carry):
            total, count, done, n = carry
            active = (done == 0.0) & (count < wanted)
            count = jnp.where(active, count + 1.0, count)
            total = jnp.where(active, total * 1.5, total)
            return total, count, jnp.where(count >= wanted, 1.0, done), n + 1.0

        return jax.lax.while_loop(
            lambda c: (c[2] == 0.0) & (c[3] < most), turn, (begun, count, done, jnp.zeros_like(most))
        )[:3]

    number = np.zeros(())
    leaves = (lambda s: s[:2]), (lambda s: s[2]), (lambda s: s[1])
    stream = Stream(turns, (ARRAY, number), (ARRAY, number, number), *leaves, np.float64, 4)
    start, wanted = rng.normal(size=(41, 9)), rng.integers(1, 60, 41).astype(float)
    found, count = stream((start, wanted))
    np.testing.assert_array_equal(count, wanted)
    np.testing.assert_allclose(found, start * 1.5 ** wanted[:, None], rtol=1e-12)
    alone, _ = stream((start[7:8], wanted[7:8]))
    np.testing.assert_array_equal(alone[0], found[7])


@pytest.mark.parametrize(("turns", "fits"), [([9.0], 9), ([5.0, 5.0, 5.0, 10.0], 5), ([30.0, 31.0], 31)])
def test_a_burst_is_as_long_as_recent_rows_took(turns, fits):
    pace = _Pace()
    pace.saw(np.full(600, 20.0))
    for _ in range(40):
        pace.saw(np.resize(turns, 16))
    assert pace.burst == fits


def doubled(a, b):
    """Sums so far, and twice the other."""

    def step(total, inputs):
        p, q = inputs
        return total + p, (total + p, 2.0 * q)

    return jax.lax.scan(step, jnp.zeros_like(a[0]), (a, b))[1]


def backward(a, b):
    def step(total, inputs):
        p, q = inputs
        return total * 0.5 + q, (total + p * q, total)

    return jax.lax.scan(step, jnp.zeros_like(a[0]), (a, b), reverse=True)[1]


def moved_on(a):
    return jnp.concatenate([a[:1], jax.lax.slice_in_dim(a, 0, -1)])


OVERLAPS = {
    "nothing is read again": lambda a, b: doubled(*backward(a, b)),
    "results change places": lambda a, b: doubled(*backward(a, b)[::-1])[::-1],
    "one is read again": lambda a, b: (backward(a, b)[0], doubled(a, b)[0]),
    "one is read twice": lambda a, b: backward(*doubled(a, a)),
    "one is read a step later": lambda a, b: doubled(*backward(moved_on(a), a)),
    "chosen by row": lambda a, b: (doubled(a, b)[0], jnp.where(a[0] > 0.0, backward(a, b)[1], b)),
    "one stays": lambda a, b: (a, doubled(a, b)[0]),
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_results_of_a_scan_may_lie_where_its_inputs_did(rng, name):
    """Within a loop, whose arrays stay in their place."""

    def function(x):
        def turn(carry):
            a, b, count = carry
            return *OVERLAPS[name](a, b), count + 1.0

        return jax.lax.while_loop(lambda carry: carry[-1] < 3.0, turn, x)

    a, b = rng.normal(size=(2, 5, 9))
    found = Program(function, (ARRAY, ARRAY, NUMBER), np.float64, 4)((a, b, np.zeros(5)))
    with jax.enable_x64(True):
        expected = jax.jit(jax.vmap(function))((a, b, np.zeros(5)))
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-12)


def test_results_of_a_scan_take_no_memory_where_its_inputs_are_not_read_again():
    def blocks(name):
        return Program(lambda x: OVERLAPS[name](*doubled(*x)), (ARRAY, ARRAY), np.float64, 4)._arena

    assert blocks("nothing is read again") == 2
    assert blocks("one is read again") > 2
