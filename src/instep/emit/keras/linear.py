"""Keras code of matrix products and normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from instep.emit.code.call import Call, Expression, Weight
from instep.emit.code.claims import turned
from instep.emit.keras.table import activated, claims, expression, layer, writes
from instep.graph import Graph, Node, Value, ops

__all__ = ["bias_of", "biased", "regularised"]


def bias_of(values: Sequence[Value]) -> dict[str, tuple[Value]]:
    """The bias among the arrays of a layer, where it has one."""
    return {"bias": (values[0],)} if values else {}


def biased(
    node: Node, name: str, x: Value, fields: dict, weights: dict[str, Weight], *, positional: int,
    helpers: tuple[str, ...] = (),
) -> Call:  # fmt: skip
    """A layer with a bias or without, and its fused activation."""
    fields = {**fields, "use_bias": "bias" in weights}
    code, activation = "{layer}({0})", node.op.activation
    if activation in ("relu", "relu6"):
        fields["activation"] = activation
    else:
        code = activated(code, activation)
    return layer(node, name, [x], fields, weights, positional=positional, code=code, helpers=helpers)


def regularised(graph: Graph, weight: Weight, argument: str = "kernel_regularizer") -> dict[str, Expression]:
    """The argument of a layer whose kernel joins the loss: decay · Σ w² / 2 is Keras' L2 of half the factor."""
    decay = graph.meta.get("decay", {}).get(weight.value.name)
    return {argument: Expression(f"keras.regularizers.L2({float(decay) / 2!r})")} if decay else {}


@writes(ops.Linear)
def linear(node: Node, graph: Graph) -> Call:
    x, weight, *bias = node.inputs
    weights = claims(node, graph, {"kernel": (weight, (1, 0)), **bias_of(bias)})
    if x.rank < 2 or weights is None:
        inputs, kernel = turned(graph, node, (1, 0), "ops.transpose")
        code = f"ops.matmul({{0}}, {kernel})" + (" + {2}" if bias else "")
        return replace(expression(node, activated(code, node.op.activation)), inputs=inputs)
    fields = {"units": weight.shape[0], **regularised(graph, weights["kernel"])}
    return biased(node, "layers.Dense", x, fields, weights, positional=1)


@writes(ops.MatMul)
def matmul(node: Node, graph: Graph) -> Call:
    flags = node.op.transpose_a, node.op.transpose_b
    a, b = (f"ops.swapaxes({{{i}}}, -1, -2)" if flag else f"{{{i}}}" for i, flag in enumerate(flags))
    return expression(node, f"ops.matmul({a}, {b})")


def _axis(axes: tuple[int, ...], value: Value):
    """``axes`` as layers say them: -1 for the last alone."""
    if tuple(axes) == (value.rank - 1,):
        return -1
    return axes[0] if len(axes) == 1 else list(axes)


def _affine(node: Node, graph: Graph, vectors: Sequence[Value]) -> tuple[dict[str, Weight] | None, dict[str, bool]]:
    """A norm's arrays, without the scale or the shift that the source goes without, and the fields that say so."""
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    flags = {"scale": not graph.absent(vectors[0], 1.0), "center": not graph.absent(vectors[1], 0.0)}
    gone = {name for name, kept in zip(names, flags.values(), strict=False) if not kept}
    wanted = {name: (v,) for name, v in zip(names, vectors, strict=False) if name not in gone}
    return claims(node, graph, wanted), flags


@writes(ops.BatchNorm)
def batch_norm(node: Node, graph: Graph) -> Call:
    """The running variance that Keras keeps is the biased one: the layer is a subclass that the prelude has."""
    (x, *vectors), op = node.inputs, node.op
    axis = op.axis % x.rank
    weights, flags = _affine(node, graph, vectors)
    if weights is None:
        code = "normalise_batch({0}, {1}, {2}, {3}, {4}, {axis}, {epsilon})"
        return expression(node, code, "normalise_batch", axis=axis, epsilon=op.eps)
    # 1 - momentum, without the last digits that binary fractions leave
    fields = {"axis": _axis((axis,), x), "momentum": float(f"{1 - op.momentum:.12g}"), "epsilon": op.eps}
    fields |= flags
    name = "BatchNormalization"
    if op.fixed:
        buffers = graph.meta.get("buffers", ())
        trained = any(w.value in vectors[:2] and w.value.name not in buffers for w in weights.values())
        # Keras fixes the statistics of a layer that is not trained, and its arrays with them
        name = "FixedBatchNormalization" if trained else "layers.BatchNormalization"
        fields |= {} if trained else {"trainable": False}
    call = layer(node, name, [x], fields, weights, positional=0, helpers=() if "." in name else (name,))
    call.defaults |= {"momentum": 0.99, "epsilon": 1e-3}
    return call


@writes(ops.LayerNorm)
def layer_norm(node: Node, graph: Graph) -> Call:
    (x, *vectors), op = node.inputs, node.op
    weights, flags = _affine(node, graph, vectors)
    if weights is None or 0 in op.axes:
        code = "normalise_layer({0}, {1}, {2}, {axes}, {epsilon})"
        return expression(node, code, "normalise_layer", axes=tuple(op.axes), epsilon=op.eps)
    fields = {"axis": _axis(op.axes, x), "epsilon": op.eps, **flags}
    call = layer(node, "layers.LayerNormalization", [x], fields, weights, positional=0)
    call.defaults |= {"epsilon": 1e-3}
    return call


@writes(ops.RmsNorm)
def rms_norm(node: Node, graph: Graph) -> Call:
    (x, scale), op = node.inputs, node.op
    weights = claims(node, graph, {"scale": (scale,)})
    # Keras' layer always has a scale
    if weights is None or 0 in op.axes or graph.absent(scale, 1.0):
        code = "normalise_rms({0}, {1}, {axes}, {epsilon})"
        return expression(node, code, "normalise_rms", axes=tuple(op.axes), epsilon=op.eps)
    fields = {"axis": _axis(op.axes, x), "epsilon": op.eps}
    call = layer(node, "layers.RMSNormalization", [x], fields, weights, positional=0)
    call.defaults |= {"epsilon": 1e-6}
    return call


@writes(ops.GroupNorm)
def group_norm(node: Node, graph: Graph) -> Call:
    (x, *vectors), op = node.inputs, node.op
    axis = op.axis % x.rank
    weights, flags = _affine(node, graph, vectors)
    if weights is None:
        code = "normalise_groups({0}, {1}, {2}, {groups}, {epsilon}, {axis})"
        return expression(node, code, "normalise_groups", groups=op.groups, epsilon=op.eps, axis=axis)
    fields = {"groups": op.groups, "axis": _axis((axis,), x), "epsilon": op.eps, **flags}
    call = layer(node, "layers.GroupNormalization", [x], fields, weights)
    call.defaults |= {"epsilon": 1e-3}
    return call
