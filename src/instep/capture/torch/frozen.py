"""Batch norms that a network writes out, as detectors do whose norms are frozen: x · scale + shift of buffers."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from instep.graph import Graph, Node, Operator, Value, ops

__all__ = ["frozen_norms"]


def frozen_norms(graph: Graph, exported: Any) -> None:
    """Have one BatchNorm, fixed, in the place of x · s + (b - m · s), where s = w / √(v + eps), w, b, m and v are
    vectors of the network, and m and v are buffers of it: torchvision's FrozenBatchNorm2d and its like."""
    buffers = {s.target for s in exported.graph_signature.input_specs if s.kind.name == "BUFFER"}
    written = _Written(graph, buffers)
    found = {id(node): made for node in graph.nodes if (made := written.norm(node)) is not None}
    if found:
        graph.nodes = [found.get(id(node), node) for node in graph.nodes]
        graph.prune()


class _Written:
    def __init__(self, graph: Graph, buffers: Container[str]) -> None:
        self.graph, self.buffers = graph, buffers
        self.makers: Mapping[Value, Node] = graph.producers()

    def norm(self, node: Node) -> Node | None:
        """The batch norm whose last step is ``node``, or None."""
        for product, shift in self.pairs(node.output, ops.Add):
            for x, scale in self.pairs(product, ops.Mul):
                vectors = self.vectors(scale, shift)
                axis = self.axis(scale, x)
                if vectors is None or axis is None or x in self.graph.weights:
                    continue
                eps, *arrays = vectors
                op = ops.BatchNorm(eps, axis, fixed=True)
                if all(v.shape == (x.shape[axis],) for v in arrays) and node.output.shape == x.shape:
                    return Node(op, [x, *arrays], node.outputs, node.scope, node.origin)
        return None

    def vectors(self, scale: Value, shift: Value) -> tuple[float, Value, Value, Value, Value] | None:
        """eps, w, b, m and v of w / √(v + eps) and b - m · scale."""
        root = self.root(scale)
        bias, product = self.parts(shift, ops.Sub) or (None, None)
        if root is None or bias is None or product is None:
            return None
        eps, weight, var = root
        same = self.plain(scale)
        mean = next((a for a, b in self.pairs(product, ops.Mul) if self.plain(b) is same), None)
        found = [v for v in map(self.array, (weight, bias, mean, var)) if v is not None]
        good = len(found) == 4 and all(v.name in self.buffers for v in found[2:])
        return (eps, *found) if good else None  # type: ignore[return-value]

    def root(self, scale: Value) -> tuple[float, Value, Value] | None:
        """eps, w and v of w · rsqrt(v + eps), or of w / √(v + eps)."""
        ways: list[tuple[Value, Value, type[Operator]]] = [(w, r, ops.Rsqrt) for w, r in self.pairs(scale, ops.Mul)]
        if (parts := self.parts(scale, ops.Div)) is not None:
            ways.append((*parts, ops.Sqrt))
        for weight, root, kind in ways:
            made = self.makers.get(self.plain(root))
            if made is None or type(made.op) is not kind:
                continue
            for var, number in self.pairs(made.inputs[0], ops.Add):
                eps = self.graph.array(number)
                if eps is not None and eps.size == 1 and "/" in number.name:
                    return float(str(eps.ravel()[0])), weight, var
        return None

    # -- what values are made of ---------------------------------------------------------------------------------------
    def plain(self, value: Value) -> Value:
        """``value`` before it was given axes of size 1."""
        while (made := self.makers.get(value)) is not None and isinstance(made.op, ops.Reshape):
            if [n for n in made.inputs[0].shape if n != 1] != [n for n in value.shape if n != 1]:
                break
            value = made.inputs[0]
        return value

    def parts(self, value: Value, kind: type[Operator]) -> tuple[Value, Value] | None:
        """The two operands of a ``kind`` that makes ``value``."""
        made = self.makers.get(self.plain(value))
        return (made.inputs[0], made.inputs[1]) if made is not None and type(made.op) is kind else None

    def pairs(self, value: Value, kind: type[Operator]) -> list[tuple[Value, Value]]:
        """The same of an operator that does not care for their order, in either."""
        found = self.parts(value, kind)
        return [found, (found[1], found[0])] if found is not None else []

    def array(self, value: Value | None) -> Value | None:
        """The vector of the network that ``value`` is."""
        if value is None:
            return None
        value = self.plain(value)
        good = value in self.graph.weights and value.rank == 1 and "/" not in value.name and value.dtype == "float32"
        return value if good else None

    def axis(self, scale: Value, x: Value) -> int | None:
        """The axis of ``x`` along which ``scale`` lies."""
        shape = (1,) * (x.rank - scale.rank) + scale.shape
        long = [a for a, n in enumerate(shape) if n != 1]
        return long[0] if len(long) == 1 and len(shape) == x.rank else None
