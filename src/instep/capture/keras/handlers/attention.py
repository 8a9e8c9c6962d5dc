"""Attention: several heads with projections of their own, and the plain dot product."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.activation import HIDDEN
from instep.capture.keras.handlers.shape import repeated
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []

#: Added to what attention must not see: exp() of it is 0 in float32, and it stays finite on every engine.
_MASKED = -1e30


@layer("MultiHeadAttention")
def multi_head_attention(
    b: Builder, query: Value, value: Value | None = None, key: Value | None = None, query_mask: Value | None = None,
    value_mask: Value | None = None, key_mask: Value | None = None, attention_mask: Value | None = None,
    return_attention_scores: bool = False, use_causal_mask: bool = False, **kwargs: Any,
) -> Any:  # fmt: skip
    """Projections to heads, softmax(q kᵀ / √key_dim) v, and one projection back (Vaswani et al., arXiv 1706.03762)."""
    key, value = _checked(query, value, key, kwargs)
    masks, lines = (query_mask, value_mask, key_mask), _Lines(b, query, value)
    if query.rank != 3 and (use_causal_mask or attention_mask is not None or any(m is not None for m in masks)):
        raise Unsupported("a mask reaches it, and its inputs are not [batch, tokens, features]")
    query, value, key = (lines.laid(x) for x in (query, value, key))
    heads, width = b.whole("num_heads"), b.whole("key_dim")
    deep = width if b.field("value_dim") is None else b.whole("value_dim")
    q, k = (_heads(b, x, name, heads, width) for x, name in ((query, "query"), (key, "key")))
    gate = _gate(b, query, heads, deep)
    v = _heads(b, value, "value", heads, deep)
    seen = _seen(b, masks, attention_mask, use_causal_mask, (q.shape[2], k.shape[2]))
    flat, weights = _mixed(b, q, k, v, use_causal_mask, seen, return_attention_scores)
    flat = flat if gate is None else b(ops.Mul(), flat, gate)
    sizes = _made(b, query)
    out = math.prod(sizes)
    made = _project(b, flat, "output", (heads, deep, *sizes), (heads * deep, out), sizes)
    made = lines.back(made, sizes)
    return (made, lines.scores(weights)) if return_attention_scores else made


def _made(b: Builder, query: Value) -> tuple[int, ...]:
    """The sizes of what comes out behind the tokens."""
    out = b.field("output_shape")
    out = out.get("items") if isinstance(out, dict) else out
    sizes = [query.shape[2]] if not out else out if isinstance(out, list) else [out]
    if any(not isinstance(n, int) or n < 1 for n in sizes):
        raise Unsupported(f"its output_shape is {out}")
    return tuple(sizes)


def _gate(b: Builder, query: Value, heads: int, width: int) -> Value | None:
    """What each number that comes of the heads is multiplied by, with ``use_gate``."""
    if not b.flag("use_gate"):
        return None
    features = query.shape[2]
    y = _project(b, query, "gate", (features, heads, width), (features, heads * width), (heads, width))
    return b(ops.Sigmoid(), y)


class _Lines:
    """Tensors of any rank as [batch, tokens, features]: ``attention_axes`` become the tokens, the others batch."""

    def __init__(self, b: Builder, query: Value, value: Value) -> None:
        self.b, self.rank = b, query.rank
        given = b.field("attention_axes")
        given = given.get("items") if isinstance(given, dict) else given
        given = given if isinstance(given, list) or given is None else [given]
        if query.rank < 3 or value.rank != query.rank:
            raise Unsupported(f"its inputs have the shapes {list(query.shape)} and {list(value.shape)}")
        plain = query.rank == 3 or not given
        self.axes = list(range(1, query.rank - 1)) if plain else [a % query.rank for a in given or ()]
        if b.major >= 3 and any(a < 0 for a in given or ()) and not plain:
            raise Unsupported(f"its attention_axes are {given}; count them from the front")
        self.rest = [a for a in range(query.rank - 1) if a not in self.axes]
        if not set(self.axes) < set(range(query.rank - 1)) or 0 in self.axes:
            raise Unsupported(f"its attention_axes are {given} of {list(query.shape)}")
        self.query, self.value = query.shape, value.shape

    def laid(self, x: Value) -> Value:
        if self.rank == 3:
            return x
        turned = self.b.permute(x, (*self.rest, *self.axes, self.rank - 1))
        batch = math.prod(x.shape[a] for a in self.rest)
        return self.b.reshape(turned, (batch, math.prod(x.shape[a] for a in self.axes), x.shape[-1]))

    def back(self, y: Value, sizes: tuple[int, ...]) -> Value:
        """[batch, tokens, made] as the query lies, with ``sizes`` at the end."""
        order = [*self.rest, *self.axes]
        y = self.b.reshape(y, (*(self.query[a] for a in order), *sizes))
        return self.b.permute(y, [*(order.index(a) for a in range(self.rank - 1)), *range(self.rank - 1, y.rank)])

    def scores(self, weights: Value) -> Value:
        lead = [self.query[a] for a in self.rest]
        tokens = (self.query[a] for a in self.axes), (self.value[a] for a in self.axes)
        return self.b.reshape(weights, (*lead, weights.shape[1], *tokens[0], *tokens[1]))


def _checked(query: Value, value: Value | None, key: Value | None, kwargs: Any) -> tuple[Value, Value]:
    """Key and value of a layer that is called as the graph can say it."""
    told = [k for k, v in kwargs.items() if v is not None and v is not False]
    if told or value is None:
        raise Unsupported(f"it is called with {told[0]}" if told else "it is called without a value")
    return (value if key is None else key), value


def _seen(
    b: Builder, masks: Any, attention: Value | None, causal: bool, sizes: tuple[int, int]
) -> Value | None:  # fmt: skip
    """What tokens see of each other, [batch, 1 or heads, query, key], where masks say; None where they do not."""
    query, *others = masks
    parts: list[Value] = []
    if query is not None:
        parts.append(b.reshape(query, (query.shape[0], 1, query.shape[1], 1)))
    parts += [b.reshape(m, (m.shape[0], 1, 1, m.shape[1])) for m in others if m is not None]
    if attention is not None:
        wide = b.cast(attention, "bool")
        parts.append(wide if wide.rank == 4 else b.reshape(wide, (wide.shape[0], 1, *wide.shape[-2:])))
    if b.field("sliding_window") is not None:
        width = b.whole("sliding_window")
        apart = np.abs(np.arange(sizes[0])[:, None] - np.arange(sizes[1]))
        parts.append(b.constant((apart < width)[None, None], "window"))
    if not parts:
        return None
    if causal:
        parts.append(b.constant(np.tril(np.ones((1, 1, *sizes), bool)), "causal"))
    seen = parts[0]
    for part in parts[1:]:
        seen = b(ops.LogicalAnd(), seen, part)
    return seen


def _mixed(
    b: Builder, q: Value, k: Value, v: Value, causal: bool, seen: Value | None = None, told: bool = False
) -> tuple[Value, Value]:
    """softmax(q kᵀ / √width) v of heads [batch, heads, tokens, width], as [batch, tokens, heads · width], and the
    softmax. Keras 3 leaves nothing of a row of which nothing is seen where it computes the softmax by itself, which it
    does to hand it out and to drop some of it."""
    scaled = b(ops.Mul(), q, b.scalar(q.shape[3] ** -0.5, q.dtype))
    scores = b(ops.MatMul(transpose_b=True), scaled, k)
    if seen is not None:
        scores = b(ops.Where(), seen, scores, b.scalar(HIDDEN, scores.dtype))
    elif causal:
        shown = np.tril(np.ones(scores.shape[-2:], bool))
        scores = b(ops.Add(), scores, b.constant(np.where(shown, 0.0, _MASKED).astype(scores.dtype), "causal"))
    weights = b(ops.Softmax(3), scores)
    if seen is not None and b.major >= 3 and (told or b.number("dropout", 0.0)):
        weights = b(ops.Where(), seen, weights, b.scalar(0.0, weights.dtype))
    tokens = b.permute(b(ops.MatMul(), weights, v), (0, 2, 1, 3))
    return b.reshape(tokens, (*tokens.shape[:2], tokens.shape[2] * tokens.shape[3])), weights


@layer("GroupedQueryAttention", "GroupQueryAttention")
def grouped_query_attention(
    b: Builder, query: Value, value: Value | None = None, key: Value | None = None, query_mask: Value | None = None,
    value_mask: Value | None = None, key_mask: Value | None = None, attention_mask: Value | None = None,
    return_attention_scores: bool = False, use_causal_mask: bool = False, **kwargs: Any,
) -> Any:  # fmt: skip
    """As several heads, of which groups share one key and one value (Ainslie et al., arXiv 2305.13245)."""
    key, value = _checked(query, value, key, kwargs)
    if any(v.rank != 3 for v in (query, key, value)):
        raise Unsupported("its inputs are not [batch, tokens, features]")
    heads, shared, width = b.whole("num_query_heads"), b.whole("num_key_value_heads"), b.whole("head_dim")
    if heads % shared:
        raise Unsupported(f"{heads} heads do not share {shared} keys")
    q = _heads(b, query, "query", heads, width)
    k = repeated(b, _heads(b, key, "key", shared, width), 1, heads // shared)
    gate = _gate(b, query, heads, width)
    v = repeated(b, _heads(b, value, "value", shared, width), 1, heads // shared)
    seen = _seen(b, (query_mask, value_mask, key_mask), attention_mask, use_causal_mask, (q.shape[2], k.shape[2]))
    flat, weights = _mixed(b, q, k, v, use_causal_mask, seen, return_attention_scores)
    flat, out = flat if gate is None else b(ops.Mul(), flat, gate), query.shape[2]
    made = _project(b, flat, "output", (heads, width, out), (heads * width, out), (out,))
    return (made, weights) if return_attention_scores else made


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
def attention(b: Builder, parts: Any, mask: Any = None, **kwargs: Any) -> Any:
    """softmax(q kᵀ · scale) v of [query, value] or [query, value, key]; ``concat``: w · Σ tanh(scale · (q + k))."""
    query, value, key = _asked(parts)
    mode = b.field("score_mode", "dot")
    if mode not in ("dot", "concat"):
        raise Unsupported(f"its score_mode is {mode!r}")
    scale = b.weight("scale", (), "scale") if b.flag("use_scale") else None
    if mode == "concat":
        mixed = _pairs(b, query, key)
        mixed = mixed if scale is None else b(ops.Mul(), mixed, scale)
        scores = b(ops.ReduceSum((3,), False), b(ops.Tanh(), mixed))
        scores = b(ops.Mul(), scores, b.weight("concat_score_weight", (), "concat_score_weight"))
    else:
        scores = b(ops.MatMul(transpose_b=True), query, key)
        scores = scores if scale is None else b(ops.Mul(), scores, scale)
    return _applied(b, scores, value, mask, **kwargs)


@layer("AdditiveAttention")
def additive_attention(b: Builder, parts: Any, mask: Any = None, **kwargs: Any) -> Any:
    """softmax(Σ scale · tanh(q + k)) v (Bahdanau et al., arXiv 1409.0473), of [query, value] or [query, value, key]."""
    query, value, key = _asked(parts)
    mixed = b(ops.Tanh(), _pairs(b, query, key))
    if b.flag("use_scale", True):
        mixed = b(ops.Mul(), mixed, b.weight("scale", (query.shape[2],), "scale"))
    return _applied(b, b(ops.ReduceSum((3,), False), mixed), value, mask, **kwargs)


def _pairs(b: Builder, query: Value, key: Value) -> Value:
    """q + k of every two tokens."""
    if query.rank != 3 or key.rank != 3:
        raise Unsupported("its inputs are not [batch, tokens, features]")
    each, every = (query.shape[0], query.shape[1], 1, query.shape[2]), (key.shape[0], 1, key.shape[1], key.shape[2])
    return b(ops.Add(), b.reshape(query, each), b.reshape(key, every))


def _applied(
    b: Builder, scores: Value, value: Value, mask: Any, return_attention_scores: bool = False,
    use_causal_mask: bool = False, **kwargs: Any,
) -> Any:  # fmt: skip
    """softmax(scores) v; values that are masked are not seen, what is asked by masked queries is 0."""
    told = [k for k, v in kwargs.items() if v is not None and v is not False]
    if told:
        raise Unsupported(f"it is called with {told[0]}")
    query_mask, value_mask = (*(mask if isinstance(mask, list | tuple) else [mask]), None)[:2]
    seen = None if value_mask is None else b.reshape(value_mask, (value_mask.shape[0], 1, value_mask.shape[1]))
    if use_causal_mask:
        causal = b.constant(np.tril(np.ones((1, *scores.shape[-2:]), bool)), "causal")
        seen = causal if seen is None else b(ops.LogicalAnd(), seen, causal)
    if seen is not None:
        scores = b(ops.Where(), seen, scores, b.scalar(HIDDEN, scores.dtype))
    weights = b(ops.Softmax(scores.rank - 1), scores)
    made = b(ops.MatMul(), weights, value)
    if query_mask is not None:
        made = b(ops.Where(), b.reshape(query_mask, (*query_mask.shape, 1)), made, b.scalar(0.0, made.dtype))
    return (made, weights) if return_attention_scores else made


def _asked(parts: Any) -> tuple[Value, Value, Value]:
    """Query, value and key, which is the value where none is given."""
    if not isinstance(parts, list | tuple) or len(parts) not in (2, 3):
        raise Unsupported("it is not called with [query, value] or [query, value, key]")
    query, value, *rest = parts
    return query, value, rest[0] if rest else value
