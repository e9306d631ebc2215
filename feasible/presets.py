"""Named sets of limits: what the field, the standards and we ask of a trajectory, every number with its source.

Each function returns a tuple of `Limit`; concatenation composes sets, `dataclasses.replace` changes one. Limits that
depend on the state or the vehicle are shares with the bound 1 (see `feasible.signals`). A "secondary" source means
that the primary text was not read; "ours" means that the number is this library's own choice.

The numbers are the sources', the reading is this library's: every limit here is pointwise, on the kinematics of the
rear axle, between the samples too. The originals difference and filter in their own ways, at other points of the car.
Rules that are not about one point of one trajectory are left out, and named where they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from feasible import _html, signals
from feasible._html import Table
from feasible._limits import Limit, check_limits
from feasible.signals import STANDARD_GRAVITY

_friction_share = functools.cache(signals.friction_share)  # one function per number, see `signals.share_by_speed`


def nuplan_comfort() -> tuple[Limit, ...]:
    """The comfort metric of nuPlan.

    Its "jerk magnitude" is the rate of |acceleration|; the length of the jerk vector, bounded here, is never smaller,
    so this limit is sufficient for that one. Left out: its Savitzky-Golay filters, which are a reading, not a limit.
    """
    return _nuplan_comfort("motional/nuplan-devkit: simulation_metric/low_level/*.yaml")


def navsim_comfort() -> tuple[Limit, ...]:
    """The history comfort of NAVSIM: nuPlan's numbers.

    Left out: extended comfort, the RMS change between consecutive plans (acceleration 0.7 m/s², jerk 0.5 m/s³, yaw
    rate 0.1 rad/s, yaw acceleration 0.1 rad/s²), because it is about two trajectories.
    """
    return _nuplan_comfort("autonomousvision/navsim: pdm_comfort_metrics.py")


def _nuplan_comfort(source: str) -> tuple[Limit, ...]:
    above = f"{source}; bounds d|a|/dt there, its upper bound |da/dt| here"
    return (
        Limit("acceleration", signals.acceleration, -4.05, 2.40, "m/s²", source),
        _either_way("jerk", 4.13, "m/s³", source),
        _either_way("lateral_acceleration", 4.89, "m/s²", source),
        _either_way("yaw_rate", 0.95, "rad/s", source),
        _either_way("yaw_acceleration", 1.93, "rad/s²", source),
        Limit("jerk_magnitude", signals.jerk_magnitude, None, 8.37, "m/s³", above),
    )


def nuplan_smoother() -> tuple[Limit, ...]:
    """The hard constraints of nuPlan's IPOPT smoother, `ConstrainedNonlinearSmoother`."""
    source = "motional/nuplan-devkit: data_augmentation_util.py"
    return (
        Limit("speed", signals.speed, 0.0, 35.0, "m/s", source),
        _either_way("acceleration", 4.0, "m/s²", source),
        _either_way("curvature", 0.2, "1/m", f"{source} (radius 5 m)"),
        _either_way("lateral_acceleration", 4.0, "m/s²", source),
        _either_way("yaw_rate", 1.75, "rad/s", source),
    )


def waymax(*, dynamics: bool = False) -> tuple[Limit, ...]:
    """Waymax's kinematic infeasibility metric, or the range that its bicycle model clips actions to.

    It bounds neither lateral acceleration nor jerk nor yaw rate. Left out: curvature read as zero below 0.6 m/s
    (here a sample that is too slow for curvature is masked and counted) and the metric's tolerance of 1e-3.

    Args:
        dynamics: the clip of the dynamics model instead of the metric.
    """
    metric, model = "waymo-research/waymax: metrics/comfort.py", "waymo-research/waymax: dynamics/bicycle_model.py"
    if dynamics:
        return (_either_way("acceleration", 6.0, "m/s²", model), _either_way("curvature", 0.3, "1/m", model))
    return (_either_way("acceleration", 10.4, "m/s²", metric), _either_way("curvature", 0.3, "1/m", metric))


def commonroad() -> tuple[Limit, ...]:
    """CommonRoad's kinematic single track with its friction circle; take one of `vehicles.commonroad_1` to `_4`.

    Speed range, engine power, steering angle and steering rate are the vehicle's. As there, engine power bounds forward
    driving only. The reference point of its kinematic model is the rear axle.
    """
    source = "commonroad-vehicle-models 3.0.2"
    circle = _friction_share(11.5)  # m/s², commonroad-vehicle-models 3.0.2: a_max, all vehicles
    return (
        Limit("speed", signals.speed_range_share, -1.0, 1.0, "1", f"{source}: v_min, v_max of the vehicle"),
        _either_way("acceleration", 11.5, "m/s²", f"{source}: a_max, all vehicles"),
        Limit("drive_power", signals.drive_power_share, None, 1.0, "1", f"{source}: a_max v_switch of the vehicle"),
        Limit("steering_angle", signals.steering_angle_share, -1.0, 1.0, "1", f"{source}: range of the vehicle"),
        Limit("steering_rate", signals.steering_rate_share, -1.0, 1.0, "1", f"{source}: rate of the vehicle"),
        Limit("friction_circle", circle, None, 1.0, "1", f"{source}: share of a_max = 11.5 m/s²"),
    )


def apollo(*, lateral_jerk: bool = False) -> tuple[Limit, ...]:
    """Apollo's constraint checker; its lateral acceleration is v² κ, as here.

    Args:
        lateral_jerk: add the check of lateral jerk, which Apollo has but keeps switched off.
    """
    source = "ApolloAuto/apollo: constraint_checker.cc"
    limits: tuple[Limit, ...] = (
        Limit("speed", signals.speed, -0.1, 40.0, "m/s", f"{source}, speed bounds"),
        Limit("acceleration", signals.acceleration, -6.0, 4.0, "m/s²", f"{source}, longitudinal_acceleration bounds"),
        Limit("jerk", signals.jerk, -4.0, 2.0, "m/s³", f"{source}, longitudinal_jerk bounds"),
        _either_way("curvature", 0.1979, "1/m", f"{source}, kappa_bound"),
        _either_way("lateral_acceleration", 4.0, "m/s²", f"{source}, lateral_acceleration_bound"),
    )
    if lateral_jerk:
        limits += (_either_way("lateral_jerk", 4.0, "m/s³", f"{source}, lateral_jerk_bound (switched off there)"),)
    return limits


def autoware_validator() -> tuple[Limit, ...]:
    """Autoware's trajectory validator, its vehicle constraints."""
    source = "autowarefoundation/autoware_universe: trajectory_validator, vehicle_constraint"
    return (
        Limit("speed", signals.speed, 0.0, 16.7, "m/s", source),
        _either_way("acceleration", 5.0, "m/s²", source),
        _either_way("steering_angle", 0.8, "rad", source),
        _either_way("steering_rate", 0.3, "rad/s", source),
    )


def autoware_checker() -> tuple[Limit, ...]:
    """Autoware's planning validator, its trajectory checker: a test for nonsense, not for comfort.

    Its own signals differ: it takes the signed maximum of curvature, so that right turns escape, and its lateral "jerk"
    3 v² a κ has wrong units. Left out: intervals, deviations from the ego state and shifts between trajectories,
    which are not kinematics of one trajectory.
    """
    source = "autowarefoundation/autoware_universe: planning_validator, trajectory_checker"
    return (
        _either_way("acceleration", 9.8, "m/s²", source),
        _either_way("curvature", 1.0, "1/m", source),
        _either_way("steering_angle", 1.414, "rad", source),
        _either_way("steering_rate", 10.0, "rad/s", source),
        _either_way("lateral_acceleration", 9.8, "m/s²", source),
        _either_way("lateral_jerk", 7.0, "m/s³", f"{source} (5.0 in earlier versions)"),
    )


def alpamayo_actions(*, curvature: float = 0.2) -> tuple[Limit, ...]:
    """The action space of Alpamayo's trajectory decoder.

    Left out: curvature set to zero below 0.6 m/s (later versions), a rule of the decoder and not a limit.

    Args:
        curvature: largest curvature either way [1/m]; 0.33 in later versions.
    """
    source = "NVlabs/alpamayo: unicycle_accel_curvature.py"
    return (
        _either_way("acceleration", 9.8, "m/s²", source),
        _either_way("curvature", curvature, "1/m", f"{source} (0.2, later 0.33)"),
    )


def openpilot(*, roll: float = 0.0) -> tuple[Limit, ...]:
    """The limits of openpilot on its own commands; lateral numbers after ISO 11270.

    Its lateral jerk is v² dκ/dt, without 2 v a κ; here it is the whole. Left out: the speed floor of 1 m/s in those
    formulas, which only keeps them from dividing by zero.

    Args:
        roll: bank of the road [rad], positive where the left side is lower, which helps a left turn: the range of
            lateral acceleration moves by 9.81 m/s² · roll. (openpilot counts curvature and roll positive to the right.)
    """
    helpers = "commaai/openpilot: drive_helpers.py"
    lean = 9.81 * roll  # m/s², commaai/opendbc: ACCELERATION_DUE_TO_GRAVITY
    lateral = f"{helpers}; commaai/opendbc: car/lateral.py (ISO 11270, secondary)"
    return (
        Limit("acceleration", signals.acceleration, -3.5, 2.0, "m/s²", "commaai/opendbc: ACCEL_MIN, ACCEL_MAX"),
        _either_way("curvature", 0.2, "1/m", f"{helpers}: MAX_CURVATURE"),
        Limit("lateral_acceleration", signals.lateral_acceleration, lean - 3.0, lean + 3.0, "m/s²", lateral),
        _either_way("lateral_jerk", 5.0, "m/s³", lateral),
    )


def iso15622() -> tuple[Limit, ...]:
    """ISO 15622:2018, adaptive cruise control: bounds that tighten from 5 to 20 m/s.

    The standard is said to bound means over time (deceleration over 2 s, negative jerk over 1 s); a pointwise bound is
    sufficient for a mean and stricter. Positive jerk and lateral motion are not bounded.
    """
    source = "ISO 15622:2018, secondary (comments and tables of commaai/opendbc; primary text not read)"
    drive = signals.share_by_speed(
        signals.acceleration, 4.0, 2.0
    )  # m/s² at <= 5 m/s and >= 20 m/s, ISO 15622 secondary
    brake = signals.share_by_speed(signals.acceleration, -5.0, -3.5)  # m/s² at <= 5 and >= 20 m/s, ISO 15622 secondary
    onset = signals.share_by_speed(signals.jerk, -5.0, -2.5)  # m/s³ at <= 5 m/s and >= 20 m/s, ISO 15622 secondary
    return (
        Limit("acceleration", drive, None, 1.0, "1", f"{source}: share of 4.0 to 2.0 m/s²"),
        Limit("deceleration", brake, None, 1.0, "1", f"{source}: share of 5.0 to 3.5 m/s²"),
        Limit("negative_jerk", onset, None, 1.0, "1", f"{source}: share of 5.0 to 2.5 m/s³"),
    )


def un_r79(*, lane_change: bool = False) -> tuple[Limit, ...]:
    """UN Regulation 79, automatically commanded steering.

    The regulation bounds the half-second mean of lateral jerk. That is not a pointwise limit; the same number at every
    point is sufficient for it and stricter, so what passes here passes there, and not the other way round.

    Args:
        lane_change: bound what a lane change may add to the lane's own lateral acceleration; right on a straight road.
    """
    source = "UN R79, secondary (primary text not read)"
    mean = f"{source}: 5 m/s³ for the half-second mean; sufficient at every point (ours)"
    keeping = _either_way("lateral_acceleration", 3.0, "m/s²", f"{source}: lane keeping")
    changing = _either_way("lateral_acceleration", 1.0, "m/s²", f"{source}: lane change, beside the lane's own")
    return (changing if lane_change else keeping, _either_way("lateral_jerk", 5.0, "m/s³", mean))


def trajectron() -> tuple[Limit, ...]:
    """The limits of Trajectron++'s unicycle for vehicles."""
    source = "StanfordASL/Trajectron-plus-plus: config/nuScenes.json"
    return (
        Limit("acceleration", signals.acceleration, -5.0, 4.0, "m/s²", source),
        _either_way("yaw_rate", 0.7, "rad/s", source),
    )


def comfort() -> tuple[Limit, ...]:
    """What passengers find comfortable; ours.

    The bounds on jerk ask for smooth driving; de Winkel (2023) did not find that higher jerk is judged worse.
    """
    return (
        _either_way("acceleration", 2.0, "m/s²", "ours: acceleration of ISO 15622 above 20 m/s, both ways"),
        _either_way("jerk", 2.5, "m/s³", "ours: negative jerk of ISO 15622 above 20 m/s, both ways"),
        _either_way("lateral_acceleration", 3.0, "m/s²", "ours: judged most balanced of 2, 3, 4 in a test-track study"),
        _either_way("lateral_jerk", 5.0, "m/s³", "ours: the number of UN R79 and ISO 11270"),
    )


def physical(*, friction: float = 0.9) -> tuple[Limit, ...]:
    """What a passenger car can do on a dry road, driving forward; ours. What fails here cannot be driven.

    Args:
        friction: coefficient between tyre and road [1]: dry asphalt about 0.9; lower it for rain or snow.
    """
    grip = _friction_share(friction * STANDARD_GRAVITY)  # 0.9 g [m/s²], ours: friction of dry asphalt about 0.9
    return (
        Limit("speed", signals.speed, 0.0, 60.0, "m/s", "ours: above the top speed of most cars; no reversing"),
        Limit("acceleration", signals.acceleration, -10.0, 6.0, "m/s²", "ours: emergency brake; strong electric drive"),
        _either_way("jerk", 50.0, "m/s³", "ours: full braking builds up in about 0.2 s"),
        Limit("steering_angle", signals.steering_angle_share, -1.0, 1.0, "1", "ours: range of the vehicle"),
        Limit("steering_rate", signals.steering_rate_share, -1.0, 1.0, "1", "ours: rate of the vehicle"),
        Limit("friction_circle", grip, None, 1.0, "1", f"ours: share of {friction:g} g, dry asphalt about 0.9"),
    )


def _either_way(name: str, bound: float, unit: str, source: str) -> Limit:
    """The limit ±bound on the signal called `name`."""
    return Limit(name, getattr(signals, name), -bound, bound, unit, source)


_PRESETS: tuple[Callable[[], tuple[Limit, ...]], ...] = (
    *(nuplan_comfort, navsim_comfort, nuplan_smoother, waymax, commonroad, apollo),
    *(autoware_validator, autoware_checker, alpamayo_actions, openpilot),
    *(iso15622, un_r79, trajectron, comfort, physical),
)


def names() -> tuple[str, ...]:
    """The names of the presets."""
    return tuple(preset.__name__ for preset in _PRESETS)


def get(name: str) -> tuple[Limit, ...]:
    """The preset of that name with its defaults, for callers that have a string.

    Raises:
        ValueError: if there is none.
    """
    for preset in _PRESETS:
        if preset.__name__ == name:
            return preset()
    raise ValueError(f"presets: expected one of {', '.join(names())}, got {name!r}")


def show(limits: Iterable[Limit]) -> Table:
    """Every number of a set of limits with unit and source, as a table that prints, and shows in a notebook.

    A set of limits is a plain tuple, because sums and slices of one have to stay one; so it cannot show itself.
    """
    return _html.limits(check_limits(limits))
