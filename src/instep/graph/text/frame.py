"""One call of a struct while a network is built: where it stands, and what its steps and expressions can read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from instep.graph.core import Value
from instep.graph.expression import Expression, ExpressionError, MissingName
from instep.graph.text.hints import meant
from instep.graph.text.structs import Unit

__all__ = ["Frame", "Lazy"]


@dataclass
class Frame:
    """One call of a struct: where it stands, its values, and the numbers that its expressions read."""

    scope: str
    unit: Unit
    values: dict[str, Value]
    numbers: dict[str, Any]
    #: what the step before gave
    last: list[Value] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    depth: int = 0
    #: within a call that shares weights with an earlier one
    shared: bool = False

    def names(self, wanted: Sequence[str] | frozenset[str]) -> dict[str, Any]:
        """What an expression reads: numbers first, then values as records of their shape."""
        found = {n: self.numbers[n] for n in wanted if n in self.numbers}
        for name in wanted:
            if name not in found and name in self.values:
                found[name] = record(self.values[name], self.unit.layout)
        return found

    def evaluate(
        self, parsed: Expression, spend: Callable[[int], None], values: Mapping[str, Any] | None = None
    ) -> Any:
        """What an expression gives here. ``values``: all that it reads. Raises ExpressionError."""
        try:
            return parsed.evaluate(self.names(parsed.names) if values is None else values, spend)
        except MissingName as error:
            raise ExpressionError(f"in {error.text!r}: {self.missing(error.name)}") from None

    def missing(self, name: str) -> str:
        """Why nothing has ``name`` here, and what may have been meant."""
        if any(a.name == name for a in self.unit.main.args) and self.depth:
            return f"'{name}' is an argument of the network, which structs do not see; make it one of the struct's, " \
                   f"and hand it on: {{{name}: {name}}}"  # fmt: skip
        return f"there is no '{name}' here{meant(name, [*self.numbers, *self.values])}"


def record(value: Value, layout: str) -> dict[str, Any]:
    shape = value.shape
    record: dict[str, Any] = {"shape": shape, "rank": value.rank}
    if value.rank == 4:
        n, a, b, c = shape
        record |= dict(zip(("batch", "channels", "height", "width"),
                           (n, a, b, c) if layout == "NCHW" else (n, c, a, b), strict=True))  # fmt: skip
    elif value.rank:
        record |= {"batch": shape[0], "channels": shape[-1]}
    return record


class Lazy(Mapping[str, Any]):
    """A frame's names for the braces of a key."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    def __getitem__(self, name: str) -> Any:
        return self.frame.names((name,))[name]

    def __iter__(self) -> Any:
        return iter({**self.frame.values, **self.frame.numbers})

    def __len__(self) -> int:
        return len(self.frame.values) + len(self.frame.numbers)
