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
# # Put the projector behind a planner
#
# `Projector` is `project` for one plan at a time, ten times a second: set up once, warm started, with a deadline, and
# with an answer for every input. It certifies kinematics only: not collisions, not the map.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import feasible
from feasible import plot

sample = feasible.io.read(Path(feasible.__file__).parent / "data" / "sample.npz")
vehicle, limits = feasible.vehicles.nuplan_pacifica(), feasible.presets.nuplan_comfort()
settings = {"horizon": 40, "dt": 0.1, "modes": 1}

projector = feasible.Projector(vehicle, limits, **settings).warmup()
projector.configuration  # stands in every certificate

# %% [markdown]
# `warmup` compiles everything and measures what an iteration costs here, so that the first call is like any other. The
# machine code is kept on disk: the next process has it at once.
#
# **A planner** for this page: a bundled prediction of 6 s, seen anew every 0.1 s with 5 cm of fresh noise.

# %%
noise = np.random.default_rng(0)
CYCLES = 20


def plans(row, jitter=0.05):
    """`(20, 40, 2)`: what comes in, cycle after cycle, in one frame; jitter in metres."""
    path = sample.trajectory[row].to_array(("x", "y"))
    ahead = np.stack([path[c : c + 40] for c in range(CYCLES)])
    return ahead + jitter * noise.normal(size=ahead.shape)


row = 298
incoming, now = plans(row), sample.initial_state[row]
plan = projector(incoming[0], initial_state=now)
print(plan.status == feasible.Status.PROJECTED, plan.states.shape, plan.controls.shape)

# %%
before = feasible.Trajectory.from_array(incoming[0], dt=0.1)
_ = plot.birdseye(before, vehicle, limits, projection=plan.projection)

# %% [markdown]
# **The loop.** Drive the plan for a cycle; where that leads is the next initial state, and the plan is the next warm
# start. The projector keeps nothing between calls, so whatever happened in one cannot hurt the next.

# %%
plan, driven = None, [np.append(now, [np.nan, np.nan])]
for values in incoming:
    plan = projector(values, initial_state=driven[-1], warm_start=plan)
    driven.append(plan.states[1])
driven = np.stack(driven[1:])

# %% [markdown]
# `feasible.replay` is this loop with a stop-watch, and `feasible replay LOG` runs it over a file of your own plans. A
# *jump* is the distance between consecutive plans at equal times: of the answers, and of what was given.

# %%
rows = range(0, 377, 32)
logs = [(plans(r), sample.initial_state[r]) for r in rows]
print(feasible.replay(incoming, projector, initial_state=now))

# %% [markdown]
# **Warm against cold.** A warm start is as short as what changed since is small, and is dropped where that is more
# than some centimetres of every sample, because from there a cold one is shorter. So the planner of this page, with its
# 5 cm, gets nothing out of it, and here is one that changes its mind by 2 mm. Iterations are the same on every machine.
# Milliseconds are those of the one that ran this page, with whatever else it did: `benchmarks/latency.py` measures them
# with care.

# %%
steady = [(plans(r, jitter=0.002), sample.initial_state[r]) for r in rows]
warm, cold = (
    [feasible.replay(p, projector, initial_state=s, warm=started) for p, s in steady] for started in (True, False)
)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for found, label, color in ((cold, "cold", "#c8501e"), (warm, "warm", "#0b5fa5")):
    count = np.concatenate([r.iterations[1:] for r in found])
    ms = 1e3 * np.concatenate([r.latency[1:] for r in found])
    axes[0].hist(np.clip(count, 0, 50), np.arange(5.5, 51.5), alpha=0.6, color=color)
    axes[1].hist(np.clip(ms, 0.3, 30), np.geomspace(0.3, 30, 41), alpha=0.6, color=color, label=label)
    print(f"{label}: median {np.median(count):.0f} iterations, {np.median(ms):.1f} ms")
axes[0].set(xlabel="iterations (50: or more)", ylabel="calls")
axes[1].set(xlabel="ms, as the caller waits", xscale="log")
axes[1].set_xticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"])
axes[1].legend(frameon=False)
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
apart = max(np.abs(w.executed[:, :2] - c.executed[:, :2]).max() for w, c in zip(warm, cold, strict=True))
print(f"driven paths of warm and cold starts are within {1e3 * apart:.1f} mm")

# %% [markdown]
# **At a deadline** the call answers with what it has: the solver's iterate, repaired and checked, or the fallback,
# which brakes. `converged` says which answers are the nearest, `status` which can be driven within the limits. How
# much fits into a millisecond depends on the machine; into nothing fits the fallback.

# %%
for deadline in (0.001, 0.0):
    hurried = feasible.Projector(vehicle, limits, **settings, deadline=deadline).warmup()
    answers = [hurried(p[0], initial_state=s) for p, s in logs]
    counts = {s.name: [int(a.status) for a in answers].count(s) for s in feasible.Status}
    print(f"{1e3 * deadline:g} ms:", {name: count for name, count in counts.items() if count})
assert counts["FALLBACK"] == len(answers)

# %%
braking = hurried(incoming[0], initial_state=now)
_ = plot.signals(before, vehicle, limits[:2], projection=braking.projection, differencing="savgol")

# %% [markdown]
# **A plan that is not there.** Samples that are NaN are bridged; where none is left, the car brakes from where it is.
# Nothing raises, and the next good plan is followed as if nothing had been.

# %%
now = driven[5]
holes, lost = incoming[6].copy(), np.full((40, 2), np.nan)
holes[8:20] = np.nan
for values in (holes, lost, incoming[6]):
    plan = projector(values, initial_state=now, warm_start=plan)
    first, last = plan.states[[0, -1], 3]
    print(f"{feasible.Status(int(plan.status)).name}: from {first:.1f} to {last:.1f} m/s")
    assert np.isfinite(plan.states).all()

# %% [markdown]
# **An impossible state.** The car already brakes harder than comfort allows. No plan from there keeps the limits, so
# the answer exceeds as few of them as it can, as little as it can, and says which.

# %%
braked = now.copy()
braked[4] = -6.0  # m/s²
plan = projector(incoming[6], initial_state=braked)
print(feasible.Status(int(plan.status)).name, "-", *plan.projection.relaxed)
before = feasible.Trajectory.from_array(incoming[6], dt=0.1)
_ = plot.signals(before, vehicle, limits[:2], projection=plan.projection, differencing="savgol")

# %% [markdown]
# **The certificate** goes with the plan to whoever has to trust it. It is measured on the answer, ten times in each
# step, by code that is not the solver's.

# %%
certificate = plan.certificates[0]
del certificate["seconds"]
print(json.dumps({k: certificate[k] for k in ("status", "feasible", "margin", "violation")}, indent=1))


# %% [markdown]
# **What to do with it** is the vehicle's decision, and one line for each status.


# %%
def decide(plan):
    """What a vehicle may do with an answer."""
    return {
        feasible.Status.UNCHANGED: "drive",
        feasible.Status.PROJECTED: "drive",
        feasible.Status.RELAXED: "drive, and report the state: it was outside the limits",
        feasible.Status.FALLBACK: "drive (it brakes), and report",
        feasible.Status.REJECTED: "drive (it brakes), and report the planner",
    }[feasible.Status(int(plan.status))]


decide(plan)
