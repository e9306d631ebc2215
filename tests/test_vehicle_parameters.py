"""Named vehicles against a table written from their sources; the check itself is mutation tested."""

import dataclasses
import inspect
import math
import re
from typing import Any

import jax
import numpy as np
import pytest

from feasible import vehicles
from feasible.vehicles import KinematicBicycle, parameters

FIELDS = (
    *("wheelbase", "width", "front", "rear", "max_steering_angle", "max_steering_rate"),
    *("min_speed", "max_speed", "max_acceleration", "switching_speed"),
)
# fmt: off
GOLDEN = {
    "generic_car": (2.8, 1.9, 3.8, 1.0, 0.6, 0.5, -15.0, 60.0, 11.5, math.inf),
    "nuplan_pacifica": (3.089, 2.297, 4.049, 1.127, math.pi / 3, 0.5, -13.9, 50.0, 3.0, math.inf),
    "lincoln_mkz": (2.8448, 2.11, 3.89, 1.043, 8.203 / 16, 8.552 / 16, -13.9, 40.0, 2.0, math.inf),
    "ford_fusion": (2.85, 1.852, 3.81, 1.06, 0.785, 0.5, -13.9, 35.0, 6.0, math.inf),
    "commonroad_1": (2.393, 1.674, 3.658, 0.640, 0.910, 0.4, -13.9, 45.8, 11.5, 4.755),
    "commonroad_2": (2.579, 1.610, 3.677, 0.831, 1.066, 0.4, -13.9, 50.8, 11.5, 7.319),
    "commonroad_3": (2.472, 1.844, 3.606, 0.963, 1.023, 0.4, -11.2, 41.7, 11.5, 7.824),
    "commonroad_4": (3.6, 2.55, 4.35, 0.75, 0.55, 0.7103, -2.78, 22.22, 11.5, 7.824),
}
# fmt: on


def check(vehicle, numbers):
    for field, number in zip(FIELDS, numbers, strict=True):
        assert getattr(vehicle, field) == pytest.approx(number, rel=1e-3), field


@pytest.mark.parametrize("name", GOLDEN)
def test_numbers_are_the_sources(name):
    check(vehicles.get(name), GOLDEN[name])


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name", GOLDEN)
def test_the_check_above_notices_a_changed_number(name, field):
    vehicle = vehicles.get(name)
    number = getattr(vehicle, field)
    change: dict[str, Any] = {field: 20.0 if math.isinf(number) else number * 1.01}
    mutant = dataclasses.replace(vehicle, **change)
    with pytest.raises(AssertionError):
        check(mutant, GOLDEN[name])


def test_facts_that_follow():
    """Numbers that the sources state beside the parameters."""
    assert vehicles.nuplan_pacifica().rear_axle_to_center == pytest.approx(1.461)
    mkz = vehicles.lincoln_mkz()
    assert mkz.wheelbase / math.tan(mkz.max_steering_angle) == pytest.approx(5.05386147161, rel=1e-6)  # its radius
    assert mkz.front + mkz.rear == pytest.approx(4.933)
    centers = (1.50876, 1.4227170936, 1.3211363976, 1.8)  # m, b: the body is drawn around the centre of gravity
    lengths = (4.298, 4.508, 4.569, 5.1)
    for number, center, length in zip("1234", centers, lengths, strict=True):
        vehicle = vehicles.get(f"commonroad_{number}")
        assert vehicle.rear_axle_to_center == pytest.approx(center)
        assert vehicle.front + vehicle.rear == pytest.approx(length)


def test_the_generic_car_is_the_default():
    check(KinematicBicycle(), GOLDEN["generic_car"])


@pytest.mark.parametrize("name", GOLDEN)
def test_a_vehicle_is_plausible_and_usable(name):
    vehicle = vehicles.get(name)
    assert isinstance(vehicle, KinematicBicycle)
    assert vehicle.name == name
    assert vehicle.source
    assert 0 < vehicle.rear < vehicle.wheelbase < vehicle.front  # both axles are under the body
    assert 0 < vehicle.max_steering_angle < math.pi / 2
    assert vehicle.min_speed <= 0 < vehicle.max_speed
    assert vehicle.switching_speed > 0
    assert all(type(leaf) is float for leaf in jax.tree.leaves(vehicle))
    assert len(jax.tree.leaves(vehicle)) == len(FIELDS)
    structure: Any = jax.tree.structure
    assert structure(vehicle) == structure(vehicles.get(name))
    # A full turn at the largest angle closes on itself.
    curvature = math.tan(vehicle.max_steering_angle) / vehicle.wheelbase
    state = np.array([1.0, 2.0, 0.5, 2.0, 0.0, curvature])
    end = vehicle.rollout(state, np.zeros((400, 2)), 2 * math.pi / curvature / 2.0 / 400)[-1]
    assert np.allclose(end[:2], state[:2], atol=1e-6)


def test_names_and_lookup():
    assert vehicles.names() == tuple(GOLDEN)
    assert len({vehicles.get(name).name for name in GOLDEN}) == len(GOLDEN)
    assert set(vehicles.__all__) == {*GOLDEN, "KinematicBicycle", "get", "names"}
    assert all(hasattr(vehicles, name) for name in vehicles.__all__)
    with pytest.raises(ValueError, match=r"^vehicles: expected one of generic_car, .*commonroad_4, got 'truck'$"):
        vehicles.get("truck")


def test_every_number_has_unit_and_source_on_its_line():
    """A number without both is a number that nobody can check."""
    sources = ("ours", "motional/", "ApolloAuto/", "NVlabs/", "secondary", "commonroad-vehicle-models 3.0.2")
    lines = [line for line in inspect.getsource(parameters).splitlines() if re.match(r" +\w+ ?= ?(-?\d|pi|inf)", line)]
    assert len(lines) == 4 * len(FIELDS) + 4 * 9 + 2  # four cars, four of CommonRoad, its a_max and the MKZ's ratio
    for line in lines:
        unit, _, source = line.partition("  # ")[2].partition(", ")
        assert unit in {"m", "m/s", "m/s²", "rad", "rad/s"} or unit.endswith("[1]"), line
        assert any(known in source for known in sources), line
