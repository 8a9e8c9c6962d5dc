"""Where a resize reads and with what weights, in numpy."""

import numpy as np


def cubic(t, a):
    """Keys' cubic convolution kernel."""
    t = np.abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def resize_taps(size, out, mode, coordinates, scale, antialias):
    """Which places each output place reads along one axis, and with what weights: two arrays [taps, out]."""
    ratio = 1 / scale if scale else size / out
    i = np.arange(out, dtype=np.float64)
    if coordinates == "align_corners":
        position = i * ((size - 1) / (out - 1) if out > 1 else 0.0)
    elif coordinates == "asymmetric":
        position = i * ratio
    else:
        position = (i + 0.5) * ratio - 0.5
    if mode == "nearest":
        # torch computes floor(i · ratio) in float32
        half = np.float32(0.5 if coordinates == "half_pixel" else 0.0)
        low = np.floor((i.astype(np.float32) + half) * np.float32(ratio))
        if coordinates == "align_corners":
            low = np.floor(position + 0.5)
        return np.clip(low.astype(int), 0, size - 1)[None], None
    if antialias:
        stretch = max(ratio, 1.0)
        support = (1.0 if mode == "bilinear" else 2.0) * stretch
        first = np.maximum((position + 1.0 - support).astype(int), 0)
        last = np.minimum((position + 1.0 + support).astype(int), size)
        places = first + np.arange((last - first).max())[:, None]
        t = (places - position) / stretch
        weights = np.maximum(1 - np.abs(t), 0) if mode == "bilinear" else cubic(t, -0.5)
        weights = np.where(places < last, weights, 0.0)
        return np.minimum(places, size - 1), weights / weights.sum(0)
    if mode == "bilinear":
        position = np.maximum(position, 0.0)
        low = np.minimum(np.floor(position).astype(int), size - 1)
        part = position - low
        return np.stack([low, np.minimum(low + 1, size - 1)]), np.stack([1 - part, part])
    low = np.floor(position).astype(int)
    reach = np.arange(-1, 3)[:, None]
    return np.clip(low + reach, 0, size - 1), cubic(position - low - reach, -0.75)
