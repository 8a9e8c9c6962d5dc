"""Attention: several heads with projections of their own, and the plain dot product."""

from __future__ import annotations

from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.shape import repeated
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []

#: Added to what attention must not see: exp() of it is 0 in float32, and it stays finite on every engine.
_MASKED = -1e30


@layer("MultiHeadAttention")
def multi_head_attention(
    b: Builder, query: Value, value: Value | None = None, key: Value | None = None, use_causal_mask: bool = False,
    **kwargs: Any,
) -> Value:  # fmt: skip
    """Projections to heads, softmax(q kᵀ / √key_dim) v, and one projection back (Vaswani et al., arXiv 1706.03762)."""
    given = [k for k, v in kwargs.items() if v is not None and v is not False]
    if given or value is None:
        raise Unsupported(f"it is called with {given[0]}" if given else "it is called without a value")
    key = value if key is None else key
    if any(v.rank != 3 for v in (query, key, value)) or b.field("use_gate") or b.field("sliding_window"):
        raise Unsupported("its inputs are not [batch, tokens, features], or it has a gate or a sliding window")
    heads, width = b.whole("num_heads"), b.whole("key_dim")
    deep = width if b.field("value_dim") is None else b.whole("value_dim")
    q, k, v = (
        _heads(b, x, name, heads, size)
        for x, name, size in ((query, "query", width), (key, "key", width), (value, "value", deep))
    )
    flat = _mixed(b, q, k, v, use_causal_mask)
    out = b.field("output_shape")
    out = out[0] if isinstance(out, list) and len(out) == 1 else out
    out = query.shape[2] if out is None else out
    if not isinstance(out, int) or out < 1:
        raise Unsupported(f"its output_shape is {out}")
    return _project(b, flat, "output", (heads, deep, out), (heads * deep, out), (out,))


def _mixed(b: Builder, q: Value, k: Value, v: Value, causal: bool) -> Value:
    """softmax(q kᵀ / √width) v of heads [batch, heads, tokens, width], as [batch, tokens, heads · width]."""
    scaled = b(ops.Mul(), q, b.scalar(q.shape[3] ** -0.5, q.dtype))
    scores = b(ops.MatMul(transpose_b=True), scaled, k)
    if causal:
        seen = np.tril(np.ones(scores.shape[-2:], bool))
        scores = b(ops.Add(), scores, b.constant(np.where(seen, 0.0, _MASKED).astype(scores.dtype), "causal"))
    tokens = b.permute(b(ops.MatMul(), b(ops.Softmax(3), scores), v), (0, 2, 1, 3))
    return b.reshape(tokens, (*tokens.shape[:2], tokens.shape[2] * tokens.shape[3]))


@layer("GroupedQueryAttention", "GroupQueryAttention")
def grouped_query_attention(
    b: Builder, query: Value, value: Value | None = None, key: Value | None = None, use_causal_mask: bool = False,
    **kwargs: Any,
) -> Value:  # fmt: skip
    """As several heads, of which groups share one key and one value (Ainslie et al., arXiv 2305.13245)."""
    given = [k for k, v in kwargs.items() if v is not None and v is not False]
    if given or value is None:
        raise Unsupported(f"it is called with {given[0]}" if given else "it is called without a value")
    if any(v.rank != 3 for v in (query, value)) or b.field("use_gate") or b.field("sliding_window"):
        raise Unsupported("its inputs are not [batch, tokens, features], or it has a gate or a sliding window")
    heads, shared, width = b.whole("num_query_heads"), b.whole("num_key_value_heads"), b.whole("head_dim")
    if heads % shared:
        raise Unsupported(f"{heads} heads do not share {shared} keys")
    q = _heads(b, query, "query", heads, width)
    k, v = (
        repeated(b, _heads(b, x, name, shared, width), 1, heads // shared)
        for x, name in ((value if key is None else key, "key"), (value, "value"))
    )
    flat, out = _mixed(b, q, k, v, use_causal_mask), query.shape[2]
    return _project(b, flat, "output", (heads, width, out), (heads * width, out), (out,))


def _heads(b: Builder, x: Value, name: str, heads: int, each: int) -> Value:
    """[batch, tokens, features] to [batch, heads, tokens, each]."""
    features = x.shape[2]
    y = _project(b, x, name, (features, heads, each), (features, heads * each), (heads, each))
    return b.permute(b.reshape(y, (*y.shape[:2], heads, each)), (0, 2, 1, 3))


def _project(b: Builder, x: Value, name: str, kernel: Any, matrix: tuple[int, int], bias: tuple[int, ...]) -> Value:
    layer = b.place.layer
    with b.inside(layer, f"{name}_dense", name):
        inputs = [x, b.weight("kernel", kernel, "weight", lambda a: a.reshape(matrix).T)]
        if b.flag("use_bias", True):
            inputs.append(b.weight("bias", bias, "bias", lambda a: a.reshape(-1)))
        return b(ops.Linear(), *inputs)


@layer("Attention")
def attention(b: Builder, parts: Any, **kwargs: Any) -> Value:
    """softmax(q kᵀ · scale) v of [query, value] or [query, value, key]."""
    query, value, key = _asked(parts, kwargs)
    if b.field("score_mode", "dot") != "dot":
        raise Unsupported(f"its score_mode is {b.field('score_mode')!r}")
    scores = b(ops.MatMul(transpose_b=True), query, key)
    if b.flag("use_scale"):
        scores = b(ops.Mul(), scores, b.weight("scale", (), "scale"))
    return b(ops.MatMul(), b(ops.Softmax(scores.rank - 1), scores), value)


@layer("AdditiveAttention")
def additive_attention(b: Builder, parts: Any, **kwargs: Any) -> Value:
    """softmax(Σ scale · tanh(q + k)) v (Bahdanau et al., arXiv 1409.0473), of [query, value] or [query, value, key]."""
    query, value, key = _asked(parts, kwargs)
    if query.rank != 3 or key.rank != 3:
        raise Unsupported("its inputs are not [batch, tokens, features]")
    each, every = (query.shape[0], query.shape[1], 1, query.shape[2]), (key.shape[0], 1, key.shape[1], key.shape[2])
    mixed = b(ops.Tanh(), b(ops.Add(), b.reshape(query, each), b.reshape(key, every)))
    if b.flag("use_scale", True):
        mixed = b(ops.Mul(), mixed, b.weight("scale", (query.shape[2],), "scale"))
    scores = b(ops.ReduceSum((3,), False), mixed)
    return b(ops.MatMul(), b(ops.Softmax(2), scores), value)


def _asked(parts: Any, kwargs: dict[str, Any]) -> tuple[Value, Value, Value]:
    """Query, value and key, which is the value where none is given."""
    if any(v is not None and v is not False for v in kwargs.values()) or not isinstance(parts, list | tuple):
        raise Unsupported("it is called with more than [query, value, key]")
    query, value, *rest = parts
    return query, value, rest[0] if rest else value
