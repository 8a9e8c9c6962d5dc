"""Decompositions of convolutions that TFLite has only in part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from instep.graph import Value, ops
from instep.rewrite.lower.shuffles import spread
from instep.rewrite.lower.table import Build, decomposes

__all__ = ["absorb_repeats"]

#: A transposed convolution keeps its operator where its phases would add more bytes than this to the file.
HEAVIER = 4 << 20


def zero_stuffed(b: Build, x: Value, stride: tuple[int, int]) -> Value:
    """x [N, H, W, C] with stride - 1 zeros after every row and column: [N, H·sh, W·sw, C]."""
    n, h, w, c = x.shape
    sh, sw = stride
    if sw > 1:
        x = b.pad(b.reshape(x, (n * h, w, 1, c)), ((0, 0), (0, 0), (0, sw - 1), (0, 0)))
    if sh > 1:
        x = b.pad(b.reshape(x, (n, h, 1, w * sw * c)), ((0, 0), (0, 0), (0, sh - 1), (0, 0)))
    return b.reshape(x, (n, h * sh, w * sw, c))


#: XNNPACK's depthwise kernels hold up to so many taps; beyond, it computes each channel as a group of its own, some
#: 25 times slower (docs/xnnpack-forms.md).
TAPS = 25
#: Up to so many channels, copies for a depthwise multiplier are made by a 1×1 convolution.
REPEATED_CHANNELS = 128
#: Most channels of a depthwise convolution: TensorFlow's own kernel never ends with more (it adds up as many places at
#: once as fit ``kAccBufferMaxSize`` floats, and none do; depthwiseconv_float.h of tensorflow/lite/kernels).
MOST_DEPTHWISE = 4832


@decomposes(ops.Conv2d)
def conv2d(b: Build) -> bool:
    op = b.node.op
    weight = b.array(1)
    if op.layout != "NHWC" or weight is None or b.x.dtype != "float32":
        return False
    out, kh, kw, per_group = weight.shape
    if op.groups > 1 and per_group == 1:
        if out > MOST_DEPTHWISE:
            return _many_depthwise(b, weight)
        if kh * kw > TAPS and b.may("split-depthwise"):
            return _large_depthwise(b, weight)
        few = 1 < out // op.groups <= 4 and op.groups <= REPEATED_CHANNELS
        if few and kh * kw > 1 and b.may("copy-channels"):
            return _multiplied_depthwise(b, out // op.groups)
        return False
    return False


def _many_depthwise(b: Build, weight: np.ndarray) -> bool:
    """The channels in parts, side by side."""
    op = b.node.op
    multiplier = len(weight) // op.groups
    count = -(-len(weight) // MOST_DEPTHWISE)
    each = -(-op.groups // count)
    if each * multiplier > MOST_DEPTHWISE:
        return False
    parts = []
    for start in range(0, op.groups, each):
        stop = min(start + each, op.groups)
        of = slice(start * multiplier, stop * multiplier)
        x, kernel = b.slice(b.x, 3, start, stop), b.constant(weight[of], "part")
        if (array := b.array(2)) is not None:
            bias = [b.constant(array[of], "bias")]
        else:
            bias = [b.slice(v, 0, of.start, of.stop) for v in b.node.inputs[2:]]
        parts.append(b.add(op.with_(groups=stop - start), x, kernel, *bias))
    return b.done(ops.Concat(3), *parts)


def _large_depthwise(b: Build, weight: np.ndarray) -> bool:
    """A sum of dilated kernels: rows and columns are dealt out by their remainder, each part with its own pads."""
    op = b.node.op
    _, kh, kw, _ = weight.shape
    choices = [(i, j) for i in range(1, kh + 1) for j in range(1, kw + 1) if -(-kh // i) * -(-kw // j) <= TAPS]
    rows, cols = min(choices, key=lambda c: (c[0] * c[1], abs(c[0] - c[1])))
    total: Value | None = None
    parts = [(i, j) for i in range(min(rows, kh)) for j in range(min(cols, kw))]
    for number, (i, j) in enumerate(parts):
        kernel = np.ascontiguousarray(weight[:, i::rows, j::cols])
        pads = []
        for axis, (start, step, k) in enumerate(((i, rows, kh), (j, cols, kw))):
            last = start + (kernel.shape[1 + axis] - 1) * step
            before, after = op.padding[axis]
            dilation = op.dilation[axis]
            pads.append((before - start * dilation, after - (k - 1 - last) * dilation))
        x = _trimmed(b, b.x, pads)
        padding = tuple((max(p, 0), max(q, 0)) for p, q in pads)
        dilation = (op.dilation[0] * rows, op.dilation[1] * cols)
        part = ops.Conv2d(op.stride, padding, dilation, op.groups, "NHWC")  # type: ignore[arg-type]
        bias = b.node.inputs[2:] if number == 0 else []
        value = b.add(part, x, b.constant(kernel, "part"), *bias)
        if total is None:
            total = value
        elif number < len(parts) - 1:
            total = b.add(ops.Add(), total, value)
        else:
            return b.done(ops.Add(op.activation), total, value)
    return False


def _multiplied_depthwise(b: Build, multiplier: int) -> bool:
    """Each channel copied first, by a 1×1 convolution of ones: XNNPACK has fast kernels for multiplier 1 alone."""
    op = b.node.op
    copies = np.repeat(np.eye(op.groups), multiplier, 0)[:, None, None, :]
    x = b.add(ops.Conv2d(layout="NHWC"), b.x, b.constant(copies, "copies"))
    return b.done(op.with_(groups=op.groups * multiplier), x, *b.node.inputs[1:])


def absorb_repeats(b: Build) -> bool:
    """A convolution of an image with every row and column repeated s times is a transposed convolution of stride s:
    its kernel is the convolution's, spread over the s × s places that one source pixel fills."""
    op, weight = b.node.op, b.array(1)
    maker = b.edit.maker(b.x, ops.Resize2d)
    if maker is None or weight is None or b.edit.only_user(b.x) is None or not b.may("deconvolution-phases"):
        return False
    if (op.layout, op.stride, op.dilation, op.groups) != ("NHWC", (1, 1), (1, 1), 1):
        return False
    source = maker.inputs[0]
    (h, w), (oh, ow) = source.shape[1:3], b.x.shape[1:3]
    factor = oh // h
    _, kh, kw, _ = weight.shape
    if maker.op.mode != "nearest" or oh != h * factor or ow != w * factor or factor < 2 or min(kh, kw) < 2:
        return False
    rows, cols = maker.op.matrices(h, w)
    repeated = [np.repeat(np.eye(n), factor, 0) for n in (h, w)]
    if not (np.array_equal(rows, repeated[0]) and np.array_equal(cols, repeated[1])):
        return False
    # out[o] = Σ w[k] · x[(o + k - pad) // s]: source pixel i reaches o = i·s + r - k + pad for r < s.
    # With t = r - k + K - 1 that is o = i·s + t - (K - 1 - pad).
    kernel = np.zeros((weight.shape[3], kh + factor - 1, kw + factor - 1, weight.shape[0]), np.float64)
    for i in range(factor):
        for j in range(factor):
            kernel[:, i : i + kh, j : j + kw] += weight[:, ::-1, ::-1].transpose(3, 1, 2, 0)
    crops = tuple((k - 1 - p, k - 1 - q) for k, (p, q) in zip((kh, kw), op.padding, strict=True))
    if min(map(min, crops)) < 0:
        return False
    transposed = ops.ConvTranspose2d(
        (factor, factor),
        crops,  # type: ignore[arg-type]
        layout="NHWC",
        activation=op.activation,
    )
    return b.done(transposed, source, b.constant(kernel, "spread"), *b.node.inputs[2:])


def _trimmed(b: Build, x: Value, pads: list[tuple[int, int]]) -> Value:
    """x without the rows and columns that negative pads cut off."""
    for axis, (before, after) in enumerate(pads, start=1):
        x = b.slice(x, axis, max(-before, 0), x.shape[axis] - max(-after, 0))
    return x


@decomposes(ops.ConvTranspose2d)
def conv_transpose2d(b: Build) -> bool:
    """Of stride 1 a convolution with the flipped kernel; else a convolution for each of the stride's phases, all in
    one, behind a pixel shuffle: half the time of TRANSPOSE_CONV. With groups the zero-stuffed input is convolved."""
    op = b.node.op
    weight = b.array(1)
    if op.layout != "NHWC":
        return False
    if weight is None:
        return (op.groups > 1 or op.dilation != (1, 1)) and _stuffed(b, _turned(b))
    if op.groups == 1 and op.stride != (1, 1):
        return (b.may("deconvolution-phases") and _phases(b, weight)) or _undilated(b, weight)
    return _stuffed(b, b.constant(np.ascontiguousarray(_flipped(weight, op.groups)), "flipped"))


@dataclass(frozen=True)
class _Axis:
    """One axis of a transposed convolution as phases: output s·q + phase - shift reads x[q - j], low ≤ j ≤ high."""

    stride: int
    crop: int
    shift: int
    low: int
    high: int

    @property
    def taps(self) -> int:
        return self.high - self.low + 1

    @classmethod
    def best(cls, kernel: int, stride: int, crop: int) -> _Axis:
        """Fewer of the crop may be left to a slice behind the shuffle when the phases then have fewer taps."""
        options = []
        for shift in range(min(stride - 1, crop) + 1):
            p = crop - shift
            # x[i] · w[k] goes to o = i·s + k - p; with o = s·q + phase and j = q - i: k = s·j + phase + p.
            options.append(cls(stride, p, shift, -((stride - 1 + p) // stride), (kernel - 1 - p) // stride))
        return min(options, key=lambda o: (o.taps, o.shift))


def _phases(b: Build, weight: np.ndarray) -> bool:
    op, (_, h, w, _) = b.node.op, b.x.shape
    channels, *kernel, out = weight.shape
    if op.dilation != (1, 1):
        weight = _spaced(weight, op.dilation)
        kernel = list(weight.shape[1:3])
    axes = [_Axis.best(k, s, p[0]) for k, s, p in zip(kernel, op.stride, op.padding, strict=True)]
    rows, cols = axes
    if rows.taps * cols.taps * np.prod(op.stride) * weight[..., 0, 0, :].size * 4 - weight.nbytes > HEAVIER:
        return False
    sh, sw = op.stride
    phases = np.zeros((sh, sw, out, rows.taps, cols.taps, channels))
    for y in range(sh):
        for x in range(sw):
            for t in range(rows.taps):
                for u in range(cols.taps):
                    k, m = sh * (rows.high - t) + y + rows.crop, sw * (cols.high - u) + x + cols.crop
                    if 0 <= k < kernel[0] and 0 <= m < kernel[1]:
                        phases[y, x, :, t, u] = weight[:, k, m].T
    sizes = b.node.output.shape[1:3]
    counts = [-(-(size + a.shift) // a.stride) for size, a in zip(sizes, axes, strict=True)]
    pads = [(a.high, count - a.low - size) for a, count, size in zip(axes, counts, (h, w), strict=True)]
    source = _trimmed(b, b.x, pads)
    padding = tuple((max(p, 0), max(q, 0)) for p, q in pads)
    conv = ops.Conv2d(padding=padding, layout="NHWC", activation=op.activation)  # type: ignore[arg-type]
    bias = [b.constant(np.tile(v, sh * sw), "bias") for v in (b.array(2),) if v is not None]
    if len(b.node.inputs) > 2 and not bias:
        return False
    flat = phases.reshape(sh * sw * out, rows.taps, cols.taps, channels)
    whole = spread(b, b.add(conv, source, b.constant(flat, "phases"), *bias), sh, sw, out)
    for axis, (a, size) in enumerate(zip(axes, sizes, strict=True), start=1):
        whole = b.slice(whole, axis, a.shift, a.shift + size)
    return b.stand(whole)


def _spaced(weight: np.ndarray, dilation: tuple[int, int]) -> np.ndarray:
    """The kernel of a dilated transposed convolution [I, H, W, O] with its zeros spelled out."""
    channels, kh, kw, out = weight.shape
    wide = np.zeros((channels, (kh - 1) * dilation[0] + 1, (kw - 1) * dilation[1] + 1, out), weight.dtype)
    wide[:, :: dilation[0], :: dilation[1]] = weight
    return wide


def _undilated(b: Build, weight: np.ndarray) -> bool:
    """TRANSPOSE_CONV has no dilation."""
    op = b.node.op
    if op.dilation == (1, 1):
        return False
    wide = b.constant(_spaced(weight, op.dilation), "spaced")
    return b.done(op.with_(dilation=(1, 1)), b.x, wide, *b.node.inputs[2:])


def _flipped(weight: np.ndarray, groups: int) -> np.ndarray:
    """The kernel [C, KH, KW, O/g] of a transposed convolution as a convolution's [O, KH, KW, C/g]."""
    c, kh, kw, per_group = weight.shape
    grouped = weight[:, ::-1, ::-1].reshape(groups, c // groups, kh, kw, per_group)
    return grouped.transpose(0, 4, 2, 3, 1).reshape(groups * per_group, kh, kw, c // groups)


def _turned(b: Build) -> Value:
    """``_flipped`` of a kernel that is computed."""
    weight, groups = b.node.inputs[1], b.node.op.groups
    c, kh, kw, per_group = weight.shape
    flipped = b.add(ops.Flip((1, 2)), weight)
    grouped = b.reshape(flipped, (groups, c // groups, kh * kw, per_group))
    return b.reshape(b.add(ops.Permute((0, 3, 2, 1)), grouped), (groups * per_group, kh, kw, c // groups))


def _stuffed(b: Build, kernel: Value) -> bool:
    """The zero-stuffed input under the flipped ``kernel``."""
    op = b.node.op
    stuffed = zero_stuffed(b, b.x, op.stride)
    pads = []
    for axis in range(2):
        span = op.dilation[axis] * (kernel.shape[1 + axis] - 1)
        before, after = op.padding[axis]
        # The stuffing already holds stride - 1 of the zeros behind the last row.
        pads.append((span - before, span - after + op.output_padding[axis] - (op.stride[axis] - 1)))
    stuffed = _trimmed(b, stuffed, pads)
    padding = tuple((max(p, 0), max(q, 0)) for p, q in pads)
    conv = ops.Conv2d((1, 1), padding, op.dilation, op.groups, "NHWC", op.activation)  # type: ignore[arg-type]
    return b.done(conv, stuffed, kernel, *b.node.inputs[2:])
