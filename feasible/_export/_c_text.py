"""The text of statements: names for values, expressions for those that are used once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from feasible._export._c_code import (
    Assign,
    Block,
    Choose,
    Copy,
    For,
    Leave,
    Let,
    Load,
    Scalar,
    Statement,
    Store,
    While,
    walk,
)

_LONGEST = 80  # characters of an expression inside another


class Text:
    """Lines of a function's body."""

    def __init__(self, body: Sequence[Statement]):
        self.lines: list[str] = []
        self._names: dict[Scalar, str] = {}
        self._expressions: dict[Scalar, str] = {}
        self._level = 1
        uses: Counter[Scalar] = Counter()
        places: dict[Scalar, Sequence[Statement]] = {}
        for statement, around in walk(body):
            for i, a in enumerate(statement.reads):
                uses[a] += statement.template.count(f"{{{i}}}") if isinstance(statement, Let) else 1
                places[a] = around if isinstance(statement, Let | Store | Leave) else ()
        self._places = {a: places[a] for a, count in uses.items() if count == 1}
        self._write(body)

    def _line(self, text: str) -> None:
        self.lines.append("    " * self._level + text)

    def _name(self, a: Scalar) -> str:
        if a.text:
            return a.text
        if a in self._expressions:
            return self._expressions[a]
        return self._names.setdefault(a.root, f"{'k' if a.kind == 'index' else 't'}{len(self._names)}")

    def _at(self, block: Block, index: Sequence[Scalar]) -> str:
        buffer = block.buffer.root
        place = str(buffer.place + block.offset)
        if index:
            place = self._name(index[0]) + (f" + {place}" if place != "0" else "")
        return f"{buffer.base}[{place}]"

    def _write(self, body: Sequence[Statement]) -> None:
        for statement in body:
            getattr(self, f"_{type(statement).__name__.lower()}")(statement, body)

    def _block(self, head: str, body: Sequence[Statement]) -> None:
        self._line(head + " {")
        self._level += 1
        self._write(body)
        self._level -= 1
        self._line("}")

    def _let(self, s: Let, body: Sequence[Statement]) -> None:
        names = [self._name(a) for a in s.reads]
        if len(s.writes) > 1:
            targets = [self._name(a) for a in s.writes]
            self._line(f"double {', '.join(targets)};")
            self._line(s.template.format(*names, *targets))
            return
        (target,) = s.writes
        text = s.template.format(*names)
        if self._places.get(target) is body and len(text) <= _LONGEST:
            self._expressions[target] = f"({text})"
        else:
            self._line(f"const {target.kind} {self._name(target)} = {text};")

    def _load(self, s: Load, _: Sequence[Statement]) -> None:
        self._line(f"const double {self._name(s.writes[0])} = {self._at(s.loads[0], s.reads)};")

    def _store(self, s: Store, _: Sequence[Statement]) -> None:
        self._line(f"{self._at(s.stores[0], s.reads[1:])} = {_bare(self._name(s.reads[0]))};")

    def _copy(self, s: Copy, _: Sequence[Statement]) -> None:
        (source,), (target,) = s.loads, s.stores
        a, b = source.buffer.root, target.buffer.root
        if (a, source.offset) != (b, target.offset):
            index = Scalar("index")
            k = self._name(index)
            self._line(f"for (int {k} = 0; {k} < {source.length}; {k}++)")
            self._line(f"    {self._at(target, [index])} = {self._at(source, [index])};")

    def _assign(self, s: Assign, _: Sequence[Statement]) -> None:
        (target,) = s.writes
        kind = f"{target.kind} " if s.new else ""
        value = f" = {_bare(self._name(s.reads[0]))}" if s.reads else ""
        self._line(f"{kind}{self._name(target)}{value};")

    def _for(self, s: For, _: Sequence[Statement]) -> None:
        k = self._name(s.writes[0])
        turns = f"int {k} = {s.count}; {k}-- > 0;" if s.reverse else f"int {k} = 0; {k} < {s.count}; {k}++"
        self._block(f"for ({turns})", s.bodies[0])

    def _while(self, s: While, _: Sequence[Statement]) -> None:
        self._block("for (;;)", s.bodies[0])

    def _leave(self, s: Leave, _: Sequence[Statement]) -> None:
        self._line(f"if (!{self._name(s.reads[0])}) break;")

    def _choose(self, s: Choose, _: Sequence[Statement]) -> None:
        which = self._name(s.reads[0])
        for i, body in enumerate(s.bodies):
            test = f"if ({which} == {i})" if i < len(s.bodies) - 1 else ""
            self._block(" ".join(filter(None, ["else" if i else "", test])), body)


def _bare(text: str) -> str:
    """Without parentheses around all of it."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0 and i < len(text) - 1:
            return text
    return text[1:-1] if text.startswith("(") else text
