"""Linear layers in a row become one where that takes no more multiplications; products with constants are layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import bias_of, canonical, kernel_of, regrouped, restore, sole_user, zero_padded

__all__ = ["Linearity", "composed", "linear_from_matmul", "linearity", "merge_sequences"]


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


@dataclass
class Linearity:
    """A convolution or linear layer as it stands in the graph, or several in a row as one."""

    x: Value
    op: Any
    #: canonical, float64
    weight: np.ndarray
    bias: np.ndarray
    kernel: tuple[int, ...]
    #: what it stands for, in order
    nodes: tuple[Node, ...]
    macs: int

    @property
    def channels(self) -> tuple[int, int]:
        """Those that come in and those that come out."""
        groups, outputs, inputs, _ = self.weight.shape
        return groups * inputs, groups * outputs

    @property
    def pointwise(self) -> bool:
        """Whether it reads only the place that it writes."""
        return isinstance(self.op, ops.Linear) or (self.kernel == (1, 1) == self.op.stride)


def linearity(edit: Editor, node: Node, *, activated: bool = False) -> Linearity | None:
    """``node`` as one, where its weights are constants; ``activated``: though an activation may be fused to it."""
    op: Any = node.op
    if not isinstance(op, (ops.Conv2d, ops.Linear)) or (op.activation and not activated):
        return None
    bias = bias_of(edit, node)
    if bias is None or edit.array(node.inputs[1]) is None:
        return None
    weight = canonical(op, edit.graph.weights[node.inputs[1]])
    macs = op.macs([v.spec for v in node.inputs], [node.output.spec])
    return Linearity(node.inputs[0], op, weight, bias, kernel_of(op, node.inputs[1].shape), (node,), macs)


def composed(first: Linearity, then: Linearity, most: float) -> Linearity | None:
    """``then`` after ``first`` as one; None where there is no such layer, or none of at most ``most`` weights."""
    if type(first.op) is not type(then.op) or getattr(first.op, "layout", "") != getattr(then.op, "layout", ""):
        return None
    groups = math.gcd(first.weight.shape[0], then.weight.shape[0])
    area = max(first.weight.shape[3], then.weight.shape[3])
    if first.channels[0] * then.channels[1] // groups * area > most:
        return None
    a, b = regrouped(first.weight, groups), regrouped(then.weight, groups)
    if then.pointwise and not zero_padded(then.op):
        op, kernel = first.op, first.kernel
        weight = np.einsum("gom,gmik->goik", b[..., 0], a)
    elif first.pointwise and not (np.any(first.bias) and zero_padded(then.op)):
        # padding that the 1×1 has itself gives its bias at the border, which the later layer then reads
        op, kernel = _padded_too(then.op, first.op), then.kernel
        weight = np.einsum("gomk,gmi->goik", b, a[..., 0])
    else:
        return None
    bias = np.einsum("gomk,gm->go", b, first.bias.reshape(groups, -1)).reshape(-1) + then.bias
    if not isinstance(op, ops.Linear):
        op = op.with_(groups=groups)
    return Linearity(first.x, op, weight, bias, kernel, first.nodes + then.nodes, first.macs + then.macs)


def _padded_too(op: Any, by: Any) -> Any:
    if isinstance(op, ops.Linear):
        return op
    pads = (tuple(a + b for a, b in zip(p, q, strict=True)) for p, q in zip(op.padding, by.padding, strict=True))
    return op.with_(padding=tuple(pads))


@rewrite("a linear map after a linear map is the linear map of their product, computed in float64")
def merge_sequences(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Conv2d, ops.Linear):
        first = edit.maker(node.inputs[0], type(node.op))
        if first is not None and sole_user(edit, node.inputs[0]):
            changed |= _merge(edit, first, node)
    return changed


def _merge(edit: Editor, first: Node, then: Node) -> bool:
    activation = then.op.fields()["activation"]
    before, after = linearity(edit, first), linearity(edit, then, activated=True)
    if before is None or after is None:
        return False
    # no more multiplications than before
    merged = composed(before, after, (before.macs + after.macs) / _places(then))
    if merged is None:
        return False
    stem, dtype = first.inputs[1].name, then.output.dtype
    weight = np.ascontiguousarray(restore(merged.op, merged.weight, merged.kernel).astype(dtype))
    inputs = [merged.x, edit.constant(weight, stem)]
    if np.any(merged.bias):
        inputs.append(edit.constant(merged.bias.astype(dtype), f"{first.scope or stem}.bias"))
    edit.splice(then, merged.op.with_(activation=activation), inputs)
    edit.erase(first)
    return True


def _places(node: Node) -> int:
    """How often a layer's weights are applied."""
    channels = node.inputs[1].shape[0]
    return node.output.size // channels
