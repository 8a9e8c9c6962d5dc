"""Windows side by side as columns, and back (im2col, col2im)."""

from __future__ import annotations

import numpy as np

from instep.graph.operator import Operator, Spec, operator
from instep.graph.ops.images import NO_PAD, Pads2d, from_nchw, join_shape, split_shape, to_nchw, window_counts, windows

__all__ = ["Fold2d", "Unfold2d"]


@operator
class Unfold2d(Operator):
    """im2col: [N, C, H, W] → [N, C·KH·KW, OH·OW] (torch.nn.Unfold); NHWC gives [N, OH·OW, C·KH·KW]."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Pads2d = NO_PAD
    dilation: tuple[int, int] = (1, 1)
    layout: str = "NCHW"
    spatial = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        n, c, *sizes = split_shape(x.shape, self.layout)
        oh, ow = window_counts(sizes, self.kernel, self.stride, self.dilation, self.padding)
        a, b = c * self.kernel[0] * self.kernel[1], oh * ow
        return (Spec((n, a, b) if self.layout == "NCHW" else (n, b, a), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        view = windows(x, self.kernel, self.stride, self.dilation, self.padding, 0.0)
        n, c, oh, ow, kh, kw = view.shape
        y = view.transpose(0, 1, 4, 5, 2, 3).reshape(n, c * kh * kw, oh * ow)
        return (y if self.layout == "NCHW" else y.transpose(0, 2, 1),)


@operator
class Fold2d(Operator):
    """col2im: [N, C·KH·KW, OH·OW] → [N, C, H, W], overlapping places summed (torch.nn.Fold).

    NHWC reads [N, OH·OW, C·KH·KW] and gives [N, H, W, C].
    """

    output_size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Pads2d = NO_PAD
    dilation: tuple[int, int] = (1, 1)
    layout: str = "NCHW"
    spatial = True

    def windows(self) -> tuple[int, int]:
        """(OH, OW), the number of windows per axis."""
        oh, ow = window_counts(self.output_size, self.kernel, self.stride, self.dilation, self.padding)
        return oh, ow

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        n, a, b = x.shape if self.layout == "NCHW" else (x.shape[0], x.shape[2], x.shape[1])
        oh, ow = self.windows()
        area = self.kernel[0] * self.kernel[1]
        if b != oh * ow or a % area:
            raise ValueError(f"{list(x.shape)} does not hold {oh}×{ow} windows of {area} places")
        return (Spec(join_shape(n, a // area, *self.output_size, self.layout), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = inputs[0] if self.layout == "NCHW" else inputs[0].transpose(0, 2, 1)
        oh, ow = self.windows()
        kh, kw = self.kernel
        x = x.reshape(x.shape[0], -1, kh, kw, oh, ow)
        (t, b), (left, r) = self.padding
        h, w = self.output_size
        full = np.zeros((*x.shape[:2], h + t + b, w + left + r), x.dtype)
        (sh, sw), (dh, dw) = self.stride, self.dilation
        for i in range(kh):
            for j in range(kw):
                full[:, :, i * dh : i * dh + oh * sh : sh, j * dw : j * dw + ow * sw : sw] += x[:, :, i, j]
        return (from_nchw(full[:, :, t : t + h, left : left + w], self.layout),)
