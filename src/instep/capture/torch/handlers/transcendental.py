"""Exponentials, logarithms, trigonometric and hyperbolic functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from instep.capture import transcendental as forms
from instep.capture.logarithms import plus_one
from instep.capture.torch.builder import Builder
from instep.capture.torch.registry import HANDLERS, handles
from instep.graph import Value, ops

__all__: list[str] = []


@handles("exp2", "special_exp2")
def exp2(b: Builder, x: Value) -> Value:
    return b(ops.Exp(), b(ops.Mul(), b.cast(x, b.dtype()), b.scalar(math.log(2), b.dtype())))


def _log_base(base: float) -> Any:
    def handler(b: Builder, x: Value) -> Value:
        return b(ops.Mul(), b(ops.Log(), b.cast(x, b.dtype())), b.scalar(1 / math.log(base), b.dtype()))

    return handler


HANDLERS["log2"], HANDLERS["log10"] = _log_base(2), _log_base(10)


def _shared(form: Callable[..., Value], *names: str) -> None:
    """A function that is written down for every framework."""

    @handles(*names)
    def handler(b: Builder, x: Value) -> Value:
        return form(b, b.cast(x, b.dtype()))


_shared(plus_one, "log1p", "special_log1p")
_shared(forms.exp_less_one, "expm1", "special_expm1")
_shared(forms.tan, "tan")
_shared(forms.atan, "atan", "arctan")
_shared(forms.asin, "asin", "arcsin")
_shared(forms.acos, "acos", "arccos")
_shared(forms.sinh, "sinh")
_shared(forms.cosh, "cosh")
_shared(forms.asinh, "asinh", "arcsinh")
_shared(forms.acosh, "acosh", "arccosh")
_shared(forms.atanh, "atanh", "arctanh")


@handles("erfc", "special_erfc")
def erfc(b: Builder, x: Value) -> Value:
    return b(ops.Sub(), b.scalar(1.0, x.dtype), b(ops.Erf(), x))


@handles("hypot")
def hypot(b: Builder, x: Value, y: Value) -> Value:
    return forms.hypotenuse(b, x, y)
