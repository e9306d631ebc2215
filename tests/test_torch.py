"""`feasible.torch`: autograd, compile, func, autocast, DDP, and what must not be imported or run."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from drives import COLUMNS, random_drive

import feasible
from feasible import presets

torch = pytest.importorskip("torch")
import feasible.torch as bridge  # noqa: E402  torch may be absent

VEHICLE = feasible.vehicles.nuplan_pacifica()
PHYSICAL = presets.physical()


@pytest.fixture
def values(rng):
    drives = np.stack([random_drive(rng, steps=14)[2].to_array(COLUMNS) for _ in range(3)])
    drives -= drives[:, :1] * [1, 1, 0, 0]
    return torch.tensor(drives + 0.05 * rng.normal(size=drives.shape))


def loss(a, **options):
    return bridge.loss(a, VEHICLE, PHYSICAL, dt=0.1, **options)


def reward(a, **options):
    return bridge.reward(a, VEHICLE, PHYSICAL, dt=0.1, **options)[0]


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("function", [loss, reward])
@pytest.mark.parametrize("differencing", ["raw", "savgol"])
def test_gradcheck(values, columns, function, differencing):
    a = values[:1, :8, :columns].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: function(v, differencing=differencing), a, eps=1e-7, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["squared", "hinge", "smooth"])
def test_gradcheck_of_each_kind(values, kind):
    a = values[:1, :8, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss(v, kind=kind), a, eps=1e-7, atol=1e-3, rtol=1e-3)


def test_it_is_the_loss_of_the_library(values):
    trajectory = feasible.Trajectory.from_array(values.numpy(), dt=0.1, columns=COLUMNS)
    np.testing.assert_allclose(loss(values), feasible.loss(trajectory, VEHICLE, PHYSICAL), rtol=1e-9)
    tensors = feasible.Trajectory.from_array(values, dt=0.1, columns=COLUMNS)
    torch.testing.assert_close(bridge.loss(tensors, VEHICLE, PHYSICAL), loss(values))
    with pytest.raises(ValueError, match="dt: expected a positive number"):
        bridge.loss(values, VEHICLE, PHYSICAL)
    with pytest.raises(ValueError, match=r"expected shape \(..., T, 2 \| 3 \| 4\)"):
        loss(values[..., :1])


def test_module(values):
    module = bridge.FeasibilityLoss(VEHICLE, PHYSICAL, dt=0.1, weights={"jerk": 2.0}, margin=0.1)
    grouped = values.expand(2, 3, 14, 4)
    assert module(grouped).shape == (2, 3)
    assert "kind=smooth" in repr(module)
    total, parts = module(values, torch.ones(3, 14, dtype=torch.bool), components=True)
    assert parts["jerk"].shape == total.shape == (3,)
    with pytest.raises(ValueError, match="weights: expected names"):
        bridge.FeasibilityLoss(VEHICLE, PHYSICAL, dt=0.1, weights={"nothing": 1.0})
    with pytest.raises(ValueError, match="dt: expected"):
        bridge.FeasibilityLoss(VEHICLE, PHYSICAL, dt=0.0)


@pytest.mark.parametrize("columns", [2, 4])
def test_compile_in_one_graph(values, columns):
    module = bridge.FeasibilityLoss(VEHICLE, PHYSICAL, dt=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = (values[..., :columns].clone().requires_grad_() for _ in range(2))
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")(a)
        rewarded = torch.compile(reward, fullgraph=True, backend="aot_eager")(values)
    torch.testing.assert_close(compiled, module(b))
    torch.testing.assert_close(rewarded, reward(values))
    compiled.sum().backward()
    module(b).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)


def test_vmap_and_grad(values):
    torch.testing.assert_close(torch.func.vmap(loss)(values), loss(values))
    torch.testing.assert_close(torch.func.vmap(reward)(values), reward(values))
    per_row = torch.func.vmap(torch.func.grad(loss))(values)
    torch.testing.assert_close(per_row, bridge.guidance(values, VEHICLE, PHYSICAL, dt=0.1))
    torch.testing.assert_close(torch.func.grad(lambda a: loss(a).sum())(values), per_row)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("differencing", ["raw", "savgol"])
def test_autocast_changes_nothing(values, dtype, differencing):
    single = values.float()
    with torch.autocast("cpu", dtype=dtype):
        inside = loss(single, differencing=differencing)
        half = loss(single.to(dtype), differencing=differencing)
    assert inside.dtype == half.dtype == torch.float32
    torch.testing.assert_close(inside, loss(single, differencing=differencing), rtol=0, atol=0)


def test_strided_and_expanded_inputs(values):
    wide = torch.stack([values, values], dim=-1)[..., 0].movedim(0, 1).contiguous().movedim(1, 0)
    torch.testing.assert_close(loss(wide), loss(values))
    row = values[:1].clone().requires_grad_()
    loss(row.expand(3, 14, 4)).sum().backward()
    assert torch.isfinite(row.grad).all()


def test_projection_loss_pulls_towards_the_projection(values):
    a = values[:2, :, :2].clone().requires_grad_()
    total, parts = bridge.projection_loss(a, VEHICLE, PHYSICAL, dt=0.1, components=True, backend="osqp")
    total.sum().backward()
    trajectory = feasible.Trajectory.from_array(values[:2, :, :2].numpy(), dt=0.1)
    result = feasible.project(trajectory, VEHICLE, PHYSICAL, backend="osqp")
    moved = values[:2, :, :2].numpy() - result.trajectory.to_array(("x", "y"))
    np.testing.assert_allclose(a.grad, moved, atol=1e-5)  # OSQP stops a little differently from batch to batch
    np.testing.assert_allclose(total.detach(), (moved**2).sum((1, 2)) / 2, rtol=1e-3)
    np.testing.assert_allclose(parts["distance"].detach(), result.displacement.mean, rtol=1e-3)
    assert list(parts["status"]) == list(result.status)


def test_projection_loss_composes(values):
    a = values[:2, :10]
    module = bridge.ProjectionLoss(VEHICLE, PHYSICAL, dt=0.1, backend="osqp")
    plain = torch.func.grad(lambda v: module(v).sum())(a)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(module))(a), plain)
    b = a.clone().requires_grad_()
    torch.compile(module, fullgraph=True, backend="aot_eager")(b).sum().backward()
    torch.testing.assert_close(b.grad, plain)
    same = bridge.ProjectionLoss(VEHICLE, presets.physical(), dt=0.1, backend="osqp")
    assert same.place == module.place  # equal setups share a place, so a loop does not fill the list
    arguments = (
        a,
        a.new_ones(2, 10),
        a.new_full((2, 1), float("nan")),
        torch.tensor(1e-10, dtype=torch.float64),
        0.1,
        [True] * 4,
        module.place,
    )
    torch.library.opcheck(torch.ops.feasible.project.default, arguments)


@pytest.fixture(scope="module")
def layer():
    return bridge.ProjectionLayer(VEHICLE, PHYSICAL, dt=0.1)


@pytest.fixture
def short(rng):
    line = np.stack([np.arange(6) * 1.0, np.zeros(6)], axis=-1)
    return torch.tensor(line + 0.05 * rng.normal(size=(2, 6, 2)))


def test_gradcheck_of_the_projection(layer, short):
    start = torch.tensor([[-1.0, 0, 0, 10.0, 0, 0]], dtype=torch.float64, requires_grad=True)
    a = short[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(layer, (a,), eps=1e-5, atol=1e-3, rtol=1e-2)
    assert torch.autograd.gradcheck(layer, (a, start), eps=1e-5, atol=1e-3, rtol=1e-2)
    counts = torch.linspace(1.0, 2.0, 6, dtype=torch.float64)[None].requires_grad_()
    assert torch.autograd.gradcheck(layer, (a, start, counts), eps=1e-5, atol=1e-3, rtol=1e-2)


def test_smoothing_is_an_attribute_that_a_run_may_lower(short):
    layer = bridge.ProjectionLayer(VEHICLE, PHYSICAL, dt=0.1, smoothing=1e-4)
    slopes, weight = [], torch.linspace(0, 1, 12, dtype=short.dtype).view(6, 2)
    for smoothing in (None, 1e-10):
        layer.smoothing = smoothing or layer.smoothing
        a = short.clone().requires_grad_()
        (layer(a) * weight).sum().backward()
        slopes.append(a.grad)
    _, pull = feasible.project_vjp(feasible.Trajectory.from_array(short.numpy(), dt=0.1), VEHICLE, PHYSICAL)
    by_samples = np.concatenate([np.broadcast_to(weight, (2, 6, 2)), np.zeros((2, 6, 2))], axis=-1)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for k in range(10):  # more than Dynamo compiles anew
        layer.smoothing = 10.0 ** (-4 - k)
        a = short.clone().requires_grad_()
        (compiled(a) * weight).sum().backward()
        torch.testing.assert_close(a.grad, slopes[0] if k == 0 else a.grad)
    for smoothing, slope in zip((1e-4, 1e-10), slopes, strict=True):
        np.testing.assert_allclose(slope, pull(by_samples, smoothing=smoothing).trajectory[..., :2], atol=1e-9)
    assert (slopes[0] - slopes[1]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="smoothing"):
        bridge.project(short, VEHICLE, PHYSICAL, dt=0.1, smoothing=-1.0)


def test_projection_keeps_shape_dtype_and_strides(layer, short):
    wanted = feasible.project(feasible.Trajectory.from_array(short.numpy(), dt=0.1), VEHICLE, PHYSICAL).trajectory
    np.testing.assert_allclose(layer(short), wanted.to_array(("x", "y")), atol=1e-6)
    torch.testing.assert_close(bridge.project(short, VEHICLE, PHYSICAL, dt=0.1), layer(short))
    strided = torch.stack([short, short], dim=-1)[..., 0]
    torch.testing.assert_close(layer(strided), layer(short))
    row = short[:1].clone().requires_grad_()
    layer(row.expand(3, 6, 2)).square().sum().backward()
    alone = short[:1].clone().requires_grad_()
    layer(alone).square().sum().backward()
    torch.testing.assert_close(row.grad, 3 * alone.grad, rtol=1e-4, atol=1e-6)
    single, parts = layer(short.float(), components=True)
    assert single.dtype == torch.float32
    assert single.shape == short.shape
    assert (parts["status"] <= 1).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(short.bfloat16()).dtype == torch.float32


def test_projection_composes(layer, short):
    def score(a):
        return (layer(a) * torch.linspace(0, 1, 12, dtype=a.dtype).view(6, 2)).sum((-2, -1))

    plain = torch.func.grad(lambda a: score(a).sum())(short)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(score))(short), plain, rtol=1e-4, atol=1e-6)
    a = short.clone().requires_grad_()
    compiled = torch.compile(score, fullgraph=True, backend="aot_eager")
    compiled(a).sum().backward()
    torch.testing.assert_close(a.grad, plain, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(compiled(short), score(short))
    first = torch.autograd.grad(score(a).sum(), a, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="no second derivative"):
        first.square().sum().backward()


@pytest.mark.parametrize("columns", [2, 4])
def test_backward_is_as_compilers_are_told(layer, short, columns):
    """Strides too, which Inductor asserts."""
    values = torch.cat([short, torch.zeros(2, 6, 2, dtype=short.dtype)], dim=-1)[..., :columns].contiguous()
    given = values, values.new_ones(2, 6), values.new_full((2, 1), float("nan")), torch.tensor(1e-8).double()
    rest = 0.1, [True, True, columns > 2, columns > 3], layer.place
    backward = torch.ops.feasible.project_backward.default
    torch.library.opcheck(backward, (values.new_ones(2, 6, 5), *given, *rest))


def test_one_trajectory_without_a_batch(layer, short):
    one, batch = short[0].clone().requires_grad_(), short[:1].clone().requires_grad_()
    layer(one).square().sum().backward()
    layer(batch).square().sum().backward()
    torch.testing.assert_close(one.grad, batch.grad[0], rtol=1e-6, atol=1e-9)


def test_a_pickled_layer_is_itself_in_another_process(layer, short, tmp_path):
    torch.save(layer, tmp_path / "layer.pt")
    np.save(tmp_path / "short.npy", short.numpy())
    code = (
        "import numpy as np, torch, feasible.torch as bridge; from feasible import presets, vehicles;"
        "bridge.ProjectionLayer(vehicles.nuplan_pacifica(), presets.waymax(), dt=0.1);"  # takes the first place
        "layer = torch.load('layer.pt', weights_only=False);"
        "np.save('here.npy', layer(torch.tensor(np.load('short.npy'))).numpy())"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "here.npy"), layer(short), atol=1e-9)


def test_a_lost_row_has_no_gradient_and_leaves_the_others_theirs(layer, short):
    broken = short.clone()
    broken[1] = float("nan")
    broken.requires_grad_()
    clean = short.clone().requires_grad_()
    out = layer(broken)
    out.square().sum().backward()
    layer(clean).square().sum().backward()
    assert torch.isfinite(out).all()
    assert (broken.grad[1] == 0).all()
    torch.testing.assert_close(broken.grad[0], clean.grad[0], rtol=1e-4, atol=1e-6)


def test_decode_has_gradients_in_torch():
    controls = torch.zeros(12, 2, dtype=torch.float64, requires_grad=True)
    start = torch.tensor([0, 0, 0, 9.0, 0, 0.01], dtype=torch.float64)

    def drive(u):
        t, _ = feasible.decode(u, start, VEHICLE, PHYSICAL, dt=0.1)
        return torch.stack([t.x, t.y])

    assert torch.autograd.gradcheck(drive, controls)


def run(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


USE = """
import numpy as np, torch, feasible, feasible.torch
v, limits = feasible.vehicles.nuplan_pacifica(), feasible.presets.physical()
a = torch.tensor(np.random.default_rng(0).normal(size=(2, 12, 4)).cumsum(1), requires_grad=True)
module = feasible.torch.FeasibilityLoss(v, limits, dt=0.1)
(module(a).sum() + feasible.torch.reward(a, v, limits, dt=0.1)[0].sum()).backward()
feasible.torch.guidance(a, v, limits, dt=0.1)
feasible.decode(a[..., :2], torch.zeros(6, dtype=a.dtype), v, limits, dt=0.1)
assert torch.isfinite(a.grad).all()
"""


def test_no_jax_operation_runs():
    check = """
import jax
try:
    jax.numpy.zeros(1)
except RuntimeError:
    print("jax cannot run")
"""
    assert "jax cannot run" in run(USE + check, JAX_PLATFORMS="nowhere")


def test_without_torch_everything_else_works():
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "gymnasium"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import jax, jax.numpy as jnp, numpy as np, feasible
v, limits = feasible.vehicles.nuplan_pacifica(), feasible.presets.physical()
make = lambda a: feasible.Trajectory.from_array(a, dt=0.1)
a = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 2)).cumsum(1))
assert np.isfinite(jax.jit(jax.grad(lambda a: feasible.loss(make(a), v, limits).sum()))(a)).all()
feasible.reward(make(a), v, limits); feasible.guidance(make(a), v, limits)
feasible.loss(make(np.asarray(a)), v, limits)
feasible.decode(a, jnp.zeros(6), v, limits, dt=0.1)
try:
    import feasible.torch
except ImportError as error:
    print(error)
"""
    assert "pip install 'feasible[torch]'" in run(code)


def test_two_ranks_of_ddp_agree(tmp_path):
    code = f"""
import sys, torch, feasible, feasible.torch
import torch.distributed as dist
rank = int(sys.argv[1]) if len(sys.argv) > 1 else None
def work(rank):
    dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 24))
    loss = feasible.torch.FeasibilityLoss(feasible.vehicles.nuplan_pacifica(), feasible.presets.physical(), dt=0.1)
    torch.manual_seed(rank)
    loss(net(torch.randn(4, 3)).view(4, 12, 2)).mean().backward()
    gradient = net.module.weight.grad
    others = [torch.zeros_like(gradient) for _ in range(2)]
    dist.all_gather(others, gradient)
    assert torch.equal(*others) and torch.isfinite(gradient).all() and gradient.abs().max() > 0
    dist.destroy_process_group()
import os
child = os.fork()
work(0 if child == 0 else 1)
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("agreed")
"""
    assert "agreed" in run(code)
