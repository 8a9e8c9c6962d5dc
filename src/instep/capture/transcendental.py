"""Functions that the graph has no operator for, as those that it has: inverse, hyperbolic and shifted ones.

They take floating values and lose no digits near zero.
"""

from __future__ import annotations

from instep.capture.building import Building
from instep.capture.logarithms import plus_one
from instep.graph import Operator, Value, ops

__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cosh", "exp_less_one", "hypotenuse", "sinh", "tan", "truncated",
]  # fmt: skip


def exp_less_one(b: Building, x: Value) -> Value:
    """tanh(x / 2) · (eˣ + 1): near zero, eˣ - 1 would keep only what eˣ has beyond the 1."""
    half = b(ops.Tanh(), b(ops.Mul(), x, b.scalar(0.5, x.dtype)))
    return b(ops.Mul(), half, b(ops.Add(), b(ops.Exp(), x), b.scalar(1.0, x.dtype)))


def tan(b: Building, x: Value) -> Value:
    return b(ops.Div(), b(ops.Sin(), x), b(ops.Cos(), x))


def atan(b: Building, x: Value) -> Value:
    return b(ops.Atan2(), x, b.scalar(1.0, x.dtype))


def asin(b: Building, x: Value) -> Value:
    return b(ops.Atan2(), x, _co(b, x))


def acos(b: Building, x: Value) -> Value:
    return b(ops.Atan2(), _co(b, x), x)


def _co(b: Building, x: Value) -> Value:
    return b(ops.Sqrt(), b(ops.Sub(), b.scalar(1.0, x.dtype), b(ops.Square(), x)))


def sinh(b: Building, x: Value) -> Value:
    return _hyperbolic(b, ops.Sub(), x)


def cosh(b: Building, x: Value) -> Value:
    return _hyperbolic(b, ops.Add(), x)


def _hyperbolic(b: Building, op: Operator, x: Value) -> Value:
    both = b(op, b(ops.Exp(), x), b(ops.Exp(), b(ops.Neg(), x)))
    return b(ops.Mul(), both, b.scalar(0.5, x.dtype))


def asinh(b: Building, x: Value) -> Value:
    """sign(x) · log1p(|x| + x² / (√(x² + 1) + 1)): an odd function, which loses no digits on the negative side."""
    one, square = b.scalar(1.0, x.dtype), b(ops.Mul(), x, x)
    beyond = b(ops.Div(), square, b(ops.Add(), b(ops.Sqrt(), b(ops.Add(), square, one)), one))
    return b(ops.Mul(), b(ops.Sign(), x), plus_one(b, b(ops.Add(), b(ops.Abs(), x), beyond)))


def acosh(b: Building, x: Value) -> Value:
    """log(x + √(x² - 1))."""
    root = b(ops.Sqrt(), b(ops.Sub(), b(ops.Mul(), x, x), b.scalar(1.0, x.dtype)))
    return b(ops.Log(), b(ops.Add(), x, root))


def atanh(b: Building, x: Value) -> Value:
    """½ log((1 + x) / (1 - x)) = sign(x) · ½ log1p(2|x| / (1 - |x|))."""
    size = b(ops.Abs(), x)
    beyond = b(ops.Div(), b(ops.Mul(), size, b.scalar(2.0, x.dtype)), b(ops.Sub(), b.scalar(1.0, x.dtype), size))
    half = b(ops.Mul(), b(ops.Sign(), x), b.scalar(0.5, x.dtype))
    return b(ops.Mul(), half, plus_one(b, beyond))


def hypotenuse(b: Building, x: Value, y: Value) -> Value:
    return b(ops.Sqrt(), b(ops.Add(), b(ops.Square(), x), b(ops.Square(), y)))


def truncated(b: Building, x: Value) -> Value:
    """The whole part, towards zero."""
    return b(ops.Mul(), b(ops.Sign(), x), b(ops.Floor(), b(ops.Abs(), x)))
