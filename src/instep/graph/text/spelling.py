"""Operators as the layers that read better than their fields, and values of fields as short as they can be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from instep.graph import ops
from instep.graph.core import Node
from instep.graph.text.outline import End, Leaf

__all__ = ["PLAIN_SIZE", "SIMPLE", "layout_unless", "numbers", "pads", "pair", "plain_fields", "uniform", "usual_axis"]

#: Constants of no more numbers are printed, larger ones are weights.
PLAIN_SIZE = 8
#: Constants of one number throughout are printed up to this size.
UNIFORM_SIZE = 65_536


def pair(pair: Sequence[int]) -> Any:
    return pair[0] if len(set(pair)) == 1 else list(pair)


def pads(pads: Any) -> Any:
    (t, b), (left, r) = pads
    if t == b and left == r:
        return t if t == left else [t, left]
    return [[t, b], [left, r]]


def layout_unless(layout: str, usual: str) -> str | None:
    return None if layout == usual else layout


def usual_axis(rank: int, layout: str) -> int:
    """Where the channels are, as the layers have it (``layers.channel_axis``)."""
    return 1 if layout == "NCHW" and rank in (2, 4, 5) else rank - 1


def numbers(array: np.ndarray) -> Any:
    """Numbers as short as they can be said without loss."""
    if array.dtype.kind == "f":
        shortest = np.array([float(str(v)) for v in array.ravel()], dtype="float64")
        return shortest.reshape(array.shape).tolist()
    return array.tolist()


def uniform(array: np.ndarray) -> bool:
    """Whether one number says all of ``array``, and a text may."""
    few = 1 if array.dtype.kind == "f" else PLAIN_SIZE
    if not few < array.size <= UNIFORM_SIZE or array.dtype.kind not in "fiub":
        return False
    first = array.flat[0]
    return bool(np.all(array == first) and np.all(np.signbit(array) == np.signbit(first)))


def plain_fields(fields: Mapping[str, Any], layout: str) -> dict[str, Any]:
    return {k: _lists(v) if k != "layout" else layout_unless(v, layout) for k, v in fields.items()}


def _lists(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_lists(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


# -- operators whose layer reads better than their fields ----------------------------------------------------------
def _pool(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    if op.activation:
        return leaf
    stride = None if op.stride == op.kernel else pair(op.stride)
    fields = {
        "kernel": pair(op.kernel),
        "stride": stride,
        "padding": pads(op.padding),
        "layout": layout_unless(op.layout, layout),
    }
    if isinstance(op, ops.MaxPool2d):
        return Leaf("max_pool", leaf.inputs, leaf.outputs, fields | {"dilation": pair(op.dilation)}, leaf.scope)
    fields |= {"count_include_pad": None if op.count_include_pad else False, "overhang": list(op.overhang)}
    return Leaf("avg_pool", leaf.inputs, leaf.outputs, fields, leaf.scope)


def _add(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    if op.activation:
        return leaf
    return Leaf("add" if isinstance(op, ops.Add) else "mul", leaf.inputs, leaf.outputs, {}, leaf.scope)


def _clip(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    six = type(op.low) is float and type(op.high) is float and (op.low, op.high) == (0.0, 6.0)
    return Leaf("relu6", leaf.inputs, leaf.outputs, {}, leaf.scope) if six else leaf


def _shuffle(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    kind = "pixel_shuffle" if isinstance(op, ops.DepthToSpace) else "pixel_unshuffle"
    fields = {"scale": op.block, "order": op.order, "layout": layout_unless(op.layout, layout)}
    return Leaf(kind, leaf.inputs, leaf.outputs, fields, leaf.scope)


def _concat(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    rank = node.output.rank
    usual = usual_axis(rank, layout)
    return Leaf("concat", leaf.inputs, leaf.outputs, {"axis": None if op.axis == usual else op.axis}, leaf.scope)


def _slice(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    shape = node.inputs[0].shape
    cut = [
        a
        for a, n in enumerate(shape)
        if (op.starts[a], op.stops[a], op.steps[a]) != (0, n, 1)
    ]  # fmt: skip
    if len(cut) != 1 or op.stops[cut[0]] <= op.starts[cut[0]]:
        return leaf
    a = cut[0]
    usual = usual_axis(len(shape), layout)
    stop = End(op.stops[a]) if op.stops[a] == shape[a] else op.stops[a]
    fields = {"axis": None if a == usual else a, "start": op.starts[a], "stop": stop, "step": op.steps[a]}
    return Leaf("slice", leaf.inputs, leaf.outputs, fields, leaf.scope)


def _reshape(node: Node, leaf: Leaf, layout: str) -> Leaf:
    x, shape = node.inputs[0].shape, node.output.shape
    if len(shape) == 2 and len(x) > 2 and shape[0] == x[0] and x[0] > 0:
        return Leaf("flatten", leaf.inputs, leaf.outputs, {"start": 1}, leaf.scope)
    return Leaf("reshape", leaf.inputs, leaf.outputs, {"shape": list(shape)}, leaf.scope)


def _resize(node: Node, leaf: Leaf, layout: str) -> Leaf:
    op: Any = node.op
    if op.scale is not None:
        _, a, b, c = node.inputs[0].shape
        sizes = (a, b) if op.layout == "NHWC" else (b, c)
        if tuple(int(n * s) for n, s in zip(sizes, op.scale, strict=True)) != op.size:
            return leaf
    usual = "asymmetric" if op.mode == "nearest" else "half_pixel"
    fields = {"scale": None if op.scale is None else pair(op.scale), "size": pair(op.size), "mode": op.mode,
              "coordinates": None if op.coordinates == usual else op.coordinates, "antialias": op.antialias,
              "layout": layout_unless(op.layout, layout)}  # fmt: skip
    if op.scale is not None:
        fields["size"] = None
    return Leaf("resize", leaf.inputs, leaf.outputs, fields, leaf.scope)


def _snake(node: Node, leaf: Leaf, layout: str) -> Leaf:
    from instep.graph.text.table import snake

    return Leaf(snake(leaf.kind), leaf.inputs, leaf.outputs, leaf.fields, leaf.scope)


SIMPLE: dict[type, Any] = {
    ops.MaxPool2d: _pool, ops.AvgPool2d: _pool, ops.Add: _add, ops.Mul: _add, ops.Clip: _clip,
    ops.DepthToSpace: _shuffle, ops.SpaceToDepth: _shuffle, ops.Concat: _concat, ops.Slice: _slice,
    ops.Reshape: _reshape, ops.Resize2d: _resize,
}  # fmt: skip
SIMPLE |= {
    kind: _snake
    for kind in (
        ops.Relu, ops.Sigmoid, ops.Tanh, ops.Silu, ops.HardSwish, ops.HardSigmoid, ops.Mish, ops.Selu, ops.Gelu,
        ops.LeakyRelu, ops.Elu, ops.Sub, ops.Div, ops.Permute, ops.Softmax, ops.ReduceMean, ops.ReduceSum,
        ops.ReduceMax, ops.MatMul, ops.Exp, ops.Sqrt, ops.Rsqrt, ops.Maximum, ops.Minimum, ops.Expand, ops.Gather,
        ops.Roll, ops.Flip, ops.Abs, ops.Neg, ops.Square, ops.Where, ops.Cast, ops.Softplus, ops.Celu, ops.Erf,
        ops.RmsNorm, ops.ReduceMin, ops.Pow, ops.Sin, ops.Cos, ops.Log, ops.Dropout,
    )
}  # fmt: skip
