"""Bitwise operators: on truth values, and on whole numbers with a number that is known, as arithmetic."""

from __future__ import annotations

from instep.capture.bits import less_common, masked
from instep.capture.torch.builder import Builder, Scalar
from instep.capture.torch.registry import handles
from instep.graph import Operator, Value, ops

__all__: list[str] = []

Operand = Value | Scalar


@handles("bitwise_and", "__and__")
def bitwise_and(b: Builder, x: Operand, y: Operand) -> Value:
    if b.dtype() == "bool":
        return _truth(b, ops.LogicalAnd(), x, y)
    value, mask = _known(b, x, y)
    return b.cast(masked(b, value, mask), b.dtype())


@handles("bitwise_or", "__or__")
def bitwise_or(b: Builder, x: Operand, y: Operand) -> Value:
    """x + m - (x & m)."""
    if b.dtype() == "bool":
        return _truth(b, ops.LogicalOr(), x, y)
    return b.cast(less_common(b, *_known(b, x, y), 1), b.dtype())


@handles("bitwise_xor", "__xor__")
def bitwise_xor(b: Builder, x: Operand, y: Operand) -> Value:
    """x + m - 2 (x & m)."""
    if b.dtype() == "bool":
        return _truth(b, ops.NotEqual(), x, y)
    return b.cast(less_common(b, *_known(b, x, y), 2), b.dtype())


@handles("bitwise_not")
def bitwise_not(b: Builder, x: Value) -> Value:
    if x.dtype == "bool":
        return b(ops.LogicalNot(), x)
    return b(ops.Sub(), b(ops.Neg(), x), b.scalar(1, x.dtype))


@handles("bitwise_left_shift", "__lshift__")
def left_shift(b: Builder, x: Operand, y: Operand) -> Value:
    dtype = b.dtype()
    return b(ops.Mul(), b.operand(x, dtype), b.scalar(1 << _number(b, y), dtype))


@handles("bitwise_right_shift", "__rshift__")
def right_shift(b: Builder, x: Operand, y: Operand) -> Value:
    dtype = b.dtype()
    return b(ops.FloorDiv(), b.operand(x, dtype), b.scalar(1 << _number(b, y), dtype))


def _truth(b: Builder, op: Operator, x: Operand, y: Operand) -> Value:
    return b(op, b.operand(x, "bool"), b.operand(y, "bool"))


def _number(b: Builder, x: Operand) -> int:
    array = b.array(x)
    if isinstance(x, Value) and (array is None or array.size != 1):
        raise b.fail("bitwise operators of whole numbers take one number that is known on one side; use arithmetic")
    return int(x if array is None else array.reshape(-1)[0])  # type: ignore[arg-type]


def _known(b: Builder, x: Operand, y: Operand) -> tuple[Value, int]:
    """(the computed operand, the known one)."""
    if not isinstance(x, Value) or (b.array(x) is not None and isinstance(y, Value)):
        x, y = y, x
    mask = _number(b, y)
    # 8-bit numbers have no arithmetic in files
    return b.operand(x, "int64" if b.dtype() == "int64" else "int32"), mask
