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
# # What is infeasible in my model's predictions?
#
# The bundled sample holds 377 raw predictions of a small network that regresses coordinates: six seconds at 10 Hz,
# x and y only. Could a car drive them?

# %%
from pathlib import Path

import numpy as np

import feasible
from feasible import plot

sample = feasible.io.read(Path(feasible.__file__).parent / "data" / "sample.npz")
vehicle = feasible.vehicles.nuplan_pacifica()
limits = feasible.presets.physical()
sample.trajectory

# %% [markdown]
# **What is asked.** A set of limits is a plain tuple; every number has a unit and a source.

# %%
feasible.presets.show(limits)

# %% [markdown]
# **Which limits break, how often, by how much.** `audit` differences the samples as they are.

# %%
raw = feasible.audit(sample.trajectory, vehicle, limits)
raw

# %% [markdown]
# **When in the horizon?**

# %%
_ = plot.heatmap(raw, dt=0.1)
# %% [markdown]
# **Is it jitter or the manoeuvre?** Differences amplify noise: a centimetre between neighbouring samples at 10 Hz is
# about 10 m/s³ of jerk. So read the same predictions again after 1.1 s of smoothing. What disappears was jitter.

# %%
smooth = feasible.audit(sample.trajectory, vehicle, limits, differencing="savgol")
for name, report in (("raw", raw), ("smoothed", smooth)):
    print(f"{name:9s} {report.feasible.mean():6.1%} keep every limit")

# %%
_ = plot.heatmap(smooth, dt=0.1)
# %% [markdown]
# **One of them.** The row whose smoothed lateral use of the tyres is largest, from above and in the friction circle.

# %%
row = int(np.argmax(smooth.worst["friction_circle"]))
plot.birdseye(sample.trajectory, vehicle, limits, index=row)
_ = plot.gg(sample.trajectory, vehicle, limits, index=row, differencing="savgol")
# %% [markdown]
# **All of it on one page:** `feasible report predictions.parquet -o report.html` audits the whole file and projects a
# sample. Its totals are these:

# %%
jitter = (~raw.feasible) & smooth.feasible
left = ~raw.feasible & ~smooth.feasible
print(f"{raw.feasible.sum()} feasible, {jitter.sum()} only jitter, {left.sum()} over when smoothed too")
