"""Mistakes of reductions, softmax, scans and rankings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from instep.graph import Node, ops
from instep.verify.causes.table import Arrays, Context, Found, changed, explains

__all__: list[str] = []


@explains("softmax axis", ops.Softmax, ops.LogSoftmax)
def softmax_axis(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for axis in range(len(node.inputs[0].shape)):
        if axis != op.axis and node.inputs[0].shape[axis] > 1:
            yield f"along axis {axis} instead of {op.axis}", changed(node, axis=axis)


@explains("softmax form", ops.Softmax, ops.LogSoftmax)
def softmax_form(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if isinstance(op, ops.Softmax):
        yield "log-softmax for softmax", lambda ins: ops.LogSoftmax(op.axis).evaluate(*ins)
        yield "exp without the division", lambda ins: np.exp(ins[0] - ins[0].max(op.axis, keepdims=True))
        yield "sigmoid for softmax", lambda ins: ops.Sigmoid().evaluate(*ins)  # type: ignore[call-arg]
    else:
        yield "softmax for log-softmax", lambda ins: ops.Softmax(op.axis).evaluate(*ins)


@explains("reduction axis", *ops.REDUCTIONS)
def reduction_axis(node: Node, context: Context) -> Iterator[Found]:
    import itertools

    op: Any = node.op
    x, out = node.inputs[0].shape, node.output.shape
    for axes in itertools.combinations(range(len(x)), len(op.axes)):
        if axes == tuple(op.axes):
            continue
        kept = tuple(n for i, n in enumerate(x) if i not in axes)
        if int(np.prod(kept)) == int(np.prod(out)):
            other = op.with_(axes=axes, keepdims=False)
            yield (
                f"over axes {list(axes)} instead of {list(op.axes)}",
                lambda ins, o=other: o.evaluate(*ins)[0].reshape(out),
            )


@explains("kind of reduction", ops.ReduceMean, ops.ReduceSum, ops.ReduceMax, ops.ReduceMin, ops.ReduceProd)
def reduction_kind(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for other in (ops.ReduceMean, ops.ReduceSum, ops.ReduceMax, ops.ReduceMin, ops.ReduceProd):
        if not isinstance(op, other):
            made = other(op.axes, op.keepdims)  # type: ignore[call-arg]
            yield f"{made.name[6:].lower()} instead of {op.name[6:].lower()}", lambda ins, m=made: m.evaluate(*ins)
    yield "first element instead of the reduction", lambda ins: _first(ins, op, node)


def _first(ins: Arrays, op: Any, node: Node) -> np.ndarray:
    cut = tuple(slice(0, 1) if a in op.axes else slice(None) for a in range(ins[0].ndim))
    return ins[0][cut].reshape(node.output.shape)


@explains("divisor of a mean", ops.ReduceMean)
def mean_divisor(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    count = int(np.prod([node.inputs[0].shape[a] for a in op.axes]))
    if count > 1:
        yield "divided by n - 1 instead of n", lambda ins: op.evaluate(*ins)[0] * count / (count - 1)


@explains("cumulative sum", ops.CumSum)
def cumulative(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    yield "exclusive instead of inclusive", lambda ins: op.evaluate(*ins)[0] - ins[0]
    yield "from the end", lambda ins: np.flip(np.cumsum(np.flip(ins[0], op.axis), op.axis), op.axis)
    for axis in range(len(node.inputs[0].shape)):
        if axis != op.axis:
            yield f"along axis {axis} instead of {op.axis}", changed(node, axis=axis)


@explains("order of a ranking", ops.TopK, ops.ArgMax, ops.ArgMin)
def ranking(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if isinstance(op, ops.TopK):

        def smallest(ins: Arrays) -> Any:
            index = np.argsort(ins[0], -1, kind="stable")[..., : op.k]
            return np.take_along_axis(ins[0], index, -1), index

        yield "the smallest instead of the largest", smallest
        yield "in rising order", lambda ins: tuple(np.flip(a, -1) for a in op.evaluate(*ins))
        return
    other = ops.ArgMin if isinstance(op, ops.ArgMax) else ops.ArgMax
    yield f"{other.__name__} instead of {op.name}", lambda ins: other(op.axis, op.keepdims).evaluate(*ins)
    for axis in range(len(node.inputs[0].shape)):
        if axis != op.axis:
            yield f"along axis {axis} instead of {op.axis}", changed(node, axis=axis)
    n = node.inputs[0].shape[op.axis]
    yield (
        "the last of equal elements instead of the first",
        lambda ins: n - 1 - op.evaluate(np.flip(ins[0], op.axis))[0],
    )
