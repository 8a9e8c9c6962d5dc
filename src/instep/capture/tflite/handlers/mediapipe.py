"""Handlers of MediaPipe's custom operators: a pooling that tells where its maxima were, and the ways back.

Their meaning is that of mediapipe/util/tflite/operations. Of LiteRT's engines XNNPACK alone runs them, and keeps the
places of maxima to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from instep.capture.tflite.builder import Builder
from instep.capture.tflite.custom import structure
from instep.capture.tflite.registry import Unsupported, reads
from instep.graph import Value, ops

__all__: list[str] = []

_LOWEST = float(np.finfo(np.float32).min)


def _padded(decode: Callable[[bytes], Mapping[str, Any]]) -> Callable[[bytes], Mapping[str, Any]]:
    """With ``Padding`` as the schema counts (SAME 0, VALID 1), not as TfLitePadding does (1, 2)."""

    def renumbered(data: bytes) -> Mapping[str, Any]:
        found = dict(decode(data))
        if found["Padding"] not in (1, 2):
            raise ValueError(f"its padding is {found['Padding']}")
        return {**found, "Padding": found["Padding"] - 1}

    return renumbered


_CONV = _padded(structure("Padding", "StrideW", "StrideH"))
_POOL = _padded(
    structure("Padding", "StrideW", "StrideH", "FilterWidth", "FilterHeight", "FusedActivationFunction")
)  # fmt: skip


@reads("CUSTOM:Convolution2DTransposeBias", _CONV)
def transpose_conv_bias(b: Builder, x: Value, weight: Value, bias: Value) -> Value:
    """SAME takes off what a convolution of that stride, from the output's size, would have padded."""
    if x.rank != 4 or weight.rank != 4:
        raise Unsupported(f"it convolves {list(x.shape)} with {list(weight.shape)}")
    stride, kernel = (b.option("StrideH"), b.option("StrideW")), weight.shape[1:3]
    if min(stride) < 1:
        raise Unsupported(f"its stride is {list(stride)}")
    cut = [0, 0]
    if not b.option("Padding"):
        cut = [max(0, k - (n - 1) % s - 1) for n, s, k in zip(x.shape[1:3], stride, kernel, strict=True)]
    crops = (cut[0] // 2, cut[0] - cut[0] // 2), (cut[1] // 2, cut[1] - cut[1] // 2)
    # [O, KH, KW, I] → [I, KH, KW, O]
    op = ops.ConvTranspose2d(stride, crops, (0, 0), layout="NHWC")
    return b(op, x, b.permute(weight, (3, 1, 2, 0)), bias)


def _window(b: Builder) -> tuple[tuple[int, int], tuple[int, int]]:
    return (b.option("FilterHeight"), b.option("FilterWidth")), (b.option("StrideH"), b.option("StrideW"))


@reads("CUSTOM:MaxPoolingWithArgmax2D", _POOL)
def max_pooling_with_argmax(b: Builder, x: Value) -> tuple[Value, Value]:
    """Maxima, and as real numbers (a tenth above the integer) which place of its window each had, row by row."""
    if x.rank != 4:
        raise Unsupported(f"it pools {list(x.shape)}")
    kernel, stride = _window(b)
    pads = b.pads(x.shape[1:3], kernel, stride, (1, 1))
    wide = b.pad(x, [(0, 0), *pads, (0, 0)], "constant", _LOWEST)
    sizes = [(n - k) // s + 1 for n, k, s in zip(wide.shape[1:3], kernel, stride, strict=True)]
    best = place = None
    for number in range(kernel[0] * kernel[1]):
        y, across = divmod(number, kernel[1])
        rows = b.slice(wide, 1, y, y + (sizes[0] - 1) * stride[0] + 1, stride[0])
        here = b.slice(rows, 2, across, across + (sizes[1] - 1) * stride[1] + 1, stride[1])
        if best is None or place is None:
            best, place = here, b.expand(b.scalar(0.1, x.dtype), here.shape)
            continue
        larger = b(ops.Greater(), here, best)
        place = b(ops.Where(), larger, b.scalar(number + 0.1, x.dtype), place)
        best = b(ops.Maximum(), best, here)
    if best is None or place is None:
        raise Unsupported(f"its window is {list(kernel)}")
    return b.activated(best), place


@reads("CUSTOM:MaxUnpooling2D", _POOL)
def max_unpooling(b: Builder, x: Value, places: Value) -> Value:
    """Each element at the place of its window that its number names, zeros elsewhere."""
    (height, width), stride = _window(b)
    if x.rank != 4 or stride != (height, width) or min(stride) < 1 or height * width > 1 << 10:
        raise Unsupported(f"windows of {height}×{width} with the stride {list(stride)} leave gaps or overlap")
    n, h, w, c = x.shape
    numbers = np.arange(height * width, dtype=np.float32).reshape(1, 1, height, 1, width, 1)
    named = b(ops.Equal(), b(ops.Floor(), b.reshape(places, (n * h, 1, 1, w, 1, c))), b.constant(numbers, "places"))
    spread = b(ops.Where(), named, b.reshape(x, (n * h, 1, 1, w, 1, c)), b.scalar(0, x.dtype))
    return b.reshape(spread, (n, h * height, w * width, c))
