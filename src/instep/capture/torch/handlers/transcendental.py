"""Exponentials, logarithms, trigonometric and hyperbolic functions."""

from __future__ import annotations

import math
from typing import Any

from instep.capture.logarithms import plus_one
from instep.capture.torch.builder import Builder
from instep.capture.torch.registry import HANDLERS, handles
from instep.graph import Operator, Value, ops

__all__: list[str] = []


@handles("exp2", "special_exp2")
def exp2(b: Builder, x: Value) -> Value:
    return b(ops.Exp(), b(ops.Mul(), b.cast(x, b.dtype()), b.scalar(math.log(2), b.dtype())))


@handles("expm1", "special_expm1")
def expm1(b: Builder, x: Value) -> Value:
    """tanh(x / 2) · (eˣ + 1): near zero, eˣ - 1 would keep only what eˣ has beyond the 1."""
    x = b.cast(x, b.dtype())
    half = b(ops.Tanh(), b(ops.Mul(), x, b.scalar(0.5, x.dtype)))
    return b(ops.Mul(), half, b(ops.Add(), b(ops.Exp(), x), b.scalar(1.0, x.dtype)))


@handles("log1p", "special_log1p")
def log1p(b: Builder, x: Value) -> Value:
    x = b.cast(x, b.dtype())
    return plus_one(b, x)


@handles("asinh", "arcsinh")
def asinh(b: Builder, x: Value) -> Value:
    """sign(x) · log1p(|x| + x² / (√(x² + 1) + 1)): an odd function, which loses no digits on the negative side."""
    x = b.cast(x, b.dtype())
    one, square = b.scalar(1.0, x.dtype), b(ops.Mul(), x, x)
    beyond = b(ops.Div(), square, b(ops.Add(), b(ops.Sqrt(), b(ops.Add(), square, one)), one))
    return b(ops.Mul(), b(ops.Sign(), x), plus_one(b, b(ops.Add(), b(ops.Abs(), x), beyond)))


@handles("acosh", "arccosh")
def acosh(b: Builder, x: Value) -> Value:
    """log(x + √(x² - 1))."""
    x = b.cast(x, b.dtype())
    root = b(ops.Sqrt(), b(ops.Sub(), b(ops.Mul(), x, x), b.scalar(1.0, x.dtype)))
    return b(ops.Log(), b(ops.Add(), x, root))


@handles("atanh", "arctanh")
def atanh(b: Builder, x: Value) -> Value:
    """½ log((1 + x) / (1 - x)) = sign(x) · ½ log1p(2|x| / (1 - |x|))."""
    x = b.cast(x, b.dtype())
    size = b(ops.Abs(), x)
    beyond = b(ops.Div(), b(ops.Mul(), size, b.scalar(2.0, x.dtype)), b(ops.Sub(), b.scalar(1.0, x.dtype), size))
    half = b(ops.Mul(), b(ops.Sign(), x), b.scalar(0.5, x.dtype))
    return b(ops.Mul(), half, plus_one(b, beyond))


def _log_base(base: float) -> Any:
    def handler(b: Builder, x: Value) -> Value:
        return b(ops.Mul(), b(ops.Log(), b.cast(x, b.dtype())), b.scalar(1 / math.log(base), b.dtype()))

    return handler


HANDLERS["log2"], HANDLERS["log10"] = _log_base(2), _log_base(10)


@handles("tan")
def tan(b: Builder, x: Value) -> Value:
    x = b.cast(x, b.dtype())
    return b(ops.Div(), b(ops.Sin(), x), b(ops.Cos(), x))


def _hyperbolic(kind: type[Operator]) -> Any:
    def handler(b: Builder, x: Value) -> Value:
        x = b.cast(x, b.dtype())
        both = b(kind(), b(ops.Exp(), x), b(ops.Exp(), b(ops.Neg(), x)))
        return b(ops.Mul(), both, b.scalar(0.5, x.dtype))

    return handler


HANDLERS["sinh"], HANDLERS["cosh"] = _hyperbolic(ops.Sub), _hyperbolic(ops.Add)


@handles("atan", "arctan")
def atan(b: Builder, x: Value) -> Value:
    x = b.cast(x, b.dtype())
    return b(ops.Atan2(), x, b.scalar(1.0, x.dtype))


def _co(b: Builder, x: Value) -> Value:
    return b(ops.Sqrt(), b(ops.Sub(), b.scalar(1.0, x.dtype), b(ops.Square(), x)))


@handles("asin", "arcsin")
def asin(b: Builder, x: Value) -> Value:
    return b(ops.Atan2(), x, _co(b, x))


@handles("acos", "arccos")
def acos(b: Builder, x: Value) -> Value:
    return b(ops.Atan2(), _co(b, x), x)


@handles("erfc", "special_erfc")
def erfc(b: Builder, x: Value) -> Value:
    return b(ops.Sub(), b.scalar(1.0, x.dtype), b(ops.Erf(), x))


@handles("hypot")
def hypot(b: Builder, x: Value, y: Value) -> Value:
    return b(ops.Sqrt(), b(ops.Add(), b(ops.Square(), x), b(ops.Square(), y)))
