"""Means and sums in the form that targets compute right."""

from __future__ import annotations

import math

from instep.graph import ops
from instep.rewrite.lower.reductions import in_steps
from instep.rewrite.lower.table import Build
from instep.targets.rewrites.table import Target, clearing

__all__: list[str] = []


@clearing("the mean over several axes is the mean of means over each, and a sum the sum of sums")
def split_mean(b: Build, target: Target) -> bool:
    """The longest axis last: what is added up stays small."""
    op = b.node.op
    if not isinstance(op, ops.ReduceMean | ops.ReduceSum) or len(op.axes) < 2:
        return False
    x = b.x
    target.forget(x.name)
    return in_steps(b, *((a,) for a in sorted((a % x.rank for a in op.axes), key=lambda a: x.shape[a])))


@clearing("neighbouring axes that are averaged are the columns of an image")
def mean_of_columns(b: Build, target: Target) -> bool:
    """[…, axes, …] → [1, before, axes, after], its width averaged: for targets that average height and width alone.
    Axes with others between them are averaged one by one."""
    op = b.node.op
    if not isinstance(op, ops.ReduceMean) or not b.x.shape:
        return False
    axes = sorted(a % b.x.rank for a in op.axes if b.x.shape[a % b.x.rank] != 1)
    if not axes:
        return b.done(ops.Reshape(b.node.output.shape), b.x)
    first, end = axes[0], axes[-1] + 1
    if math.prod(b.x.shape[first:end]) != math.prod(b.x.shape[a] for a in axes):
        return split_mean(b, target)
    image = (1, *(math.prod(side) for side in (b.x.shape[:first], b.x.shape[first:end], b.x.shape[end:])))
    if b.x.shape == image and op.axes == (2,):
        return False
    mean = b.add(ops.ReduceMean((2,), True), b.reshape(b.x, image))
    return b.done(ops.Reshape(b.node.output.shape), mean)


@clearing("a sum is the mean times the number of its terms", "SUM")
def spell_sum(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.ReduceSum) or not b.node.output.dtype.startswith("float"):
        return False
    count = math.prod(b.x.shape[a] for a in op.axes)
    mean = b.add(ops.ReduceMean(op.axes, op.keepdims), b.x)
    return b.done(ops.Mul(), mean, b.constant(float(count), "count"))
