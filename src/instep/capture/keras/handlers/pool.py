"""Pools over windows and over everything."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.spatial import same
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__ = ["adapted", "pooled"]


def _window(b: Builder, x: Value, kernel: Any, stride: Any, pads: Any, layout: str) -> Value:
    if "Max" in b.place.layer.kind:
        return b(ops.MaxPool2d(tuple(kernel), tuple(stride), tuple(pads), layout=layout), x)
    return b(ops.AvgPool2d(tuple(kernel), tuple(stride), tuple(pads), count_include_pad=False, layout=layout), x)


@layer("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
       "MaxPool1D", "MaxPool2D", "MaxPool3D", "AvgPool1D", "AvgPool2D", "AvgPool3D")  # fmt: skip
def pool(b: Builder, x: Value) -> Value:
    return pooled(b, x, int(b.place.layer.kind[-2]))


def pooled(b: Builder, x: Value, n: int) -> Value:
    """Windows of ``n`` dimensions, 1 to 3; an average does not count what SAME pads."""
    if np.dtype(x.dtype).kind != "f":
        return b.cast(pooled(b, b.floating(x), n), x.dtype)
    layout = b.layout()
    if x.rank != n + 2:
        raise Unsupported(f"its input has the shape {list(x.shape)}, not rank {n + 2}")
    kernel = b.sizes("pool_size", n, 2)
    stride = kernel if b.field("strides") is None else b.sizes("strides", n)
    mode = b.field("padding", "valid")
    if mode not in ("same", "valid"):
        raise Unsupported(f"its padding is {mode!r}")
    sizes = x.shape[1:-1] if layout == "NHWC" else x.shape[2:]
    pads = same(sizes, kernel, stride, (1,) * n) if mode == "same" else ((0, 0),) * n
    if n == 2:
        return _window(b, x, kernel, stride, pads, layout)
    if layout != "NHWC":
        return _last(b, x, n, kernel, stride, pads)
    return _line(b, x, kernel, stride, pads) if n == 1 else _volume(b, x, kernel, stride, pads)


def _last(b: Builder, x: Value, n: int, kernel: Any, stride: Any, pads: Any) -> Value:
    """A line or volume with the channels first, turned for the while."""
    turned = b.permute(x, (0, *range(2, n + 2), 1))
    y = _line(b, turned, kernel, stride, pads) if n == 1 else _volume(b, turned, kernel, stride, pads)
    return b.permute(y, (0, n + 1, *range(1, n + 1)))


def _line(b: Builder, x: Value, kernel: Any, stride: Any, pads: Any) -> Value:
    batch, length, channels = x.shape
    wide = b.reshape(x, (batch, 1, length, channels))
    y = _window(b, wide, (1, *kernel), (1, *stride), ((0, 0), *pads), "NHWC")
    return b.reshape(y, (batch, y.shape[2], channels))


def _volume(b: Builder, x: Value, kernel: Any, stride: Any, pads: Any) -> Value:
    """A pool of planes, then one over the depth: both maxima and means come apart like that."""
    batch, depth, height, width, channels = x.shape
    plane = b.reshape(x, (batch * depth, height, width, channels))
    y = _window(b, plane, kernel[1:], stride[1:], pads[1:], "NHWC")
    height, width = y.shape[1:3]
    rows = b.reshape(y, (batch, depth, height * width, channels))
    y = _window(b, rows, (kernel[0], 1), (stride[0], 1), (pads[0], (0, 0)), "NHWC")
    return b.reshape(y, (batch, y.shape[1], height, width, channels))


@layer("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D", "GlobalMaxPooling1D",
       "GlobalMaxPooling2D", "GlobalMaxPooling3D", "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalAvgPool3D",
       "GlobalMaxPool1D", "GlobalMaxPool2D", "GlobalMaxPool3D")  # fmt: skip
def global_pool(b: Builder, x: Value, mask: Value | None = None) -> Value:
    kind = b.place.layer.kind
    n = int(kind[-2])
    if x.rank != n + 2:
        raise Unsupported(f"its input has the shape {list(x.shape)}, not rank {n + 2}")
    axes = tuple(range(1, n + 1)) if b.layout() == "NHWC" else tuple(range(2, n + 2))
    keep = b.flag("keepdims")
    x = x if "Max" in kind or b.major < 3 else b.floating(x)
    if mask is not None and n == 1 and "Max" not in kind:
        return _counted(b, x, mask, axes, keep)
    return b((ops.ReduceMax if "Max" in kind else ops.ReduceMean)(axes, keep), x)


def _counted(b: Builder, x: Value, mask: Value, axes: tuple[int, ...], keep: bool) -> Value:
    """The mean over the steps that count."""
    shape = (mask.shape[0], mask.shape[1], 1) if axes == (1,) else (mask.shape[0], 1, mask.shape[1])
    wide = b.reshape(mask, shape)
    shown = b(ops.Where(), wide, x, b.scalar(0.0, x.dtype))
    return b(ops.Div(), b(ops.ReduceSum(axes, keep), shown), b(ops.ReduceSum(axes, keep), b.cast(wide, x.dtype)))


@layer("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D", "AdaptiveMaxPooling1D",
       "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D")  # fmt: skip
def adaptive_pool(b: Builder, x: Value) -> Value:
    return adapted(b, x, int(b.place.layer.kind[-2]))


def adapted(b: Builder, x: Value, n: int) -> Value:
    """Windows of ``n`` dimensions that divide each axis into ``output_size`` parts as evenly as may be."""
    layout, size = b.layout(), b.sizes("output_size", n)
    if x.rank != n + 2:
        raise Unsupported(f"its input has the shape {list(x.shape)}, not rank {n + 2}")
    made = ops.AdaptiveMaxPool2d if "Max" in b.place.layer.kind else ops.AdaptiveAvgPool2d
    if n == 2:
        return b(made(size, layout), x)  # type: ignore[arg-type]
    first = range(1, n + 1) if layout == "NHWC" else range(2, n + 2)
    for axis, count in zip(first, size, strict=True):  # maxima and means of boxes come apart axis by axis
        before, behind = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
        y = b(made((count, 1), "NHWC"), b.reshape(x, (before, x.shape[axis], 1, behind)))
        x = b.reshape(y, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
    return x
