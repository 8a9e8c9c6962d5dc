"""Operators that commute change places where that leaves less to compute."""

from __future__ import annotations

import math
from typing import Any

from instep.graph import Node, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import channel_axis, kernel_of, sole_user
from instep.rewrite.fuse.activations import TAKERS, fused_name

__all__ = ["hoist_activations", "pool_before_pointwise", "shrink_before_elementwise", "widen_after_pointwise"]

_MONOTONE = (ops.Sigmoid, ops.Tanh, ops.HardSigmoid, ops.Softplus, ops.Selu, ops.Relu, ops.Clip, ops.Exp)


def _swap(edit: Editor, first: Node, then: Node) -> None:
    """first → then becomes then → first; both read x alone beside constants, and ``then`` keeps its output Value."""
    x = first.inputs[0]
    moved = edit.add(then.op, [x, *then.inputs[1:]], then)
    edit.splice(then, first.op, [moved, *first.inputs[1:]])
    then.scope, then.origin = first.scope, first.origin
    edit.erase(first)


@rewrite("a rising function of the maximum is the maximum of the function")
def shrink_before_elementwise(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.MaxPool2d, ops.ReduceMax, ops.AdaptiveMaxPool2d):
        first = edit.maker(node.inputs[0])
        if first is None or not sole_user(edit, first.output) or getattr(node.op, "activation", ""):
            continue
        rising = isinstance(first.op, _MONOTONE) or (isinstance(first.op, ops.LeakyRelu) and first.op.slope >= 0)
        fusable = fused_name(first) and edit.maker(first.inputs[0], *TAKERS) is not None
        if rising and not fusable and node.output.size < first.output.size and len(first.inputs) == 1:
            _swap(edit, first, node)
            changed = True
    return changed


def _pointwise_layer(node: Node) -> bool:
    op: Any = node.op
    if isinstance(op, ops.Linear):
        return not op.activation
    kernel = kernel_of(op, node.inputs[1].shape)
    return kernel == (1, 1) == op.stride and not any(map(any, op.padding)) and not op.activation


@rewrite("a mean over places and a linear map over channels commute (the bias is its own mean)")
def pool_before_pointwise(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.AvgPool2d, ops.ReduceMean, ops.AdaptiveAvgPool2d):
        first = edit.maker(node.inputs[0], ops.Conv2d)
        if first is None or not sole_user(edit, first.output) or not _pointwise_layer(first):
            continue
        op: Any = node.op
        axis = channel_axis(first.op, 4)
        if isinstance(op, ops.ReduceMean):
            if not op.keepdims or axis in op.axes or 0 in op.axes:
                continue
        elif op.layout != first.op.layout or getattr(op, "activation", ""):  # type: ignore[attr-defined]
            continue
        if isinstance(op, ops.AvgPool2d) and op.count_include_pad and any(map(any, op.padding)):
            continue
        area_in = first.output.size // first.output.shape[axis]
        area_out = node.output.size // node.output.shape[axis]
        # fewer places for the layer, against more channels for the pool
        c, o = first.inputs[0].shape[axis], first.output.shape[axis]
        if area_out >= area_in or (c > 4 * o and not isinstance(op, ops.ReduceMean)):
            continue
        _swap(edit, first, node)
        changed = True
    return changed


@rewrite("copies and weighted means of places (weights that sum to one) commute with what acts on each place alone")
def widen_after_pointwise(edit: Editor) -> bool:
    changed = False
    for first in edit.nodes(ops.Resize2d):
        if not edit.alive(first) or not sole_user(edit, first.output):
            continue
        node = edit.users[first.output][0]
        if first.output.size <= first.inputs[0].size or not edit.alive(node) or len(node.outputs) != 1:
            continue
        op: Any = first.op
        if isinstance(node.op, ops.Conv2d):
            grows = node.output.size > first.output.size
            fits = node.op.layout == op.layout and _pointwise_layer(node) and not grows
        else:
            single = len(node.inputs) == 1 and node.op.elementwise and node.output.spec == first.output.spec
            fits = single and op.mode == "nearest"
        if fits and math.prod(first.inputs[0].shape) < math.prod(first.output.shape):
            _swap(edit, first, node)
            changed = True
    return changed


@rewrite("an activation acts on each element wherever it lies: before a move of elements it can be fused")
def hoist_activations(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Relu, ops.Clip):
        move = edit.maker(
            node.inputs[0], ops.Reshape, ops.Permute, ops.DepthToSpace, ops.SpaceToDepth, ops.Concat, ops.Slice
        )
        if not fused_name(node) or move is None or not sole_user(edit, move.output):
            continue
        makers = [edit.maker(v, *TAKERS) for v in move.inputs]
        ready = all(
            m is not None and sole_user(edit, v) and not m.op.fields()["activation"]
            for m, v in zip(makers, move.inputs, strict=True)
        )
        if not ready:
            continue
        moved = [edit.add(node.op, [v], node) for v in move.inputs]
        edit.splice(node, move.op, moved)
        node.scope, node.origin = move.scope, move.origin
        edit.erase(move)
        changed = True
    return changed
