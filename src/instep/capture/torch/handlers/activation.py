"""Activation functions."""

from __future__ import annotations

import math
from typing import Any

from instep.capture.torch.builder import Builder, Scalar
from instep.capture.torch.registry import HANDLERS, Missing, handles
from instep.graph import Operator, Value, ops

__all__: list[str] = []

PLAIN: dict[str, type[Operator]] = {
    "relu": ops.Relu, "silu": ops.Silu, "mish": ops.Mish, "hardswish": ops.HardSwish, "hardsigmoid": ops.HardSigmoid,
    "selu": ops.Selu,
}  # fmt: skip


def _plain(kind: type[Operator]) -> Any:
    def handler(b: Builder, x: Value) -> Value:
        return b(kind(), x)

    return handler


HANDLERS.update({name: _plain(kind) for name, kind in PLAIN.items()})


@handles("gelu")
def gelu(b: Builder, x: Value, approximate: str = "none") -> Value:
    return b(ops.Gelu(approximate == "tanh"), x)


@handles("leaky_relu")
def leaky_relu(b: Builder, x: Value, negative_slope: float = 0.01) -> Value:
    return b(ops.LeakyRelu(float(negative_slope)), x)


@handles("rrelu")
def rrelu(
    b: Builder, x: Value, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, _: Any = None
) -> Value:
    if training:
        raise b.fail("rrelu in training mode is random; call eval() on the module")
    return b(ops.LeakyRelu((lower + upper) / 2), x)


@handles("elu")
def elu(b: Builder, x: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Value:
    if scale == 1 and input_scale == 1:
        return b(ops.Elu(float(alpha)), x)
    one = b.scalar(1.0, x.dtype)
    negative = b(ops.Sub(), b(ops.Exp(), b(ops.Mul(), x, b.scalar(input_scale, x.dtype))), one)
    negative = b(ops.Mul(), negative, b.scalar(alpha * scale, x.dtype))
    positive = b(ops.Mul(), x, b.scalar(scale, x.dtype))
    return b(ops.Where(), b(ops.Greater(), x, b.scalar(0, x.dtype)), positive, negative)


@handles("celu")
def celu(b: Builder, x: Value, alpha: float = 1.0) -> Value:
    return b(ops.Celu(float(alpha)), x)


@handles("softplus")
def softplus(b: Builder, x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    return b(ops.Softplus(float(beta), float(threshold)), x)


@handles("hardtanh")
def hardtanh(b: Builder, x: Value, min_val: Scalar = -1.0, max_val: Scalar = 1.0) -> Value:
    return b(ops.Clip(float(min_val), float(max_val)), x)


@handles("relu6")
def relu6(b: Builder, x: Value) -> Value:
    return b(ops.Clip(0.0, 6.0), x)


@handles("clamp", "clip", "clamp_min", "clamp_max")
def clamp(b: Builder, x: Value, *bounds: Any, **named: Any) -> Value:
    name = str(b.step.target)
    low = named.get("min", None if "clamp_max" in name or not bounds else bounds[0])
    high = named.get("max", bounds[0] if "clamp_max" in name and bounds else bounds[1] if len(bounds) > 1 else None)
    dtype = b.dtype()
    x = b.cast(x, dtype)
    if isinstance(low, Value) or isinstance(high, Value):
        if low is not None:
            x = b(ops.Maximum(), x, b.operand(low, dtype))
        return x if high is None else b(ops.Minimum(), x, b.operand(high, dtype))
    return b(ops.Clip(-math.inf if low is None else float(low), math.inf if high is None else float(high)), x)


@handles("threshold")
def threshold(b: Builder, x: Value, limit: Scalar, value: Scalar) -> Value:
    if limit == 0 and value == 0:
        return b(ops.Relu(), x)
    return b(ops.Where(), b(ops.Greater(), x, b.scalar(limit, x.dtype)), x, b.scalar(value, x.dtype))


@handles("hardshrink")
def hardshrink(b: Builder, x: Value, lambd: Scalar = 0.5) -> Value:
    large = b(ops.Greater(), b(ops.Abs(), x), b.scalar(lambd, x.dtype))
    return b(ops.Where(), large, x, b.scalar(0.0, x.dtype))


@handles("softshrink")
def softshrink(b: Builder, x: Value, lambd: Scalar = 0.5) -> Value:
    # x minus its projection on [-λ, λ]
    return b(ops.Sub(), x, b(ops.Clip(-float(lambd), float(lambd)), x))


@handles("tanhshrink")
def tanhshrink(b: Builder, x: Value) -> Value:
    return b(ops.Sub(), x, b(ops.Tanh(), x))


@handles("softsign")
def softsign(b: Builder, x: Value) -> Value:
    return b(ops.Div(), x, b(ops.Add(), b(ops.Abs(), x), b.scalar(1.0, x.dtype)))


@handles("log_sigmoid", "logsigmoid")
def log_sigmoid(b: Builder, x: Value) -> Value:
    return b(ops.Neg(), b(ops.Softplus(threshold=math.inf), b(ops.Neg(), x)))


@handles("log_sigmoid_forward")
def log_sigmoid_forward(b: Builder, x: Value) -> tuple[Value, Missing]:
    return log_sigmoid(b, x), Missing("what log_sigmoid keeps for its gradient")


@handles("logit", "special_logit")
def logit(b: Builder, x: Value, eps: float | None = None) -> Value:
    if eps is not None:
        x = b(ops.Clip(eps, 1 - eps), x)
    return b(ops.Log(), b(ops.Div(), x, b(ops.Sub(), b.scalar(1.0, x.dtype), x)))


@handles("glu")
def glu(b: Builder, x: Value, dim: int = -1) -> Value:
    axis = dim % x.rank
    half = x.shape[axis] // 2
    gate = b(ops.Sigmoid(), b.slice(x, axis, half, 2 * half))
    return b(ops.Mul(), b.slice(x, axis, 0, half), gate)


@handles("prelu", "_prelu_kernel")
def prelu(b: Builder, x: Value, weight: Value) -> Value:
    if weight.size > 1 and weight.rank == 1:
        weight = b.reshape(weight, [weight.size, *[1] * (x.rank - 2)])
    return b(ops.Prelu(), x, weight)
