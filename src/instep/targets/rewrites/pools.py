"""Pools for targets that lose pads, or start a maximum at some number."""

from __future__ import annotations

import math

import numpy as np

from instep.graph import ops
from instep.rewrite.lower.table import Build
from instep.targets.rewrites.table import Target, clearing

__all__: list[str] = []

#: Every engine's maximum holds for values from here up, whatever number it starts at.
START = -1024.0


@clearing("a mean over windows is a depthwise convolution with a constant kernel; a pad's zeros are counted in both")
def spell_average_pool(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.AvgPool2d) or op.layout != "NHWC" or any(op.overhang):
        return False
    if any(map(any, op.padding)) and not op.count_include_pad:
        return False
    channels = b.x.shape[3]
    kernel = b.constant(np.full((channels, *op.kernel, 1), 1 / np.prod(op.kernel)), "mean")
    conv = ops.Conv2d(op.stride, op.padding, groups=channels, layout="NHWC", activation=op.activation)
    return b.done(conv, b.x, kernel)


@clearing("a maximum with 0 at the border is a maximum over the window's rows and columns that a join with zeros holds")
def spell_padded_maximum(b: Build, target: Target) -> bool:
    """The PAD before the pool is written as joins, which nothing fuses into the pool."""
    pad = b.edit.maker(b.x, ops.Pad)
    if not isinstance(b.node.op, ops.MaxPool2d) or pad is None or pad.op.mode != "constant" or pad.op.value != 0:
        return False
    x = pad.inputs[0]
    for axis, sizes in enumerate(pad.op.pads):
        shapes = [(*x.shape[:axis], size, *x.shape[axis + 1 :]) for size in sizes]
        borders = [[b.constant(np.zeros(s), "border")] if s[axis] else [] for s in shapes]
        if any(borders):
            x = b.add(ops.Concat(axis), *borders[0], x, *borders[1])
    return b.done(b.node.op, x)


@clearing("the largest of x/k, times k, is the largest of x: a power of two divides and multiplies exactly")
def scale_before_pool(b: Build, target: Target) -> bool:
    op, lowest = b.node.op, target.lowest.get(b.node.output.name, 0.0)
    if not isinstance(op, ops.MaxPool2d) or lowest >= START:
        return False
    k = 2.0 ** math.ceil(math.log2(lowest / START))
    scaled = b.add(ops.Mul(), b.x, b.constant(1 / k, "scale"))
    pooled = b.add(op.with_(activation=""), scaled)
    return b.done(ops.Mul(op.activation), pooled, b.constant(k, "back"))
