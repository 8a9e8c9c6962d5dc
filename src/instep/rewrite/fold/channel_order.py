"""Storing a value with its channels in another order: which values must follow, and which weights take it up.

``reorder`` grows a region from one value: everything that touches a reordered value either takes the order up in
its weights (a convolution, a constant, a gather) or hands it on (element-wise operators, pools, norms). It gives up,
changing nothing, where an order reaches an input or output of the network or an operator that depends on the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from instep.graph import Node, Value, ops
from instep.graph.ops.reduce import REDUCTIONS
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import LAYERS, canonical, channel_axis, set_constant, set_weight

__all__ = ["dcr_from_crd", "reorder"]

#: A region may hold this many values.
LARGEST = 96

_SPATIAL = (
    ops.MaxPool2d, ops.AvgPool2d, ops.Resize2d, ops.AdaptiveAvgPool2d, ops.AdaptiveMaxPool2d,
)  # fmt: skip


class _Stuck(Exception):
    """The order cannot be taken up here."""


def dcr_from_crd(channels: int, block: int) -> np.ndarray:
    """``perm`` such that x[perm] in DCR order (TFLite) holds what x holds in CRD order (PixelShuffle)."""
    depth = channels // block**2
    return np.arange(channels).reshape(depth, block, block).transpose(1, 2, 0).ravel()


def reorder(edit: Editor, value: Value, axis: int, perm: np.ndarray) -> bool:
    """Store ``value`` as ``value.take(perm, axis)`` everywhere. False, and nothing changed, where that is stuck."""
    region = _Region(edit)
    try:
        region.need(value, axis, perm)
        region.close()
    except _Stuck:
        return False
    region.apply()
    return True


class _Region:
    def __init__(self, edit: Editor) -> None:
        self.edit = edit
        self.orders: dict[Value, tuple[int, np.ndarray]] = {}
        self.actions: dict[object, Callable[[], None]] = {}
        self.layers: dict[int, Node] = {}
        self._open: list[Value] = []

    # -- growing ---------------------------------------------------------------------------------------------------
    def need(self, value: Value, axis: int, perm: np.ndarray) -> None:
        known = self.orders.get(value)
        if known is not None:
            if known[0] != axis or not np.array_equal(known[1], perm):
                raise _Stuck
            return
        if np.array_equal(perm, np.arange(len(perm))):
            return
        if value in self.edit.graph.weights or value not in self.edit.producer or self.edit.is_output(value):
            raise _Stuck
        if len(self.orders) >= LARGEST:
            raise _Stuck
        self.orders[value] = (axis, perm)
        self._open.append(value)

    def close(self) -> None:
        while self._open:
            value = self._open.pop()
            axis, perm = self.orders[value]
            self._visit(self.edit.producer[value], value, axis, perm, made=True)
            for node in dict.fromkeys(self.edit.users[value]):
                self._visit(node, value, axis, perm, made=False)
        for node in self.layers.values():
            self._plan_layer(node)

    def apply(self) -> None:
        for act in self.actions.values():
            act()
        for value in self.orders:
            value.source = None

    def _input(self, node: Node, index: int, axis: int, perm: np.ndarray) -> None:
        """Input ``index`` must come in the new order; a constant is reordered here."""
        x = node.inputs[index]
        array = self.edit.array(x)
        if array is None:
            self.need(x, axis, perm)
            return

        def act() -> None:
            set_constant(self.edit, node, index, self.edit.graph.weights[node.inputs[index]].take(perm, axis))

        self.actions.setdefault((id(node), index), act)

    def _visit(self, node: Node, value: Value, axis: int, perm: np.ndarray, *, made: bool) -> None:
        """Settle one node that makes (``made``) or reads a reordered value."""
        op: Any = node.op
        if isinstance(op, LAYERS):
            self._layer(node, value, axis, perm, made)
        elif op.elementwise:
            self._elementwise(node, value, axis, perm)
        elif isinstance(op, ops.BatchNorm | ops.GroupNorm | ops.LayerNorm | ops.RmsNorm):
            self._norm(node, axis, perm)
        elif isinstance(op, ops.Softmax | ops.LogSoftmax):
            self._along(node, axis, perm)
        elif isinstance(op, _SPATIAL):
            self._along(node, axis, perm, ok=axis == channel_axis(op, value.rank))
        elif isinstance(op, ops.Pad):
            self._along(node, axis, perm, ok=op.pads[axis] == (0, 0))
        elif isinstance(op, ops.Flip | ops.Roll):
            self._along(node, axis, perm, ok=axis not in op.axes)
        elif isinstance(op, ops.Permute):
            self.need(node.inputs[0], op.perm[axis] if made else axis, perm)
            self.need(node.output, axis if made else op.perm.index(axis), perm)
        elif isinstance(op, ops.Expand):
            self._expand(node, axis, perm, made)
        elif isinstance(op, ops.Reshape):
            self._reshape(node, axis, perm, made)
        elif isinstance(op, REDUCTIONS):
            self._reduce(node, axis, perm, made)
        elif isinstance(op, ops.Slice):
            self._slice(node, axis, perm, made)
        elif isinstance(op, ops.Concat):
            self._concat(node, value, axis, perm, made)
        elif isinstance(op, ops.Gather):
            self._gather(node, value, axis, perm, made)
        elif isinstance(op, ops.DepthToSpace | ops.SpaceToDepth):
            self._shuffle(node, axis, perm, made)
        else:
            raise _Stuck

    def _along(self, node: Node, axis: int, perm: np.ndarray, *, ok: bool = True) -> None:
        if not ok or len(node.outputs) != 1:
            raise _Stuck
        self.need(node.inputs[0], axis, perm)
        self.need(node.output, axis, perm)

    def _elementwise(self, node: Node, value: Value, axis: int, perm: np.ndarray) -> None:
        out = node.output
        from_end = value.rank - axis
        for i, x in enumerate(node.inputs):
            if from_end <= x.rank and x.shape[x.rank - from_end] > 1:
                self._input(node, i, x.rank - from_end, perm)
        self.need(out, out.rank - from_end, perm)

    def _norm(self, node: Node, axis: int, perm: np.ndarray) -> None:
        op: Any = node.op
        axes = op.axes if isinstance(op, ops.LayerNorm | ops.RmsNorm) else (op.axis,)
        if isinstance(op, ops.GroupNorm):
            if axis not in (0, op.axis):
                raise _Stuck
            size = node.output.shape[op.axis] // op.groups
            if axis == op.axis and np.any(perm.reshape(op.groups, size) // size != perm[::size, None] // size):
                raise _Stuck
        self._along(node, axis, perm)
        if axis in axes:
            for i in range(1, len(node.inputs)):
                self._input(node, i, axes.index(axis), perm)

    def _expand(self, node: Node, axis: int, perm: np.ndarray, made: bool) -> None:
        x, out = node.inputs[0], node.output
        shift = out.rank - x.rank
        outer = axis if made else axis + shift
        if outer - shift >= 0 and x.shape[outer - shift] > 1:
            self.need(x, outer - shift, perm)
        self.need(out, outer, perm)

    def _reshape(self, node: Node, axis: int, perm: np.ndarray, made: bool) -> None:
        x, out = node.inputs[0], node.output
        if not made:
            self.need(out, *_through_reshape(x.shape, out.shape, axis, perm))
            return
        if x in self.orders and self._agrees(_through_reshape(x.shape, out.shape, *self.orders[x]), (axis, perm)):
            return
        self.need(x, *_through_reshape(out.shape, x.shape, axis, perm))

    @staticmethod
    def _agrees(a: tuple[int, np.ndarray], b: tuple[int, np.ndarray]) -> bool:
        return a[0] == b[0] and np.array_equal(a[1], b[1])

    def _reduce(self, node: Node, axis: int, perm: np.ndarray, made: bool) -> None:
        op: Any = node.op
        kept = [i for i in range(node.inputs[0].rank) if op.keepdims or i not in op.axes]
        inner = kept[axis] if made else axis
        if inner in op.axes:
            return
        self.need(node.inputs[0], inner, perm)
        self.need(node.output, kept.index(inner), perm)

    def _slice(self, node: Node, axis: int, perm: np.ndarray, made: bool) -> None:
        op: Any = node.op
        start, stop, step = op.starts[axis], op.stops[axis], op.steps[axis]
        places = np.arange(start, stop, step)
        known = self.orders.get(node.inputs[0])
        if made and known is not None and known[0] == axis:
            if not np.array_equal(known[1][places], start + perm * step):
                raise _Stuck
            return
        if made:
            full = np.arange(node.inputs[0].shape[axis])
            full[places] = places[perm]
            self.need(node.inputs[0], axis, full)
            return
        taken = perm[places]
        if not np.array_equal(np.sort(taken), places):
            raise _Stuck
        self.need(node.output, axis, (taken - start) // step)

    def _concat(self, node: Node, value: Value, axis: int, perm: np.ndarray, made: bool) -> None:
        op: Any = node.op
        if axis != op.axis:
            for i in range(len(node.inputs)):
                self._input(node, i, axis, perm)
            self.need(node.output, axis, perm)
            return
        stops = np.cumsum([v.shape[axis] for v in node.inputs])
        starts = stops - [v.shape[axis] for v in node.inputs]
        if made:
            for i, (a, b) in enumerate(zip(starts, stops, strict=True)):
                part = perm[a:b] - a
                if part.min() < 0 or part.max() >= b - a:
                    raise _Stuck
                if np.any(part != np.arange(b - a)):
                    self._input(node, i, axis, part)
            return
        known = self.orders.get(node.output)
        whole = np.arange(stops[-1]) if known is None or known[0] != axis else known[1].copy()
        for v, a, b in zip(node.inputs, starts, stops, strict=True):
            if v is value:
                whole[a:b] = a + perm
        self.need(node.output, axis, whole)

    def _gather(self, node: Node, value: Value, axis: int, perm: np.ndarray, made: bool) -> None:
        op: Any = node.op
        indices = self.edit.array(node.inputs[1])
        if indices is None or indices.ndim != 1 or value is node.inputs[1]:
            raise _Stuck
        if axis != op.axis:
            self._along(node, axis, perm)
            return
        inverse = np.argsort(perm)

        def act() -> None:
            now = self.edit.graph.weights[node.inputs[1]]
            set_constant(self.edit, node, 1, now[perm] if made else inverse[now])

        self.actions.setdefault((id(node), "made" if made else "read"), act)

    def _shuffle(self, node: Node, axis: int, perm: np.ndarray, made: bool) -> None:
        op: Any = node.op
        if axis != channel_axis(op, 4):
            raise _Stuck
        deep = isinstance(op, ops.DepthToSpace) != made  # the reordered side is the one with the many channels
        area = op.block**2
        if deep and op.order == "CRD" and np.array_equal(perm, dcr_from_crd(len(perm), op.block)):

            def act() -> None:
                self.edit.update(node, op.with_(order="DCR"))

            self.actions[id(node)] = act
            return
        other = node.inputs[0] if made else node.output
        if not deep:
            wide = perm[:, None] * area + np.arange(area) if op.order == "CRD" else (
                np.arange(area)[:, None] * len(perm) + perm)  # fmt: skip
            self.need(other, axis, wide.ravel())
            return
        depth = len(perm) // area
        grid = perm.reshape(depth, area) if op.order == "CRD" else perm.reshape(area, depth).T
        inner = grid[:, 0] // area if op.order == "CRD" else grid[:, 0]
        if op.order == "CRD":
            fits = np.array_equal(grid, inner[:, None] * area + np.arange(area))
        else:
            fits = np.array_equal(grid, inner[:, None] + np.arange(area) * depth)
        if not fits:
            raise _Stuck
        self.need(other, axis, inner)

    # -- layers ----------------------------------------------------------------------------------------------------
    def _layer(self, node: Node, value: Value, axis: int, perm: np.ndarray, made: bool) -> None:
        if not made and value is not node.inputs[0]:
            raise _Stuck
        if axis != channel_axis(node.op, value.rank):
            if not isinstance(node.op, ops.Linear):
                raise _Stuck
            self._along(node, axis, perm)
            return
        if any(self.edit.array(v) is None for v in node.inputs[1:]):
            raise _Stuck
        self.layers[id(node)] = node
        groups = getattr(node.op, "groups", 1)
        if groups == 1:
            return
        blocks = _blocks(perm, groups)
        if np.array_equal(blocks, np.arange(groups)):
            return
        other = node.inputs[0] if made else node.output
        size = other.shape[axis] // groups
        self.need(other, axis, (blocks[:, None] * size + np.arange(size)).ravel())

    def _plan_layer(self, node: Node) -> None:
        """With the orders of input and output known: the weight and bias that compute the same."""
        axis = channel_axis(node.op, node.output.rank)
        x, out = node.inputs[0], node.output

        def order(v: Value) -> np.ndarray:
            known = self.orders.get(v)
            return known[1] if known is not None and known[0] == axis else np.arange(v.shape[axis])

        into, outof = order(x), order(out)
        groups = getattr(node.op, "groups", 1)
        from_in, from_out = _blocks(into, groups), _blocks(outof, groups)
        if not np.array_equal(from_in, from_out):
            raise _Stuck

        def act() -> None:
            weight = canonical(node.op, self.edit.graph.weights[node.inputs[1]])
            _, o, i, _ = weight.shape
            weight = weight[from_out]
            rows, cols = outof.reshape(groups, o) % o, into.reshape(groups, i) % i
            weight = weight[np.arange(groups)[:, None, None], rows[:, :, None], cols[:, None, :]]
            set_weight(self.edit, node, weight)
            if len(node.inputs) > 2:
                set_constant(self.edit, node, 2, self.edit.graph.weights[node.inputs[2]][outof])

        self.actions[id(node)] = act


def _through_reshape(
    before: tuple[int, ...], after: tuple[int, ...], axis: int, perm: np.ndarray
) -> tuple[int, np.ndarray]:
    """The axis and order after a reshape: on the same axis, or on one that it merged into or split off from."""
    first, size = math.prod(before[:axis]), before[axis]
    for i, extent in enumerate(after):
        start = math.prod(after[:i])
        if start == first and extent == size:
            return i, perm
    for i, extent in enumerate(after):
        start = math.prod(after[:i])
        stop = start * extent
        if start <= first and first * size <= stop and first % start == 0 and stop % (first * size) == 0:
            index = np.arange(extent).reshape(first // start, size, stop // (first * size))
            return i, index.take(perm, 1).ravel()
        if (
            first <= start
            and stop <= first * size
            and extent > 1
            and start % first == 0
            and size % (stop // first) == 0
        ):
            lead, tail = start // first, size // (stop // first)
            inner = perm.reshape(lead, extent, tail)[0, :, 0] // tail
            index = np.arange(size).reshape(lead, extent, tail)
            if inner.max() < extent and np.array_equal(index.take(inner, 1).ravel(), perm):
                return i, inner
    raise _Stuck


def _blocks(perm: np.ndarray, groups: int) -> np.ndarray:
    """The old group that each new group of channels comes from."""
    size = len(perm) // groups
    table = perm.reshape(groups, size) // size
    if np.any(table != table[:, :1]):
        raise _Stuck
    return table[:, 0]
