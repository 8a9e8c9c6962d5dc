"""Volumetric convolutions as plane ones, on four axes: XNNPACK and GPUs have no CONV_3D."""

from __future__ import annotations

import numpy as np

from instep.graph import Value, ops
from instep.rewrite.lower.table import Build, decomposes

__all__: list[str] = []


@decomposes(ops.Conv3d)
def conv3d(b: Build) -> bool:
    """Frames are a batch of planes: a kernel of one frame is a plane convolution, one of more is a sum of such."""
    op, weight = b.node.op, b.array(1)
    if op.layout != "NHWC" or weight is None:
        return False
    if weight.shape[2:4] == (1, 1) and op.stride[1:] == (1, 1) and not any(map(any, op.padding[1:])):
        return _along_frames(b, weight)
    if op.groups == 1:
        return _frames_as_channels(b, weight)
    return _sum_of_frames(b, weight)


def _along_frames(b: Build, weight: np.ndarray) -> bool:
    """[KD, 1, 1]: height and width are one axis, on which the kernel is 1."""
    op = b.node.op
    n, d, h, w, c = b.x.shape
    plane = ops.Conv2d(
        (op.stride[0], 1), (op.padding[0], (0, 0)), (op.dilation[0], 1), op.groups, "NHWC", op.activation
    )
    flat = weight.reshape(weight.shape[0], weight.shape[1], 1, weight.shape[4])
    y = b.add(plane, b.reshape(b.x, (n, d, h * w, c)), b.constant(flat, "weight"), *b.node.inputs[2:])
    return b.done(ops.Reshape(b.node.output.shape), y)


def _frames(b: Build, padded: Value, tap: int) -> Value:
    """The frames [N·D', H, W, C] that this tap of the kernel meets; ``padded`` is [N, D + pads, H·W·C]."""
    op = b.node.op
    n, _, h, w, c = b.x.shape
    out = b.node.output.shape[1]
    start, stride = tap * op.dilation[0], op.stride[0]
    met = b.slice(padded, 1, start, start + (out - 1) * stride + 1, stride)
    return b.reshape(met, (n * out, h, w, c))


def _padded(b: Build) -> Value:
    n, d, h, w, c = b.x.shape
    return b.pad(b.reshape(b.x, (n, d, h * w * c)), ((0, 0), b.node.op.padding[0], (0, 0)))


def _plane(b: Build, activation: str) -> ops.Conv2d:
    op = b.node.op
    return ops.Conv2d(op.stride[1:], op.padding[1:], op.dilation[1:], op.groups, "NHWC", activation)


def _frames_as_channels(b: Build, weight: np.ndarray) -> bool:
    """The frames that a kernel sees at once, side by side as channels of one plane convolution."""
    o, kd, kh, kw, c = weight.shape
    padded = _padded(b)
    met = [_frames(b, padded, tap) for tap in range(kd)]
    joined = met[0] if kd == 1 else b.add(ops.Concat(3), *met)
    wide = np.ascontiguousarray(weight.transpose(0, 2, 3, 1, 4)).reshape(o, kh, kw, kd * c)
    y = b.add(_plane(b, b.node.op.activation), joined, b.constant(wide, "weight"), *b.node.inputs[2:])
    return b.done(ops.Reshape(b.node.output.shape), y)


def _sum_of_frames(b: Build, weight: np.ndarray) -> bool:
    """Channels in groups would not stay neighbours side by side: one plane convolution for each tap, added up."""
    op, taps = b.node.op, weight.shape[1]
    padded = _padded(b)
    total: Value | None = None
    for tap in range(taps):
        last = tap == taps - 1
        kernel = b.constant(np.ascontiguousarray(weight[:, tap]), f"weight.{tap}")
        bias = b.node.inputs[2:] if tap == 0 else ()
        y = b.add(_plane(b, op.activation if taps == 1 else ""), _frames(b, padded, tap), kernel, *bias)
        total = y if total is None else b.add(ops.Add(op.activation if last else ""), total, y)
    assert total is not None
    return b.done(ops.Reshape(b.node.output.shape), total)
