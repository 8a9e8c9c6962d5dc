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
def merge(b: Builder, parts: Sequence[Value], *more: Value) -> Value:
    kind = b.place.layer.kind
    values = _values([parts, *more] if isinstance(parts, Value) else parts)
    rank = max(v.rank for v in values)
    # Keras puts the axes that a value lacks behind its batch
    values = [b.reshape(v, (v.shape[0], *(1,) * (rank - v.rank), *v.shape[1:])) for v in values]
    if kind == "Subtract" and len(values) != 2:
        raise Unsupported(f"it subtracts {len(values)} values")
    y = values[0]
    for value in values[1:]:
        y = b(_KINDS[kind](), y, value)
    return b(ops.Mul(), y, b.scalar(1 / len(values), y.dtype)) if kind == "Average" and len(values) > 1 else y


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
    if len(axes) != 2 or first.rank not in (2, 3) or second.rank not in (2, 3):
        raise Unsupported(f"axes {axes} of {list(first.shape)} and {list(second.shape)}")
    i, j = b.axis(axes[0], first.rank), b.axis(axes[1], second.rank)
    if 0 in (i, j):
        raise Unsupported("its axes are those of the batch")
    if b.flag("normalize"):
        first, second = _unit(b, first, i), _unit(b, second, j)
    left = first if first.rank == 3 else b.reshape(first, (first.shape[0], 1, first.shape[1]))
    right = second if second.rank == 3 else b.reshape(second, (second.shape[0], second.shape[1], 1))
    turn_left = first.rank == 3 and i == 1
    turn_right = second.rank == 3 and j == 2
    y = b(ops.MatMul(turn_left, turn_right), left, right)
    shape = [n for n, keep in zip(y.shape, (True, first.rank == 3, second.rank == 3), strict=True) if keep]
    return b.reshape(y, shape if len(shape) > 1 else [*shape, 1])


def _unit(b: Builder, x: Value, axis: int) -> Value:
    total = b(ops.ReduceSum((axis,), True), b(ops.Square(), x))
    return b(ops.Mul(), x, b(ops.Rsqrt(), b(ops.Maximum(), total, b.scalar(1e-12, x.dtype))))
