"""Keras code of reductions, scans and rankings."""

from __future__ import annotations

from instep.emit.code.call import Call
from instep.emit.keras.table import expression, writes
from instep.graph import Graph, Node, Operator, ops

__all__: list[str] = []

_REDUCTIONS: dict[type[Operator], str] = {
    ops.ReduceMean: "ops.mean",
    ops.ReduceSum: "ops.sum",
    ops.ReduceMax: "ops.max",
    ops.ReduceMin: "ops.min",
    ops.ReduceProd: "ops.prod",
    ops.ReduceAny: "ops.any",
    ops.ReduceAll: "ops.all",
}
_ALONG: dict[type[Operator], str] = {
    ops.Softmax: "ops.softmax",
    ops.LogSoftmax: "ops.log_softmax",
    ops.CumSum: "ops.cumsum",
}


@writes(*_REDUCTIONS)
def reduction(node: Node, graph: Graph) -> Call:
    op, dtype = node.op, node.output.dtype
    axes = op.axes[0] if len(op.axes) == 1 else tuple(op.axes)
    code = f"{_REDUCTIONS[type(op)]}({{0}}, axis={{axis}}{', keepdims=True' if op.keepdims else ''})"
    if isinstance(op, ops.ReduceMean | ops.ReduceSum | ops.ReduceProd) and not dtype.startswith("float"):
        return expression(node, f"ops.cast({code}, {{dtype}})", axis=axes, dtype=dtype)
    return expression(node, code, axis=axes)


@writes(*_ALONG)
def along(node: Node, graph: Graph) -> Call:
    return expression(node, f"{_ALONG[type(node.op)]}({{0}}, axis={{axis}})", axis=node.op.axis)


@writes(ops.ArgMax, ops.ArgMin)
def arg(node: Node, graph: Graph) -> Call:
    name = "ops.argmax" if isinstance(node.op, ops.ArgMax) else "ops.argmin"
    kept = ", keepdims=True" if node.op.keepdims else ""
    return expression(node, f"{name}({{0}}, axis={{axis}}{kept})", axis=node.op.axis)


@writes(ops.TopK)
def top_k(node: Node, graph: Graph) -> Call:
    return expression(node, "ops.top_k({0}, {k})", k=node.op.k)
