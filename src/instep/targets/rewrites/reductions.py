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


@clearing("a sum is the mean times the number of its terms", "SUM")
def spell_sum(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.ReduceSum) or not b.node.output.dtype.startswith("float"):
        return False
    count = math.prod(b.x.shape[a] for a in op.axes)
    mean = b.add(ops.ReduceMean(op.axes, op.keepdims), b.x)
    return b.done(ops.Mul(), mean, b.constant(float(count), "count"))
