"""A graph as those read it who look for a pattern: what makes a value, and what reads it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import numpy as np

from instep.graph import ops
from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator

__all__ = ["Reader"]


class Reader:
    """A graph, with what makes each value and what reads it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users, self.makers = graph.users(), graph.producers()
        self.place = {node: n for n, node in enumerate(graph.nodes)}

    def made(self, value: Value, *kinds: type[Operator]) -> Node | None:
        """What makes ``value``, if it is of ``kinds`` and has no activation of its own."""
        node = self.makers.get(value)
        return node if node and type(node.op) in kinds and not getattr(node.op, "activation", "") else None

    def both(self, value: Value, kind: type[Operator]) -> Iterator[tuple[Node, Value, Value]]:
        """A node with two inputs, and those in either order."""
        node = self.made(value, kind)
        if node is not None:
            a, b = node.inputs
            yield node, a, b
            yield node, b, a

    def only(self, value: Value, readers: Sequence[Node]) -> bool:
        """Whether nothing but ``readers`` reads ``value``."""
        return value not in self.graph.outputs and all(any(u is r for r in readers) for u in self.users[value])

    def beyond(self, value: Value, held: Container[int]) -> bool:
        """Whether more reads ``value`` than nodes with the ids ``held``."""
        return value in self.graph.outputs or any(id(u) not in held for u in self.users.get(value, ()))

    def read(self, value: Value) -> bool:
        return value in self.graph.outputs or bool(self.users.get(value))

    def vector(self, value: Value) -> bool:
        return value in self.graph.weights and value.rank == 1 and value.dtype == "float32"

    def zero(self, value: Value) -> bool:
        """Whether ``value`` is nothing but zeros, and no parameter."""
        while (node := self.made(value, ops.Slice, ops.Reshape, ops.Expand)) is not None:
            value = node.inputs[0]
        array = self.graph.weights.get(value)
        return array is not None and "/" in value.name and not np.any(array)
