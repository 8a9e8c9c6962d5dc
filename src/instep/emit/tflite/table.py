"""The table operator class → lowering function; each file of this folder fills it for one family of operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from instep.graph import Node, Operator

if TYPE_CHECKING:
    from instep.emit.tflite.writer import Writer

__all__ = ["LOWERINGS", "EmitError", "Lowering", "lowers"]


class EmitError(ValueError):
    """A node that TFLite cannot hold; the message names the node, what does not fit and what to do."""


#: Writes one node into the file: reads ``node`` and calls the writer.
Lowering = Callable[["Writer", Node], None]

#: Operator class → the function that writes it.
LOWERINGS: dict[type[Operator], Lowering] = {}


def lowers(*kinds: type[Operator]) -> Callable[[Lowering], Lowering]:
    """Decorator: the function writes nodes of these operator classes."""

    def register(function: Lowering) -> Lowering:
        for kind in kinds:
            LOWERINGS[kind] = function
        return function

    return register
