"""Scopes of a C function while it is written, each with the values that are known in it.

Equal operations on equal values are one value, in the scope of its operands: what a loop does not change is computed
before the loop. Only a branch keeps what it computes, since it may not be taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from feasible._export._c_code import Block, Let, Load, Scalar, Statement
from feasible._export._c_math import PAIR, SYMMETRIC, Elementwise, literal


@dataclasses.dataclass
class _Scope:
    body: list[Statement]
    known: dict[Any, Any]
    barrier: int  # depth of the outermost scope that its values may move to


class Scopes:
    """The scopes that are open, innermost last."""

    def __init__(self) -> None:
        self.top: list[Statement] = []
        self._stack = [_Scope(self.top, {}, 0)]
        self._constants: dict[tuple[str, str], Scalar] = {}
        self._held: list[Any] = []  # whose ids are keys
        self.math = Elementwise(self.emit, self._pair, self.constant)

    @property
    def depth(self) -> int:
        """Of the innermost."""
        return len(self._stack) - 1

    @contextlib.contextmanager
    def inner(self, *, barrier: bool = False) -> Iterator[list[Statement]]:
        """A new scope; its statements."""
        body: list[Statement] = []
        self._stack.append(_Scope(body, {}, self.depth + 1 if barrier else self._stack[-1].barrier))
        yield body
        self._stack.pop()

    def add(self, statement: Statement) -> None:
        """Appends to the innermost scope."""
        self._stack[-1].body.append(statement)

    def forget(self) -> None:
        """What is known in the innermost scope holds no longer."""
        self._stack[-1].known = {}

    def once(self, key: Any, make: Callable[[], Any], values: Any = (), depth: int | None = None) -> Any:
        """`make()`, or what it gave before."""
        for scope in self._stack:
            if key in scope.known:
                return scope.known[key]
        found = make()
        self._stack[self.depth if depth is None else depth].known[key] = found
        self._held.append(values)
        return found

    def emit(self, kind: str, template: str, *operands: Scalar) -> Scalar:
        """An operation."""
        names = [id(a) for a in operands]
        if template in SYMMETRIC:
            names.sort()
        depth = self._home(operands)

        def make() -> Scalar:
            target = Scalar(kind, depth)
            self._stack[depth].body.append(Let(operands, [target], template=template))
            return target

        return self.once((kind, template, *names), make, operands, depth)

    def constant(self, value: Any, dtype: Any = None) -> Scalar:
        """A number; the same scalar for the same number."""
        key = literal(np.asarray(value, dtype))
        return self._constants.setdefault(key, Scalar(key[0], 0, key[1]))

    def load(self, block: Block, index: Scalar | None = None) -> Scalar:
        """An element of a block: at an index, or the first."""

        def make() -> Scalar:
            target = Scalar("double", self.depth)
            self.add(Load([index] if index else [], [target], [block]))
            return target

        value = self.once(("load", block, index and id(index)), make, index)
        return value if block.kind == "double" else self.emit("int", "(int){0}", value)

    def _home(self, operands: tuple[Scalar, ...]) -> int:
        return max(self._stack[-1].barrier, *(a.depth for a in operands))

    def _pair(self, x: Scalar) -> tuple[Scalar, Scalar]:
        depth = self._home((x,))

        def make() -> tuple[Scalar, Scalar]:
            pair = Scalar("double", depth), Scalar("double", depth)
            self._stack[depth].body.append(Let([x], pair, template=PAIR))
            return pair

        return self.once((PAIR, id(x)), make, x, depth)
