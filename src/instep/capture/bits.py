"""Bits of whole numbers as arithmetic, by a number that is known.

The bits of a negative number are those of its two's complement, which floor division and its remainder agree with.
"""

from __future__ import annotations

from collections.abc import Iterator

from instep.capture.building import Building
from instep.graph import Value, ops

__all__ = ["less_common", "masked"]


def masked(b: Building, x: Value, mask: int) -> Value:
    """x & mask, run by run of ones; what a negative mask keeps is all but what its complement keeps."""
    if mask < 0:
        return b(ops.Sub(), x, masked(b, x, ~mask))
    kept = [_run(b, x, low, count) for low, count in _runs(mask)]
    total = kept[0] if kept else b(ops.Mul(), x, b.scalar(0, x.dtype))
    for part in kept[1:]:
        total = b(ops.Add(), total, part)
    return total


def _run(b: Building, x: Value, low: int, count: int) -> Value:
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


def less_common(b: Building, x: Value, mask: int, times: int) -> Value:
    """x + mask, less what both have in common so many ``times``: x | mask with 1, x ^ mask with 2."""
    common = masked(b, x, mask)
    if times != 1:
        common = b(ops.Mul(), common, b.scalar(times, x.dtype))
    return b(ops.Sub(), b(ops.Add(), x, b.scalar(mask, x.dtype)), common)
