"""Layers that join several values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instep.capture.keras.builder import Builder
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []

_KINDS: dict[str, Any] = {
    "Add": ops.Add, "Subtract": ops.Sub, "Multiply": ops.Mul, "Average": ops.Add, "Maximum": ops.Maximum,
    "Minimum": ops.Minimum,
}  # fmt: skip


def _values(parts: Any) -> list[Value]:
    if not isinstance(parts, list | tuple) or not parts or any(not isinstance(p, Value) for p in parts):
        raise Unsupported("it is not called with a list of tensors")
    return list(parts)


@layer(*_KINDS)
def merge(b: Builder, parts: Sequence[Value], *more: Value, mask: Any = None) -> Value:
    kind = b.place.layer.kind
    values = _values([parts, *more] if isinstance(parts, Value) else parts)
    rank = max(v.rank for v in values)
    # Keras puts the axes that a value lacks behind its batch
    values = [b.reshape(v, (v.shape[0], *(1,) * (rank - v.rank), *v.shape[1:])) for v in values]
    if kind == "Average":
        values = [b.floating(v) for v in values]
    if kind == "Subtract" and len(values) != 2:
        raise Unsupported(f"it subtracts {len(values)} values")
    if b.major >= 3 and kind in ("Multiply", "Maximum", "Minimum") and isinstance(mask, list | tuple) and any(mask):
        return _shown(b, values, [None if m is None else b.reshape(m, (*m.shape, 1)) for m in mask])
    y = values[0]
    for value in values[1:]:
        y = b(_KINDS[kind](), y, value)
    return b(ops.Mul(), y, b.scalar(1 / len(values), y.dtype)) if kind == "Average" and len(values) > 1 else y


def _shown(b: Builder, values: list[Value], masks: list[Value | None]) -> Value:
    """Keras 3: what is masked takes no part in a product, a maximum or a minimum with what is not."""
    kind = b.place.layer.kind
    if kind == "Multiply":
        return _product(b, values, masks)
    y, seen = values[0], masks[0]
    for x, mask in zip(values[1:], masks[1:], strict=True):
        x = x if mask is None else b(ops.Where(), mask, x, y)
        y = y if seen is None else b(ops.Where(), seen, y, x)
        seen = None if seen is None or mask is None else b(ops.LogicalOr(), seen, mask)
        y = b(_KINDS[kind](), y, x)
    return y


def _product(b: Builder, values: list[Value], masks: list[Value | None]) -> Value:
    y: Value | None = None
    for x, mask in zip(values, masks, strict=True):
        x = x if mask is None else b(ops.Where(), mask, x, b.scalar(1.0, x.dtype))
        y = x if y is None else b(ops.Mul(), y, x)
    known = [m for m in masks if m is not None]
    assert y is not None
    if len(known) < len(masks):
        return y
    seen = known[0]
    for mask in known[1:]:
        seen = b(ops.LogicalOr(), seen, mask)
    return b(ops.Where(), seen, y, b.scalar(0.0, y.dtype))


@layer("Concatenate")
def concatenate(b: Builder, parts: Sequence[Value]) -> Value:
    values = _values(parts)
    return b.concat(values, b.axis(b.field("axis", -1), values[0].rank))


@layer("Dot")
def dot(b: Builder, parts: Sequence[Value]) -> Value:
    """A batched product over one axis of each."""
    first, second = _values(parts)
    axes = b.field("axes")
    axes = axes if isinstance(axes, list) else [axes, axes]
    if len(axes) != 2 or first.rank < 2 or second.rank < 2:
        raise Unsupported(f"axes {axes} of {list(first.shape)} and {list(second.shape)}")
    i, j = b.axis(axes[0], first.rank), b.axis(axes[1], second.rank)
    if 0 in (i, j):
        raise Unsupported("its axes are those of the batch")
    if b.flag("normalize"):
        first, second = _unit(b, first, i), _unit(b, second, j)
    if max(first.rank, second.rank) > 3:
        return _summed(b, first, second, i, j)
    left = first if first.rank == 3 else b.reshape(first, (first.shape[0], 1, first.shape[1]))
    right = second if second.rank == 3 else b.reshape(second, (second.shape[0], second.shape[1], 1))
    turn_left = first.rank == 3 and i == 1
    turn_right = second.rank == 3 and j == 2
    y = b(ops.MatMul(turn_left, turn_right), left, right)
    shape = [n for n, keep in zip(y.shape, (True, first.rank == 3, second.rank == 3), strict=True) if keep]
    return b.reshape(y, shape if len(shape) > 1 else [*shape, 1])


def _summed(b: Builder, first: Value, second: Value, i: int, j: int) -> Value:
    """Sample by sample, the sum over axis ``i`` of the one and ``j`` of the other; the one's axes come first."""
    kept = [a for a in range(1, first.rank) if a != i]
    made = [a for a in range(1, second.rank) if a != j]
    batch, depth = first.shape[0], first.shape[i]
    left = b.reshape(b.permute(first, (0, *kept, i)), (batch, -1, depth))
    right = b.reshape(b.permute(second, (0, j, *made)), (batch, depth, -1))
    shape = (batch, *(first.shape[a] for a in kept), *(second.shape[a] for a in made))
    return b.reshape(b(ops.MatMul(), left, right), shape)


def _unit(b: Builder, x: Value, axis: int) -> Value:
    total = b(ops.ReduceSum((axis,), True), b(ops.Square(), x))
    return b(ops.Mul(), x, b(ops.Rsqrt(), b(ops.Maximum(), total, b.scalar(1e-12, x.dtype))))
