"""Lowerings of elementwise operators."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from instep.emit.tflite.table import lowers
from instep.emit.tflite.writer import Writer
from instep.graph import Node, ops

__all__ = ["fused"]

#: Operators that are one TFLite operator of one input: its name and options.
_UNARY: dict[type, tuple[str, str | None]] = {
    ops.Relu: ("RELU", None),
    ops.Sigmoid: ("LOGISTIC", None),
    ops.Tanh: ("TANH", None),
    ops.Exp: ("EXP", "ExpOptionsT"),
    ops.Log: ("LOG", None),
    ops.Sqrt: ("SQRT", None),
    ops.Rsqrt: ("RSQRT", None),
    ops.Abs: ("ABS", "AbsOptionsT"),
    ops.Neg: ("NEG", "NegOptionsT"),
    ops.Sin: ("SIN", None),
    ops.Cos: ("COS", "CosOptionsT"),
    ops.Floor: ("FLOOR", None),
    ops.Ceil: ("CEIL", None),
    ops.Round: ("ROUND", None),
    ops.Sign: ("SIGN", None),
    ops.Square: ("SQUARE", "SquareOptionsT"),
    ops.HardSwish: ("HARD_SWISH", "HardSwishOptionsT"),
    ops.LogicalNot: ("LOGICAL_NOT", "LogicalNotOptionsT"),
}
#: Operators that are one TFLite operator of two inputs: its name and options.
_BINARY: dict[type, tuple[str, str | None]] = {
    ops.Add: ("ADD", "AddOptionsT"),
    ops.Sub: ("SUB", "SubOptionsT"),
    ops.Mul: ("MUL", "MulOptionsT"),
    ops.Div: ("DIV", "DivOptionsT"),
    ops.Pow: ("POW", "PowOptionsT"),
    ops.Maximum: ("MAXIMUM", "MaximumMinimumOptionsT"),
    ops.Minimum: ("MINIMUM", "MaximumMinimumOptionsT"),
    ops.FloorDiv: ("FLOOR_DIV", "FloorDivOptionsT"),
    ops.FloorMod: ("FLOOR_MOD", "FloorModOptionsT"),
    ops.SquaredDifference: ("SQUARED_DIFFERENCE", "SquaredDifferenceOptionsT"),
    ops.Atan2: ("ATAN2", "ATan2OptionsT"),
    ops.Equal: ("EQUAL", "EqualOptionsT"),
    ops.NotEqual: ("NOT_EQUAL", "NotEqualOptionsT"),
    ops.Less: ("LESS", "LessOptionsT"),
    ops.LessEqual: ("LESS_EQUAL", "LessEqualOptionsT"),
    ops.Greater: ("GREATER", "GreaterOptionsT"),
    ops.GreaterEqual: ("GREATER_EQUAL", "GreaterEqualOptionsT"),
    ops.LogicalAnd: ("LOGICAL_AND", "LogicalAndOptionsT"),
    ops.LogicalOr: ("LOGICAL_OR", "LogicalOrOptionsT"),
}
_FUSED = {"": "NONE", "relu": "RELU", "relu6": "RELU6", "relu1": "RELU_N1_TO_1"}


def fused(options: Any, op: Any) -> Any:
    """``options`` with the fused activation of ``op`` set."""
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, _FUSED[op.activation])
    return options


def _options(name: str | None) -> Any:
    return getattr(schema, name)() if name else None


@lowers(*_UNARY)
def unary(w: Writer, node: Node) -> None:
    code, options = _UNARY[type(node.op)]
    w.op(code, [w.tensor(node.inputs[0])], [w.tensor(node.output)], _options(options))


@lowers(*_BINARY)
def binary(w: Writer, node: Node) -> None:
    code, name = _BINARY[type(node.op)]
    options = _options(name)
    if hasattr(node.op, "activation"):
        fused(options, node.op)
    # op_version.cc: broadcasting beyond rank 4 came with later versions, FLOOR_DIV of floats with its second.
    wide = node.output.rank > 4 and node.inputs[0].shape != node.inputs[1].shape
    version = {"SUB": 3, "ADD": 4, "MUL": 6, "DIV": 2, "MAXIMUM": 3, "MINIMUM": 3}.get(code, 1) if wide else 1
    if code == "FLOOR_DIV" and node.output.dtype.startswith("float"):
        version = 2
    w.op(code, [w.tensor(v) for v in node.inputs], [w.tensor(node.output)], options, version=version)


@lowers(ops.Gelu)
def gelu(w: Writer, node: Node) -> None:
    options = schema.GeluOptionsT()
    options.approximate = node.op.approximate
    w.op("GELU", [w.tensor(node.inputs[0])], [w.tensor(node.output)], options)


@lowers(ops.LeakyRelu)
def leaky_relu(w: Writer, node: Node) -> None:
    options = schema.LeakyReluOptionsT()
    options.alpha = node.op.slope
    w.op("LEAKY_RELU", [w.tensor(node.inputs[0])], [w.tensor(node.output)], options)


@lowers(ops.Elu)
def elu(w: Writer, node: Node) -> None:
    # TFLite's ELU has alpha 1; ``lower`` rewrites the others.
    w.op("ELU", [w.tensor(node.inputs[0])], [w.tensor(node.output)])


@lowers(ops.Prelu)
def prelu(w: Writer, node: Node) -> None:
    w.op("PRELU", [w.tensor(v) for v in node.inputs], [w.tensor(node.output)])


@lowers(ops.Clip)
def clip(w: Writer, node: Node) -> None:
    x, y, op = w.tensor(node.inputs[0]), w.tensor(node.output), node.op
    if (op.low, op.high) == (0.0, 6.0):
        return w.op("RELU6", [x], [y])
    if (op.low, op.high) == (-1.0, 1.0):
        return w.op("RELU_N1_TO_1", [x], [y])
    if (op.low, op.high) == (0.0, np.inf):
        return w.op("RELU", [x], [y])
    dtype = np.float32 if node.output.dtype.startswith("float") else np.int32
    bounds = [("MAXIMUM", op.low), ("MINIMUM", op.high)]
    steps = [(code, bound) for code, bound in bounds if np.isfinite(bound)] or [("MINIMUM", np.finfo(np.float32).max)]
    for i, (code, bound) in enumerate(steps):
        last = i == len(steps) - 1
        out = y if last else w.declare(w.fresh(node.output.name + ".low"), node.output.shape, node.output.dtype)
        w.op(code, [x, w.constant(np.asarray(bound, dtype), "bound")], [out], schema.MaximumMinimumOptionsT())
        x = out
    return None


@lowers(ops.Cast)
def cast(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    before, behind = w.kind(x.dtype, x.name), w.kind(y.dtype, y.name)
    if before == behind and w.same(y, x):
        return  # int64 is written as int32
    options = schema.CastOptionsT()
    options.inDataType = getattr(schema.TensorType, before)
    options.outDataType = getattr(schema.TensorType, behind)
    w.op("CAST", [w.tensor(x)], [w.tensor(y)], options)


@lowers(ops.Where)
def where(w: Writer, node: Node) -> None:
    w.op("SELECT_V2", [w.tensor(v) for v in node.inputs], [w.tensor(node.output)], schema.SelectV2OptionsT())
