import jax
import jax.numpy as jnp
import numpy as np
import pytest

from feasible.solvers._curvature import hessian, jacobian, tangent
from feasible.solvers._traced import Traced


@jax.custom_jvp
def own_rule(x):
    return jnp.sqrt(x)


own_rule.defjvp(lambda x, t: (jnp.sqrt(x[0]), t[0] * jnp.where(x[0] > 0.0, 0.5 / jnp.sqrt(x[0]), 0.0)))

FUNCTIONS = {
    "product": lambda z, c: c[0] * z[0] * z[1] * jnp.cos(z[2] * z[0]) / (1.0 + z[1] ** 2),
    "norm": lambda z, c: c[1] * jnp.hypot(z[0], z[1] * z[1] * z[2]) * jnp.exp(z[2]) + z[0] ** 3 * z[0],
    "angle": lambda z, c: c[0] * jnp.arctan2(z[0], z[1]) * own_rule(1.0 + z[2] * z[2]),
    "branches": lambda z, c: jnp.maximum(z[1] * z[1], z[0]) * c[1] + jnp.where(z[2] > 0, z[2] ** 2 * z[0], z[1] ** 3),
    "loop": lambda z, c: jax.lax.fori_loop(0, 3, lambda _, a: a * jnp.sin(a) + z[1], z[0] * z[2]) + c[0] * z[1],
    "affine": lambda z, c: 3.0 * z[0] - (c[0] * z[1] - 0.5 * z[2]) / 4.0,
}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives_are_those_of_jax(name, rng):
    function, size = FUNCTIONS[name], 3
    for _ in range(4):
        z, c = rng.normal(size=size), rng.normal(size=2)
        expected = np.asarray(jax.hessian(lambda z, c=c: function(z, c))(jnp.asarray(z)))[np.triu_indices(size)]
        found = hessian(function, size)([jnp.asarray(v) for v in (*z, *c)])
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_an_opaque_call_keeps_its_own_derivative():
    # Through its inside the second derivative at 0 is infinite; its rule says 0.
    found = hessian(lambda z, c: own_rule(z[0] * z[0]) * z[1], 2)([jnp.asarray(0.0), jnp.asarray(1.0)])
    assert np.isfinite(found).all()


def test_tangents_are_jacobians_along_a_direction(rng):
    def function(z):
        return [z[0] * jnp.sin(z[1]), z[1] / z[0], z[0] - 2.0 * z[1]]

    z, dz = ([jnp.asarray(v) for v in rng.uniform(1, 2, 2)] for _ in range(2))
    flat = jacobian(function)(z)
    columns = np.reshape(flat[3:], (2, 3))
    found = tangent(function, 2)([*z, *dz])
    np.testing.assert_allclose(found[:3], flat[:3])
    np.testing.assert_allclose(found[3:], np.asarray(dz) @ columns)


def test_constants_meet_in_one_product(rng):
    scale = (0.1, 10.0, 4.0)

    def function(z):  # in units of its own: a product on the way in for each input, a quotient on the way out
        x, y, w = (a * s for a, s in zip(z, scale, strict=True))
        return [(x * y) / 2.0 / 8.0, -(w * 3.0) * x, (x - x) + 5.0, w + 0.0, x * 2.0 + x * 3.0]

    traced = Traced(function, [jax.ShapeDtypeStruct((), float)] * 3)
    names = [step.name for step in traced.steps]
    assert names.count("mul") == 6  # x y, times its constant; w x, times its constant; w; 5 x
    assert set(names) == {"mul"}
    z = rng.normal(size=3)
    np.testing.assert_allclose(traced([jnp.asarray(v) for v in z]), function(z), rtol=1e-14)
    assert traced.fixed(3) == [None, None, 5.0, None, None]


def test_arrays_keep_their_operations(rng):
    traced = Traced(lambda z: [z[0] ** 2 * 3.0 / 6.0 - z[0]], [jax.ShapeDtypeStruct((4,), float)])
    z = rng.normal(size=4)
    np.testing.assert_allclose(traced([jnp.asarray(z)])[0], z**2 / 2.0 - z)
