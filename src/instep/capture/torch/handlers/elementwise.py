"""Arithmetic, comparisons, casts and selection, with torch's dtype promotion made explicit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.capture.torch.builder import Builder, Scalar
from instep.capture.torch.registry import HANDLERS, handles
from instep.capture.transcendental import truncated
from instep.graph import Operator, Value, ops

__all__: list[str] = []

Operand = Value | Scalar

UNARY: dict[str, type[Operator]] = {
    "abs": ops.Abs, "cos": ops.Cos, "erf": ops.Erf, "special_erf": ops.Erf, "exp": ops.Exp,
    "log": ops.Log, "neg": ops.Neg, "reciprocal": ops.Reciprocal,
    "rsqrt": ops.Rsqrt, "sigmoid": ops.Sigmoid, "special_expit": ops.Sigmoid, "sign": ops.Sign, "sgn": ops.Sign,
    "sin": ops.Sin, "sqrt": ops.Sqrt, "tanh": ops.Tanh, "negative": ops.Neg,
    "absolute": ops.Abs,
}  # fmt: skip

BINARY: dict[str, type[Operator]] = {
    "maximum": ops.Maximum, "minimum": ops.Minimum, "max.other": ops.Maximum, "min.other": ops.Minimum,
    "fmax": ops.Maximum, "fmin": ops.Minimum, "remainder": ops.FloorMod, "floor_divide": ops.FloorDiv,
    "atan2": ops.Atan2, "arctan2": ops.Atan2, "mul": ops.Mul, "multiply": ops.Mul, "true_divide": ops.Div,
    "pow.Tensor_Tensor": ops.Pow, "pow.Scalar": ops.Pow,
}  # fmt: skip

#: What arithmetic means on truth values.
TRUTH: dict[type[Operator], type[Operator]] = {
    ops.Mul: ops.LogicalAnd, ops.Minimum: ops.LogicalAnd, ops.Maximum: ops.LogicalOr,
}  # fmt: skip

COMPARE: dict[str, type[Operator]] = {
    "eq": ops.Equal, "ne": ops.NotEqual, "not_equal": ops.NotEqual, "lt": ops.Less, "less": ops.Less,
    "le": ops.LessEqual, "less_equal": ops.LessEqual, "gt": ops.Greater, "greater": ops.Greater,
    "ge": ops.GreaterEqual, "greater_equal": ops.GreaterEqual,
}  # fmt: skip


def _unary(kind: type[Operator]) -> Any:
    def handler(b: Builder, x: Value) -> Value:
        return b(kind(), b.cast(x, b.dtype()))

    return handler


def _binary(kind: type[Operator]) -> Any:
    def handler(b: Builder, x: Operand, y: Operand) -> Value:
        dtype = b.dtype()
        op = TRUTH.get(kind, kind) if dtype == "bool" else kind
        return b(op(), b.operand(x, dtype), b.operand(y, dtype))

    return handler


def _compare(kind: type[Operator]) -> Any:
    def handler(b: Builder, x: Operand, y: Operand) -> Value:
        dtype = b.common(x, y)
        return b(kind(), b.operand(x, dtype), b.operand(y, dtype))

    return handler


HANDLERS.update({name: _unary(kind) for name, kind in UNARY.items()})
HANDLERS.update({name: _binary(kind) for name, kind in BINARY.items()})
HANDLERS.update({name: _compare(kind) for name, kind in COMPARE.items()})


def _scaled(b: Builder, y: Operand, alpha: Scalar, dtype: str) -> Value:
    if alpha == 1:
        return b.operand(y, dtype)
    if not isinstance(y, Value):
        return b.scalar(y * alpha, dtype)
    return b(ops.Mul(), b.cast(y, dtype), b.scalar(alpha, dtype))


@handles("add")
def add(b: Builder, x: Operand, y: Operand, alpha: Scalar = 1) -> Value:
    dtype = b.dtype()
    if dtype == "bool":
        return b(ops.LogicalOr(), b.operand(x, dtype), b.operand(y, dtype))
    return b(ops.Add(), b.operand(x, dtype), _scaled(b, y, alpha, dtype))


@handles("sub", "subtract")
def sub(b: Builder, x: Operand, y: Operand, alpha: Scalar = 1) -> Value:
    dtype = b.dtype()
    return b(ops.Sub(), b.operand(x, dtype), _scaled(b, y, alpha, dtype))


@handles("rsub")
def rsub(b: Builder, x: Value, y: Operand, alpha: Scalar = 1) -> Value:
    dtype = b.dtype()
    return b(ops.Sub(), b.operand(y, dtype), _scaled(b, x, alpha, dtype))


@handles("div", "divide")
def div(b: Builder, x: Operand, y: Operand, rounding_mode: str | None = None) -> Value:
    dtype = b.dtype()
    if rounding_mode == "floor":
        return b(ops.FloorDiv(), b.operand(x, dtype), b.operand(y, dtype))
    if rounding_mode == "trunc":
        x, y = b.operand(x, dtype), b.operand(y, dtype)
        if _real(x):
            return _trunc(b, b(ops.Div(), x, y))
        sign = b(ops.Mul(), b(ops.Sign(), x), b(ops.Sign(), y))
        return b(ops.Mul(), sign, b(ops.FloorDiv(), b(ops.Abs(), x), b(ops.Abs(), y)))
    return b(ops.Div(), b.operand(x, dtype), b.operand(y, dtype))


def _real(x: Value) -> bool:
    return x.dtype.startswith("float")


def _whole(kind: type[Operator]) -> Any:
    """Rounding, which integers need none of: TFLite's operators take floats alone."""

    def handler(b: Builder, x: Value) -> Value:
        return b(kind(), x) if _real(x) else x

    return handler


HANDLERS.update({"floor": _whole(ops.Floor), "ceil": _whole(ops.Ceil), "round.default": _whole(ops.Round)})


def _trunc(b: Builder, x: Value) -> Value:
    if not _real(x):
        return x
    return truncated(b, x)


@handles("trunc", "fix")
def trunc(b: Builder, x: Value) -> Value:
    return _trunc(b, x)


@handles("frac")
def frac(b: Builder, x: Value) -> Value:
    return b(ops.Sub(), x, _trunc(b, x))


@handles("fmod")
def fmod(b: Builder, x: Operand, y: Operand) -> Value:
    dtype = b.dtype()
    x, y = b.operand(x, dtype), b.operand(y, dtype)
    if not _real(x):
        return b(ops.Mul(), b(ops.Sign(), x), b(ops.FloorMod(), b(ops.Abs(), x), b(ops.Abs(), y)))
    return b(ops.Sub(), x, b(ops.Mul(), _trunc(b, b(ops.Div(), x, y)), y))


@handles("round.decimals")
def round_decimals(b: Builder, x: Value, decimals: int = 0) -> Value:
    scale = b.scalar(10.0**decimals, x.dtype)
    return b(ops.Div(), b(ops.Round(), b(ops.Mul(), x, scale)), scale)


@handles("square")
def square(b: Builder, x: Value) -> Value:
    """Of whole numbers a product: TFLite's SQUARE takes floats alone."""
    return b(ops.Square(), x) if _real(x) else b(ops.Mul(), x, x)


@handles("pow.Tensor_Scalar", "float_power.Tensor_Scalar")
def pow_scalar(b: Builder, x: Value, exponent: Scalar) -> Value:
    x = b.cast(x, b.dtype())
    match exponent:
        case 1:
            return x
        case 2:
            return square(b, x)
        case 0.5:
            return b(ops.Sqrt(), x)
        case -0.5:
            return b(ops.Rsqrt(), x)
        case -1:
            return b(ops.Reciprocal(), x)
        case 3:
            return b(ops.Mul(), square(b, x), x)
    return b(ops.Pow(), x, b.scalar(exponent, x.dtype))


@handles("lerp")
def lerp(b: Builder, x: Value, end: Value, weight: Operand) -> Value:
    return b(ops.Add(), x, b(ops.Mul(), b.operand(weight, x.dtype), b(ops.Sub(), end, x)))


@handles("addcmul")
def addcmul(b: Builder, x: Value, y: Value, z: Value, value: Scalar = 1) -> Value:
    dtype = b.dtype()
    product = b(ops.Mul(), b.cast(y, dtype), b.cast(z, dtype))
    return b(ops.Add(), b.cast(x, dtype), _scaled(b, product, value, dtype))


@handles("addcdiv")
def addcdiv(b: Builder, x: Value, y: Value, z: Value, value: Scalar = 1) -> Value:
    dtype = b.dtype()
    quotient = b(ops.Div(), b.cast(y, dtype), b.cast(z, dtype))
    return b(ops.Add(), b.cast(x, dtype), _scaled(b, quotient, value, dtype))


# -- truth values ------------------------------------------------------------------------------------------------
@handles("logical_not")
def logical_not(b: Builder, x: Value) -> Value:
    return b(ops.LogicalNot(), _truth(b, x))


def _truth(b: Builder, x: Operand) -> Value:
    if not isinstance(x, Value):
        return b.scalar(bool(x), "bool")
    return x if x.dtype == "bool" else b(ops.NotEqual(), x, b.scalar(0, x.dtype))


@handles("logical_and")
def logical_and(b: Builder, x: Value, y: Value) -> Value:
    return b(ops.LogicalAnd(), _truth(b, x), _truth(b, y))


@handles("logical_or")
def logical_or(b: Builder, x: Value, y: Value) -> Value:
    return b(ops.LogicalOr(), _truth(b, x), _truth(b, y))


@handles("logical_xor")
def logical_xor(b: Builder, x: Value, y: Value) -> Value:
    return b(ops.NotEqual(), _truth(b, x), _truth(b, y))


@handles("isnan")
def isnan(b: Builder, x: Value) -> Value:
    return b(ops.NotEqual(), x, x)


@handles("isinf")
def isinf(b: Builder, x: Value) -> Value:
    return b(ops.Equal(), b(ops.Abs(), x), b.scalar(math.inf, x.dtype))


@handles("isfinite")
def isfinite(b: Builder, x: Value) -> Value:
    """|x| < ∞, which NaN is not either."""
    if not x.dtype.startswith("float"):
        return b.full(x.shape, True, "bool")
    return b(ops.Less(), b(ops.Abs(), x), b.scalar(math.inf, x.dtype))


@handles("fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine")
def fake_quantize(b: Builder, x: Value, scale: Any, zero: Any, *rest: int) -> Value:
    """x on the grid that training for quantisation simulates: (clip(round(x / scale) + zero) - zero) · scale."""
    axis, low, high = rest if len(rest) == 3 else (0, *rest)
    step, shift = (b.array(v) if isinstance(v, Value) else np.asarray(v) for v in (scale, zero))
    if step is None or shift is None:
        raise b.fail("a scale or zero point that is computed")
    shape = [-1 if len(rest) == 3 and a == axis else 1 for a in range(x.rank)]
    step, shift = step.astype(x.dtype).reshape(shape), shift.astype(x.dtype).reshape(shape)
    grid = b(ops.Round(), b(ops.Mul(), x, b.constant(1 / step, "per_step")))
    grid = b(ops.Minimum(), b(ops.Maximum(), grid, b.constant(low - shift, "low")), b.constant(high - shift, "high"))
    return b(ops.Mul(), grid, b.constant(step, "step"))


@handles("linalg_cross", "cross")
def cross(b: Builder, x: Value, y: Value, dim: int | None = -1, **_: Any) -> Value:
    """x × y along an axis of three: x rolled one way times y rolled the other, minus the same swapped."""
    axis = (_.get("dim", dim) if dim is not None else x.shape.index(3)) % x.rank
    x, y = (b.expand(v, b.shape()) for v in (x, y))

    def turned(v: Value, by: int) -> Value:
        return b(ops.Roll((-by,), (axis,)), v)

    ahead = b(ops.Mul(), turned(x, 1), turned(y, 2))
    return b(ops.Sub(), ahead, b(ops.Mul(), turned(x, 2), turned(y, 1)))


# -- selection and casts -----------------------------------------------------------------------------------------
@handles("where")
def where(b: Builder, condition: Value, x: Operand, y: Operand) -> Value:
    dtype = b.dtype()
    return b(ops.Where(), _truth(b, condition), b.operand(x, dtype), b.operand(y, dtype))


@handles("masked_fill")
def masked_fill(b: Builder, x: Value, mask: Value, value: Operand) -> Value:
    dtype = b.dtype()
    return b(ops.Where(), _truth(b, mask), b.operand(value, dtype), b.cast(x, dtype))


@handles("nan_to_num")
def nan_to_num(
    b: Builder, x: Value, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Value:
    if not x.dtype.startswith("float"):
        return x
    limits = np.finfo(x.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    clean = b(ops.Where(), b(ops.Equal(), x, x), x, b.scalar(nan or 0.0, x.dtype))
    if posinf is None and neginf is None:
        return b(ops.Clip(low, high), clean)
    for bound, value in ((math.inf, high), (-math.inf, low)):
        clean = b(ops.Where(), b(ops.Equal(), clean, b.scalar(bound, x.dtype)), b.scalar(value, x.dtype), clean)
    return clean


@handles("to", "_to_copy", "type_as", "float", "double", "half")
def to(b: Builder, x: Value, *_: Any, **__: Any) -> Value:
    return b.cast(x, b.dtype())


@handles(
    "alias", "clone", "contiguous", "detach", "lift_fresh", "lift_fresh_copy", "alpha_dropout",
    "feature_alpha_dropout", "positive", "requires_grad_", "native_dropout", "resolve_conj",
    "resolve_neg", "cpu", "_to_cpu", "data",
)  # fmt: skip
def identity(b: Builder, x: Value, *_: Any, **__: Any) -> Value:
    train = _[1] if len(_) > 1 and "dropout" in str(b.step.target) else False
    if train:
        raise b.fail("dropout in training mode is random; call eval() on the module")
    return x


@handles("dropout", "feature_dropout")
def dropout(b: Builder, x: Value, p: float, train: bool) -> Value:
    """Kept for whoever trains the network; feature_dropout drops all behind the channels at once."""
    if train:
        raise b.fail("dropout in training mode is random; call eval() on the module")
    if not 0 < p < 1:
        return x
    whole = "feature_dropout" in str(b.step.target)
    return b(ops.Dropout(float(p), tuple(range(2, x.rank)) if whole else ()), x)
