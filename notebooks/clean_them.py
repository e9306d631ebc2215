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
# # Clean the predictions, and see what it cost
#
# `project` moves each trajectory to the nearest one that a car can drive within the limits, from the state it is in.

# %%
from pathlib import Path

import feasible
from feasible import plot

sample = feasible.io.read(Path(feasible.__file__).parent / "data" / "sample.npz")
vehicle = feasible.vehicles.nuplan_pacifica()
limits = feasible.presets.nuplan_comfort()
rows = slice(None, None, 32)
trajectory, state = sample.trajectory[rows], sample.initial_state[rows]

projection = feasible.project(trajectory, vehicle, limits, initial_state=state)
projection

# %% [markdown]
# **How far did they have to move?** The distance to feasibility does not amplify noise: a centimetre counts as one.

# %%
_ = plot.displacement(projection)
# %% [markdown]
# **One before and after.**

# %%
plot.compare(trajectory, vehicle, limits, projection=projection)

# %% [markdown]
# **Which limit was it moved for?** The shadow price of a limit is what the objective would gain if its bound were
# wider by its own size.

# %%
worst = int(projection.displacement.mean.argmax())
_ = plot.shadow_prices(projection, limits, index=worst)
# %% [markdown]
# **Is it true?** Three readings of the result: exact, by finite differences of its samples, and the worst excess found
# by a check in continuous time that shares no code with the solver.

# %%
exact = feasible.audit(projection.motion, vehicle, limits)
sampled = feasible.audit(projection.trajectory, vehicle, limits)
print(f"exact {exact.feasible.mean():.0%}, sampled {sampled.feasible.mean():.0%} of the rows feasible")
print(f"worst excess in continuous time: {projection.violation.max():.1e} of a bound")
assert exact.feasible.all()

# %% [markdown]
# **Whole files** go through `feasible project predictions.parquet -o cleaned.parquet`: ids and order are kept, and
# status, displacement and certificate stand beside each row. It certifies kinematics only: not collisions, not the map.
