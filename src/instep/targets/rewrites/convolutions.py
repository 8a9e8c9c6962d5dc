"""Convolutions that a target lacks or computes wrongly: groups, long strides, multipliers, what is cropped or fused."""

from __future__ import annotations

import math

import numpy as np

from instep.emit.tflite.spatial import same_pads
from instep.graph import Value, ops
from instep.graph.operator import Operator
from instep.rewrite.lower.table import Build
from instep.targets.rewrites.table import Target, clearing

__all__ = ["parts_of_groups"]

#: What the choice between slices and a denser kernel counts with: multiply-accumulates and bytes per second, seconds
#: for one more operator. Their ratios matter, and hold within a factor of two on one CPU core and on phone GPUs.
MAC_RATE, BYTE_RATE, DISPATCH = 3e10, 4e9, 8e-6
#: Kernels compute channels in such bundles; a group of fewer wastes the rest.
BUNDLE = 4
#: At most so many groups are merged: each zero is multiplied, too.
MOST_MERGED = 4


def parts_of_groups(macs: int, groups: int, channels: tuple[int, int], moved: int) -> int:
    """How many convolutions a grouped one becomes: 1 is one dense kernel filled up with zeros, ``groups`` one each.

    ``channels``: input and output channels of one group; ``moved``: bytes of the input and the output.
    """

    def seconds(parts: int) -> float:
        merged = groups // parts
        full = [math.ceil(n * merged / BUNDLE) * BUNDLE / (n * merged) for n in channels]
        work = macs * merged * full[0] * full[1] / MAC_RATE
        # the slices read and write the input once more, the join the output
        return work + (2 * moved / BYTE_RATE + 2 * parts * DISPATCH if parts > 1 else DISPATCH)

    return min((p for p in range(1, groups + 1) if groups % p == 0), key=seconds)


@clearing("groups side by side are one group whose kernel is zero between them")
def merge_groups(b: Build, target: Target) -> bool:
    """Few groups together until input and output channels are bundles, where the target computes such groups."""
    op, weight = b.node.op, b.array(1)
    if not isinstance(op, ops.Conv2d) or op.layout != "NHWC" or op.groups == 1 or weight is None:
        return False
    each, per_group = weight.shape[0] // op.groups, weight.shape[3]
    fits = (m for m in range(2, MOST_MERGED + 1) if op.groups % m == 0 and op.groups > m)
    merged = next((m for m in fits if m * each % BUNDLE == 0 and m * per_group % BUNDLE == 0), None)
    if merged is None:
        return False
    kernel = np.concatenate([_side_by_side(part, merged) for part in np.split(weight, op.groups // merged)])
    inputs = [b.x, b.constant(kernel, "merged"), *b.node.inputs[2:]]
    return b.done(op.with_(groups=op.groups // merged), *inputs)


@clearing("a grouped convolution computes each group by itself; zeros between the groups add nothing")
def split_groups(b: Build, target: Target) -> bool:
    op, weight, bias = b.node.op, b.array(1), b.array(2)
    if not isinstance(op, ops.Conv2d) or op.layout != "NHWC" or op.groups == 1:
        return False
    out, _, _, per_group = b.node.inputs[1].shape
    if len(b.node.inputs) > 2 and bias is None:
        return False
    each = out // op.groups
    moved = (b.x.nbytes + b.node.output.nbytes) if target.has("SLICE", "CONCATENATION") else 1 << 60
    macs = b.node.output.size * math.prod(b.node.inputs[1].shape[1:])
    # a kernel that is computed is cut, one that is known may be filled up with zeros too
    parts = op.groups if weight is None else parts_of_groups(macs, op.groups, (per_group, each), moved)
    merged = op.groups // parts
    source, padded = b.x, op
    if parts > 1 and not _is_same(b):
        # once for all, where each part would need a PAD of its own
        source, padded = b.pad(b.x, ((0, 0), *op.padding, (0, 0))), op.with_(padding=((0, 0), (0, 0)))
    results = []
    for p in range(parts):
        first, last = p * merged * each, (p + 1) * merged * each
        if weight is None:
            kernel = b.slice(b.node.inputs[1], 0, first, last)
        else:
            kernel = b.constant(_side_by_side(weight[first:last], merged), "group")
        inputs = [b.slice(source, 3, p * merged * per_group, (p + 1) * merged * per_group), kernel]
        if bias is not None:
            inputs.append(b.constant(bias[first:last], "bias"))
        if parts == 1:
            return b.done(op.with_(groups=1), *inputs)
        results.append(b.add(padded.with_(groups=1), *inputs))
    return b.done(ops.Concat(3), *results)


def _side_by_side(weight: np.ndarray, groups: int) -> np.ndarray:
    """The kernel [O, KH, KW, I/g] of ``groups`` groups as that of one group, zero between them."""
    each, per_group = weight.shape[0] // groups, weight.shape[3]
    kernel = np.zeros((*weight.shape[:3], groups * per_group), weight.dtype)
    for g in range(groups):
        rows = slice(g * each, (g + 1) * each)
        kernel[rows, :, :, g * per_group : (g + 1) * per_group] = weight[rows]
    return kernel


def _is_same(b: Build) -> bool:
    """Whether the node's pads are what TFLite calls SAME, which costs nothing."""
    op, kernel = b.node.op, b.node.inputs[1].shape[1:3]
    sizes = zip(b.x.shape[1:3], kernel, op.stride, op.dilation, strict=True)
    return not any(map(any, op.padding)) or tuple(same_pads(*of) for of in sizes) == op.padding


@clearing("stride s1·s2 reads every s1-th place of each of s1 phases, s2 apart; a one-hot kernel makes phases channels")
def split_stride(b: Build, target: Target) -> bool:
    op, weight = b.node.op, b.array(1)
    if not isinstance(op, ops.Conv2d) or op.layout != "NHWC" or weight is None:
        return False
    if op.dilation != (1, 1) or (op.groups > 1 and weight.shape[3] == 1):
        return _subsampled(b)
    if op.groups > 1:
        return False
    first = tuple(_factor(s) for s in op.stride)
    if first == (1, 1):
        return _subsampled(b)
    out, *kernel, channels = weight.shape
    second = [s // f for s, f in zip(op.stride, first, strict=True)]
    taps = [-(-k // f) for k, f in zip(kernel, first, strict=True)]
    wide = np.zeros((out, taps[0] * first[0], taps[1] * first[1], channels), weight.dtype)
    wide[:, : kernel[0], : kernel[1]] = weight
    phases = wide.reshape(out, taps[0], first[0], taps[1], first[1], channels).transpose(0, 1, 3, 2, 4, 5)
    phases = np.ascontiguousarray(phases.reshape(out, *taps, first[0] * first[1] * channels))
    sizes = b.node.output.shape[1:3]
    rows = [s2 * (o - 1) + t for s2, o, t in zip(second, sizes, taps, strict=True)]
    pads = [(p[0], f * r - p[0] - n)
            for p, f, r, n in zip(op.padding, first, rows, b.x.shape[1:3], strict=True)]  # fmt: skip
    x = b.x
    for axis, (_, after) in enumerate(pads, start=1):
        x = b.slice(x, axis, 0, x.shape[axis] + min(after, 0))
    x = b.pad(x, ((0, 0), *((before, max(after, 0)) for before, after in pads), (0, 0)))
    one_hot = np.eye(first[0] * first[1] * channels).reshape(-1, first[0], first[1], channels)
    shuffled = b.add(ops.Conv2d(first, layout="NHWC"), x, b.constant(one_hot, "phases"))  # type: ignore[arg-type]
    last = ops.Conv2d(tuple(second), layout="NHWC", activation=op.activation)  # type: ignore[arg-type]
    return b.done(last, shuffled, b.constant(phases, "spread"), *b.node.inputs[2:])


def _factor(stride: int) -> int:
    """The smallest prime factor, 1 for a prime."""
    return next((f for f in range(2, stride) if stride % f == 0), 1)


def _subsampled(b: Build) -> bool:
    """Every place, then every s-th of the result."""
    op = b.node.op
    if op.stride == (1, 1):
        return False
    oh, ow = b.node.output.shape[1:3]
    whole = op.with_(stride=(1, 1))
    full: Value = b.add(whole, *b.node.inputs)
    steps = (1, *op.stride, 1)
    stops = (full.shape[0], (oh - 1) * op.stride[0] + 1, (ow - 1) * op.stride[1] + 1, full.shape[3])
    return b.done(ops.Slice((0, 0, 0, 0), stops, steps), full)


@clearing("each channel copied first, then filtered by a kernel of its own")
def spell_multiplier(b: Build, target: Target) -> bool:
    op, weight = b.node.op, b.array(1)
    if not isinstance(op, ops.Conv2d) or op.layout != "NHWC" or weight is None or weight.shape[3] != 1:
        return False
    copies = weight.shape[0] // op.groups
    if copies < 2:
        return False
    one_hot = np.repeat(np.eye(op.groups), copies, 0)[:, None, None, :]
    x = b.add(ops.Conv2d(layout="NHWC"), b.x, b.constant(one_hot, "copies"))
    return b.done(op.with_(groups=op.groups * copies), x, *b.node.inputs[1:])


@clearing("what is computed and then cut off is the same wherever it is cut off")
def crop_after(b: Build, target: Target) -> bool:
    """A transposed convolution in full, and a slice of it."""
    op, out = b.node.op, b.node.output.shape
    if not isinstance(op, ops.ConvTranspose2d) or op.layout != "NHWC":
        return False
    crops = [(a, z - more) for (a, z), more in zip(op.padding, op.output_padding, strict=True)]
    if not any(map(any, crops)) or min(map(min, crops)) < 0:
        return False
    full = b.add(op.with_(padding=((0, 0), (0, 0)), output_padding=(0, 0)), *b.node.inputs)
    starts = (0, crops[0][0], crops[1][0], 0)
    stops = tuple(start + size for start, size in zip(starts, out, strict=True))
    return b.done(ops.Slice(starts, stops, (1, 1, 1, 1)), full)


_ACTIVATIONS: dict[str, Operator] = {
    "relu": ops.Relu(),
    "relu6": ops.Clip(0.0, 6.0),
    "relu_n1_to_1": ops.Clip(-1.0, 1.0),
}


@clearing("a fused activation is applied to the finished values")
def unfuse_activation(b: Build, target: Target) -> bool:
    op = b.node.op
    activation = _ACTIVATIONS.get(getattr(op, "activation", ""))
    if activation is None:
        return False
    return b.done(activation, b.add(op.with_(activation=""), *b.node.inputs))


@clearing("a bias is added to the finished sums")
def add_bias_after(b: Build, target: Target) -> bool:
    op = b.node.op
    if not isinstance(op, ops.Conv2d | ops.Linear) or len(b.node.inputs) < 3 or getattr(op, "layout", "NHWC") != "NHWC":
        return False
    sums = b.add(op.with_(activation=""), *b.node.inputs[:2])
    return b.done(ops.Add(op.activation), sums, b.node.inputs[2])
