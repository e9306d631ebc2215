"""The fallback from states inside and outside the limits, for every preset, judged by checks that it does not share.

    python benchmarks/fallback.py [--states 1000] [--presets physical,comfort] [--out FILE]

No state accelerates by more than 12 m/s² either way: 1.2 g is more than tyres hold, and some presets do not bound it.

A state is *inside* if it keeps every limit that reads states alone, its curvature is one that the wheels can be turned
to, and some control keeps the other limits at that moment. From some of those no control keeps the limits for long:
at 0.2 m/s and -6 m/s², releasing the brake by 2 m/s³ ends in reverse. They are outside of the largest set that can be
kept for ever, and are called *doomed*. The fallback's failing does not decide that: a state is doomed if speed must
leave its bounds under the hardest jerk that the limits allow (`doomed_proved`), or else if neither the solver, from
several targets, nor IPOPT, from several starts, finds a motion that keeps them (`doomed_unsolved`: no proof). What the
fallback does not keep and one of them does is `missed`. The audit is `feasible.certify`: Runge-Kutta at 1 ms. What is
found, here and below, must be within the range of the wheels, which some presets do not bound.

From a state *outside*, let e_i(t) be the normalised excess of limit i, first of all what it is under no control.
Recovery is *monotone* if no e_i ever exceeds by more than 1e-3 the least that it has been before. That cannot be had
from every state: at 61 m/s and 2 m/s² the speed, whose limit is 60, goes on rising however hard the jerk, because the
acceleration is a state; braking hard and slowly in a tight bend, yaw acceleration at standstill is a κ, whatever the
steering. Where the fallback's recovery is not monotone, that is proved for the speed as above
(`unrecoverable_proved`), or IPOPT looks for a monotone motion of 3 s (`recovery.py`). What it finds is measured as the
fallback is; if it is monotone the state counts as `recovery_missed`, and if none is as `unrecoverable_by_ipopt`: no
proof.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # the matrices are small

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script

import feasible
from benchmarks.recovery import Recovery
from feasible import Status

T, DT = 60, 0.1
SEARCHED = 30  # steps of a recovery that IPOPT looks for
MOST = 12.0  # m/s², of acceleration
PROMISED, RISE = 1e-2, 1e-3  # normalised excess in continuous time; of recovery
CARS = {"commonroad": feasible.vehicles.commonroad_2()}  # its limits are the vehicle's; the others' are not
_POINTS = np.linspace(0.0, DT, 11)  # of a step, where recovery is measured
_JERKS = np.concatenate([-np.geomspace(1e-2, 200, 16), [0.0], np.geomspace(1e-2, 200, 16)])  # m/s³
_RATES = 4.0 * np.linspace(-1.0, 1.0, 121) ** 3  # 1/(m s)
_GRID = np.stack(np.meshgrid(_JERKS, _RATES, indexing="ij"), axis=-1).reshape(-1, 2)


class Preset:
    """A set of limits with its vehicle, its fallback and its solver."""

    def __init__(self, name: str):
        self.name, self.car, self.limits = (
            name,
            CARS.get(name, feasible.vehicles.nuplan_pacifica()),
            feasible.presets.get(name),
        )
        self.tightest = np.tan(self.car.max_steering_angle) / self.car.wheelbase  # 1/m: what the wheels can turn
        self.drivable = self.limits  # what a motion that is to be driven keeps as well
        if not any("steering_angle" in m.name for m in self.limits):
            wheels = feasible.Limit("wheels", feasible.signals.steering_angle_share, -1.0, 1.0, "1", "the vehicle")
            self.drivable = (*self.limits, wheels)
        self.solver = feasible.Projector(self.car, self.drivable, horizon=T, dt=DT, modes=8)
        self.fallback = feasible.Projector(self.car, self.limits, horizon=T, dt=DT, modes=8, deadline=0.0)
        self.steered = [bool(m.reads & set(self.car.CONTROLS)) for m in self.limits]

    def margins(self, states: np.ndarray, controls: np.ndarray, *, driven: bool = False) -> np.ndarray:
        """`(L, ...)` normalised margins at states `(..., 6)` under controls `(..., 2)`; of the wheels too if driven."""
        shape = np.broadcast_shapes(states.shape[:-1], controls.shape[:-1])
        motion = self.car.motion_of(np.broadcast_to(states, (*shape, 6)), np.broadcast_to(controls, (*shape, 2)))
        return np.stack(
            [np.broadcast_to(m.margin(motion, self.car), shape) for m in (self.drivable if driven else self.limits)]
        )

    def allowed(self, states: np.ndarray) -> np.ndarray:
        """`(N, G)`: which controls of the grid keep the limits that read controls at that moment."""
        margin = self.margins(states[:, None], _GRID)[self.steered]
        return (margin <= 0.0).all(0)

    def inside(self, states: np.ndarray) -> np.ndarray:
        """`(N,)`, as above."""
        stateful = self.margins(states, np.zeros((len(states), 2)))[~np.array(self.steered)]
        kept = (np.abs(states[:, 5]) <= self.tightest) & (stateful <= 0.0).all(0)
        kept[kept] = self.allowed(states[kept]).any(1)
        return kept


def drawn(preset: Preset, count: int, rng: np.random.Generator) -> np.ndarray:
    """`(N, 6)` states inside the limits; a third is slow, and a third at the edge in acceleration and curvature."""
    found = np.zeros((0, 6))
    while len(found) < count:
        states = np.zeros((4 * count, 6))
        slow, edge = rng.random((2, len(states))) < 1 / 3
        states[:, 3] = np.where(slow, rng.uniform(-2, 3, len(states)), rng.uniform(-14, 61, len(states)))
        states[:, 4] = rng.uniform(-1, 1, len(states)) * rng.choice([12.0, 4.0], len(states))
        bend = np.minimum(preset.tightest, 12.0 / np.maximum(states[:, 3] ** 2, 1e-6))
        states[:, 5] = rng.uniform(-1, 1, len(states)) * bend * rng.choice([1.0, 0.2], len(states))
        for share in np.geomspace(8.0, 1.0, 25)[:-1]:
            more = states * [1, 1, 1, 1, share, share]
            larger = edge & (np.abs(more[:, 4]) <= MOST) & preset.inside(more)
            states[larger], edge = more[larger], edge & ~larger
        found = np.concatenate([found, states[preset.inside(states)]])
    return found[:count]


def bounds_of_speed(preset: Preset) -> tuple[float, float, float, float]:
    """Least and largest speed [m/s], and the hardest jerk down and up [m/s³], that a preset allows anywhere."""
    v = np.linspace(-50, 100, 1501)
    states = np.zeros((len(v), 6))
    states[:, 3] = v
    kept = v[(preset.margins(states, np.zeros((len(v), 2))) <= 0.0).all(0)]
    jerks = np.concatenate([[-2000.0], np.linspace(-200, 200, 4001), [2000.0]])
    held = (preset.margins(states[:, None], np.stack([jerks, 0 * jerks], -1))[preset.steered] <= 0.0).all(0)
    down, up = jerks[held.any(0)].min(), jerks[held.any(0)].max()
    return kept.min(), kept.max(), down, up


def proved(preset: Preset, states: np.ndarray) -> np.ndarray:
    """`(N,)`: whether the speed leaves its bounds, or what it is at first, under the hardest jerk against it."""
    least, most, down, up = bounds_of_speed(preset)
    v, a = states[:, 3], states[:, 4]
    lowest = v - np.minimum(a, 0.0) ** 2 / (2 * up)
    highest = v + np.maximum(a, 0.0) ** 2 / (-2 * down)
    step = 0.11  # m/s, of the grid of speeds
    return (lowest < np.minimum(least, v) - step) | (highest > np.maximum(most, v) + step)


def solved(preset: Preset, states: np.ndarray, braked: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """`(N,)`: whether the solver or IPOPT finds a motion that keeps the limits and is within the wheels' range."""
    t = DT * np.arange(1, T + 1)
    found = np.zeros(len(states), dtype=bool)
    for speed in (None, 1.0, 0.5, 0.0):
        target = braked[:, 1:, :4]
        if speed is not None:
            target = np.stack([speed * states[:, 3:4] * t, 0 * states[:, 3:4] * t], axis=-1)
        plan = preset.solver(target, initial_state=states)
        audit = feasible.certify(plan.states, plan.controls, DT, preset.car, preset.drivable)
        found |= (plan.status <= Status.PROJECTED) & (audit.violation <= PROMISED)
    if not found.all():
        search = Recovery(preset.car, preset.drivable, T, DT)
        for i in np.flatnonzero(~found):
            u = np.stack(search.motions(states[i], np.zeros(len(preset.drivable)), starts(states[i], controls[i])))
            x = preset.car.rollout(np.broadcast_to(states[i], (len(u), 6)), u, DT)
            found[i] = (feasible.certify(x, u, DT, preset.car, preset.drivable).violation <= PROMISED).any()
    return found


def recoverable(preset: Preset, states: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """`(N,)`: whether IPOPT finds a monotone recovery from states outside, within the range of the wheels."""
    search, found = Recovery(preset.car, preset.drivable, SEARCHED, DT), np.zeros(len(states), dtype=bool)
    for i, state in enumerate(states):
        given = np.maximum(preset.margins(state, np.zeros(2), driven=True), 0.0)
        for start in starts(state, controls[i, :SEARCHED]):
            u = np.stack(search.motions(state, given, [start]))
            x = preset.car.rollout(np.broadcast_to(state, (len(u), 6)), u, DT)
            rise = rises(excesses(preset, x[:, :-1], u, driven=True))
            if (rise.max(0) <= RISE).any():
                found[i] = True
                break
    return found


def starts(state: np.ndarray, controls: np.ndarray) -> list[np.ndarray]:
    """Controls `(N, 2)` for IPOPT to start from: none; acceleration and curvature gone in 0.5 s; the fallback's."""
    easing = np.zeros_like(controls)
    easing[:5] = -state[4:] / 0.5
    return [np.zeros_like(controls), easing, controls]


def excesses(preset: Preset, states: np.ndarray, controls: np.ndarray, *, driven: bool = False) -> np.ndarray:
    """`(L, N, K)`: normalised excess over time, of states at the start of steps `(N, n, 6)` and their controls.

    First comes that of the first state under no control.
    """
    s, now = _POINTS, states[:, 0]
    states, controls = states[:, :, None], controls[:, :, None]
    path = np.zeros((*states.shape[:2], len(s), 6))
    j, c = controls[..., 0], controls[..., 1]
    path[..., 3] = states[..., 3] + states[..., 4] * s + j * s**2 / 2
    path[..., 4], path[..., 5] = states[..., 4] + j * s, states[..., 5] + c * s
    inner = preset.margins(path, np.broadcast_to(controls, (*path.shape[:-1], 2)), driven=driven)
    first = preset.margins(now, np.zeros((len(path), 2)), driven=driven)
    return np.maximum(np.concatenate([first[..., None], inner.reshape(*inner.shape[:2], -1)], axis=-1), 0.0)


def rises(excess: np.ndarray) -> np.ndarray:
    """`(L, N)`: how far each excess `(L, N, K)` comes to lie above its least so far."""
    return (excess - np.minimum.accumulate(excess, axis=-1)).max(-1)


def measured(name: str, count: int, rng: np.random.Generator) -> dict[str, Any]:
    """A preset's entry in the JSON."""
    preset = Preset(name)
    blank = np.zeros((count, T, 2))
    states = drawn(preset, count, rng)
    plan = preset.fallback(blank, initial_state=states)
    audit = feasible.certify(plan.states, plan.controls, DT, preset.car, preset.limits)
    lost = np.flatnonzero(~(audit.violation <= PROMISED))
    hopeless = proved(preset, states[lost])
    rest = lost[~hopeless]
    could = solved(preset, states[rest], plan.states[rest], plan.controls[rest]) if rest.size else np.zeros(0, bool)

    outside = drawn(preset, 3 * count, rng) * [1, 1, 1, 1.3, 2.0, 1.6]
    outside[:, 4] = outside[:, 4].clip(-MOST, MOST)
    outside = outside[~preset.inside(outside)][:count]
    recovery = preset.fallback(np.zeros((len(outside), T, 2)), initial_state=outside)
    excess = excesses(preset, recovery.states[:, :-1], recovery.controls)
    rise = rises(excess)
    rising = np.flatnonzero(rise.max(0) > RISE)
    sure = proved(preset, outside[rising])
    asked = rising[~sure]
    amiss = asked[recoverable(preset, outside[asked], recovery.controls[asked])] if asked.size else asked
    return {
        "inside": count,
        "kept": count - len(lost),
        "denied": int((plan.feasible & ~(audit.violation <= PROMISED)).sum()),
        "doomed_proved": int(hopeless.sum()),
        "doomed_unsolved": int((~could).sum()),
        "missed": int(could.sum()),
        "missed_states": states[rest[could], 3:].tolist(),
        "unsolved_states": states[rest[~could], 3:].tolist(),
        "outside": len(outside),
        "monotone": len(outside) - len(rising),
        "unrecoverable_proved": int(sure.sum()),
        "unrecoverable_by_ipopt": len(asked) - len(amiss),
        "recovery_missed": len(amiss),
        "largest_rise": float(rise[:, amiss].max(initial=0.0)),
        "ends_inside": float((excess[..., -1].max(0) <= RISE).mean()),
        "not_monotone": [
            {
                "state": outside[i, 3:].tolist(),
                "limit": preset.limits[k].name,
                "rise": float(rise[k, i]),
                "missed": bool(i in amiss),
            }
            for i, k in zip(asked, rise[:, asked].argmax(0), strict=True)
        ],
    }


def main() -> None:
    """Measures, writes the JSON, prints a line per preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=1000)
    parser.add_argument("--presets", default=",".join(feasible.presets.names()))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "fallback.json")
    args = parser.parse_args()
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.presets.split(","):
        results[name] = measured(name, args.states, np.random.default_rng([args.seed, *name.encode()]))
        print(name, {k: v for k, v in results[name].items() if not isinstance(v, list)}, flush=True)
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
