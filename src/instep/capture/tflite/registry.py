"""The table of handlers: which function turns a builtin operator of TFLite into graph operators."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from instep.capture.tflite.custom import Decode

__all__ = ["HANDLERS", "Handler", "Unsupported", "reads"]


@dataclass(frozen=True)
class Handler:
    """``function(build, *inputs)`` and the name of the schema's table of options, "" when the operator has none; of a
    custom operator what reads its bytes."""

    function: Callable[..., Any]
    options: str | Decode

    def takes(self, *operands: Any) -> bool:
        """Whether as many operands as these fit the function."""
        try:
            inspect.signature(self.function).bind(*operands)
        except TypeError:
            return False
        return True


#: Builtin operator's name, or "CUSTOM:" and a custom one's, to its handler.
HANDLERS: dict[str, Handler] = {}


class Unsupported(Exception):
    """A handler cannot express this operator; the message says which attribute is the reason."""


def reads(name: str, options: str | Decode = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: register the handler of the operator ``name``, e.g. ``@reads("CONV_2D", "Conv2DOptions")``.

    The handler gets the Builder and the operator's inputs as Values (None where left out), and returns the Value of
    its output, or a tuple of them.
    """

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        HANDLERS[name] = Handler(function, options)
        return function

    return wrap
