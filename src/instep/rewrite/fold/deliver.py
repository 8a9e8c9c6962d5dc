"""Carries ``value · scale + shift`` forwards into the layers that read ``value``."""

from __future__ import annotations

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.edit import Editor
from instep.rewrite.fold.affine import DEPTH, Affine, Plan, along, both, forget, keeps, push, spatially_constant
from instep.rewrite.fold.weights import (
    LAYERS,
    add_bias,
    bias_of,
    canonical,
    channel_axis,
    set_constant,
    set_weight,
    zero_padded,
)

__all__ = ["deliver"]

#: A plan of more changes than this is not worth its reading.
LONGEST = 64


def deliver(edit: Editor, value: Value, affine: Affine, depth: int = DEPTH) -> Plan | None:
    """The changes after which every reader of ``value`` sees ``value · scale + shift`` in its place."""
    if edit.is_output(value) or depth == 0 or not edit.users[value]:
        return None
    plan: Plan = []
    for node in dict.fromkeys(edit.users[value]):
        more = _onto(edit, node, value, affine, depth)
        if more is None:
            return None
        plan += more
        if len(plan) > LONGEST:
            return None
    return plan


def _onto(edit: Editor, node: Node, value: Value, affine: Affine, depth: int) -> Plan | None:
    op = node.op
    if sum(v is value for v in node.inputs) != 1 or len(node.outputs) != 1:
        return None
    if isinstance(op, LAYERS):
        return _onto_layer(edit, node, affine) if node.inputs[0] is value else None
    after: Affine | None = None
    output = node.output
    match op:
        case ops.Reshape() | ops.Permute() | ops.Flip() | ops.Roll() | ops.DepthToSpace() | ops.SpaceToDepth():
            after = both(affine, lambda c: push(op, c, value.shape, output.shape))
        case ops.Slice():
            after = both(affine, lambda c: push(op, c, value.shape, output.shape))
        case ops.Resize2d() | ops.AvgPool2d() | ops.MaxPool2d() | ops.Pad() | ops.AdaptiveAvgPool2d():
            axis = channel_axis(op, value.rank)
            after = affine if spatially_constant(affine, axis, value.rank) and keeps(op, affine) else None
        case ops.ReduceMean() if all(c.shape[a] == 1 for c in (affine.scale, affine.shift) for a in op.axes):
            keep = [i for i in range(value.rank) if op.keepdims or i not in op.axes]
            after = both(affine, lambda c: c.reshape([c.shape[i] for i in keep]))
        case ops.Relu() | ops.LeakyRelu() | ops.Prelu() if not affine.shifts and np.all(affine.scale > 0):
            after = affine if node.inputs[0] is value else None
        case ops.Add() | ops.Sub() if not affine.scales and not op.activation and output.shape == value.shape:
            sign = -1.0 if isinstance(op, ops.Sub) and node.inputs[1] is value else 1.0
            after = Affine(affine.scale, affine.shift * sign)
        case ops.Mul() | ops.Div() if not affine.shifts and _constant_beside(edit, node, value) is not None:
            return _onto_product(edit, node, affine)
        case ops.Mul() if not affine.shifts and not op.activation:
            wide = (1,) * (output.rank - value.rank) + affine.scale.shape
            scale = affine.scale.reshape(wide)
            after = Affine(scale, np.zeros((1,) * output.rank)) if output.shape == value.shape else None
        case ops.MatMul() if not affine.shifts and affine.scale.size == 1:
            after = Affine(affine.scale.reshape((1,) * output.rank), np.zeros((1,) * output.rank))
        case ops.BatchNorm() if node.inputs[0] is value:
            return _onto_batch_norm(edit, node, affine)
    if after is None:
        return None
    plan = deliver(edit, output, after, depth - 1)
    return None if plan is None else [*plan, forget(output)]


def _constant_beside(edit: Editor, node: Node, value: Value) -> int | None:
    """The index of the constant that multiplies ``value``, or divides it."""
    index = 1 if node.inputs[0] is value else 0
    if isinstance(node.op, ops.Div) and index == 0:
        return None
    return index if edit.array(node.inputs[index]) is not None and node.output.shape == value.shape else None


def _onto_product(edit: Editor, node: Node, affine: Affine) -> Plan | None:
    """Into the constant of a product, where that makes it no larger."""
    index = 1 if edit.array(node.inputs[1]) is not None else 0
    held = edit.graph.weights[node.inputs[index]]
    if np.broadcast_shapes(held.shape, affine.scale.shape) != (1,) * (affine.scale.ndim - held.ndim) + held.shape:
        return None

    def act() -> None:
        now = edit.graph.weights[node.inputs[index]].astype(np.float64)
        scale = affine.scale.reshape(affine.scale.shape[affine.scale.ndim - now.ndim :])
        set_constant(edit, node, index, now / scale if isinstance(node.op, ops.Div) else now * scale)

    return [act]


def _onto_layer(edit: Editor, node: Node, affine: Affine) -> Plan | None:
    x = node.inputs[0]
    axis = channel_axis(node.op, x.rank)
    scale, shift = (along(c, axis, x.shape[axis]) for c in (affine.scale, affine.shift))
    if scale is None or shift is None or edit.array(node.inputs[1]) is None or bias_of(edit, node) is None:
        return None
    if affine.shifts and zero_padded(node.op):
        return None

    def act() -> None:
        weight, bias = canonical(node.op, edit.graph.weights[node.inputs[1]]), bias_of(edit, node)
        assert bias is not None
        groups, _, per_group, _ = weight.shape
        if affine.shifts:
            moved = np.einsum("goik,gi->go", weight, shift.reshape(groups, per_group))
            add_bias(edit, node, bias + moved.reshape(-1))
        if np.any(scale != 1):
            set_weight(edit, node, weight * scale.reshape(groups, 1, per_group, 1))

    return [act]


def _onto_batch_norm(edit: Editor, node: Node, affine: Affine) -> Plan | None:
    op = node.op
    scale, shift = (along(c, op.axis, node.output.shape[op.axis]) for c in (affine.scale, affine.shift))
    if scale is None or shift is None or any(edit.array(v) is None for v in node.inputs[1:]):
        return None

    def act() -> None:
        weight, bias, mean, var = (edit.graph.weights[v].astype(np.float64) for v in node.inputs[1:])
        slope = weight / np.sqrt(var + op.eps)
        set_constant(edit, node, 1, weight * scale)
        set_constant(edit, node, 2, bias + slope * (shift + mean * (scale - 1)))

    return [act]
