"""Lowerings of convolutions, pools, resizing and pixel shuffles; everything spatial is NHWC here."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from instep.emit.tflite.elementwise import fused
from instep.emit.tflite.linear import bias
from instep.emit.tflite.table import EmitError, lowers
from instep.emit.tflite.writer import Writer
from instep.graph import Node, ops

__all__: list[str] = []

Pads = tuple[tuple[int, int], ...]
LOWEST = float(np.finfo(np.float32).min)


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """What TensorFlow's SAME pads on one axis: the odd one goes to the bottom or right."""
    out = -(-size // stride)
    total = max((out - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def spelled(
    w: Writer, node: Node, kernel: tuple[int, ...], dilation: tuple[int, ...], fill: float = 0.0
) -> tuple[int, int]:
    """The cheapest spelling of the node's explicit pads: (input tensor, TFLite's Padding).

    VALID when nothing is padded, SAME when that means exactly these pads, else a PAD before VALID.
    """
    x, op = node.inputs[0], node.op
    if op.layout != "NHWC":
        raise EmitError(f"{node.describe()}: TFLite computes in NHWC, got {op.layout}; run the layout rewrite first")
    pads: Pads = op.padding
    if not any(map(any, pads)):
        return w.tensor(x), schema.Padding.VALID
    sizes = x.shape[1:-1]
    same = tuple(same_pads(*of) for of in zip(sizes, kernel, op.stride, dilation, strict=True))
    if same == tuple(map(tuple, pads)):
        return w.tensor(x), schema.Padding.SAME
    full = ((0, 0), *pads, (0, 0))
    shape = [n + a + b for n, (a, b) in zip(x.shape, full, strict=True)]
    padded = w.declare(w.fresh(node.output.name + ".pad"), shape, x.dtype)
    inputs = [w.tensor(x), w.constant(np.asarray(full, np.int32), "pads")]
    if fill:
        w.op("PADV2", [*inputs, w.constant(np.asarray(fill, np.float32), "lowest")], [padded], schema.PadV2OptionsT())
    else:
        w.op("PAD", inputs, [padded], schema.PadOptionsT())
    return padded, schema.Padding.VALID


def _strides(options: Any, op: Any) -> Any:
    options.strideH, options.strideW = op.stride
    return options


@lowers(ops.Conv2d)
def conv2d(w: Writer, node: Node) -> None:
    op, weight = node.op, node.inputs[1]
    out_channels, kh, kw, per_group = weight.shape
    x, padding = spelled(w, node, (kh, kw), op.dilation)
    depthwise = op.groups > 1 and per_group == 1
    options: Any = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    fused(_strides(options, op), op)
    options.padding = padding
    options.dilationHFactor, options.dilationWFactor = op.dilation
    if depthwise:
        options.depthMultiplier = out_channels // op.groups
        # [C·M, KH, KW, 1] → [1, KH, KW, C·M]; output channel c·M + m in both.
        filters = w.turned(weight, "depthwise", (3, 1, 2, 0))
        version = 2 if op.dilation != (1, 1) else 1
    else:
        filters = w.tensor(weight)
        version = 6 if op.groups > 1 else 1
    code = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    w.op(code, [x, filters, bias(w, node, out_channels)], [w.tensor(node.output)], options, version=version)


@lowers(ops.Conv3d)
def conv3d(w: Writer, node: Node) -> None:
    op, weight = node.op, node.inputs[1]
    if op.groups > 1:
        raise EmitError(f"{node.describe()}: TFLite's CONV_3D has no groups; run the rewrite 'lower' first")
    x, padding = spelled(w, node, weight.shape[1:4], op.dilation)
    options = fused(schema.Conv3DOptionsT(), op)
    options.padding = padding
    options.strideD, options.strideH, options.strideW = op.stride
    options.dilationDFactor, options.dilationHFactor, options.dilationWFactor = op.dilation
    # [O, D, H, W, I] → [D, H, W, I, O]
    filters = w.view(weight, "dhwio", w.array(weight, node).transpose(1, 2, 3, 4, 0))
    w.op("CONV_3D", [x, filters, bias(w, node, weight.shape[0])], [w.tensor(node.output)], options)


@lowers(ops.ConvTranspose2d)
def conv_transpose2d(w: Writer, node: Node) -> None:
    """TRANSPOSE_CONV; pads that neither SAME nor VALID means are cropped by a SLICE behind it."""
    op, x, weight = node.op, node.inputs[0], node.inputs[1]
    if op.groups > 1 or op.dilation != (1, 1):
        raise EmitError(f"{node.describe()}: TRANSPOSE_CONV has no groups or dilation; run the rewrite 'lower' first")
    _, kh, kw, channels = weight.shape
    options = fused(_strides(schema.TransposeConvOptionsT(), op), op)
    # [I, H, W, O] → [O, H, W, I]
    filters = w.turned(weight, "ohwi", (3, 1, 2, 0))
    offset = bias(w, node, channels)

    def put(shape: tuple[int, ...], out: int, padding: int) -> None:
        options.padding = padding
        inputs = [w.constant(shape, "shape"), filters, w.tensor(x), offset]
        w.op("TRANSPOSE_CONV", inputs, [out], options, version=4 if op.activation else 3)

    result = node.output
    out_sizes = result.shape[1:3]
    same = tuple(same_pads(n, k, s) for n, k, s in zip(out_sizes, (kh, kw), op.stride, strict=True))
    crops = tuple((a, b - extra) for (a, b), extra in zip(op.padding, op.output_padding, strict=True))
    fits = all(-(-n // s) == m for n, s, m in zip(out_sizes, op.stride, x.shape[1:3], strict=True))
    # SAME's total also has a floor at 0: only crops that add up to the true total are meant by it.
    if not any(map(any, crops)):
        return put(result.shape, w.tensor(result), schema.Padding.VALID)
    if fits and same == crops:
        return put(result.shape, w.tensor(result), schema.Padding.SAME)
    full = [n + max(a, 0) + max(b, 0) for n, (a, b) in zip(out_sizes, crops, strict=True)]
    shape = (result.shape[0], *full, channels)
    whole = w.declare(w.fresh(result.name + ".full"), shape, result.dtype)
    put(shape, whole, schema.Padding.VALID)
    begin = [0, *(max(a, 0) for a, _ in crops), 0]
    inputs = [whole, w.constant(begin, "begin"), w.constant(result.shape, "size")]
    return w.op("SLICE", inputs, [w.tensor(result)], schema.SliceOptionsT())


def _pool(w: Writer, node: Node, code: str, fill: float) -> None:
    op = node.op
    x, padding = spelled(w, node, op.kernel, (1, 1), fill)
    options = fused(_strides(schema.Pool2DOptionsT(), op), op)
    options.padding = padding
    options.filterHeight, options.filterWidth = op.kernel
    w.op(code, [x], [w.tensor(node.output)], options)


@lowers(ops.MaxPool2d)
def max_pool2d(w: Writer, node: Node) -> None:
    if node.op.dilation != (1, 1):
        raise EmitError(f"{node.describe()}: MAX_POOL_2D has no dilation; run the rewrite 'lower' first")
    _pool(w, node, "MAX_POOL_2D", LOWEST)


@lowers(ops.AvgPool2d)
def avg_pool2d(w: Writer, node: Node) -> None:
    """AVERAGE_POOL_2D divides by the places on the input: SAME is count_include_pad=False."""
    op = node.op
    counted = op.count_include_pad or not any(map(any, op.padding))
    same = tuple(same_pads(n, k, s) for n, k, s in zip(node.inputs[0].shape[1:3], op.kernel, op.stride, strict=True))
    if any(op.overhang) or (counted and same == op.padding and any(map(any, same))):
        raise EmitError(f"{node.describe()}: its divisor is not TFLite's; run the rewrite 'lower' first")
    if not counted and same != op.padding:
        raise EmitError(f"{node.describe()}: its pads are not TFLite's SAME; run the rewrite 'lower' first")
    _pool(w, node, "AVERAGE_POOL_2D", 0.0)


@lowers(ops.Resize2d)
def resize2d(w: Writer, node: Node) -> None:
    op = node.op
    codes = {"bilinear": "RESIZE_BILINEAR", "nearest": "RESIZE_NEAREST_NEIGHBOR"}
    if op.mode not in codes or op.antialias:
        raise EmitError(f"{node.describe()}: TFLite resizes bilinear or nearest only; run the rewrite 'lower' first")
    bilinear = op.mode == "bilinear"
    options: Any = schema.ResizeBilinearOptionsT() if bilinear else schema.ResizeNearestNeighborOptionsT()
    options.alignCorners = op.coordinates == "align_corners"
    options.halfPixelCenters = op.coordinates == "half_pixel"
    version = 3 if options.alignCorners or options.halfPixelCenters else 1
    inputs = [w.tensor(node.inputs[0]), w.constant(op.size, "size")]
    w.op(codes[op.mode], inputs, [w.tensor(node.output)], options, version=version)


@lowers(ops.DepthToSpace, ops.SpaceToDepth)
def pixel_shuffle(w: Writer, node: Node) -> None:
    if node.op.order != "DCR":
        raise EmitError(f"{node.describe()}: TFLite's channel order is DCR; run the rewrite 'lower' first")
    forward = isinstance(node.op, ops.DepthToSpace)
    options = schema.DepthToSpaceOptionsT() if forward else schema.SpaceToDepthOptionsT()
    options.blockSize = node.op.block
    code = "DEPTH_TO_SPACE" if forward else "SPACE_TO_DEPTH"
    w.op(code, [w.tensor(node.inputs[0])], [w.tensor(node.output)], options)
