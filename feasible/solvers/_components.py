"""States as lists of components, which vehicle models and signals read as arrays whose last axis these are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from feasible._arrays import Array
from feasible._elementary import safe_hypot


class _Namespace:
    """`jax.numpy`, but stacking components keeps them apart: no array, no slices, and zeros stay symbolic."""

    __name__ = __name__  # not JAX's: `_elementary` would take an arctangent apart, whose inverse `_restated` knows

    def hypot(self, a: Array, b: Array) -> Array:
        """Plain, for `_restated` to find its square: JAX's guards against overflow, where no such numbers are."""
        return safe_hypot(jnp, a, b)

    def stack(self, arrays: Sequence[Array], axis: int = -1) -> Components:
        return Components(arrays)

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)


_NAMESPACE = _Namespace()


class Components:
    """Looks to a vehicle model like an array whose last axis is the list of its components."""

    def __init__(self, arrays: Sequence[Array]):
        self.arrays = list(arrays)
        self.shape = (*jnp.shape(self.arrays[0]), len(self.arrays))

    def __getitem__(self, key: Any) -> Array:
        if isinstance(key, tuple) and len(key) == 2 and key[0] is Ellipsis and isinstance(key[1], int):
            return self.arrays[key[1]]
        return jnp.stack(self.arrays, axis=-1)[key]

    def __array_namespace__(self, api_version: str | None = None) -> _Namespace:
        return _NAMESPACE


def components(state: Any) -> list[Array]:
    """Of a state that a vehicle model returns."""
    return state.arrays if isinstance(state, Components) else [state[..., i] for i in range(state.shape[-1])]
