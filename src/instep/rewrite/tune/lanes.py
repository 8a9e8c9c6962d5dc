"""Convolutions whose output channels leave lanes of the processor idle: the same products, laid out to fill them.

For processors with wide vectors only (XNNPACK on AVX-512 computes 16 or 32 output channels at a time). On Arm, with 8,
and on GPUs it would only add operators: the rewrite runs when it is asked for (``tune="avx512"``).
"""

from __future__ import annotations

import numpy as np

from instep.graph import ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.lower.table import Build

__all__ = ["fill_lanes"]

#: XNNPACK computes so many output channels at a time with AVX-512 when there are few, twice as many else.
LANES = 16
#: Nanoseconds for each product of the kernel's length with up to 16, with 17 to 31, and with each 32 output channels;
#: and for each number that a join or slice copies (docs/xnnpack-forms.md). Only their ratios matter.
FEW, SOME, EACH, COPY = 0.17, 0.34, 0.26, 0.085
#: What is saved has to be this part of the convolution's time, and this many nanoseconds.
WORTH, LEAST = 0.08, 20_000


@rewrite("each output channel is computed by the same products; zeros beside them change nothing")
def fill_lanes(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Conv2d):
        weight = edit.array(node.inputs[1])
        if weight is None or node.op.groups > 1 or node.op.layout != "NHWC" or node.inputs[0].dtype != "float32":
            continue
        build = Build(edit, node)
        changed |= _side_by_side(build, weight) or _whole_lanes(build, weight)
    return changed


def _packs(out: int, kernel: int, columns: int) -> int:
    """How many neighbouring columns fit the lanes side by side: the largest number that divides the width, or 1."""
    fitting = [p for p in range(2, LANES // out + 1) if columns % p == 0]
    return fitting[-1] if fitting and kernel >= 3 else 1


def _side_by_side(b: Build, weight: np.ndarray) -> bool:
    """Few output channels: neighbouring columns are computed together, as channels of a wider kernel with a larger
    stride. [N, H, W / p, p · O] is [N, H, W, O] in memory, so nothing is moved afterwards."""
    op = b.node.op
    out, kh, kw, channels = weight.shape
    n, oh, ow, _ = b.node.output.shape
    pack, stride = _packs(out, kw, ow), op.stride[1]
    if op.dilation[1] != 1 or pack == 1 or n * oh * ow < 1024:
        return False
    wide = np.zeros((pack, out, kh, kw + stride * (pack - 1), channels), weight.dtype)
    for i in range(pack):
        wide[i, :, :, i * stride : i * stride + kw] = weight
    bias = [b.constant(np.tile(v, pack), "bias") for v in (b.array(2),) if v is not None]
    if wide.shape[3] > b.x.shape[2] + sum(op.padding[1]) or len(bias) != len(b.node.inputs) - 2:
        return False
    flat = b.constant(wide.reshape(pack * out, *wide.shape[2:]), "side_by_side")
    made = b.add(op.with_(stride=(op.stride[0], stride * pack)), b.x, flat, *bias)
    return b.done(ops.Reshape(b.node.output.shape), made)


def _cost(out: int) -> float:
    return FEW if out <= LANES else SOME if out < 2 * LANES else EACH * -(-out // (2 * LANES))


def _whole_lanes(b: Build, weight: np.ndarray) -> bool:
    """Channels beyond a multiple of 32 are computed apart, and 25 to 31 channels as 32, where that saves time."""
    op = b.node.op
    out, kh, kw, channels = weight.shape
    n, oh, ow, _ = b.node.output.shape
    length, places = kh * kw * channels, n * oh * ow
    if len(b.node.inputs) > 2 and b.array(2) is None:
        return False
    bias = b.array(2) if len(b.node.inputs) > 2 else np.zeros(out, np.float32)
    assert bias is not None

    def worth(after: float) -> bool:
        saved = (_cost(out) - after) * length - COPY * out
        return saved > WORTH * _cost(out) * length and saved * places > LEAST

    if 24 < out < 2 * LANES:
        if not worth(EACH):
            return False
        more = 2 * LANES - out
        full = np.concatenate([weight, np.zeros((more, kh, kw, channels), weight.dtype)])
        shift = np.concatenate([bias, np.zeros(more, bias.dtype)])
        made = b.add(op, b.x, b.constant(full, "full"), b.constant(shift, "bias"))
        return b.done(ops.Slice((0,) * 4, b.node.output.shape, (1,) * 4), made)
    base = LANES if LANES < out <= 24 else out - out % (2 * LANES)
    rest = out - base
    if base == 0 or not 0 < rest <= LANES:
        return False
    pack = _packs(rest, kw, ow) if op.dilation[1] == 1 else 1
    if not worth(_cost(base) + FEW * (kw + pack - 1) / (pack * kw)):
        return False
    parts = [
        b.add(op, b.x, b.constant(weight[i:j], "part"), b.constant(bias[i:j], "bias"))
        for i, j in ((0, base), (base, out))
    ]
    return b.done(ops.Concat(3), *parts)
