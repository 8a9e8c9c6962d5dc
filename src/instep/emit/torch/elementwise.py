"""Operators on each element as PyTorch."""

from __future__ import annotations

import math
from typing import Any

from instep.emit.code.call import Call, Weight
from instep.emit.code.statements import number
from instep.emit.torch.table import activated, claimed, code, move, rule
from instep.graph import ops
from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator

#: expression, and the layer that does the same
_UNARY: dict[type[Operator], tuple[str, str]] = {
    ops.Relu: ("F.relu({0})", "nn.ReLU"),
    ops.Sigmoid: ("torch.sigmoid({0})", "nn.Sigmoid"),
    ops.Tanh: ("torch.tanh({0})", "nn.Tanh"),
    ops.Silu: ("F.silu({0})", "nn.SiLU"),
    ops.HardSwish: ("F.hardswish({0})", "nn.Hardswish"),
    ops.HardSigmoid: ("F.hardsigmoid({0})", "nn.Hardsigmoid"),
    ops.Mish: ("F.mish({0})", "nn.Mish"),
    ops.Selu: ("F.selu({0})", "nn.SELU"),
    ops.Exp: ("torch.exp({0})", ""),
    ops.Log: ("torch.log({0})", ""),
    ops.Sqrt: ("torch.sqrt({0})", ""),
    ops.Rsqrt: ("torch.rsqrt({0})", ""),
    ops.Abs: ("torch.abs({0})", ""),
    ops.Neg: ("-{0}", ""),
    ops.Sin: ("torch.sin({0})", ""),
    ops.Cos: ("torch.cos({0})", ""),
    ops.Floor: ("torch.floor({0})", ""),
    ops.Ceil: ("torch.ceil({0})", ""),
    ops.Round: ("torch.round({0})", ""),
    ops.Sign: ("torch.sign({0})", ""),
    ops.Square: ("torch.square({0})", ""),
    ops.Reciprocal: ("torch.reciprocal({0})", ""),
    ops.Erf: ("torch.erf({0})", ""),
    ops.LogicalNot: ("torch.logical_not({0})", ""),
}


@rule(*_UNARY)
def unary(node: Node, graph: Graph) -> Call:
    template, module = _UNARY[type(node.op)]
    return Call(node.inputs, node.outputs, template, module=module)


@rule(ops.Gelu)
def gelu(node: Node, graph: Graph) -> Call:
    if not node.op.approximate:
        return Call(node.inputs, node.outputs, "F.gelu({0})", module="nn.GELU")
    fields = {"approximate": "tanh"}
    return Call(node.inputs, node.outputs, "F.gelu({0}, approximate={approximate})", fields, module="nn.GELU")


@rule(ops.LeakyRelu)
def leaky(node: Node, graph: Graph) -> Call:
    fields = {"negative_slope": node.op.slope}
    template = "F.leaky_relu({0}, {negative_slope})"
    return Call(node.inputs, node.outputs, template, fields, positional=1, module="nn.LeakyReLU")


@rule(ops.Elu, ops.Celu)
def elu(node: Node, graph: Graph) -> Call:
    name = "elu" if isinstance(node.op, ops.Elu) else "celu"
    template, fields = f"F.{name}({{0}}, {{alpha}})", {"alpha": node.op.alpha}
    return Call(node.inputs, node.outputs, template, fields, positional=1, module=f"nn.{name.upper()}")


@rule(ops.Softplus)
def softplus(node: Node, graph: Graph) -> Call:
    fields: dict[str, Any] = {"beta": node.op.beta, "threshold": node.op.threshold}
    usual = {"beta": 1.0, "threshold": 20.0}
    template = "F.softplus({0})" if fields == usual else "F.softplus({0}, beta={beta}, threshold={threshold})"
    return Call(node.inputs, node.outputs, template, fields, defaults=usual, module="nn.Softplus")


@rule(ops.Clip)
def clip(node: Node, graph: Graph) -> Call:
    low, high = node.op.low, node.op.high
    if node.output.dtype.startswith(("int", "uint")):  # PyTorch makes floats of integers and a float
        low, high = (int(n) if math.isfinite(n) else n for n in (low, high))
    elif (low, high) == (0, 6):
        return Call(node.inputs, node.outputs, "F.relu6({0})", module="nn.ReLU6")
    if low == -math.inf and high == math.inf:
        return code(node, "{0}")
    if low == -math.inf:
        return code(node, "torch.clamp({0}, max={high})", high=high)
    if high == math.inf:
        return code(node, "torch.clamp({0}, min={low})", low=low)
    return code(node, "torch.clamp({0}, {low}, {high})", low=low, high=high)


@rule(ops.Cast)
def cast(node: Node, graph: Graph) -> Call:
    short = {"float32": "{0}.float()", "int64": "{0}.long()", "int32": "{0}.int()", "bool": "{0}.bool()"}
    return code(node, short.get(node.op.dtype, f"{{0}}.to(torch.{node.op.dtype})"))


@rule(ops.Dropout)
def dropout(node: Node, graph: Graph) -> Call:
    (x,), shared = node.inputs, tuple(sorted(node.op.shared))
    layer, template = "nn.Dropout", "{layer}({0})"
    if shared:
        layer = f"nn.Dropout{x.rank - 2}d"
        if shared == tuple(range(2, x.rank)) and x.rank in (3, 4, 5):
            pass
        elif shared == tuple(range(1, x.rank - 1)) and x.rank in (4, 5):
            template = move(template, x.rank - 1, x.rank)
        else:
            # one draw along the shared axes: drop from ones that have size 1 there
            one = ", ".join(":1" if a in shared else ":" for a in range(x.rank))
            layer, template = "nn.Dropout", f"{{0}} * {{layer}}(torch.ones_like({{0}}[{one}]))"
    return Call([x], node.outputs, template, {"p": node.op.rate}, layer, 1)


@rule(ops.Prelu)
def prelu(node: Node, graph: Graph) -> Call:
    x, slope = node.inputs
    found = _slopes(graph, node, x, slope)
    if found is None:
        return code(node, "torch.where({0} >= 0, {0}, {0} * {1})")
    vector, axis = found
    return Call(
        [x], node.outputs, move("{layer}({0})", axis, x.rank), {"num_parameters": vector.size},
        "nn.PReLU", 1, {"weight": Weight(vector, shape=(vector.size,))}, defaults={"num_parameters": 1},
    )  # fmt: skip


def _slopes(graph: Graph, node: Node, x: Value, slope: Value) -> tuple[Value, int] | None:
    """The parameter behind ``slope`` and the axis of x along which its numbers lie; None where it is another thing."""
    shape = (1,) * (x.rank - slope.rank) + slope.shape
    if slope not in graph.weights:
        maker = next((n for n in graph.nodes if slope in n.outputs), None)
        if maker is None or not isinstance(maker.op, ops.Reshape):
            return None
        slope = maker.inputs[0]
    if not claimed(graph, node, [slope]) or len(shape) != x.rank or x.rank < 2:
        return None
    wide = [a for a, n in enumerate(shape) if n > 1]
    if not wide:
        return slope, 1
    axis = wide[0]
    return (slope, axis) if len(wide) == 1 and axis > 0 and shape[axis] == x.shape[axis] else None


# -- two inputs ------------------------------------------------------------------------------------------------------
#: operators that PyTorch writes between its operands, and functions that take a plain number second
_BETWEEN: dict[type[Operator], str] = {
    ops.Add: "+", ops.Sub: "-", ops.Mul: "*", ops.Div: "/", ops.Equal: "==", ops.NotEqual: "!=", ops.Less: "<",
    ops.LessEqual: "<=", ops.Greater: ">", ops.GreaterEqual: ">=",
}  # fmt: skip
_FUNCTIONS: dict[type[Operator], str] = {
    ops.Pow: "torch.pow({0}, {1})", ops.FloorDiv: "torch.floor_divide({0}, {1})",
    ops.FloorMod: "torch.remainder({0}, {1})", ops.SquaredDifference: "torch.square({0} - {1})",
}  # fmt: skip
_TENSORS: dict[type[Operator], tuple[str, str]] = {
    ops.Maximum: ("torch.maximum({0}, {1})", "torch.clamp({0}, min={value})"),
    ops.Minimum: ("torch.minimum({0}, {1})", "torch.clamp({0}, max={value})"),
    ops.Atan2: ("torch.atan2({0}, {1})", ""),
    ops.LogicalAnd: ("torch.logical_and({0}, {1})", ""),
    ops.LogicalOr: ("torch.logical_or({0}, {1})", ""),
}


@rule(*_BETWEEN)
def between(node: Node, graph: Graph) -> Call:
    sign = _BETWEEN[type(node.op)]
    if isinstance(node.op, ops.Div) and node.output.dtype.startswith(("int", "uint")):
        return code(node, 'torch.div({0}, {1}, rounding_mode="trunc")')
    return _binary(node, graph, f"{{0}} {sign} {{1}}", either=True)


@rule(*_FUNCTIONS)
def function(node: Node, graph: Graph) -> Call:
    return _binary(node, graph, _FUNCTIONS[type(node.op)], either=isinstance(node.op, ops.SquaredDifference))


@rule(*_TENSORS)
def tensors(node: Node, graph: Graph) -> Call:
    both, one = _TENSORS[type(node.op)]
    for x, other in (node.inputs, node.inputs[::-1]):
        value = number(graph, other, x)
        if one and value is not None:
            return Call([x], node.outputs, one, {"value": value})
    return code(node, both)


def _binary(node: Node, graph: Graph, template: str, either: bool) -> Call:
    """``template`` with a plain number written out where one of the operands is one."""
    a, b = node.inputs
    activation = getattr(node.op, "activation", "")
    if (value := number(graph, b, a)) is not None:
        return Call([a], node.outputs, activated(template.replace("{1}", "{value}"), activation), {"value": value})
    if either and (value := number(graph, a, b)) is not None:
        turned = template.replace("{0}", "{value}").replace("{1}", "{0}")
        return Call([b], node.outputs, activated(turned, activation), {"value": value})
    return code(node, activated(template, activation))


@rule(ops.Where)
def where(node: Node, graph: Graph) -> Call:
    condition, a, b = node.inputs
    if (value := number(graph, b, node.output)) is not None:
        return Call([condition, a], node.outputs, "torch.where({0}, {1}, {value})", {"value": value})
    if (value := number(graph, a, node.output)) is not None:
        return Call([condition, b], node.outputs, "torch.where({0}, {value}, {1})", {"value": value})
    return code(node, "torch.where({0}, {1}, {2})")
