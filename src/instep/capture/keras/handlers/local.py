"""Convolutions of Keras 2 whose kernel is another at every place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []


@layer("LocallyConnected1D", "LocallyConnected2D")
def locally_connected(b: Builder, x: Value) -> Value:
    """Each window times a matrix of its own, [places, window · channels, filters]."""
    n, layout = int(b.place.layer.kind[-2]), b.layout()
    if x.rank != n + 2:
        raise Unsupported(f"its input has the shape {list(x.shape)}, not rank {n + 2}")
    x = b.permute(x, (0, *range(2, n + 2), 1)) if layout == "NCHW" else x
    sizes, channels = x.shape[1:-1], x.shape[-1]
    kernel, stride, filters = b.sizes("kernel_size", n), b.sizes("strides", n, 1), b.whole("filters")
    mode = b.field("padding", "valid")
    if mode not in ("valid", "same"):
        raise Unsupported(f"its padding is {mode!r}")
    counts = [-(-s // t) if mode == "same" else (s - k) // t + 1 for s, k, t in zip(sizes, kernel, stride, strict=True)]
    # its own SAME: half the window before each place, whatever the stride
    pads = tuple(
        (k // 2, (c - 1) * t + k - k // 2 - s) if mode == "same" else (0, 0)
        for s, k, t, c in zip(sizes, kernel, stride, counts, strict=True)
    )
    weight = _matrices(b, sizes, channels, kernel, stride, pads, counts, filters)
    windows = _windows(b, x, kernel, stride, pads)  # [places, batch, window · channels]
    y = b.permute(b(ops.MatMul(), windows, weight), (1, 0, 2))
    y = b.reshape(y, (x.shape[0], *counts, filters))
    if b.flag("use_bias", True):
        # with the channels first Keras reads the same numbers as [filters, …]
        first = (lambda a: np.moveaxis(a.reshape(filters, *counts), 0, -1)) if layout == "NCHW" else None
        y = b(ops.Add(), y, b.weight("bias", (*counts, filters), "bias", first))
    y = b.permute(y, (0, n + 1, *range(1, n + 1))) if layout == "NCHW" else y
    return b.activated(y, b.field("activation"))


def _windows(b: Builder, x: Value, kernel: Sequence[int], stride: Sequence[int], pads: Any) -> Value:
    """[places, batch, window · channels], the channels last within a window."""
    padded = b.pad(x, [(0, 0), *pads, (0, 0)])
    n = len(kernel)
    sizes = padded.shape[1:-1]
    grids = [
        np.arange((s - k) // t + 1)[:, None] * t + np.arange(k)
        for s, k, t in zip(sizes, kernel, stride, strict=True)
    ]  # fmt: skip
    places = grids[0] if n == 1 else grids[0][:, None, :, None] * sizes[1] + grids[1][None, :, None, :]
    index = places.reshape(math.prod(len(g) for g in grids), math.prod(kernel)).astype(np.int32)
    flat = b.reshape(padded, (x.shape[0], math.prod(sizes), x.shape[-1]))
    taken = b(ops.Gather(1), flat, b.constant(index, "windows"))  # [batch, places, window, channels]
    merged = b.reshape(taken, (*taken.shape[:2], taken.shape[2] * taken.shape[3]))
    return b.permute(merged, (1, 0, 2))


def _matrices(
    b: Builder, sizes: Sequence[int], channels: int, kernel: Sequence[int], stride: Sequence[int], pads: Any,
    counts: Sequence[int], filters: int,
) -> Value:  # fmt: skip
    """The weights as [places, window · channels, filters], of whichever of three forms the layer keeps."""
    places, window = math.prod(counts), math.prod(kernel)
    first = b.layout() == "NCHW"
    form = b.field("implementation", 1)
    if form == 1:
        # with the channels first, TensorFlow's windows have them first too
        def turned(a: np.ndarray) -> np.ndarray:
            return a.reshape(places, channels, window, filters).transpose(0, 2, 1, 3).reshape(places, -1, filters)

        shape = (places, window * channels, filters)
        return b.weight("kernel", shape, "weight", turned if first else None)
    rows = _rows(sizes, kernel, stride, pads, counts)
    if form == 2:
        n = len(sizes)
        shape = (channels, *sizes, filters, *counts) if first else (*sizes, channels, *counts, filters)

        def picked(a: np.ndarray) -> np.ndarray:
            a = a.transpose(*range(1, n + 1), 0, *range(n + 2, 2 * n + 2), n + 1) if first else a
            return _picked(a.reshape(math.prod(sizes), channels, places, filters), rows)

        return b.weight("kernel", shape, "weight", picked)
    if form != 3:
        raise Unsupported(f"its implementation is {form}")
    order = _listed(rows, math.prod(sizes), channels, filters, first)

    def spread(a: np.ndarray) -> np.ndarray:
        full = np.zeros((math.prod(sizes), channels, places, filters), np.float32)
        for number, (pixel, channel, place, filter_) in zip(a, order, strict=True):
            full[pixel, channel, place, filter_] = number
        return _picked(full, rows)

    return b.weight("kernel", (len(order),), "weight", spread)


def _rows(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pads: Any, counts: Sequence[int]) -> Any:
    """[places, window]: the pixel that each window reads, -1 where it reads a pad."""
    rows = []
    for place in itertools.product(*(range(c) for c in counts)):
        row = []
        for step in itertools.product(*(range(k) for k in kernel)):
            at = [p * t + s - a for p, t, s, (a, _) in zip(place, stride, step, pads, strict=True)]
            inside = all(0 <= v < n for v, n in zip(at, sizes, strict=True))
            row.append(int(np.ravel_multi_index(at, tuple(sizes))) if inside else -1)
        rows.append(row)
    return np.asarray(rows)


def _picked(full: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[places, window · channels, filters] out of a matrix from every pixel to every place."""
    places, window = rows.shape
    found = np.zeros((places, window, *full.shape[1::2]), np.float32)
    for p in range(places):
        inside = rows[p] >= 0
        found[p, inside] = full[rows[p][inside], :, p]
    return found.reshape(places, -1, full.shape[-1])


def _listed(rows: np.ndarray, pixels: int, channels: int, filters: int, first: bool) -> list[tuple[int, ...]]:
    """(pixel, channel, place, filter) of each number, in the order of (output, input) in which Keras keeps them."""
    found = []
    places = len(rows)
    for p, row in enumerate(rows):
        for pixel, c, f in itertools.product(row[row >= 0].tolist(), range(channels), range(filters)):
            key = (f * places + p, c * pixels + pixel) if first else (p * filters + f, pixel * channels + c)
            found.append((key, (pixel, c, p, f)))
    return [entry for _, entry in sorted(found)]
