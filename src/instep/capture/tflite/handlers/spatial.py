"""Handlers of convolutions, pools, resizing and pixel shuffles: everything spatial is NHWC here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from instep.capture.tflite.builder import Builder
from instep.capture.tflite.registry import Unsupported, reads
from instep.graph import Value, ops

__all__: list[str] = []


def _image(x: Value, rank: int = 4) -> tuple[int, ...]:
    """The spatial sizes of ``x``."""
    if x.rank != rank:
        raise Unsupported(f"its input has the shape {list(x.shape)}, not rank {rank}")
    return x.shape[1:-1]


def _with_bias(x: Value, weight: Value, bias: Value | None, b: Builder) -> list[Value]:
    return [x, weight] if bias is None else [x, weight, b.reshape(bias, (bias.size,))]


def _stride(b: Builder) -> tuple[int, int]:
    return b.option("StrideH", 1), b.option("StrideW", 1)


def _dilation(b: Builder) -> tuple[int, int]:
    return b.option("DilationHFactor", 1), b.option("DilationWFactor", 1)


@reads("CONV_2D", "Conv2DOptions")
def conv_2d(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    sizes, kernel = _image(x), _image(weight)
    stride, dilation = _stride(b), _dilation(b)
    groups = x.shape[3] // weight.shape[3]
    op = ops.Conv2d(stride, b.pads(sizes, kernel, stride, dilation), dilation, groups, "NHWC")
    return b.activated(b(op, *_with_bias(x, weight, bias, b)))


@reads("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions")
def depthwise_conv_2d(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    sizes, kernel = _image(x), _image(weight)
    stride, dilation = _stride(b), _dilation(b)
    # [1, KH, KW, C·M] → [C·M, KH, KW, 1]; output channel c·M + m in both
    filters = b.permute(weight, (3, 1, 2, 0))
    op = ops.Conv2d(stride, b.pads(sizes, kernel, stride, dilation), dilation, x.shape[3], "NHWC")
    return b.activated(b(op, *_with_bias(x, filters, bias, b)))


@reads("CONV_3D", "Conv3DOptions")
def conv_3d(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    if weight.rank != 5:
        raise Unsupported(f"its weight has the shape {list(weight.shape)}")
    sizes, kernel = _image(x, 5), weight.shape[:3]
    stride = (b.option("StrideD", 1), *_stride(b))
    dilation = (b.option("DilationDFactor", 1), *_dilation(b))
    # [D, H, W, I, O] → [O, D, H, W, I]
    filters = b.permute(weight, (4, 0, 1, 2, 3))
    groups = x.shape[4] // weight.shape[3]
    op = ops.Conv3d(stride, b.pads(sizes, kernel, stride, dilation), dilation, groups, "NHWC")
    return b.activated(b(op, *_with_bias(x, filters, bias, b)))


@reads("TRANSPOSE_CONV", "TransposeConvOptions")
def transpose_conv(b: Builder, shape: Value, weight: Value, x: Value, bias: Value | None = None) -> Value:
    stride = _stride(b)
    crops, extra = _crops(b, shape, _image(x), _image(weight), stride, (1, 1))
    # [O, KH, KW, I] → [I, KH, KW, O]
    op = ops.ConvTranspose2d(stride, crops, extra, layout="NHWC")  # type: ignore[arg-type]
    return b.activated(b(op, *_with_bias(x, b.permute(weight, (3, 1, 2, 0)), bias, b)))


@reads("CONV_3D_TRANSPOSE", "Conv3DOptions")
def conv_3d_transpose(b: Builder, shape: Value, weight: Value, x: Value, bias: Value | None = None) -> Value:
    """A convolution of stride 1 with the flipped kernel, of the input with zeros between its elements."""
    if weight.rank != 5:
        raise Unsupported(f"its weight has the shape {list(weight.shape)}")
    kernel, stride = weight.shape[:3], (b.option("StrideD", 1), *_stride(b))
    dilation = (b.option("DilationDFactor", 1), *_dilation(b))
    crops, extra = _crops(b, shape, _image(x, 5), kernel, stride, dilation)
    spread = b.spread(x, 1, kernel, stride, dilation, crops, extra)
    # [D, H, W, O, I] → [O, D, H, W, I]
    filters = b.permute(b(ops.Flip((0, 1, 2)), weight), (3, 0, 1, 2, 4))
    op = ops.Conv3d((1, 1, 1), ((0, 0),) * 3, dilation, 1, "NHWC")
    return b.activated(b(op, *_with_bias(spread, filters, bias, b)))


def _crops(
    b: Builder,
    shape: Value,
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """What a transposed convolution cuts off and adds, from its output's shape: its pads are those of the convolution
    from the output back to the input (transpose_conv.cc, conv3d_transpose.cc)."""
    wanted = b.ints(shape, "output shape")
    if len(wanted) != len(sizes) + 2 or min(wanted) < 1:
        raise Unsupported(f"its output shape is {wanted[:8]}")
    if min(*stride, *dilation, *kernel) < 1:
        raise Unsupported(f"stride {list(stride)}, dilation {list(dilation)} and kernel {list(kernel)} start at 1")
    first = [p[0] for p in b.pads(wanted[1:-1], kernel, stride, dilation)]
    full = [(n - 1) * s + d * (k - 1) + 1 for n, s, k, d in zip(sizes, stride, kernel, dilation, strict=True)]
    last = [n - p - out for n, p, out in zip(full, first, wanted[1:-1], strict=True)]
    return tuple((p, max(q, 0)) for p, q in zip(first, last, strict=True)), tuple(max(-q, 0) for q in last)


def _pool(b: Builder, x: Value) -> tuple[tuple[int, int], tuple[int, int], ops.Pads2d]:
    kernel = (b.option("FilterHeight", 1), b.option("FilterWidth", 1))
    stride = _stride(b)
    return kernel, stride, b.pads(_image(x), kernel, stride, (1, 1))


@reads("MAX_POOL_2D", "Pool2DOptions")
def max_pool_2d(b: Builder, x: Value) -> Value:
    return b.activated(b(ops.MaxPool2d(*_pool(b, x), layout="NHWC"), x))


@reads("AVERAGE_POOL_2D", "Pool2DOptions")
def average_pool_2d(b: Builder, x: Value) -> Value:
    return b.activated(b(ops.AvgPool2d(*_pool(b, x), count_include_pad=False, layout="NHWC"), x))


@reads("L2_POOL_2D", "Pool2DOptions")
def l2_pool_2d(b: Builder, x: Value) -> Value:
    mean = b(ops.AvgPool2d(*_pool(b, x), count_include_pad=False, layout="NHWC"), b(ops.Square(), x))
    return b.activated(b(ops.Sqrt(), mean))


@reads("LOCAL_RESPONSE_NORMALIZATION", "LocalResponseNormalizationOptions")
def local_response_normalization(b: Builder, x: Value) -> Value:
    """x / (bias + alpha · Σ x² over the 2 · radius + 1 channels around)^beta."""
    radius = b.option("Radius", 5)
    if not 0 <= radius <= x.shape[-1]:
        raise Unsupported(f"its radius is {radius}")
    n, (h, w), c = x.shape[0], _image(x), x.shape[3]
    # channels as the width of a picture: a mean over a row of them, times their number
    window = ops.AvgPool2d((1, 2 * radius + 1), (1, 1), ((0, 0), (radius, radius)), layout="NHWC")
    mean = b(window, b.reshape(b(ops.Square(), x), (n * h, w, c, 1)))
    scale = b.scalar(float(b.option("Alpha", 1.0)) * (2 * radius + 1), x.dtype)
    total = b(ops.Add(), b(ops.Mul(), mean, scale), b.scalar(float(b.option("Bias", 1.0)), x.dtype))
    root = b(ops.Pow(), total, b.scalar(float(b.option("Beta", 0.5)), x.dtype))
    return b(ops.Div(), x, b.reshape(root, x.shape))


def _resize(b: Builder, x: Value, size: Value, mode: str) -> Value:
    _image(x)
    out = b.ints(size, "size")
    corners, half = b.option("AlignCorners", False), b.option("HalfPixelCenters", False)
    if corners and half:
        raise Unsupported("it asks for align_corners and half_pixel_centers at once")
    if len(out) != 2 or min(out) < 1:
        raise Unsupported(f"its size is {out[:8]}")
    coordinates = "align_corners" if corners else "half_pixel" if half else "asymmetric"
    return b(ops.Resize2d((out[0], out[1]), mode, coordinates, layout="NHWC"), x)


@reads("RESIZE_BILINEAR", "ResizeBilinearOptions")
def resize_bilinear(b: Builder, x: Value, size: Value) -> Value:
    return _resize(b, x, size, "bilinear")


@reads("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions")
def resize_nearest_neighbor(b: Builder, x: Value, size: Value) -> Value:
    return _resize(b, x, size, "nearest")


@reads("DEPTH_TO_SPACE", "DepthToSpaceOptions")
def depth_to_space(b: Builder, x: Value) -> Value:
    return b(ops.DepthToSpace(_block(b), "DCR", "NHWC"), x)


@reads("SPACE_TO_DEPTH", "SpaceToDepthOptions")
def space_to_depth(b: Builder, x: Value) -> Value:
    return b(ops.SpaceToDepth(_block(b), "DCR", "NHWC"), x)


def _block(b: Builder) -> int:
    block = b.option("BlockSize")
    if block < 1:
        raise Unsupported(f"its block size is {block}")
    return block


def _blocks(b: Builder, x: Value, block: Value, pairs: Value, what: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Block sizes and (before, after) of the axes behind the batch."""
    sizes, flat = b.ints(block, "block shape"), b.ints(pairs, what)
    if not sizes or len(flat) != 2 * len(sizes) or len(sizes) >= x.rank or min(*sizes, *flat, 1) < 0 or 0 in sizes:
        raise Unsupported(f"its block {sizes[:8]} and {what} {flat[:8]} do not fit {list(x.shape)}")
    return sizes, list(zip(flat[::2], flat[1::2], strict=True))


@reads("SPACE_TO_BATCH_ND")
def space_to_batch(b: Builder, x: Value, block: Value, paddings: Value) -> Value:
    sizes, pads = _blocks(b, x, block, paddings, "paddings")
    m = len(sizes)
    x = b.pad(x, [(0, 0), *pads, *[(0, 0)] * (x.rank - 1 - m)])
    if any(n % s for n, s in zip(x.shape[1:], sizes, strict=False)):
        raise Unsupported(f"its block {sizes} does not divide {list(x.shape)}")
    split = [d for n, s in zip(x.shape[1:], sizes, strict=False) for d in (n // s, s)]
    rest = list(x.shape[1 + m :])
    inner, outer = [2 + 2 * i for i in range(m)], [1 + 2 * i for i in range(m)]
    moved = b.permute(
        b.reshape(x, [x.shape[0], *split, *rest]), [*inner, 0, *outer, *range(1 + 2 * m, 1 + 2 * m + len(rest))]
    )
    return b.reshape(moved, [x.shape[0] * int(np.prod(sizes)), *split[::2], *rest])


@reads("BATCH_TO_SPACE_ND")
def batch_to_space(b: Builder, x: Value, block: Value, crops: Value) -> Value:
    sizes, cuts = _blocks(b, x, block, crops, "crops")
    m, area = len(sizes), int(np.prod(sizes))
    if x.shape[0] % area:
        raise Unsupported(f"its block {sizes} does not divide the batch of {list(x.shape)}")
    rest = list(x.shape[1 + m :])
    whole = b.reshape(x, [*sizes, x.shape[0] // area, *x.shape[1:]])
    pairs = [axis for i in range(m) for axis in (m + 1 + i, i)]
    moved = b.permute(whole, [m, *pairs, *range(2 * m + 1, 2 * m + 1 + len(rest))])
    joined = [n * s for n, s in zip(x.shape[1:], sizes, strict=False)]
    grown = b.reshape(moved, [x.shape[0] // area, *joined, *rest])
    return _cropped(b, grown, cuts)


def _cropped(b: Builder, x: Value, cuts: Sequence[tuple[int, int]]) -> Value:
    return b.pad(x, [(0, 0), *[(-a, -c) for a, c in cuts], *[(0, 0)] * (x.rank - 1 - len(cuts))])
