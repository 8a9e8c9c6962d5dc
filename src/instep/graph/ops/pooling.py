"""Pools, of windows and to a given number of bins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from instep.graph.operator import Operator, Spec, activate, operator
from instep.graph.ops.images import NO_PAD, Pads2d, from_nchw, join_shape, split_shape, to_nchw, window_counts, windows

__all__ = ["AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d", "MaxPool2d"]


class _Pool(Operator):
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Pads2d
    layout: str
    spatial = True

    def _out(self, x: Spec, dilation: tuple[int, int], pads: Pads2d) -> tuple[Spec, ...]:
        n, c, h, w = split_shape(x.shape, self.layout)
        oh, ow = window_counts((h, w), self.kernel, self.stride, dilation, pads)
        return (Spec(join_shape(n, c, oh, ow, self.layout), x.dtype),)

    def arithmetic(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        return math.prod(self.kernel) * outputs[0].size


@operator
class MaxPool2d(_Pool):
    """Maximum over windows; padded places never win. ``ceil_mode`` is captured as more bottom/right padding."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Pads2d = NO_PAD
    dilation: tuple[int, int] = (1, 1)
    layout: str = "NCHW"
    activation: str = ""

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        return self._out(inputs[0], self.dilation, self.padding)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        view = windows(x, self.kernel, self.stride, self.dilation, self.padding, -np.inf)
        return (from_nchw(activate(view.max((4, 5)), self.activation), self.layout),)


@operator
class AvgPool2d(_Pool):
    """Mean over windows.

    The divisor counts the window's places on the input and, with ``count_include_pad``, those on ``padding``;
    places on ``overhang`` (extra rows at the bottom and columns at the right, from torch's ``ceil_mode``) are never
    counted. TFLite's AVERAGE_POOL_2D is ``count_include_pad=False``.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Pads2d = NO_PAD
    count_include_pad: bool = True
    overhang: tuple[int, int] = (0, 0)
    layout: str = "NCHW"
    activation: str = ""

    @property
    def all_pads(self) -> Pads2d:
        """Padding and overhang together."""
        (t, b), (left, r) = self.padding
        return ((t, b + self.overhang[0]), (left, r + self.overhang[1]))

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        return self._out(inputs[0], (1, 1), self.all_pads)

    def divisor(self, h: int, w: int) -> np.ndarray:
        """[OH, OW] number of counted places of each window for an input of h × w."""
        ones = np.ones((1, 1, h, w))
        ones = np.pad(ones, ((0, 0), (0, 0), *self.padding), constant_values=float(self.count_include_pad))
        over = ((0, self.overhang[0]), (0, self.overhang[1]))
        return windows(ones, self.kernel, self.stride, (1, 1), over, 0.0).sum((4, 5))[0, 0]

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        view = windows(x, self.kernel, self.stride, (1, 1), self.all_pads, 0.0)
        result = view.sum((4, 5)) / self.divisor(*x.shape[2:]).astype(x.dtype)
        return (from_nchw(activate(result, self.activation), self.layout),)


class _Adaptive(Operator):
    output_size: tuple[int, int]
    layout: str
    spatial = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        n, c, _, _ = split_shape(x.shape, self.layout)
        return (Spec(join_shape(n, c, *self.output_size, self.layout), x.dtype),)

    def arithmetic(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        n, c, *sizes = split_shape(inputs[0].shape, self.layout)
        wide = (sum(b - a for a, b in self.bins(n, out)) for n, out in zip(sizes, self.output_size, strict=True))
        return n * c * math.prod(wide)

    @staticmethod
    def bins(size: int, out: int) -> list[tuple[int, int]]:
        """Start and stop of each bin: floor(i · size / out) to ceil((i + 1) · size / out) (torch's rule)."""
        return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]

    def _pool(self, x: np.ndarray, axis: int, out: int, how: str) -> np.ndarray:
        parts = []
        for a, b in self.bins(x.shape[axis], out):
            piece = np.take(x, np.arange(a, b), axis)
            parts.append(getattr(piece, how)(axis, keepdims=True))
        return np.concatenate(parts, axis)


@operator
class AdaptiveAvgPool2d(_Adaptive):
    """Mean over ``output_size`` bins per axis, of any sizes (torch.nn.AdaptiveAvgPool2d)."""

    output_size: tuple[int, int]
    layout: str = "NCHW"

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        x = self._pool(self._pool(x, 2, self.output_size[0], "mean"), 3, self.output_size[1], "mean")
        return (from_nchw(x, self.layout),)


@operator
class AdaptiveMaxPool2d(_Adaptive):
    """Maximum over ``output_size`` bins per axis, of any sizes (torch.nn.AdaptiveMaxPool2d)."""

    output_size: tuple[int, int]
    layout: str = "NCHW"

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        x = self._pool(self._pool(x, 2, self.output_size[0], "max"), 3, self.output_size[1], "max")
        return (from_nchw(x, self.layout),)
