"""Presets against a table written from the sources, and the signals that they add; every check is mutation tested."""

import dataclasses
import math
import pickle
import warnings
from typing import Any

import array_api_compat.numpy as xnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from feasible import presets, signals
from feasible._limits import Limit, check_limits
from feasible._motion import FIELDS, Motion
from feasible.vehicles import KinematicBicycle, commonroad_1, commonroad_2

CAR = commonroad_1()
L = 0.88392 + 1.50876  # m, its wheelbase

# Preset: rows (limit, quantity, lower, upper) in physical units, for vehicle 1 of CommonRoad; "a@20" is a at 20 m/s.
# fmt: off
NUPLAN: list[Any] = [
    ("acceleration", "a", -4.05, 2.40), ("jerk", "j", -4.13, 4.13), ("lateral_acceleration", "a_lat", -4.89, 4.89),
    ("yaw_rate", "yaw_rate", -0.95, 0.95), ("yaw_acceleration", "yaw_acc", -1.93, 1.93),
    ("jerk_magnitude", "|jerk|", None, 8.37),
]
Row = tuple[str, str, float | None, float | None]
GOLDEN: dict[str, list[Row]] = {
    "nuplan_comfort": NUPLAN,
    "navsim_comfort": NUPLAN,
    "nuplan_smoother": [
        ("speed", "v", 0.0, 35.0), ("acceleration", "a", -4.0, 4.0), ("curvature", "k", -0.2, 0.2),
        ("lateral_acceleration", "a_lat", -4.0, 4.0), ("yaw_rate", "yaw_rate", -1.75, 1.75),
    ],
    "waymax": [("acceleration", "a", -10.4, 10.4), ("curvature", "k", -0.3, 0.3)],
    "commonroad": [
        ("speed", "v", -13.9, 45.8), ("acceleration", "a", -11.5, 11.5),
        ("drive_power", "a@20", None, 11.5 * 4.755 / 20), ("drive_power", "a@4.755", None, 11.5),
        ("steering_angle", "steer", -0.910, 0.910), ("steering_rate", "steer_rate", -0.4, 0.4),
        ("friction_circle", "|a|", None, 11.5),
    ],
    "apollo": [
        ("speed", "v", -0.1, 40.0), ("acceleration", "a", -6.0, 4.0), ("jerk", "j", -4.0, 2.0),
        ("curvature", "k", -0.1979, 0.1979), ("lateral_acceleration", "a_lat", -4.0, 4.0),
    ],
    "autoware_validator": [
        ("speed", "v", 0.0, 16.7), ("acceleration", "a", -5.0, 5.0),
        ("steering_angle", "steer", -0.8, 0.8), ("steering_rate", "steer_rate", -0.3, 0.3),
    ],
    "autoware_checker": [
        ("acceleration", "a", -9.8, 9.8), ("curvature", "k", -1.0, 1.0), ("steering_angle", "steer", -1.414, 1.414),
        ("steering_rate", "steer_rate", -10.0, 10.0), ("lateral_acceleration", "a_lat", -9.8, 9.8),
        ("lateral_jerk", "j_lat", -7.0, 7.0),
    ],
    "alpamayo_actions": [("acceleration", "a", -9.8, 9.8), ("curvature", "k", -0.2, 0.2)],
    "openpilot": [
        ("acceleration", "a", -3.5, 2.0), ("curvature", "k", -0.2, 0.2),
        ("lateral_acceleration", "a_lat", -3.0, 3.0), ("lateral_jerk", "j_lat", -5.0, 5.0),
    ],
    "iso15622": [
        *[("acceleration", f"a@{v}", None, b) for v, b in ((-20, 2), (0, 4), (5, 4), (12.5, 3), (20, 2), (50, 2))],
        *[("deceleration", f"a@{v}", -b, None) for v, b in ((0, 5), (5, 5), (12.5, 4.25), (20, 3.5), (50, 3.5))],
        *[("negative_jerk", f"j@{v}", -b, None) for v, b in ((0, 5), (5, 5), (12.5, 3.75), (20, 2.5), (50, 2.5))],
    ],
    "un_r79": [("lateral_acceleration", "a_lat", -3.0, 3.0), ("lateral_jerk", "j_lat", -5.0, 5.0)],
    "trajectron": [("acceleration", "a", -5.0, 4.0), ("yaw_rate", "yaw_rate", -0.7, 0.7)],
    "comfort": [
        ("acceleration", "a", -2.0, 2.0), ("jerk", "j", -2.5, 2.5),
        ("lateral_acceleration", "a_lat", -3.0, 3.0), ("lateral_jerk", "j_lat", -5.0, 5.0),
    ],
    "physical": [
        ("speed", "v", 0.0, 60.0), ("acceleration", "a", -10.0, 6.0), ("jerk", "j", -50.0, 50.0),
        ("steering_angle", "steer", -0.910, 0.910), ("steering_rate", "steer_rate", -0.4, 0.4),
        ("friction_circle", "|a|", None, 0.9 * 9.80665),
    ],
}
UNITS: dict[signals.Signal, str] = {
    signals.speed: "m/s", signals.acceleration: "m/s²", signals.jerk: "m/s³", signals.curvature: "1/m",
    signals.lateral_acceleration: "m/s²", signals.lateral_jerk: "m/s³", signals.yaw_rate: "rad/s",
    signals.yaw_acceleration: "rad/s²", signals.jerk_magnitude: "m/s³", signals.steering_angle: "rad",
    signals.steering_rate: "rad/s",
}
# fmt: on
EVERY = [(preset, limit) for preset in GOLDEN for limit in presets.get(preset)]
ROWS = [(preset, *row) for preset, rows in GOLDEN.items() for row in rows]
structure: Any = jax.tree.structure


def motion(xp=xnp, **fields):
    """One sample, zero where nothing is given."""
    values = {name: xp.asarray([float(fields.get(name, 0.0))]) for name in FIELDS}
    return Motion(**values, gaps={}, xp=xp)


def motion_with(quantity, value):
    """A motion whose quantity has that value, by formulas of its own."""
    quantity, _, speed = quantity.partition("@")
    fields: dict[str, Any] = {
        **{"v": {"speed": value}, "a": {"acceleration": value}, "j": {"jerk": value}, "k": {"curvature": value}},
        "a_lat": {"curvature": value / 100},  # at 10 m/s, like all that follow
        "yaw_rate": {"curvature": value / 10},
        "yaw_acc": {"acceleration": 1.5, "curvature": 0.02, "curvature_rate": (value - 1.5 * 0.02) / 10},
        "j_lat": {"acceleration": 2.0, "curvature": 0.01, "curvature_rate": (value - 2 * 10 * 2 * 0.01) / 100},
        "|a|": {"acceleration": -0.6 * value, "curvature": 0.8 * value / 100},
        "|jerk|": {"jerk": 0.6 * value, "curvature_rate": -0.8 * value / 100},
        "steer": {"curvature": math.tan(value) / L},
        "steer_rate": {"curvature": 0.1, "curvature_rate": value * (1 + (0.1 * L) ** 2) / L},
    }
    return motion(**{"speed": speed or 10.0, **fields[quantity]})


def check_row(limit, quantity, lower, upper):
    """The limit holds just inside each bound and breaks just outside; `None` is no bound."""
    for bound, outwards in ((lower, -1.0), (upper, 1.0)):
        if bound is not None:
            nudge = outwards * max(abs(bound), 0.1) * 0.005
            assert limit.margin(motion_with(quantity, bound - nudge), CAR)[0] < 0
            assert limit.margin(motion_with(quantity, bound + nudge), CAR)[0] > 0
        elif "|" not in quantity:  # a length has no lower bound to try
            assert limit.margin(motion_with(quantity, outwards * 100.0), CAR)[0] < 0


def of(preset, name, **options):
    (limit,) = [limit for limit in getattr(presets, preset)(**options) if limit.name == name]
    return limit


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}")
def test_each_bound_is_where_the_source_says(row):
    preset, name, *rest = row
    check_row(of(preset, name), *rest)


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}")
def test_the_check_above_notices_a_changed_bound(row, factor):
    preset, name, *rest = row
    limit = of(preset, name)
    for side in ("lower", "upper"):
        if (bound := getattr(limit, side)) is not None:
            mutant = dataclasses.replace(limit, **{side: bound * factor if bound else (factor - 1) * limit.upper})
            with pytest.raises(AssertionError):
                check_row(mutant, *rest)


def test_names_and_lookup():
    assert presets.names() == tuple(GOLDEN)
    for preset, rows in GOLDEN.items():
        assert {limit.name for limit in presets.get(preset)} == {row[0] for row in rows}
    with pytest.raises(ValueError, match=r"^presets: expected one of nuplan_comfort, .*physical, got 'nuplan'$"):
        presets.get("nuplan")


@pytest.mark.parametrize(("preset", "limit"), EVERY, ids=lambda p: p if isinstance(p, str) else p.name)
def test_every_limit_says_unit_and_source(preset, limit):
    assert isinstance(limit, Limit)
    assert limit.unit == UNITS.get(limit.signal, "1")
    assert all(type(bound) in (float, type(None)) for bound in (limit.lower, limit.upper))
    if limit.unit == "1":
        assert limit.upper == 1.0
        assert limit.lower in (None, -1.0)
    if preset in ("comfort", "physical"):
        assert limit.source.startswith("ours: ")
    elif preset in ("iso15622", "un_r79"):
        assert "secondary" in limit.source
    else:
        assert "/" in limit.source or limit.source.startswith("commonroad-vehicle-models 3.0.2: ")


@pytest.mark.parametrize("preset", GOLDEN)
def test_a_preset_is_a_valid_set_and_compiles_once(preset):
    limits = presets.get(preset)
    assert isinstance(limits, tuple)
    assert check_limits(limits) == limits  # raises on repeated names
    assert structure(limits) == structure(presets.get(preset))  # else each call would recompile


def test_options():
    check_row(of("waymax", "acceleration", dynamics=True), "a", -6.0, 6.0)
    check_row(of("waymax", "curvature", dynamics=True), "k", -0.3, 0.3)
    check_row(of("apollo", "lateral_jerk", lateral_jerk=True), "j_lat", -4.0, 4.0)
    check_row(of("alpamayo_actions", "curvature", curvature=0.33), "k", -0.33, 0.33)
    check_row(of("un_r79", "lateral_acceleration", lane_change=True), "a_lat", -1.0, 1.0)
    check_row(of("openpilot", "lateral_acceleration", roll=0.5), "a_lat", -3 + 0.5 * 9.81, 3 + 0.5 * 9.81)
    check_row(of("physical", "friction_circle", friction=0.2), "|a|", None, 0.2 * 9.80665)


def turn(speed, curvature):
    state = np.array([0.0, 0.0, 3.0, speed, 0.0, curvature])
    controls = np.zeros((40, 2))
    return CAR.motion(CAR.rollout(state, controls, 0.1), controls, 0.1)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("preset", GOLDEN)
def test_a_gentle_turn_passes_and_an_absurd_one_does_not(preset, side):
    gentle, absurd = turn(15.0, side * 0.01), turn(15.0, side * 0.2)  # 2.25 and 45 m/s²
    for limit in presets.get(preset):
        assert limit.margin(gentle, CAR).shape == (40,)
        assert (limit.margin(gentle, CAR) < 0).all()
    seen = any((limit.margin(absurd, CAR) > 1e-6).any() for limit in presets.get(preset))
    assert seen == (preset not in ("waymax", "alpamayo_actions", "autoware_validator", "iso15622"))  # blind spots


# The signals that presets add.

NEW = {
    "speed_range": signals.speed_range_share,
    "drive_power": signals.drive_power_share,
    "drive": signals.share_by_speed(signals.acceleration, 4.0, 2.0),
    "onset": signals.share_by_speed(signals.jerk, -5.0, -2.5),
}
SPEEDS = np.array([-40.0, -20.0, -5.0, -1e-3, 0.0, 1e-3, 4.755, 5.0, 7.0, 20.0, 60.0])


def grid(xp):
    v, a, j = (g.ravel() for g in np.meshgrid(SPEEDS, [-4.0, 0.0, 3.0], [-2.0, 0.0, 2.0]))
    fields = {"speed": v, "acceleration": a, "jerk": j}
    return Motion(**{n: xp.asarray(fields.get(n, np.zeros_like(v))) for n in FIELDS}, gaps={}, xp=xp)


@pytest.mark.parametrize("name", NEW)
def test_namespaces_agree(name):
    expected = NEW[name](grid(xnp), CAR)
    assert np.isfinite(expected).all()
    assert np.allclose(NEW[name](grid(jnp), CAR), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NEW)
def test_torch_agrees_and_its_gradients_are_finite(name):
    torch = pytest.importorskip("torch")
    import array_api_compat.torch as xtorch

    sample = grid(xtorch)
    leaves = {n: getattr(sample, n).clone().requires_grad_() for n in ("speed", "acceleration", "jerk")}
    value = NEW[name](dataclasses.replace(sample, **leaves), CAR)
    assert np.allclose(value.detach().numpy(), NEW[name](grid(xnp), CAR))
    value.sum().backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves.values() if leaf.grad is not None)


@pytest.mark.parametrize("vehicle", [CAR, KinematicBicycle(switching_speed=math.inf), KinematicBicycle(min_speed=0.0)])
@pytest.mark.parametrize("name", NEW)
def test_gradients_are_finite_everywhere(name, vehicle):
    def value(state):
        fields = dict(zip(("speed", "acceleration", "jerk"), state, strict=True))
        return NEW[name](Motion(**{n: fields.get(n, 0.0 * state[0]) for n in FIELDS}, gaps={}, xp=jnp), vehicle)

    sample = grid(jnp)
    states = jnp.stack([sample.speed, sample.acceleration, sample.jerk], axis=-1)
    assert jnp.isfinite(jax.vmap(value)(states)).all()
    slopes = jax.vmap(jax.grad(value))(states)
    assert jnp.isfinite(slopes).all()
    assert vehicle.switching_speed == math.inf or jnp.abs(slopes).max() > 0


@pytest.mark.parametrize("name", NEW)
def test_continuous_in_speed(name):
    speed = np.arange(-30.0, 60.0, 1e-3)
    fields = {"speed": speed, "acceleration": 0 * speed + 3.0, "jerk": 0 * speed - 2.0}
    dense = Motion(**{n: fields.get(n, 0 * speed) for n in FIELDS}, gaps={}, xp=xnp)
    assert np.abs(np.diff(NEW[name](dense, CAR))).max() < 1e-4


def test_drive_power_is_commonroads_rule_with_the_plain_bound():
    vehicle = commonroad_2()
    for v in (-13.0, 0.0, 3.0, 7.318, 7.32, 15.0, 50.0):
        allowed = 11.5 * 7.319 / v if v > 7.319 else 11.5
        for share in (0.99, 1.01):
            sample = motion(speed=v, acceleration=share * allowed)
            used = max(signals.drive_power_share(sample, vehicle)[0], signals.acceleration(sample, vehicle)[0] / 11.5)
            assert (used > 1) == (share > 1)
    for v in (-13.0, 30.0):  # reversing and braking are free
        assert signals.drive_power_share(motion(speed=v, acceleration=-11.0), vehicle)[0] <= 0


def test_shares_by_speed_only_tighten():
    for slow, fast in ((4.0, 2.0), (-5.0, -3.5)):
        signal = signals.share_by_speed(signals.acceleration, slow, fast)
        share = [signal(motion(speed=v, acceleration=slow), CAR)[0] for v in np.linspace(0, 60, 121)]
        assert np.all(np.diff(share) >= 0)
        assert share[0] == pytest.approx(1.0)
        assert share[-1] == pytest.approx(slow / fast)
    assert signals.share_by_speed(signals.jerk, -5.0, -2.5) is NEW["onset"]
    assert pickle.loads(pickle.dumps(NEW["drive"]))(motion(acceleration=4.0), CAR)[0] == pytest.approx(1.0)
    for numbers in ((4.0, -2.0), (0.0, 2.0), (4.0, 2.0, 5.0, 5.0), (4.0, 2.0, -1.0, 5.0)):
        with pytest.raises(ValueError, match="one sign"):
            signals.share_by_speed(signals.acceleration, *numbers)


def test_a_limit_knows_what_the_new_signals_read():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reads = {name: Limit(name, signal, upper=1.0).reads for name, signal in NEW.items()}
    assert reads["speed_range"] == {"speed"}
    assert reads["drive_power"] == reads["drive"] == {"speed", "acceleration"}
    assert reads["onset"] == {"speed", "jerk"}
