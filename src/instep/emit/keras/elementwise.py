"""Keras code of operators that act on each element."""

from __future__ import annotations

import math

from instep.emit.code.call import Call
from instep.emit.code.statements import plain
from instep.emit.keras.table import activated, claims, expression, layer, numbered, writes
from instep.graph import Graph, Node, Operator, Value, ops

__all__: list[str] = []

_FUNCTIONS: dict[type[Operator], str] = {
    ops.Relu: "ops.relu",
    ops.Sigmoid: "ops.sigmoid",
    ops.Tanh: "ops.tanh",
    ops.Exp: "ops.exp",
    ops.Log: "ops.log",
    ops.Sqrt: "ops.sqrt",
    ops.Rsqrt: "ops.rsqrt",
    ops.Abs: "ops.abs",
    ops.Neg: "ops.negative",
    ops.Sin: "ops.sin",
    ops.Cos: "ops.cos",
    ops.Floor: "ops.floor",
    ops.Ceil: "ops.ceil",
    ops.Round: "ops.round",
    ops.Sign: "ops.sign",
    ops.Square: "ops.square",
    ops.Reciprocal: "ops.reciprocal",
    ops.Erf: "ops.erf",
    ops.LogicalNot: "ops.logical_not",
    ops.Silu: "ops.silu",
    ops.HardSwish: "ops.hard_silu",
    ops.HardSigmoid: "ops.hard_sigmoid",
    ops.Selu: "ops.selu",
    ops.Pow: "ops.power",
    ops.Maximum: "ops.maximum",
    ops.Minimum: "ops.minimum",
    ops.FloorDiv: "ops.floor_divide",
    ops.FloorMod: "ops.mod",
    ops.Atan2: "ops.arctan2",
    ops.Equal: "ops.equal",
    ops.NotEqual: "ops.not_equal",
    ops.Less: "ops.less",
    ops.LessEqual: "ops.less_equal",
    ops.Greater: "ops.greater",
    ops.GreaterEqual: "ops.greater_equal",
    ops.LogicalAnd: "ops.logical_and",
    ops.LogicalOr: "ops.logical_or",
    ops.Where: "ops.where",
}
_SIGNS: dict[type[Operator], str] = {ops.Add: "+", ops.Sub: "-", ops.Mul: "*", ops.Div: "/"}


_SAID: dict[type[Operator], str] = {
    ops.Add: "ops.add", ops.Sub: "ops.subtract", ops.Mul: "ops.multiply", ops.Div: "ops.divide",
}  # fmt: skip


@writes(*_FUNCTIONS)
def function(node: Node, graph: Graph) -> Call:
    values, words, fields = numbered(node, graph)
    return Call(values, node.outputs, f"{_FUNCTIONS[type(node.op)]}({', '.join(words)})", fields)


@writes(*_SIGNS)
def sign(node: Node, graph: Graph) -> Call:
    op = node.op
    values, (a, b), fields = numbered(node, graph)
    code = f"{a} {_SIGNS[type(op)]} {b}"
    if isinstance(op, ops.Add) and len(values) == 2 and _taken_for_bias(values[0], values[1], graph):
        both = _taken_for_bias(values[1], values[0], graph)
        code = f"ops.subtract({a}, ops.negative({b}))" if both else f"{b} + {a}"
    if len(values) == 2 and values[0] in graph.weights and plain(values[0], graph.weights[values[0]]):
        # an array of numpy on the left of a sign would ask a symbolic tensor for its numbers
        code = f"{_SAID[type(op)]}({a}, {b})" if code.startswith(f"{a} {_SIGNS[type(op)]}") else code
    if isinstance(op, ops.Div) and not node.output.dtype.startswith("float"):
        fields["dtype"] = node.output.dtype
        code = f"ops.cast({code}, {{dtype}})"
    return Call(values, node.outputs, activated(code, op.activation), fields)


def _taken_for_bias(x: Value, y: Value, graph: Graph) -> bool:
    """Whether Keras on TensorFlow adds ``y`` to ``x`` along a wrong axis.

    Where one axis of y alone is longer than 1, and as long as the last of x, or else the one behind the batch, Keras
    3.15 adds it along that axis, wherever it lies in y (keras.src.backend.tensorflow.numpy.add).
    """
    long = [i for i, n in enumerate(y.shape) if n > 1]
    if x.rank < 2 or len(long) > 1:
        return False
    if y not in graph.weights and y.rank == x.rank and long in ([], [0]):
        return True  # one number for each sample: of how many samples is not known
    if not long or y.shape[long[0]] not in (x.shape[1], x.shape[-1]):
        return False
    place = 1 if y.shape[long[0]] == x.shape[-1] else x.rank - 1
    return y.rank > x.rank or y.rank - long[0] != place


@writes(ops.SquaredDifference)
def squared_difference(node: Node, graph: Graph) -> Call:
    return expression(node, "ops.square({0} - {1})")


@writes(ops.Mish)
def mish(node: Node, graph: Graph) -> Call:
    return expression(node, "{0} * ops.tanh(ops.softplus({0}))")


@writes(ops.Gelu)
def gelu(node: Node, graph: Graph) -> Call:
    return expression(node, "ops.gelu({0}, approximate={approximate})", approximate=node.op.approximate)


@writes(ops.LeakyRelu)
def leaky_relu(node: Node, graph: Graph) -> Call:
    if 0 <= node.op.slope <= 1:
        return expression(node, "ops.leaky_relu({0}, {slope})", slope=node.op.slope)
    return expression(node, "ops.where({0} >= 0, {0}, {0} * {slope})", slope=node.op.slope)


@writes(ops.Elu)
def elu(node: Node, graph: Graph) -> Call:
    return expression(node, "ops.elu({0}, {alpha})", alpha=node.op.alpha)


@writes(ops.Celu)
def celu(node: Node, graph: Graph) -> Call:
    return expression(node, "ops.celu({0}, {alpha})", alpha=node.op.alpha)


@writes(ops.Softplus)
def softplus(node: Node, graph: Graph) -> Call:
    """From a threshold of 16 on the identity beyond it differs by less than float32 can say."""
    op = node.op
    smooth = "ops.softplus({0})" if op.beta == 1 else "ops.softplus({0} * {beta}) / {beta}"
    fields = {} if op.beta == 1 else {"beta": op.beta}
    if op.threshold >= 16:
        return expression(node, smooth, **fields)
    fields |= {"limit": op.threshold / op.beta}
    side = ">" if op.beta > 0 else "<"
    return expression(node, f"ops.where({{0}} {side} {{limit}}, {{0}}, {smooth})", **fields)


@writes(ops.Prelu)
def prelu(node: Node, graph: Graph) -> Call:
    """A layer where the slopes are constants that no sample has for itself."""
    x, slope = node.inputs
    wide = (1,) * (x.rank - slope.rank) + slope.shape
    fits = x.rank > 1 and slope.rank <= x.rank and wide[0] == 1
    weights = claims(node, graph, {"alpha": (slope, None, wide[1:])}) if fits else None
    if weights is None:
        return expression(node, "ops.where({0} >= 0, {0}, {0} * {1})")
    shared = [i for i in range(1, x.rank) if wide[i] == 1]
    call = layer(node, "layers.PReLU", [x], {"shared_axes": shared}, weights)
    call.positional = 0
    return call


@writes(ops.Clip)
def clip(node: Node, graph: Graph) -> Call:
    low, high = node.op.low, node.op.high
    if (low, high) == (0, 6):
        return expression(node, "ops.relu6({0})")
    if (low, high) == (0, math.inf):
        return expression(node, "ops.relu({0})")
    whole = not node.output.dtype.startswith("float")
    bounds = {k: int(v) if whole else v for k, v in (("low", low), ("high", high)) if math.isfinite(v)}
    codes = {
        ("low", "high"): "ops.clip({0}, {low}, {high})",
        ("low",): "ops.maximum({0}, {low})",
        ("high",): "ops.minimum({0}, {high})",
        (): "{0}",
    }
    return expression(node, codes[tuple(bounds)], **bounds)


@writes(ops.Cast)
def cast(node: Node, graph: Graph) -> Call:
    return expression(node, "ops.cast({0}, {dtype})", dtype=node.op.dtype)


@writes(ops.Dropout)
def dropout(node: Node, graph: Graph) -> Call:
    op, x = node.op, node.inputs[0]
    if op.shared == (1, 2) and x.rank == 4:
        return layer(node, "layers.SpatialDropout2D", [x], {"rate": op.rate}, {})
    noise = None
    if op.shared:
        noise = tuple(1 if i in op.shared else n if i else None for i, n in enumerate(x.shape))
    return layer(node, "layers.Dropout", [x], {"rate": op.rate, "noise_shape": noise}, {})
