"""Normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from instep.capture.torch.builder import Builder
from instep.capture.torch.registry import handles
from instep.graph import Value, ops

__all__: list[str] = []


def _or_full(b: Builder, value: Value | None, shape: Sequence[int], number: float, dtype: str) -> Value:
    """A missing weight is ones, a missing bias zeros."""
    return value if value is not None else b.full(shape, number, dtype)


@handles("batch_norm", "_native_batch_norm_legit_no_training")
def batch_norm(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, var: Value | None, *rest: Any
) -> Any:
    training, momentum, eps = (rest[0], rest[1], rest[2]) if len(rest) > 2 else (False, *rest)
    c = x.shape[1]
    weight, bias = _or_full(b, weight, (c,), 1.0, x.dtype), _or_full(b, bias, (c,), 0.0, x.dtype)
    if training or mean is None or var is None:
        return _batch_statistics(b, x, weight, bias, float(eps))
    y = b(ops.BatchNorm(float(eps), 1, float(momentum)), x, weight, bias, mean, var)
    return (y,) if isinstance(b.step.val, (list, tuple)) else y


def _batch_statistics(b: Builder, x: Value, weight: Value, bias: Value, eps: float) -> Value:
    """The statistics of the batch at hand: group norm of [1, C, N·...] with one group per channel."""
    perm = (1, 0, *range(2, x.rank))
    flat = b.permute(x, perm)
    rows = b.reshape(flat, (1, x.shape[1], x.size // x.shape[1]))
    y = b(ops.GroupNorm(x.shape[1], eps), rows, weight, bias)
    return b.permute(b.reshape(y, flat.shape), perm)


@handles("instance_norm")
def instance_norm(
    b: Builder,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Value:
    c = x.shape[1]
    weight, bias = _or_full(b, weight, (c,), 1.0, x.dtype), _or_full(b, bias, (c,), 0.0, x.dtype)
    if not use_input_stats and mean is not None and var is not None:
        return b(ops.BatchNorm(float(eps), 1, float(momentum)), x, weight, bias, mean, var)
    return b(ops.GroupNorm(c, float(eps)), x, weight, bias)


@handles("group_norm")
def group_norm(
    b: Builder,
    x: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    c = x.shape[1]
    weight, bias = _or_full(b, weight, (c,), 1.0, x.dtype), _or_full(b, bias, (c,), 0.0, x.dtype)
    return b(ops.GroupNorm(num_groups, float(eps)), x, weight, bias)


@handles("layer_norm", "native_layer_norm")
def layer_norm(
    b: Builder,
    x: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Any:
    shape = tuple(normalized_shape)
    axes = tuple(range(x.rank - len(shape), x.rank))
    weight, bias = _or_full(b, weight, shape, 1.0, x.dtype), _or_full(b, bias, shape, 0.0, x.dtype)
    y = b(ops.LayerNorm(axes, float(eps)), x, weight, bias)
    return (y,) if isinstance(b.step.val, (list, tuple)) else y


@handles("rms_norm")
def rms_norm(
    b: Builder, x: Value, normalized_shape: Sequence[int], weight: Value | None = None, eps: float | None = None
) -> Value:
    shape = tuple(normalized_shape)
    axes = tuple(range(x.rank - len(shape), x.rank))
    eps = float(np.finfo(x.dtype).eps) if eps is None else float(eps)
    return b(ops.RmsNorm(axes, eps), x, _or_full(b, weight, shape, 1.0, x.dtype))


@handles("_weight_norm", "_weight_norm_interface")
def weight_norm(b: Builder, v: Value, g: Value, dim: int = 0) -> Value:
    """g · v / ‖v‖ with the norm over all axes but ``dim``; -1 is no axis here: it says all of them."""
    axes = tuple(a for a in range(v.rank) if a != dim)
    length = b(ops.Sqrt(), b(ops.ReduceSum(axes=axes, keepdims=True), b(ops.Square(), v)))  # type: ignore[call-arg]
    return b(ops.Mul(), v, b(ops.Div(), g, length))
