"""The polynomials that stand for functions of the C library, against NumPy in extended precision."""

import jax
import numpy as np
import pytest

from feasible.solvers import _xla_math
from feasible.solvers._traced import Traced

EXACT = {"sin": np.sin, "cos": np.cos, "atan": np.arctan, "log": np.log}


def numbers(dtype):
    rng = np.random.default_rng(0)
    some = [rng.uniform(-10, 10, 2000), rng.uniform(-400, 400, 2000), 1e-4 * rng.normal(size=200), [0.0, 1.0, -1.0]]
    return np.concatenate(some).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXACT)
def test_to_rounding(name, dtype):
    x = numbers(dtype)
    if name == "log":
        x = np.exp(x[np.abs(x) < 40])
    with jax.enable_x64(dtype == np.float64):
        found = np.asarray(jax.jit(_xla_math.FUNCTIONS[name])(x))
    exact = EXACT[name](x.astype(np.longdouble))
    assert found.dtype == dtype
    assert (np.abs(found - exact) <= 2 * np.finfo(dtype).eps * np.maximum(1.0, np.abs(exact))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_angle_of_every_direction(dtype):
    x = numbers(dtype) + dtype(0)
    y = np.roll(x, 7)
    x, y = np.append(x, [0, 0, 0, 1, -1]).astype(dtype), np.append(y, [0, 1, -1, 0, 0]).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        found = np.asarray(jax.jit(_xla_math.atan2)(y, x))
    assert np.abs(found - np.arctan2(y.astype(np.longdouble), x)).max() <= 3 * np.finfo(dtype).eps


def test_logarithm_of_nothing_is_not_a_number():
    assert np.isnan(_xla_math.log(np.array([0.0, -1.0, np.nan], np.float32))).all()


def test_traced_program_is_spelled_out():
    """Sine and cosine of one angle share its reduction, and no call of the functions is left."""

    def turn(inputs):
        return [jax.jit(jax.numpy.sin)(inputs[0]), jax.numpy.cos(inputs[0])]

    angle = np.linspace(-7.0, 7.0, 50, dtype=np.float32)
    plain, spelled = Traced(turn, [angle]), Traced(turn, [angle], spelled=_xla_math.FUNCTIONS)
    names = [step.name for step in spelled.steps]
    assert {"sin", "cos"} <= {step.name for step in plain.steps}
    assert not {"sin", "cos"} & set(names)
    assert names.count("round") == 1
    np.testing.assert_allclose(np.array(spelled([angle])), np.array(plain([angle])), atol=3e-7)
