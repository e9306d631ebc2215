"""What the loss costs: against the training step of a transformer (torch), and against memory bandwidth (JAX).

    python benchmarks/training/cost.py [--repeats 5] [--out cost.json]

The transformer has 10 million parameters, 32 tokens of context and 6 queries, and predicts 256 × 6 modes × 80 steps.
Times are the shortest of interleaved runs: what else the machine does can only add. Bandwidth is the better of a copy
in NumPy and an addition in place in JAX, of 256 MB in memory that has been written before (the first touch of fresh
memory measures the kernel's page faults, 15 times slower), counted once read and once written. The loss, forward, is
counted as its input read and its output written.

`ceiling` is the share of bandwidth that the loss would reach if it did nothing but its arithmetic, at the rate at which
this machine does multiplications and additions on vectors in its cache: operations a byte, not memory, are what bounds
it. Operations are those that XLA counts in the compiled loss of one chunk. `loss_512_s` is the loss compiled with
`xla_cpu_prefer_vector_width` 512, as `XLA_FLAGS=--xla_cpu_prefer_vector_width=512` does for a whole program.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp
import numpy as np
import torch

import feasible
import feasible.torch

VEHICLE, LIMITS, DT = feasible.vehicles.nuplan_pacifica(), feasible.presets.physical(), 0.1
BATCH, MODES, STEPS, CONTEXT, WIDTH, LAYERS = 256, 6, 80, 32, 384, 6


class Transformer(torch.nn.Module):
    """A planner's decoder of usual size: context and mode queries through an encoder stack."""

    def __init__(self) -> None:
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(WIDTH, 6, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.stack = torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.queries = torch.nn.Parameter(torch.randn(MODES, WIDTH))
        self.head = torch.nn.Linear(WIDTH, STEPS * 2)

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        """Positions `(B, 6, 80, 2)` from context `(B, 32, 384)`."""
        queries = self.queries.expand(len(context), MODES, WIDTH)
        out = self.stack(torch.cat([context, queries], dim=1))[:, -MODES:]
        return self.head(out).unflatten(-1, (STEPS, 2)).cumsum(-2)


def interleaved(repeats: int, **functions: Callable[[], object]) -> dict[str, float]:
    """Shortest seconds of each, after a first call of each."""
    seconds = dict.fromkeys(functions, float("inf"))
    for i in range(repeats + 1):
        for name, function in functions.items():
            begun = time.perf_counter()
            function()
            if i:
                seconds[name] = min(seconds[name], time.perf_counter() - begun)
    return seconds


def in_torch(repeats: int, compiled: bool) -> dict[str, float]:
    """Seconds of a training step without the loss, and of the loss forward and backward."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = Transformer()
    optimiser = torch.optim.AdamW(net.parameters())
    context, truth = torch.randn(BATCH, CONTEXT, WIDTH), torch.randn(BATCH, MODES, STEPS, 2)
    prediction = net(context).detach().requires_grad_()
    penalty = feasible.torch.FeasibilityLoss(VEHICLE, LIMITS, dt=DT)
    if compiled:
        penalty = torch.compile(penalty, fullgraph=True)

    def step() -> None:
        optimiser.zero_grad()
        (net(context) - truth).square().mean().backward()
        optimiser.step()

    def loss() -> None:
        penalty(prediction).mean().backward()

    found = interleaved(repeats, step=step, loss=loss)
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "step_s": found["step"],
        "loss_s": found["loss"],
        "overhead": found["loss"] / found["step"],
    }


def in_jax(repeats: int) -> dict[str, float]:
    """The loss on (4096, 80) positions against the bandwidth and the arithmetic of the machine."""
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.normal(size=(4096, STEPS, 2)).cumsum(1), jnp.float32)
    source, target = np.ones(2**26, np.float32), np.ones(2**26, np.float32)
    held, cached = [jnp.ones(2**26, jnp.float32)], jnp.ones(2**12, jnp.float32)

    @jax.jit
    def loss(values: jax.Array) -> jax.Array:
        return feasible.loss(feasible.Trajectory.from_array(values, dt=DT), VEHICLE, LIMITS)

    gradient = jax.jit(jax.grad(lambda v: loss(v).mean()))
    wide = loss.lower(values).compile(compiler_options={"xla_cpu_prefer_vector_width": 512})
    increment = jax.jit(lambda a: a + 1.0, donate_argnums=0)

    def add() -> None:
        held[0] = jax.block_until_ready(increment(held[0]))

    @jax.jit
    def arithmetic(a: jax.Array) -> jax.Array:  # 8 chains an element, to hide the latency, of 16 pairs each
        def pairs(_: int, a: jax.Array) -> jax.Array:
            chains = [a + 0.1 * i for i in range(8)]
            for _ in range(16):
                chains = [c * 0.999 + 0.001 for c in chains]
            return sum(chains) * 0.125

        return jax.lax.fori_loop(0, 1000, pairs, a)

    found = interleaved(
        40 * repeats,
        loss=lambda: jax.block_until_ready(loss(values)),
        wide=lambda: jax.block_until_ready(wide(values)),
        gradient=lambda: jax.block_until_ready(gradient(values)),
        plain=lambda: jax.block_until_ready(
            feasible.loss(feasible.Trajectory.from_array(values, dt=DT), VEHICLE, LIMITS)
        ),
        copy=lambda: np.copyto(target, source),
        add=add,
        arithmetic=lambda: jax.block_until_ready(arithmetic(cached)),
    )
    moved = values.nbytes + 4 * len(values)
    rate, bandwidth = moved / found["loss"], 2 * source.nbytes / min(found["copy"], found["add"])
    chunk = loss.lower(values[:128]).compile().cost_analysis()
    per_byte = chunk["flops"] / (moved / len(values) * 128)
    peak = 2 * 8 * 16 * 1000 * cached.size / found["arithmetic"]
    return {
        "loss_s": found["loss"],
        "loss_not_compiled_by_caller_s": found["plain"],
        "loss_512_s": found["wide"],
        "gradient_s": found["gradient"],
        "loss_bytes_per_s": rate,
        "bandwidth": bandwidth,
        "share": rate / bandwidth,
        "operations_per_byte": per_byte,
        "operations_per_s": peak,
        "ceiling": peak / per_byte / bandwidth,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile the loss (needs a C compiler)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results = {"jax": in_jax(args.repeats), "torch": in_torch(args.repeats, args.compile)}
    print(json.dumps(results, indent=2))
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
