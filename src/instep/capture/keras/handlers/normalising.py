"""Functions that normalise, and the attention that keras.ops has."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.activation import HIDDEN
from instep.capture.keras.handlers.matrices import norm, tensor
from instep.capture.keras.handlers.reductions import moments_of
from instep.capture.keras.handlers.shape import repeated
from instep.capture.keras.registry import Unsupported, function
from instep.graph import Value, ops

__all__ = ["root_mean_square", "standardised"]

#: ``keras.backend.epsilon()``, which functions take where they are given none.
EPSILON = 1e-7


@function("Normalize", "tf.math.l2_normalize", "tf.nn.l2_normalize")
def normalize(b: Builder, x: Value, axis: Any = -1, order: Any = 2, epsilon: float | None = None,
              name: Any = None, dim: Any = None) -> Value:  # fmt: skip
    """x over its norm; keras.ops bounds the root from below, TensorFlow the sum."""
    if order != 2:
        size = norm(b, x, order, axis, True)
        return b(ops.Div(), x, b(ops.Maximum(), size, b.scalar(EPSILON if epsilon is None else epsilon, x.dtype)))
    total = b(ops.ReduceSum(b.all_axes(axis, x.rank), True), b(ops.Square(), x))
    bound = (EPSILON if epsilon is None else epsilon) ** 2 if b.major >= 3 else 1e-12 if epsilon is None else epsilon
    return b(ops.Mul(), x, b(ops.Rsqrt(), b(ops.Maximum(), total, b.scalar(float(bound), x.dtype))))


def _aligned(b: Builder, vector: Any, axes: tuple[int, ...], x: Value) -> Value:
    """A vector (or array, or number) of some axes, with ones for the others."""
    if isinstance(vector, int | float):
        return b.scalar(float(vector), x.dtype)
    v = b.cast(tensor(b, vector), x.dtype)
    if not v.rank or v.rank == x.rank:
        return v
    return b.reshape(v, [n if a in axes else 1 for a, n in enumerate(x.shape)])


@function("BatchNorm", "tf.nn.batch_normalization")
def batch_norm(b: Builder, x: Value, mean: Any = None, variance: Any = None, offset: Any = None, scale: Any = None,
               axis: Any = -1, epsilon: float = 1e-3, variance_epsilon: Any = None,
               name: Any = None) -> Value:  # fmt: skip
    """(x - mean) · scale / √(variance + ε) + offset, all of which may be computed."""
    axes = b.all_axes(axis, x.rank)
    spread = _aligned(b, variance, axes, x)
    eps = epsilon if variance_epsilon is None else variance_epsilon
    factor = b(ops.Rsqrt(), b(ops.Add(), spread, b.scalar(float(eps), x.dtype)))
    if scale is not None:
        factor = b(ops.Mul(), factor, _aligned(b, scale, axes, x))
    y = b(ops.Mul(), b(ops.Sub(), x, _aligned(b, mean, axes, x)), factor)
    return y if offset is None else b(ops.Add(), y, _aligned(b, offset, axes, x))


@function("LayerNorm")
def layer_norm(b: Builder, x: Value, gamma: Any = None, beta: Any = None, axis: Any = -1,
               epsilon: float | None = None, rms_scaling: bool = False) -> Value:  # fmt: skip
    axes, eps = b.all_axes(axis, x.rank), EPSILON if epsilon is None else epsilon
    if rms_scaling:
        y = standardised(b, x, axes, eps)
        return y if gamma is None else b(ops.Mul(), y, _aligned(b, gamma, axes, x))
    shape = tuple(x.shape[a] for a in axes)

    def vector(given: Any, number: float) -> Value:
        if given is None:
            return b.constant(np.full(shape, number, x.dtype), "plain")
        return b.expand(b.cast(tensor(b, given), x.dtype), shape)

    vectors = [vector(gamma, 1.0), vector(beta, 0.0)]
    return b(ops.LayerNorm(axes, float(eps)), x, *vectors)


def standardised(b: Builder, x: Value, axes: tuple[int, ...], epsilon: float) -> Value:
    """x / √(variance + ε): what Keras calls rms_scaling, which leaves the mean where it is."""
    spread = moments_of(b, x, axes, True)[1]
    return b(ops.Mul(), x, b(ops.Rsqrt(), b(ops.Add(), spread, b.scalar(float(epsilon), x.dtype))))


@function("RMSNorm")
def rms_norm(b: Builder, x: Value, scale: Any = None, axis: Any = -1, epsilon: float | None = None) -> Value:
    axes, eps = b.all_axes(axis, x.rank), EPSILON if epsilon is None else epsilon
    last = (x.rank - 1,)
    if axes == last and (scale is None or (isinstance(scale, Value | list) and tensor(b, scale).shape == x.shape[-1:])):
        weight = b.constant(np.ones(x.shape[-1:], x.dtype), "plain") if scale is None else tensor(b, scale)
        return b(ops.RmsNorm(axes, float(eps)), x, weight)
    y = root_mean_square(b, x, axes, eps)
    if scale is None:
        return y
    return b(ops.Mul(), y, b.scalar(float(scale), x.dtype) if isinstance(scale, int | float) else tensor(b, scale))


def root_mean_square(b: Builder, x: Value, axes: tuple[int, ...], epsilon: float) -> Value:
    """x / √(mean(x²) + ε)."""
    mean = b(ops.ReduceMean(axes, True), b(ops.Square(), x))
    return b(ops.Mul(), x, b(ops.Rsqrt(), b(ops.Add(), mean, b.scalar(float(epsilon), x.dtype))))


@function("DotProductAttention")
def attention(b: Builder, query: Value, key: Value = None, value: Value = None, bias: Any = None,  # type: ignore
              mask: Any = None, scale: Any = None, is_causal: bool = False, flash_attention: Any = None,
              attn_logits_soft_cap: Any = None) -> Value:  # fmt: skip
    """softmax(q kᵀ · scale + bias) v of [batch, tokens, heads, width]; heads may share keys in groups."""
    if attn_logits_soft_cap:
        raise Unsupported("it caps its scores, which Keras itself does on TPUs alone")
    groups, rest = divmod(query.shape[2], key.shape[2])
    if rest:
        raise Unsupported(f"{query.shape[2]} heads do not share {key.shape[2]} keys")
    q, k, v = (b.permute(x, (0, 2, 1, 3)) for x in (query, key, value))
    k, v = (repeated(b, x, 1, groups) for x in (k, v))
    factor = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    factor = b.operand(factor, q.dtype)
    scores = b(ops.MatMul(transpose_b=True), b(ops.Mul(), q, factor), k)
    if bias is not None:
        scores = b(ops.Add(), scores, tensor(b, bias))
    seen = None if mask is None else b.cast(tensor(b, mask), "bool")
    if is_causal:
        causal = b.constant(np.tril(np.ones(scores.shape[-2:], bool)), "causal")
        seen = causal if seen is None else b(ops.LogicalAnd(), seen, causal)
    if seen is not None:
        scores = b(ops.Where(), seen, scores, b.scalar(HIDDEN, scores.dtype))
    return b.permute(b(ops.MatMul(), b(ops.Softmax(3), scores), v), (0, 2, 1, 3))
