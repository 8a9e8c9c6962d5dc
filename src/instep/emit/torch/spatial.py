"""Convolutions, resizing, shuffles and sampling as PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instep.emit.code.call import Call, NoCode, Weight
from instep.emit.torch.table import activated, claimed, move, rule, short, symmetric
from instep.graph import ops
from instep.graph.core import Graph, Node, Value


def channels(op: Any, template: str, rank: int = 4) -> str:
    """``template``, which reads {0} channels first, for the layout of ``op``."""
    return move(template, 1 if op.layout == "NCHW" else rank - 1, rank)


def around(pads: Sequence[tuple[int, int]], layout: str) -> tuple[int, ...]:
    """The pads of the spatial axes as F.pad has them."""
    flat = tuple(n for pair in reversed(list(pads)) for n in pair)
    return flat if layout == "NCHW" else (0, 0, *flat)


def padded(node: Node, pads: Sequence[tuple[int, int]], value: float | None = None) -> tuple[list[Call], Value]:
    """The call that pads the first input of ``node``, and its result."""
    x = node.inputs[0]
    shape = list(x.shape)
    for place, pair in enumerate(pads):
        shape[place + (2 if node.op.layout == "NCHW" else 1)] += sum(pair)
    made = Value(f"{node.output.name}.padded", shape, x.dtype)
    fields: dict[str, Any] = {"pad": around(pads, node.op.layout)}
    if value is None:
        return [Call([x], [made], "F.pad({0}, {pad})", fields)], made
    return [Call([x], [made], "F.pad({0}, {pad}, value={value})", fields | {"value": value})], made


_ORDERS = {4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}


@rule(ops.Conv2d, ops.Conv3d)
def convolution(node: Node, graph: Graph) -> list[Call]:
    op, x = node.op, node.inputs[0]
    calls: list[Call] = []
    pads = tuple(p[0] for p in op.padding)
    if not symmetric(op.padding):
        before, x = padded(node, op.padding)
        calls += before
        pads = tuple(0 for _ in pads)
    fields = {"stride": short(op.stride), "padding": short(pads), "dilation": short(op.dilation), "groups": op.groups}
    usual = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    return [*calls, _layer(node, graph, x, fields, usual, f"Conv{x.rank - 2}d", f"conv{x.rank - 2}d")]


@rule(ops.ConvTranspose2d)
def transposed(node: Node, graph: Graph) -> list[Call]:
    op, x = node.op, node.inputs[0]
    before = [p[0] for p in op.padding]
    after = [p[0] - p[1] + extra for p, extra in zip(op.padding, op.output_padding, strict=True)]
    room = [max(s, d) for s, d in zip(op.stride, op.dilation, strict=True)]
    crop: tuple[int, ...] = ()
    if any(not 0 <= extra < limit for extra, limit in zip(after, room, strict=True)):
        # more is cut off at the bottom or the right than at the other side: all of it is made, then cut
        if any(extra >= limit for extra, limit in zip(op.output_padding, room, strict=True)):
            raise NoCode(f"output_padding={op.output_padding} is not smaller than stride and dilation")
        crop = tuple(-n for pair in reversed(op.padding) for n in pair)
        before, after = [0, 0], list(op.output_padding)
    fields = {
        "stride": short(op.stride),
        "padding": short(before),
        "output_padding": short(after),
        "groups": op.groups,
        "dilation": short(op.dilation),
    }
    usual = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
    return [_layer(node, graph, x, fields, usual, "ConvTranspose2d", "conv_transpose2d", crop)]


def _layer(
    node: Node, graph: Graph, x: Value, fields: dict[str, Any], usual: dict[str, Any], name: str, function: str,
    crop: tuple[int, ...] = (),
) -> Call:  # fmt: skip
    """A convolution of ``x`` as a layer, or as a function where its weights are computed."""
    op, rest = node.op, node.inputs[1:]
    order = None if op.layout == "NCHW" else _ORDERS[x.rank]

    def finished(template: str) -> str:
        if crop:
            template, fields["crop"] = f"F.pad({template}, {{crop}})", crop
            usual["crop"] = crop  # no argument of the constructor
        return activated(channels(op, template, x.rank), op.activation)

    if not claimed(graph, node, rest):
        filters = "{1}" if order is None else f"{{1}}.permute{order}"
        bias = ", {2}" if len(rest) > 1 else ""
        given = "".join(f", {k}={{{k}}}" for k, v in fields.items() if v != usual[k])
        return Call([x, *rest], node.outputs, finished(f"F.{function}({{0}}, {filters}{bias}{given})"), fields)
    weights = {k: Weight(v) for k, v in zip(("weight", "bias"), rest, strict=False)}
    weights["weight"] = Weight(rest[0], order)
    shape = rest[0].shape if order is None else tuple(rest[0].shape[a] for a in order)
    across = (shape[1] * op.groups, shape[0])
    sizes = across if name.startswith("Conv") and "Transpose" not in name else across[::-1]
    sizes = {"in_channels": sizes[0], "out_channels": sizes[1], "kernel_size": short(shape[2:])}
    made = sizes | fields | {"bias": len(rest) > 1}
    template = finished("{layer}({0})")
    made |= {k: v for k, v in fields.items() if k not in made}
    defaults = usual | {"bias": True}
    return Call([x], node.outputs, template, made, f"nn.{name}", 3, weights, defaults=defaults)


# -- resizing, shuffles, sampling ------------------------------------------------------------------------------------
@rule(ops.AdaptiveAvgPool2d, ops.AdaptiveMaxPool2d)
def adaptive(node: Node, graph: Graph) -> Call:
    kind, module = ("avg", "Avg") if isinstance(node.op, ops.AdaptiveAvgPool2d) else ("max", "Max")
    template = channels(node.op, f"F.adaptive_{kind}_pool2d({{0}}, {{output_size}})")
    fields = {"output_size": short(node.op.output_size)}
    name = f"nn.Adaptive{module}Pool2d" if node.op.layout == "NCHW" else ""
    return Call(node.inputs, node.outputs, template, fields, positional=1, module=name)


@rule(ops.Resize2d)
def resize(node: Node, graph: Graph) -> Call:
    op, x = node.op, node.inputs[0]
    h, w = x.shape[2:] if op.layout == "NCHW" else x.shape[1:3]
    modes = {("nearest", "asymmetric"): "nearest", ("nearest", "half_pixel"): "nearest-exact"}
    linear = op.mode in ("bilinear", "bicubic") and op.coordinates in ("half_pixel", "align_corners")
    mode = op.mode if linear else modes.get((op.mode, op.coordinates), "")
    scaled = op.scale is None or (op.coordinates != "align_corners" and not op.antialias)
    if op.scale is not None:
        scaled = scaled and tuple(int(n * s) for n, s in zip((h, w), op.scale, strict=True)) == op.size
    if not mode or not scaled or (op.antialias and op.coordinates != "half_pixel"):
        return _resize_by_matrices(node)
    fields: dict[str, Any] = {"scale_factor": short(op.scale)} if op.scale else {"size": tuple(op.size)}
    given = f"{next(iter(fields))}={{{next(iter(fields))}}}, mode={{mode}}"
    fields["mode"] = mode
    module = "nn.Upsample"
    if linear:
        fields["align_corners"] = op.coordinates == "align_corners"
        given += ", align_corners={align_corners}"
    if op.antialias:
        given, module = f"{given}, antialias=True", ""
    template = channels(op, f"F.interpolate({{0}}, {given})")
    return Call(node.inputs, node.outputs, template, fields, module=module if op.layout == "NCHW" else "")


def _resize_by_matrices(node: Node) -> Call:
    """A resize that PyTorch does not have."""
    op = node.op
    given = "{size}, {mode}, {coordinates}, {scale}, {antialias}"
    fields = {"size": tuple(op.size), "mode": op.mode, "coordinates": op.coordinates, "scale": op.scale,
              "antialias": op.antialias}  # fmt: skip
    return Call(node.inputs, node.outputs, channels(op, f"resize({{0}}, {given})"), fields, helpers=("resize",))


@rule(ops.DepthToSpace, ops.SpaceToDepth)
def shuffle(node: Node, graph: Graph) -> Call:
    up = isinstance(node.op, ops.DepthToSpace)
    if node.op.order == "CRD":
        name, module = ("pixel_shuffle", "nn.PixelShuffle") if up else ("pixel_unshuffle", "nn.PixelUnshuffle")
        key = "upscale_factor" if up else "downscale_factor"
        template = channels(node.op, f"F.{name}({{0}}, {{{key}}})")
        module = module if node.op.layout == "NCHW" else ""
        return Call(node.inputs, node.outputs, template, {key: node.op.block}, positional=1, module=module)
    name = "depth_to_space" if up else "space_to_depth"
    template = channels(node.op, f"{name}({{0}}, {{block}})")
    return Call(node.inputs, node.outputs, template, {"block": node.op.block}, helpers=(name,))


@rule(ops.Unfold2d)
def unfold(node: Node, graph: Graph) -> list[Call]:
    op, x = node.op, node.inputs[0]
    calls: list[Call] = []
    pads = tuple(p[0] for p in op.padding)
    if not symmetric(op.padding):
        calls, x = padded(node, op.padding)
        pads = (0, 0)
    fields = {"kernel_size": short(op.kernel), "dilation": short(op.dilation), "padding": short(pads),
              "stride": short(op.stride)}  # fmt: skip
    template = "F.unfold({0}, {kernel_size}, dilation={dilation}, padding={padding}, stride={stride})"
    if op.layout == "NHWC":
        template = template.replace("{0}", "{0}.permute(0, 3, 1, 2)") + ".transpose(1, 2)"
    module = "nn.Unfold" if op.layout == "NCHW" else ""
    return [*calls, Call([x], node.outputs, template, fields, positional=1, module=module)]


@rule(ops.Fold2d)
def fold(node: Node, graph: Graph) -> Call:
    op = node.op
    pads: tuple[int, ...] = tuple(p[0] for p in op.padding)
    size, crop = tuple(op.output_size), ()
    if not symmetric(op.padding):
        size = tuple(n + sum(p) for n, p in zip(size, op.padding, strict=True))
        pads, crop = (0, 0), tuple(-n for pair in reversed(op.padding) for n in pair)
    fields: dict[str, Any] = {"output_size": size, "kernel_size": short(op.kernel), "dilation": short(op.dilation),
                              "padding": short(pads), "stride": short(op.stride)}  # fmt: skip
    given = "{output_size}, {kernel_size}, dilation={dilation}, padding={padding}, stride={stride}"
    template = f"F.fold({{0}}, {given})"
    if op.layout == "NHWC":
        template = template.replace("{0}", "{0}.transpose(1, 2)")
    if crop:
        template, fields["crop"] = f"F.pad({template}, {{crop}})", crop
    if op.layout == "NHWC":
        template += ".permute(0, 2, 3, 1)"
    return Call(node.inputs, node.outputs, template, fields)


@rule(ops.GridSample)
def grid_sample(node: Node, graph: Graph) -> Call:
    op = node.op
    given = "mode={mode}, padding_mode={padding_mode}, align_corners={align_corners}"
    fields = {"mode": op.mode, "padding_mode": op.padding_mode, "align_corners": op.align_corners}
    return Call(node.inputs, node.outputs, channels(op, f"F.grid_sample({{0}}, {{1}}, {given})"), fields)
