# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train with the feasibility loss
#
# The same loss in PyTorch and in JAX: add it to your own objective. Here a small network fills in sixty positions from
# a few waypoints, learning from the jittery sample: once by its distance alone, once with the loss beside it.

# %%
from pathlib import Path

import numpy as np
import torch

import feasible
import feasible.torch

sample = feasible.io.read(Path(feasible.__file__).parent / "data" / "sample.npz")
vehicle, limits = feasible.vehicles.nuplan_pacifica(), feasible.presets.physical()

values = sample.trajectory.to_array(("x", "y")).astype(np.float32)
heading = sample.initial_state[:, 2]
turn = np.stack([np.cos(heading), -np.sin(heading), np.sin(heading), np.cos(heading)], -1).reshape(-1, 2, 2)
values = torch.tensor(values @ turn, dtype=torch.float32)  # x along the first heading
inputs = values[:, 11::12].flatten(1) / 50  # five waypoints
speed = torch.tensor(sample.initial_state[:, 3:], dtype=torch.float32) / 10
inputs = torch.cat([inputs, speed], -1)
learn, test = np.arange(377) % 4 != 0, np.arange(377) % 4 == 0

# %% [markdown]
# `FeasibilityLoss` takes `(..., T, 2)` and returns one number a trajectory. It reads the samples smoothed here, so that
# it asks for a drivable manoeuvre first; on raw differences of a network that jitters by centimetres, jerk would drown
# all else.

# %%
criterion = feasible.torch.FeasibilityLoss(vehicle, limits, dt=0.1, differencing="savgol")
criterion


# %%
def train(weight, steps=300):
    """The network's predictions for the rows left out, after training with so much weight on the loss."""
    torch.manual_seed(0)
    dice = np.random.default_rng(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(11, 96), torch.nn.ReLU(), torch.nn.Linear(96, 96), torch.nn.ReLU(), torch.nn.Linear(96, 120)
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        batch = dice.choice(np.flatnonzero(learn), 64, replace=False)
        predicted = 50 * network(inputs[batch]).unflatten(-1, (60, 2))
        objective = (predicted - values[batch]).norm(dim=-1).mean()
        if weight:
            objective = objective + weight * criterion(predicted).mean()
        optimiser.zero_grad()
        objective.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)  # third differences have steep gradients at first
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return 50 * network(inputs[test]).unflatten(-1, (60, 2))


results = {weight: train(weight) for weight in (0.0, 0.1)}
print("weight  error [m]  feasible, smoothed  mean excess, smoothed  mean excess, raw")
for weight, predicted in results.items():
    error = (predicted - values[test]).norm(dim=-1).mean()
    t = feasible.Trajectory.from_array(predicted.double().numpy(), dt=0.1)
    share = feasible.audit(t, vehicle, limits, differencing="savgol").feasible.mean()
    raw, smooth = (feasible.loss(t, vehicle, limits, kind="hinge", differencing=d).mean() for d in ("raw", "savgol"))
    print(f"{weight:6.1f} {error:10.2f} {share:19.0%} {smooth:22.2f} {raw:17.2f}")

# %% [markdown]
# What the loss leaves over is for the projection, or for an action-space decoder, which cannot jitter at all.

# %% [markdown]
# **The same in JAX.** `feasible.loss` is written against the array namespace of its input, so `jax.grad` and `jax.jit`
# work on it as they are, and both frameworks agree.

# %%
import jax
import jax.numpy as jnp


@jax.jit
def objective(values):
    """The mean loss of `(N, T, 2)`."""
    return feasible.loss(feasible.Trajectory.from_array(values, dt=0.1), vehicle, limits, differencing="savgol").mean()


some = results[0.0][:16]
gradient = jax.grad(objective)(jnp.asarray(some.numpy()))
tensor = some.clone().requires_grad_()
criterion(tensor).mean().backward()
print(f"loss {objective(jnp.asarray(some.numpy())):.4f} in JAX, {criterion(some).mean():.4f} in PyTorch")
difference = np.abs(np.asarray(gradient) - tensor.grad.numpy()).max() / np.abs(gradient).max()
print(f"gradients differ by {difference:.0e} of the largest")
assert difference < 1e-2
