"""JAX code of matrix products and normalisations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from instep.emit.code.call import Call, Weight
from instep.emit.code.claims import claim, turned
from instep.emit.jax.table import RNGS, activated, expression, last, own, writes
from instep.graph import Graph, Node, Value, ops

__all__: list[str] = []


@writes(ops.Linear)
def linear(node: Node, graph: Graph) -> Call:
    x, weight, *bias = node.inputs
    weights = with_bias(graph, claim(graph, weight, (1, 0)), bias)
    if not weights:
        inputs, kernel = turned(graph, node, (1, 0), "jnp.transpose")
        code = f"jnp.matmul({{0}}, {kernel})" + (" + {2}" if bias else "")
        return replace(expression(node, activated(code, node.op.activation)), inputs=inputs)
    fields = {"in_features": weight.shape[1], "out_features": weight.shape[0]}
    return layer(node, "nnx.Linear", [x], fields, weights, positional=2)


#: A batch norm's arrays, in the graph's order.
_BATCH = ("scale", "bias", "mean", "var")
#: What Flax's layers assume.
_DEFAULTS: dict[str, Any] = {
    "use_scale": True,
    "use_bias": True,
    "feature_group_count": 1,
    "kernel_dilation": (1, 1),
    "strides": (1, 1),
}


def with_bias(graph: Graph, kernel: Weight | None, bias: list[Value]) -> dict[str, Weight]:
    """A layer's kernel and its bias, where it has one; empty where either is computed."""
    offset = own(graph, bias=bias[0]) if bias else {}
    return {} if kernel is None or (bias and not offset) else {"kernel": kernel, **offset}


def layer(
    node: Node, name: str, inputs: list, fields: dict, weights: dict, *, positional: int, helper: str = ""
) -> Call:
    """A layer with a bias or without, and its fused activation."""
    fields = {**fields, "use_bias": "bias" in weights, "rngs": RNGS}
    code = activated("{layer}({0})", node.op.activation)
    helpers = (helper,) if helper else ()
    return Call(inputs, node.outputs, code, fields, name, positional, weights, helpers, _DEFAULTS)


@writes(ops.MatMul)
def matmul(node: Node, graph: Graph) -> Call:
    flags = node.op.transpose_a, node.op.transpose_b
    a, b = (f"jnp.swapaxes({{{i}}}, -1, -2)" if flag else f"{{{i}}}" for i, flag in enumerate(flags))
    return expression(node, f"jnp.matmul({a}, {b})")


@writes(ops.BatchNorm)
def batch_norm(node: Node, graph: Graph) -> Call:
    """The running variance that Flax keeps is the biased one: the layer is a BatchNorm of the prelude."""
    (x, *vectors), op = node.inputs, node.op
    weights, flags = _affine(graph, vectors)
    if weights is None:
        code = "normalise_batch({0}, {1}, {2}, {3}, {4}, {axis}, {epsilon})"
        return expression(node, code, "normalise_batch", axis=op.axis, epsilon=op.eps)
    fields = {"num_features": x.shape[op.axis], "momentum": _rest(op.momentum), "epsilon": op.eps}
    fields |= {"axis": -1 if last((op.axis % x.rank,), x) else op.axis % x.rank}
    fields |= {"use_fast_variance": False, **flags, "rngs": RNGS}
    defaults = {**_DEFAULTS, "axis": -1, "epsilon": 1e-5}
    name = "FixedBatchNorm" if op.fixed else "BatchNorm"
    return Call([x], node.outputs, "{layer}({0})", fields, name, 1, weights, (name,), defaults)


def _affine(graph: Graph, vectors: list[Value]) -> tuple[dict[str, Weight] | None, dict[str, bool]]:
    """A norm's arrays, without the scale or the shift that the source goes without, and the fields that say so.

    None in place of the arrays where one of them is computed.
    """
    given = dict(zip(_BATCH, vectors, strict=False))
    gone = {name for name, fill in (("scale", 1.0), ("bias", 0.0)) if name in given and graph.absent(given[name], fill)}
    given = {name: value for name, value in given.items() if name not in gone}
    weights = own(graph, **given)
    flags = {f"use_{name}": name not in gone for name in _BATCH[: min(len(vectors), 2)]}
    return (weights if len(weights) == len(given) else None), flags


def _rest(momentum: float) -> float:
    """1 - momentum, without the last digits that binary fractions leave."""
    return float(f"{1 - momentum:.12g}")


@writes(ops.LayerNorm)
def layer_norm(node: Node, graph: Graph) -> Call:
    (x, *vectors), op = node.inputs, node.op
    weights, flags = _affine(graph, vectors)
    if weights is None or not last(op.axes, x):
        code = "normalise_layer({0}, {1}, {2}, {axes}, {epsilon})"
        return expression(node, code, "normalise_layer", axes=tuple(op.axes), epsilon=op.eps)
    fields = {"num_features": x.shape[-1], "epsilon": op.eps, "use_fast_variance": False, **flags, "rngs": RNGS}
    return _norm(node, "nnx.LayerNorm", fields, 1, weights)


def _norm(node: Node, name: str, fields: dict[str, Any], positional: int, weights: dict[str, Weight]) -> Call:
    return Call(
        node.inputs[:1], node.outputs, fields=fields, layer=name, positional=positional, weights=weights,
        defaults=_DEFAULTS,
    )  # fmt: skip


@writes(ops.RmsNorm)
def rms_norm(node: Node, graph: Graph) -> Call:
    (x, *vectors), op = node.inputs, node.op
    weights, flags = _affine(graph, vectors)
    if weights is None or not last(op.axes, x):
        code = "normalise_rms({0}, {1}, {axes}, {epsilon})"
        return expression(node, code, "normalise_rms", axes=tuple(op.axes), epsilon=op.eps)
    fields = {"num_features": x.shape[-1], "epsilon": op.eps, **flags, "rngs": RNGS}
    return _norm(node, "nnx.RMSNorm", fields, 1, weights)


@writes(ops.GroupNorm)
def group_norm(node: Node, graph: Graph) -> Call:
    (x, *vectors), op = node.inputs, node.op
    axis = op.axis % x.rank
    weights, flags = _affine(graph, vectors)
    if weights is None or not last((axis,), x):
        code = "normalise_groups({0}, {1}, {2}, {groups}, {epsilon}, {axis})"
        return expression(node, code, "normalise_groups", groups=op.groups, epsilon=op.eps, axis=axis)
    fields = {"num_features": x.shape[-1], "num_groups": op.groups, "epsilon": op.eps}
    fields |= {"use_fast_variance": False, **flags, "rngs": RNGS}
    return _norm(node, "nnx.GroupNorm", fields, 2, weights)
