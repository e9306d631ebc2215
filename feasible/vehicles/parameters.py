"""Named vehicles: parameter sets of `KinematicBicycle`, every number with its unit and source on its line.

"assumed (ours)" marks a number that the source does not give. Road-wheel angles are those of the bicycle's one front
wheel. Where a source bounds what its controller may command instead of what the car can do, the line says so.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, pi

from feasible.vehicles._bicycle import KinematicBicycle


def generic_car() -> KinematicBicycle:
    """A mid-size passenger car; ours, the defaults of `KinematicBicycle`. Smallest radius 4.1 m."""
    return KinematicBicycle(
        wheelbase=2.8,  # m, ours: mid-size
        width=1.9,  # m, ours: mid-size, without mirrors
        front=3.8,  # m, ours: wheelbase and 1.0 m of front overhang
        rear=1.0,  # m, ours
        max_steering_angle=0.6,  # rad, ours: a kerb-to-kerb circle of about 11 m
        max_steering_rate=0.5,  # rad/s, ours: between CommonRoad's cars (0.4) and Lincoln MKZ (0.53)
        min_speed=-15.0,  # m/s, ours: CommonRoad's cars reverse at 13.9 at most
        max_speed=60.0,  # m/s, ours: above the top speed of most cars
        max_acceleration=11.5,  # m/s², commonroad-vehicle-models 3.0.2: a_max of every vehicle, that is friction alone
        switching_speed=inf,  # m/s, ours: engine power does not bound
        name="generic_car",
        source="generic passenger car (ours)",
    )


def nuplan_pacifica() -> KinematicBicycle:
    """Chrysler Pacifica, the ego vehicle of nuPlan and NAVSIM; rear axle to centre 1.461 m.

    The steering range is the clip of nuPlan's controllers, wider than the car's: it allows a radius of 1.8 m.
    """
    return KinematicBicycle(
        wheelbase=3.089,  # m, motional/nuplan-devkit: vehicle_parameters.py
        width=2.297,  # m, motional/nuplan-devkit: vehicle_parameters.py, mirrors included
        front=4.049,  # m, motional/nuplan-devkit: vehicle_parameters.py
        rear=1.127,  # m, motional/nuplan-devkit: vehicle_parameters.py
        max_steering_angle=pi / 3,  # rad, motional/nuplan-devkit: iLQR tracker, kinematic bicycle; a controller's clip
        max_steering_rate=0.5,  # rad/s, motional/nuplan-devkit: iLQR tracker; a controller's clip
        min_speed=-13.9,  # m/s, assumed (ours): as CommonRoad's cars
        max_speed=50.0,  # m/s, assumed (ours)
        max_acceleration=3.0,  # m/s², motional/nuplan-devkit: iLQR tracker; a controller's clip
        switching_speed=inf,  # m/s, assumed (ours): engine power does not bound
        name="nuplan_pacifica",
        source="motional/nuplan-devkit: vehicle_parameters.py, iLQR tracker; speed range assumed (ours)",
    )


def lincoln_mkz() -> KinematicBicycle:
    """Lincoln MKZ, the reference car of Apollo; smallest radius 5.054 m."""
    ratio = 16.0  # steering wheel over road wheel [1], ApolloAuto/apollo: vehicle_param.pb.txt, steer_ratio
    return KinematicBicycle(
        wheelbase=2.8448,  # m, ApolloAuto/apollo: vehicle_param.pb.txt
        width=2.11,  # m, ApolloAuto/apollo: vehicle_param.pb.txt, mirrors included
        front=3.89,  # m, ApolloAuto/apollo: vehicle_param.pb.txt, front_edge_to_center (of the rear axle)
        rear=1.043,  # m, ApolloAuto/apollo: vehicle_param.pb.txt, back_edge_to_center (of the rear axle)
        max_steering_angle=8.20304748437 / ratio,  # rad, ApolloAuto/apollo: vehicle_param.pb.txt, of the steering wheel
        max_steering_rate=8.55211 / ratio,  # rad/s, ApolloAuto/apollo: vehicle_param.pb.txt, of the steering wheel
        min_speed=-13.9,  # m/s, assumed (ours): as CommonRoad's cars
        max_speed=40.0,  # m/s, ApolloAuto/apollo: planning_gflags.cc, speed_upper_bound; a planner's bound
        max_acceleration=2.0,  # m/s², ApolloAuto/apollo: vehicle_param.pb.txt
        switching_speed=inf,  # m/s, assumed (ours): engine power does not bound
        name="lincoln_mkz",
        source="ApolloAuto/apollo: vehicle_param.pb.txt, planning_gflags.cc; reverse speed assumed (ours)",
    )


def ford_fusion() -> KinematicBicycle:
    """Ford Fusion, the vehicle of AlpaSim.

    The steering range is the bound of AlpaSim's controller, wider than the car's: it allows a radius of 2.9 m. Its
    mass, inertia, tyre stiffness and actuator lag have no place in a kinematic model.
    """
    return KinematicBicycle(
        wheelbase=2.85,  # m, NVlabs/alpasim: vehicle_model.py
        width=1.852,  # m, secondary: 72.9 in, reviews of the 2014 model; without mirrors
        front=3.81,  # m, assumed (ours): 0.96 of the overhang of 2.02 (191.7 in long, secondary) in front
        rear=1.06,  # m, assumed (ours): the rest of the overhang
        max_steering_angle=0.785,  # rad, NVlabs/alpasim: nonlinear_mpc.py; a controller's bound
        max_steering_rate=0.5,  # rad/s, assumed (ours): as generic_car (AlpaSim has a lag of 0.1 s instead of a bound)
        min_speed=-13.9,  # m/s, assumed (ours): as CommonRoad's cars
        max_speed=35.0,  # m/s, NVlabs/alpasim: nonlinear_mpc.py; a controller's bound
        max_acceleration=6.0,  # m/s², NVlabs/alpasim: nonlinear_mpc.py; a controller's bound
        switching_speed=inf,  # m/s, assumed (ours): engine power does not bound
        name="ford_fusion",
        source="NVlabs/alpasim: vehicle_model.py, nonlinear_mpc.py; steering rate and overhangs assumed (ours)",
    )


def commonroad_1() -> KinematicBicycle:
    """CommonRoad vehicle 1, Ford Escort. Positions of its kinematic model refer to the rear axle, as here."""
    return _commonroad(
        "commonroad_1",
        center_to_front_axle=0.88392,  # m, commonroad-vehicle-models 3.0.2: a
        center_to_rear_axle=1.50876,  # m, commonroad-vehicle-models 3.0.2: b
        length=4.298,  # m, commonroad-vehicle-models 3.0.2: l
        width=1.674,  # m, commonroad-vehicle-models 3.0.2: w
        steering_angle=0.910,  # rad, commonroad-vehicle-models 3.0.2: steering
        steering_rate=0.4,  # rad/s, commonroad-vehicle-models 3.0.2: steering
        min_speed=-13.9,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
        max_speed=45.8,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
        switching_speed=4.755,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
    )


def commonroad_2() -> KinematicBicycle:
    """CommonRoad vehicle 2, BMW 320i. Positions of its kinematic model refer to the rear axle, as here."""
    return _commonroad(
        "commonroad_2",
        center_to_front_axle=1.1561957064,  # m, commonroad-vehicle-models 3.0.2: a
        center_to_rear_axle=1.4227170936,  # m, commonroad-vehicle-models 3.0.2: b
        length=4.508,  # m, commonroad-vehicle-models 3.0.2: l
        width=1.610,  # m, commonroad-vehicle-models 3.0.2: w
        steering_angle=1.066,  # rad, commonroad-vehicle-models 3.0.2: steering
        steering_rate=0.4,  # rad/s, commonroad-vehicle-models 3.0.2: steering
        min_speed=-13.9,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
        max_speed=50.8,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
        switching_speed=7.319,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
    )


def commonroad_3() -> KinematicBicycle:
    """CommonRoad vehicle 3, VW Vanagon. Positions of its kinematic model refer to the rear axle, as here."""
    return _commonroad(
        "commonroad_3",
        center_to_front_axle=1.1507916024,  # m, commonroad-vehicle-models 3.0.2: a
        center_to_rear_axle=1.3211363976,  # m, commonroad-vehicle-models 3.0.2: b
        length=4.569,  # m, commonroad-vehicle-models 3.0.2: l
        width=1.844,  # m, commonroad-vehicle-models 3.0.2: w
        steering_angle=1.023,  # rad, commonroad-vehicle-models 3.0.2: steering
        steering_rate=0.4,  # rad/s, commonroad-vehicle-models 3.0.2: steering
        min_speed=-11.2,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
        max_speed=41.7,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
        switching_speed=7.824,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
    )


def commonroad_4() -> KinematicBicycle:
    """CommonRoad vehicle 4, a truck; the tractor alone, positions at its rear axle.

    Left out: the trailer (length 13.6 m, wheelbase 8.1 m, hitched at the tractor's rear axle), because the kinematic
    bicycle has no hitch. The tractor's path does not depend on it; the swept area does.
    """
    return _commonroad(
        "commonroad_4",
        center_to_front_axle=1.8,  # m, commonroad-vehicle-models 3.0.2: a
        center_to_rear_axle=1.8,  # m, commonroad-vehicle-models 3.0.2: b
        length=5.1,  # m, commonroad-vehicle-models 3.0.2: l, of the tractor
        width=2.55,  # m, commonroad-vehicle-models 3.0.2: w
        steering_angle=0.55,  # rad, commonroad-vehicle-models 3.0.2: steering
        steering_rate=0.7103,  # rad/s, commonroad-vehicle-models 3.0.2: steering
        min_speed=-2.78,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
        max_speed=22.22,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
        switching_speed=7.824,  # m/s, commonroad-vehicle-models 3.0.2: longitudinal
    )


def _commonroad(
    name: str,
    *,
    center_to_front_axle: float,
    center_to_rear_axle: float,
    length: float,
    width: float,
    steering_angle: float,
    steering_rate: float,
    min_speed: float,
    max_speed: float,
    switching_speed: float,
) -> KinematicBicycle:
    """CommonRoad draws the body around the centre of gravity; both overhangs follow from that."""
    return KinematicBicycle(
        wheelbase=center_to_front_axle + center_to_rear_axle,
        width=width,
        front=length / 2 + center_to_rear_axle,
        rear=length / 2 - center_to_rear_axle,
        max_steering_angle=steering_angle,
        max_steering_rate=steering_rate,
        min_speed=min_speed,
        max_speed=max_speed,
        max_acceleration=11.5,  # m/s², commonroad-vehicle-models 3.0.2: a_max, every vehicle
        switching_speed=switching_speed,
        name=name,
        source="commonroad-vehicle-models 3.0.2",
    )


_VEHICLES: tuple[Callable[[], KinematicBicycle], ...] = (
    *(generic_car, nuplan_pacifica, lincoln_mkz, ford_fusion),
    *(commonroad_1, commonroad_2, commonroad_3, commonroad_4),
)


def names() -> tuple[str, ...]:
    """The names of the parameter sets."""
    return tuple(vehicle.__name__ for vehicle in _VEHICLES)


def get(name: str) -> KinematicBicycle:
    """The vehicle of that name, for callers that have a string.

    Raises:
        ValueError: if there is none.
    """
    for vehicle in _VEHICLES:
        if vehicle.__name__ == name:
            return vehicle()
    raise ValueError(f"vehicles: expected one of {', '.join(names())}, got {name!r}")
