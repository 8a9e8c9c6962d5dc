"""Every value's alternative order: the channels, followed from the spatial operators through all that does not care."""

from __future__ import annotations

from collections import deque

from instep.graph import Node, Value, ops
from instep.rewrite.edit import Editor
from instep.rewrite.layout.rules import (
    Perm,
    channels_first,
    channels_last,
    compose_reshape,
    inverse,
    is_uniform,
    reduced_perm,
    tensor_inputs,
)
from instep.rewrite.view_algebra import View

__all__ = ["Orders"]


class Orders:
    """What is known of a graph before anything is chosen: the alternative order of each value that has one.

    ``logical`` holds every value's shape in the source's order, ``order`` is the one in which an array that was read in
    the other layout is read in this one.
    """

    def __init__(self, edit: Editor, outside: bool, layout: str) -> None:
        self.edit, self.graph, self.asked, self.layout = edit, edit.graph, outside, layout
        self.order = channels_last if layout == "NHWC" else channels_first
        self.alternative: dict[Value, Perm] = {}
        self.logical: dict[Value, tuple[int, ...]] = {v: v.shape for v in self.graph.values()}
        self._propagate()

    def _propagate(self) -> None:
        queue: deque[Value] = deque()
        #: What a factor says that is repeated along some axes: nothing of those, so all others are asked first.
        repeated: deque[tuple[Node, Value]] = deque()

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
            while queue or repeated:
                if not queue:
                    node, value = repeated.popleft()
                    for other, perm in self._spread(node, value):
                        assign(other, perm)
                    continue
                value = queue.popleft()
                nodes = list(self.edit.users.get(value, []))
                if value in self.edit.producer:
                    nodes.append(self.edit.producer[value])
                for node in nodes:
                    if node.op.elementwise and value.size < node.output.size:
                        repeated.append((node, value))
                        continue
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
        if self.asked:
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

    def source(self, value: Value) -> Perm:
        """The order of the source."""
        return tuple(range(len(self.logical[value])))

    def perm_of(self, value: Value, label: int) -> Perm:
        """The order of a value that is stored as ``label`` says."""
        return self.alternative[value] if label else self.source(value)

    def mode_perm(self, node: Node) -> Perm | None:
        """The alternative order in which a uniform node or reduction can run, or None."""
        if isinstance(node.op, ops.REDUCTIONS) and not node.op.keepdims:  # type: ignore[attr-defined]
            return self.alternative.get(node.inputs[0])
        perm = self.alternative.get(node.output)
        if perm is None and node.outputs[0].rank:
            candidates = [self.alternative[v] for v in tensor_inputs(node) if v in self.alternative]
            perm = candidates[0] if candidates and len(candidates[0]) == node.output.rank else None
        return perm if perm is not None and is_uniform(node, perm) else None

    def outside(self, value: Value) -> int:
        """The label that the network's users see: the layout only for 4-D (5-D) values, and only when asked."""
        return int(self.asked and value.rank >= 4 and self.alternative[value] == self.order(value.rank))

    @staticmethod
    def made(node: Node, mode: int, perm: Perm) -> Perm:
        """The order in which ``node`` makes its output when it runs in ``mode``."""
        used = perm if mode else tuple(range(len(perm)))
        if isinstance(node.op, ops.REDUCTIONS) and not node.op.keepdims:  # type: ignore[attr-defined]
            return reduced_perm(used, node.op.axes)  # type: ignore[attr-defined]
        return used

    def view(self, node: Node, stored: Perm, wanted: Perm) -> View | None:
        """A Permute's or Reshape's way from its input as ``stored`` to its output as ``wanted``; None: not one view."""
        x = node.inputs[0]
        view = View([self.logical[x][p] for p in stored])
        steps = (ops.Permute(inverse(stored)), node.op, ops.Permute(wanted))
        return view if all(view.then(op) for op in steps) else None
