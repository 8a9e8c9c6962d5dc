"""JAX code of operators that act on each element."""

from __future__ import annotations

import math
from dataclasses import replace

from instep.emit.code.call import Call
from instep.emit.code.claims import claim
from instep.emit.code.statements import number
from instep.emit.jax.table import RNGS, activated, expression, writes
from instep.graph import Graph, Node, Operator, ops

__all__: list[str] = []

_FUNCTIONS: dict[type[Operator], str] = {
    ops.Relu: "jax.nn.relu",
    ops.Sigmoid: "jax.nn.sigmoid",
    ops.Tanh: "jnp.tanh",
    ops.Exp: "jnp.exp",
    ops.Log: "jnp.log",
    ops.Sqrt: "jnp.sqrt",
    ops.Rsqrt: "jax.lax.rsqrt",
    ops.Abs: "jnp.abs",
    ops.Neg: "jnp.negative",
    ops.Sin: "jnp.sin",
    ops.Cos: "jnp.cos",
    ops.Floor: "jnp.floor",
    ops.Ceil: "jnp.ceil",
    ops.Round: "jnp.round",
    ops.Sign: "jnp.sign",
    ops.Square: "jnp.square",
    ops.Reciprocal: "jnp.reciprocal",
    ops.Erf: "jax.lax.erf",
    ops.LogicalNot: "jnp.logical_not",
    ops.Silu: "jax.nn.silu",
    ops.HardSwish: "jax.nn.hard_swish",
    ops.HardSigmoid: "jax.nn.hard_sigmoid",
    ops.Mish: "jax.nn.mish",
    ops.Selu: "jax.nn.selu",
    ops.Pow: "jnp.power",
    ops.Maximum: "jnp.maximum",
    ops.Minimum: "jnp.minimum",
    ops.FloorDiv: "jnp.floor_divide",
    ops.FloorMod: "jnp.mod",
    ops.Atan2: "jnp.arctan2",
    ops.LogicalAnd: "jnp.logical_and",
    ops.LogicalOr: "jnp.logical_or",
    ops.Where: "jnp.where",
}
_SIGNS: dict[type[Operator], str] = {
    ops.Add: "+",
    ops.Sub: "-",
    ops.Mul: "*",
    ops.Div: "/",
    ops.Equal: "==",
    ops.NotEqual: "!=",
    ops.Less: "<",
    ops.LessEqual: "<=",
    ops.Greater: ">",
    ops.GreaterEqual: ">=",
}


@writes(*_FUNCTIONS)
def function(node: Node, graph: Graph) -> Call:
    values, words, fields = _numbered(node, graph)
    name = _FUNCTIONS[type(node.op)]
    module = name if len(node.inputs) == 1 else ""
    return Call(values, node.outputs, f"{name}({', '.join(words)})", fields, module=module)


@writes(*_SIGNS)
def sign(node: Node, graph: Graph) -> Call:
    op = node.op
    values, (a, b), fields = _numbered(node, graph)
    code = f"{a} {_SIGNS[type(op)]} {b}"
    if isinstance(op, ops.Div) and not node.output.dtype.startswith("float"):
        code = f"jnp.trunc({code}).astype(int)"
    return Call(values, node.outputs, activated(code, getattr(op, "activation", "")), fields)


def _numbered(node: Node, graph: Graph) -> tuple[list, list[str], dict]:
    """The inputs that are no plain numbers, a word for each input, and the plain numbers as fields."""
    values, words, fields = [], [], {}
    for i, value in enumerate(node.inputs):
        others = [v for v in node.inputs if v is not value]
        # a number beside a number would leave the result without a shape, and numbers have no dtype of their own
        plain = number(graph, value, max(others, key=lambda v: v.rank)) if others and not fields else None
        if plain is None or node.output.dtype == "float16":
            words.append(f"{{{len(values)}}}")
            values.append(value)
            continue
        fields[f"number{i}"] = plain
        words.append(f"{{number{i}}}")
    return values, words, fields


@writes(ops.SquaredDifference)
def squared_difference(node: Node, graph: Graph) -> Call:
    return expression(node, "jnp.square({0} - {1})")


@writes(ops.Gelu)
def gelu(node: Node, graph: Graph) -> Call:
    call = expression(node, "jax.nn.gelu({0}, approximate={approximate})", approximate=node.op.approximate)
    return replace(call, module="jax.nn.gelu")


@writes(ops.LeakyRelu)
def leaky_relu(node: Node, graph: Graph) -> Call:
    call = expression(node, "jax.nn.leaky_relu({0}, {negative_slope})", negative_slope=node.op.slope)
    return replace(call, module="jax.nn.leaky_relu")


@writes(ops.Elu)
def elu(node: Node, graph: Graph) -> Call:
    return replace(expression(node, "jax.nn.elu({0}, {alpha})", alpha=node.op.alpha), module="jax.nn.elu")


@writes(ops.Celu)
def celu(node: Node, graph: Graph) -> Call:
    return replace(expression(node, "jax.nn.celu({0}, {alpha})", alpha=node.op.alpha), module="jax.nn.celu")


@writes(ops.Softplus)
def softplus(node: Node, graph: Graph) -> Call:
    op = node.op
    return expression(node, "softplus({0}, {beta}, {threshold})", "softplus", beta=op.beta, threshold=op.threshold)


@writes(ops.Prelu)
def prelu(node: Node, graph: Graph) -> Call:
    """Flax' layer has one slope; the prelude's has one for each channel."""
    x, slope = node.inputs
    weight = claim(graph, slope, shape=() if slope.size == 1 else (slope.size,))
    if weight is None or slope.rank > x.rank or slope.shape[-1:] not in ((), (slope.size,)):
        return expression(node, "prelu({0}, {1})", "prelu")
    weights = {"negative_slope": weight}
    if slope.size == 1:
        return Call([x], node.outputs, "{layer}({0})", layer="nnx.PReLU", weights=weights)
    fields = {"num_features": slope.size}
    return Call([x], node.outputs, "{layer}({0})", fields, "PReLU", 1, weights, ("PReLU",))


@writes(ops.Clip)
def clip(node: Node, graph: Graph) -> Call:
    low, high = node.op.low, node.op.high
    if (low, high) == (0, 6):
        return replace(expression(node, "jax.nn.relu6({0})"), module="jax.nn.relu6")
    if (low, high) == (0, math.inf):
        return replace(expression(node, "jax.nn.relu({0})"), module="jax.nn.relu")
    bounds = (low, high) if node.output.dtype.startswith("float") else (_whole(low), _whole(high))
    return expression(node, "jnp.clip({0}, {low}, {high})", low=bounds[0], high=bounds[1])


def _whole(bound: float) -> int | None:
    """A bound of integers; None where there is none."""
    return int(bound) if math.isfinite(bound) else None


@writes(ops.Cast)
def cast(node: Node, graph: Graph) -> Call:
    """To the number type of that kind that JAX has: 64 bits where jax_enable_x64 is set, else 32."""
    source, target = node.inputs[0].dtype, node.op.dtype
    if source == target:
        return expression(node, "{0}")
    if source.startswith("float") and target.startswith("float"):
        if target == "float64":
            return expression(node, "{0}.astype(float)")
        return expression(node, "converted({0}, {dtype})", "converted", dtype=target)
    common = {"int64": "int", "int32": "int", "float32": "float", "float64": "float", "bool": "bool"}
    if target in common:
        return expression(node, f"{{0}}.astype({common[target]})")
    return expression(node, "{0}.astype({dtype})", dtype=target)


@writes(ops.Dropout)
def dropout(node: Node, graph: Graph) -> Call:
    fields = {"rate": node.op.rate, "broadcast_dims": tuple(node.op.shared), "rngs": RNGS}
    defaults = {"broadcast_dims": ()}
    return Call(node.inputs, node.outputs, "{layer}({0})", fields, "nnx.Dropout", 1, defaults=defaults)
