"""Decompositions of pools and of resizing; everything spatial is NHWC here."""

from __future__ import annotations

import numpy as np

from instep.graph import Value, ops
from instep.rewrite.lower.convolutions import absorb_repeats
from instep.rewrite.lower.table import Build, decomposes

__all__ = ["separable"]

LOWEST = float(np.finfo(np.float32).min)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _nhwc(b: Build) -> bool:
    return b.node.op.layout == "NHWC"


def separable(b: Build, rows: np.ndarray, cols: np.ndarray) -> bool:
    """rows · x · colsᵀ for every channel of x [N, H, W, C], as the node's result."""
    x = b.x
    n, h, w, c = x.shape
    oh, ow = len(rows), len(cols)

    def over_rows(v: Value, width: int) -> Value:
        if np.array_equal(rows, np.eye(h)):
            return v
        flat = b.reshape(v, (n, h, width * c))
        return b.reshape(b.add(ops.MatMul(), b.constant(rows[None], "rows"), flat), (n, oh, width, c))

    def over_cols(v: Value, height: int) -> Value:
        if np.array_equal(cols, np.eye(w)):
            return v
        flat = b.reshape(v, (n * height, w, c))
        return b.reshape(b.add(ops.MatMul(), b.constant(cols[None], "cols"), flat), (n, height, ow, c))

    # The cheaper order first: rows cost OH·H·(columns seen), columns OW·W·(rows seen).
    if oh * h * w + ow * w * oh <= ow * w * h + oh * h * ow:
        y = over_cols(over_rows(x, w), oh)
    else:
        y = over_rows(over_cols(x, h), ow)
    return b.stand(x) if y is x else b.done(ops.Reshape((n, oh, ow, c)), y)


@decomposes(ops.AvgPool2d)
def avg_pool2d(b: Build) -> bool:
    """AVERAGE_POOL_2D counts the places on the input alone, and pads as SAME; other divisors are multiplied in."""
    op = b.node.op
    if not _nhwc(b):
        return False
    _, h, w, _ = b.x.shape
    kh, kw = op.kernel
    padded = any(map(any, op.all_pads))
    same = (_same(h, kh, op.stride[0]), _same(w, kw, op.stride[1])) == op.all_pads
    ones = ops.AvgPool2d(op.kernel, op.stride, op.all_pads, False, layout=op.layout).divisor(h, w)
    divisor = op.divisor(h, w)
    if not padded or (same and np.array_equal(ones, divisor)):
        plain = ops.AvgPool2d(op.kernel, op.stride, op.all_pads, not padded, layout="NHWC", activation=op.activation)
        return op != plain and b.done(plain, b.x)
    x = b.pad(b.x, ((0, 0), *op.all_pads, (0, 0)))
    plain = ops.AvgPool2d(op.kernel, op.stride, layout="NHWC")
    correction = kh * kw / divisor
    if np.all(correction == 1):
        return b.done(plain.with_(activation=op.activation), x)
    factor = b.constant(correction[None, :, :, None], "divisor")
    return b.done(ops.Mul(op.activation), b.add(plain, x), factor)


@decomposes(ops.MaxPool2d)
def max_pool2d(b: Build) -> bool:
    """Dilated windows: the maximum over shifted slices, rows first and columns then. Large ones: rows first and
    columns then, since XNNPACK's kernel takes 9 places at a time (13×13: 7 times faster)."""
    op = b.node.op
    if not _nhwc(b):
        return False
    if op.dilation == (1, 1):
        (kh, kw), (sh, sw) = op.kernel, op.stride
        if kh * kw <= 9 or min(kh, kw) == 1 or sh > kh or sw > kw or not b.may("pool-by-axes"):
            return False
        rows = b.add(ops.MaxPool2d((kh, 1), (sh, 1), (op.padding[0], (0, 0)), layout="NHWC"), b.x)
        columns = ops.MaxPool2d((1, kw), (1, sw), ((0, 0), op.padding[1]), layout="NHWC", activation=op.activation)
        return b.done(columns, rows)
    x = b.pad(b.x, ((0, 0), *op.padding, (0, 0)), LOWEST)
    out = b.node.output.shape
    for axis in (1, 2):
        kernel, stride, dilation = op.kernel[axis - 1], op.stride[axis - 1], op.dilation[axis - 1]
        span = (out[axis] - 1) * stride + 1
        parts = [b.slice(x, axis, i * dilation, i * dilation + span, stride) for i in range(kernel)]
        x = parts[0]
        for part in parts[1:]:
            x = b.add(ops.Maximum(), x, part)
    return b.stand(x) if not op.activation else b.done(_ACTIVATIONS[op.activation], x)


_ACTIVATIONS = {"relu": ops.Relu(), "relu6": ops.Clip(0.0, 6.0), "relu1": ops.Clip(-1.0, 1.0)}


def _regular(size: int, out: int) -> tuple[int, int] | None:
    """(kernel, stride) when torch's adaptive bins are equal windows at equal distances."""
    bins = ops.AdaptiveAvgPool2d.bins(size, out)
    kernel = bins[0][1]
    stride = bins[1][0] if out > 1 else 1
    return (kernel, stride) if bins == [(i * stride, i * stride + kernel) for i in range(out)] else None


def _windows(b: Build) -> tuple[tuple[int, int], tuple[int, int]] | None:
    found = [_regular(n, o) for n, o in zip(b.x.shape[1:3], b.node.op.output_size, strict=True)]
    if found[0] is None or found[1] is None:
        return None
    return (found[0][0], found[1][0]), (found[0][1], found[1][1])


@decomposes(ops.AdaptiveAvgPool2d)
def adaptive_avg_pool2d(b: Build) -> bool:
    """Global → mean, equal windows → pool, any other → two matrices."""
    if not _nhwc(b):
        return False
    _, h, w, _ = b.x.shape
    size = b.node.op.output_size
    if size == (1, 1):
        return b.done(ops.ReduceMean((1, 2), True), b.x)
    if size == (h, w):
        return b.stand(b.x)
    windows = _windows(b)
    if windows is not None:
        return b.done(ops.AvgPool2d(*windows, layout="NHWC"), b.x)

    def matrix(n: int, out: int) -> np.ndarray:
        result = np.zeros((out, n))
        for i, (start, stop) in enumerate(ops.AdaptiveAvgPool2d.bins(n, out)):
            result[i, start:stop] = 1 / (stop - start)
        return result

    return separable(b, matrix(h, size[0]), matrix(w, size[1]))


@decomposes(ops.AdaptiveMaxPool2d)
def adaptive_max_pool2d(b: Build) -> bool:
    """Global → maximum, equal windows → pool; else bins differ by one place: the maximum of two shorter windows."""
    if not _nhwc(b):
        return False
    _, h, w, _ = b.x.shape
    size = b.node.op.output_size
    if size == (1, 1):
        return b.done(ops.ReduceMax((1, 2), True), b.x)
    if size == (h, w):
        return b.stand(b.x)
    windows = _windows(b)
    if windows is not None:
        return b.done(ops.MaxPool2d(*windows, layout="NHWC"), b.x)
    x = b.x
    for axis in (1, 2):
        bins = ops.AdaptiveMaxPool2d.bins(x.shape[axis], size[axis - 1])
        length = min(stop - start for start, stop in bins)
        kernel = (length, 1) if axis == 1 else (1, length)
        pooled = b.add(ops.MaxPool2d(kernel, (1, 1), layout="NHWC"), x) if length > 1 else x
        x = _take(b, pooled, axis, [start for start, _ in bins])
        if any(stop - start > length for start, stop in bins):
            # The longest bin has length + 1 or length + 2 places; two windows cover up to twice the length.
            x = b.add(ops.Maximum(), x, _take(b, pooled, axis, [stop - length for _, stop in bins]))
            if max(stop - start for start, stop in bins) > 2 * length:
                middle = _take(b, pooled, axis, [min(start + 1, stop - length) for start, stop in bins])
                x = b.add(ops.Maximum(), x, middle)
    return b.stand(x)


def _take(b: Build, value: Value, axis: int, index: list[int]) -> Value:
    return b.add(ops.Gather(axis), value, b.constant(np.asarray(index, np.int32), "bins", "int32"))


@decomposes(ops.Resize2d)
def resize2d(b: Build) -> bool:
    """Native where TFLite's flags mean exactly these coordinates, else two matrices."""
    op = b.node.op
    if not _nhwc(b):
        return False
    reader = b.edit.only_user(b.node.output, ops.Conv2d)
    if reader is not None and absorb_repeats(Build(b.edit, reader, b.avoid)):
        b.edit.erase(b.node)
        return True
    _, h, w, _ = b.x.shape
    rows, cols = op.matrices(h, w)
    if np.array_equal(rows, np.eye(h)) and np.array_equal(cols, np.eye(w)):
        return b.stand(b.x)
    native = ops.Resize2d(op.size, op.mode, op.coordinates, layout="NHWC")
    if op.mode != "bicubic" and not op.antialias:
        if op.mode == "nearest" and b.may("join-repeats") and _repeats(b, rows, cols):
            return True
        if op == native:
            return False
        if all(np.array_equal(a, c) for a, c in zip(op.matrices(h, w), native.matrices(h, w), strict=True)):
            return b.done(native, b.x)
    return separable(b, rows, cols)


#: RESIZE_NEAREST_NEIGHBOR copies pixel by pixel and is no XNNPACK operator: with fewer channels joins are faster.
FEW_CHANNELS = 64
#: The largest factor that is written as joins.
LARGEST = 8


def _repeats(b: Build, rows: np.ndarray, cols: np.ndarray) -> bool:
    """Every row and column repeated a whole number of times: the image joined with itself on inner axes."""
    n, h, w, c = b.x.shape
    factors = len(rows) // h, len(cols) // w
    if c >= FEW_CHANNELS or max(factors) > LARGEST or min(factors) < 1:
        return False
    for matrix, size, factor in ((rows, h, factors[0]), (cols, w, factors[1])):
        if not np.array_equal(matrix, np.repeat(np.eye(size), factor, 0)):
            return False
    x = b.x
    if factors[1] > 1:
        x = b.add(ops.Concat(2), *[b.reshape(x, (n * h, w, c))] * factors[1])
    if factors[0] > 1:
        x = b.add(ops.Concat(1), *[b.reshape(x, (n * h, 1, w * factors[1] * c))] * factors[0])
    return b.done(ops.Reshape(b.node.output.shape), x)
