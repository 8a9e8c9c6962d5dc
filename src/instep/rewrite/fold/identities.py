"""Operators that do nothing, or nothing that is not done already, go."""

from __future__ import annotations

import math

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import sole_user

__all__ = ["drop_dropouts", "drop_identities", "range_of"]

_NEUTRAL: dict[type, tuple[float, bool]] = {
    # operator: (neutral constant, whether it may stand on the left)
    ops.Add: (0.0, True), ops.Sub: (0.0, False), ops.Mul: (1.0, True), ops.Div: (1.0, False), ops.Pow: (1.0, False),
}  # fmt: skip


@rewrite("dropout does something while training alone")
def drop_dropouts(edit: Editor) -> bool:
    found = edit.nodes(ops.Dropout)
    for node in found:
        x = node.inputs[0]
        if edit.is_output(node.output) and not _may_be_output(edit, x):
            edit.splice(node, ops.Reshape(x.shape), [x])
        else:
            edit.replace(node, x)
    return bool(found)


@rewrite("each dropped node returns one of its inputs unchanged")
def drop_identities(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes():
        if len(node.outputs) != 1:
            continue
        if _simplify(edit, node):
            changed = True
        if isinstance(node.op, ops.Expand) and _unexpand(edit, node):
            changed = True
            if not edit.users[node.output] and not edit.is_output(node.output):
                edit.erase(node)
                continue
        kept = _same(edit, node)
        if kept is None or kept.spec != node.output.spec:
            continue
        if edit.is_output(node.output) and not _may_be_output(edit, kept):
            continue
        edit.replace(node, kept)
        changed = True
    return changed


def _may_be_output(edit: Editor, value: Value) -> bool:
    """A network output stays a value that a node makes, and each output stays a value of its own."""
    return value in edit.producer and not edit.is_output(value)


def _same(edit: Editor, node: Node) -> Value | None:
    """The input that ``node`` returns unchanged, or None."""
    op, x = node.op, node.inputs[0] if node.inputs else None
    if x is None:
        return None
    match op:
        case ops.Reshape() | ops.Expand() | ops.Resize2d() if _plain_resize(op):
            return x if node.output.shape == x.shape else None
        case ops.Permute():
            return x if op.perm == tuple(range(x.rank)) else None
        case ops.Slice():
            return x if node.output.shape == x.shape else None
        case ops.Pad():
            return None if any(map(any, op.pads)) else x
        case ops.Cast():
            return x if op.dtype == x.dtype else None
        case ops.Concat():
            return x if len(node.inputs) == 1 else None
        case ops.Roll():
            return x if all(s % x.shape[a] == 0 for s, a in zip(op.shifts, op.axes, strict=True)) else None
        case ops.Flip():
            return x if all(x.shape[a] == 1 for a in op.axes) else None
        case ops.ReduceMean() | ops.ReduceSum() | ops.ReduceMax() | ops.ReduceMin():
            return x if op.keepdims and all(x.shape[a] == 1 for a in op.axes) else None
        case ops.AvgPool2d() | ops.MaxPool2d():
            plain = op.kernel == (1, 1) == op.stride and node.output.shape == x.shape and not op.activation
            return x if plain and not any(map(any, op.padding)) else None
        case ops.AdaptiveAvgPool2d() | ops.AdaptiveMaxPool2d():
            return x if node.output.shape == x.shape else None
        case ops.DepthToSpace() | ops.SpaceToDepth():
            return x if op.block == 1 else None
        case ops.Gather():
            return x if _counts_up(edit, node) else None
        case ops.Clip() | ops.Relu():
            low, high = (0.0, math.inf) if isinstance(op, ops.Relu) else (op.low, op.high)
            have = range_of(edit, x)
            return x if have[0] >= low and have[1] <= high else None
        case ops.Abs():
            return x if range_of(edit, x)[0] >= 0 else None
        case ops.Add() | ops.Sub() | ops.Mul() | ops.Div() | ops.Pow():
            return _neutral(edit, node)
        case ops.Maximum() | ops.Minimum():
            return x if node.inputs[1] is x else None
        case ops.Where():
            return node.inputs[1] if node.inputs[1] is node.inputs[2] else None
    return None


def _plain_resize(op: object) -> bool:
    """Resizing to the same size is the identity, unless a scale of its own shifts the samples."""
    return not isinstance(op, ops.Resize2d) or (op.scale is None or tuple(op.scale) == (1.0, 1.0))


def _counts_up(edit: Editor, node: Node) -> bool:
    indices = edit.array(node.inputs[1])
    size = node.inputs[0].shape[node.op.axis]
    return indices is not None and indices.shape == (size,) and np.array_equal(indices, np.arange(size))


def _neutral(edit: Editor, node: Node) -> Value | None:
    if getattr(node.op, "activation", ""):
        return None
    neutral, both = _NEUTRAL[type(node.op)]
    for x, other in ((0, 1), (1, 0)) if both else ((0, 1),):
        array = edit.array(node.inputs[other])
        if array is not None and np.all(array == neutral) and node.inputs[x] not in edit.graph.weights:
            return node.inputs[x]
    return None


_RANGES: dict[type, tuple[float, float]] = {
    ops.Relu: (0.0, math.inf), ops.Sigmoid: (0.0, 1.0), ops.Softmax: (0.0, 1.0), ops.HardSigmoid: (0.0, 1.0),
    ops.Exp: (0.0, math.inf), ops.Softplus: (0.0, math.inf), ops.Square: (0.0, math.inf), ops.Abs: (0.0, math.inf),
    ops.Sqrt: (0.0, math.inf), ops.Tanh: (-1.0, 1.0), ops.SquaredDifference: (0.0, math.inf),
}  # fmt: skip

#: Operators whose results are among, or between, the elements of their first input.
_KEEPERS = (
    ops.Reshape, ops.Permute, ops.Slice, ops.Expand, ops.Flip, ops.Roll, ops.Gather, ops.MaxPool2d, ops.DepthToSpace,
    ops.SpaceToDepth, ops.ReduceMax, ops.ReduceMin, ops.TakeAlong, ops.AdaptiveMaxPool2d,
)  # fmt: skip


def range_of(edit: Editor, value: Value, depth: int = 6) -> tuple[float, float]:
    """Bounds that ``value`` keeps whatever the inputs are (NaN aside)."""
    node = edit.maker(value)
    unknown = (-math.inf, math.inf)
    if node is None or depth == 0:
        return unknown
    if isinstance(node.op, ops.Clip):
        return (node.op.low, node.op.high)
    if type(node.op) in _RANGES:
        return _RANGES[type(node.op)]
    activation = node.op.fields().get("activation")
    if activation:
        return {"relu": (0.0, math.inf), "relu6": (0.0, 6.0), "relu1": (-1.0, 1.0)}[activation]
    if isinstance(node.op, _KEEPERS):
        return range_of(edit, node.inputs[0], depth - 1)
    if isinstance(node.op, ops.Concat):
        parts = [range_of(edit, v, depth - 1) for v in node.inputs]
        return (min(p[0] for p in parts), max(p[1] for p in parts))
    return unknown


def _simplify(edit: Editor, node: Node) -> bool:
    """Merge ``node`` with the node before it where one of the two is redundant. True when changed."""
    op = node.op
    before = edit.maker(node.inputs[0]) if node.inputs else None
    if before is None or len(before.outputs) != 1:
        return False
    match op, before.op:
        case ops.Reshape(), ops.Reshape():
            edit.splice(node, op, before.inputs)
        case ops.Permute(), ops.Permute():
            edit.splice(node, ops.Permute(tuple(before.op.perm[p] for p in op.perm)), before.inputs)
        case ops.Cast(), ops.Cast() if _widens(before.inputs[0].dtype, before.op.dtype):
            edit.splice(node, op, before.inputs)
        case ops.Slice(), ops.Slice():
            edit.splice(node, _slice_of_slice(before.op, op), before.inputs)
        case ops.Expand(), ops.Expand():
            edit.splice(node, op, before.inputs)
        case ops.Clip(), ops.Clip() | ops.Relu() if sole_user(edit, before.output):
            low, high = (0.0, math.inf) if isinstance(before.op, ops.Relu) else (before.op.low, before.op.high)
            if op.low > high or low > op.high:
                return False
            edit.splice(node, ops.Clip(max(low, op.low), min(high, op.high)), before.inputs)
        case ops.Relu(), ops.Clip() if before.op.high > 0 and sole_user(edit, before.output):
            edit.splice(node, ops.Clip(max(before.op.low, 0.0), before.op.high), before.inputs)
        case _:
            return False
    _drop_unread(edit, before)
    return True


def _unexpand(edit: Editor, node: Node) -> bool:
    """Element-wise readers broadcast by themselves. True when one now does."""
    changed = False
    x, wide = node.inputs[0], node.output
    for user in dict.fromkeys(edit.users[wide]):
        if not user.op.elementwise or len(user.inputs) < 2:
            continue
        inputs = [x if v is wide else v for v in user.inputs]
        try:
            fits = user.op.infer(*(v.spec for v in inputs))[0] == user.output.spec
        except ValueError:
            continue
        if fits:
            edit.update(user, inputs=inputs)
            changed = True
    return changed


def _drop_unread(edit: Editor, node: Node) -> None:
    if not any(edit.users[v] or edit.is_output(v) for v in node.outputs):
        edit.erase(node)


def _widens(inner: str, outer: str) -> bool:
    """Whether every value of dtype ``inner`` exists in ``outer``."""
    return bool(np.can_cast(inner, outer, "safe"))


def _slice_of_slice(first: ops.Slice, then: ops.Slice) -> ops.Slice:
    starts, stops, steps = [], [], []
    for a, b, s, c, d, t in zip(
        first.starts, first.stops, first.steps, then.starts, then.stops, then.steps, strict=True
    ):
        count = -(-(d - c) // t)
        starts.append(a + c * s)
        steps.append(s * t)
        stops.append(min(a + (c + (count - 1) * t) * s + 1, b) if count else a + c * s)
    return ops.Slice(tuple(starts), tuple(stops), tuple(steps))
