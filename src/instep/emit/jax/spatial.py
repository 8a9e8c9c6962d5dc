"""JAX code of operators with a spatial layout, channels last."""

from __future__ import annotations

from dataclasses import replace

from instep.emit.code.call import Call
from instep.emit.code.claims import claim, turned
from instep.emit.jax.linear import layer, with_bias
from instep.emit.jax.table import activated, expression, needs_last, writes
from instep.graph import Graph, Node, Operator, ops

__all__: list[str] = []


@writes(ops.Conv2d, ops.Conv3d)
def conv(node: Node, graph: Graph) -> Call:
    """[O, ..., I] of the graph is [..., I, O] here."""
    needs_last(node)
    op, (x, weight, *bias) = node.op, node.inputs
    perm = (*range(1, weight.rank), 0)
    places = {"strides": op.stride, "padding": op.padding if any(map(any, op.padding)) else "VALID", **_rest(op)}
    weights = with_bias(graph, claim(graph, weight, perm), bias)
    if not weights:
        return _computed(node, graph, "convolve", perm, places)
    fields = {"in_features": x.shape[-1], "out_features": weight.shape[0], "kernel_size": weight.shape[1:-1], **places}
    return layer(node, "nnx.Conv", [x], fields, weights, positional=3)


@writes(ops.ConvTranspose2d)
def conv_transpose(node: Node, graph: Graph) -> Call:
    """Flax pads the stretched input: what torch crops, counted from the full result."""
    needs_last(node)
    op, (x, weight, *bias) = node.op, node.inputs
    kernel = weight.shape[1:3]
    rows = zip(op.padding, kernel, op.dilation, op.output_padding, strict=True)
    pads = tuple((d * (k - 1) - a, d * (k - 1) - b + more) for (a, b), k, d, more in rows)
    places = {"strides": op.stride, "padding": pads, **_rest(op)}
    # [I, H, W, O / groups] of the graph is [H, W, O / groups, I] here
    perm = (1, 2, 3, 0)
    weights = with_bias(graph, claim(graph, weight, perm), bias)
    if not weights:
        return _computed(node, graph, "convolve_transposed", perm, places)
    fields = {"in_features": x.shape[-1], "out_features": weight.shape[3] * op.groups, "kernel_size": kernel, **places}
    if op.groups != 1:
        name = "GroupedConvTranspose"
        return layer(node, name, [x], fields, weights, positional=3, helper=name)
    del fields["feature_group_count"]
    fields["transpose_kernel"] = True
    return layer(node, "nnx.ConvTranspose", [x], fields, weights, positional=3)


def _rest(op: Operator) -> dict:
    """The options that most convolutions leave as they are."""
    return {"kernel_dilation": op.dilation, "feature_group_count": op.groups}


def _computed(node: Node, graph: Graph, helper: str, perm: tuple[int, ...], places: dict) -> Call:
    """A convolution whose kernel is computed."""
    inputs, kernel = turned(graph, node, perm, "jnp.transpose")
    bias = ", {2}" if len(node.inputs) > 2 else ""
    usual = {"kernel_dilation": (1,) * (node.inputs[1].rank - 2), "feature_group_count": 1}
    places = {name: value for name, value in places.items() if usual.get(name) != value}
    options = "".join(f", {name}={{{name}}}" for name in places)
    code = activated(f"{helper}({{0}}, {kernel}{bias}{options})", node.op.activation)
    return replace(expression(node, code, helper, **places), inputs=inputs)


@writes(ops.MaxPool2d)
def max_pool(node: Node, graph: Graph) -> Call:
    needs_last(node)
    op = node.op
    code, fields = _pool("max_pool", op)
    if op.dilation == (1, 1):
        return replace(expression(node, activated(f"nnx.{code})", op.activation), **fields), module=_module(op, code))
    code = activated(code + ", dilation={dilation})", op.activation)
    return expression(node, code, "max_pool", **fields, dilation=op.dilation)


@writes(ops.AvgPool2d)
def avg_pool(node: Node, graph: Graph) -> Call:
    needs_last(node)
    op = node.op
    code, fields = _pool("avg_pool", op)
    if not op.count_include_pad and any(map(any, op.padding)):
        code += ", count_include_pad=False"
    if any(op.overhang):
        code = activated(code + ", overhang={overhang})", op.activation)
        return expression(node, code, "avg_pool", **fields, overhang=op.overhang)
    return replace(expression(node, activated(f"nnx.{code})", op.activation), **fields), module=_module(op, code))


def _pool(name: str, op: Operator) -> tuple[str, dict]:
    """A pool up to its last argument, and its fields."""
    fields = {"window_shape": op.kernel, "strides": op.stride}
    code = f"{name}({{0}}, {{window_shape}}, strides={{strides}}"
    if any(map(any, op.padding)):
        return code + ", padding={padding}", {**fields, "padding": op.padding}
    return code, fields


def _module(op: Operator, code: str) -> str:
    """The function that does the same in a row of layers, where the fields are all that it needs."""
    return "" if op.activation or "count" in code else f"nnx.{code.partition('(')[0]}"


@writes(ops.AdaptiveAvgPool2d, ops.AdaptiveMaxPool2d)
def adaptive_pool(node: Node, graph: Graph) -> Call:
    needs_last(node)
    op, (_, h, w, _) = node.op, node.inputs[0].shape
    mean = isinstance(op, ops.AdaptiveAvgPool2d)
    reduce = "jnp.mean" if mean else "jnp.max"
    oh, ow = op.output_size
    if (oh, ow) == (1, 1):
        return expression(node, f"{reduce}({{0}}, axis=(1, 2), keepdims=True)")
    if h % oh or w % ow:
        code = f"adaptive_pool({{0}}, {{output_size}}, {reduce})"
        return expression(node, code, "adaptive_pool", output_size=op.output_size)
    window = (h // oh, w // ow)
    pool = "nnx.avg_pool" if mean else "nnx.max_pool"
    return expression(node, f"{pool}({{0}}, {{window}}, strides={{window}})", window=window)


@writes(ops.Resize2d)
def resize(node: Node, graph: Graph) -> Call:
    needs_last(node)
    op = node.op
    fields = {"size": op.size, "mode": op.mode, "coordinates": op.coordinates}
    code = "resize({0}, {size}, {mode}, {coordinates}"
    if op.scale:
        fields["scale"] = op.scale
        code += ", scale={scale}"
    if op.antialias:
        code += ", antialias=True"
    return expression(node, code + ")", "resize", **fields)


@writes(ops.DepthToSpace, ops.SpaceToDepth)
def pixel_shuffle(node: Node, graph: Graph) -> Call:
    needs_last(node)
    name = "depth_to_space" if isinstance(node.op, ops.DepthToSpace) else "space_to_depth"
    return expression(node, f"{name}({{0}}, {{block}}, {{order}})", name, block=node.op.block, order=node.op.order)


@writes(ops.Unfold2d)
def unfold(node: Node, graph: Graph) -> Call:
    needs_last(node)
    op = node.op
    fields = {"kernel": op.kernel, "strides": op.stride, "padding": op.padding, "dilation": op.dilation}
    return expression(node, "unfold({0}, {kernel}, {strides}, {padding}, {dilation})", "unfold", **fields)


@writes(ops.Fold2d)
def fold(node: Node, graph: Graph) -> Call:
    needs_last(node)
    op = node.op
    fields = {"output_size": op.output_size, "kernel": op.kernel, "strides": op.stride, "padding": op.padding}
    code = "fold({0}, {output_size}, {kernel}, {strides}, {padding}, {dilation})"
    return expression(node, code, "fold", **fields, dilation=op.dilation)


@writes(ops.GridSample)
def grid_sample(node: Node, graph: Graph) -> Call:
    needs_last(node)
    op = node.op
    fields = {"mode": op.mode, "padding_mode": op.padding_mode, "align_corners": op.align_corners}
    return expression(node, "grid_sample({0}, {1}, {mode}, {padding_mode}, {align_corners})", "grid_sample", **fields)
