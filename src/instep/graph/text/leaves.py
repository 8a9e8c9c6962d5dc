"""From a graph to its outline: operators as layers, each with the weights that it has of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from instep.graph import ops
from instep.graph.core import Graph, Node, Value
from instep.graph.text.outline import Block, Leaf, first_within, grouped, shared
from instep.graph.text.picks import parts, picks
from instep.graph.text.spelling import (
    PLAIN_SIZE,
    SIMPLE,
    layout_unless,
    numbers,
    pads,
    pair,
    plain_fields,
    uniform,
    usual_axis,
)

__all__ = ["layout_of", "outline"]


def outline(graph: Graph) -> Block:
    """The outline of ``graph``."""
    maker = _Leaves(graph)
    leaves: list[Leaf] = []
    place = 0
    while place < len(graph.nodes):
        cuts = parts(graph.nodes, place)
        taken = 2 * picks(graph.nodes, place, maker.users) if cuts == 1 else 0
        nodes = graph.nodes[place : place + max(cuts, taken)]
        made = maker.picked(nodes) if taken else maker.split(nodes) if cuts > 1 else maker.of(nodes[0])
        for leaf in made:
            leaves.insert(_before(leaves, leaf), leaf)
        place += len(nodes)
    # weights that no operator reads: they are outputs, or lie there unused
    for value in graph.weights:
        if not maker.users[value] or value in graph.outputs:
            leaves.extend(maker.params([value], ""))
    return Block("", grouped(leaves, "", whole=True))


def layout_of(graph: Graph) -> str:
    """The layout that most spatial operators have."""
    found = [getattr(n.op, "layout", "") for n in graph.nodes if n.op.spatial]
    return "NHWC" if found.count("NHWC") > len(found) / 2 else "NCHW"


def _before(leaves: list[Leaf], leaf: Leaf) -> int:
    """Where ``leaf`` belongs: a constant of further up, before all of the scope that reads it."""
    at = len(leaves)
    if leaf.inner:
        home = shared([leaf.scope, leaf.inner])
        around = first_within(leaf.inner, home)
        while at and leaves[at - 1].scope != home and first_within(leaves[at - 1].scope, home) == around:
            at -= 1
    return at


class _Leaves:
    """Turns nodes into leaves; weights that no layer claims become params."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.layout = layout_of(graph)
        self.users = graph.users()
        self.producers = graph.producers()
        self.numbers = _scalars(graph, self.users)
        self.buffers = frozenset(graph.meta.get("buffers", ()))
        self.skipped: dict[Node, Node] = {}
        for node in graph.nodes:
            if isinstance(node.op, ops.Prelu) and (view := self._slope_view(node)) is not None:
                self.skipped[view] = node

    def of(self, node: Node) -> list[Leaf]:
        if node in self.skipped:
            return []
        if len(node.inputs) == 2 and node.inputs[1] in self.numbers:
            return self.scaled(node)
        known = self._layer(node)
        if known is not None and len({w.name in self.buffers for w in known[3]}) <= 1:
            kind, read, fields, weights = known
            fields["trained"] = not any(w.name in self.buffers for w in weights)
            gone = [v for v in node.inputs[1:] if v in self.graph.weights and v not in weights]
            leaf = Leaf(kind, read, node.outputs, fields, node.scope, weights, constants=gone)
            return [*self.params(read, node.scope), leaf]
        leaf = Leaf(
            node.op.name, list(node.inputs), node.outputs, plain_fields(node.op.fields(), self.layout), node.scope
        )
        simple = SIMPLE.get(type(node.op))
        if simple is not None:
            leaf = simple(node, leaf, self.layout)
        return [*self.params(leaf.inputs, node.scope), leaf]

    def split(self, nodes: Sequence[Node]) -> list[Leaf]:
        """Slices that take all of a value, one part after the other, as one layer."""
        (x,), first = nodes[0].inputs, nodes[0]
        shape = x.shape
        axis = next(a for a, n in enumerate(shape) if first.output.shape[a] != n)
        sizes = [n.output.shape[axis] for n in nodes]
        usual = axis == usual_axis(len(shape), self.layout)
        fields = {"sizes": None if len(set(sizes)) == 1 else sizes, "axis": None if usual else axis}
        outputs = [n.output for n in nodes]
        return [*self.params([x], first.scope), Leaf("split", [x], outputs, fields, first.scope)]

    def picked(self, nodes: Sequence[Node]) -> list[Leaf]:
        """A place of an axis, or all of them one after the other, as one layer."""
        x, scope = nodes[0].inputs[0], nodes[0].scope
        op: Any = nodes[0].op
        small = nodes[0].output.shape
        axis = next(a for a, n in enumerate(x.shape) if small[a] != n)
        outputs = [n.output for n in nodes[1::2]]
        fields = {"axis": axis} if len(outputs) > 1 else {"axis": axis, "index": op.starts[axis]}
        kind = "unbind" if len(outputs) > 1 else "select"
        return [*self.params([x], scope), Leaf(kind, [x], outputs, fields, scope)]

    def scaled(self, node: Node) -> list[Leaf]:
        """A product or a sum with a number."""
        x, number = node.inputs
        by = float(str(self.graph.weights[number][()]))
        kind = "scale" if isinstance(node.op, ops.Mul) else "shift"
        leaf = Leaf(kind, [x], node.outputs, {"by": by}, node.scope, constants=[number])
        return [*self.params([x], node.scope), leaf]

    def params(self, read: Sequence[Value], scope: str) -> list[Leaf]:
        """A leaf for each constant among ``read``; what several nodes read is said again at each of them."""
        found = []
        for value in dict.fromkeys(read):
            array = self.graph.array(value)
            if array is None:
                continue
            fields: dict[str, Any] = {"shape": list(value.shape), "dtype": value.dtype, "init": "zeros", "value": None}
            sayable = value.dtype not in ("float16", "float64") and "/" in value.name
            alike = sayable and uniform(array)
            plain = alike or (sayable and array.size <= PLAIN_SIZE)
            if alike:
                fields |= {"value": numbers(array.flat[0])}
            elif plain:
                fields |= {"value": numbers(array), "shape": list(value.shape) if array.size == 0 else None}
            fields["trained"] = plain or value.name not in self.buffers
            home, inner = scope, ""
            if not plain and len(self.users[value]) == 1 and "." in value.name and "/" not in value.name:
                above = shared([scope, value.name.rpartition(".")[0]])
                home, inner = (above, scope) if above != scope else (scope, "")
            found.append(Leaf("param", [], [value], fields, home, [value], inner=inner))
        return found

    def _named(self, value: Value, scope: str, name: str) -> bool:
        wanted = f"{scope}.{name}" if scope else name
        return value in self.graph.weights and value.name == wanted and value.dtype == "float32"

    def _layer(self, node: Node) -> tuple[str, list[Value], dict[str, Any], list[Value]] | None:
        """Layer, inputs, fields and own weights of a node whose weights are named as the layer would."""
        op, ins, scope = node.op, node.inputs, node.scope
        bias = len(ins) > 2
        if isinstance(op, ops.Conv2d | ops.ConvTranspose2d | ops.Linear):
            if not self._named(ins[1], scope, "weight") or (bias and not self._named(ins[2], scope, "bias")):
                return None
            if op.activation or ins[0] in self.graph.weights:
                return None
            return self._product(op, ins, bias)
        norms: dict[type, tuple[str, ...]] = {
            ops.BatchNorm: ("weight", "bias", "running_mean", "running_var"),
            ops.LayerNorm: ("weight", "bias"),
            ops.GroupNorm: ("weight", "bias"),
        }
        names = norms.get(type(op))
        if names and ins[0] not in self.graph.weights:
            gone = self._gone(node)
            if not all(v in gone or self._named(v, scope, n) for v, n in zip(ins[1:], names, strict=True)):
                return None
            return self._norm(op, ins, gone)
        if isinstance(op, ops.Prelu):
            return self._prelu(node)
        return None

    def _product(self, op: Any, ins: list[Value], bias: bool) -> tuple[str, list[Value], dict[str, Any], list[Value]]:
        weight = ins[1].shape
        if isinstance(op, ops.Linear):
            return "linear", ins[:1], {"out": weight[0], "bias": bias} | self._decay(ins[1]), ins[1:]
        fields = {"kernel": pair(weight[2:] if op.layout == "NCHW" else weight[1:3]), "stride": pair(op.stride),
                  "padding": pads(op.padding), "dilation": pair(op.dilation), "groups": op.groups, "bias": bias,
                  "layout": layout_unless(op.layout, self.layout)} | self._decay(ins[1])  # fmt: skip
        if isinstance(op, ops.Conv2d):
            return "conv", ins[:1], {"out": weight[0]} | fields, ins[1:]
        out = weight[1 if op.layout == "NCHW" else 3] * op.groups
        fields["output_padding"] = list(op.output_padding) if len(set(op.output_padding)) > 1 else op.output_padding[0]
        return "conv_transpose", ins[:1], {"out": out} | fields, ins[1:]

    def _decay(self, weight: Value) -> dict[str, Any]:
        return {"decay": self.graph.meta.get("decay", {}).get(weight.name)}

    def _gone(self, node: Node) -> list[Value]:
        """The scale and the shift that a norm goes without: ones and zeros that are no weight, and of it alone."""
        return [
            v for v, fill in zip(node.inputs[1:3], (1.0, 0.0), strict=True)
            if self.graph.absent(v, fill) and v.dtype == "float32" and not np.signbit(self.graph.weights[v]).any()
            and v not in self.graph.outputs and all(n.inputs[1:] == node.inputs[1:] and n.scope == node.scope
                                                    for n in self.users[v])
        ]  # fmt: skip

    def _norm(
        self, op: Any, ins: list[Value], gone: Sequence[Value]
    ) -> tuple[str, list[Value], dict[str, Any], list[Value]] | None:
        x, weights = ins[0], [v for v in ins[1:] if v not in gone]
        affine = {"scale": ins[1] in weights, "bias": ins[2] in weights}
        usual = usual_axis(x.rank, self.layout)
        if isinstance(op, ops.BatchNorm):
            axis = None if op.axis == usual else op.axis
            fields: dict[str, Any] = {"eps": op.eps, "momentum": op.momentum, "axis": axis, "fixed": op.fixed}
            return "batch_norm", [x], fields | affine, weights
        if isinstance(op, ops.LayerNorm):
            last = op.axes == (x.rank - 1,)
            return "layer_norm", [x], {"eps": op.eps, "axes": None if last else list(op.axes)} | affine, weights
        if op.axis != usual:
            return None
        return "group_norm", [x], {"groups": op.groups, "eps": op.eps} | affine, weights

    def _slope_view(self, node: Node) -> Node | None:
        """The reshape that lays a PReLU's slopes along the channels, where it is no one else's."""
        view = self.producers.get(node.inputs[1])
        x = node.inputs[0]
        if self.layout != "NCHW":
            return None
        if view is None or not isinstance(view.op, ops.Reshape) or view.scope != node.scope:
            return None
        if len(self.users[view.output]) > 1 or view.output in self.graph.outputs or x.rank not in (4, 5):
            return None
        slope = view.inputs[0]
        count = x.shape[1]
        good = slope.shape in ((count,), (1,)) and view.op.shape == (*slope.shape, *(1 for _ in x.shape[2:]))
        return view if good and self._named(slope, node.scope, "weight") else None

    def _prelu(self, node: Node) -> tuple[str, list[Value], dict[str, Any], list[Value]] | None:
        view = next((v for v, n in self.skipped.items() if n is node), None)
        if view is None:
            return None
        slope = view.inputs[0]
        shared = slope.shape == (1,) and node.inputs[0].shape[1] != 1
        return "prelu", node.inputs[:1], {"shared": shared}, [slope]


def _scalars(graph: Graph, users: Mapping[Value, Sequence[Node]]) -> set[Value]:
    """The numbers that values are multiplied by or added to, and that are read by nothing else: one of each."""
    found: dict[float, list[Value]] = {}
    for value, array in graph.weights.items():
        if array.shape or array.dtype != np.float32 or "/" not in value.name or not np.isfinite(array):
            continue
        good = [
            isinstance(n.op, ops.Add | ops.Mul) and not n.op.activation and n.inputs[1] is value
            and n.inputs[0] is not value and n.inputs[0].dtype == "float32" for n in users[value]
        ]  # fmt: skip
        found.setdefault(float(array), []).append(value)
        if not good or not all(good) or value in graph.outputs or (np.signbit(array) and not array):
            found[float(array)] += [value, value]  # others of this number are told apart from it
    return {values[0] for values in found.values() if len(values) == 1}
