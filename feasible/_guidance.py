"""`guidance`: which way each sample has to move so that a trajectory keeps its limits better; for samplers.

A diffusion or flow planner draws x_T -> ... -> x_0. At each step, with x̂_0 the clean trajectory that the network
believes in, the step towards the limits is classifier guidance (Dhariwal and Nichol, 2021) with -loss as the log of an
unnormalised density:

    x̂_0  <-  x̂_0 - s · guidance(x̂_0),   guidance = ∂ loss / ∂ samples

Its size is not that of a distance: raw differences of noise have steep slopes, so bound the step in metres, as
`benchmarks/diffusion.py` does, and project the last x̂_0 if the answer must be feasible.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from feasible._arrays import Array, namespace
from feasible._loss import loss
from feasible._trajectory import Trajectory


def guidance(trajectory: Trajectory, vehicle: Any, limits: Any, **options: Any) -> Array:
    """The gradient of each trajectory's own `loss` by its samples, `(..., T, columns)`; JAX, or NumPy through JAX.

    Finite everywhere, 0 at missing samples and where every limit holds. Works under `jit`, `vmap` and `grad`. For
    PyTorch see `feasible.torch.guidance`.

    Args:
        trajectory: `(..., T)`; NumPy arrays come back as NumPy, in the precision that JAX is set to.
        vehicle: the vehicle that the signals read.
        limits: a tuple of `Limit`.
        **options: of `loss`.

    Raises:
        ValueError: for tensors of PyTorch, and whatever `loss` refuses.
    """
    name = namespace(trajectory.x).__name__
    if "torch" in name:
        raise ValueError("trajectory: expected NumPy or JAX arrays, got tensors; use feasible.torch.guidance")
    import jax

    columns = trajectory.columns

    def total(values: Array) -> Array:
        given = dict(zip(columns, (values[..., i] for i in range(len(columns))), strict=True))
        moved = Trajectory(given["x"], given["y"], given.get("yaw"), given.get("speed"), trajectory.dt, valid)
        return loss(moved, vehicle, limits, **options).sum()

    values, valid = jax.numpy.asarray(trajectory.to_array()), jax.numpy.asarray(trajectory.valid)
    gradient = jax.grad(total)(values)
    return np.asarray(gradient) if "numpy" in name and "jax" not in name else gradient
