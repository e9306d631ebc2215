import numpy as np
import pytest

import feasible
from feasible import Limit, Status, Trajectory, explain, project, signals

VEHICLE = feasible.vehicles.nuplan_pacifica()
BRAKES = (Limit("acceleration", signals.acceleration, -2.0, 2.0, "m/s²", "a test"),)


@pytest.fixture(scope="module")
def stop():
    """From 15 m/s to standstill in 3 s, which needs 5 m/s²: the limit of 2 binds from the start to the end."""
    t = 0.1 * np.arange(1, 61)
    x = np.where(t < 3, 15 * t - 2.5 * t**2, 22.5)
    line = np.stack([x, np.zeros_like(x)], axis=-1)
    straight = np.stack([10 * t, np.zeros_like(t)], axis=-1)
    both = Trajectory.from_array(np.stack([line, straight, np.full_like(line, np.nan)]), dt=0.1)
    state = np.array([[0.0, 0.0, 0.0, 15.0], [0.0, 0.0, 0.0, 10.0], [np.nan] * 4])
    return project(both, VEHICLE, BRAKES, initial_state=state)


def test_names_the_limit_the_bound_and_the_time(stop):
    (sentence,) = explain(stop, (0,))
    assert sentence.startswith("acceleration held at -2 m/s² from 0.0 to ")
    moved = stop.displacement.max[0]
    assert sentence.endswith(f"it accounts for {moved:.2f} m of the {moved:.2f} m moved")


def test_says_the_status_where_nothing_binds(stop):
    assert stop.status[1] == Status.UNCHANGED
    assert explain(stop, (1,)) == (Status.UNCHANGED.meaning,)
    assert explain(stop, (2,)) == (Status.REJECTED.meaning,)


def test_without_batch_axes_and_relaxed():
    t = 0.1 * np.arange(1, 31)
    values = np.stack([10 * t, np.zeros_like(t)], axis=-1)
    result = project(Trajectory.from_array(values, dt=0.1), VEHICLE, BRAKES, initial_state=[0, 0, 0, 10, 5.0])
    assert result.status == Status.RELAXED
    assert any("acceleration exceeded by" in sentence for sentence in explain(result))
