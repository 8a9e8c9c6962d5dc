"""Pictures in other sizes, as TensorFlow resizes them: every kernel that it has, and with the aspect ratio kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.registry import Unsupported
from instep.graph import Value, ops

__all__ = ["placed", "resized", "whole_numbers"]

#: TensorFlow reads the weights of its bicubic resizing from a table of so many places between two pixels.
_TABLE = 1024


def resized(b: Builder, x: Value, size: Any, mode: Any, layout: str, antialias: bool = False) -> Value:
    """Height and width resized as tf.image.resize does it, with half-pixel centres."""
    if len(size) != 2 or any(not isinstance(n, int) or n < 1 for n in size):
        raise Unsupported(f"its size is {size}")
    if mode not in ("nearest", "bilinear"):
        return _mixed(b, x, size, mode, layout, antialias)
    coordinates = "half_pixel"
    spatial = _spatial(x, layout)
    if mode == "nearest":
        simple, exact = (
            [ops.resize_matrix(n, m, "nearest", c) for n, m in zip(spatial, size, strict=True)]
            for c in ("asymmetric", "half_pixel")
        )
        # repeating pixels is the same under both, and the plainer one is what engines know best
        if all(np.array_equal(p, q) for p, q in zip(simple, exact, strict=True)):
            coordinates = "asymmetric"
    grows = all(m >= n for n, m in zip(spatial, size, strict=True))
    smooth = bool(antialias) and mode == "bilinear" and not grows
    return b(ops.Resize2d((size[0], size[1]), mode, coordinates, antialias=smooth, layout=layout), x)


def whole_numbers(b: Builder, x: Value, mode: Any) -> None:
    """Keras 3 makes whole numbers of what it resizes of them, by cutting off: a rounding error away from another."""
    if mode != "nearest" and np.dtype(x.dtype).kind != "f":
        raise Unsupported("it resizes whole numbers and cuts off what is behind the point; convert to float before it")


def _spatial(x: Value, layout: str) -> tuple[int, int]:
    height, width = x.shape[-3:-1] if layout == "NHWC" else x.shape[-2:]
    return height, width


# -- kernels -----------------------------------------------------------------------------------------------------------
def _keys(t: np.ndarray, a: float = -0.5) -> np.ndarray:
    """The cubic of Keys (IEEE ASSP 29(6), 1981)."""
    t = np.abs(t)
    near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _mitchell(t: np.ndarray) -> np.ndarray:
    """Mitchell and Netravali (SIGGRAPH 1988) with B = C = 1/3."""
    t = np.abs(t)
    near, far = 7 / 6 * t**3 - 2 * t**2 + 8 / 9, -7 / 18 * t**3 + 2 * t**2 - 10 / 3 * t + 16 / 9
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


def _lanczos(radius: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: np.where(np.abs(t) < radius, np.sinc(t) * np.sinc(t / radius), 0.0)


def _gaussian(t: np.ndarray) -> np.ndarray:
    """Of radius 1.5, three deviations."""
    return np.where(np.abs(t) < 1.5, np.exp(-(t**2) / (2 * 0.5**2)), 0.0)


_KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "bicubic": (_keys, 2.0), "lanczos3": (_lanczos(3), 3.0), "lanczos5": (_lanczos(5), 5.0),
    "gaussian": (_gaussian, 1.5), "mitchellcubic": (_mitchell, 2.0),
}  # fmt: skip


def _weights(size: int, out: int, mode: str, antialias: bool) -> np.ndarray:
    """[out, size]: what each new pixel takes of the old ones (``ScaleAndTranslate`` of TensorFlow)."""
    ratio = size / out
    if mode == "area":
        return _areas(size, out)
    if mode == "bicubic" and not antialias:
        return _cubics(size, out)
    kernel, radius = _KERNELS[mode]
    wide = max(ratio, 1.0) if antialias else 1.0
    matrix = np.zeros((out, size))
    for i in range(out):
        centre = (i + 0.5) * ratio
        low = max(math.ceil(centre - radius * wide - 0.5), 0)
        high = min(math.floor(centre + radius * wide - 0.5), size - 1)
        places = np.arange(low, high + 1)
        row = kernel((places + 0.5 - centre) / wide)
        matrix[i, places] = row / row.sum()
    return matrix


def _cubics(size: int, out: int) -> np.ndarray:
    """``ResizeBicubic``: pixels beyond the border have no part."""
    matrix = np.zeros((out, size))
    for i in range(out):
        place = np.float32((np.float32(i) + np.float32(0.5)) * np.float32(size / out) - np.float32(0.5))
        low = math.floor(place)
        offset = round(float(np.float32(place - np.float32(low)) * np.float32(_TABLE))) / _TABLE
        places = np.arange(low - 1, low + 3)
        row = np.where((places >= 0) & (places < size), _keys(offset - np.arange(-1, 3)), 0.0)
        np.add.at(matrix[i], np.clip(places, 0, size - 1), row / row.sum())
    return matrix


def _areas(size: int, out: int) -> np.ndarray:
    """The mean over the part of the axis that a new pixel covers."""
    edges = np.arange(out + 1) * (size / out)
    cells = np.arange(size)
    shared = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return np.maximum(shared, 0.0) * (out / size)


def _mixed(b: Builder, x: Value, size: Sequence[int], mode: Any, layout: str, antialias: bool) -> Value:
    """Both axes resized by a matrix of weights each."""
    if mode not in (*_KERNELS, "area"):
        raise Unsupported(f"its interpolation is {mode!r}, which is none of TensorFlow's")
    first = x.rank - 3 if layout == "NHWC" else x.rank - 2
    for axis, want in zip((first, first + 1), size, strict=True):
        count = x.shape[axis]
        if count == want and mode != "gaussian" and mode != "mitchellcubic":
            continue
        weights = b.constant(_weights(count, want, mode, antialias).astype(np.float32), "weights")
        before, behind = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
        if behind == 1:
            y = b(ops.MatMul(transpose_b=True), b.reshape(x, (before, count)), weights)
        else:
            y = b(ops.MatMul(), weights, b.reshape(x, (before, count, behind)))
        x = b.reshape(y, (*x.shape[:axis], want, *x.shape[axis + 1 :]))
    return x


# -- aspect ratio ------------------------------------------------------------------------------------------------------
def placed(b: Builder, x: Value, size: Sequence[int], layout: str, crop: bool, fill: float | None) -> Value:
    """x cropped about its middle, or padded with ``fill``, to the aspect ratio of ``size``."""
    if not crop and fill is None:
        return x
    height, width = _spatial(x, layout)
    high, wide = (int(np.float32(n * t) / np.float32(u)) for n, t, u in ((width, *size), (height, *size[::-1])))
    pads = [(0, 0)] * x.rank
    first = x.rank - 3 if layout == "NHWC" else x.rank - 2
    for axis, n, wanted in ((first, height, high), (first + 1, width, wide)):
        if crop:
            kept = max(min(n, wanted), 1)
            before = (n - kept) // 2
            pads[axis] = (-before, -(n - kept - before))
        else:  # as much on both sides: the rest that an odd number leaves is dropped
            each = (max(n, wanted) - n) // 2
            pads[axis] = (each, each)
    return b.pad(x, pads, value=float(fill or 0.0))
