"""Decompositions of softmaxes and rankings."""

from __future__ import annotations

from instep.graph import ops
from instep.rewrite.lower.table import Build, decomposes

__all__: list[str] = []


@decomposes(ops.Softmax, ops.LogSoftmax)
def softmax(b: Build) -> bool:
    """TFLite's runs over the last axis; another axis is moved there and back."""
    op, rank = b.node.op, b.x.rank
    if op.axis == rank - 1:
        return False
    perm = (*(i for i in range(rank) if i != op.axis), op.axis)
    back = tuple(perm.index(i) for i in range(rank))
    moved = b.add(ops.Permute(perm), b.x)
    return b.done(ops.Permute(back), b.add(op.with_(axis=rank - 1), moved))


@decomposes(ops.ArgMax, ops.ArgMin)
def arg(b: Build) -> bool:
    if not b.node.op.keepdims:
        return False
    return b.done(ops.Reshape(b.node.output.shape), b.add(b.node.op.with_(keepdims=False), b.x))
