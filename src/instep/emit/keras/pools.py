"""Keras code of pools, channels last."""

from __future__ import annotations

from instep.emit.code.call import Call
from instep.emit.keras.spatial import same_pads
from instep.emit.keras.table import activated, expression, layer, needs_last, short, writes
from instep.graph import Graph, Node, ops

__all__: list[str] = []


@writes(ops.MaxPool2d)
def max_pool(node: Node, graph: Graph) -> Call:
    """Padded places never win: other pads than "same" adds are of -∞."""
    needs_last(node)
    op, x = node.op, node.inputs[0]
    if set(op.dilation) != {1}:
        fields = {"pool_size": op.kernel, "strides": op.stride, "padding": op.padding, "dilation": op.dilation}
        code = activated("{layer}({0})", op.activation)
        return layer(node, "DilatedMaxPooling2D", [x], fields, {}, code=code, helpers=("DilatedMaxPooling2D",))
    fields = {"pool_size": short(op.kernel), "strides": short(op.stride)}
    read, options = "{0}", "{pool_size}, {strides}"
    if any(map(any, op.padding)):
        if tuple(op.padding) == tuple(same_pads(x.shape[1:3], op.kernel, op.stride, (1, 1))):
            options += ', padding="same"'
        else:
            fields |= {"pads": ((0, 0), *op.padding, (0, 0)), "lowest": float("-inf")}
            read = "ops.pad({0}, {pads}, constant_values={lowest})"
    return expression(node, activated(f"layers.MaxPooling2D({options})({read})", op.activation), **fields)


@writes(ops.AvgPool2d)
def avg_pool(node: Node, graph: Graph) -> Call:
    """Keras counts the input's places alone where it pads itself ("same")."""
    needs_last(node)
    op, x = node.op, node.inputs[0]
    padded = any(map(any, op.padding))
    fields = {"pool_size": short(op.kernel), "strides": short(op.stride)}
    if not padded and not any(op.overhang):
        if tuple(op.kernel) == x.shape[1:3]:
            code = "ops.mean({0}, axis=(1, 2), keepdims=True)"
            return expression(node, activated(code, op.activation))
        return expression(
            node, activated("layers.AveragePooling2D({pool_size}, {strides})({0})", op.activation), **fields
        )
    same = tuple(map(tuple, op.all_pads)) == tuple(same_pads(x.shape[1:3], op.kernel, op.stride, (1, 1)))
    if same and not (padded and op.count_include_pad):
        code = 'layers.AveragePooling2D({pool_size}, {strides}, padding="same")({0})'
        return expression(node, activated(code, op.activation), **fields)
    if op.count_include_pad and not any(op.overhang):
        fields["pads"] = tuple(op.padding)
        code = "layers.AveragePooling2D({pool_size}, {strides})(layers.ZeroPadding2D({pads})({0}))"
        return expression(node, activated(code, op.activation), **fields)
    fields = {"pool_size": op.kernel, "strides": op.stride, "padding": op.padding, "overhang": op.overhang}
    fields |= {"count_include_pad": op.count_include_pad}
    name = "PaddedAveragePooling2D"
    return layer(node, name, [x], fields, {}, code=activated("{layer}({0})", op.activation), helpers=(name,))


@writes(ops.AdaptiveAvgPool2d, ops.AdaptiveMaxPool2d)
def adaptive_pool(node: Node, graph: Graph) -> Call:
    needs_last(node)
    op, (_, h, w, _) = node.op, node.inputs[0].shape
    mean = isinstance(op, ops.AdaptiveAvgPool2d)
    oh, ow = op.output_size
    if (oh, ow) == (1, 1):
        return expression(node, f"ops.{'mean' if mean else 'max'}({{0}}, axis=(1, 2), keepdims=True)")
    name = "Average" if mean else "Max"
    if h % oh or w % ow:
        return expression(node, f"layers.Adaptive{name}Pooling2D({{size}})({{0}})", size=tuple(op.output_size))
    return expression(node, f"layers.{name}Pooling2D({{window}})({{0}})", window=short((h // oh, w // ow)))
