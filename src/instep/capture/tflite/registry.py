"""The table of handlers: which function turns a builtin operator of TFLite into graph operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["HANDLERS", "Handler", "Unsupported", "reads"]


@dataclass(frozen=True)
class Handler:
    """``function(build, *inputs)`` and the name of the schema's table of options, "" when the operator has none."""

    function: Callable[..., Any]
    options: str


#: Builtin operator's name to its handler.
HANDLERS: dict[str, Handler] = {}


class Unsupported(Exception):
    """A handler cannot express this operator; the message says which attribute is the reason."""


def reads(name: str, options: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: register the handler of the builtin operator ``name``, e.g. ``@reads("CONV_2D", "Conv2DOptions")``.

    The handler gets the Builder and the operator's inputs as Values (None where left out), and returns the Value of
    its output, or a tuple of them.
    """

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        HANDLERS[name] = Handler(function, options)
        return function

    return wrap
