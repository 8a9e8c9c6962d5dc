"""Operators with a spatial layout: convolutions, pools, resizing, pixel shuffles, sampling.

``layout`` says how to read the first input: "NCHW" (PyTorch) or "NHWC" (Keras, TFLite). Padding is explicit,
``((top, bottom), (left, right))``: what SAME, VALID, ``padding=1`` or ``ceil_mode`` mean is settled at capture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from instep.graph.operator import Operator, Spec, activate, operator

__all__ = [
    "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d", "Conv2d", "Conv3d", "ConvTranspose2d", "DepthToSpace",
    "Fold2d", "GridSample", "MaxPool2d", "Pads2d", "Resize2d", "SpaceToDepth", "Unfold2d", "resize_matrix",
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


def _window(size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int]) -> int:
    out = (size + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1
    if out < 1:
        raise ValueError(f"a window of {kernel} (dilation {dilation}) does not fit {size} with pads {list(pads)}")
    return out


def _windows(
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
        kh, kw = self.kernel(weight.shape)
        oh = _window(h, kh, self.stride[0], self.dilation[0], self.padding[0])
        ow = _window(w, kw, self.stride[1], self.dilation[1], self.padding[1])
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
        out = [
            _window(n, k, s, d, p)
            for n, k, s, d, p in zip(sizes, kernel, self.stride, self.dilation, self.padding, strict=True)
        ]
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


class _Pool(Operator):
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Pads2d
    layout: str
    spatial = True

    def _out(self, x: Spec, dilation: tuple[int, int], pads: Pads2d) -> tuple[Spec, ...]:
        n, c, h, w = split_shape(x.shape, self.layout)
        oh = _window(h, self.kernel[0], self.stride[0], dilation[0], pads[0])
        ow = _window(w, self.kernel[1], self.stride[1], dilation[1], pads[1])
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
        view = _windows(x, self.kernel, self.stride, self.dilation, self.padding, -np.inf)
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
        return _windows(ones, self.kernel, self.stride, (1, 1), over, 0.0).sum((4, 5))[0, 0]

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        view = _windows(x, self.kernel, self.stride, (1, 1), self.all_pads, 0.0)
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


def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    t = np.abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def resize_matrix(
    size: int, out: int, mode: str, coordinates: str, scale: float | None = None, antialias: bool = False
) -> np.ndarray:
    """The [out, size] float64 matrix that resizes one axis. See Resize2d for the arguments."""
    ratio = (1 / scale) if scale else size / out
    i = np.arange(out, dtype=np.float64)
    if coordinates == "align_corners":
        ratio = (size - 1) / (out - 1) if out > 1 else 0.0
        position = i * ratio
    elif coordinates == "asymmetric":
        position = i * ratio
    else:
        position = (i + 0.5) * ratio - 0.5
    matrix = np.zeros((out, size))
    if mode == "nearest":
        # torch computes floor(i · ratio) in float32
        single = np.float32(ratio)
        if coordinates == "half_pixel":
            index = np.floor((i.astype(np.float32) + np.float32(0.5)) * single)
        elif coordinates == "align_corners":
            index = np.floor(position + 0.5)
        else:
            index = np.floor(i.astype(np.float32) * single)
        matrix[np.arange(out), np.clip(index.astype(int), 0, size - 1)] = 1.0
        return matrix
    if antialias:
        support = (1.0 if mode == "bilinear" else 2.0) * max(ratio, 1.0)
        center = position + 0.5
        for k in range(out):
            low = max(int(center[k] - support + 0.5), 0)
            high = min(int(center[k] + support + 0.5), size)
            t = (np.arange(low, high) - center[k] + 0.5) / max(ratio, 1.0)
            weight = np.maximum(1 - np.abs(t), 0) if mode == "bilinear" else _cubic(t, -0.5)
            matrix[k, low:high] = weight / weight.sum()
        return matrix
    if mode == "bilinear":
        position = np.maximum(position, 0.0)
        low = np.minimum(np.floor(position).astype(int), size - 1)
        high = np.minimum(low + 1, size - 1)
        frac = position - low
        np.add.at(matrix, (np.arange(out), low), 1 - frac)
        np.add.at(matrix, (np.arange(out), high), frac)
        return matrix
    if mode != "bicubic":
        raise ValueError(f"mode must be 'nearest', 'bilinear' or 'bicubic', got {mode!r}")
    base = np.floor(position).astype(int)
    frac = position - base
    for k in range(-1, 3):
        np.add.at(matrix, (np.arange(out), np.clip(base + k, 0, size - 1)), _cubic(frac - k, -0.75))
    return matrix


@operator
class Resize2d(Operator):
    """Resize height and width to ``size`` (torch.nn.functional.interpolate, tf.image.resize).

    ``mode``: "nearest", "bilinear" or "bicubic" (a = -0.75; -0.5 with ``antialias``).
    ``coordinates`` maps output index i to the source: "half_pixel" (i + ½) · r - ½, "asymmetric" i · r,
    "align_corners" i · (in - 1) / (out - 1). r = in / out, or 1 / scale where ``scale`` is given (torch with
    ``scale_factor``). torch: bilinear/bicubic are half_pixel, "nearest" is asymmetric, "nearest-exact" half_pixel;
    TF1's bilinear without half-pixel centres is asymmetric.
    """

    size: tuple[int, int]
    mode: str = "bilinear"
    coordinates: str = "half_pixel"
    scale: tuple[float, float] | None = None
    antialias: bool = False
    layout: str = "NCHW"
    spatial = True

    def matrices(self, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
        """The [OH, H] and [OW, W] matrices: result = R_h · x · R_wᵀ per channel."""
        scale = self.scale or (None, None)
        return (
            resize_matrix(h, self.size[0], self.mode, self.coordinates, scale[0], self.antialias),
            resize_matrix(w, self.size[1], self.mode, self.coordinates, scale[1], self.antialias),
        )

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        n, c, _, _ = split_shape(x.shape, self.layout)
        return (Spec(join_shape(n, c, *self.size, self.layout), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        rows, cols = self.matrices(*x.shape[2:])
        return (from_nchw(rows.astype(x.dtype) @ x @ cols.astype(x.dtype).T, self.layout),)


@operator
class DepthToSpace(Operator):
    """[N, C·r², H, W] → [N, C, H·r, W·r] (PixelShuffle, Shi et al., arXiv 1609.05158).

    ``order="CRD"`` (torch.nn.PixelShuffle): input channel = c·r² + dy·r + dx.
    ``order="DCR"`` (TFLite, tf.nn.depth_to_space): input channel = (dy·r + dx)·C + c.
    """

    block: int
    order: str = "CRD"
    layout: str = "NCHW"
    spatial = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        n, c, h, w = split_shape(x.shape, self.layout)
        r = self.block
        if c % (r * r):
            raise ValueError(f"{c} channels are not a multiple of {r}²")
        return (Spec(join_shape(n, c // (r * r), h * r, w * r, self.layout), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        n, c, h, w = x.shape
        r = self.block
        if self.order == "CRD":
            y = x.reshape(n, c // (r * r), r, r, h, w).transpose(0, 1, 4, 2, 5, 3)
        else:
            y = x.reshape(n, r, r, c // (r * r), h, w).transpose(0, 3, 4, 1, 5, 2)
        return (from_nchw(y.reshape(n, c // (r * r), h * r, w * r), self.layout),)


@operator
class SpaceToDepth(Operator):
    """[N, C, H·r, W·r] → [N, C·r², H, W]: the inverse of DepthToSpace with the same ``order``."""

    block: int
    order: str = "CRD"
    layout: str = "NCHW"
    spatial = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        n, c, h, w = split_shape(x.shape, self.layout)
        r = self.block
        if h % r or w % r:
            raise ValueError(f"{h}×{w} is not a multiple of {r}")
        return (Spec(join_shape(n, c * r * r, h // r, w // r, self.layout), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        n, c, h, w = x.shape
        r = self.block
        y = x.reshape(n, c, h // r, r, w // r, r)
        y = y.transpose(0, 1, 3, 5, 2, 4) if self.order == "CRD" else y.transpose(0, 3, 5, 1, 2, 4)
        return (from_nchw(y.reshape(n, c * r * r, h // r, w // r), self.layout),)


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
        n, c, h, w = split_shape(x.shape, self.layout)
        oh = _window(h, self.kernel[0], self.stride[0], self.dilation[0], self.padding[0])
        ow = _window(w, self.kernel[1], self.stride[1], self.dilation[1], self.padding[1])
        a, b = c * self.kernel[0] * self.kernel[1], oh * ow
        return (Spec((n, a, b) if self.layout == "NCHW" else (n, b, a), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nchw(inputs[0], self.layout)
        view = _windows(x, self.kernel, self.stride, self.dilation, self.padding, 0.0)
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
        return (
            _window(self.output_size[0], self.kernel[0], self.stride[0], self.dilation[0], self.padding[0]),
            _window(self.output_size[1], self.kernel[1], self.stride[1], self.dilation[1], self.padding[1]),
        )

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


@operator
class GridSample(Operator):
    """Sample x at ``grid`` [N, OH, OW, 2] of (x, y) in [-1, 1] (torch.nn.functional.grid_sample).

    ``mode``: "bilinear" or "nearest"; ``padding_mode``: "zeros" or "border".
    """

    mode: str = "bilinear"
    padding_mode: str = "zeros"
    align_corners: bool = False
    layout: str = "NCHW"
    spatial = True

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x, grid = inputs
        n, c, _, _ = split_shape(x.shape, self.layout)
        return (Spec(join_shape(n, c, grid.shape[1], grid.shape[2], self.layout), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, grid = to_nchw(inputs[0], self.layout), inputs[1]
        n, _, h, w = x.shape
        if self.align_corners:
            px, py = (grid[..., 0] + 1) / 2 * (w - 1), (grid[..., 1] + 1) / 2 * (h - 1)
        else:
            px, py = ((grid[..., 0] + 1) * w - 1) / 2, ((grid[..., 1] + 1) * h - 1) / 2
        if self.padding_mode == "border":
            px, py = np.clip(px, 0, w - 1), np.clip(py, 0, h - 1)
        batch = np.arange(n)[:, None, None]

        def at(yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
            inside = (yy >= 0) & (yy < h) & (xx >= 0) & (xx < w)
            picked = x[batch, :, np.clip(yy, 0, h - 1).astype(int), np.clip(xx, 0, w - 1).astype(int)]
            return picked * inside[..., None]

        if self.mode == "nearest":
            result = at(np.round(py), np.round(px))
        else:
            x0, y0 = np.floor(px), np.floor(py)
            fx, fy = (px - x0)[..., None], (py - y0)[..., None]
            top = at(y0, x0) * (1 - fx) + at(y0, x0 + 1) * fx
            bottom = at(y0 + 1, x0) * (1 - fx) + at(y0 + 1, x0 + 1) * fx
            result = top * (1 - fy) + bottom * fy
        return (from_nchw(result.transpose(0, 3, 1, 2).astype(x.dtype), self.layout),)
