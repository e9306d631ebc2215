"""Rewards in the conventions of TRL, gymnasium and NAVSIM."""

import inspect
import json

import numpy as np
import pytest
from drives import random_drive, turn

import feasible
from feasible import Motion, Trajectory, presets, rl

VEHICLE = feasible.vehicles.nuplan_pacifica()
PHYSICAL = presets.physical()
LINE = np.stack([np.arange(20) * 1.0, np.zeros(20)], axis=-1)
JAGGED = LINE + [[0, 0.5]] * np.array([[1], [0]] * 10)


def parse(completion):
    text = completion if isinstance(completion, str) else completion[0]["content"]
    return json.loads(text)["path"]


def test_trl_calls_it_by_keywords_and_gets_a_list_of_floats():
    """The convention of `GRPOTrainer`: prompts, completions, completion_ids, trainer_state and data set columns."""
    function = rl.trl_reward(VEHICLE, PHYSICAL, dt=0.1, parse=parse)
    texts = [json.dumps({"path": path}) for path in (LINE.tolist(), JAGGED.tolist(), [[0, 0]], None)] + [
        "I refuse",
        "{}",
    ]
    for completions in (texts, [[{"role": "assistant", "content": text}] for text in texts]):
        rewards = function(
            prompts=["drive"] * len(texts),
            completions=completions,
            completion_ids=[[1, 2]] * len(texts),
            trainer_state=None,
            scene=["a"] * len(texts),
        )
        assert isinstance(rewards, list)
        assert all(type(r) is float for r in rewards)
        assert rewards[0] == 0
        assert -1 < rewards[1] < -0.1
        assert rewards[2:] == [-1.0] * 4
    assert function.__name__ == "feasibility_reward"  # what the trainer logs it by
    assert any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def test_the_gate_does_not_pay_for_standing_still():
    def score(path, **options):
        return rl.gated_reward(Trajectory.from_array(path, dt=0.1), LINE, VEHICLE, PHYSICAL, **options)

    still = score(LINE * 0)
    right, jagged, near = score(LINE), score(JAGGED), score(LINE + np.array([0, 3.0]))
    assert right == (1.0, right[1])
    assert right[1]["accurate"] == 1
    assert right[1]["ade"] == 0
    assert still[0] == -1
    assert still[1]["feasibility"] == 0
    assert still[1]["accurate"] == 0
    assert still[0] < near[0] < 0 < jagged[0] < right[0]
    broken = LINE.copy()
    broken[3] = np.nan
    assert score(broken)[0] == -1
    assert score(broken * np.nan)[0] == -1
    assert all(type(v) is float for v in jagged[1].values())
    assert {"invalid", "jerk", "jerk/known"} <= set(jagged[1])
    with pytest.raises(ValueError, match="truth: expected shape"):
        rl.gated_reward(Trajectory.from_array(LINE, dt=0.1), LINE[:5], VEHICLE, PHYSICAL)


def test_gymnasium_wrapper():
    gymnasium = pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    import feasible.gym

    class Car(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1e3, 1e3, (2,), np.float64)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.position, self.count = np.zeros(2), 0
            return self.position.copy(), {}

        def step(self, action):
            self.position, self.count = self.position + np.array([1.0, action[0]]), self.count + 1
            return self.position.copy(), 1.0, False, self.count >= 12, {"lane": 3}

    env = feasible.gym.FeasibilityReward(
        Car(), VEHICLE, PHYSICAL, dt=0.1, read=lambda observation, info: observation, weight=0.5
    )
    check_env(env, skip_render_check=True)

    def episode(action):
        env.reset(seed=0)
        return [env.step(np.array([action * (-1) ** i])) for i in range(12)]

    straight, wobble = episode(0.0), episode(0.5)
    assert [s[1] for s in straight] == [1.0] * 12
    assert straight[-1][3]
    assert wobble[0][1] == 1.0
    assert 0.5 <= wobble[-1][1] < 0.98
    assert wobble[-1][4]["lane"] == 3
    assert wobble[-1][4]["feasibility"]["steering_rate"] < -0.2
    again = episode(0.0)
    assert again[-1][1] == 1.0  # nothing of the last episode is left
    with pytest.raises(ValueError, match="window: expected at least 4"):
        feasible.gym.FeasibilityReward(Car(), VEHICLE, PHYSICAL, dt=0.1, read=None, window=3)


def test_navsim_booleans(rng):
    calm = np.stack([random_drive(rng, steps=41, jerk=0.3)[2].to_array() for _ in range(3)])
    motion = Motion.from_trajectory(Trajectory.from_array(calm, dt=0.1, columns=("x", "y", "yaw", "speed")))
    verdict = rl.navsim_comfort(motion, 0.1)
    assert verdict["comfortable"].shape == (3,)
    assert verdict["comfortable"].all()
    assert len(verdict) == 7
    t = 0.1 * np.arange(41)
    brake = np.stack([30 * t - 2.5 * t**2, 0 * t, 0 * t, 30 - 5 * t], axis=-1)
    motion = Motion.from_trajectory(Trajectory.from_array(brake, dt=0.1, columns=("x", "y", "yaw", "speed")))
    verdict = rl.navsim_comfort(motion, 0.1)
    assert not verdict["acceleration"]
    assert not verdict["comfortable"]
    assert verdict["yaw_rate"]
    with pytest.raises(ValueError, match="at least 8 samples"):
        rl.navsim_comfort(Motion.from_trajectory(turn(5.0, 0.1, steps=7)), 0.1)


def test_navsim_has_its_blind_spot_and_the_audit_has_not():
    """A swerve of 27 m/s² in the middle of the horizon: NAVSIM's parabola flattens it."""
    t = 0.1 * np.arange(41)
    speed, curvature = 30.0, 0.03 * np.exp(-(((t - 2.0) / 0.15) ** 2))
    fine = np.linspace(0, 4, 4001)
    yaw = np.concatenate([[0], np.cumsum(speed * 0.03 * np.exp(-(((fine - 2.0) / 0.15) ** 2)) * 1e-3)])[:-1]
    x, y = np.cumsum(speed * np.cos(yaw) * 1e-3), np.cumsum(speed * np.sin(yaw) * 1e-3)
    path = np.stack([x, y, yaw, np.full_like(x, speed)], axis=-1)[::100][:41]
    trajectory = Trajectory.from_array(path, dt=0.1, columns=("x", "y", "yaw", "speed"))
    motion = Motion.from_trajectory(trajectory)
    assert np.abs(motion.lateral_acceleration).max() > 15
    assert curvature.max() == 0.03
    assert rl.navsim_comfort(motion, 0.1)["lateral_acceleration"]
    report = feasible.audit(trajectory, VEHICLE, presets.navsim_comfort())
    assert report.worst["lateral_acceleration"] > 2
