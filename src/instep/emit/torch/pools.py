"""Pools as PyTorch."""

from __future__ import annotations

import math
from typing import Any

from instep.emit.code.call import Call
from instep.emit.torch.spatial import channels, padded
from instep.emit.torch.table import activated, rule, short, symmetric
from instep.graph import ops
from instep.graph.core import Graph, Node


@rule(ops.MaxPool2d)
def max_pool(node: Node, graph: Graph) -> list[Call]:
    op, x = node.op, node.inputs[0]
    calls: list[Call] = []
    pads, ceil = _spelled(node, op.dilation)
    if pads is None:
        calls, x = padded(node, op.padding, -math.inf)
        pads = (0, 0)
    fields = {"kernel_size": short(op.kernel), "stride": _stride(op), "padding": short(pads),
              "dilation": short(op.dilation), "ceil_mode": ceil}  # fmt: skip
    usual = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
    return [*calls, _call(node, x, "max_pool2d", "nn.MaxPool2d", fields, usual)]


@rule(ops.AvgPool2d)
def avg_pool(node: Node, graph: Graph) -> list[Call]:
    op, x = node.op, node.inputs[0]
    pads, ceil = _spelled(node, (1, 1))
    include = op.count_include_pad
    fields: dict[str, Any] = {"kernel_size": short(op.kernel), "stride": _stride(op)}
    if pads is not None:
        fields |= {"padding": short(pads), "ceil_mode": ceil, "count_include_pad": include or pads == (0, 0)}
    elif include and op.overhang == (0, 0):
        calls, x = padded(node, op.padding)
        fields |= {"padding": 0, "ceil_mode": False, "count_include_pad": True}
        return [*calls, _call(node, x, "avg_pool2d", "nn.AvgPool2d", fields, _AVG)]
    else:
        given = "{kernel}, {stride}, {padding}, {overhang}, {count_include_pad}"
        template = activated(channels(op, f"avg_pool({{0}}, {given})"), op.activation)
        names = ("kernel", "stride", "padding", "overhang", "count_include_pad")
        fields = {n: getattr(op, n) for n in names}
        return [Call([x], node.outputs, template, fields, helpers=("avg_pool",))]
    return [_call(node, x, "avg_pool2d", "nn.AvgPool2d", fields, _AVG)]


_AVG: dict[str, Any] = {"stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True}


def _stride(op: Any) -> Any:
    return None if op.stride == op.kernel else short(op.stride)


def _call(node: Node, x: Any, function: str, module: str, fields: dict[str, Any], usual: dict[str, Any]) -> Call:
    given = "".join(f", {k}={{{k}}}" for k, v in fields.items() if k != "kernel_size" and v != usual[k])
    template = activated(channels(node.op, f"F.{function}({{0}}, {{kernel_size}}{given})"), node.op.activation)
    module = module if node.op.layout == "NCHW" and not node.op.activation else ""
    return Call([x], node.outputs, template, fields, positional=1, defaults=usual, module=module)


def _spelled(node: Node, dilation: tuple[int, int]) -> tuple[tuple[int, int] | None, bool]:
    """How PyTorch spells the pads: ``padding`` and ``ceil_mode``; no padding where it cannot."""
    op, x, out = node.op, node.inputs[0].shape, node.output.shape
    first = 2 if op.layout == "NCHW" else 1
    over = getattr(op, "overhang", (0, 0))
    before = tuple(p[0] for p in op.padding)
    if any(2 * p > k for p, k in zip(before, op.kernel, strict=True)):
        return None, False
    if symmetric(op.padding) and not any(over):
        return before, False
    if isinstance(op, ops.AvgPool2d) and not symmetric(op.padding):
        return None, False
    for axis in (0, 1):
        size, stride = x[first + axis], op.stride[axis]
        rest = size + 2 * before[axis] - dilation[axis] * (op.kernel[axis] - 1) - 1
        count = -(-rest // stride) + 1
        if (count - 1) * stride >= size + before[axis]:
            count -= 1
        if count != out[first + axis]:
            return None, False
    return before, True
