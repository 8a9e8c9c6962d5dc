"""Lists that a loop keeps in one tensor: TensorFlow writes element t as "what was before, the new one, what comes
after", joined. Unrolled, all but the last of these joins are copies that nobody needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from instep.capture.tflite.builder import Builder
from instep.graph import Graph, Node, Value, ops

__all__ = ["untangle"]


def untangle(build: Builder, first: int, results: Sequence[Value]) -> list[Value]:
    """``results`` after the nodes from ``first`` on are rewritten so that a slice of a join reads the joined parts.

    Nodes that ``results`` do not need go. Exact: nothing is computed otherwise, only moved less.
    """
    graph = build.graph
    unrolled = graph.nodes[first:]
    del graph.nodes[first:]
    lists = _Lists(build)
    for node in unrolled:
        lists.add(node)
    kept = [lists.now(v) for v in results]
    _drop(graph, first, {*kept})
    return kept


def _drop(graph: Graph, first: int, alive: set[Value]) -> None:
    kept = []
    for node in reversed(graph.nodes[first:]):
        if any(v in alive for v in node.outputs):
            alive.update(node.inputs)
            kept.append(node)
    graph.nodes[first:] = kept[::-1]


class _Lists:
    """Adds nodes to the graph again. ``parts``: what a join joins; ``instead``: which value stands for a value."""

    def __init__(self, build: Builder) -> None:
        self.build = build
        self.parts: dict[Value, tuple[int, list[Value]]] = {}
        self.instead: dict[Value, Value] = {}

    def now(self, value: Value) -> Value:
        return self.instead.get(value, value)

    def add(self, node: Node) -> None:
        node.inputs = [self.now(v) for v in node.inputs]
        if isinstance(node.op, ops.Concat):
            self.join(node, node.op.axis)
        elif not isinstance(node.op, ops.Slice) or not self.cut(node, node.op):
            self.build.graph.nodes.append(node)

    def join(self, node: Node, axis: int) -> None:
        """A join of joins along one axis is one join."""
        parts: list[Value] = []
        for value in node.inputs:
            known = self.parts.get(value)
            parts += known[1] if known is not None and known[0] == axis else [value]
        node.op, node.inputs = ops.Concat(axis), parts
        self.parts[node.output] = axis, parts
        self.build.graph.nodes.append(node)

    def cut(self, node: Node, op: ops.Slice) -> bool:
        """Whether the slice is read from the parts of a join: it cuts along their axis, between elements."""
        source = node.inputs[0]
        if source not in self.parts:
            return False
        axis, parts = self.parts[source]
        if op != ops.Slice.along(source.shape, axis, op.starts[axis], op.stops[axis]):
            return False
        found, at = [], 0
        for part in parts:
            size = part.shape[axis]
            low, high = max(op.starts[axis] - at, 0), min(op.stops[axis] - at, size)
            if low < high:
                found.append(self.piece(node, part, axis, low, high))
            at += size
        self.stand(node, axis, found)
        return True

    def piece(self, node: Node, part: Value, axis: int, low: int, high: int) -> Value:
        graph, build = self.build.graph, self.build
        array = graph.weights.get(part)
        if (low, high) == (0, part.shape[axis]):
            return part
        if array is not None:
            cut = np.take(array, range(low, high), axis)
            return graph.constant(np.ascontiguousarray(cut), build.unique(f"{part.name}.{low}"))
        build.stem, build.scope, build.origin = node.output.name, node.scope, node.origin
        return build.slice(part, axis, low, high)

    def stand(self, node: Node, axis: int, found: list[Value]) -> None:
        """``found``, joined, stands for what the node makes."""
        if len(found) == 1:
            self.instead[node.output] = found[0]
            return
        node.op, node.inputs = ops.Concat(axis), found
        self.parts[node.output] = axis, found
        self.build.graph.nodes.append(node)
