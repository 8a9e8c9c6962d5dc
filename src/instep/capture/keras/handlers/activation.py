"""Activations by name, and the layers that are activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.registry import Unsupported, activation, function, layer
from instep.graph import Operator, Value, ops

__all__ = ["HIDDEN", "relu_of"]

#: What a softmax reads in the place of what it must not see, as Keras has it.
HIDDEN = -1e9


def _plain(operator: Callable[[], Operator], *names: str) -> None:
    """An activation that is an operator; ``names`` of classes are operations of keras.ops."""

    def handler(b: Builder, x: Value, **_: Any) -> Value:
        return b(operator(), x)

    for name in names:
        (function if name[0].isupper() else activation)(name)(handler)


_plain(ops.Sigmoid, "sigmoid", "Sigmoid")
_plain(ops.Tanh, "tanh", "Tanh")
_plain(ops.Softplus, "softplus", "Softplus")
_plain(ops.Selu, "selu", "Selu")
_plain(ops.Exp, "exponential", "exp")
_plain(ops.Silu, "silu", "swish", "Silu")
_plain(ops.HardSwish, "hard_silu", "hard_swish", "HardSilu")
_plain(ops.Mish, "mish", "Mish")
_plain(lambda: ops.Clip(0.0, 6.0), "relu6", "Relu6")
_plain(lambda: ops.Clip(-1.0, 1.0), "hard_tanh", "HardTanh")


@activation("linear")
def linear(b: Builder, x: Value) -> Value:
    return x


@activation("relu")
@function("Relu")
def relu_of(
    b: Builder, x: Value, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Value:
    """max_value above it, x above threshold, negative_slope · (x - threshold) elsewhere, as Keras orders the steps."""
    slope, edge = float(negative_slope or 0.0), float(threshold or 0.0)
    if edge:
        above = b(ops.Greater(), x, b.scalar(edge, x.dtype))
        y = b(ops.Where(), above, x, b.scalar(0.0, x.dtype))
    elif slope and max_value is None:
        return b(ops.LeakyRelu(slope), x)
    elif max_value is None:
        return b(ops.Relu(), x)
    else:
        y = x
    if max_value is not None:
        y = b(ops.Clip(0.0, float(max_value)), y)
    if not slope:
        return y
    below = b(ops.Sub(), b.scalar(edge, x.dtype), x) if edge else b(ops.Neg(), x)
    part = b(ops.Mul(), b(ops.Relu(), below), b.scalar(slope, x.dtype))
    return b(ops.Sub(), y, part)


@activation("hard_sigmoid")
@function("HardSigmoid")
def hard_sigmoid(b: Builder, x: Value) -> Value:
    """relu6(x + 3) / 6; Keras 2: clip(0.2 x + 0.5, 0, 1)."""
    if b.major >= 3:
        return b(ops.HardSigmoid(), x)
    line = b(ops.Add(), b(ops.Mul(), x, b.scalar(0.2, x.dtype)), b.scalar(0.5, x.dtype))
    return b(ops.Clip(0.0, 1.0), line)


@activation("leaky_relu")
@function("LeakyRelu")
def leaky_relu(b: Builder, x: Value, negative_slope: float = 0.2, alpha: float | None = None) -> Value:
    return b(ops.LeakyRelu(float(negative_slope if alpha is None else alpha)), x)


@activation("elu")
@function("Elu")
def elu(b: Builder, x: Value, alpha: float = 1.0) -> Value:
    return b(ops.Elu(float(alpha)), x)


@activation("celu")
@function("Celu")
def celu(b: Builder, x: Value, alpha: float = 1.0) -> Value:
    return b(ops.Celu(float(alpha)), x)


@activation("gelu")
def gelu(b: Builder, x: Value) -> Value:
    return b(ops.Gelu(False), x)


@function("Gelu")
def gelu_function(b: Builder, x: Value, approximate: bool = True) -> Value:
    """keras.ops.gelu approximates unless told not to; the activation of that name does not."""
    return b(ops.Gelu(bool(approximate)), x)


@activation("softsign")
@function("Softsign")
def softsign(b: Builder, x: Value) -> Value:
    return b(ops.Div(), x, b(ops.Add(), b(ops.Abs(), x), b.scalar(1.0, x.dtype)))


@activation("tanh_shrink")
@function("TanhShrink")
def tanh_shrink(b: Builder, x: Value) -> Value:
    return b(ops.Sub(), x, b(ops.Tanh(), x))


@activation("soft_shrink")
@function("SoftShrink")
def soft_shrink(b: Builder, x: Value, threshold: float = 0.5) -> Value:
    return b(ops.Sub(), x, b(ops.Clip(-float(threshold), float(threshold)), x))


@activation("hard_shrink")
@function("HardShrink")
def hard_shrink(b: Builder, x: Value, threshold: float = 0.5) -> Value:
    far = b(ops.Greater(), b(ops.Abs(), x), b.scalar(float(threshold), x.dtype))
    return b(ops.Where(), far, x, b.scalar(0.0, x.dtype))


@activation("threshold")
@function("Threshold")
def threshold_of(b: Builder, x: Value, threshold: float, default_value: float) -> Value:
    above = b(ops.Greater(), x, b.scalar(float(threshold), x.dtype))
    return b(ops.Where(), above, x, b.scalar(float(default_value), x.dtype))


@activation("squareplus")
@function("Squareplus")
def squareplus(b: Builder, x: Value, b_: float = 4) -> Value:
    """(x + √(x² + b)) / 2."""
    root = b(ops.Sqrt(), b(ops.Add(), b(ops.Square(), x), b.scalar(float(b_), x.dtype)))
    return b(ops.Mul(), b(ops.Add(), x, root), b.scalar(0.5, x.dtype))


@activation("log_sigmoid")
@function("LogSigmoid")
def log_sigmoid(b: Builder, x: Value) -> Value:
    return b(ops.Neg(), b(ops.Softplus(), b(ops.Neg(), x)))


@activation("sparse_sigmoid")
@function("SparseSigmoid")
def sparse_sigmoid(b: Builder, x: Value) -> Value:
    """clip((x + 1) / 2, 0, 1)."""
    line = b(ops.Mul(), b(ops.Add(), x, b.scalar(1.0, x.dtype)), b.scalar(0.5, x.dtype))
    return b(ops.Clip(0.0, 1.0), line)


@activation("sparse_plus")
@function("SparsePlus")
def sparse_plus(b: Builder, x: Value) -> Value:
    """0 up to -1, x from 1 on, (x + 1)² / 4 between them."""
    line = b(ops.Clip(-1.0, 1.0), x)
    bow = b(ops.Mul(), b(ops.Square(), b(ops.Add(), line, b.scalar(1.0, x.dtype))), b.scalar(0.25, x.dtype))
    return b(ops.Add(), bow, b(ops.Relu(), b(ops.Sub(), x, b.scalar(1.0, x.dtype))))


@activation("sparsemax")
@function("Sparsemax")
def sparsemax(b: Builder, x: Value, axis: int = -1) -> Value:
    """The nearest point of the simplex (Martins and Astudillo, arXiv 1602.02068)."""
    at = b.axis(axis, x.rank)
    order = [*(a for a in range(x.rank) if a != at), at]
    last, size = x.rank - 1, x.shape[at]
    turned = b.permute(x, order)
    falling = b.node(ops.TopK(size), turned).outputs[0]
    sums = b(ops.CumSum(last), falling)
    ranks = b.constant(np.arange(1, size + 1, dtype=x.dtype), "ranks")
    less = b(ops.Sub(), sums, b.scalar(1.0, x.dtype))
    held = b(ops.Greater(), b(ops.Sub(), falling, b(ops.Div(), less, ranks)), b.scalar(0.0, x.dtype))
    # Keras sums the running sums of all that is held, not the last one alone
    total = b(ops.ReduceSum((last,), True), b(ops.Where(), held, sums, b.scalar(0.0, x.dtype)))
    count = b(ops.ReduceSum((last,), True), b.cast(held, x.dtype))
    edge = b(ops.Div(), b(ops.Sub(), total, b.scalar(1.0, x.dtype)), count)
    y = b(ops.Relu(), b(ops.Sub(), turned, edge))
    return b.permute(y, [order.index(a) for a in range(x.rank)])


@activation("glu")
@function("Glu")
def glu(b: Builder, x: Value, axis: int = -1) -> Value:
    at = b.axis(axis, x.rank)
    if x.shape[at] % 2:
        raise Unsupported(f"axis {at} of {list(x.shape)} does not split into halves")
    half = x.shape[at] // 2
    gate = b(ops.Sigmoid(), b.slice(x, at, half, 2 * half))
    return b(ops.Mul(), b.slice(x, at, 0, half), gate)


@activation("softmax")
@function("Softmax")
def softmax(b: Builder, x: Value, axis: int | None = -1) -> Value:
    if axis is None:
        return b.reshape(b(ops.Softmax(0), b.reshape(x, (x.size,))), x.shape)
    return b(ops.Softmax(b.axis(axis, x.rank)), x)


@activation("log_softmax")
@function("LogSoftmax")
def log_softmax(b: Builder, x: Value, axis: int | None = -1) -> Value:
    if axis is None:
        return b.reshape(b(ops.LogSoftmax(0), b.reshape(x, (x.size,))), x.shape)
    return b(ops.LogSoftmax(b.axis(axis, x.rank)), x)


# -- layers ------------------------------------------------------------------------------------------------------------
@layer("Activation")
def activation_layer(b: Builder, x: Value) -> Value:
    return b.activated(x, b.field("activation"))


@layer("ReLU")
def relu_layer(b: Builder, x: Value) -> Value:
    high = b.field("max_value")
    slope, edge = b.number("negative_slope", 0.0), b.number("threshold", 0.0)
    return relu_of(b, x, slope, None if high is None else b.number("max_value"), edge)


@layer("LeakyReLU")
def leaky_relu_layer(b: Builder, x: Value) -> Value:
    """Keras 2 calls the slope alpha; both leave it at 0.3, unlike the activation of that name (0.2)."""
    name = "alpha" if b.field("negative_slope") is None else "negative_slope"
    return b(ops.LeakyRelu(b.number(name, 0.3)), x)


@layer("ELU")
def elu_layer(b: Builder, x: Value) -> Value:
    return b(ops.Elu(b.number("alpha", 1.0)), x)


@layer("ThresholdedReLU")
def thresholded_relu(b: Builder, x: Value) -> Value:
    return threshold_of(b, x, b.number("theta", 1.0), 0.0)


@layer("Softmax")
def softmax_layer(b: Builder, x: Value, mask: Any = None) -> Value:
    """What is masked has no part in it, and is 0 in Keras 3 even where nothing else is left."""
    if mask is not None:
        if mask.rank > x.rank or any(n not in (1, m) for n, m in zip(mask.shape[::-1], x.shape[::-1], strict=False)):
            raise Unsupported(f"a mask of {list(mask.shape)} reaches its input of {list(x.shape)}")
        if mask.dtype != "bool":
            mask = b(ops.Greater(), b.cast(mask, "float32"), b.scalar(0.5, "float32"))
        x = b(ops.Where(), mask, x, b.scalar(HIDDEN, x.dtype))
    y = _over(b, x, b.axes("axis", x.rank))
    return y if mask is None or b.major < 3 else b(ops.Where(), mask, y, b.scalar(0.0, x.dtype))


def _over(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    """Softmax over one axis or several."""
    if len(axes) == 1:
        return b(ops.Softmax(axes[0]), x)
    # over several axes: they become one, behind all others
    rest = [a for a in range(x.rank) if a not in axes]
    moved = b.permute(x, [*rest, *axes])
    flat = b.reshape(moved, [*(x.shape[a] for a in rest), math.prod(x.shape[a] for a in axes)])
    back = [[*rest, *axes].index(a) for a in range(x.rank)]
    return b.permute(b.reshape(b(ops.Softmax(flat.rank - 1), flat), moved.shape), back)


@layer("PReLU")
def prelu(b: Builder, x: Value) -> Value:
    """One slope per element of a sample; ``shared_axes`` (counted with the batch) have one slope each."""
    shared = b.field("shared_axes") or []
    axes = {b.axis(a, x.rank) for a in (shared if isinstance(shared, list) else [shared])}
    shape = [1 if a in axes else n for a, n in enumerate(x.shape)][1:]
    slope = b.weight("alpha", shape, "weight", lambda a: a.reshape(-1) if a.size == shape[-1] else a)
    return b(ops.Prelu(), x, slope)
