"""Keras code of operators that move or choose elements."""

from __future__ import annotations

from instep.emit.code.call import Call
from instep.emit.code.idioms import Select, Split, Stack, Unbind
from instep.emit.code.indexing import first_part, idiom, open_shape, sliced
from instep.emit.keras.table import claims, expression, layer, writes
from instep.graph import Graph, Node, ops

__all__: list[str] = []

#: TensorFlow pads no tensor of a higher rank.
MOST_PADDED = 6


@writes(ops.Reshape)
def reshape(node: Node, graph: Graph) -> Call:
    return expression(node, "ops.reshape({0}, {shape})", shape=open_shape(node, graph))


@writes(ops.Permute)
def permute(node: Node, graph: Graph) -> Call:
    return expression(node, "ops.transpose({0}, {axes})", axes=tuple(node.op.perm))


@writes(ops.Slice)
def cut(node: Node, graph: Graph) -> Call:
    # Keras takes no slice that is alone
    code, fields = sliced(node, alone=False)
    return expression(node, code, **fields)


@writes(Select, Unbind, Split, Stack)
def several(node: Node, graph: Graph) -> Call:
    code, fields = idiom(node, "ops")
    return expression(node, code, **fields)


@writes(ops.Concat)
def concat(node: Node, graph: Graph) -> Call:
    """A constant among computed values is the same for every sample: it is repeated for each of the batch."""
    moving = [i for i, v in enumerate(node.inputs) if v not in graph.weights]
    places, helpers = [], []
    for i, value in enumerate(node.inputs):
        alike = moving and i not in moving and value.shape[0] == 1 and node.op.axis > 0
        places.append(f"for_each({{{i}}}, {{{moving[0]}}})" if alike else f"{{{i}}}")
        helpers += ["for_each"] * bool(alike)
    code = f"ops.concatenate([{', '.join(places)}], axis={{axis}})"
    return expression(node, code, *helpers[:1], axis=node.op.axis)


@writes(ops.Pad)
def pad(node: Node, graph: Graph) -> Call:
    op = node.op
    pads = tuple(tuple(p) for p in op.pads)
    if op.mode in ("replicate", "circular"):
        return expression(node, "pad({0}, {pads}, {mode})", "pad", pads=pads, mode=op.mode)
    if op.mode == "reflect":
        return expression(node, "ops.pad({0}, {pads}, mode={mode})", pads=pads, mode=op.mode)
    if node.output.rank > MOST_PADDED:
        return expression(node, "pad_each({0}, {pads}, {value})", "pad_each", pads=pads, value=op.value)
    if op.value == 0:
        return expression(node, "ops.pad({0}, {pads})", pads=pads)
    return expression(node, "ops.pad({0}, {pads}, constant_values={value})", pads=pads, value=op.value)


@writes(ops.Expand)
def expand(node: Node, graph: Graph) -> Call:
    (x,), shape = node.inputs, tuple(node.op.shape)
    if x.rank != len(shape):
        return expression(node, "ops.broadcast_to({0}, {shape})", shape=shape)
    repeats = tuple(1 if a == b else b for a, b in zip(x.shape, shape, strict=True))
    return expression(node, "ops.tile({0}, {repeats})", repeats=repeats)


@writes(ops.Flip)
def flip(node: Node, graph: Graph) -> Call:
    return expression(node, "ops.flip({0}, {axes})", axes=tuple(node.op.axes))


@writes(ops.Roll)
def roll(node: Node, graph: Graph) -> Call:
    return expression(node, "ops.roll({0}, {shifts}, {axes})", shifts=tuple(node.op.shifts), axes=tuple(node.op.axes))


@writes(ops.Gather)
def gather(node: Node, graph: Graph) -> Call:
    """A table of parameters whose rows are asked for by computed numbers is an embedding."""
    x, indices = node.inputs
    if (
        node.op.axis == 0
        and x.rank == 2
        and indices not in graph.weights
        and (weights := claims(node, graph, {"embeddings": (x,)}))
    ):
        fields = {"input_dim": x.shape[0], "output_dim": x.shape[1]}
        return layer(node, "layers.Embedding", [indices], fields, weights, positional=2)
    return expression(node, "ops.take({0}, {1}, axis={axis})", axis=node.op.axis)


@writes(ops.TakeAlong)
def take_along(node: Node, graph: Graph) -> Call:
    code = f"ops.take_along_axis({first_part(node)}, {{1}}, axis={{axis}})"
    return expression(node, code, axis=node.op.axis)
