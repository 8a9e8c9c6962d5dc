"""JAX code of operators that move or choose elements."""

from __future__ import annotations

from instep.emit.code.call import Call
from instep.emit.code.idioms import Select, Split, Stack, Unbind
from instep.emit.code.indexing import first_part, idiom, listed, open_shape, sliced
from instep.emit.jax.table import RNGS, expression, own, writes
from instep.graph import Graph, Node, ops

__all__: list[str] = []

_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@writes(ops.Reshape)
def reshape(node: Node, graph: Graph) -> Call:
    return expression(node, "jnp.reshape({0}, {shape})", shape=open_shape(node, graph))


@writes(ops.Permute)
def permute(node: Node, graph: Graph) -> Call:
    return expression(node, "jnp.transpose({0}, {axes})", axes=tuple(node.op.perm))


@writes(ops.Slice)
def cut(node: Node, graph: Graph) -> Call:
    code, fields = sliced(node)
    return expression(node, code, **fields)


@writes(Select, Unbind, Split, Stack)
def several(node: Node, graph: Graph) -> Call:
    code, fields = idiom(node, "jnp")
    return expression(node, code, **fields)


@writes(ops.Concat)
def concat(node: Node, graph: Graph) -> Call:
    return expression(node, f"jnp.concatenate({listed(node)}, axis={{axis}})", axis=node.op.axis)


@writes(ops.Pad)
def pad(node: Node, graph: Graph) -> Call:
    op = node.op
    if op.mode != "constant":
        return expression(node, "jnp.pad({0}, {pads}, mode={mode})", pads=op.pads, mode=_PAD_MODES[op.mode])
    if op.value == 0:
        return expression(node, "jnp.pad({0}, {pads})", pads=op.pads)
    return expression(node, "jnp.pad({0}, {pads}, constant_values={value})", pads=op.pads, value=op.value)


@writes(ops.Expand)
def expand(node: Node, graph: Graph) -> Call:
    return expression(node, "jnp.broadcast_to({0}, {shape})", shape=tuple(node.op.shape))


@writes(ops.Flip)
def flip(node: Node, graph: Graph) -> Call:
    return expression(node, "jnp.flip({0}, {axes})", axes=tuple(node.op.axes))


@writes(ops.Roll)
def roll(node: Node, graph: Graph) -> Call:
    return expression(node, "jnp.roll({0}, {shifts}, {axes})", shifts=tuple(node.op.shifts), axes=tuple(node.op.axes))


@writes(ops.Gather)
def gather(node: Node, graph: Graph) -> Call:
    """A table of parameters whose rows are asked for by computed numbers is an embedding."""
    x, indices = node.inputs
    weights = own(graph, embedding=x)
    if node.op.axis == 0 and x.rank == 2 and weights and indices not in graph.weights:
        fields = {"num_embeddings": x.shape[0], "features": x.shape[1], "rngs": RNGS}
        return Call([indices], node.outputs, fields=fields, layer="nnx.Embed", positional=2, weights=weights)
    return expression(node, "jnp.take({0}, {1}, axis={axis})", axis=node.op.axis)


@writes(ops.TakeAlong)
def take_along(node: Node, graph: Graph) -> Call:
    code = f"jnp.take_along_axis({first_part(node)}, {{1}}, axis={{axis}})"
    return expression(node, code, axis=node.op.axis)
