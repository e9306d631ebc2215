"""Array namespaces and frozen pytrees: the two mechanisms that every type of the library shares.

Functions of the pure part (signals, finite differences, limits, loss) are written once against the namespace of
their input (Python array API standard 2023.12, through `array-api-compat`), so they run natively in NumPy, JAX and
PyTorch. Importing `jax` here does not initialise a JAX backend; only running a JAX operation would.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias, TypeVar, dataclass_transform

import jax.tree_util
import numpy as np
from array_api_compat import array_namespace

Array: TypeAlias = Any  # a NumPy, JAX or PyTorch array; shapes are given in docstrings
Namespace: TypeAlias = Any  # a module of array functions, as `array_api_compat.array_namespace` returns it

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def pytree(cls: type[_T]) -> type[_T]:
    """Makes a class a frozen dataclass and a JAX pytree; fields declared with `static()` are not leaves.

    Rebuilding skips `__init__`, because JAX rebuilds trees with placeholders in place of arrays, on which no
    check could hold.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    data = tuple(f.name for f in fields if not f.metadata.get("static"))
    meta = tuple(f.name for f in fields if f.metadata.get("static"))

    def flatten(tree: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(tree, n) for n in data), tuple(getattr(tree, n) for n in meta)

    def flatten_with_keys(tree: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        keyed = tuple((jax.tree_util.GetAttrKey(n), getattr(tree, n)) for n in data)
        return keyed, tuple(getattr(tree, n) for n in meta)

    def unflatten(values: tuple[Any, ...], leaves: Any) -> Any:
        tree = object.__new__(cls)
        for name, value in zip((*meta, *data), (*values, *leaves), strict=True):
            object.__setattr__(tree, name, value)
        return tree

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def static(**kwargs: Any) -> Any:
    """A dataclass field that is part of a pytree's structure, not a leaf."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


def namespace(*arrays: Array) -> Namespace:
    """The array namespace that the arrays (not None, not Python scalars) share; NumPy where there is none."""
    given = [a for a in arrays if hasattr(a, "shape")]
    if given and all(hasattr(a, "detach") for a in given):
        import array_api_compat.torch as xp  # the same answer, without the look-ups that torch.compile warns of

        return xp
    return array_namespace(*given) if given else array_namespace(np.empty(0))


def to_numpy(array: Array) -> np.ndarray:
    """A host copy or view of an array of any namespace."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = array.float() if str(array.dtype) == "torch.bfloat16" else array  # which NumPy does not know
    return np.asarray(array)


def wrap(xp: Namespace, angle: Array) -> Array:
    """The angle [rad] wrapped to [-π, π); its gradient is one everywhere, because the turns are constant."""
    return angle - 2 * np.pi * xp.floor((angle + np.pi) / (2 * np.pi))
