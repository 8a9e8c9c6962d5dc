"""Moves a graph to one layout: every spatial operator reads it (NHWC, NCHW), and as few bytes as possible are moved.

Every computed value may be stored as it is or in one alternative axis order, found by following the channels from the
spatial operators through everything that does not care (elementwise operators, reductions, joins, views, …).
Which of the two each value takes is a binary labelling whose cost is the bytes moved: solved exactly by minimum cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from instep.graph import Node, Value, ops
from instep.graph.operator import Operator
from instep.rewrite.driver import Rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.layout_rules import (
    axis_penalty,
    channels_first,
    channels_last,
    compose_reshape,
    inverse,
    is_uniform,
    last_two_swapped,
    moved,
    reduced_perm,
    tensor_inputs,
)
from instep.rewrite.mincut import INFINITE, Labelling
from instep.rewrite.view_algebra import View, moves_data

__all__ = ["assign_layout"]

Perm = tuple[int, ...]
#: What a transpose costs beside its bytes: dispatch, and the partition of the network that it interrupts.
MOVE_COST = 4096


def assign_layout(io: str = "nhwc", layout: str = "NHWC") -> Rewrite:
    """The rewrite that has every spatial operator read ``layout``; ``io``: how 4-D inputs and outputs lie afterwards.

    Where ``io`` is ``layout`` in small letters, those whose channels lie elsewhere are turned to it; else they keep the
    source's order.
    """

    def run(edit: Editor) -> bool:
        return _Layout(edit, io == layout.lower(), layout).run()

    return Rewrite("assign-layout", "a transposed value holds the same numbers; every axis field moves with it", run)


class _Layout:
    def __init__(self, edit: Editor, outside: bool, layout: str) -> None:
        self.edit, self.graph, self.outside, self.layout = edit, edit.graph, outside, layout
        #: the order in which an array that was read in the other layout is read in this one
        self.order = channels_last if layout == "NHWC" else channels_first
        self.alternative: dict[Value, Perm] = {}
        self.logical: dict[Value, tuple[int, ...]] = {}
        self.variable: dict[Value | int, int] = {}
        self.cut = Labelling()
        self.label: list[int] = []
        self.converted: dict[tuple[Value, Perm], Value] = {}
        self.renamed: list[tuple[Value, Value]] = []

    def run(self) -> bool:
        leveled = self._level_ranks()
        self.logical = {v: v.shape for v in self.graph.values()}
        self._propagate()
        if not self.alternative:
            return leveled
        self._build_cut()
        self.label = self.cut.solve()
        self._materialise()
        return True

    # -- 1. elementwise operators get inputs of one rank ---------------------------------------------------------
    def _level_ranks(self) -> bool:
        changed = False
        for node in self.edit.nodes():
            if not node.op.elementwise:
                continue
            rank = node.output.rank
            inputs = [
                self.edit.add(ops.Reshape((1,) * (rank - v.rank) + v.shape), [v], node)
                if v.rank < rank and v not in self.graph.weights and v.size > 1
                else v
                for v in node.inputs
            ]
            if inputs != node.inputs:
                self.edit.update(node, inputs=inputs)
                changed = True
        if changed:
            self.graph.sort()
        return changed

    # -- 2. the alternative order of every value -----------------------------------------------------------------
    def _propagate(self) -> None:
        queue: deque[Value] = deque()

        def assign(value: Value, perm: Perm | None) -> None:
            if perm is None or value in self.graph.weights or value in self.alternative:
                return
            if len(perm) != value.rank or perm == tuple(range(len(perm))):
                return
            self.alternative[value] = perm
            queue.append(value)

        for node in self.graph.nodes:
            if node.op.spatial and node.op.layout != self.layout:  # type: ignore[attr-defined]
                for value in (node.inputs[0], node.output):
                    assign(value, self.order(value.rank))

        def spread() -> None:
            while queue:
                value = queue.popleft()
                nodes = list(self.edit.users.get(value, []))
                if value in self.edit.producer:
                    nodes.append(self.edit.producer[value])
                for node in nodes:
                    for other, perm in self._spread(node, value):
                        assign(other, perm)

        spread()
        # the source itself goes to this layout or back: what lies before (behind) may as well have been there
        for node in self.graph.nodes:
            if isinstance(node.op, ops.Permute) and node.output.rank >= 4:
                order = self.order(node.output.rank)
                if node.op.perm == order:
                    assign(node.inputs[0], order)
                elif inverse(node.op.perm) == order:
                    assign(node.output, order)
        spread()
        if self.outside:
            channels = 1 if self.layout == "NHWC" else 3
            for value in self.graph.inputs:
                if value.rank == 4 and value.shape[channels] in (1, 3, 4):
                    assign(value, self.order(4))
        spread()

    def _spread(self, node: Node, value: Value) -> list[tuple[Value, Perm | None]]:
        """The orders that ``node`` can take over for its other values when ``value`` has its alternative order."""
        op, perm = node.op, self.alternative[value]
        forward = value is not node.output
        if isinstance(op, ops.Permute):
            x, y = node.inputs[0], node.output
            back = inverse(op.perm)
            return [(y, tuple(back[p] for p in perm))] if forward else [(x, tuple(op.perm[p] for p in perm))]
        if isinstance(op, ops.Reshape):
            x, y = node.inputs[0], node.output
            if forward:
                return [(y, compose_reshape(x.shape, y.shape, perm))]
            return [(x, compose_reshape(y.shape, x.shape, perm))]
        if isinstance(op, ops.REDUCTIONS) and not op.keepdims:  # type: ignore[attr-defined]
            return [(node.output, reduced_perm(perm, op.axes))] if forward else []  # type: ignore[attr-defined]
        if not is_uniform(node, perm):
            return []
        rank = node.output.rank
        if len(perm) != rank:
            return []
        return [(v, perm) for v in (*tensor_inputs(node), *node.outputs) if v is not value and v.rank == rank]

    # -- 3. the cut ----------------------------------------------------------------------------------------------
    def perm_of(self, value: Value, label: int) -> Perm:
        return self.alternative[value] if label else tuple(range(len(self.logical[value])))

    def _var(self, key: Value | int) -> int:
        if key not in self.variable:
            self.variable[key] = self.cut.variable()
        return self.variable[key]

    def _cost(self, value: Value, stored: Perm, wanted: Perm) -> int:
        shape = tuple(self.logical[value][p] for p in stored)
        between = tuple(stored.index(p) for p in wanted)
        return value.nbytes + MOVE_COST if moves_data(shape, between) else 0

    def mode_perm(self, node: Node) -> Perm | None:
        """The alternative order in which a uniform node or reduction can run, or None."""
        if isinstance(node.op, ops.REDUCTIONS) and not node.op.keepdims:  # type: ignore[attr-defined]
            return self.alternative.get(node.inputs[0])
        perm = self.alternative.get(node.output)
        if perm is None and node.outputs[0].rank:
            candidates = [self.alternative[v] for v in tensor_inputs(node) if v in self.alternative]
            perm = candidates[0] if candidates and len(candidates[0]) == node.output.rank else None
        return perm if perm is not None and is_uniform(node, perm) else None

    def _build_cut(self) -> None:
        for value in self.graph.inputs:
            if value in self.alternative:
                self.cut.force(self._var(value), self._outside(value))
        for value in self.graph.outputs:
            if value in self.alternative:
                want, cost = self._outside(value), value.nbytes + MOVE_COST
                self.cut.unary(self._var(value), cost if want else 0, 0 if want else cost)
        readers: dict[Value, list[int | None]] = {}
        for node in self.graph.nodes:
            self._add_node(node, readers)
        for value, modes in readers.items():
            self._add_readers(value, modes)

    def _outside(self, value: Value) -> int:
        """The label that the network's users see: the layout only for 4-D (5-D) values, and only when asked."""
        return int(self.outside and value.rank >= 4 and self.alternative[value] == self.order(value.rank))

    def _add_node(self, node: Node, readers: dict[Value, list[int | None]]) -> None:
        op = node.op
        if op.spatial and op.layout != self.layout:  # type: ignore[attr-defined]
            self.cut.force(self._var(node.output), 1)
            if node.inputs[0] in self.alternative:
                readers.setdefault(node.inputs[0], []).append(None)
            for value in node.inputs[1:]:
                self._pin(value)
            return
        if isinstance(op, ops.Permute | ops.Reshape):
            self._add_view(node)
            return
        if isinstance(op, ops.MatMul):
            for i, value in enumerate((*node.inputs, node.output)):
                if value not in self.alternative:
                    continue
                if last_two_swapped(self.alternative[value]):
                    # absorbed by the product's own flags, though the first operand is best read as it lies
                    self.cut.unary(self._var(value), 0, value.nbytes // 4 if i == 0 else 1)
                else:
                    self._pin(value)
            return
        perm = self.mode_perm(node)
        if perm is None:
            for value in (*node.inputs, *node.outputs):
                self._pin(value)
            return
        mode = self._mode_var(node, perm)
        identity = tuple(range(len(perm)))
        self.cut.unary(mode, 1 + axis_penalty(node, identity), axis_penalty(node, perm))
        for value in tensor_inputs(node):
            if value in self.graph.weights or value.size == 1:
                continue
            if self.alternative.get(value) == perm:
                readers.setdefault(value, []).append(mode)
                continue
            stored = [self.perm_of(value, s) for s in range(2 if value in self.alternative else 1)]
            table = [[self._cost(value, a, r) for r in (identity, perm)] for a in stored]
            if len(table) == 1:
                self.cut.unary(mode, *table[0])
            else:
                self.cut.pairwise(self._var(value), mode, ((table[0][0], table[0][1]), (table[1][0], table[1][1])))

    def _mode_var(self, node: Node, perm: Perm) -> int:
        """The variable that says in which order a node runs: its output's, where the two go together."""
        if self.alternative.get(node.output) == perm:
            for value in node.outputs[1:]:
                if value in self.alternative:
                    self.cut.implies(self._var(value), self._var(node.output), INFINITE)
                    self.cut.implies(self._var(node.output), self._var(value), INFINITE)
            return self._var(node.output)
        mode = self._var(id(node))
        for value in node.outputs:
            if value not in self.alternative:
                continue
            keep = self.alternative[value]
            made = [self._made(node, m, perm) for m in (0, 1)]
            table = [[self._cost(value, m, r) for r in (tuple(range(len(keep))), keep)] for m in made]
            self.cut.pairwise(mode, self._var(value), ((table[0][0], table[0][1]), (table[1][0], table[1][1])))
        return mode

    @staticmethod
    def _made(node: Node, mode: int, perm: Perm) -> Perm:
        """The order in which ``node`` makes its output when it runs in ``mode``."""
        used = perm if mode else tuple(range(len(perm)))
        if isinstance(node.op, ops.REDUCTIONS) and not node.op.keepdims:  # type: ignore[attr-defined]
            return reduced_perm(used, node.op.axes)  # type: ignore[attr-defined]
        return used

    def _pin(self, value: Value) -> None:
        """A reader or maker that knows only the source's order: pay where the value is stored otherwise."""
        if value in self.alternative:
            cost = self._cost(value, self.alternative[value], self.perm_of(value, 0))
            self.cut.unary(self._var(value), 0, cost)

    def _add_view(self, node: Node) -> None:
        x, y = node.inputs[0], node.output
        rows = []
        for a in range(2 if x in self.alternative else 1):
            row = []
            for b in range(2 if y in self.alternative else 1):
                view = self._view(node, self.perm_of(x, a), self.perm_of(y, b))
                row.append(y.nbytes + MOVE_COST if view is None or view.moves else 0)
            rows.append(row)
        if x in self.alternative and y in self.alternative:
            self.cut.pairwise(self._var(x), self._var(y), ((rows[0][0], rows[0][1]), (rows[1][0], rows[1][1])))
        elif x in self.alternative:
            self.cut.unary(self._var(x), rows[0][0], rows[1][0])
        elif y in self.alternative:
            self.cut.unary(self._var(y), rows[0][0], rows[0][1])

    def _view(self, node: Node, stored: Perm, wanted: Perm) -> View | None:
        x = node.inputs[0]
        view = View([self.logical[x][p] for p in stored])
        steps = (ops.Permute(inverse(stored)), node.op, ops.Permute(wanted))
        return view if all(view.then(op) for op in steps) else None

    def _add_readers(self, value: Value, modes: Sequence[int | None]) -> None:
        """Readers of one value share its conversions: each direction is paid once, however many need it.

        A mode of None is a reader that always wants the alternative order.
        """
        stored = self._var(value)
        cost = self._cost(value, self.perm_of(value, 0), self.alternative[value])
        if not cost:
            return
        own = [m for m in modes if m is not None and m != stored]
        if None in modes:
            self.cut.unary(stored, cost, 0)
        elif own:
            any_one = self.cut.variable()
            for mode in own:
                self.cut.implies(mode, any_one, INFINITE)
            self.cut.implies(any_one, stored, cost)
        if own:
            all_one = self.cut.variable()
            for mode in own:
                self.cut.implies(all_one, mode, INFINITE)
            self.cut.implies(stored, all_one, cost)

    # -- 4. write the graph down ---------------------------------------------------------------------------------
    def _stored(self, value: Value) -> Perm:
        if value not in self.alternative:
            return tuple(range(len(self.logical[value])))
        return self.perm_of(value, self.label[self.variable[value]] if value in self.variable else 0)

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
            self.renamed.append((made, value))
        return self.converted[key]

    def _materialise(self) -> None:
        order = list(self.graph.nodes)
        if not order:
            return
        self.graph.nodes = []
        for value in self.graph.inputs:
            self._store(value, self._stored(value))
        outputs = [(v, self._outside(v) if v in self.alternative else 0) for v in self.graph.outputs]
        for node in order:
            self._write(node)
        last = order[-1]
        maker = {v: n for n in order for v in n.outputs}
        self.graph.outputs = [self._fetch(v, self.perm_of(v, label), maker.get(v, last)) for v, label in outputs]
        used = {v for n in self.graph.nodes for v in n.inputs}
        names = {v.name for v in self.graph.values() if v in used or v not in self.graph.weights}
        for made, old in self.renamed:
            if old not in used and old.name not in names:
                made.name = old.name
                del self.graph.weights[old]

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
        if op.spatial and op.layout != self.layout:  # type: ignore[attr-defined]
            first = [self._fetch(node.inputs[0], self.order(len(self.logical[node.inputs[0]])), node)]
            rest = [self._fetch(v, self._weight_perm(node, v), node) for v in node.inputs[1:]]
            self._set(node, op.with_(layout=self.layout), first + rest, self.order(node.output.rank))
        elif isinstance(op, ops.Permute | ops.Reshape):
            self._write_view(node)
        elif isinstance(op, ops.MatMul):
            self._write_matmul(node)
        else:
            self._write_uniform(node)

    def _weight_perm(self, node: Node, value: Value) -> Perm:
        rank = len(self.logical[value])
        kernel = isinstance(node.op, ops.Conv2d | ops.ConvTranspose2d | ops.Conv3d) and rank >= 4
        return self.order(rank) if kernel else tuple(range(rank))

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
        view = self._view(node, self._stored(x), self._stored(y)) if x not in self.graph.weights else None
        if view is None:
            self._set(node, node.op, [self._fetch(x, tuple(range(len(self.logical[x]))), node)], tuple(range(y.rank)))
            return
        wanted = self._stored(y)
        steps = view.to_ops(max_rank=max(4, x.rank, y.rank)) or [ops.Reshape(tuple(self.logical[y][p] for p in wanted))]
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
                inputs.append(self._fetch(value, tuple(range(len(self.logical[value]))), node))
        wanted = self._stored(node.output)
        if last_two_swapped(wanted):  # (A B)ᵀ = Bᵀ Aᵀ
            inputs, flags = inputs[::-1], [not flags[1], not flags[0]]
            self._set(node, ops.MatMul(*flags), inputs, wanted)
        else:
            self._set(node, ops.MatMul(*flags), inputs, tuple(range(node.output.rank)))

    def _write_uniform(self, node: Node) -> None:
        perm = self.mode_perm(node)
        own = self.alternative.get(node.output) == perm
        key: Value | int = node.output if own else id(node)
        mode = perm is not None and key in self.variable and self.label[self.variable[key]] == 1
        if perm is None or not mode:
            inputs = [self._fetch(v, tuple(range(len(self.logical[v]))), node) for v in node.inputs]
            self._set(node, node.op, inputs, tuple(range(node.output.rank)))
            return
        wide = set(tensor_inputs(node))
        inputs = [
            self._fetch(v, perm, node) if v in wide and v.size > 1 else self._fetch(v, tuple(range(v.rank)), node)
            for v in node.inputs
        ]
        op, inputs = moved(node, perm, inputs, self._constant)
        self._set(node, op, inputs, self._made(node, 1, perm))
