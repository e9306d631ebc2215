"""Vehicles: models, one file each, and named parameter sets."""

from feasible.vehicles._bicycle import KinematicBicycle
from feasible.vehicles.parameters import (
    commonroad_1,
    commonroad_2,
    commonroad_3,
    commonroad_4,
    ford_fusion,
    generic_car,
    get,
    lincoln_mkz,
    names,
    nuplan_pacifica,
)

__all__ = [
    "KinematicBicycle",
    "commonroad_1",
    "commonroad_2",
    "commonroad_3",
    "commonroad_4",
    "ford_fusion",
    "generic_car",
    "get",
    "lincoln_mkz",
    "names",
    "nuplan_pacifica",
]
