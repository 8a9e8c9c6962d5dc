"""Which of its two orders each value takes: a binary labelling whose cost is the bytes moved, solved by minimum cut."""

from __future__ import annotations

from collections.abc import Sequence

from instep.graph import Node, Value, ops
from instep.rewrite.layout.mincut import INFINITE, Labelling
from instep.rewrite.layout.orders import Orders
from instep.rewrite.layout.rules import Perm, axis_penalty, last_two_swapped, tensor_inputs
from instep.rewrite.view_algebra import moves_data

__all__ = ["Chosen"]

#: What a transpose costs beside its bytes: dispatch, and the partition of the network that it interrupts.
MOVE_COST = 4096


class Chosen:
    """The cheapest labelling of a graph's values, and of the nodes that can run in another order than their outputs."""

    def __init__(self, orders: Orders) -> None:
        self.orders, self.graph = orders, orders.graph
        self.variable: dict[Value | int, int] = {}
        self.cut = Labelling()
        self._build()
        self._label = self.cut.solve()

    def label(self, key: Value | Node) -> int:
        """1 where the value is stored (the node runs) in its alternative order, 0 where in the source's."""
        at = self.variable.get(key if isinstance(key, Value) else id(key))
        return 0 if at is None else self._label[at]

    def _var(self, key: Value | int) -> int:
        if key not in self.variable:
            self.variable[key] = self.cut.variable()
        return self.variable[key]

    def _cost(self, value: Value, stored: Perm, wanted: Perm) -> int:
        shape = tuple(self.orders.logical[value][p] for p in stored)
        between = tuple(stored.index(p) for p in wanted)
        return value.nbytes + MOVE_COST if moves_data(shape, between) else 0

    def _build(self) -> None:
        for value in self.graph.inputs:
            if value in self.orders.alternative:
                self.cut.force(self._var(value), self.orders.outside(value))
        for value in self.graph.outputs:
            if value in self.orders.alternative:
                want, cost = self.orders.outside(value), value.nbytes + MOVE_COST
                self.cut.unary(self._var(value), cost if want else 0, 0 if want else cost)
        readers: dict[Value, list[int | None]] = {}
        for node in self.graph.nodes:
            self._add_node(node, readers)
        for value, modes in readers.items():
            self._add_readers(value, modes)

    def _add_node(self, node: Node, readers: dict[Value, list[int | None]]) -> None:
        op = node.op
        if op.spatial and op.layout != self.orders.layout:  # type: ignore[attr-defined]
            self.cut.force(self._var(node.output), 1)
            if node.inputs[0] in self.orders.alternative:
                readers.setdefault(node.inputs[0], []).append(None)
            for value in node.inputs[1:]:
                self._pin(value)
            return
        if isinstance(op, ops.Permute | ops.Reshape):
            self._add_view(node)
            return
        if isinstance(op, ops.MatMul):
            for i, value in enumerate((*node.inputs, node.output)):
                if value not in self.orders.alternative:
                    continue
                if last_two_swapped(self.orders.alternative[value]):
                    # absorbed by the product's own flags, though the first operand is best read as it lies
                    self.cut.unary(self._var(value), 0, value.nbytes // 4 if i == 0 else 1)
                else:
                    self._pin(value)
            return
        perm = self.orders.mode_perm(node)
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
            if self.orders.alternative.get(value) == perm:
                readers.setdefault(value, []).append(mode)
                continue
            stored = [self.orders.perm_of(value, s) for s in range(2 if value in self.orders.alternative else 1)]
            table = [[self._cost(value, a, r) for r in (identity, perm)] for a in stored]
            if len(table) == 1:
                self.cut.unary(mode, *table[0])
            else:
                self.cut.pairwise(self._var(value), mode, ((table[0][0], table[0][1]), (table[1][0], table[1][1])))

    def _mode_var(self, node: Node, perm: Perm) -> int:
        """The variable that says in which order a node runs: its output's, where the two go together."""
        if self.orders.alternative.get(node.output) == perm:
            for value in node.outputs[1:]:
                if value in self.orders.alternative:
                    self.cut.implies(self._var(value), self._var(node.output), INFINITE)
                    self.cut.implies(self._var(node.output), self._var(value), INFINITE)
            return self._var(node.output)
        mode = self._var(id(node))
        for value in node.outputs:
            if value not in self.orders.alternative:
                continue
            keep = self.orders.alternative[value]
            made = [self.orders.made(node, m, perm) for m in (0, 1)]
            table = [[self._cost(value, m, r) for r in (tuple(range(len(keep))), keep)] for m in made]
            self.cut.pairwise(mode, self._var(value), ((table[0][0], table[0][1]), (table[1][0], table[1][1])))
        return mode

    def _pin(self, value: Value) -> None:
        """A reader or maker that knows only the source's order: pay where the value is stored otherwise."""
        if value in self.orders.alternative:
            cost = self._cost(value, self.orders.alternative[value], self.orders.perm_of(value, 0))
            self.cut.unary(self._var(value), 0, cost)

    def _add_view(self, node: Node) -> None:
        x, y = node.inputs[0], node.output
        rows = []
        for a in range(2 if x in self.orders.alternative else 1):
            row = []
            for b in range(2 if y in self.orders.alternative else 1):
                view = self.orders.view(node, self.orders.perm_of(x, a), self.orders.perm_of(y, b))
                row.append(y.nbytes + MOVE_COST if view is None or view.moves else 0)
            rows.append(row)
        if x in self.orders.alternative and y in self.orders.alternative:
            self.cut.pairwise(self._var(x), self._var(y), ((rows[0][0], rows[0][1]), (rows[1][0], rows[1][1])))
        elif x in self.orders.alternative:
            self.cut.unary(self._var(x), rows[0][0], rows[1][0])
        elif y in self.orders.alternative:
            self.cut.unary(self._var(y), rows[0][0], rows[0][1])

    def _add_readers(self, value: Value, modes: Sequence[int | None]) -> None:
        """Readers of one value share its conversions: each direction is paid once, however many need it.

        A mode of None is a reader that always wants the alternative order.
        """
        stored = self._var(value)
        cost = self._cost(value, self.orders.perm_of(value, 0), self.orders.alternative[value])
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
