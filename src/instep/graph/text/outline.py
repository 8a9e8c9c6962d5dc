"""A graph as an outline: its operators as layers, grouped by the scopes that they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instep.graph import ops
from instep.graph.core import Graph, Node, Value

__all__ = ["CARRIED", "EACH", "KEPT", "LAST", "SAME", "Block", "End", "Leaf", "Loop", "grouped", "layout_of", "outline"]

#: Constants of no more numbers are printed, larger ones are weights.
PLAIN_SIZE = 8
#: Constants of one number throughout are printed up to this size.
UNIFORM_SIZE = 65_536


#: What a round of a loop reads: what the round before gave, one value in all, or another value in each.
CARRIED, SAME, EACH = "carried", "same", "each"
#: What a round gives besides what is carried: a value that is read of several rounds, or of the last alone.
KEPT, LAST = "kept", "last"


class End(int):
    """A stop that is the end of the axis, which need not be said."""


@dataclass
class Leaf:
    """One layer: what it reads and gives, its fields (all of them, defaults too), the scope of its weights."""

    kind: str
    inputs: list[Value]
    outputs: list[Value]
    fields: dict[str, Any]
    scope: str
    #: the weights that the layer has of itself, by their names within it
    weights: list[Value] = field(default_factory=list)
    #: the scope of the one step that reads a constant of further up
    inner: str = field(default="", kw_only=True)
    #: numbers that are among its fields
    constants: list[Value] = field(default_factory=list, kw_only=True)


@dataclass
class Block:
    """A scope: its leaves and the scopes within it, in order."""

    scope: str
    items: list[Leaf | Block | Loop]
    #: what it reads and gives, in this order, where that is settled
    reads: list[Value] | None = None
    gives: list[Value] | None = None

    def leaves(self) -> list[Leaf]:
        return [leaf for i in self.items for leaf in ([i] if isinstance(i, Leaf) else i.leaves())]

    def stand_ins(self) -> list[Value]:
        """Those of all loops within."""
        found: list[Value] = []
        for item in self.items:
            if isinstance(item, Loop):
                found += item.stand_ins
            inner = item.rounds if isinstance(item, Loop) else [item] if isinstance(item, Block) else []
            found += [v for block in inner for v in block.stand_ins()]
        return found


@dataclass
class Loop:
    """Blocks of one form, one behind the other: the rounds of a loop. All read and give as many values."""

    scope: str
    rounds: list[Block]
    #: what each of the read values is, with the place among the given ones that it is carried from
    inputs: list[tuple[str, int | None]]
    outputs: list[str]
    #: what the first round reads instead of what it begins with
    stand_ins: list[Value] = field(default_factory=list)

    def leaves(self) -> list[Leaf]:
        return [leaf for r in self.rounds for leaf in r.leaves()]


def outline(graph: Graph) -> Block:
    """The outline of ``graph``."""
    maker = _Leaves(graph)
    leaves: list[Leaf] = []
    place = 0
    while place < len(graph.nodes):
        parts = _parts(graph.nodes, place)
        picks = 2 * _picks(graph.nodes, place, maker.users) if parts == 1 else 0
        nodes = graph.nodes[place : place + max(parts, picks)]
        made = maker.picked(nodes) if picks else maker.split(nodes) if parts > 1 else maker.of(nodes[0])
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


def grouped(leaves: Sequence[Leaf], scope: str, *, whole: bool = False) -> list[Any]:
    """Consecutive leaves of one inner scope become a block, those of this scope stay.

    Those that are all of one scope, none of its own within it, become one where ``whole`` asks for it.
    """
    items: list[Any] = []
    at = 0
    while at < len(leaves):
        first = _first(leaves[at].scope, scope)
        stop = at + 1
        while first and stop < len(leaves) and _first(leaves[stop].scope, scope) == first:
            stop += 1
        run = leaves[at:stop]
        at = stop
        steps = sum(r.kind != "param" for r in run)
        if len({r.scope for r in run}) == 1 and not (whole and first and steps > 1):
            items.extend(run)
            continue
        inner = _shared([r.scope for r in run])
        items.append(Block(inner, grouped(run, inner, whole=whole)))
    return items


def _first(scope: str, outer: str) -> str:
    """The first component of ``scope`` within ``outer``; nothing where it is that scope itself, or elsewhere."""
    if not outer:
        return scope.partition(".")[0]
    return scope[len(outer) + 1 :].partition(".")[0] if scope.startswith(outer + ".") else ""


def _shared(scopes: Sequence[str]) -> str:
    """The longest scope that holds all of ``scopes``."""
    parts = [s.split(".") for s in scopes]
    common = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        common.append(column[0])
    return ".".join(common)


def _before(leaves: list[Leaf], leaf: Leaf) -> int:
    """Where ``leaf`` belongs: a constant of further up, before all of the scope that reads it."""
    at = len(leaves)
    if leaf.inner:
        home = _shared([leaf.scope, leaf.inner])
        around = _first(leaf.inner, home)
        while at and leaves[at - 1].scope != home and _first(leaves[at - 1].scope, home) == around:
            at -= 1
    return at


def _parts(nodes: Sequence[Node], place: int) -> int:
    """How many nodes from ``place`` on cut one value into its parts along an axis, in order."""
    count, axis, at = 0, -1, 0
    whole = nodes[place].inputs[:1]
    for node in nodes[place:]:
        op: Any = node.op
        if type(op) is not ops.Slice or node.inputs != whole or node.scope != nodes[place].scope:
            return 1
        shape = whole[0].shape
        cut = [a for a, n in enumerate(shape) if (op.starts[a], op.stops[a], op.steps[a]) != (0, n, 1)]
        if len(cut) != 1 or cut[0] != (axis if count else cut[0]):
            return 1
        axis = cut[0]
        if op.starts[axis] != at or op.stops[axis] <= at or op.steps[axis] != 1:
            return 1
        count, at = count + 1, op.stops[axis]
        if at == shape[axis]:
            return count
    return 1


#: Most parts that are said as one step with a name for each.
MOST_PARTS = 8


def _picks(nodes: Sequence[Node], place: int, users: Mapping[Value, Sequence[Node]]) -> int:
    """How many pairs of nodes from ``place`` on take a place of an axis each, without the axis: one, or all places."""
    first = _pick(nodes, place, users)
    if first is None:
        return 0
    axis, index = first
    whole = nodes[place].inputs
    places = whole[0].shape[axis]
    if index or not 2 <= places <= MOST_PARTS:
        return 1
    for number in range(1, places):
        at = place + 2 * number
        same = at < len(nodes) and nodes[at].inputs == whole and nodes[at].scope == nodes[place].scope
        if not same or _pick(nodes, at, users) != (axis, number):
            return 1
    return places


def _pick(nodes: Sequence[Node], place: int, users: Mapping[Value, Sequence[Node]]) -> tuple[int, int] | None:
    """The axis and the place on it that a slice and a reshape take: x[:, i]."""
    if place + 1 >= len(nodes):
        return None
    cut, view = nodes[place], nodes[place + 1]
    op: Any = cut.op
    if type(op) is not ops.Slice or type(view.op) is not ops.Reshape or view.inputs != cut.outputs:
        return None
    if len(users[cut.output]) > 1 or view.scope != cut.scope:
        return None
    shape = cut.inputs[0].shape
    axes = [a for a, n in enumerate(shape) if (op.starts[a], op.stops[a], op.steps[a]) != (0, n, 1)]
    if len(axes) != 1 or op.stops[axes[0]] != op.starts[axes[0]] + 1 or op.steps[axes[0]] != 1:
        return None
    axis = axes[0]
    return (axis, op.starts[axis]) if view.output.shape == (*shape[:axis], *shape[axis + 1 :]) else None


class _Leaves:
    """Turns nodes into leaves; weights that no layer claims become params."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.layout = layout_of(graph)
        self.users = graph.users()
        self.producers = graph.producers()
        self.numbers = _scalars(graph, self.users)
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
        if known is not None:
            kind, read, fields, weights = known
            return [*self.params(read, node.scope), Leaf(kind, read, node.outputs, fields, node.scope, weights)]
        leaf = Leaf(
            node.op.name, list(node.inputs), node.outputs, _plain_fields(node.op.fields(), self.layout), node.scope
        )
        simple = _SIMPLE.get(type(node.op))
        if simple is not None:
            leaf = simple(node, leaf, self.layout)
        return [*self.params(leaf.inputs, node.scope), leaf]

    def split(self, nodes: Sequence[Node]) -> list[Leaf]:
        """Slices that take all of a value, one part after the other, as one layer."""
        (x,), first = nodes[0].inputs, nodes[0]
        shape = x.shape
        axis = next(a for a, n in enumerate(shape) if first.output.shape[a] != n)
        sizes = [n.output.shape[axis] for n in nodes]
        usual = axis == _usual(len(shape), self.layout)
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
            uniform = sayable and _uniform(array)
            plain = uniform or (sayable and array.size <= PLAIN_SIZE)
            if uniform:
                fields |= {"value": _numbers(array.flat[0])}
            elif plain:
                fields |= {"value": _numbers(array), "shape": list(value.shape) if array.size == 0 else None}
            home, inner = scope, ""
            if not plain and len(self.users[value]) == 1 and "." in value.name:
                above = _shared([scope, value.name.rpartition(".")[0]])
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
            if not all(self._named(v, scope, n) for v, n in zip(ins[1:], names, strict=True)):
                return None
            return self._norm(op, ins)
        if isinstance(op, ops.Prelu):
            return self._prelu(node)
        return None

    def _product(self, op: Any, ins: list[Value], bias: bool) -> tuple[str, list[Value], dict[str, Any], list[Value]]:
        weight = ins[1].shape
        if isinstance(op, ops.Linear):
            return "linear", ins[:1], {"out": weight[0], "bias": bias} | self._decay(ins[1]), ins[1:]
        fields = {"kernel": _pair(weight[2:] if op.layout == "NCHW" else weight[1:3]), "stride": _pair(op.stride),
                  "padding": _pads(op.padding), "dilation": _pair(op.dilation), "groups": op.groups, "bias": bias,
                  "layout": _layout(op.layout, self.layout)} | self._decay(ins[1])  # fmt: skip
        if isinstance(op, ops.Conv2d):
            return "conv", ins[:1], {"out": weight[0]} | fields, ins[1:]
        out = weight[1 if op.layout == "NCHW" else 3] * op.groups
        fields["output_padding"] = list(op.output_padding) if len(set(op.output_padding)) > 1 else op.output_padding[0]
        return "conv_transpose", ins[:1], {"out": out} | fields, ins[1:]

    def _decay(self, weight: Value) -> dict[str, Any]:
        return {"decay": self.graph.meta.get("decay", {}).get(weight.name)}

    def _norm(self, op: Any, ins: list[Value]) -> tuple[str, list[Value], dict[str, Any], list[Value]] | None:
        x = ins[0]
        usual = _usual(x.rank, self.layout)
        if isinstance(op, ops.BatchNorm):
            axis = None if op.axis == usual else op.axis
            fields: dict[str, Any] = {"eps": op.eps, "momentum": op.momentum, "axis": axis}
            return "batch_norm", [x], fields, ins[1:]
        if isinstance(op, ops.LayerNorm):
            last = op.axes == (x.rank - 1,)
            return "layer_norm", [x], {"eps": op.eps, "axes": None if last else list(op.axes)}, ins[1:]
        if op.axis != usual:
            return None
        return "group_norm", [x], {"groups": op.groups, "eps": op.eps}, ins[1:]

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


def _pair(pair: Sequence[int]) -> Any:
    return pair[0] if len(set(pair)) == 1 else list(pair)


def _pads(pads: Any) -> Any:
    (t, b), (left, r) = pads
    if t == b and left == r:
        return t if t == left else [t, left]
    return [[t, b], [left, r]]


def _layout(layout: str, usual: str) -> str | None:
    return None if layout == usual else layout


def _usual(rank: int, layout: str) -> int:
    """Where the channels are, as the layers have it (``layers.channel_axis``)."""
    return 1 if layout == "NCHW" and rank in (2, 4, 5) else rank - 1


def _numbers(array: np.ndarray) -> Any:
    """Numbers as short as they can be said without loss."""
    if array.dtype.kind == "f":
        shortest = np.array([float(str(v)) for v in array.ravel()], dtype="float64")
        return shortest.reshape(array.shape).tolist()
    return array.tolist()


def _uniform(array: np.ndarray) -> bool:
    """Whether one number says all of ``array``, and a text may."""
    few = 1 if array.dtype.kind == "f" else PLAIN_SIZE
    if not few < array.size <= UNIFORM_SIZE or array.dtype.kind not in "fiub":
        return False
    first = array.flat[0]
    return bool(np.all(array == first) and np.all(np.signbit(array) == np.signbit(first)))


def _plain_fields(fields: Mapping[str, Any], layout: str) -> dict[str, Any]:
    return {k: _lists(v) if k != "layout" else _layout(v, layout) for k, v in fields.items()}


def _lists(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_lists(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


# -- operators whose layer reads better than their fields ----------------------------------------------------------
def _pool(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    if op.activation:
        return leaf
    stride = None if op.stride == op.kernel else _pair(op.stride)
    fields = {
        "kernel": _pair(op.kernel),
        "stride": stride,
        "padding": _pads(op.padding),
        "layout": _layout(op.layout, layout),
    }
    if isinstance(op, ops.MaxPool2d):
        return Leaf("max_pool", leaf.inputs, leaf.outputs, fields | {"dilation": _pair(op.dilation)}, leaf.scope)
    fields |= {"count_include_pad": None if op.count_include_pad else False, "overhang": list(op.overhang)}
    return Leaf("avg_pool", leaf.inputs, leaf.outputs, fields, leaf.scope)


def _add(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    if op.activation:
        return leaf
    return Leaf("add" if isinstance(op, ops.Add) else "mul", leaf.inputs, leaf.outputs, {}, leaf.scope)


def _clip(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    six = type(op.low) is float and type(op.high) is float and (op.low, op.high) == (0.0, 6.0)
    return Leaf("relu6", leaf.inputs, leaf.outputs, {}, leaf.scope) if six else leaf


def _shuffle(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    kind = "pixel_shuffle" if isinstance(op, ops.DepthToSpace) else "pixel_unshuffle"
    fields = {"scale": op.block, "order": op.order, "layout": _layout(op.layout, layout)}
    return Leaf(kind, leaf.inputs, leaf.outputs, fields, leaf.scope)


def _concat(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    rank = node.output.rank
    usual = _usual(rank, layout)
    return Leaf("concat", leaf.inputs, leaf.outputs, {"axis": None if op.axis == usual else op.axis}, leaf.scope)


def _slice(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    shape = node.inputs[0].shape
    cut = [
        a
        for a, n in enumerate(shape)
        if (op.starts[a], op.stops[a], op.steps[a]) != (0, n, 1)
    ]  # fmt: skip
    if len(cut) != 1 or op.stops[cut[0]] <= op.starts[cut[0]]:
        return leaf
    a = cut[0]
    usual = _usual(len(shape), layout)
    stop = End(op.stops[a]) if op.stops[a] == shape[a] else op.stops[a]
    fields = {"axis": None if a == usual else a, "start": op.starts[a], "stop": stop, "step": op.steps[a]}
    return Leaf("slice", leaf.inputs, leaf.outputs, fields, leaf.scope)


def _reshape(node: Node, leaf: Leaf, layout: str) -> Leaf:
    x, shape = node.inputs[0].shape, node.output.shape
    if len(shape) == 2 and len(x) > 2 and shape[0] == x[0] and x[0] > 0:
        return Leaf("flatten", leaf.inputs, leaf.outputs, {"start": 1}, leaf.scope)
    return Leaf("reshape", leaf.inputs, leaf.outputs, {"shape": list(shape)}, leaf.scope)


def _resize(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    if op.scale is not None:
        _, a, b, c = node.inputs[0].shape
        sizes = (a, b) if op.layout == "NHWC" else (b, c)
        if tuple(int(n * s) for n, s in zip(sizes, op.scale, strict=True)) != op.size:
            return leaf
    usual = "asymmetric" if op.mode == "nearest" else "half_pixel"
    fields = {"scale": None if op.scale is None else _pair(op.scale), "size": _pair(op.size), "mode": op.mode,
              "coordinates": None if op.coordinates == usual else op.coordinates, "antialias": op.antialias,
              "layout": _layout(op.layout, layout)}  # fmt: skip
    if op.scale is not None:
        fields["size"] = None
    return Leaf("resize", leaf.inputs, leaf.outputs, fields, leaf.scope)


def _snake(node: Node, leaf: Leaf, layout: str) -> Leaf:
    from instep.graph.text.table import snake

    return Leaf(snake(leaf.kind), leaf.inputs, leaf.outputs, leaf.fields, leaf.scope)


_SIMPLE: dict[type, Any] = {
    ops.MaxPool2d: _pool, ops.AvgPool2d: _pool, ops.Add: _add, ops.Mul: _add, ops.Clip: _clip,
    ops.DepthToSpace: _shuffle, ops.SpaceToDepth: _shuffle, ops.Concat: _concat, ops.Slice: _slice,
    ops.Reshape: _reshape, ops.Resize2d: _resize,
}  # fmt: skip
_SIMPLE |= {
    kind: _snake
    for kind in (
        ops.Relu, ops.Sigmoid, ops.Tanh, ops.Silu, ops.HardSwish, ops.HardSigmoid, ops.Mish, ops.Selu, ops.Gelu,
        ops.LeakyRelu, ops.Elu, ops.Sub, ops.Div, ops.Permute, ops.Softmax, ops.ReduceMean, ops.ReduceSum,
        ops.ReduceMax, ops.MatMul, ops.Exp, ops.Sqrt, ops.Rsqrt, ops.Maximum, ops.Minimum, ops.Expand, ops.Gather,
        ops.Roll, ops.Flip, ops.Abs, ops.Neg, ops.Square, ops.Where, ops.Cast, ops.Softplus, ops.Celu, ops.Erf,
        ops.RmsNorm, ops.ReduceMin, ops.Pow, ops.Sin, ops.Cos, ops.Log, ops.Dropout,
    )
}  # fmt: skip
