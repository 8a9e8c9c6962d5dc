"""Decompositions of matrix products."""

from __future__ import annotations

import numpy as np

from instep.graph import ops
from instep.rewrite.lower.table import Build, decomposes

__all__: list[str] = []


@decomposes(ops.MatMul)
def matmul(b: Build) -> bool:
    """A constant right matrix makes it a Linear; a transposed left one is permuted: XNNPACK has no adj_x."""
    op, (left, right) = b.node.op, b.node.inputs
    matrix = b.array(1)
    flat = matrix is not None and all(n == 1 for n in matrix.shape[:-2]) and len(matrix.shape) <= left.rank
    if flat and not op.transpose_a and matrix is not None:
        weight = matrix.reshape(matrix.shape[-2:])
        weight = weight if op.transpose_b else weight.T
        return b.done(ops.Linear(), left, b.constant(np.ascontiguousarray(weight), "weight"))
    if op.transpose_a:
        perm = (*range(left.rank - 2), left.rank - 1, left.rank - 2)
        array = b.array(0)
        turned = b.add(ops.Permute(perm), left) if array is None else b.constant(array.transpose(perm), "transposed")
        return b.done(ops.MatMul(False, op.transpose_b), turned, right)
    return False


@decomposes(ops.Linear)
def linear(b: Build) -> bool:
    """FULLY_CONNECTED reads ranks 2 to 4."""
    x = b.x
    if 2 <= x.rank <= 4:
        return False
    flat = b.add(b.node.op, b.reshape(x, (x.size // x.shape[-1], x.shape[-1])), *b.node.inputs[1:])
    return b.done(ops.Reshape(b.node.output.shape), flat)
