"""Decompositions of pixel shuffles, im2col and col2im; everything spatial is NHWC here."""

from __future__ import annotations

import math

import numpy as np

from instep.graph import Value, ops
from instep.graph.ops.images import window_counts
from instep.rewrite.lower.table import Build, decomposes

__all__ = ["FEW_CHANNELS", "spread"]

#: Up to so many channels a one-hot 1×1 convolution reorders faster than a transpose (docs/xnnpack-forms.md).
FEW_CHANNELS = 24
#: Windows of more places are cut out by slices: XNNPACK's depthwise kernels end at 25.
MANY_PLACES = 25


def _swap(b: Build, x: Value, outer: int, inner: int) -> Value:
    """Channels of x from the order (outer, inner) to (inner, outer); of a few, a convolution does it faster."""
    n, h, w, channels = x.shape
    if channels <= FEW_CHANNELS and x.dtype == "float32" and b.may("one-hot-channels"):
        order = np.arange(channels).reshape(outer, inner).T.reshape(-1)
        weight = np.eye(channels)[order].reshape(channels, 1, 1, channels)
        return b.add(ops.Conv2d(layout="NHWC"), x, b.constant(weight, "order"))
    split = b.reshape(x, (n * h * w, outer, inner))
    return b.reshape(b.add(ops.Permute((0, 2, 1)), split), x.shape)


@decomposes(ops.DepthToSpace)
def depth_to_space(b: Build) -> bool:
    """TFLite's channel order is DCR; CRD's channels are put in that order first."""
    op = b.node.op
    if op.layout != "NHWC" or op.order == "DCR":
        return False
    area = op.block * op.block
    channels = b.x.shape[3] // area
    x = b.x if channels == 1 else _swap(b, b.x, channels, area)
    return b.done(op.with_(order="DCR"), x)


@decomposes(ops.SpaceToDepth)
def space_to_depth(b: Build) -> bool:
    op = b.node.op
    if op.layout != "NHWC" or op.order == "DCR":
        return False
    area, channels = op.block * op.block, b.x.shape[3]
    native = op.with_(order="DCR")
    if channels == 1:
        return b.done(native, b.x)
    return b.done(ops.Reshape(b.node.output.shape), _swap(b, b.add(native, b.x), area, channels))


@decomposes(ops.Unfold2d)
def unfold2d(b: Build) -> bool:
    """Channel c·KH·KW + i·KW + j of a window is place (i, j) of channel c.

    Windows side by side are a space-to-depth; small ones a depthwise convolution with one-hot kernels, whose cost grows
    with the square of the places; large ones are cut out, the rows of all of them first, then the columns.
    """
    op = b.node.op
    if op.layout != "NHWC":
        return False
    channels = b.x.shape[3]
    kh, kw = op.kernel
    if kh * kw > MANY_PLACES:
        return _cut(b)
    kernels = np.tile(np.eye(kh * kw).reshape(kh * kw, kh, kw, 1), (channels, 1, 1, 1))
    conv = ops.Conv2d(op.stride, op.padding, op.dilation, channels, "NHWC")
    places = b.add(conv, b.x, b.constant(kernels, "places"))
    return b.done(ops.Reshape(b.node.output.shape), places)


def _cut(b: Build) -> bool:
    """The windows by slices: along each axis one for each window, or one for each place where those are fewer."""
    op, (n, *sizes, channels) = b.node.op, b.x.shape
    x = b.pad(b.x, ((0, 0), *op.padding, (0, 0)))
    counts = window_counts(sizes, op.kernel, op.stride, op.dilation, op.padding)
    for axis, (count, k, s, d) in enumerate(zip(counts, op.kernel, op.stride, op.dilation, strict=True), 1):
        whole, each = (count, k) if count <= k else (k, count)
        far, near = (s, d) if count <= k else (d, s)
        parts = [b.slice(x, axis, i * far, i * far + near * (each - 1) + 1, near) for i in range(whole)]
        x = parts[0] if len(parts) == 1 else b.add(ops.Concat(axis), *parts)
        if count > k:  # windows before places
            before, behind = x.shape[:axis], x.shape[axis + 1 :]
            split = b.reshape(x, (math.prod(before), k, count, math.prod(behind)))
            x = b.reshape(b.add(ops.Permute((0, 2, 1, 3)), split), (*before, count * k, *behind))
    (oh, ow), (kh, kw) = counts, op.kernel
    x = b.add(ops.Permute((0, 2, 1, 3)), b.reshape(x, (n * oh, kh, ow, kw * channels)))
    x = b.add(ops.Permute((0, 2, 1)), b.reshape(x, (n * oh * ow, kh * kw, channels)))
    return b.done(ops.Reshape(b.node.output.shape), x)


@decomposes(ops.Fold2d)
def fold2d(b: Build) -> bool:
    """A sum of shifted pixel shuffles: kernel place i = a·stride + d goes to row (window + a)·stride + d."""
    op = b.node.op
    if op.layout != "NHWC":
        return False
    n, _, depth = b.x.shape
    (oh, ow), (kh, kw), (sh, sw), (dh, dw) = op.windows(), op.kernel, op.stride, op.dilation
    channels = depth // (kh * kw)
    # Channels from (C, KH·KW) to (KH·KW, C): what goes to one place is then one slice.
    x = b.x
    if channels > 1 and kh * kw > 1:
        x = b.add(ops.Permute((0, 2, 1)), b.reshape(x, (n * oh * ow, channels, kh * kw)))
    # Channels of zeros behind them, for places that no kernel element reaches.
    x = b.reshape(x, (n, oh, ow, depth))
    if kh % sh or kw % sw or dh > 1 or dw > 1:
        x = b.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels)))
    blocks = [-(-(d * (k - 1) + 1) // s) for k, s, d in ((kh, sh, dh), (kw, sw, dw))]
    full = [(o + m - 1) * s for o, m, s in ((oh, blocks[0], sh), (ow, blocks[1], sw))]
    total: Value | None = None
    for i in range(blocks[0]):
        for j in range(blocks[1]):
            index = np.tile(depth + np.arange(channels), (sh, sw, 1))
            for y in range(sh):
                for z in range(sw):
                    p, q = i * sh + y, j * sw + z
                    if p % dh == 0 and q % dw == 0 and p // dh < kh and q // dw < kw:
                        index[y, z] = ((p // dh) * kw + q // dw) * channels + np.arange(channels)
            if np.all(index >= depth):
                continue
            part = b.add(ops.Gather(3), x, b.constant(index.reshape(-1), "places", "int32"))
            part = spread(b, part, sh, sw, channels)
            rows, cols = (i * sh, full[0] - oh * sh - i * sh), (j * sw, full[1] - ow * sw - j * sw)
            part = b.pad(part, ((0, 0), rows, cols, (0, 0)))
            total = part if total is None else b.add(ops.Add(), total, part)
    assert total is not None
    (top, _), (left, _) = op.padding
    h, w = op.output_size
    short = (max(top + h - full[0], 0), max(left + w - full[1], 0))
    total = b.pad(total, ((0, 0), (0, short[0]), (0, short[1]), (0, 0)))
    total = b.slice(b.slice(total, 1, top, top + h), 2, left, left + w)
    return b.stand(total)


def spread(b: Build, x: Value, sh: int, sw: int, channels: int) -> Value:
    """[N, H, W, (sh, sw, C)] → [N, H·sh, W·sw, C]."""
    n, h, w, _ = x.shape
    if sh == sw:
        return x if sh == 1 else b.add(ops.DepthToSpace(sh, "DCR", "NHWC"), x)
    rows = b.reshape(x, (n * h, w, sh, sw * channels))
    return b.reshape(b.add(ops.Permute((0, 2, 1, 3)), rows), (n, h * sh, w * sw, channels))
