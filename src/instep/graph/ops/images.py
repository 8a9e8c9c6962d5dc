"""What operators on images share: the two layouts of their axes, explicit pads, and windows.

``layout`` says how to read the first input: "NCHW" (PyTorch) or "NHWC" (Keras, TFLite). Padding is explicit,
``((top, bottom), (left, right))``: what SAME, VALID, ``padding=1`` or ``ceil_mode`` mean is settled at capture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

__all__ = [
    "NO_PAD", "Pads2d", "from_nchw", "from_nhwc", "join_shape", "split_shape", "to_nchw", "to_nhwc",
    "window_counts", "windows",
]  # fmt: skip

Pads2d = tuple[tuple[int, int], tuple[int, int]]
NO_PAD: Pads2d = ((0, 0), (0, 0))


def to_nchw(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout == "NCHW" else x.transpose(0, 3, 1, 2)


def from_nchw(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout == "NCHW" else x.transpose(0, 2, 3, 1)


def to_nhwc(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout == "NHWC" else x.transpose(0, 2, 3, 1)


def from_nhwc(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout == "NHWC" else x.transpose(0, 3, 1, 2)


def split_shape(shape: tuple[int, ...], layout: str) -> tuple[int, int, int, int]:
    """(N, C, H, W) of a shape in ``layout``."""
    if len(shape) != 4:
        raise ValueError(f"needs a rank-4 input in {layout}, got {list(shape)}")
    n, a, b, c = shape
    return (n, a, b, c) if layout == "NCHW" else (n, c, a, b)


def join_shape(n: int, c: int, h: int, w: int, layout: str) -> tuple[int, ...]:
    return (n, c, h, w) if layout == "NCHW" else (n, h, w, c)


def window_counts(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> tuple[int, ...]:
    """How many windows fit along each axis. Raises ValueError where none does."""
    counts = []
    for size, k, s, d, pads in zip(sizes, kernel, stride, dilation, padding, strict=True):
        counts.append((size + sum(pads) - d * (k - 1) - 1) // s + 1)
        if counts[-1] < 1:
            raise ValueError(f"a window of {k} (dilation {d}) does not fit {size} with pads {list(pads)}")
    return tuple(counts)


def windows(
    x: np.ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: Pads2d,
    fill: float,
) -> np.ndarray:
    """[N, C, OH, OW, KH, KW] view of the padded NCHW input."""
    x = np.pad(x, ((0, 0), (0, 0), *padding), constant_values=fill)
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    view = sliding_window_view(x, span, axis=(2, 3))  # type: ignore[call-overload]
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
