"""Functions of keras.ops.image: colours, patches, borders, filters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.spatial import arranged, convolved
from instep.capture.keras.registry import Unsupported, function
from instep.graph import Value, ops

__all__: list[str] = []


def _batched(b: Builder, x: Value, rank: int = 4) -> Value:
    if x.rank not in (rank - 1, rank):
        raise Unsupported(f"its pictures have the shape {list(x.shape)}")
    return x if x.rank == rank else b.reshape(x, (1, *x.shape))


def _channels(b: Builder, x: Value) -> tuple[int, list[Value]]:
    """The axis of the colours, and each of the three."""
    axis = x.rank - 1 if b.layout() == "NHWC" else x.rank - 3
    if x.shape[axis] != 3:
        raise Unsupported(f"it reads red, green and blue of {list(x.shape)}")
    return axis, [b.slice(x, axis, i, i + 1) for i in range(3)]


# -- colours -----------------------------------------------------------------------------------------------------------
@function("RGBToGrayscale")
def to_grey(b: Builder, images: Value, **__: Any) -> Value:
    """0.2989 red + 0.587 green + 0.114 blue."""
    if images.shape[images.rank - 1 if b.layout() == "NHWC" else images.rank - 3] == 1:
        return images
    _, parts = _channels(b, b.floating(images))
    red, green, blue = (
        b(ops.Mul(), p, b.scalar(w, p.dtype)) for p, w in zip(parts, (0.2989, 0.587, 0.114), strict=True)
    )
    return b.cast(b(ops.Add(), b(ops.Add(), red, green), blue), images.dtype)


@function("RGBToHSV")
def to_hsv(b: Builder, images: Value, **_: Any) -> Value:
    """Value the largest of the three, saturation its distance from the smallest over it, hue a place on a circle."""
    axis, (red, green, blue) = _channels(b, images)

    def number(n: float) -> Value:
        return b.scalar(n, images.dtype)

    value = b(ops.ReduceMax((axis,), True), images)
    chroma = b(ops.Sub(), value, b(ops.ReduceMin((axis,), True), images))
    grey, dark = b(ops.Equal(), chroma, number(0.0)), b(ops.LessEqual(), value, number(0.0))
    saturation = b(ops.Div(), chroma, b(ops.Where(), dark, number(1.0), value))
    saturation = b(ops.Where(), dark, number(0.0), saturation)
    unit = b(ops.Div(), number(1 / 6), b(ops.Where(), grey, number(1.0), chroma))

    def part(first: Value, second: Value, start: float) -> Value:
        return b(ops.Add(), b(ops.Mul(), unit, b(ops.Sub(), first, second)), number(start))

    of_red, of_green = (b(ops.Equal(), c, value) for c in (red, green))
    other = b(ops.Where(), of_green, part(blue, red, 2 / 6), part(red, green, 4 / 6))
    hue = b(ops.Where(), of_red, part(green, blue, 0.0), other)
    hue = b(ops.Where(), grey, number(0.0), hue)
    hue = b(ops.Where(), b(ops.Less(), hue, number(0.0)), b(ops.Add(), hue, number(1.0)), hue)
    return b.concat([hue, saturation, value], axis)


@function("HSVToRGB")
def to_rgb(b: Builder, images: Value, **_: Any) -> Value:
    """Each colour a trapezoid over the hue, less what the saturation takes of it."""
    axis, (hue, saturation, value) = _channels(b, images)

    def number(n: float) -> Value:
        return b.scalar(n, images.dtype)

    place = b(ops.Mul(), hue, number(6.0))

    def colour(centre: float, sign: float, start: float) -> Value:
        away = b(ops.Abs(), b(ops.Sub(), place, number(centre)))
        return b(ops.Clip(0.0, 1.0), b(ops.Add(), b(ops.Mul(), away, number(sign)), number(start)))

    parts = [colour(3.0, 1.0, -1.0), colour(2.0, -1.0, 2.0), colour(4.0, -1.0, 2.0)]
    rest = b(ops.Sub(), number(1.0), saturation)
    return b.concat([b(ops.Mul(), b(ops.Add(), rest, b(ops.Mul(), saturation, p)), value) for p in parts], axis)


# -- borders -----------------------------------------------------------------------------------------------------------
@function("PadImages", "CropImages")
def bordered(b: Builder, images: Value, **_: Any) -> Value:
    """Padded or cropped on four sides; what is not given of these follows from the target's size."""
    crops = b.place.layer.kind == "CropImages"
    word, sign = ("cropping", -1) if crops else ("padding", 1)
    first = images.rank - 3 if b.layout() == "NHWC" else images.rank - 2
    pads = [(0, 0)] * images.rank
    for axis, before, behind, size in ((first, "top", "bottom", "height"), (first + 1, "left", "right", "width")):
        given = [b.field(f"{n}_{word}") for n in (before, behind)]
        target = b.field(f"target_{size}")
        if target is not None:
            change = sign * (target - images.shape[axis])
            a, e = given
            given = [change - e if a is None else a, change - a if e is None else e]  # type: ignore[operator]
        if any(not isinstance(n, int) or n < 0 for n in given):
            raise Unsupported(f"its {word} of the {size} is {given}")
        pads[axis] = (sign * given[0], sign * given[1])
    return b.pad(images, pads)


# -- windows -----------------------------------------------------------------------------------------------------------
@function("ExtractPatches")
def patches(b: Builder, images: Value, **_: Any) -> Value:
    """The elements of each window as channels: a convolution with the unit matrix as its kernel."""
    n = images.rank - 2 if isinstance(b.field("size"), int) else len(b.field("size") or ())
    if n == 3 and isinstance(b.field("size"), int):
        raise Unsupported("its size is one number for a volume; give three")
    size = b.sizes("size", n)
    x = _batched(b, images, n + 2)
    channels = x.shape[-1] if b.layout() == "NHWC" else x.shape[1]
    count = math.prod(size) * channels
    kernel = np.eye(count, dtype=np.float32).reshape(*size, channels, count)
    y = convolved(b, x, [b.constant(arranged(n, b.layout())(kernel), "patches")], size, 1, size)
    return y if x.rank == images.rank else b.reshape(y, y.shape[1:])


@function("GaussianBlur")
def gaussian_blur(b: Builder, images: Value, **_: Any) -> Value:
    height, width = b.sizes("kernel_size", 2, 3)
    sigma = b.numbers(b.field("sigma", 1.0), "sigma").reshape(-1)
    rows, columns = (_bell(n, float(s)) for n, s in zip((height, width), np.broadcast_to(sigma, 2), strict=True))
    if height != width:
        raise Unsupported(f"its window of {height} × {width} is one that Keras itself turns; use one of equal sides")
    return _filtered(b, images, np.outer(columns, rows)[..., None], "same")


def _bell(size: int, sigma: float) -> np.ndarray:
    bell = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    return bell / bell.sum()


@function("SobelEdges")
def sobel_edges(b: Builder, images: Value, **_: Any) -> Value:
    """The slopes along height and width, on a new last axis."""
    x = images
    smooth, slope = np.array([1.0, 2.0, 1.0]), np.array([-1.0, 0.0, 1.0])
    kernels = np.stack([np.outer(slope, smooth), np.outer(smooth, slope)], axis=-1)
    first = x.rank - 3 if b.layout() == "NHWC" else x.rank - 2
    wide = b.pad(x, [(1, 1) if a in (first, first + 1) else (0, 0) for a in range(x.rank)], "reflect")
    y = _filtered(b, wide, kernels, "valid")
    if b.layout() == "NHWC":
        return b.reshape(y, (*y.shape[:-1], x.shape[-1], 2))
    split = b.reshape(y, (*y.shape[:-3], x.shape[-3], 2, *y.shape[-2:]))
    return b.permute(split, [*range(x.rank - 2), x.rank - 1, x.rank, x.rank - 2])


def _filtered(b: Builder, images: Value, kernels: np.ndarray, padding: str) -> Value:
    """Every channel under the same filters [height, width, filters]."""
    x = _batched(b, images)
    channels = x.shape[-1] if b.layout() == "NHWC" else x.shape[1]
    height, width, count = kernels.shape
    kernel = np.tile(kernels[:, :, None], (1, 1, channels, 1)).reshape(height, width, 1, channels * count)
    weight = b.constant(arranged(2, b.layout())(kernel.astype(np.float32)), "filters")
    y = convolved(b, x, [weight], (height, width), channels, padding=padding)
    return y if x.rank == images.rank else b.reshape(y, y.shape[1:])
