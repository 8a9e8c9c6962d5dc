"""Decompositions of convolutions that TFLite has only in part."""

from __future__ import annotations

import numpy as np

from instep.graph import Value, ops
from instep.rewrite.lower.table import Build, decomposes

__all__: list[str] = []


def zero_stuffed(b: Build, x: Value, stride: tuple[int, int]) -> Value:
    """x [N, H, W, C] with stride - 1 zeros after every row and column: [N, H·sh, W·sw, C]."""
    n, h, w, c = x.shape
    sh, sw = stride
    if sw > 1:
        x = b.pad(b.reshape(x, (n * h, w, 1, c)), ((0, 0), (0, 0), (0, sw - 1), (0, 0)))
    if sh > 1:
        x = b.pad(b.reshape(x, (n, h, 1, w * sw * c)), ((0, 0), (0, 0), (0, sh - 1), (0, 0)))
    return b.reshape(x, (n, h * sh, w * sw, c))


@decomposes(ops.ConvTranspose2d)
def conv_transpose2d(b: Build) -> bool:
    """TRANSPOSE_CONV has neither groups nor dilation: convolve the zero-stuffed input with the flipped kernel."""
    op = b.node.op
    if op.layout != "NHWC" or (op.groups == 1 and op.dilation == (1, 1) and op.stride != (1, 1)):
        return False
    weight = b.array(1)
    if weight is None:
        return False
    c, kh, kw, per_group = weight.shape
    # [C, KH, KW, O/g] → [O, KH, KW, C/g], kernel flipped
    grouped = weight[:, ::-1, ::-1].reshape(op.groups, c // op.groups, kh, kw, per_group)
    flipped = grouped.transpose(0, 4, 2, 3, 1).reshape(op.groups * per_group, kh, kw, c // op.groups)
    stuffed = zero_stuffed(b, b.x, op.stride)
    pads = []
    for axis in range(2):
        span = op.dilation[axis] * ((kh, kw)[axis] - 1)
        before, after = op.padding[axis]
        # The stuffing already holds stride - 1 of the zeros behind the last row.
        pads.append((span - before, span - after + op.output_padding[axis] - (op.stride[axis] - 1)))
    for axis, (before, after) in enumerate(pads, start=1):
        stuffed = b.slice(stuffed, axis, max(-before, 0), stuffed.shape[axis] - max(-after, 0))
    padding = tuple((max(p, 0), max(q, 0)) for p, q in pads)
    conv = ops.Conv2d((1, 1), padding, op.dilation, op.groups, "NHWC", op.activation)  # type: ignore[arg-type]
    return b.done(conv, stuffed, b.constant(np.ascontiguousarray(flipped), "flipped"), *b.node.inputs[2:])


@decomposes(ops.Conv3d)
def conv3d(b: Build) -> bool:
    """CONV_3D has no groups: one convolution for each, joined on the channels."""
    op = b.node.op
    if op.layout != "NHWC" or op.groups == 1:
        return False
    weight = b.array(1)
    if weight is None:
        return False
    c, o = weight.shape[4], weight.shape[0] // op.groups
    bias = b.array(2)
    parts = []
    for g in range(op.groups):
        inputs = [b.slice(b.x, 4, g * c, (g + 1) * c), b.constant(weight[g * o : (g + 1) * o], "weight")]
        if bias is not None:
            inputs.append(b.constant(bias[g * o : (g + 1) * o], "bias"))
        parts.append(b.add(op.with_(groups=1), *inputs))
    return b.done(ops.Concat(4), *parts)
