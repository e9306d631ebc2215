"""Small arrays as a few large ones, in and out of a program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from feasible.solvers._stacked import Collected, Stacked, Table


@pytest.fixture
def whole(rng):
    a, b, c, d = (rng.normal(size=shape) for shape in ((7, 5), 7, (7, 5), 7))
    return {"a": a, "b": [b, c], "c": (d,)}


def test_rows_go_in_and_come_out_as_they_were(whole):
    table, collected = Table(whole, np.float64), Collected(7)
    for rows in (slice(4, 7), np.array([0, 2]), np.array([3, 1])):  # slices and numbers, in any order
        part = table.cut(rows)
        assert [a.shape for a in part.arrays] == [(2, 5, len(np.arange(7)[rows])), (2, len(np.arange(7)[rows]))]
        collected.put(part, rows)
    for found, expected in zip(jax.tree.leaves(collected.apart()), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_program_takes_and_returns_stacks(whole):
    """Also one whose result has another structure than its argument."""
    given, made = Table(whole, np.float32).cut(slice(0, 7)), []

    @jax.jit
    def program(arrays):
        parts = given.over(arrays).apart()
        made.append(Stacked.of((parts["b"][0] + 1.0, parts["a"], parts["c"][0])))
        return made[0].arrays

    arrays = program(given.arrays)
    found = made[0].over(arrays)
    assert [a.shape for a in found.arrays] == [(2, 7), (1, 5, 7)]
    first, second, third = found.apart()
    np.testing.assert_allclose(first, whole["b"][0] + 1.0, rtol=1e-6)
    np.testing.assert_allclose(second, whole["a"].T, rtol=1e-6)
    np.testing.assert_allclose(third, whole["c"][0], rtol=1e-6)
    assert found.arrays[0].dtype == jnp.float32


def test_some_leaves_are_taken_out_rows_first(whole):
    stacked = Table(whole, np.float64).cut(slice(1, 5))
    choice = stacked.choice(lambda tree: {"first": tree["c"], "second": [tree["a"], tree["b"][1]]})
    found = choice(stacked.over([2.0 * a for a in stacked.arrays]))
    np.testing.assert_array_equal(found["first"][0], 2.0 * whole["c"][0][1:5])
    np.testing.assert_array_equal(found["second"][0], 2.0 * whole["a"][1:5])
    np.testing.assert_array_equal(found["second"][1], 2.0 * whole["b"][1][1:5])
