"""Layers that move, repeat, pad and cut."""

from __future__ import annotations

import math
from typing import Any

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.resizing import resized
from instep.capture.keras.masks import counted
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__ = ["repeated"]


@layer("Flatten")
def flatten(b: Builder, x: Value) -> Value:
    """Row-major over height, width and channels; ``channels_first`` turns to that order before."""
    if b.layout() == "NCHW" and x.rank > 2:
        x = b.permute(x, (0, *range(2, x.rank), 1))
    return b.reshape(x, (x.shape[0], math.prod(x.shape[1:])))


@layer("Reshape")
def reshape(b: Builder, x: Value) -> Value:
    target = b.field("target_shape")
    target = target.get("items") if isinstance(target, dict) else target
    target = [target] if isinstance(target, int) else target
    if not isinstance(target, list) or any(not isinstance(n, int) or n < -1 for n in target) or target.count(-1) > 1:
        raise Unsupported(f"its target_shape is {target}")
    return b.reshape(x, [x.shape[0], *target])


@layer("Permute")
def permute(b: Builder, x: Value) -> Value:
    dims = b.sizes("dims", x.rank - 1)
    return b.permute(x, (0, *dims))


@layer("RepeatVector")
def repeat_vector(b: Builder, x: Value) -> Value:
    n = b.whole("n")
    return b.expand(b.reshape(x, (x.shape[0], 1, *x.shape[1:])), (x.shape[0], n, *x.shape[1:]))


@layer("Identity", "ActivityRegularization", "StochasticDepth")
def identity(b: Builder, x: Value) -> Value:
    return x


@layer("Masking")
def masking(b: Builder, x: Value) -> Value:
    """Steps whose features are all the mask's number are zeros."""
    return b(ops.Where(), counted(b, x, True), x, b.scalar(0.0, x.dtype))


@layer("GaussianNoise", "GaussianDropout", "AlphaDropout")
def noise(b: Builder, x: Value) -> Value:
    """Nothing outside of training."""
    return x


@layer("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
def dropout(b: Builder, x: Value) -> Value:
    rate = b.number("rate", 0.5)
    shared: tuple[int, ...] = ()
    if "Spatial" in b.place.layer.kind:
        shared = tuple(range(1, x.rank - 1)) if b.layout() == "NHWC" else tuple(range(2, x.rank))
    noise = b.field("noise_shape")
    if isinstance(noise, list) and len(noise) == x.rank:
        shared = tuple(i for i, (n, m) in enumerate(zip(noise, x.shape, strict=True)) if i and n == 1 and m != 1)
    return b(ops.Dropout(rate, shared), x) if rate else x


def _spatial(b: Builder, x: Value, field: str, default: Any) -> list[tuple[int, int]]:
    """(before, after) for every axis of x."""
    n = int(b.place.layer.kind[-2])
    if x.rank != n + 2:
        raise Unsupported(f"its input has the shape {list(x.shape)}, not rank {n + 2}")
    pairs = b.pairs(field, n, default)
    return [(0, 0), *pairs, (0, 0)] if b.layout() == "NHWC" else [(0, 0), (0, 0), *pairs]


@layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(b: Builder, x: Value) -> Value:
    return b.pad(x, _spatial(b, x, "padding", 1))


@layer("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(b: Builder, x: Value) -> Value:
    pairs = _spatial(b, x, "cropping", 1 if b.place.layer.kind != "Cropping2D" else 0)
    if any(a + e >= n for (a, e), n in zip(pairs, x.shape, strict=True)):
        raise Unsupported(f"it crops {[p for p in pairs if any(p)]} of {list(x.shape)}: nothing is left")
    return b.pad(x, [(-a, -e) for a, e in pairs])


@layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(b: Builder, x: Value) -> Value:
    n, layout = int(b.place.layer.kind[-2]), b.layout()
    if x.rank != n + 2:
        raise Unsupported(f"its input has the shape {list(x.shape)}, not rank {n + 2}")
    times = b.sizes("size", n, 2)
    mode = b.field("interpolation") or "nearest"
    if n == 2:
        sizes = x.shape[1:3] if layout == "NHWC" else x.shape[2:]
        return resized(b, x, [s * t for s, t in zip(sizes, times, strict=True)], mode, layout)
    axes = range(1, n + 1) if layout == "NHWC" else range(2, n + 2)
    for axis, t in zip(axes, times, strict=True):
        x = repeated(b, x, axis, t)
    return x


def repeated(b: Builder, x: Value, axis: int, times: int) -> Value:
    """Each element ``times`` times along ``axis``."""
    if times == 1:
        return x
    shape = [*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]]
    wide = [*x.shape[: axis + 1], times, *x.shape[axis + 1 :]]
    y = b.expand(b.reshape(x, shape), wide)
    return b.reshape(y, [*x.shape[:axis], x.shape[axis] * times, *x.shape[axis + 1 :]])
