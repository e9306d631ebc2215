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
# # What the usual comfort metrics do not see
#
# Steady turns, exactly sampled. No passenger car can drive the first three: dry asphalt carries about 0.9 g, that is
# 8.8 m/s².

# %%
import numpy as np

import feasible
from feasible import plot

vehicle = feasible.vehicles.nuplan_pacifica()
time = 0.1 * np.arange(1, 41)


def turn(speed, curvature):
    """A steady left turn, with the yaw and speed that belong to it."""
    angle = speed * curvature * time
    columns = [np.sin(angle) / curvature, (1 - np.cos(angle)) / curvature, angle, speed + 0 * time]
    return feasible.Trajectory.from_array(np.stack(columns, -1), dt=0.1, columns=("x", "y", "yaw", "speed"))


turns = {
    "27 m/s² (30 m/s, radius 33 m)": turn(30.0, 0.03),
    "45 m/s² (15 m/s, radius 5 m)": turn(15.0, 0.2),
    "22.5 m/s² (15 m/s, radius 10 m)": turn(15.0, 0.1),
    "8 m/s² (20 m/s, radius 50 m)": turn(20.0, 0.02),
}

# %% [markdown]
# **How those metrics read a turn**, in essence (their public code has the filters and paddings around it):
#
# - Waymax's kinematic infeasibility bounds acceleration (10.4 m/s²) and curvature (0.3 1/m), and nothing across.
# - Alpamayo's comfort reward takes for lateral acceleration the rate of the body-frame lateral *velocity*: that is 0 in
#   a steady turn however tight.
# - nuPlan's closed loop reads lateral acceleration off the rear axle of its bicycle model, which writes (a, 0).
#
# The limit sets here are the sources' numbers, on signals that are what they say.


# %%
def waymax(t):
    """Whether acceleration and curvature keep Waymax's bounds, 10.4 m/s² and 0.3 1/m."""
    acceleration = np.diff(t.speed) / 0.1
    pace = t.speed[:-1] * 0.1 + 0.5 * acceleration * 0.1**2
    curvature = np.diff(np.unwrap(t.yaw)) / pace
    return bool((np.abs(acceleration) <= 10.4).all() and (np.abs(curvature) <= 0.3).all())


def body_frame(t):
    """Largest |d/dt| of the lateral velocity in the body frame [m/s²]."""
    vx, vy = np.gradient(t.x, 0.1), np.gradient(t.y, 0.1)
    across = -np.sin(t.yaw) * vx + np.cos(t.yaw) * vy
    return float(np.abs(np.diff(across[1:-1]) / 0.1).max())


head = ("steady turn", "Waymax", "body-frame rate", "physical", "lateral acceleration seen")
print("{:34s} {:10s} {:17s} {:11s} {}".format(*head))
for name, t in turns.items():
    report = feasible.audit(t, vehicle, feasible.presets.physical())
    motion = feasible.Motion.from_trajectory(t)
    seen = np.abs(motion.lateral_acceleration[2:-2]).max()
    theirs, ours = ("feasible" if ok else "infeasible" for ok in (waymax(t), report.feasible))
    print(f"{name:34s} {theirs:10s} {body_frame(t):8.2f} m/s²     {ours:11s} {seen:.1f} m/s²")

# %% [markdown]
# The yaw rate of the first turn is 0.9 rad/s, under nuPlan's bound of 0.95: of its six comfort limits, only lateral
# acceleration can see that turn, so a metric that computes it wrongly sees nothing at all.

# %%
feasible.audit(turns["27 m/s² (30 m/s, radius 33 m)"], vehicle, feasible.presets.nuplan_comfort())

# %% [markdown]
# **In the friction circle** it is plain: the whole drive is far outside.

# %%
_ = plot.gg(turns["27 m/s² (30 m/s, radius 33 m)"], vehicle, feasible.presets.physical())
# %% [markdown]
# **And what could be driven instead?** The nearest trajectory that keeps to the road surface.

# %%
wide = turns["22.5 m/s² (15 m/s, radius 10 m)"]
projection = feasible.project(wide, vehicle, feasible.presets.physical())
plot.birdseye(wide, vehicle, feasible.presets.physical(), projection=projection)
projection
