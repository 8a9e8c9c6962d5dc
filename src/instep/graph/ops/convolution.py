"""Convolutions, plain, transposed and of volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from instep.graph.operator import Operator, Spec, activate, operator
from instep.graph.ops.images import (
    NO_PAD,
    Pads2d,
    from_nchw,
    from_nhwc,
    join_shape,
    split_shape,
    to_nchw,
    to_nhwc,
    window_counts,
)

__all__ = ["Conv2d", "Conv3d", "ConvTranspose2d"]


@operator
class Conv2d(Operator):
    """2-D convolution (cross-correlation), as torch.nn.functional.conv2d.

    Inputs: x, weight, and optionally bias [O]. The weight is [O, C/groups, KH, KW] in NCHW and
    [O, KH, KW, C/groups] in NHWC. ``activation`` is fused behind the bias.
    """

    stride: tuple[int, int] = (1, 1)
    padding: Pads2d = NO_PAD
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    layout: str = "NCHW"
    activation: str = ""
    spatial = True
    each = 1  # the bias

    def kernel(self, weight: tuple[int, ...]) -> tuple[int, int]:
        """(KH, KW) of a weight shape in this layout."""
        return (weight[2], weight[3]) if self.layout == "NCHW" else (weight[1], weight[2])

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x, weight = inputs[:2]
        n, c, h, w = split_shape(x.shape, self.layout)
        o, per_group = weight.shape[0], weight.shape[1 if self.layout == "NCHW" else 3]
        if per_group * self.groups != c or o % self.groups:
            raise ValueError(f"weight {list(weight.shape)} with groups={self.groups} does not fit {c} input channels")
        oh, ow = window_counts((h, w), self.kernel(weight.shape), self.stride, self.dilation, self.padding)
        return (Spec(join_shape(n, o, oh, ow, self.layout), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, weight = to_nhwc(inputs[0], self.layout), to_nhwc(inputs[1], self.layout)
        o, kh, kw, c = weight.shape
        x = np.pad(x, ((0, 0), *self.padding, (0, 0)))
        (sh, sw), (dh, dw), g = self.stride, self.dilation, self.groups
        n, h, w = x.shape[:3]
        oh, ow = (h - dh * (kh - 1) - 1) // sh + 1, (w - dw * (kw - 1) - 1) // sw + 1
        # one matrix product per place of the kernel: nothing is laid out kernel-size times over
        result = np.zeros((g, n * oh * ow, o // g), np.result_type(x, weight))
        for i in range(kh):
            for j in range(kw):
                part = x[:, i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw]
                columns = part.reshape(n * oh * ow, g, c).transpose(1, 0, 2)
                taps = weight[:, i, j].reshape(g, o // g, c).transpose(0, 2, 1)
                result += columns * taps if c == 1 else columns @ taps
        result = result.transpose(1, 0, 2).reshape(n, oh, ow, o)
        if len(inputs) > 2:
            result = result + inputs[2]
        return (from_nhwc(activate(result, self.activation), self.layout),)

    def macs(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        return outputs[0].size * (inputs[1].size // inputs[1].shape[0])


@operator
class ConvTranspose2d(Operator):
    """2-D transposed convolution, the gradient of Conv2d with respect to its input (torch.nn.ConvTranspose2d).

    Inputs: x, weight, and optionally bias [O]. The weight is [C, O/groups, KH, KW] in NCHW and
    [C, KH, KW, O/groups] in NHWC. ``padding`` crops the full result per side; ``output_padding`` adds rows and
    columns at the bottom and right. Output: (H - 1) · stride - crop + dilation · (K - 1) + output_padding + 1.
    """

    stride: tuple[int, int] = (1, 1)
    padding: Pads2d = NO_PAD
    output_padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    layout: str = "NCHW"
    activation: str = ""
    spatial = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x, weight = inputs[:2]
        n, c, h, w = split_shape(x.shape, self.layout)
        shape = weight.shape if self.layout == "NCHW" else tuple(weight.shape[i] for i in (0, 3, 1, 2))
        if shape[0] != c or c % self.groups:
            raise ValueError(f"weight {list(weight.shape)} does not fit {c} input channels")
        size = [
            (n_in - 1) * s - sum(p) + d * (k - 1) + op + 1
            for n_in, s, p, d, k, op in zip(
                (h, w), self.stride, self.padding, self.dilation, shape[2:], self.output_padding, strict=True
            )
        ]
        if min(size) < 1:
            raise ValueError(f"output size {size} is empty")
        return (Spec(join_shape(n, shape[1] * self.groups, size[0], size[1], self.layout), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, weight = to_nchw(inputs[0], self.layout), to_nchw(inputs[1], self.layout)
        n, c, h, w = x.shape
        _, per_group, kh, kw = weight.shape
        g = self.groups
        (sh, sw), (dh, dw) = self.stride, self.dilation
        full = np.zeros(
            (
                n,
                g * per_group,
                (h - 1) * sh + dh * (kh - 1) + 1 + self.output_padding[0],
                (w - 1) * sw + dw * (kw - 1) + 1 + self.output_padding[1],
            ),
            x.dtype,
        )
        xs = x.reshape(n, g, c // g, h, w)
        ws = weight.reshape(g, c // g, per_group, kh, kw)
        for i in range(kh):
            for j in range(kw):
                part = np.einsum("ngchw,gco->ngohw", xs, ws[:, :, :, i, j]).reshape(n, g * per_group, h, w)
                full[:, :, i * dh : i * dh + (h - 1) * sh + 1 : sh, j * dw : j * dw + (w - 1) * sw + 1 : sw] += part
        (t, b), (left, r) = self.padding
        result = full[:, :, t : full.shape[2] - b, left : full.shape[3] - r]
        if len(inputs) > 2:
            result = result + inputs[2][:, None, None]
        return (from_nchw(activate(result, self.activation), self.layout),)

    def macs(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        return inputs[0].size * (inputs[1].size // inputs[1].shape[0])


@operator
class Conv3d(Operator):
    """3-D convolution for volumetric networks (torch.nn.functional.conv3d).

    Inputs: x, weight, and optionally bias. "NCHW" reads x as NCDHW with weight [O, C/g, KD, KH, KW]; "NHWC" reads
    x as NDHWC with weight [O, KD, KH, KW, C/g].
    """

    stride: tuple[int, int, int] = (1, 1, 1)
    padding: tuple[tuple[int, int], ...] = ((0, 0), (0, 0), (0, 0))
    dilation: tuple[int, int, int] = (1, 1, 1)
    groups: int = 1
    layout: str = "NCHW"
    activation: str = ""
    spatial = True
    each = 1  # the bias

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x, weight = inputs[:2]
        if len(x.shape) != 5:
            raise ValueError(f"needs a rank-5 input, got {list(x.shape)}")
        first = self.layout == "NCHW"
        sizes, kernel = (x.shape[2:], weight.shape[2:]) if first else (x.shape[1:4], weight.shape[1:4])
        out = window_counts(sizes, kernel, self.stride, self.dilation, self.padding)
        o = weight.shape[0]
        return (Spec((x.shape[0], o, *out) if first else (x.shape[0], *out, o), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        first = self.layout == "NCHW"
        x = inputs[0] if first else inputs[0].transpose(0, 4, 1, 2, 3)
        weight = inputs[1] if first else inputs[1].transpose(0, 4, 1, 2, 3)
        o, c, *kernel = weight.shape
        x = np.pad(x, ((0, 0), (0, 0), *self.padding))
        span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, self.dilation, strict=True))
        view = sliding_window_view(x, span, axis=(2, 3, 4))  # type: ignore[call-overload]
        (sd, sh, sw), (dd, dh, dw) = self.stride, self.dilation
        view = view[:, :, ::sd, ::sh, ::sw, ::dd, ::dh, ::dw]
        n, _, *out = view.shape[:5]
        g = self.groups
        columns = view.reshape(n, g, c, *out, -1).transpose(1, 0, 3, 4, 5, 2, 6).reshape(g, -1, c * math.prod(kernel))
        result = (columns @ weight.reshape(g, o // g, -1).transpose(0, 2, 1)).reshape(g, n, *out, o // g)
        result = result.transpose(1, 0, 5, 2, 3, 4).reshape(n, o, *out)
        if len(inputs) > 2:
            result = result + inputs[2][:, None, None, None]
        result = activate(result, self.activation)
        return (result if first else result.transpose(0, 2, 3, 4, 1),)

    def macs(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        return outputs[0].size * (inputs[1].size // inputs[1].shape[0])
