"""Bitwise operators: on truth values, and on whole numbers with a number that is known, as arithmetic.

The bits of a negative number are those of its two's complement, which floor division and its remainder agree with.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    return b.cast(_masked(b, value, mask), b.dtype())


@handles("bitwise_or", "__or__")
def bitwise_or(b: Builder, x: Operand, y: Operand) -> Value:
    """x + m - (x & m)."""
    if b.dtype() == "bool":
        return _truth(b, ops.LogicalOr(), x, y)
    return _less_common(b, *_known(b, x, y), 1)


@handles("bitwise_xor", "__xor__")
def bitwise_xor(b: Builder, x: Operand, y: Operand) -> Value:
    """x + m - 2 (x & m)."""
    if b.dtype() == "bool":
        return _truth(b, ops.NotEqual(), x, y)
    return _less_common(b, *_known(b, x, y), 2)


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


def _masked(b: Builder, x: Value, mask: int) -> Value:
    """x & mask, run by run of ones; what a negative mask keeps is all but what its complement keeps."""
    if mask < 0:
        return b(ops.Sub(), x, _masked(b, x, ~mask))
    kept = [_run(b, x, low, count) for low, count in _runs(mask)]
    total = kept[0] if kept else b(ops.Mul(), x, b.scalar(0, x.dtype))
    for part in kept[1:]:
        total = b(ops.Add(), total, part)
    return total


def _run(b: Builder, x: Value, low: int, count: int) -> Value:
    """The ``count`` bits of x from ``low`` on, where they are."""
    step = b.scalar(1 << low, x.dtype)
    x = b(ops.FloorDiv(), x, step) if low else x
    x = b(ops.FloorMod(), x, b.scalar(1 << count, x.dtype))
    return b(ops.Mul(), x, step) if low else x


def _runs(mask: int) -> Iterator[tuple[int, int]]:
    """(lowest bit, number of bits) of each run of ones."""
    low = 0
    while mask:
        zeros = (mask & -mask).bit_length() - 1
        mask, low = mask >> zeros, low + zeros
        ones = (~mask & (mask + 1)).bit_length() - 1
        yield low, ones
        mask, low = mask >> ones, low + ones


def _less_common(b: Builder, x: Value, mask: int, times: int) -> Value:
    """x + mask, less what both have in common so many ``times``."""
    common = _masked(b, x, mask)
    if times != 1:
        common = b(ops.Mul(), common, b.scalar(times, x.dtype))
    return b.cast(b(ops.Sub(), b(ops.Add(), x, b.scalar(mask, x.dtype)), common), b.dtype())
