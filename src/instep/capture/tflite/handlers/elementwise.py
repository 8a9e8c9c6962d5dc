"""Handlers of elementwise operators."""

from __future__ import annotations

import math

import numpy as np

from instep.capture.bits import less_common
from instep.capture.tflite.builder import Builder
from instep.capture.tflite.handlers.fourier import times
from instep.capture.tflite.registry import Unsupported, reads
from instep.graph import Operator, Value, ops

__all__: list[str] = []

_UNARY: dict[str, Operator] = {
    "RELU": ops.Relu(),
    "RELU6": ops.Clip(0.0, 6.0),
    "RELU_N1_TO_1": ops.Clip(-1.0, 1.0),
    "RELU_0_TO_1": ops.Clip(0.0, 1.0),
    "LOGISTIC": ops.Sigmoid(),
    "TANH": ops.Tanh(),
    "EXP": ops.Exp(),
    "LOG": ops.Log(),
    "SQRT": ops.Sqrt(),
    "RSQRT": ops.Rsqrt(),
    "ABS": ops.Abs(),
    "NEG": ops.Neg(),
    "SIN": ops.Sin(),
    "COS": ops.Cos(),
    "FLOOR": ops.Floor(),
    "CEIL": ops.Ceil(),
    "ROUND": ops.Round(),
    "SIGN": ops.Sign(),
    "SQUARE": ops.Square(),
    "HARD_SWISH": ops.HardSwish(),
    "LOGICAL_NOT": ops.LogicalNot(),
    "ELU": ops.Elu(),
}
#: Operators of two inputs; those with options may fuse an activation.
_BINARY: dict[str, tuple[Operator, str]] = {
    "ADD": (ops.Add(), "AddOptions"),
    "SUB": (ops.Sub(), "SubOptions"),
    "MUL": (ops.Mul(), "MulOptions"),
    "DIV": (ops.Div(), "DivOptions"),
    "POW": (ops.Pow(), ""),
    "MAXIMUM": (ops.Maximum(), ""),
    "MINIMUM": (ops.Minimum(), ""),
    "FLOOR_DIV": (ops.FloorDiv(), ""),
    "FLOOR_MOD": (ops.FloorMod(), ""),
    "SQUARED_DIFFERENCE": (ops.SquaredDifference(), ""),
    "ATAN2": (ops.Atan2(), ""),
    "EQUAL": (ops.Equal(), ""),
    "NOT_EQUAL": (ops.NotEqual(), ""),
    "LESS": (ops.Less(), ""),
    "LESS_EQUAL": (ops.LessEqual(), ""),
    "GREATER": (ops.Greater(), ""),
    "GREATER_EQUAL": (ops.GreaterEqual(), ""),
    "LOGICAL_AND": (ops.LogicalAnd(), ""),
    "LOGICAL_OR": (ops.LogicalOr(), ""),
}


def _unary(name: str, op: Operator) -> None:
    @reads(name)
    def handler(b: Builder, x: Value) -> Value:
        return b(op, x)


def _binary(name: str, op: Operator, options: str) -> None:
    @reads(name, options)
    def handler(b: Builder, x: Value, y: Value) -> Value:
        pairs = name == "MUL" and b.declared[0].complex
        result = times(b, x, y) if pairs else b(op, x, y)
        return b.activated(result) if options else result


for _name, _op in _UNARY.items():
    _unary(_name, _op)
for _name, (_op, _options) in _BINARY.items():
    _binary(_name, _op, _options)


@reads("ADD_N")
def add_n(b: Builder, first: Value, *others: Value) -> Value:
    for other in others:
        first = b(ops.Add(), first, other)
    return first


@reads("GELU", "GeluOptions")
def gelu(b: Builder, x: Value) -> Value:
    return b(ops.Gelu(bool(b.option("Approximate"))), x)


@reads("LEAKY_RELU", "LeakyReluOptions")
def leaky_relu(b: Builder, x: Value) -> Value:
    return b(ops.LeakyRelu(float(b.option("Alpha"))), x)


@reads("PRELU")
def prelu(b: Builder, x: Value, slope: Value) -> Value:
    return b(ops.Prelu(), x, slope)


@reads("CAST")
def cast(b: Builder, x: Value) -> Value:
    wide = b.cast(x, b.declared[0].meaning)
    return _halved(b, wide) if b.declared[0].dtype == "float16" and x.dtype != "bool" else wide


def _halved(b: Builder, x: Value) -> Value:
    """``x`` rounded to the numbers that float16 has, as arithmetic that is exact in float32 and in float64: the graph
    has casts between floats that round nothing in the truth.

    Numbers from 2^e on stand 2^(e - 10) apart, those below 2^-14 as far as those there. Where the logarithm misses the
    power of two that a number is next to, either distance rounds it to that power.
    """

    def number(value: float) -> Value:
        return b.scalar(value, x.dtype)

    size = b(ops.Abs(), x)
    power = b(ops.Mul(), b(ops.Log(), b(ops.Clip(2.0**-14, 2.0**16), size)), number(1 / math.log(2)))
    steps = b(ops.Pow(), number(2.0), b(ops.Sub(), number(10.0), b(ops.Floor(), power)))
    rounded = b(ops.Div(), b(ops.Round(), b(ops.Mul(), x, steps)), steps)
    # from halfway between the largest, 65504, and the next there would be; files have no constant infinity, products
    # of LiteRT end at the largest float32: it is e^65520 here
    infinite = b(ops.Exp(), size)
    rounded = b(ops.Where(), b(ops.GreaterEqual(), x, number(65520.0)), infinite, rounded)
    return b(ops.Where(), b(ops.LessEqual(), x, number(-65520.0)), b(ops.Neg(), infinite), rounded)


@reads("SELECT")
def select(b: Builder, condition: Value, x: Value, y: Value) -> Value:
    # the first version's condition may choose whole slices of the first axis
    if condition.rank == 1 and x.rank > 1:
        condition = b.reshape(condition, (condition.shape[0], *(1,) * (x.rank - 1)))
    return b(ops.Where(), condition, x, y)


@reads("SELECT_V2")
def select_v2(b: Builder, condition: Value, x: Value, y: Value) -> Value:
    return b(ops.Where(), condition, x, y)


@reads("ZEROS_LIKE")
def zeros_like(b: Builder, x: Value) -> Value:
    return b.expand(b.scalar(0, x.dtype), x.shape)


@reads("QUANTIZE")
def quantize(b: Builder, x: Value) -> Value:
    # a quantised tensor is read as the numbers it stands for: nothing happens here
    if b.declared[0].meaning != "float32":
        raise Unsupported(f"it quantises to {b.declared[0].dtype} without a scale")
    return x


@reads("DEQUANTIZE")
def dequantize(b: Builder, x: Value) -> Value:
    if x.dtype != "float32":
        raise Unsupported(f"it dequantises {x.dtype} without a scale")
    return x


@reads("FAKE_QUANT", "FakeQuantOptions")
def fake_quant(b: Builder, x: Value) -> Value:
    low, high = float(b.option("Min")), float(b.option("Max"))
    if not low < high:
        raise Unsupported(f"its range is {low} to {high}")
    return b(ops.Clip(low, high), x)


@reads("BITWISE_XOR")
def bitwise_xor(b: Builder, x: Value, y: Value) -> Value:
    if x.dtype == "bool":
        return b(ops.NotEqual(), x, y)
    x, mask = (y, x) if b.array(y) is None else (x, y)
    wide = "int64" if x.dtype == "int64" else "int32"  # 8-bit numbers have no arithmetic in files
    return b.cast(less_common(b, b.cast(x, wide), b.integer(mask, "mask"), 2), x.dtype)


@reads("RIGHT_SHIFT")
def right_shift(b: Builder, x: Value, count: Value) -> Value:
    places = b.integer(count, "number of places")
    if not 0 <= places < 8 * np.dtype(x.dtype).itemsize - 1:
        raise Unsupported(f"it shifts {x.dtype} by {places}")
    return b(ops.FloorDiv(), x, b.scalar(1 << places, x.dtype))


@reads("ONE_HOT", "OneHotOptions")
def one_hot(b: Builder, indices: Value, depth: Value, on: Value, off: Value) -> Value:
    count = b.integer(depth, "depth")
    axis = b.axis(b.option("Axis", -1), indices.rank + 1)
    if not 0 < count <= 1 << 20:
        raise Unsupported(f"its depth is {count}")
    shape = list(indices.shape)
    shape.insert(axis, 1)
    places = np.arange(count, dtype=indices.dtype).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    hit = b(ops.Equal(), b.reshape(indices, shape), b.constant(places, "places"))
    return b(ops.Where(), hit, on, off)
