"""Linear layers in a row become one where that takes no more multiplications; products with constants are layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from instep.graph import Node, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import bias_of, canonical, kernel_of, restore, sole_user, zero_padded

__all__ = ["linear_from_matmul", "merge_sequences"]


@rewrite("x · W by a constant matrix is a linear layer with weight Wᵀ")
def linear_from_matmul(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.MatMul):
        a, b = node.inputs
        matrix = edit.array(b)
        if matrix is None or edit.array(a) is not None or node.op.transpose_a or a.rank < b.rank:
            continue
        if any(n != 1 for n in matrix.shape[:-2]):
            continue
        flat = matrix.reshape(matrix.shape[-2:])
        weight = flat if node.op.transpose_b else flat.T
        edit.splice(node, ops.Linear(), [a, edit.constant(np.ascontiguousarray(weight), b.name)])
        changed = True
    return changed


@rewrite("a linear map after a linear map is the linear map of their product, computed in float64")
def merge_sequences(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Conv2d, ops.Linear):
        first = edit.maker(node.inputs[0], type(node.op))
        if first is not None and sole_user(edit, node.inputs[0]):
            changed |= _merge(edit, first, node)
    return changed


def _pointwise(node: Node) -> bool:
    op: Any = node.op
    if isinstance(op, ops.Linear):
        return True
    kernel = kernel_of(op, node.inputs[1].shape)
    return kernel == (1, 1) == op.stride and not any(map(any, op.padding)) and op.groups == 1


def _merge(edit: Editor, first: Node, then: Node) -> bool:
    if first.op.fields()["activation"] or any(edit.array(v) is None for v in [*first.inputs[1:], *then.inputs[1:]]):
        return False
    if getattr(first.op, "groups", 1) != 1 or getattr(then.op, "groups", 1) != 1:
        return False
    a, b = (canonical(n.op, edit.graph.weights[n.inputs[1]])[0] for n in (first, then))
    bias_a, bias_b = bias_of(edit, first), bias_of(edit, then)
    assert bias_a is not None and bias_b is not None
    if _pointwise(then):
        op, shape = first.op, first
        weight = np.einsum("om,mik->oik", b[:, :, 0], a)
    elif _pointwise(first) and not (np.any(bias_a) and zero_padded(then.op)):
        op, shape = then.op, then
        weight = np.einsum("omk,mi->oik", b, a[:, :, 0])
    else:
        return False
    if weight.size * _places(then) > a.size * _places(first) + b.size * _places(then):
        return False
    bias = np.einsum("omk,m->o", b, bias_a) + bias_b
    kernel = kernel_of(shape.op, shape.inputs[1].shape)
    stem = first.inputs[1].name
    dtype = then.output.dtype
    made = edit.constant(np.ascontiguousarray(restore(op, weight[None], kernel).astype(dtype)), stem)
    merged = op.with_(activation=then.op.fields()["activation"])
    inputs = [first.inputs[0], made]
    if np.any(bias):
        inputs.append(edit.constant(bias.astype(dtype), f"{first.scope or stem}.bias"))
    edit.splice(then, merged, inputs)
    edit.erase(first)
    return True


def _places(node: Node) -> int:
    """How often a layer's weights are applied."""
    channels = node.inputs[1].shape[0]
    return node.output.size // channels
