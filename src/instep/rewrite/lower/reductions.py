"""Decompositions of softmaxes and rankings."""

from __future__ import annotations

import math

from instep.graph import ops
from instep.rewrite.lower.table import Build, decomposes

__all__ = ["in_steps"]

#: Reductions over an axis with no more entries behind it are slower than transposes (docs/xnnpack-forms.md).
FEW_BEHIND = 8
#: Up to so many elements are added up at once.
MANY_TERMS = 256


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


@decomposes(ops.ReduceMean, ops.ReduceSum)
def total(b: Build) -> bool:
    """Of many elements over several axes first over the later ones, then over the first: engines add one element after
    the other in float32, and the error grows with their number (ten times less in two steps, docs/xnnpack-forms.md)."""
    op = b.node.op
    first, *later = sorted(a % b.x.rank for a in op.axes) if op.axes else [0]
    terms = (b.x.shape[first], math.prod(b.x.shape[a] for a in later))
    if min(terms) == 1 or math.prod(terms) <= MANY_TERMS or not b.x.dtype.startswith("float"):
        return False
    return b.may("split-means") and in_steps(b, tuple(later), (first,))


def in_steps(b: Build, *groups: tuple[int, ...]) -> bool:
    """The node's mean or sum over the axes of one group after the other. Always True."""
    op, x = b.node.op, b.x
    *before, last = groups
    for axes in before:
        x = b.add(op.with_(axes=axes, keepdims=True), x)
    if op.keepdims:
        return b.done(op.with_(axes=last), x)
    return b.done(ops.Reshape(b.node.output.shape), b.add(op.with_(axes=last, keepdims=True), x))


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
