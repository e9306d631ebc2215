import ctypes
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

import feasible
from feasible._export.c_writer import HORIZON, Source
from feasible._frame import localise
from feasible._lift import lift
from feasible._problem import Weights
from feasible.solvers import _riccati_loop as loop
from feasible.solvers import riccati
from feasible.solvers._riccati_arrays import answer, example, numbers, pack, unpack
from feasible.solvers.riccati import Riccati

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler `cc` on this machine")
STRICT = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic")
STEPS = 7
HORIZON_OF = np.zeros(HORIZON)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Compiles a source and gives its functions on flat arrays, with the sizes in `sizes`."""

    def built(source, compiler="cc", flags=STRICT):
        folder = tmp_path_factory.mktemp("c")
        text = source.text()
        (folder / "code.c").write_text(text)
        command = [compiler, *flags, "-shared", "-fPIC", "code.c", "-o", "code.so", "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:2000]
        library = ctypes.CDLL(str(folder / "code.so"))

        def call(name, arguments):
            given, out, work = (int(text.split(f"#define {name}_{w} ")[1].split()[0]) for w in ("IN", "OUT", "WORK"))
            x = flat(arguments)
            assert len(x) == given
            guard = 12345.678
            arrays = x, np.full(out + 1, guard), np.full(work + 1, guard)
            function = getattr(library, name)
            function.restype = None
            function(*(ctypes.c_void_p(a.ctypes.data) for a in arrays))
            assert arrays[1][-1] == guard
            assert arrays[2][-1] == guard
            np.testing.assert_array_equal(x, flat(arguments))
            return arrays[1][:-1]

        return call

    return built


def flat(tree):
    return np.concatenate([np.ravel(np.asarray(a, float)) for a in jax.tree.leaves(tree)])


def check(build, function, example, arguments, **tolerance):
    source = Source(STEPS)
    source.add("f", function, example)
    with jax.enable_x64(True):
        expected = flat(jax.jit(function)(jax.tree.map(jnp.asarray, arguments)))
    np.testing.assert_allclose(build(source)("f", arguments), expected, **{"rtol": 1e-12, "atol": 1e-12, **tolerance})


SPECIAL = np.array([0.0, 1.0, -1.0, 0.5, -0.3, 2.5, -3.5, 12.25, 1e3, -7e4, 3e7, 1e300, np.inf, -np.inf, np.nan])
UNARY = {
    "neg": (lambda x: -x, np.negative),
    "abs": (jnp.abs, np.abs),
    "sign": (jnp.sign, np.sign),
    "square": (jnp.square, np.square),
    "cube": (lambda x: x**3, lambda x: x**3),
    "inverse_square": (lambda x: x**-2, lambda x: x**-2.0),
    "sqrt": (jnp.sqrt, np.sqrt),
    "rsqrt": (jax.lax.rsqrt, lambda x: 1 / np.sqrt(x)),
    "cbrt": (jnp.cbrt, np.cbrt),
    "exp": (jnp.exp, np.exp),
    "exp2": (jnp.exp2, np.exp2),
    "expm1": (jnp.expm1, np.expm1),
    "log": (jnp.log, np.log),
    "log1p": (jnp.log1p, np.log1p),
    "logistic": (jax.nn.sigmoid, scipy.special.expit),
    "sin": (jnp.sin, np.sin),
    "cos": (jnp.cos, np.cos),
    "tan": (jnp.tan, np.tan),
    "asin": (jnp.arcsin, np.arcsin),
    "acos": (jnp.arccos, np.arccos),
    "atan": (jnp.arctan, np.arctan),
    "sinh": (jnp.sinh, np.sinh),
    "cosh": (jnp.cosh, np.cosh),
    "tanh": (jnp.tanh, np.tanh),
    "asinh": (jax.lax.asinh, np.arcsinh),
    "acosh": (jax.lax.acosh, np.arccosh),
    "atanh": (jax.lax.atanh, np.arctanh),
    "erf": (jax.lax.erf, scipy.special.erf),
    "floor": (jnp.floor, np.floor),
    "ceil": (jnp.ceil, np.ceil),
    "round": (jnp.round, np.round),
    "round_away": (jax.lax.round, lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x)),
    "is_finite": (jnp.isfinite, np.isfinite),
    "is_nan": (jnp.isnan, np.isnan),
    "clamp": (lambda x: jax.lax.clamp(-1.0, x, 2.0), lambda x: np.clip(x, -1.0, 2.0)),
    "floored": (lambda x: jnp.maximum(x, 0.25), lambda x: np.maximum(x, 0.25)),
    "capped": (lambda x: jnp.minimum(0.25, x), lambda x: np.minimum(0.25, x)),
    "scaled": (lambda x: (x * 0.1 * 10.0 * 3.0 / 7.0) * -1.0, lambda x: -3.0 * x / 7.0),
    "not": (lambda x: ~(x > 0.0), lambda x: ~(x > 0.0)),
    "as_bool": (lambda x: x.astype(bool), lambda x: x.astype(bool)),
    "switch": (
        lambda x: jax.lax.switch(jnp.where(x > 1.0, 2, jnp.where(x > 0.0, 1, 0)), [jnp.cos, lambda y: y, jnp.exp], x),
        lambda x: np.where(x > 1.0, np.exp(x), np.where(x > 0.0, x, np.cos(x))),
    ),
}
BINARY = {
    "add": (lambda a, b: a + b, np.add),
    "sub": (lambda a, b: a - b, np.subtract),
    "mul": (lambda a, b: a * b, np.multiply),
    "div": (lambda a, b: a / b, np.divide),
    "rem": (jax.lax.rem, np.fmod),
    "pow": (jax.lax.pow, np.power),
    "atan2": (jnp.arctan2, np.arctan2),
    "max": (jnp.maximum, np.maximum),
    "min": (jnp.minimum, np.minimum),
    "where": (lambda a, b: jnp.where(a > b, a, b), lambda a, b: np.where(a > b, a, b)),
    "gt": (jax.lax.gt, np.greater),
    "lt": (jax.lax.lt, np.less),
    "ge": (jax.lax.ge, np.greater_equal),
    "le": (jax.lax.le, np.less_equal),
    "eq": (jax.lax.eq, np.equal),
    "ne": (jax.lax.ne, np.not_equal),
    "and": (lambda a, b: (a > 0) & (b > 0), lambda a, b: (a > 0) & (b > 0)),
    "or": (lambda a, b: (a > 0) | (b > 0), lambda a, b: (a > 0) | (b > 0)),
    "xor": (lambda a, b: (a > 0) ^ (b > 0), lambda a, b: (a > 0) ^ (b > 0)),
}


@pytest.fixture(scope="module")
def primitives(build):
    source = Source(STEPS)
    for name, (function, _) in UNARY.items():
        source.add(f"{name}_", function, 0.0)
    for name, (function, _) in BINARY.items():
        source.add(f"{name}_", lambda ab, function=function: function(*ab), (0.0, 0.0))
    return build(source)


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_unary_primitives_are_numpys(primitives, name):
    ours = np.concatenate([primitives(f"{name}_", x) for x in SPECIAL])
    np.testing.assert_allclose(ours, UNARY[name][1](SPECIAL), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_binary_primitives_are_numpys(primitives, name):
    pairs = np.array([(a, b) for a in SPECIAL for b in SPECIAL])
    ours = np.concatenate([primitives(f"{name}_", tuple(p)) for p in pairs])
    np.testing.assert_allclose(ours, BINARY[name][1](*pairs.T), rtol=1e-14, atol=0.0)


def test_sine_and_cosine_everywhere(build):
    source = Source(STEPS)
    source.add("f", lambda x: (jnp.sin(x), jnp.cos(x)), HORIZON_OF)
    call = build(source)
    rng = np.random.default_rng(0)
    exact = np.arange(-40, 41) * (np.pi / 4)
    x = np.concatenate([exact, rng.uniform(-9e4, 9e4, 800), rng.uniform(-9, 9, 800), 10.0 ** rng.uniform(-12, 9, 88)])
    x = x[: len(x) // STEPS * STEPS].reshape(-1, STEPS)
    ours = np.stack([call("f", row).reshape(2, STEPS) for row in x])
    np.testing.assert_allclose(ours[:, 0], np.sin(x), rtol=0, atol=2.5e-16)
    np.testing.assert_allclose(ours[:, 1], np.cos(x), rtol=0, atol=2.5e-16)


def test_an_unknown_primitive_is_named():
    with pytest.raises(NotImplementedError, match="digamma"):
        Source(STEPS).add("f", jax.lax.digamma, 0.0)
    with pytest.raises(NotImplementedError, match="shape"):
        Source(STEPS).add("f", lambda x: jnp.sum(jnp.stack([x, x])), HORIZON_OF)


HORIZONTAL = [
    lambda h, g, s: h * s + jnp.sin(g),
    lambda h, g, s: jnp.where(h > g, h, 0.5 * g),
    lambda h, g, s: jnp.concatenate([s[None], h[:-1]]) - 0.3 * g,
    lambda h, g, s: jnp.concatenate([g[2:], h[:2]]) * 0.7,
    lambda h, g, s: jnp.full_like(h, s) if h.ndim else h,
    lambda h, g, s: jax.lax.scan(lambda c, x: (0.6 * c + x[0], c * x[1]), s, (h, g))[1],
    lambda h, g, s: jax.lax.scan(lambda c, x: (jnp.tanh(c + x), c), s, h, reverse=True)[1],
    lambda h, g, s: jnp.where((h > g) & ~(g > s) | (h < 0.0), g, h),
    lambda h, g, s: jax.lax.scan(lambda c, x: (~c, jnp.where(c, x, s)), s > 0.0, h)[1],
    lambda h, g, s: jnp.broadcast_to(h[1:2], h.shape) + g,
    lambda h, g, s: g,
]
SCALAR = [
    lambda h, g, s: 0.5 * s + h[0] - g[-1],
    lambda h, g, s: jnp.max(h) * 0.3 + 0.1 * jnp.sum(g) - jnp.min(g),
    lambda h, g, s: jax.lax.scan(lambda c, x: (jnp.cos(c) * x, ()), s, h)[0],
    lambda h, g, s: jax.lax.fori_loop(0, 3, lambda i, c: 0.5 * c + i * h[1], s),
    lambda h, g, s: jnp.maximum(s, h[3]) / (1.0 + jnp.abs(g[2])),
    lambda h, g, s: jnp.where(jnp.any(h > g) & ~jnp.all(g > 0.1), s, -0.5),
    lambda h, g, s: s,
]


def random_step(draw, depth):
    """A function of (h, g, s) to the same, put together by chance."""
    kind = draw(st.sampled_from(["plain", "plain", "swap", "while", "fori", "cond", "two"] if depth else ["plain"]))
    if kind == "plain":
        a, b, c = (draw(st.integers(0, n - 1)) for n in (len(HORIZONTAL), len(HORIZONTAL), len(SCALAR)))
        return lambda t: (HORIZONTAL[a](*t), HORIZONTAL[b](t[1], t[0], t[2]), SCALAR[c](*t))
    if kind == "swap":
        return lambda t: (t[1], t[0], -t[2])
    first, second = random_step(draw, depth - 1), random_step(draw, depth - 1)
    turns = draw(st.integers(0, 4))
    if kind == "two":
        return lambda t: second(first(t))
    if kind == "cond":
        return lambda t: jax.lax.cond(t[2] > 0.2, first, second, t)
    if kind == "fori":
        return lambda t: jax.lax.fori_loop(0, turns, lambda i, t: first(t), t)

    def going(state):
        return (state[0] < turns) & (jnp.sum(state[1][0]) < 50.0)

    return lambda t: jax.lax.while_loop(going, lambda s: (s[0] + 1.0, first(s[1])), (0.0 * t[2], t))[1]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_random_programs(build, data):
    steps = [random_step(data.draw, 3) for _ in range(data.draw(st.integers(1, 3)))]

    def program(t):
        seen = []
        for step in steps:
            t = step(t)
            seen.append(t[2])
        return t, seen

    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    arguments = rng.normal(size=STEPS), rng.normal(size=STEPS), rng.normal()
    check(build, program, (HORIZON_OF, HORIZON_OF, 0.0), arguments, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "turn",
    [
        lambda h, g: (jnp.concatenate([g[:1], h[:-1]]), g),
        lambda h, g: (jnp.concatenate([h[1:], g[:1]]), h),
        lambda h, g: (jnp.concatenate([h[1:] + h[:-1], g[:1]]), 0.5 * g),
        lambda h, g: (0.5 * g, jnp.where(g > 0.0, h, g)),
        lambda h, g: (jax.lax.scan(lambda c, x: (x, c), h[-1], h)[1], 0.9 * g + h[2]),
        lambda h, g: (jax.lax.scan(lambda c, x: (c + x, c * h[0]), h[1], h, reverse=True)[1], g - h),
        lambda h, g: (2.0 * h, g + jnp.max(h)),
    ],
)
def test_old_horizons_last_until_they_are_read(build, turn):
    def program(t):
        return jax.lax.fori_loop(0, 3, lambda i, t: turn(*t), t)

    rng = np.random.default_rng(0)
    check(build, program, (HORIZON_OF, HORIZON_OF), (rng.normal(size=STEPS), rng.normal(size=STEPS)))


def test_nothing_is_computed_that_no_result_needs():
    source = Source(STEPS)
    source.add("f", lambda t: jnp.cos(t[1]) * 0.0 + jnp.exp(t[1]) - jnp.exp(t[1]), (HORIZON_OF, 0.0))
    body = source.text().split("{")[-1]
    assert body.count("exp(") == 1
    source = Source(STEPS)
    source.add("f", lambda t: (jax.lax.scan(lambda c, x: (c + jnp.log(x), c), t[1], t[0]), t[1])[1], (HORIZON_OF, 0.0))
    assert "log" not in source.text()
    assert "#define f_WORK 0" in source.text()


def sample(rows, steps):
    """Problems of the bundled predictions, and where their solution starts."""
    with np.load(feasible.__path__[0] + "/data/sample.npz") as file:
        values = file["pred"].astype(float)
    trajectory = feasible.Trajectory.from_array(values[:: len(values) // rows][:rows, :steps], dt=0.1)
    vehicle, limits = feasible.vehicles.nuplan_pacifica(), feasible.presets.physical()
    _, problem, _ = localise(trajectory, vehicle, limits, np.full((rows, 6), np.nan), Weights())
    return problem, lift(problem.target, problem.weight, problem.initial_state, problem.dt), np.zeros((rows, steps, 2))


@pytest.mark.slow
def test_the_solver_agrees_with_the_lanes(build):
    rows, steps = 6, 20
    problem, states, controls = sample(rows, steps)
    kernel, engine = Riccati(engine="lanes").compiled(problem, False, riccati.SOLVE)
    it, data = pack(kernel, problem, states, controls)
    arguments = it, data, numbers(riccati.ATTEMPTS[0], rows)
    given = []
    engine(arguments, lambda _, state: given.append(state))
    (expected,) = given

    def run(arguments):
        it, data, options = arguments
        return answer(loop.advance(kernel, data, options, loop.begin(kernel, it, data, options)))

    source = Source(steps)
    source.add("solve", run, example(kernel, 0.0, HORIZON_OF))
    call = build(source)
    leaves, tree = jax.tree.flatten(expected)
    ours = np.stack([call("solve", jax.tree.map(lambda a, i=i: a[i], arguments)) for i in range(rows)])
    places = np.cumsum([a[0].size for a in leaves])
    parts = np.split(ours, places[:-1], axis=1)
    state = jax.tree.unflatten(tree, [p if a.ndim > 1 else p[:, 0] for p, a in zip(parts, leaves, strict=True)])
    np.testing.assert_array_equal(state.solved, expected.solved)
    assert state.solved.all()
    mine, theirs = unpack(kernel, state), unpack(kernel, expected)
    np.testing.assert_allclose(mine[0], theirs[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(mine[1], theirs[1], rtol=0, atol=1e-7)


def test_a_second_compiler_has_no_complaint(build):
    if shutil.which("clang") is None:
        pytest.skip("no clang on this machine")
    source = Source(STEPS)
    for name, (function, _) in UNARY.items():
        source.add(f"{name}_", function, 0.0)
    assert build(source, "clang")("sin_", 1.0) == pytest.approx(np.sin(1.0))
