"""Reductions, scans and rankings as PyTorch."""

from __future__ import annotations

from instep.emit.code.call import Call
from instep.emit.torch.table import code, rule
from instep.graph import ops
from instep.graph.core import Graph, Node
from instep.graph.operator import Operator

_NAMES: dict[type[Operator], str] = {
    ops.ReduceMean: "mean", ops.ReduceSum: "sum", ops.ReduceMax: "amax", ops.ReduceMin: "amin",
    ops.ReduceProd: "prod", ops.ReduceAny: "any", ops.ReduceAll: "all",
}  # fmt: skip


@rule(*_NAMES)
def reduction(node: Node, graph: Graph) -> Call:
    op = node.op
    if not op.axes:
        return code(node, "{0}")
    whole = node.output.dtype.startswith(("int", "uint"))
    keep = ", keepdim=True" if op.keepdims else ""
    name = _NAMES[type(op)]
    if name == "prod":
        # torch.prod takes one axis: the last one first, so that the others stay where they are
        steps = "".join(f".prod(dim={a}{keep})" for a in sorted(op.axes, reverse=True))
        return code(node, "{0}" + steps + (f".to(torch.{node.output.dtype})" if whole else ""))
    if name == "mean" and op.keepdims and op.axes == (2, 3) and node.scope.rpartition(".")[2].isdecimal():
        # a numbered layer: one of a row, perhaps
        template, fields = "F.adaptive_avg_pool2d({0}, {output_size})", {"output_size": 1}
        return Call(node.inputs, node.outputs, template, fields, positional=1, module="nn.AdaptiveAvgPool2d")
    axes = op.axes[0] if len(op.axes) == 1 else tuple(op.axes)
    if whole and name == "mean":
        return code(node, f"{{0}}.double().mean(dim={{dim}}{keep}).to(torch.{node.output.dtype})", dim=axes)
    kind = f", dtype=torch.{node.output.dtype}" if whole and name == "sum" else ""
    return code(node, f"{{0}}.{name}(dim={{dim}}{keep}{kind})", dim=axes)


@rule(ops.Softmax, ops.LogSoftmax)
def softmax(node: Node, graph: Graph) -> Call:
    name, module = ("softmax", "nn.Softmax") if isinstance(node.op, ops.Softmax) else ("log_softmax", "nn.LogSoftmax")
    return Call(node.inputs, node.outputs, f"F.{name}({{0}}, dim={{dim}})", {"dim": node.op.axis}, module=module)


@rule(ops.ArgMax, ops.ArgMin)
def arg(node: Node, graph: Graph) -> Call:
    name = "argmax" if isinstance(node.op, ops.ArgMax) else "argmin"
    keep = ", keepdim=True" if node.op.keepdims else ""
    return code(node, f"{{0}}.{name}(dim={{dim}}{keep})", dim=node.op.axis)


@rule(ops.CumSum)
def cumsum(node: Node, graph: Graph) -> Call:
    kind = f", dtype=torch.{node.output.dtype}" if node.output.dtype.startswith(("int", "uint")) else ""
    return code(node, f"{{0}}.cumsum(dim={{dim}}{kind})", dim=node.op.axis)


@rule(ops.TopK)
def topk(node: Node, graph: Graph) -> Call:
    return code(node, "torch.topk({0}, {k})", k=node.op.k)
