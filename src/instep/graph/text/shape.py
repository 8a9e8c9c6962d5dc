"""Blocks as they will be printed: steps with local names, and what is the same in blocks that one struct stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from instep.graph.core import Value
from instep.graph.text.table import LAYERS

__all__ = ["PLAIN_ACTS", "Item", "Shape", "key_of"]

#: Activations without numbers: blocks that differ in them are one struct with an argument.
PLAIN_ACTS = ("relu", "relu6", "sigmoid", "tanh", "silu", "hard_swish", "hard_sigmoid", "mish", "selu")


@dataclass
class Item:
    """A step to print: names, kind, inputs (None: what came before), fields, and the block where it is one."""

    names: tuple[str, ...]
    kind: str
    inputs: tuple[str, ...] | None
    fields: dict[str, Any]
    child: Shape | None = None
    #: what arguments are named after where the field's name is taken
    stem: str = ""
    #: the rounds of a loop, whose first is ``child``; its names and inputs may count by {i}
    rounds: list[Shape] = field(default_factory=list, kw_only=True)
    #: whether a loop counts down
    down: bool = field(default=False, kw_only=True)


@dataclass
class Shape:
    """A block to print. ``key`` is all of it but the values of its fields: equal keys fold into one struct."""

    scope: str
    inputs: tuple[str, ...]
    items: list[Item]
    outputs: tuple[str, ...] | None
    key: Any = None
    #: constants that the text says in numbers, in order
    constants: list[Value] = field(default_factory=list)
    #: constants that have another name in the text, by that
    renamed: dict[str, Value] = field(default_factory=dict)
    height: int = 0
    #: names that no argument may have
    reserved: frozenset[str] = frozenset()
    #: whether it is what a loop does in each round
    round: bool = False


def key_of(shape: Shape) -> Any:
    """All of a block but the values of its fields."""
    items = []
    for item in shape.items:
        declared = LAYERS[item.kind].fields if item.child is None else ()
        given = tuple(f.name for f in declared if f.name in item.fields)
        marks = tuple(item.fields.get(f) is None for f in ("at", "value", "shape"))
        inner = item.child.key if item.child is not None else None
        kind = "act" if item.kind in PLAIN_ACTS and "kind" in item.fields else item.kind
        items.append((item.names, kind, item.inputs, given, marks, item.down, inner))
    return (shape.inputs, shape.outputs, tuple(items))
