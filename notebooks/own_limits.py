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
# # Own limits, own vehicle
#
# A limit is one bound on one signal, and a signal is a plain function. There is no registry: write it, and the audit,
# the projection and the pictures read it.

# %%
import numpy as np

import feasible
from feasible import plot

# %% [markdown]
# **A vehicle**: a delivery van with a long wheelbase and slow steering.

# %%
van = feasible.KinematicBicycle(
    wheelbase=3.9, width=2.1, front=5.0, rear=1.3, max_steering_angle=0.62, max_steering_rate=0.35
)
van

# %% [markdown]
# **Two limits.** Specific power from the data sheet, and how much the load may be pushed aside. Use fields of
# `motion`, functions of `motion.xp` and attributes of `vehicle`; then they run in NumPy, JAX and PyTorch.


# %%
def power(motion, vehicle):
    """Power per mass v·a [W/kg]."""
    return motion.speed * motion.acceleration


def load(motion, vehicle):
    """Lateral acceleration at the load, behind the rear axle [m/s²]."""
    behind = 0.8  # m, where the load stands
    return motion.lateral_acceleration - behind * motion.yaw_acceleration


limits = (
    *feasible.presets.physical(),
    feasible.Limit("power", power, upper=18.0, unit="W/kg", source="data sheet"),
    feasible.Limit("load", load, -2.5, 2.5, unit="m/s²", source="test with a half-full van"),
)
feasible.presets.show(limits)

# %% [markdown]
# **A plan for it**: pull out, change lane in two seconds, accelerate hard.

# %%
time = 0.1 * np.arange(1, 51)
x = 8 * time + 0.5 * 3.0 * np.clip(time - 2, 0, None) ** 2
y = 3.5 / (1 + np.exp(-(time - 2) / 0.28))
plan = feasible.Trajectory.from_array(np.stack([x, y], -1)[None], dt=0.1)
feasible.audit(plan, van, limits)

# %%
projection = feasible.project(plan, van, limits)
plot.birdseye(plan, van, limits, projection=projection)
_ = plot.signals(plan, van, limits[-2:], projection=projection)
# %% [markdown]
# **What did each limit cost?**

# %%
plot.shadow_prices(projection, limits)
projection

# %% [markdown]
# **Turn the knobs**: with ipywidgets, a slider for each limit projects again when it is let go.

# %%
from feasible.interactive import explore

view = explore(plan, van, limits)
[slider.description for slider in view.children[:-2]]
