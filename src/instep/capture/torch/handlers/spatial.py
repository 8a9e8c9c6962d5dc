"""Convolutions, pixel shuffles, unfold and fold, grid sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from instep.capture.torch.builder import Builder
from instep.capture.torch.registry import handles
from instep.graph import Value, ops

__all__ = ["tuple_of"]

IntOrList = int | Sequence[int]


def tuple_of(value: IntOrList, n: int) -> tuple[int, ...]:
    """torch's int-or-list argument as ``n`` ints."""
    if isinstance(value, int):
        return (value,) * n
    value = tuple(int(v) for v in value)
    return value * n if len(value) == 1 else value


def _pads(padding: Any, kernel: Sequence[int], dilation: Sequence[int], n: int) -> tuple[tuple[int, int], ...]:
    if padding == "valid":
        return ((0, 0),) * n
    if padding == "same":
        # torch puts the odd element at the end
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((t // 2, t - t // 2) for t in total)
    return tuple((p, p) for p in tuple_of(padding, n))


def _conv(
    b: Builder,
    n: int,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Value:
    batched = x.rank == n + 2
    if not batched:
        x = b.reshape(x, (1, *x.shape))
    strides, dilations = tuple_of(stride, n), tuple_of(dilation, n)
    pads = _pads(padding, weight.shape[2:], dilations, n)
    rest = [] if bias is None else [bias]
    if n == 3:
        y = b(ops.Conv3d(strides, pads, dilations, groups), x, weight, *rest)  # type: ignore[arg-type]
    elif n == 2:
        y = b(ops.Conv2d(strides, pads, dilations, groups), x, weight, *rest)  # type: ignore[arg-type]
    else:
        y = _conv1d(b, x, weight, rest, strides[0], pads[0], dilations[0], groups)
    return y if batched else b.reshape(y, y.shape[1:])


def _conv1d(
    b: Builder,
    x: Value,
    weight: Value,
    rest: list[Value],
    stride: int,
    pads: tuple[int, int],
    dilation: int,
    groups: int,
) -> Value:
    """[N, C, L] is [N, C, 1, L] with a kernel of one row."""
    wide = b.reshape(weight, (weight.shape[0], weight.shape[1], 1, weight.shape[2]))
    op = ops.Conv2d((1, stride), ((0, 0), pads), (1, dilation), groups)
    y = b(op, b.reshape(x, (x.shape[0], x.shape[1], 1, x.shape[2])), wide, *rest)
    return b.reshape(y, (y.shape[0], y.shape[1], y.shape[3]))


@handles("conv1d", "conv2d", "conv3d")
def conv(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    return _conv(b, weight.rank - 2, x, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(
    b: Builder,
    n: int,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Value:
    batched = x.rank == n + 2
    if not batched:
        x = b.reshape(x, (1, *x.shape))
    strides, dilations = tuple_of(stride, n), tuple_of(dilation, n)
    pads = tuple((p, p) for p in tuple_of(padding, n))
    extra = tuple_of(output_padding, n)
    rest = [] if bias is None else [bias]
    if n == 3:
        y = _conv_transpose3d(b, x, weight, rest, strides, pads, extra, groups, dilations)
    elif n == 2:
        y = b(ops.ConvTranspose2d(strides, pads, extra, dilations, groups), x, weight, *rest)  # type: ignore[arg-type]
    else:
        wide = b.reshape(weight, (weight.shape[0], weight.shape[1], 1, weight.shape[2]))
        op = ops.ConvTranspose2d((1, strides[0]), ((0, 0), pads[0]), (0, extra[0]), (1, dilations[0]), groups)
        y = b(op, b.reshape(x, (x.shape[0], x.shape[1], 1, x.shape[2])), wide, *rest)
        y = b.reshape(y, (y.shape[0], y.shape[1], y.shape[3]))
    return y if batched else b.reshape(y, y.shape[1:])


def _conv_transpose3d(
    b: Builder,
    x: Value,
    weight: Value,
    rest: list[Value],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    extra: Sequence[int],
    groups: int,
    dilations: Sequence[int],
) -> Value:
    """Zeros between the elements, then a convolution with the flipped kernel: the definition of the transpose."""
    c, kernel = x.shape[1], weight.shape[2:]
    y = b.spread(x, 2, kernel, strides, dilations, pads, extra)
    o = weight.shape[1]
    w = b(ops.Flip((2, 3, 4)), weight)
    w = b.reshape(w, (groups, c // groups, o, *kernel))
    w = b.reshape(b.permute(w, (0, 2, 1, 3, 4, 5)), (groups * o, c // groups, *kernel))
    return b(ops.Conv3d((1, 1, 1), ((0, 0),) * 3, tuple(dilations), groups), y, w, *rest)  # type: ignore[arg-type]


@handles("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    return _conv_transpose(b, weight.rank - 2, x, weight, bias, stride, padding, output_padding, groups, dilation)


@handles("convolution", "_convolution")
def convolution(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    *_: Any,
) -> Value:
    n = weight.rank - 2
    if transposed:
        return _conv_transpose(b, n, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return _conv(b, n, x, weight, bias, stride, padding, dilation, groups)


def _as_batch(b: Builder, x: Value, rank: int = 4) -> tuple[Value, tuple[int, ...]]:
    """Leading axes merged so that ``x`` has ``rank``; and those leading axes."""
    lead = x.shape[: x.rank - rank + 1]
    return b.reshape(x, (-1, *x.shape[x.rank - rank + 1 :])), lead


@handles("pixel_shuffle")
def pixel_shuffle(b: Builder, x: Value, upscale_factor: int) -> Value:
    flat, lead = _as_batch(b, x)
    y = b(ops.DepthToSpace(upscale_factor), flat)
    return b.reshape(y, (*lead, *y.shape[1:]))


@handles("pixel_unshuffle")
def pixel_unshuffle(b: Builder, x: Value, downscale_factor: int) -> Value:
    flat, lead = _as_batch(b, x)
    y = b(ops.SpaceToDepth(downscale_factor), flat)
    return b.reshape(y, (*lead, *y.shape[1:]))


@handles("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(b: Builder, x: Value, groups: int) -> Value:
    n, c, *rest = x.shape
    y = b.reshape(x, (n, groups, c // groups, *rest))
    return b.reshape(b.permute(y, (0, 2, 1, *range(3, y.rank))), x.shape)


@handles("im2col")
def im2col(b: Builder, x: Value, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Value:
    batched = x.rank == 4
    x = x if batched else b.reshape(x, (1, *x.shape))
    pads = tuple((p, p) for p in tuple_of(padding, 2))
    op = ops.Unfold2d(tuple_of(kernel_size, 2), tuple_of(stride, 2), pads, tuple_of(dilation, 2))  # type: ignore[arg-type]
    y = b(op, x)
    return y if batched else b.reshape(y, y.shape[1:])


@handles("col2im")
def col2im(b: Builder, x: Value, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Value:
    batched = x.rank == 3
    x = x if batched else b.reshape(x, (1, *x.shape))
    pads = tuple((p, p) for p in tuple_of(padding, 2))
    sizes: list[Any] = [tuple_of(v, 2) for v in (output_size, kernel_size, stride)]
    window: Any = (pads, tuple_of(dilation, 2))
    op = ops.Fold2d(*sizes, *window)
    y = b(op, x)
    return y if batched else b.reshape(y, y.shape[1:])


@handles("grid_sampler", "grid_sampler_2d")
def grid_sampler(
    b: Builder, x: Value, grid: Value, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Value:
    flat = padding_mode == 2 and align_corners and 1 in x.shape[2:]
    if x.rank != 4 or interpolation_mode == 2 or flat:
        raise b.fail("grid_sample of volumes, bicubic, or between corners that are one")  # which has a definition
    if padding_mode == 2:
        grid = _reflected(b, grid)
    op = ops.GridSample(
        ("bilinear", "nearest")[interpolation_mode], ("zeros", "border", "border")[padding_mode], bool(align_corners)
    )
    return b(op, x, grid)


def _reflected(b: Builder, grid: Value) -> Value:
    """Grid coordinates folded back at the borders (padding_mode='reflection').

    In grid units the borders are ±1 (corner centres with align_corners, else outer edges), so the triangle wave
    1 - |((g + 1) mod 4) - 2| folds them; what the folded edge leaves outside the outer centres is clipped by "border".
    """
    one, two, four = (b.scalar(v, grid.dtype) for v in (1.0, 2.0, 4.0))
    wrapped = b(ops.FloorMod(), b(ops.Add(), grid, one), four)
    distance = b(ops.Abs(), b(ops.Sub(), wrapped, two))
    return b(ops.Sub(), one, distance)


@handles("affine_grid_generator")
def affine_grid(b: Builder, theta: Value, size: Sequence[int], align_corners: bool) -> Value:
    if len(size) != 4:
        raise b.fail("affine_grid of volumes")  # which PyTorch has other words for
    n, _, h, w = size

    def line(count: int) -> np.ndarray:
        steps = np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
        return steps if align_corners else steps * (count - 1) / count

    base = np.ones((h * w, 3), np.float64)
    base[:, 0] = np.tile(line(w), h)
    base[:, 1] = np.repeat(line(h), w)
    fixed = b.expand(b.constant(base.astype(theta.dtype)[None], "grid"), (n, h * w, 3))
    return b.reshape(b(ops.MatMul(transpose_b=True), fixed, theta), (n, h, w, 2))
