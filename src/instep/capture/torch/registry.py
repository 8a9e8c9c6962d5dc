"""The table of handlers: which function turns an ATen operator into graph operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from instep.graph import Value

__all__ = ["HANDLERS", "Complex", "Deferred", "Missing", "Places", "Unsupported", "find", "handles"]

#: ATen operator name, with or without overload ("add.Tensor" before "add"), to handler(builder, *args, **kwargs).
HANDLERS: dict[str, Callable[..., Any]] = {}


class Unsupported(Exception):
    """A handler cannot express this call; the message says which attribute is the reason."""


class Missing:
    """A result that no graph operator gives (the places of a max pool); reading it is the error that says so."""

    def __init__(self, why: str) -> None:
        self.why = why


class Deferred(Missing):
    """A result that few networks read: ``compute()`` adds it to the graph, where something does."""

    def __init__(self, compute: Callable[[], Value] | None, why: str = "") -> None:
        super().__init__(why)
        self.compute = compute


class Places(Deferred):
    """The places of a max pool's maxima: what was pooled and how, for the max_unpool that may follow."""

    def __init__(
        self, pooled: Any, maxima: Any, windows: tuple[tuple[int, ...], ...], compute: Callable[[], Value] | None = None
    ) -> None:
        super().__init__(
            compute, "the places of the maxima (only the maxima are captured, and what max_unpool makes of both)"
        )
        self.pooled, self.maxima, self.windows = pooled, maxima, windows


@dataclass(frozen=True)
class Complex:
    """A complex tensor [...] as the real tensor ``pair`` [..., 2] of its real and imaginary parts (view_as_real)."""

    pair: Value

    @property
    def rank(self) -> int:
        return self.pair.rank - 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pair.shape[:-1]


def handles(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: register a handler for ATen operators, e.g. ``@handles("conv2d.default", "conv2d.padding")``.

    A name without overload stands for all overloads. The handler gets the Builder and the operator's arguments in
    its schema's order; tensors arrive as graph Values.
    """

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            HANDLERS[name] = function
        return function

    return wrap


def find(target: Any) -> Callable[..., Any] | None:
    """The handler of an OpOverload, or None."""
    name = str(target).removeprefix("aten.")
    return HANDLERS.get(name) or HANDLERS.get(name.split(".")[0])
