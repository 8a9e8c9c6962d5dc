"""JAX code of reductions, scans and rankings."""

from __future__ import annotations

from instep.emit.code.call import Call
from instep.emit.jax.table import expression, writes
from instep.graph import Graph, Node, Operator, ops

__all__: list[str] = []

_REDUCTIONS: dict[type[Operator], str] = {
    ops.ReduceMean: "jnp.mean",
    ops.ReduceSum: "jnp.sum",
    ops.ReduceMax: "jnp.max",
    ops.ReduceMin: "jnp.min",
    ops.ReduceProd: "jnp.prod",
    ops.ReduceAny: "jnp.any",
    ops.ReduceAll: "jnp.all",
}
_ALONG: dict[type[Operator], str] = {
    ops.Softmax: "jax.nn.softmax",
    ops.LogSoftmax: "jax.nn.log_softmax",
    ops.CumSum: "jnp.cumsum",
}


@writes(*_REDUCTIONS)
def reduction(node: Node, graph: Graph) -> Call:
    op = node.op
    axes = op.axes[0] if len(op.axes) == 1 else tuple(op.axes)
    code = f"{_REDUCTIONS[type(op)]}({{0}}, axis={{axis}}{', keepdims=True' if op.keepdims else ''})"
    if isinstance(op, ops.ReduceMean) and not node.output.dtype.startswith("float"):
        code = f"jnp.trunc({code}).astype(int)"
    return expression(node, code, axis=axes)


@writes(*_ALONG)
def along(node: Node, graph: Graph) -> Call:
    return expression(node, f"{_ALONG[type(node.op)]}({{0}}, axis={{axis}})", axis=node.op.axis)


@writes(ops.ArgMax, ops.ArgMin)
def arg(node: Node, graph: Graph) -> Call:
    name = "jnp.argmax" if isinstance(node.op, ops.ArgMax) else "jnp.argmin"
    kept = ", keepdims=True" if node.op.keepdims else ""
    return expression(node, f"{name}({{0}}, axis={{axis}}{kept})", axis=node.op.axis)


@writes(ops.TopK)
def top_k(node: Node, graph: Graph) -> Call:
    return expression(node, "jax.lax.top_k({0}, {k})", k=node.op.k)
