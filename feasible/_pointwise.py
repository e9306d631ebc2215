"""Does a limit treat every sample alike, so that it may be evaluated on arrays in any order of their axes?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from feasible._arrays import Namespace
from feasible._limits import Limit
from feasible._motion import FIELDS, Motion

# Primitives of JAX that map elements to elements at the same place; a new one costs time, not correctness.
ELEMENTWISE = frozenset(
    """abs add and atan atan2 clamp convert_element_type copy cos cosh div eq exp exp2 expm1 floor ge gt integer_pow
    is_finite le log log1p logistic lt max min mul ne neg not or pow rsqrt select_n sign sin sinh sqrt square
    stop_gradient sub tan tanh xor""".split()  # noqa: SIM905  a list of forty lines reads worse
)
NESTED = frozenset({"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"})


def is_pointwise(limit: Limit, vehicle: Any, xp: Namespace, dtype: Any) -> bool:
    """Whether the limit's margin is elementwise in the fields, reading nothing else but scalars.

    Told by tracing it on fields of a shape of its own: one that must not be broadcast with anything but scalars.
    """
    shape = (5, 7)
    fields = {name: jax.ShapeDtypeStruct(shape, dtype) for name in FIELDS}
    try:
        program = jax.make_jaxpr(lambda f: limit.margin(Motion(**f, gaps={}, xp=xp), vehicle))(fields)
    except Exception:  # it expects the shape of this call
        return False
    return (
        all(jnp.ndim(c) == 0 for c in program.consts)
        and [v.aval.shape for v in program.jaxpr.outvars] == [shape]
        and _elementwise(program.jaxpr)
    )


def _elementwise(jaxpr: Any) -> bool:
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in NESTED:
            inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
            if inner is None or not _elementwise(getattr(inner, "jaxpr", inner)):
                return False
        elif name == "broadcast_in_dim":
            if any(v.aval.ndim for v in equation.invars):
                return False
        elif name not in ELEMENTWISE:
            return False
    return True
