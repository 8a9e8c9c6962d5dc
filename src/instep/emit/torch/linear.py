"""Matrix products and normalisations as PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.emit.code.call import Call, Weight
from instep.emit.code.idioms import Attend
from instep.emit.torch.table import activated, claimed, code, move, rule, short
from instep.graph import ops
from instep.graph.core import Graph, Node


@rule(ops.Linear)
def linear(node: Node, graph: Graph) -> Call:
    x, *rest = node.inputs
    activation = node.op.activation
    if not claimed(graph, node, rest):
        template = "F.linear({0}, {1}, {2})" if len(rest) > 1 else "F.linear({0}, {1})"
        return code(node, activated(template, activation))
    out, features = rest[0].shape
    fields = {"in_features": features, "out_features": out, "bias": len(rest) > 1}
    weights = {k: Weight(v) for k, v in zip(("weight", "bias"), rest, strict=False)}
    template = activated("{layer}({0})", activation)
    return Call([x], node.outputs, template, fields, "nn.Linear", 2, weights, defaults={"bias": True})


@rule(ops.MatMul)
def matmul(node: Node, graph: Graph) -> Call:
    a = "{0}.transpose(-2, -1)" if node.op.transpose_a else "{0}"
    b = "{1}.transpose(-2, -1)" if node.op.transpose_b else "{1}"
    return code(node, f"{a} @ {b}")


@rule(Attend)
def attend(node: Node, graph: Graph) -> Call:
    """PyTorch scales by 1/√features where nothing is said."""
    usual = math.isclose(node.op.scale, node.inputs[0].shape[-1] ** -0.5, rel_tol=1e-6)
    given = ["{0}", "{1}", "{2}", *["attn_mask={3}"] * (len(node.inputs) > 3), *["scale={scale}"] * (not usual)]
    fields = {} if usual else {"scale": float(np.float32(node.op.scale))}
    call = code(node, f"F.scaled_dot_product_attention({', '.join(given)})", **fields)
    call.roles = ("q", "k", "v", "mask")
    return call


def _norm(
    node: Node,
    graph: Graph,
    name: str,
    template: str,
    fields: dict[str, Any],
    positional: int,
    *,
    switch: str = "affine",
) -> Call:
    """The layer ``name`` with the scale and the shift that the source has; ``switch`` is its argument for both.

    PyTorch has an argument for the shift of layer norms besides; other layers lose what they are to go without.
    """
    x, *rest = node.inputs
    names = ("weight", "bias", "running_mean", "running_var")
    weights = {k: Weight(v) for k, v in zip(names, rest, strict=False)}
    gone = [k for k, fill in (("weight", 1.0), ("bias", 0.0)) if k in weights and graph.absent(weights[k].value, fill)]
    given = {k: w for k, w in weights.items() if k not in gone}
    affine = len(gone) < min(len(rest), 2)
    fields = {**fields, switch: affine}
    usual: dict[str, Any] = {switch: True} | ({} if name == "nn.RMSNorm" else {"eps": 1e-5})
    call = Call([x], node.outputs, template, fields, name, positional, given, defaults=usual)
    if affine and gone == ["bias"] and name == "nn.LayerNorm":
        call.fields["bias"] = False
    elif affine and gone:
        call.around, call.helpers = f'without({{}}, "{gone[0]}")', ("without",)
    return call


@rule(ops.BatchNorm)
def batch_norm(node: Node, graph: Graph) -> Call:
    op, (x, *rest) = node.op, node.inputs
    if not claimed(graph, node, rest, ("weight", "bias", "running_mean", "running_var")):
        template = "F.batch_norm({0}, {3}, {4}, {1}, {2}, eps={eps})"
        return code(node, move(template, op.axis, x.rank), eps=op.eps)
    rank = {2: 1, 3: 1, 4: 2, 5: 3}.get(x.rank, 1)
    template = move("{layer}({0})", op.axis, x.rank)
    if x.rank > 5:
        template = f"{{layer}}({{0}}.movedim({op.axis}, 1).flatten(2)).reshape({_moved(x.shape, op.axis)})"
        template += f".movedim(1, {op.axis})"
    fields = {"num_features": rest[0].size, "eps": op.eps, "momentum": op.momentum}
    call = _norm(node, graph, "FixedBatchNorm" if op.fixed else f"nn.BatchNorm{rank}d", template, fields, 1)
    call.helpers += ("FixedBatchNorm",) if op.fixed else ()
    call.defaults["momentum"] = 0.1
    return call


def _moved(shape: tuple[int, ...], axis: int) -> list[int]:
    """``shape`` with ``axis`` second."""
    rest = [n for a, n in enumerate(shape) if a != axis]
    return [-1, shape[axis], *rest[1:]]


@rule(ops.GroupNorm)
def group_norm(node: Node, graph: Graph) -> Call:
    op, (x, *rest) = node.op, node.inputs
    alone = x.size == x.shape[0] * op.groups  # nn.GroupNorm refuses groups of one number
    if alone or not claimed(graph, node, rest):
        template = "torch.group_norm({0}, {groups}, {1}, {2}, {eps})"
        return code(node, move(template, op.axis, x.rank), groups=op.groups, eps=op.eps)
    fields = {"num_groups": op.groups, "num_channels": rest[0].size, "eps": op.eps}
    return _norm(node, graph, "nn.GroupNorm", move("{layer}({0})", op.axis, x.rank), fields, 2)


@rule(ops.LayerNorm, ops.RmsNorm)
def layer_norm(node: Node, graph: Graph) -> Call:
    op, (x, *rest) = node.op, node.inputs
    shape = tuple(x.shape[a] for a in op.axes)
    name, function = ("LayerNorm", "layer_norm") if isinstance(op, ops.LayerNorm) else ("RMSNorm", "rms_norm")
    if not claimed(graph, node, rest):
        given = "{1}, {2}" if len(rest) > 1 else "{1}"
        template = f"F.{function}({{0}}, {{shape}}, {given}, {{eps}})"
        return code(node, _last(template, op.axes, x.rank), shape=shape, eps=op.eps)
    fields = {"normalized_shape": short(shape) if len(shape) == 1 else shape, "eps": op.eps}
    template = _last("{layer}({0})", op.axes, x.rank)
    return _norm(node, graph, f"nn.{name}", template, fields, 1, switch="elementwise_affine")


def _last(template: str, axes: tuple[int, ...], rank: int) -> str:
    """``template``, which normalises the last axes of {0}, for one that has them at ``axes``."""
    last = tuple(range(rank - len(axes), rank))
    if axes == last:
        return template
    perm = (*(a for a in range(rank) if a not in axes), *axes)
    back = tuple(int(a) for a in np.argsort(perm))
    return template.replace("{0}", f"{{0}}.permute{perm}") + f".permute{back}"
