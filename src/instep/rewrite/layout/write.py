"""Writes a graph down in the orders that were chosen, with a transpose wherever one is read in another."""

from __future__ import annotations

from instep.graph import Node, Value, ops
from instep.graph.operator import Operator
from instep.rewrite.layout.cut import Chosen
from instep.rewrite.layout.orders import Orders
from instep.rewrite.layout.rules import Perm, last_two_swapped, moved, tensor_inputs

__all__ = ["Writer"]


class Writer:
    """Turns the graph of ``orders`` into one whose values lie as ``chosen`` says."""

    def __init__(self, orders: Orders, chosen: Chosen) -> None:
        self.orders, self.chosen = orders, chosen
        self.edit, self.graph = orders.edit, orders.graph
        self.converted: dict[tuple[Value, Perm], Value] = {}

    def write(self) -> None:
        """Replace the graph's nodes."""
        order = list(self.graph.nodes)
        if not order:
            return
        self.graph.nodes = []
        for value in self.graph.inputs:
            self._store(value, self._stored(value))
        outputs = [(v, self.orders.outside(v) if v in self.orders.alternative else 0) for v in self.graph.outputs]
        for node in order:
            self._write(node)
        last = order[-1]
        maker = {v: n for n in order for v in n.outputs}
        self.graph.outputs = [self._fetch(v, self.orders.perm_of(v, label), maker.get(v, last)) for v, label in outputs]
        self._settle_constants()

    def _settle_constants(self) -> None:
        """A constant that was turned for all its readers keeps its name; one that they read in several orders stays one
        array, which each reader turns: a step of training would tell copies apart."""
        read = {v for n in self.graph.nodes for v in n.inputs}.union(self.graph.outputs)
        versions: dict[Value, list[tuple[Value, Perm]]] = {}
        for (old, perm), made in self.converted.items():
            if old in self.graph.weights and made in read:
                versions.setdefault(old, []).append((made, perm))
        for old, turned in versions.items():
            if old in read or len(turned) > 1:
                for made, perm in turned:
                    self._turn_where_read(old, perm, made)
            else:
                del self.graph.weights[old]
                turned[0][0].name = old.name

    def _turn_where_read(self, value: Value, perm: Perm, made: Value) -> None:
        """Every reader of ``made``, which is the constant ``value`` in the order ``perm``, turns it for itself."""
        nodes, self.graph.nodes = self.graph.nodes, []
        for node in nodes:
            if made in node.inputs:
                view = value
                if len(perm) > value.rank:
                    view = self._append(ops.Reshape((1,) * (len(perm) - value.rank) + value.shape), view, node)
                if perm != tuple(range(len(perm))):
                    view = self._append(ops.Permute(perm), view, node)
                node.inputs = [view if v is made else v for v in node.inputs]
            self.graph.nodes.append(node)
        if made not in self.graph.outputs:
            del self.graph.weights[made]

    def _stored(self, value: Value) -> Perm:
        if value not in self.orders.alternative:
            return self.orders.source(value)
        return self.orders.perm_of(value, self.chosen.label(value))

    def _fetch(self, value: Value, wanted: Perm, like: Node) -> Value:
        """``value`` in the order ``wanted`` (constants are transposed now, computed values by a Permute)."""
        if value in self.graph.weights:
            return self._constant(value, wanted)
        stored = self._stored(value)
        if stored == wanted:
            return value
        key = (value, wanted)
        if key not in self.converted:
            between = tuple(stored.index(p) for p in wanted)
            self.converted[key] = self._append(ops.Permute(between), value, like)
        return self.converted[key]

    def _append(self, op: Operator, value: Value, like: Node) -> Value:
        node = self.graph.add(op, [value], scope=like.scope, origin=like.origin, names=["?"])
        node.output.name = self.edit.fresh(f"{value.name}.{op.name.lower()}")
        if value.source is not None and isinstance(op, ops.Permute):
            node.output.source = value.source.permuted(op.perm, value.shape)
        return node.output

    def _constant(self, value: Value, wanted: Perm) -> Value:
        shape = (1,) * (len(wanted) - value.rank) + value.shape
        if value.size == 1 or wanted == tuple(range(len(wanted))):
            return value
        key = (value, wanted)
        if key not in self.converted:
            array = self.graph.weights[value].reshape(shape).transpose(wanted)
            made = self.edit.constant(array, value.name)
            self.converted[key] = made
        return self.converted[key]

    def _store(self, value: Value, perm: Perm) -> None:
        """Declare that ``value`` now lies in the order ``perm``."""
        if perm == tuple(range(value.rank)):
            return
        shape = value.shape
        value.shape = tuple(shape[p] for p in perm)
        if value.source is not None:
            value.source = value.source.permuted(perm, shape)

    def _write(self, node: Node) -> None:
        op = node.op
        if op.spatial and op.layout != self.orders.layout:  # type: ignore[attr-defined]
            first = [self._fetch(node.inputs[0], self.orders.order(len(self.orders.logical[node.inputs[0]])), node)]
            rest = [self._fetch(v, self._weight_perm(node, v), node) for v in node.inputs[1:]]
            self._set(node, op.with_(layout=self.orders.layout), first + rest, self.orders.order(node.output.rank))
        elif isinstance(op, ops.Permute | ops.Reshape):
            self._write_view(node)
        elif isinstance(op, ops.MatMul):
            self._write_matmul(node)
        else:
            self._write_uniform(node)

    def _weight_perm(self, node: Node, value: Value) -> Perm:
        rank = len(self.orders.logical[value])
        kernel = isinstance(node.op, ops.Conv2d | ops.ConvTranspose2d | ops.Conv3d) and rank >= 4
        return self.orders.order(rank) if kernel else tuple(range(rank))

    def _set(self, node: Node, op: Operator, inputs: list[Value], perm: Perm) -> None:
        """The node computes ``op(inputs)``, which makes its output in the order ``perm``; store it as labelled."""
        node.op, node.inputs = op, inputs
        self.graph.nodes.append(node)
        for value in node.outputs:
            wanted = self._stored(value)
            own = perm if len(perm) == value.rank else tuple(range(value.rank))
            self._store(value, own)
            if own != wanted:
                # rare: made in one order, read in another; readers see the converted value
                between = tuple(own.index(p) for p in wanted)
                self._swap_in(node, value, between)

    def _swap_in(self, node: Node, value: Value, between: Perm) -> None:
        """Insert a Permute behind ``node`` such that ``value`` is the permuted one."""
        raw = Value(self.edit.fresh(f"{value.name}.raw"), value.shape, value.dtype, value.source)
        node.outputs = [raw if v is value else v for v in node.outputs]
        self.graph.nodes.append(Node(ops.Permute(between), [raw], [value], node.scope, node.origin))
        self._store(value, between)

    def _write_view(self, node: Node) -> None:
        x, y = node.inputs[0], node.output
        view = self.orders.view(node, self._stored(x), self._stored(y)) if x not in self.graph.weights else None
        if view is None:
            self._set(node, node.op, [self._fetch(x, self.orders.source(x), node)], tuple(range(y.rank)))
            return
        wanted = self._stored(y)
        made = tuple(self.orders.logical[y][p] for p in wanted)
        steps = view.to_ops(max_rank=max(4, x.rank, y.rank)) or [ops.Reshape(made)]
        value = x
        for op in steps[:-1]:
            value = self._append(op, value, node)
        node.op, node.inputs = steps[-1], [value]
        self.graph.nodes.append(node)
        self._store(y, wanted)

    def _write_matmul(self, node: Node) -> None:
        op = node.op
        assert isinstance(op, ops.MatMul)
        flags, inputs = [op.transpose_a, op.transpose_b], []
        for i, value in enumerate(node.inputs):
            stored = self._stored(value)
            if value not in self.graph.weights and last_two_swapped(stored):
                flags[i] = not flags[i]
                inputs.append(value)
            else:
                inputs.append(self._fetch(value, self.orders.source(value), node))
        wanted = self._stored(node.output)
        if last_two_swapped(wanted):  # (A B)ᵀ = Bᵀ Aᵀ
            inputs, flags = inputs[::-1], [not flags[1], not flags[0]]
            self._set(node, ops.MatMul(*flags), inputs, wanted)
        else:
            self._set(node, ops.MatMul(*flags), inputs, tuple(range(node.output.rank)))

    def _write_uniform(self, node: Node) -> None:
        perm = self.orders.mode_perm(node)
        own = self.orders.alternative.get(node.output) == perm
        if perm is None or not self.chosen.label(node.output if own else node):
            inputs = [self._fetch(v, self.orders.source(v), node) for v in node.inputs]
            self._set(node, node.op, inputs, tuple(range(node.output.rank)))
            return
        wide = set(tensor_inputs(node))
        inputs = [
            self._fetch(v, perm, node) if v in wide and v.size > 1 else self._fetch(v, tuple(range(v.rank)), node)
            for v in node.inputs
        ]
        op, inputs = moved(node, perm, inputs, self._constant)
        self._set(node, op, inputs, self.orders.made(node, 1, perm))
