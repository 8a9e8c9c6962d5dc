"""Softmax and scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.capture.torch.builder import Builder
from instep.capture.torch.registry import handles
from instep.graph import Value, ops

__all__: list[str] = []

#: Added to what attention must not see: exp() of it is 0 in float32, and it stays finite on every engine.
MASKED = -1e30


@handles("softmax", "_softmax", "special_softmax", "_safe_softmax")
def softmax(b: Builder, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    return b(ops.Softmax(dim % x.rank), b.cast(x, b.dtype()))


@handles("log_softmax", "_log_softmax", "special_log_softmax")
def log_softmax(b: Builder, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    return b(ops.LogSoftmax(dim % x.rank), b.cast(x, b.dtype()))


@handles(
    "scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math"
)
def attention(
    b: Builder,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(scale · Q Kᵀ + mask) V (Vaswani et al., arXiv 1706.03762)."""
    if dropout_p:
        raise b.fail("dropout in attention is random; call eval() on the module")
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        key, value = (_repeat_heads(b, v, query.shape[-3] // v.shape[-3]) for v in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    scaled = query if scale == 1 else b(ops.Mul(), query, b.scalar(scale, query.dtype))
    scores = b(ops.MatMul(transpose_b=True), scaled, key)
    if is_causal:
        seen = np.tril(np.ones(scores.shape[-2:], bool))
        scores = b(ops.Add(), scores, b.constant(np.where(seen, 0.0, MASKED).astype(scores.dtype), "causal"))
    if attn_mask is not None:
        scores = _masked(b, scores, attn_mask)
    y = b(ops.MatMul(), b(ops.Softmax(scores.rank - 1), scores), value)
    return (y,) if isinstance(b.step.val, (list, tuple)) else y


def _masked(b: Builder, scores: Value, mask: Value) -> Value:
    array = b.array(mask)
    if mask.dtype != "bool":
        if array is not None and not np.isfinite(array).all():
            mask = b.constant(np.maximum(array, np.asarray(MASKED, array.dtype)), "mask")
        return b(ops.Add(), scores, b.cast(mask, scores.dtype))
    if array is not None:
        return b(ops.Add(), scores, b.constant(np.where(array, 0.0, MASKED).astype(scores.dtype), "mask"))
    return b(ops.Where(), mask, scores, b.scalar(MASKED, scores.dtype))


def _repeat_heads(b: Builder, x: Value, times: int) -> Value:
    """[..., H, L, E] → [..., H·times, L, E], each head repeated in place."""
    *lead, h, length, e = x.shape
    wide = b.expand(b.reshape(x, (*lead, h, 1, length, e)), (*lead, h, times, length, e))
    return b.reshape(wide, (*lead, h * times, length, e))
