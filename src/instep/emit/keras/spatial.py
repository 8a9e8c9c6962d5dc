"""Keras code of convolutions and of what moves pixels, channels last; pools are in ``pools.py``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from instep.emit.code.call import Call, Weight
from instep.emit.code.claims import turned
from instep.emit.keras.linear import bias_of, biased, regularised
from instep.emit.keras.table import DEFAULTS, activated, claims, expression, layer, needs_last, short, writes
from instep.graph import Graph, Node, Value, ops

__all__ = ["before", "padded", "same_pads"]

Pads = Sequence[tuple[int, int]]


def same_pads(sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Pads:
    """What TensorFlow's "same" adds on each side: the odd place comes last."""
    pads = []
    for n, k, s, d in zip(sizes, kernel, strides, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def padded(pads: Pads, same: Pads) -> tuple[str, Any]:
    """Explicit pads in the shortest words: the ``padding`` of a layer, and what has to be added before it, if anything.

    As ZeroPadding layers take it: one number, a number for each axis, or both sides of each axis.
    """
    pads = tuple((int(a), int(b)) for a, b in pads)
    if not any(map(any, pads)):
        return "valid", None
    if pads == tuple(same):
        return "same", None
    return "valid", short([a for a, _ in pads]) if all(a == b for a, b in pads) else pads


def before(node: Node, x: Value, code: str, **fields: Any) -> tuple[list[Call], Value]:
    """A statement that makes what the node reads, of ``x``."""
    made = Value(f"{node.output.name}.input", x.shape, x.dtype)
    return [Call([x], [made], code, fields)], made


def behind(node: Node, call: Call, code: str, **fields: Any) -> list[Call]:
    """``call``, and a statement that makes the node's output of its result."""
    made = Value(f"{node.output.name}.whole", node.output.shape, node.output.dtype)
    call.outputs = [made]
    return [call, Call([made], list(node.outputs), code, fields)]


@writes(ops.Conv2d, ops.Conv3d)
def conv(node: Node, graph: Graph) -> list[Call]:
    """[O, ..., I] of the graph is [..., I, O] here; one filter or more for each channel is a depthwise convolution."""
    needs_last(node)
    op, (x, weight, *bias) = node.op, node.inputs
    rank, channels, kernel = x.rank - 2, x.shape[-1], weight.shape[1:-1]
    depthwise = rank == 2 and op.groups == channels > 1 and len(set(op.stride)) == 1
    # TensorFlow cannot stride and dilate at once: every place is computed, and those between the strides are dropped
    thinned = any(s > 1 for s in op.stride) and any(d > 1 for d in op.dilation)
    strides = (1,) * rank if thinned else tuple(op.stride)
    padding, pads = padded(op.padding, same_pads(x.shape[1:-1], kernel, strides, op.dilation))
    calls: list[Call] = []
    if pads is not None:
        calls, x = before(node, x, f"layers.ZeroPadding{rank}D({{pads}})({{0}})", pads=pads)
    fields = {"strides": short(strides), "padding": padding, "dilation_rate": short(op.dilation)}
    multiple = weight.shape[0] // channels
    form = [(*range(1, weight.rank), 0), *([(*kernel, channels, multiple)] if depthwise else [])]
    weights = claims(node, graph, {"kernel": (weight, *form), **bias_of(bias)})
    if weights is None:
        made = _computed(node, graph, x, fields, rank)
    elif depthwise:
        fields = {"kernel_size": short(kernel), **fields, "depth_multiplier": multiple}
        fields |= regularised(graph, weights["kernel"], "depthwise_regularizer")
        made = biased(node, "layers.DepthwiseConv2D", x, fields, weights, positional=1)
    else:
        fields = {"filters": weight.shape[0], "kernel_size": short(kernel), **fields, "groups": op.groups}
        fields |= regularised(graph, weights["kernel"])
        made = biased(node, f"layers.Conv{rank}D", x, fields, weights, positional=2)
    if not thinned:
        return [*calls, made]
    steps = {f"step{i}": s for i, s in enumerate(op.stride)}
    return [*calls, *behind(node, made, f"{{0}}[:, {', '.join(f'::{{{k}}}' for k in steps)}]", **steps)]


def _computed(node: Node, graph: Graph, x: Value, fields: dict, rank: int) -> Call:
    """A convolution whose kernel is computed."""
    op, helpers = node.op, ()
    (_, *rest), kernel = turned(graph, node, (*range(1, rank + 2), 0), "ops.transpose")
    fields = {k: v for k, v in fields.items() if v != DEFAULTS[k]}
    options = "".join(f", {k}={{{k}}}" for k in fields)
    code = f"ops.conv({{0}}, {kernel}{options})"
    if op.groups > 1:
        fields, helpers = {**fields, "groups": op.groups}, ("convolve",)
        code = f"convolve({{0}}, {kernel}, {{groups}}{options})"
    code = activated(code + (" + {2}" if len(node.inputs) > 2 else ""), op.activation)
    return Call([x, *rest], list(node.outputs), code, fields, helpers=helpers)


@writes(ops.ConvTranspose2d)
def conv_transpose(node: Node, graph: Graph) -> list[Call]:
    """Keras crops as "same" does or not at all: what else the network crops is cropped behind the layer."""
    needs_last(node)
    op, (x, weight, *bias) = node.op, node.inputs
    kernel, channels = weight.shape[1:3], weight.shape[3] * op.groups
    # [I, H, W, O / groups] of the graph is [H, W, O / groups, I] here
    weights = claims(node, graph, {"kernel": (weight, (1, 2, 3, 0)), **bias_of(bias)})
    if weights is None or op.groups > 1 or set(op.dilation) != {1}:
        return [_any_transpose(node, graph, weights, channels)]
    fields: dict[str, Any] = {"filters": channels, "kernel_size": short(kernel), "strides": short(op.stride)}
    more, crops, same = [], [], True
    rows = zip(x.shape[1:3], kernel, op.stride, op.padding, node.output.shape[1:3], strict=True)
    for n, k, s, (first, _), out in rows:
        full = (n - 1) * s + max(k, s)
        extra = max(0, -(-(first + out - full) // s))
        more.append((0, extra))
        crops.append((first, full + extra * s - first - out))
        same &= k >= s and first == (k - s) // 2 and out == n * s
    calls: list[Call] = []
    if same:
        fields["padding"] = "same"
    elif any(map(any, more)):
        calls, x = before(node, x, "layers.ZeroPadding2D({pads})({0})", pads=tuple(more))
    fields |= regularised(graph, weights["kernel"])
    made = biased(node, "layers.Conv2DTranspose", x, fields, weights, positional=2)
    if same or not any(map(any, crops)):
        return [*calls, made]
    return [*calls, *behind(node, made, "layers.Cropping2D({crops})({0})", crops=tuple(crops))]


def _any_transpose(node: Node, graph: Graph, weights: dict[str, Weight] | None, channels: int) -> Call:
    """In groups, dilated, or with a computed kernel: as a convolution of the spread input."""
    op, (x, weight, *bias) = node.op, node.inputs
    rows = zip(op.padding, weight.shape[1:3], op.dilation, op.output_padding, strict=True)
    pads = tuple((d * (k - 1) - a, d * (k - 1) - b + extra) for (a, b), k, d, extra in rows)
    fields = {"strides": op.stride, "pads": pads, "dilation": op.dilation, "groups": op.groups}
    helpers = ("conv_transpose",)
    if weights is None:
        inputs, kernel = turned(graph, node, (1, 2, 3, 0), "ops.transpose")
        code = f"conv_transpose({{0}}, {kernel}, {{strides}}, {{pads}}, {{dilation}}, {{groups}})"
        made = expression(node, activated(code + (" + {2}" if bias else ""), op.activation), *helpers, **fields)
        return replace(made, inputs=inputs)
    fields = {"filters": channels, "kernel_size": weight.shape[1:3], **fields, **regularised(graph, weights["kernel"])}
    name = "SpreadConv2DTranspose"
    return biased(node, name, x, fields, weights, positional=2, helpers=(name, *helpers))


@writes(ops.Resize2d)
def resize(node: Node, graph: Graph) -> Call:
    """Keras' own where it computes the same on every backend; else two matrix products."""
    needs_last(node)
    op, (_, h, w, _) = node.op, node.inputs[0].shape
    factors = [math.isclose(f, out / n) for f, out, n in zip(op.scale or (), op.size, (h, w), strict=False)]
    plain = not op.antialias and all(factors)
    if plain and op.mode == "nearest" and op.coordinates != "align_corners" and not (op.size[0] % h or op.size[1] % w):
        times = short((op.size[0] // h, op.size[1] // w))
        return expression(node, "layers.UpSampling2D({times})({0})", times=times)
    if plain and op.mode == "bilinear" and op.coordinates == "half_pixel":
        return expression(node, "ops.image.resize({0}, {size})", size=tuple(op.size))
    fields = {"size": op.size, "mode": op.mode, "coordinates": op.coordinates, "scale": op.scale}
    fields |= {"antialias": op.antialias}
    call = layer(node, "Resize", node.inputs, fields, {}, positional=3, helpers=("Resize",))
    call.defaults |= {"scale": None, "antialias": False}
    return call


@writes(ops.DepthToSpace, ops.SpaceToDepth)
def pixel_shuffle(node: Node, graph: Graph) -> Call:
    """TensorFlow's order of the channels is Keras' own; PyTorch's is a helper of its own name."""
    needs_last(node)
    down = isinstance(node.op, ops.SpaceToDepth)
    if node.op.order == "DCR" and node.op.block > 1:
        name = "ops.space_to_depth" if down else "ops.depth_to_space"
        return expression(node, f"{name}({{0}}, {{block}})", block=node.op.block)
    name = "pixel_unshuffle" if down else "pixel_shuffle"
    return expression(node, f"{name}({{0}}, {{block}})", name, block=node.op.block)


@writes(ops.Unfold2d)
def unfold(node: Node, graph: Graph) -> Call:
    needs_last(node)
    op = node.op
    fields = {"kernel_size": op.kernel, "strides": op.stride, "padding": op.padding, "dilation": op.dilation}
    return layer(node, "Unfold", node.inputs, fields, {}, helpers=("Unfold",))


@writes(ops.Fold2d)
def fold(node: Node, graph: Graph) -> Call:
    needs_last(node)
    op = node.op
    fields = {"output_size": op.output_size, "kernel_size": op.kernel, "strides": op.stride}
    fields |= {"padding": op.padding, "dilation": op.dilation}
    return layer(node, "Fold", node.inputs, fields, {}, positional=2, helpers=("Fold",))


@writes(ops.GridSample)
def grid_sample(node: Node, graph: Graph) -> Call:
    needs_last(node)
    op = node.op
    fields = {"mode": op.mode, "padding_mode": op.padding_mode, "align_corners": op.align_corners}
    return layer(
        node, "GridSample", node.inputs, fields, {}, positional=2, code="{layer}([{0}, {1}])", helpers=("GridSample",)
    )
