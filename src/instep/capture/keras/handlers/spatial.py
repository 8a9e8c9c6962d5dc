"""Convolutions: everything has its batch first and pads that are resolved per side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__ = ["arranged", "convolved", "kept_size", "same"]

Pads = tuple[tuple[int, int], ...]


def same(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Pads:
    """TensorFlow's SAME: ⌈size / stride⌉ windows, the odd element at the end."""
    found = []
    for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        found.append((total // 2, total - total // 2))
    return tuple(found)


def _sizes(x: Value, n: int, layout: str) -> tuple[int, tuple[int, ...]]:
    """Channels and spatial sizes."""
    if x.rank != n + 2:
        raise Unsupported(f"its input has the shape {list(x.shape)}, not rank {n + 2}")
    return (x.shape[-1], x.shape[1:-1]) if layout == "NHWC" else (x.shape[1], x.shape[2:])


def _pads(mode: Any, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Any) -> Pads:
    if mode == "valid":
        return ((0, 0),) * len(sizes)
    if mode == "causal" and len(sizes) == 1:
        return ((dilation[0] * (kernel[0] - 1), 0),)
    if mode != "same":
        raise Unsupported(f"its padding is {mode!r}")
    return same(sizes, kernel, stride, dilation)


def _wide(x: Value, layout: str) -> list[int]:
    """The shape of a line as a picture of one row."""
    first, last = (1, 2) if layout == "NHWC" else (2, 3)
    shape = list(x.shape)
    shape.insert(first if layout == "NHWC" else last - 1, 1)
    return shape


def _thin(shape: Sequence[int], layout: str) -> list[int]:
    return [n for i, n in enumerate(shape) if i != (1 if layout == "NHWC" else 2)]


def _convolution(
    b: Builder, x: Value, weights: Sequence[Value], stride: Any, pads: Any, dilation: Any, groups: int,
    layout: str = "",
) -> Value:  # fmt: skip
    """A convolution of 1 to 3 dimensions; a line is a picture of one row."""
    layout, n = layout or b.layout(), x.rank - 2
    if n == 3:
        return b(ops.Conv3d(tuple(stride), tuple(pads), tuple(dilation), groups, layout), x, *weights)
    if n == 2:
        return b(ops.Conv2d(tuple(stride), tuple(pads), tuple(dilation), groups, layout), x, *weights)
    op = ops.Conv2d((1, stride[0]), ((0, 0), pads[0]), (1, dilation[0]), groups, layout)
    y = b(op, b.reshape(x, _wide(x, layout)), *weights)
    return b.reshape(y, _thin(y.shape, layout))


def arranged(n: int, layout: str) -> Callable[[np.ndarray], np.ndarray]:
    """[K…, I, O] (transposed: [K…, O, I]) to [O, K…, I] or [O, I, K…]; a line's kernel gets a row."""

    def arrange(kernel: np.ndarray) -> np.ndarray:
        if n == 1:
            kernel = kernel[None]
        last = kernel.ndim - 1
        places = tuple(range(last - 1))
        return kernel.transpose((last, *places, last - 1) if layout == "NHWC" else (last, last - 1, *places))

    return arrange


def _biased(b: Builder, count: int, weight: Value) -> list[Value]:
    return [weight, b.weight("bias", (count,), "bias")] if b.flag("use_bias", True) else [weight]


@layer("Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D")
def conv(b: Builder, x: Value) -> Value:
    n, layout = int(b.place.layer.kind[-2]), b.layout()
    if x.rank > n + 2 and b.major < 3:  # Keras 2 takes more axes than one for the batch
        lead = x.shape[: x.rank - n - 1]
        y = conv(b, b.reshape(x, (math.prod(lead), *x.shape[len(lead) :])))
        return b.reshape(y, (*lead, *y.shape[1:]))
    channels, _ = _sizes(x, n, layout)
    kernel = b.sizes("kernel_size", n)
    filters, groups = b.whole("filters"), b.whole("groups", 1)
    if channels % groups or filters % groups:
        raise Unsupported(f"groups={groups} does not divide {channels} input and {filters} output channels")
    weight = b.weight("kernel", (*kernel, channels // groups, filters), "weight", arranged(n, layout))
    y = convolved(b, x, _biased(b, filters, weight), kernel, groups)
    return b.activated(y, b.field("activation"))


def convolved(
    b: Builder, x: Value, weights: Sequence[Value], kernel: Sequence[int], groups: int,
    step: Sequence[int] | None = None, padding: str | None = None, layout: str | None = None,
) -> Value:  # fmt: skip
    """A convolution with a kernel in the graph's arrangement, as the fields of the layer say; ``step`` and ``padding``
    are for those that have no such fields."""
    n, layout = x.rank - 2, layout or b.layout()
    _, sizes = _sizes(x, n, layout)
    stride = tuple(step) if step is not None and b.field("strides") is None else b.sizes("strides", n, 1)
    dilation, mode = b.sizes("dilation_rate", n, 1), padding or b.field("padding", "valid")
    return _convolution(b, x, weights, stride, _pads(mode, sizes, kernel, stride, dilation), dilation, groups, layout)


def kept_size(b: Builder, x: Value, weights: Sequence[Value], kernel: Sequence[int]) -> Value:
    """A convolution of stride 1 that leaves the size as it is."""
    n = x.rank - 2
    _, sizes = _sizes(x, n, b.layout())
    return _convolution(b, x, weights, (1,) * n, same(sizes, kernel, (1,) * n, (1,) * n), (1,) * n, 1)


def _depthwise(b: Builder, n: int, channels: int, kernel: Sequence[int], name: str) -> Value:
    """[K…, C, M] to [C · M, K…, 1]: output channel c · M + m in both."""
    many, layout = b.whole("depth_multiplier", 1), b.layout()

    def arrange(array: np.ndarray) -> np.ndarray:
        return arranged(n, layout)(array.reshape(*kernel, 1, channels * many))

    return b.weight("depthwise_kernel", (*kernel, channels, many), name, arrange)


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_conv(b: Builder, x: Value) -> Value:
    n = int(b.place.layer.kind[-2])
    channels, _ = _sizes(x, n, b.layout())
    kernel = b.sizes("kernel_size", n)
    weight = _depthwise(b, n, channels, kernel, "weight")
    y = convolved(b, x, _biased(b, weight.shape[0], weight), kernel, channels)
    return b.activated(y, b.field("activation"))


@layer("SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D")
def separable_conv(b: Builder, x: Value) -> Value:
    """A depthwise convolution, then one of kernel 1."""
    n, layout = int(b.place.layer.kind[-2]), b.layout()
    channels, _ = _sizes(x, n, layout)
    kernel = b.sizes("kernel_size", n)
    filters, scope = b.whole("filters"), b.place.scope
    first = _depthwise(b, n, channels, kernel, "depthwise.weight")
    middle = first.shape[0]
    second = b.weight("pointwise_kernel", (*(1,) * n, middle, filters), "pointwise.weight", arranged(n, layout))
    last = [second, b.weight("bias", (filters,), "pointwise.bias")] if b.flag("use_bias", True) else [second]
    b.scope = f"{scope}.depthwise"
    y = convolved(b, x, [first], kernel, channels)
    b.scope = f"{scope}.pointwise"
    y = _convolution(b, y, last, (1,) * n, ((0, 0),) * n, (1,) * n, 1)
    b.scope = scope
    return b.activated(y, b.field("activation"))


# -- transposed --------------------------------------------------------------------------------------------------------
def _crop(n: int, k: int, s: int, d: int, mode: str, extra: int | None) -> tuple[tuple[int, int], int]:
    """What is cropped of the full result at both ends, and what is added at the end.

    TensorFlow's transposed convolution is the gradient of the one from the output back to the input, so its crop at
    the start is the pad that that one has; the output's length is Keras' own (``deconv_output_length``).
    """
    span = d * (k - 1) + 1
    full = (n - 1) * s + span
    if extra is None:
        out = n * s if mode == "same" else n * s + max(span - s, 0)
    else:
        out = (n - 1) * s + span - (2 * (span // 2) if mode == "same" else 0) + extra
    start = same([out], [k], [s], [d])[0][0] if mode == "same" else 0
    end = full - start - out
    if out < 1 or -(-(out - (0 if mode == "same" else span - 1)) // s) != n:
        raise Unsupported(f"output_padding {extra} does not fit stride {s}: TensorFlow refuses it too")
    return (start, max(end, 0)), max(-end, 0)


@layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "Convolution2DTranspose", "Convolution3DTranspose")
def conv_transpose(b: Builder, x: Value) -> Value:
    n, layout = x.rank - 2, b.layout()
    channels, _ = _sizes(x, n, layout)
    kernel, filters = b.sizes("kernel_size", n), b.whole("filters")
    if n == 3:
        return _volume(b, x, channels, filters, kernel)
    weight = b.weight("kernel", (*kernel, filters, channels), "weight", arranged(n, layout))
    return b.activated(_picture(b, x, _biased(b, filters, weight), kernel), b.field("activation"))


def _picture(b: Builder, x: Value, weights: Sequence[Value], kernel: Sequence[int]) -> Value:
    """A transposed convolution of a line or a picture with a kernel in the graph's arrangement."""
    stride, dilation, crops, more = _ends(b, x, kernel)
    layout: Any = b.layout()
    if len(kernel) == 2:
        return b(ops.ConvTranspose2d(stride, crops, more, dilation, 1, layout), x, *weights)
    op = ops.ConvTranspose2d((1, stride[0]), ((0, 0), crops[0]), (0, more[0]), (1, dilation[0]), 1, layout)
    y = b(op, b.reshape(x, _wide(x, layout)), *weights)
    return b.reshape(y, _thin(y.shape, layout))


def _ends(b: Builder, x: Value, kernel: Sequence[int]) -> tuple[Any, Any, Any, Any]:
    """Stride, dilation, what is cropped at both ends and what is added behind, of a transposed convolution."""
    n, mode = len(kernel), b.field("padding", "valid")
    _, sizes = _sizes(x, n, b.layout())
    stride, dilation = b.sizes("strides", n, 1), b.sizes("dilation_rate", n, 1)
    if mode not in ("same", "valid") or n not in (1, 2, 3):
        raise Unsupported(f"its padding is {mode!r}, its input {list(x.shape)}")
    extra = (None,) * n if b.field("output_padding") is None else b.sizes("output_padding", n, low=0)
    cut = [
        _crop(size, k, s, d, mode, e) for size, k, s, d, e in zip(sizes, kernel, stride, dilation, extra, strict=True)
    ]
    return stride, dilation, tuple(c for c, _ in cut), tuple(m for _, m in cut)


def _volume(b: Builder, x: Value, channels: int, filters: int, kernel: Sequence[int]) -> Value:
    """Zeros between the elements, then a convolution with the flipped kernel: the definition of the transpose."""

    def arrange(array: np.ndarray) -> np.ndarray:  # [K…, O, I] → [O, K…, I], flipped
        return array[::-1, ::-1, ::-1].transpose(3, 0, 1, 2, 4)

    stride, dilation, crops, more = _ends(b, x, kernel)
    weight = b.weight("kernel", (*kernel, filters, channels), "weight", arrange)
    last = b.layout() == "NHWC"
    turned = x if last else b.permute(x, (0, 2, 3, 4, 1))
    padded = b.spread(turned, 1, kernel, stride, dilation, crops, more)
    none = ((0, 0),) * 3
    y = b(ops.Conv3d((1, 1, 1), none, tuple(dilation), 1, "NHWC"), padded, *_biased(b, filters, weight))
    y = y if last else b.permute(y, (0, 4, 1, 2, 3))
    return b.activated(y, b.field("activation"))
