"""`Trajectory`: samples of a path in time, as a model, a log or a file states them.

Frame: right-handed, yaw counter-clockwise from +x, reference point at the rear axle. Time: with an initial state
given to a verb, the state is *now* and sample k is at (k + 1)·dt, the layout of most model outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from feasible._arrays import Array, namespace, pytree, to_numpy

COLUMNS = ("x", "y", "yaw", "speed")
MIN_STEPS = 4  # a third difference, the jerk of sampled positions, needs four samples


@pytree
class Trajectory:
    """Samples of a trajectory, with any leading batch axes `...`.

    Build it with `Trajectory.from_array`, which checks structure and masks non-finite samples. `None` in `yaw` or
    `speed` means "the source does not say"; a projection then has no fidelity term for it.

    Attributes:
        x: `(..., T)` position of the rear axle [m].
        y: `(..., T)` [m].
        yaw: `(..., T)` heading [rad], or None.
        speed: `(..., T)` signed speed [m/s], negative in reverse, or None.
        dt: time between samples [s].
        valid: `(..., T)` bool; values at invalid samples are finite fillers without meaning.
    """

    x: Array
    y: Array
    yaw: Array | None
    speed: Array | None
    dt: Any
    valid: Array

    @classmethod
    def from_array(
        cls,
        values: Array,
        *,
        dt: float,
        columns: Sequence[str] = ("x", "y"),
        reference_point: str = "rear_axle",
        vehicle: Any = None,
    ) -> Trajectory:
        """Reads `values` `(..., T, len(columns))`, a NumPy, JAX or PyTorch array or nested lists.

        Args:
            values: the samples; a sample with NaN or Inf in any column becomes `valid=False`.
            dt: time between samples [s], positive.
            columns: names of the last axis, any of x, y, yaw, speed, in any order; x and y are needed.
            reference_point: "rear_axle", or "center" (of the footprint), which is moved back to the rear axle by
                `vehicle.rear_axle_to_center` and therefore needs a yaw column and a vehicle.
            vehicle: the vehicle whose offset converts "center".

        Raises:
            ValueError: if the shape, the columns, dt or the reference point cannot be right.
        """
        if not hasattr(values, "shape"):
            try:
                values = np.asarray(values, dtype=float)
            except (TypeError, ValueError) as error:
                raise ValueError(f"values: expected rows of equal length with numbers in them, got {error}") from None
        xp = namespace(values)
        if xp.isdtype(values.dtype, ("bool", "complex floating")):
            raise ValueError(f"values: expected real numbers, got dtype {values.dtype}")
        if not xp.isdtype(values.dtype, "real floating"):
            values = xp.astype(values, xp.float64)
        columns = tuple(columns)
        check_columns(columns)
        if values.ndim < 2:
            raise ValueError(f"values: expected shape (..., T, {len(columns)}), got {tuple(values.shape)}")
        if values.shape[-1] != len(columns):
            raise ValueError(
                f"values: expected a last axis of {len(columns)} for columns {columns}, got shape {tuple(values.shape)}"
            )
        if values.shape[-2] < MIN_STEPS:
            raise ValueError(f"values: expected at least {MIN_STEPS} time steps, got {values.shape[-2]}")
        check_dt(dt)

        valid = xp.all(xp.isfinite(values), axis=-1)
        # Fillers keep arithmetic and gradients finite where a sample is missing; `valid` says not to believe them.
        filled = {name: xp.where(valid, values[..., i], 0.0) for i, name in enumerate(columns)}
        if reference_point == "center":
            if "yaw" not in columns or vehicle is None:
                raise ValueError(
                    "reference_point: 'center' needs a yaw column and vehicle=..., to move to the rear axle"
                )
            offset = vehicle.rear_axle_to_center
            filled["x"] = filled["x"] - offset * xp.cos(filled["yaw"])
            filled["y"] = filled["y"] - offset * xp.sin(filled["yaw"])
        elif reference_point != "rear_axle":
            raise ValueError(f"reference_point: expected 'rear_axle' or 'center', got {reference_point!r}")
        return cls(
            x=filled["x"], y=filled["y"], yaw=filled.get("yaw"), speed=filled.get("speed"), dt=float(dt), valid=valid
        )

    @property
    def horizon(self) -> int:
        """Number of samples T."""
        return self.x.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The leading axes."""
        return tuple(self.x.shape[:-1])

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the stated columns."""
        return tuple(name for name in COLUMNS if getattr(self, name) is not None)

    def to_array(self, columns: Sequence[str] | None = None) -> Array:
        """`(..., T, len(columns))`: the stated columns, or those named."""
        columns = self.columns if columns is None else tuple(columns)
        missing = [name for name in columns if name not in self.columns]
        if missing:
            raise ValueError(f"columns: this trajectory states {self.columns}, not {missing}")
        xp = namespace(self.x)
        return xp.stack([getattr(self, name) for name in columns], axis=-1)

    def __getitem__(self, index: Any) -> Trajectory:
        """Selects along the batch axes; the time axis is kept whole."""
        if not self.batch_shape:
            raise IndexError("this trajectory has no batch axis to select from")
        index = index if isinstance(index, tuple) else (index,)

        def take(a: Array | None) -> Array | None:
            return None if a is None else a[(*index, ...)]

        return Trajectory(take(self.x), take(self.y), take(self.yaw), take(self.speed), self.dt, take(self.valid))

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError("this trajectory has no batch axis; its number of samples is `horizon`")
        return self.batch_shape[0]

    def __repr__(self) -> str:
        return f"Trajectory(shape={tuple(self.x.shape)}, columns={self.columns}, dt={self.dt})"

    def check(self) -> Trajectory:
        """Raises ValueError if the fields do not fit together (they do after `from_array`); returns self."""
        for name in ("y", "yaw", "speed", "valid"):
            field = getattr(self, name)
            if field is not None and tuple(field.shape) != tuple(self.x.shape):
                raise ValueError(f"{name}: expected shape {tuple(self.x.shape)} like x, got {tuple(field.shape)}")
        if self.x.ndim < 1 or self.horizon < MIN_STEPS:
            raise ValueError(f"x: expected shape (..., T) with T >= {MIN_STEPS}, got {tuple(self.x.shape)}")
        check_dt(self.dt)
        return self


def check_columns(columns: tuple[str, ...]) -> None:
    """Raises ValueError unless the columns are distinct names of `COLUMNS` with x and y among them."""
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise ValueError(f"columns: expected names out of {COLUMNS}, got {unknown[0]!r}")
    if len(set(columns)) != len(columns):
        raise ValueError(f"columns: expected each name once, got {columns}")
    if not {"x", "y"} <= set(columns):
        raise ValueError(f"columns: expected x and y among them, got {columns}")


def check_dt(dt: Any) -> None:
    """Raises ValueError unless dt is a positive, finite number; a traced dt has no value yet and is believed."""
    if isinstance(dt, jax.core.Tracer):
        return
    try:
        step = float(dt)
    except (TypeError, ValueError):
        raise ValueError(f"dt: expected a positive number of seconds, got {dt!r}") from None
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"dt: expected a positive number of seconds, got {step}")


def recentre(trajectory: Trajectory) -> tuple[Trajectory, np.ndarray]:
    """The trajectory in float64 on the host, moved so that its first valid sample is the origin.

    float32 positions far from the origin lose their derivatives (jerk noise of 2 m/s³ at 10 km), so everything that
    differentiates positions starts here.

    Returns:
        The trajectory (NumPy, float64) and the origin `(..., 2)` [m] that was subtracted.
    """
    x, y = (to_numpy(v).astype(np.float64) for v in (trajectory.x, trajectory.y))
    valid = to_numpy(trajectory.valid).astype(bool)
    first = np.argmax(valid, axis=-1)[..., None]  # 0 where nothing is valid: harmless, nothing is read there
    origin = np.concatenate([np.take_along_axis(x, first, -1), np.take_along_axis(y, first, -1)], -1)
    x, y = (np.where(valid, v - o, 0.0) for v, o in ((x, origin[..., :1]), (y, origin[..., 1:])))
    yaw, speed = (None if v is None else to_numpy(v).astype(np.float64) for v in (trajectory.yaw, trajectory.speed))
    return Trajectory(x, y, yaw, speed, float(trajectory.dt), valid), origin
