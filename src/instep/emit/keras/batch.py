"""Does a network treat every sample alike, so that its model takes any batch? Found by following the batch's axis."""

from __future__ import annotations

import math

from instep.graph import Graph, Node, Value, ops

__all__ = ["any_batch"]

#: Operators that work along axes of their own, which the batch must not be among.
_ALONG = (ops.Softmax, ops.LogSoftmax, ops.CumSum, ops.BatchNorm, ops.ArgMax, ops.ArgMin)
_OVER = (*ops.REDUCTIONS, ops.LayerNorm, ops.RmsNorm, ops.Flip, ops.Roll)
_LAST = (ops.Linear, ops.TopK)


class _Mixed(Exception):
    """The samples are mixed, or it cannot be said that they are not."""


def any_batch(graph: Graph) -> bool:
    """Whether inputs and outputs have the batch first, and each output's sample comes from that sample alone."""
    if not graph.inputs or any(not v.rank for v in (*graph.inputs, *graph.outputs)):
        return False
    if len({v.shape[0] for v in graph.inputs}) > 1:
        return False
    place: dict[Value, int] = dict.fromkeys(graph.inputs, 0)
    try:
        for node in graph.nodes:
            at = _follow(node, place, graph)
            if at is not None:
                place |= dict.fromkeys(node.outputs, at)
    except _Mixed:
        return False
    return all(place.get(v) == 0 for v in graph.outputs)


def _need(condition: bool) -> None:
    if not condition:
        raise _Mixed


def _follow(node: Node, place: dict[Value, int], graph: Graph) -> int | None:
    """The batch's axis in what ``node`` makes; None where it makes the same for every batch."""
    moving = [v for v in node.inputs if v in place]
    if not moving:
        return None
    op, x = node.op, node.inputs[0]
    if op.elementwise:
        return _broadcast(node.inputs, node.output.rank, place)
    if isinstance(op, ops.MatMul):
        right = _broadcast(node.inputs, node.output.rank, place)
        _need(right < node.output.rank - 2)
        return right
    if isinstance(op, ops.Concat):
        return _joined(node, place, graph)
    if isinstance(op, ops.Gather | ops.TakeAlong):
        return _taken(node, place)
    _need(moving == [x] or (isinstance(op, ops.GridSample) and moving == node.inputs))
    at = place[x]
    if op.spatial or isinstance(op, ops.GroupNorm | ops.Dropout):
        _need(at == 0 and not (isinstance(op, ops.Dropout) and 0 in op.shared))
        return 0
    return _single(node, at, graph.inputs[0].shape[0])


def _single(node: Node, at: int, count: int) -> int:
    """An operator with one input that moves."""
    op, x, y = node.op, node.inputs[0], node.output
    match op:
        case ops.Permute():
            return op.perm.index(at)
        case ops.Reshape():
            # the code leaves the first axis open: all that is before the batch has to be 1
            _need(math.prod(x.shape[:at]) == 1 and bool(op.shape) and op.shape[0] % count == 0)
            return 0
        case ops.Slice():
            _need((op.starts[at], op.stops[at], op.steps[at]) == (0, x.shape[at], 1))
        case ops.Pad():
            _need(tuple(op.pads[at]) == (0, 0))
        case ops.Expand():
            _need(x.rank == y.rank and x.shape[at] == y.shape[at])
        case _ if isinstance(op, _ALONG):
            _need(op.axis % x.rank != at)
        case _ if isinstance(op, _OVER):
            _need(at not in op.axes)
        case _ if isinstance(op, _LAST):
            _need(at < x.rank - 1)
        case _:
            raise _Mixed
    gone = op.axes if isinstance(op, ops.REDUCTIONS) else (op.axis,) if isinstance(op, ops.ArgMax | ops.ArgMin) else ()
    return at if not gone or op.keepdims else at - sum(a < at for a in gone)


def _broadcast(inputs: list[Value], rank: int, place: dict[Value, int]) -> int:
    """Where all that moves has the batch on one axis, counted from the last, and the rest has nothing of its own."""
    spots = {v.rank - place[v] for v in inputs if v in place}
    sizes = {v.shape[place[v]] for v in inputs if v in place}
    _need(len(spots) == 1 and len(sizes) == 1)
    spot = spots.pop()
    _need(all(v in place or v.rank < spot or v.shape[v.rank - spot] == 1 for v in inputs))
    return rank - spot


def _joined(node: Node, place: dict[Value, int], graph: Graph) -> int:
    spots = {place[v] for v in node.inputs if v in place}
    _need(len(spots) == 1 and node.op.axis not in spots)
    at = spots.pop()
    for value in node.inputs:
        _need(value in place or (value in graph.weights and at == 0 and value.shape[0] == 1))
    return at


def _taken(node: Node, place: dict[Value, int]) -> int:
    (x, index), axis = node.inputs, node.op.axis
    if isinstance(node.op, ops.TakeAlong):
        _need(x in place and index in place and place[x] == place[index] != axis)
        return place[x]
    if index in place:
        _need(x not in place)
        return axis + place[index]
    _need(place[x] != axis)
    return place[x] if place[x] < axis else place[x] + index.rank - 1
