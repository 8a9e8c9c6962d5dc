"""Decompositions of normalisations."""

from __future__ import annotations

import numpy as np

from instep.graph import Value, ops
from instep.rewrite.lower.table import Build, decomposes

__all__ = ["scale_and_shift"]


def scale_and_shift(b: Build, x: Value, scale: np.ndarray, shift: np.ndarray) -> bool:
    """x · scale + shift as the node's result; both broadcast to x."""
    if np.all(scale == 1) and np.all(shift == 0):
        return b.stand(x)
    if np.all(scale == 1):
        return b.done(ops.Add(), x, b.constant(shift, "shift"))
    if np.all(shift == 0):
        return b.done(ops.Mul(), x, b.constant(scale, "scale"))
    return b.done(ops.Add(), b.add(ops.Mul(), x, b.constant(scale, "scale")), b.constant(shift, "shift"))


def _finish(b: Build, x: Value, weight: Value, bias: Value, shape: tuple[int, ...]) -> bool:
    """x · weight + bias with both viewed as ``shape``; constants or computed."""
    w, c = b.edit.array(weight), b.edit.array(bias)
    if w is not None and c is not None:
        return scale_and_shift(b, x, w.reshape(shape), c.reshape(shape))
    return b.done(ops.Add(), b.add(ops.Mul(), x, b.reshape(weight, shape)), b.reshape(bias, shape))


def _inverse_root(b: Build, variance: Value, eps: float) -> Value:
    return b.add(ops.Rsqrt(), b.add(ops.Add(), variance, b.constant(eps, "eps")))


@decomposes(ops.Add)
def scaled_add(b: Build) -> bool:
    """x · s + t per channel is a depthwise 1×1 convolution: XNNPACK makes one pass of it (docs/xnnpack-forms.md)."""
    for position in (0, 1) if b.may("fuse-scale-and-shift") else ():
        maker = b.edit.maker(b.node.inputs[position], ops.Mul)
        shift = b.array(1 - position)
        if maker is None or shift is None or maker.op.activation or maker.output.shape != b.node.output.shape:
            continue
        if b.edit.only_user(maker.output) is None or b.node.output.dtype != "float32":
            continue
        for side in (0, 1):
            scale = b.edit.array(maker.inputs[side])
            x = maker.inputs[1 - side]
            if scale is not None and b.edit.array(x) is None and _per_channel(x, scale) and _per_channel(x, shift):
                channels = x.shape[3]
                weight = np.ascontiguousarray(np.broadcast_to(scale.reshape(-1, 1, 1, 1), (channels, 1, 1, 1)))
                bias = np.ascontiguousarray(np.broadcast_to(shift.reshape(-1), (channels,)))
                conv = ops.Conv2d(groups=channels, layout="NHWC", activation=b.node.op.activation)
                return b.done(conv, x, b.constant(weight, "scale"), b.constant(bias, "shift"))
    return False


def _per_channel(x: Value, array: np.ndarray) -> bool:
    """Whether ``array`` holds a number, or one for each channel, of the image x [N, H, W, C] with C > 1."""
    channels = x.shape[-1]
    last = array.shape[-1] if array.ndim else 1
    return x.rank == 4 and channels > 1 and array.ndim <= 4 and array.size == last and last in (1, channels)


@decomposes(ops.BatchNorm)
def batch_norm(b: Build) -> bool:
    """x · s + (bias - mean · s) with s = weight / √(var + eps), computed in float64."""
    op = b.node.op
    vectors = [b.array(i) for i in range(1, 5)]
    shape = [n if i == op.axis else 1 for i, n in enumerate(b.x.shape)]
    if all(v is not None for v in vectors):
        weight, bias, mean, var = (np.asarray(v, np.float64) for v in vectors)
        scale = weight / np.sqrt(var + op.eps)
        return scale_and_shift(b, b.x, scale.reshape(shape), (bias - mean * scale).reshape(shape))
    weight, bias, mean, var = (b.reshape(v, shape) for v in b.node.inputs[1:])
    centred = b.add(ops.Sub(), b.x, mean)
    scaled = b.add(ops.Mul(), centred, b.add(ops.Mul(), _inverse_root(b, var, op.eps), weight))
    return b.done(ops.Add(), scaled, bias)


@decomposes(ops.LayerNorm)
def layer_norm(b: Build) -> bool:
    """The two-pass form: subtract the mean, then divide by the root of the mean square of what is left."""
    op = b.node.op
    centred = b.add(ops.Sub(), b.x, b.add(ops.ReduceMean(op.axes, True), b.x))
    variance = b.add(ops.ReduceMean(op.axes, True), b.add(ops.Mul(), centred, centred))
    normal = b.add(ops.Mul(), centred, _inverse_root(b, variance, op.eps))
    shape = tuple(n if i in op.axes else 1 for i, n in enumerate(b.x.shape))
    return _finish(b, normal, b.node.inputs[1], b.node.inputs[2], shape)


@decomposes(ops.RmsNorm)
def rms_norm(b: Build) -> bool:
    op = b.node.op
    square = b.add(ops.ReduceMean(op.axes, True), b.add(ops.Mul(), b.x, b.x))
    normal = b.add(ops.Mul(), b.x, _inverse_root(b, square, op.eps))
    shape = tuple(n if i in op.axes else 1 for i, n in enumerate(b.x.shape))
    return b.done(ops.Mul(), normal, b.reshape(b.node.inputs[1], shape))


@decomposes(ops.GroupNorm)
def group_norm(b: Build) -> bool:
    """With channels last, the means over places are averaged within groups by a small matrix: no reshape of x."""
    op, x = b.node.op, b.x
    channels = x.shape[op.axis]
    if op.axis not in (1, x.rank - 1) and op.groups not in (1, channels):
        there = (*(a for a in range(x.rank) if a != op.axis), op.axis)
        normal = b.add(ops.GroupNorm(op.groups, op.eps, x.rank - 1), b.add(ops.Permute(there), x), *b.node.inputs[1:])
        return b.done(ops.Permute(tuple(np.argsort(there).tolist())), normal)
    if op.axis == 1 != x.rank - 1:
        flat = b.reshape(x, (x.shape[0], op.groups, x.size // (x.shape[0] * op.groups)))
        ones, zeros = np.ones(flat.shape[2]), np.zeros(flat.shape[2])
        normal = b.add(ops.LayerNorm((2,), op.eps), flat, b.constant(ones, "ones"), b.constant(zeros, "zeros"))
        shape = tuple(n if i == op.axis else 1 for i, n in enumerate(x.shape))
        return _finish(b, b.reshape(normal, x.shape), b.node.inputs[1], b.node.inputs[2], shape)
    axes = tuple(a for a in range(1, x.rank) if op.groups == 1 or a != op.axis)

    def average(value: Value) -> Value:
        """Mean over the places and the group, as [N, 1, …, C] (or [N, 1, …, 1] for a single group)."""
        mean = b.add(ops.ReduceMean(axes, True), value) if axes else value
        if op.groups in (1, channels):
            return mean
        size = channels // op.groups
        block = np.kron(np.eye(op.groups), np.full((size, size), 1 / size))
        return b.add(ops.Linear(), mean, b.constant(block, "groups"))

    centred = b.add(ops.Sub(), x, average(x))
    inverse = _inverse_root(b, average(b.add(ops.Mul(), centred, centred)), op.eps)
    shape = tuple(channels if a == op.axis else 1 for a in range(x.rank))
    scale = b.add(ops.Mul(), inverse, b.reshape(b.node.inputs[1], shape))
    scaled = b.add(ops.Mul(), centred, scale)
    return b.done(ops.Add(), scaled, b.reshape(b.node.inputs[2], shape))
