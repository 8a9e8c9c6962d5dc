"""Functions of each element: arithmetic, comparisons, logic; Keras' by the names of their operations, TensorFlow's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.registry import Unsupported, function
from instep.graph import Operator, Value, ops

__all__ = ["chosen", "common", "kind_of", "paired"]

_UNARY: dict[str, Callable[[], Operator]] = {
    "Absolute": ops.Abs, "Abs": ops.Abs, "Fabs": ops.Abs, "Negative": ops.Neg, "Exp": ops.Exp, "Log": ops.Log,
    "Sqrt": ops.Sqrt, "Rsqrt": ops.Rsqrt, "Square": ops.Square, "Sin": ops.Sin, "Cos": ops.Cos, "Floor": ops.Floor,
    "Ceil": ops.Ceil, "Sign": ops.Sign, "Reciprocal": ops.Reciprocal, "Erf": ops.Erf, "LogicalNot": ops.LogicalNot,
    "tf.math.abs": ops.Abs, "tf.abs": ops.Abs, "tf.math.negative": ops.Neg, "tf.__operators__.neg": ops.Neg,
    "tf.math.exp": ops.Exp, "tf.math.log": ops.Log, "tf.math.sqrt": ops.Sqrt, "tf.math.rsqrt": ops.Rsqrt,
    "tf.math.square": ops.Square, "tf.math.sin": ops.Sin, "tf.math.cos": ops.Cos, "tf.math.floor": ops.Floor,
    "tf.math.ceil": ops.Ceil, "tf.math.round": ops.Round, "tf.math.sign": ops.Sign, "tf.math.erf": ops.Erf,
    "tf.math.reciprocal": ops.Reciprocal, "tf.math.sigmoid": ops.Sigmoid, "tf.nn.sigmoid": ops.Sigmoid,
    "tf.math.tanh": ops.Tanh, "tf.nn.tanh": ops.Tanh, "tf.nn.relu": ops.Relu, "tf.nn.selu": ops.Selu,
    "tf.nn.relu6": lambda: ops.Clip(0.0, 6.0), "tf.nn.silu": ops.Silu, "tf.nn.swish": ops.Silu,
    "tf.math.softplus": ops.Softplus, "tf.nn.softplus": ops.Softplus, "tf.math.logical_not": ops.LogicalNot,
    "tf.keras.activations.relu": ops.Relu, "tf.keras.activations.sigmoid": ops.Sigmoid,
    "tf.keras.activations.swish": ops.Silu, "tf.keras.activations.tanh": ops.Tanh,
}  # fmt: skip
_BINARY: dict[str, Callable[[], Operator]] = {
    "Add": ops.Add, "Subtract": ops.Sub, "Multiply": ops.Mul, "Divide": ops.Div, "TrueDivide": ops.Div,
    "Power": ops.Pow, "Maximum": ops.Maximum, "Minimum": ops.Minimum, "Fmax": ops.Maximum, "Fmin": ops.Minimum,
    "FloorDivide": ops.FloorDiv, "Mod": ops.FloorMod, "Equal": ops.Equal, "NotEqual": ops.NotEqual, "Less": ops.Less,
    "LessEqual": ops.LessEqual, "Greater": ops.Greater, "GreaterEqual": ops.GreaterEqual,
    "LogicalAnd": ops.LogicalAnd, "LogicalOr": ops.LogicalOr, "LogicalXor": ops.NotEqual, "Arctan2": ops.Atan2,
    "tf.__operators__.add": ops.Add, "tf.math.add": ops.Add, "tf.add": ops.Add, "tf.__operators__.sub": ops.Sub,
    "tf.math.subtract": ops.Sub, "tf.subtract": ops.Sub, "tf.math.multiply": ops.Mul, "tf.multiply": ops.Mul,
    "tf.__operators__.mul": ops.Mul, "tf.math.truediv": ops.Div, "tf.math.divide": ops.Div, "tf.divide": ops.Div,
    "tf.__operators__.truediv": ops.Div, "tf.math.pow": ops.Pow, "tf.__operators__.pow": ops.Pow,
    "tf.math.maximum": ops.Maximum, "tf.maximum": ops.Maximum, "tf.math.minimum": ops.Minimum,
    "tf.minimum": ops.Minimum, "tf.math.floordiv": ops.FloorDiv, "tf.math.floormod": ops.FloorMod,
    "tf.math.squared_difference": ops.SquaredDifference, "tf.math.equal": ops.Equal, "tf.math.less": ops.Less,
    "tf.math.greater": ops.Greater, "tf.math.greater_equal": ops.GreaterEqual, "tf.math.less_equal": ops.LessEqual,
    "tf.math.not_equal": ops.NotEqual, "tf.math.logical_and": ops.LogicalAnd, "tf.math.logical_or": ops.LogicalOr,
}  # fmt: skip
#: What whole numbers stay whole numbers under.
_WHOLE = (ops.Abs, ops.Neg, ops.Square, ops.Sign, ops.Relu, ops.Clip)
_LOGICAL = ("LogicalAnd", "LogicalOr", "LogicalXor", "tf.math.logical_and", "tf.math.logical_or")


def _unary(name: str, made: Callable[[], Operator]) -> None:
    @function(name)
    def handler(b: Builder, x: Value, name: Any = None) -> Value:
        op = made()
        if isinstance(op, ops.LogicalNot):
            return b(op, b.cast(x, "bool"))
        return b(op, x if isinstance(op, _WHOLE) else b.floating(x))


def _binary(key: str, made: Callable[[], Operator]) -> None:
    @function(key)
    def handler(b: Builder, first: Any = None, second: Any = None, name: Any = None, **given: Any) -> Value:
        # Keras 3 calls them x1 and x2, TensorFlow x and y or a and b
        left = next((given[k] for k in ("x1", "x", "a") if k in given), first)
        right = next((given[k] for k in ("x2", "y", "b_") if k in given), second if left is first else first)
        if key in _LOGICAL:
            return b(made(), b.operand(left, "bool"), b.operand(right, "bool"))
        return _both(b, made(), left, right)


def _both(b: Builder, op: Operator, left: Any, right: Any) -> Value:
    dtype = common(left, right)
    if dtype == "bool" and not isinstance(op, ops.Equal | ops.NotEqual):
        dtype = "int32"
    if np.dtype(dtype).kind != "f" and isinstance(op, ops.Div | ops.Atan2):
        dtype = "float32"
    return b(op, b.operand(left, dtype), b.operand(right, dtype))


def common(*operands: Any) -> str:
    """The dtype in which operands meet: numbers take that of the tensors, but whole ones that meet a fraction become
    floating, as Keras 3 has it; TensorFlow lets no others meet. Raises Unsupported where none is a tensor."""
    dtypes = [v.dtype for v in operands if hasattr(v, "dtype")]
    if not any(isinstance(v, Value) for v in operands):
        raise Unsupported("none of its operands is a tensor")
    floating = [d for d in ("float64", "float32", "float16") if d in dtypes]
    if floating:
        return floating[0]
    if any(isinstance(v, float) for v in operands):
        return "float32"
    whole = [d for d in dtypes if d != "bool"]
    plain = any(isinstance(v, int) and not isinstance(v, bool) for v in operands)
    return np.result_type(*whole).name if whole else "int32" if plain else "bool"


def paired(b: Builder, left: Any, right: Any) -> tuple[Value, Value]:
    """Two operands of one floating dtype."""
    dtype = common(left, right)
    dtype = dtype if np.dtype(dtype).kind == "f" else "float32"
    return b.operand(left, dtype), b.operand(right, dtype)


for _name, _made in _UNARY.items():
    _unary(_name, _made)
for _name, _made in _BINARY.items():
    _binary(_name, _made)


@function("Round")
def rounded(b: Builder, x: Value, decimals: int = 0) -> Value:
    if np.dtype(x.dtype).kind != "f" and decimals >= 0:
        return x
    if not decimals:
        return b(ops.Round(), x)
    scale = b.scalar(10.0**decimals, x.dtype)
    return b(ops.Div(), b(ops.Round(), b(ops.Mul(), x, scale)), scale)


# -- bounds and choices ------------------------------------------------------------------------------------------------
@function("Clip", "tf.clip_by_value")
def clip(b: Builder, x: Value, x_min: Any = None, x_max: Any = None, clip_value_min: Any = None,
         clip_value_max: Any = None, name: Any = None) -> Value:  # fmt: skip
    low = x_min if x_min is not None else clip_value_min
    high = x_max if x_max is not None else clip_value_max
    bounds = [v for v in (low, high) if v is not None]
    if any(not isinstance(v, int | float) for v in bounds):
        raise Unsupported("its bounds are computed; use keras.ops.maximum and keras.ops.minimum")
    if any(isinstance(v, float) and not v.is_integer() for v in bounds):
        x = b.floating(x)
    return b(ops.Clip(-math.inf if low is None else float(low), math.inf if high is None else float(high)), x)


@function("Cast", "tf.cast")
def cast(b: Builder, x: Value, dtype: Any = None, name: Any = None) -> Value:
    return b.cast(x, kind_of(dtype))


@function("SaturateCast")
def saturate_cast(b: Builder, x: Value, dtype: Any = None) -> Value:
    """What is beyond the limits of the dtype becomes these."""
    kind = kind_of(dtype)
    if np.dtype(kind).kind in "iu":
        limits = np.iinfo(kind)
        x = b(ops.Clip(float(limits.min), float(limits.max)), x)
    return b.cast(x, kind)


def kind_of(dtype: Any) -> str:
    """A dtype as configs write it; all that is floating is float32 here."""
    wanted = str(dtype)
    return "float32" if wanted in ("float16", "bfloat16", "float64") else np.dtype(wanted).name


@function("Where", "tf.where")
def where(b: Builder, condition: Value, x1: Any = None, x2: Any = None, x: Any = None, y: Any = None,
          name: Any = None) -> Value:  # fmt: skip
    left, right = x1 if x1 is not None else x, x2 if x2 is not None else y
    if left is None or right is None:
        raise Unsupported("it gives places, whose number depends on the numbers that arrive; give it both choices")
    return chosen(b, b.cast(condition, "bool"), left, right)


def chosen(b: Builder, condition: Value, left: Any, right: Any) -> Value:
    """``left`` where the condition holds, else ``right``; each a tensor, a number or an array."""
    if any(isinstance(v, Value) for v in (left, right)):
        dtype = common(left, right)
    else:
        dtype = "float32" if any(isinstance(v, float | list) for v in (left, right)) else "int32"
    return b(ops.Where(), condition, b.operand(left, dtype), b.operand(right, dtype))


@function("Select")
def select(b: Builder, condlist: Any = None, choicelist: Any = None, default: Any = 0) -> Value:
    """The first choice whose condition holds."""
    if not isinstance(condlist, list) or not isinstance(choicelist, list) or len(condlist) != len(choicelist):
        raise Unsupported("it needs a list of conditions and as many choices")
    result = default
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        result = chosen(b, b.cast(condition, "bool"), choice, result)
    return result


@function("ZerosLike", "OnesLike", "FullLike", "EmptyLike", "tf.zeros_like", "tf.ones_like")
def filled_like(b: Builder, x: Value, fill_value: Any = None, dtype: Any = None, **_: Any) -> Value:
    kind = x.dtype if dtype is None else kind_of(dtype)
    ones = "Ones" in b.place.layer.kind or "ones" in b.place.layer.config.get("function", "")
    number = fill_value if fill_value is not None else float(ones)
    if not isinstance(number, int | float):
        raise Unsupported("what it is filled with is computed")
    return b.constant(np.full(x.shape, number, kind), "full")


@function("Identity", "ConvertToTensor", "StopGradient", "tf.identity", "tf.stop_gradient", "Copy", "Conj",
          "Conjugate", "Real")  # fmt: skip
def identity(b: Builder, x: Value, **_: Any) -> Value:
    """Nothing at rest; complex numbers come as pairs of tensors in Keras."""
    return x
