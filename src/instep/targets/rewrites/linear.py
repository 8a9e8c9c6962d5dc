"""Matrix products in the shapes that targets take."""

from __future__ import annotations

import math

import numpy as np

from instep.graph import ops
from instep.rewrite.lower.table import Build
from instep.targets.rewrites.moves import join
from instep.targets.rewrites.table import Target, clearing

__all__: list[str] = []

#: Rows of a texture that a GPU has at least; Vulkan demands 4096, WebGPU 8192.
TEXTURE_ROWS = 8192


@clearing("a fully connected layer is a 1×1 convolution over its rows", "FULLY_CONNECTED")
def linear_to_conv(b: Build, target: Target) -> bool:
    if not isinstance(b.node.op, ops.Linear) or b.x.rank == 0:
        return False
    weight = b.array(1)
    if weight is None:
        return False
    rows = b.x.size // b.x.shape[-1]
    image = b.reshape(b.x, (1, 1, rows, b.x.shape[-1]))
    kernel = b.constant(weight[:, None, None, :], "kernel")
    conv = ops.Conv2d(layout="NHWC", activation=b.node.op.activation)
    out = b.node.output.shape
    if out == (1, 1, rows, out[-1]):
        return b.done(conv, image, kernel, *b.node.inputs[2:])
    return b.done(ops.Reshape(out), b.add(conv, image, kernel, *b.node.inputs[2:]))


@clearing("a 1×1 convolution of stride 1 is a fully connected layer over its places", "CONV_2D")
def conv_to_linear(b: Build, target: Target) -> bool:
    op, weight = b.node.op, b.array(1)
    if not isinstance(op, ops.Conv2d) or weight is None or weight.shape[1:3] != (1, 1) or op.groups != 1:
        return False
    if op.stride != (1, 1) or any(map(any, op.padding)) or op.layout != "NHWC":
        return False
    matrix = b.constant(weight[:, 0, 0, :], "matrix")
    return b.done(ops.Linear(op.activation), b.x, matrix, *b.node.inputs[2:])


@clearing("the rows of a fully connected layer do not see each other: they may lie along one axis")
def linear_rank_2(b: Build, target: Target) -> bool:
    if not isinstance(b.node.op, ops.Linear) or b.x.rank == 2:
        return False
    flat = b.reshape(b.x, (b.x.size // b.x.shape[-1], b.x.shape[-1]))
    return b.done(ops.Reshape(b.node.output.shape), b.add(b.node.op, flat, *b.node.inputs[1:]))


@clearing("products of a batch do not see each other: with a constant operand each is a fully connected layer")
def spell_matmul(b: Build, target: Target) -> bool:
    """x · A is a layer of its own for each matrix of A; A · x is (xᵀ · Aᵀ)ᵀ."""
    op = b.node.op
    if not isinstance(op, ops.MatMul):
        return False
    left, right = b.array(0), b.array(1)
    if left is not None and right is None:
        return _turned(b, left)
    if right is None or left is not None:
        return False
    matrices = right if op.transpose_b else right.swapaxes(-1, -2)
    flat = matrices.reshape(-1, *matrices.shape[-2:])
    if op.transpose_a or (len(flat) > 1 and (b.x.rank != right.ndim or b.x.shape[:-2] != right.shape[:-2])):
        return False
    if len(flat) == 1:
        return b.done(ops.Linear(), b.x, b.constant(flat[0], "matrix"))
    rows, columns = b.x.shape[-2:]
    x = b.reshape(b.x, (1, len(flat), rows, columns))
    parts = [b.add(ops.Linear(), b.slice(x, 1, i, i + 1), b.constant(m, "matrix")) for i, m in enumerate(flat)]
    return b.done(ops.Reshape(b.node.output.shape), b.add(ops.Concat(1), *parts))


def _turned(b: Build, left: np.ndarray) -> bool:
    op, x = b.node.op, b.node.inputs[1]
    last = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
    matrices = left.swapaxes(-1, -2) if op.transpose_a else left
    turned = x if op.transpose_b else b.add(ops.Permute(last), x)
    product = b.add(ops.MatMul(False, True), turned, b.constant(matrices, "matrix"))
    if product.shape[:-2] != b.node.output.shape[:-2]:
        return False
    return b.done(ops.Permute((*range(product.rank - 2), product.rank - 1, product.rank - 2)), product)


@clearing("a matrix for all of a batch is that matrix for each of it")
def expand_matmul(b: Build, target: Target) -> bool:
    """One right matrix for many left ones: their rows are the rows of one long matrix. Else the matrix is repeated."""
    op = b.node.op
    if not isinstance(op, ops.MatMul):
        return False
    left, right = b.node.inputs
    batch = b.node.output.shape[:-2]
    if math.prod(right.shape[:-2]) == 1 and not op.transpose_a:
        rows = b.reshape(left, (1, 1, left.size // left.shape[-1], left.shape[-1]))
        product = b.add(op, rows, b.reshape(right, (1, 1, *right.shape[-2:])))
        return b.done(ops.Reshape(b.node.output.shape), product)
    wide = []
    for value in (left, right):
        shape = (*batch, *value.shape[-2:])
        ones = b.constant(np.ones((*batch, 1, 1)), "ones")
        wide.append(value if value.shape == shape else b.add(ops.Mul(), value, ones))
    return wide != [left, right] and b.done(op, *wide)


@clearing("a matrix product may be computed in parts: its matrices, its columns, or the terms of its sums")
def split_products(b: Build, target: Target) -> bool:
    """So many parts that the right operand's rows, in bundles of four, and its columns fit into a texture."""
    op = b.node.op
    if not isinstance(op, ops.MatMul):
        return False
    left, right = b.node.inputs
    count, batch = math.prod(right.shape[:-2]), b.node.output.shape[:-2]
    if math.prod(left.shape[:-2]) != count:
        return False
    rows, columns = (right.rank - 1, right.rank - 2) if op.transpose_b else (right.rank - 2, right.rank - 1)
    if right.shape[columns] > 4 * TEXTURE_ROWS:
        if right.shape[rows] == 1 and left.shape[:-2] == right.shape[:-2]:
            return _outer(b)
        spans = _spans(right.shape[columns], 4 * TEXTURE_ROWS)
        return b.stand(join(b, [b.add(op, left, b.slice(right, columns, *span)) for span in spans], len(batch) + 1))
    inner = math.ceil(right.shape[rows] / 4)
    if inner > TEXTURE_ROWS:
        terms = left.rank - 2 if op.transpose_a else left.rank - 1
        spans = _spans(right.shape[rows], 4 * TEXTURE_ROWS)
        sums = [b.add(op, b.slice(left, terms, *span), b.slice(right, rows, *span)) for span in spans]
        for part in sums[1:]:
            sums[0] = b.add(ops.Add(), sums[0], part)
        return b.stand(sums[0])
    if inner * count <= TEXTURE_ROWS:
        return False
    values = [b.reshape(v, (1, count, *v.shape[-2:])) for v in (left, right)]
    spans = _spans(count, TEXTURE_ROWS // inner)
    products = [b.add(op, *(b.slice(v, 1, *span) for v in values)) for span in spans]
    return b.done(ops.Reshape(b.node.output.shape), join(b, products, 1))


def _spans(size: int, most: int) -> list[tuple[int, int]]:
    """(start, stop) of equal parts of at most ``most``; the last may be smaller."""
    each = math.ceil(size / math.ceil(size / most))
    return [(start, min(start + each, size)) for start in range(0, size, each)]


def _outer(b: Build) -> bool:
    """A column times a row: every pair of elements multiplied."""
    left, right = b.node.inputs
    *batch, height, width = b.node.output.shape
    column, row = b.reshape(left, (*batch, height, 1)), b.reshape(right, (*batch, 1, width))
    return b.done(ops.Mul(), column, row)


@clearing("axes of size 1 in front change no product")
def matmul_rank_4(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.MatMul) or b.node.output.rank > 4 or all(v.rank == 4 for v in b.node.inputs):
        return False
    inputs = [b.reshape(v, (1,) * (4 - v.rank) + v.shape) for v in b.node.inputs]
    if any(math.prod(v.shape[:2]) != math.prod(b.node.output.shape[:-2]) for v in inputs):
        return False
    return b.done(ops.Reshape(b.node.output.shape), b.add(op, *inputs))
