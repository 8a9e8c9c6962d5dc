"""Decompositions of softmaxes and rankings."""

from __future__ import annotations

from instep.graph import ops
from instep.rewrite.lower.table import Build, decomposes

__all__: list[str] = []


@decomposes(ops.Softmax)
def softmax(b: Build) -> bool:
    """TFLite's runs over the last axis; over another one its definition is faster than moving the axis there."""
    axis = b.node.op.axis
    if axis == b.x.rank - 1:
        return False
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
