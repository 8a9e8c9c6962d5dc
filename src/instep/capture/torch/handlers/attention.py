"""Softmax and scaled dot-product attention.

Where a row is -inf throughout, as for a query that may look at nothing, ``softmax`` is NaN and the fused attention 0
(PyTorch documentation, ``torch.nn.functional.scaled_dot_product_attention``; ``aten::_safe_softmax``). Such rows cost
operators, so they are made only where a row can be so.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.capture.torch.builder import Builder
from instep.capture.torch.infinite import may_be_infinite
from instep.capture.torch.registry import handles
from instep.graph import Value, ops

__all__: list[str] = []

#: Added to what attention must not see: exp() of it is 0 in float32, and it stays finite on every engine.
MASKED = -1e30


@handles("softmax", "_softmax", "special_softmax")
def softmax(b: Builder, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    return b(ops.Softmax(dim % x.rank), b.cast(x, b.dtype()))


@handles("_safe_softmax")
def safe_softmax(b: Builder, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    x, axis = b.cast(x, b.dtype()), dim % x.rank
    if not may_be_infinite(b.graph, x):
        return b(ops.Softmax(axis), x)
    y = b(ops.Softmax(axis), b(ops.Maximum(), x, b.scalar(MASKED, x.dtype)))
    return b(ops.Mul(), y, _open(b, x, axis))


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
    open_rows = None
    if attn_mask is not None:
        scores, open_rows = _masked(b, scores, attn_mask)
    y = b(ops.MatMul(), b(ops.Softmax(scores.rank - 1), scores), value)
    if open_rows is not None:
        y = b(ops.Mul(), y, open_rows)
    return (y,) if isinstance(b.step.val, (list, tuple)) else y


def _masked(b: Builder, scores: Value, mask: Value) -> tuple[Value, Value | None]:
    """The scores with what is masked far below all others, and the factor (1 or 0) of each row of the result.

    The factor is None where every row sees something. A row that sees nothing keeps scores that give no NaN.
    """
    dtype, known = scores.dtype, b.known(mask, "attn_mask", 3)
    if known is not None:
        return _masked_by_known(b, scores, mask, known)
    if mask.dtype == "bool":
        return b(ops.Where(), mask, scores, b.scalar(MASKED, dtype)), b.cast(_any_of(b, mask), dtype)
    mask = b.cast(mask, dtype)
    if not may_be_infinite(b.graph, mask):
        return b(ops.Add(), scores, mask), None
    finite = b(ops.Maximum(), mask, b.scalar(MASKED, dtype))
    return b(ops.Add(), scores, finite), _open(b, mask, mask.rank - 1)


def _masked_by_known(b: Builder, scores: Value, mask: Value, known: np.ndarray) -> tuple[Value, Value | None]:
    """``known``: the values of ``mask``, which are those of constants or of parameters."""
    dtype = scores.dtype
    seen = known if mask.dtype == "bool" else ~np.isneginf(known)
    rows = seen.any(-1, keepdims=True)
    factor = None if rows.all() else b.constant(rows.astype(dtype), "open")
    if mask.dtype != "bool" and seen.all():
        return b(ops.Add(), scores, b.cast(mask, dtype)), factor
    if b.array(mask) is None:
        mask = b.cast(mask, dtype)  # of parameters that stay trainable
        return b(ops.Add(), scores, b(ops.Maximum(), mask, b.scalar(MASKED, dtype))), factor
    bias = np.zeros(known.shape) if mask.dtype == "bool" else np.maximum(known, MASKED)
    bias = np.where(seen, bias, np.where(rows, MASKED, 0.0))
    return b(ops.Add(), scores, b.constant(bias.astype(dtype), "mask")), factor


def _any_of(b: Builder, mask: Value) -> Value:
    return b(ops.ReduceAny(axes=(mask.rank - 1,), keepdims=True), mask)  # type: ignore[call-arg]


def _open(b: Builder, x: Value, axis: int) -> Value:
    """1 for each row of ``x`` along ``axis`` that holds more than -inf, else 0."""
    peak = b(ops.ReduceMax(axes=(axis,), keepdims=True), x)  # type: ignore[call-arg]
    return b.cast(b(ops.GreaterEqual(), peak, b.scalar(float(np.finfo(x.dtype).min), x.dtype)), x.dtype)


def _repeat_heads(b: Builder, x: Value, times: int) -> Value:
    """[..., H, L, E] → [..., H·times, L, E], each head repeated in place."""
    *lead, h, length, e = x.shape
    wide = b.expand(b.reshape(x, (*lead, h, 1, length, e)), (*lead, h, times, length, e))
    return b.reshape(wide, (*lead, h * times, length, e))
