"""Decompositions of softmaxes and rankings."""

from __future__ import annotations

import math

from instep.graph import ops
from instep.rewrite.lower.table import Build, decomposes

__all__: list[str] = []

#: Reductions over an axis with no more entries behind it are slower than transposes (docs/xnnpack-forms.md).
FEW_BEHIND = 8


@decomposes(ops.Softmax)
def softmax(b: Build) -> bool:
    """TFLite's runs over the last axis; over another one its definition is faster than moving the axis there, unless
    rows are short behind it."""
    axis, last = b.node.op.axis, b.x.rank - 1
    if axis == last:
        return False
    if math.prod(b.x.shape[axis + 1 :]) <= FEW_BEHIND or not b.may("spell-softmax"):
        swap = tuple({axis: last, last: axis}.get(a, a) for a in range(b.x.rank))
        turned = b.add(ops.Softmax(last), b.add(ops.Permute(swap), b.x))
        return b.done(ops.Permute(swap), turned)
    shifted = b.add(ops.Sub(), b.x, b.add(ops.ReduceMax((axis,), True), b.x))
    e = b.add(ops.Exp(), shifted)
    return b.done(ops.Div(), e, b.add(ops.ReduceSum((axis,), True), e))


@decomposes(ops.LogSoftmax)
def log_softmax(b: Build) -> bool:
    """LOG_SOFTMAX is no XNNPACK operator: its definition, over any axis."""
    axes = (b.node.op.axis,)
    shifted = b.add(ops.Sub(), b.x, b.add(ops.ReduceMax(axes, True), b.x))
    total = b.add(ops.ReduceSum(axes, True), b.add(ops.Exp(), shifted))
    return b.done(ops.Sub(), shifted, b.add(ops.Log(), total))


@decomposes(ops.ArgMax, ops.ArgMin)
def arg(b: Build) -> bool:
    if not b.node.op.keepdims:
        return False
    return b.done(ops.Reshape(b.node.output.shape), b.add(b.node.op.with_(keepdims=False), b.x))
