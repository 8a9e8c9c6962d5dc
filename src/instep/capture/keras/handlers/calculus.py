"""Functions of each element that are several operators: inverse, hyperbolic, shifted ones, and those of NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from instep.capture import transcendental as forms
from instep.capture.bits import less_common, masked
from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.arithmetic import common, paired
from instep.capture.keras.registry import Unsupported, function
from instep.capture.logarithms import plus_one
from instep.graph import Operator, Value, ops

__all__ = ["are_numbers"]


def _one(name: str, form: Callable[[Builder, Value], Value]) -> None:
    @function(name)
    def handler(b: Builder, x: Value, name: Any = None) -> Value:
        return form(b, b.floating(x))


def _times(factor: float, operator: Callable[[], Operator] | None = None) -> Callable[[Builder, Value], Value]:
    def form(b: Builder, x: Value) -> Value:
        return b(ops.Mul(), x if operator is None else b(operator(), x), b.scalar(factor, x.dtype))

    return form


def _sinc(b: Builder, x: Value) -> Value:
    """sin(π x) / (π x), 1 at zero."""
    angle = b(ops.Mul(), x, b.scalar(math.pi, x.dtype))
    zero = b(ops.Equal(), x, b.scalar(0.0, x.dtype))
    one = b.scalar(1.0, x.dtype)
    return b(ops.Where(), zero, one, b(ops.Div(), b(ops.Sin(), angle), b(ops.Where(), zero, one, angle)))


def _cbrt(b: Builder, x: Value) -> Value:
    root = b(ops.Pow(), b(ops.Abs(), x), b.scalar(1 / 3, x.dtype))
    return b(ops.Mul(), b(ops.Sign(), x), root)


for _name, _form in {
    "Arccos": forms.acos, "Arccosh": forms.acosh, "Arcsin": forms.asin, "Arcsinh": forms.asinh, "Arctan": forms.atan,
    "Arctanh": forms.atanh, "Tan": forms.tan, "Sinh": forms.sinh, "Cosh": forms.cosh, "Expm1": forms.exp_less_one,
    "Trunc": forms.truncated, "Log1p": plus_one, "tf.math.log1p": plus_one, "tf.math.expm1": forms.exp_less_one,
    "tf.math.atan": forms.atan, "tf.math.tan": forms.tan, "tf.math.sinh": forms.sinh, "tf.math.cosh": forms.cosh,
    "Cbrt": _cbrt, "Sinc": _sinc, "Log2": _times(1 / math.log(2), ops.Log), "Log10": _times(1 / math.log(10), ops.Log),
    "Deg2rad": _times(math.pi / 180), "Rad2deg": _times(180 / math.pi),
    "Exp2": lambda b, x: b(ops.Exp(), b(ops.Mul(), x, b.scalar(math.log(2), x.dtype))),
    "Erfc": lambda b, x: b(ops.Sub(), b.scalar(1.0, x.dtype), b(ops.Erf(), x)),
    "Angle": lambda b, x: b(ops.Atan2(), b.scalar(0.0, x.dtype), x),
    "Imag": lambda b, x: b.constant(np.zeros(x.shape, x.dtype), "zeros"),
}.items():  # fmt: skip
    _one(_name, _form)


# -- of two ------------------------------------------------------------------------------------------------------------
@function("Hypot")
def hypot(b: Builder, x1: Any, x2: Any) -> Value:
    return forms.hypotenuse(b, *paired(b, x1, x2))


@function("Fmod")
def fmod(b: Builder, x1: Any, x2: Any) -> Value:
    """The remainder with the sign of what is divided."""
    dtype = common(x1, x2)
    x, y = b.operand(x1, dtype), b.operand(x2, dtype)
    return b(ops.Mul(), b(ops.Sign(), x), b(ops.FloorMod(), b(ops.Abs(), x), b(ops.Abs(), y)))


@function("DivideNoNan", "tf.math.divide_no_nan")
def divide_no_nan(b: Builder, x1: Any, x2: Any) -> Value:
    """0 where the divisor is."""
    x, y = paired(b, x1, x2)
    none = b(ops.Equal(), y, b.scalar(0.0, y.dtype))
    quotient = b(ops.Div(), x, b(ops.Where(), none, b.scalar(1.0, y.dtype), y))
    return b(ops.Where(), none, b.scalar(0.0, y.dtype), quotient)


@function("Logaddexp", "Logaddexp2")
def log_add(b: Builder, x1: Any, x2: Any) -> Value:
    """max + log(1 + exp(-|x - y|)), to the base 2 where the name has it."""
    x, y = paired(b, x1, x2)
    unit = math.log(2) if b.place.layer.kind.endswith("2") else 1.0
    apart = b(ops.Abs(), b(ops.Sub(), x, y))
    apart = apart if unit == 1.0 else b(ops.Mul(), apart, b.scalar(unit, x.dtype))
    more = b(ops.Softplus(), b(ops.Neg(), apart))
    more = more if unit == 1.0 else b(ops.Mul(), more, b.scalar(1 / unit, x.dtype))
    return b(ops.Add(), b(ops.Maximum(), x, y), more)


@function("Ldexp")
def ldexp(b: Builder, x1: Any, x2: Any) -> Value:
    x, power = paired(b, x1, x2)
    return b(ops.Mul(), x, b(ops.Pow(), b.scalar(2.0, x.dtype), power))


@function("Heaviside")
def heaviside(b: Builder, x1: Any, x2: Any) -> Value:
    """0 below zero, 1 above, the second operand at it."""
    x, y = paired(b, x1, x2)
    zero, one = b.scalar(0.0, x.dtype), b.scalar(1.0, x.dtype)
    above = b(ops.Where(), b(ops.Greater(), x, zero), one, zero)
    return b(ops.Where(), b(ops.Equal(), x, zero), y, above)


@function("Polar")
def polar(b: Builder, abs_: Value, angle: Value) -> Value:
    raise Unsupported("it makes complex numbers; compute abs · cos(angle) and abs · sin(angle)")


# -- whole numbers -----------------------------------------------------------------------------------------------------
def _bits(*names: str) -> Callable[[Callable[[Builder, Value, int], Value]], Callable[..., Value]]:
    """A function of the bits of a whole number and of one that is known."""

    def wrap(form: Callable[[Builder, Value, int], Value]) -> Callable[..., Value]:
        @function(*names)
        def handler(b: Builder, x: Any = None, y: Any = None) -> Value:
            if isinstance(y, Value):
                x, y = y, x
            if not isinstance(x, Value) or not isinstance(y, int):
                raise Unsupported("bits of two computed numbers; one has to be a number that is known")
            return form(b, x, y)

        return handler

    return wrap


_bits("BitwiseAnd")(masked)
_bits("BitwiseOr")(lambda b, x, y: less_common(b, x, y, 1))
_bits("BitwiseXor")(lambda b, x, y: less_common(b, x, y, 2))


@function("BitwiseLeftShift", "LeftShift", "BitwiseRightShift", "RightShift")
def shifted(b: Builder, x: Any = None, y: Any = None) -> Value:
    if not isinstance(x, Value) or not isinstance(y, int) or not 0 <= y < 31:
        raise Unsupported("it shifts by a computed number; it has to be known, and less than 31")
    op = ops.Mul() if "Left" in b.place.layer.kind else ops.FloorDiv()
    return b(op, x, b.scalar(1 << y, x.dtype))


@function("BitwiseInvert", "BitwiseNot")
def inverted(b: Builder, x: Value) -> Value:
    if x.dtype == "bool":
        return b(ops.LogicalNot(), x)
    return b(ops.Sub(), b(ops.Neg(), x), b.scalar(1, x.dtype))


# -- what is no number -------------------------------------------------------------------------------------------------
def are_numbers(b: Builder, x: Value) -> Value:
    """True where x is not NaN, the one thing that is not equal to itself."""
    return b(ops.Equal(), x, x)


_INFINITE: dict[str, tuple[Any, Any, float]] = {
    "Isnan": (ops.NotEqual, None, 0.0), "Isfinite": (ops.Less, ops.Abs, math.inf),
    "Isinf": (ops.Equal, ops.Abs, math.inf), "Isposinf": (ops.Equal, None, math.inf),
    "Isneginf": (ops.Equal, None, -math.inf), "Signbit": (ops.Less, None, 0.0),
}  # fmt: skip


@function(*_INFINITE)
def told_apart(b: Builder, x: Value) -> Value:
    kind = b.place.layer.kind
    made, before, bound = _INFINITE[kind]
    x = b.floating(x)
    if kind == "Isnan":
        return b(ops.NotEqual(), x, x)
    return b(made(), x if before is None else b(before(), x), b.scalar(bound, x.dtype))


@function("Isreal")
def is_real(b: Builder, x: Value) -> Value:
    return b.constant(np.ones(x.shape, bool), "real")


@function("NanToNum")
def nan_to_num(b: Builder, x: Value, nan: Any = 0.0, posinf: Any = None, neginf: Any = None, copy: Any = True) -> Value:
    """NaN and the infinities as numbers: 0 and the limits of the dtype, or those that are given."""
    if np.dtype(x.dtype).kind != "f":
        return x
    limit = float(np.finfo(x.dtype).max)
    x = b(ops.Where(), are_numbers(b, x), x, b.scalar(float(nan), x.dtype))
    for edge, given, other in ((math.inf, posinf, limit), (-math.inf, neginf, -limit)):
        there = b(ops.Equal(), x, b.scalar(edge, x.dtype))
        x = b(ops.Where(), there, b.scalar(float(other if given is None else given), x.dtype), x)
    return x


@function("Isclose", "AllClose")
def is_close(b: Builder, x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Value:
    """|x - y| ≤ atol + rtol |y|, or both the same."""
    if equal_nan:
        raise Unsupported("NaN would be equal to NaN")
    x, y = paired(b, x1, x2)
    room = b(ops.Add(), b(ops.Mul(), b(ops.Abs(), y), b.scalar(rtol, x.dtype)), b.scalar(atol, x.dtype))
    finite = b(ops.Less(), b(ops.Abs(), y), b.scalar(math.inf, x.dtype))
    near = b(ops.LessEqual(), b(ops.Abs(), b(ops.Sub(), x, y)), room)
    close = b(ops.LogicalOr(), b(ops.LogicalAnd(), finite, near), b(ops.Equal(), x, y))
    every = b.place.layer.kind == "AllClose"
    return b(ops.ReduceAll(tuple(range(close.rank)), False), close) if every else close


@function("IsIn")
def is_in(b: Builder, x1: Value, x2: Any, assume_unique: bool = False, invert: bool = False) -> Value:
    x, among = x1, b.operand(x2, x1.dtype)
    same = b(ops.Equal(), b.reshape(x, (*x.shape, 1)), b.reshape(among, (among.size,)))
    found = b(ops.ReduceAny((x.rank,), False), same)
    return b(ops.LogicalNot(), found) if invert else found


# -- numbers between two -----------------------------------------------------------------------------------------------
@function("Linspace", "Logspace")
def spaced(b: Builder, start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False,
           dtype: Any = None, axis: int = 0, base: float = 10) -> Value:  # fmt: skip
    """``num`` numbers from start on to stop, on a new axis."""
    if retstep or not isinstance(num, int) or num < 2:
        raise Unsupported(f"it gives the step too, or {num} numbers")
    first, last = paired(b, start, stop)
    apart = b(ops.Sub(), last, first)
    rank = apart.rank + 1
    at = b.axis(axis, rank)
    places = np.arange(num) / (num - 1 if endpoint else num)
    ramp = b.constant(places.reshape([-1 if a == at else 1 for a in range(rank)]).astype(apart.dtype), "places")

    def wide(x: Value) -> Value:
        x = b.expand(x, apart.shape)
        return b.reshape(x, (*x.shape[:at], 1, *x.shape[at:]))

    y = b(ops.Add(), wide(first), b(ops.Mul(), wide(apart), ramp))
    return b(ops.Pow(), b.scalar(float(base), y.dtype), y) if b.place.layer.kind == "Logspace" else y
