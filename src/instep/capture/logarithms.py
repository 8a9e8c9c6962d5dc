"""Logarithms that lose no digits and overflow nowhere: log(1 + x) near zero, log Σ exp(x) of large x."""

from __future__ import annotations

from collections.abc import Sequence

from instep.capture.building import Building
from instep.graph import Value, ops

__all__ = ["SMALL", "of_sum", "plus_one"]

#: Up to this size log(1 + x) is a series: 1 + x would keep only what x has beyond the 1.
SMALL = 0.2


def plus_one(b: Building, x: Value) -> Value:
    """log(1 + x): near zero 2 atanh(s) = 2 (s + s³/3 + s⁵/5 + …) with s = x / (x + 2).

    Of an exponential it is a softplus, which has a form of its own.
    """
    maker = b.graph.producers().get(x)
    if maker is not None and isinstance(maker.op, ops.Exp):
        return b(ops.Log(), b(ops.Add(), x, b.scalar(1.0, x.dtype)))

    def number(value: float) -> Value:
        return b.scalar(value, x.dtype)

    near = b(ops.Clip(low=-SMALL, high=SMALL), x)
    s = b(ops.Div(), near, b(ops.Add(), near, number(2.0)))
    square, series = b(ops.Square(), s), number(2 / 9)
    for power in (7, 5, 3, 1):
        series = b(ops.Add(), b(ops.Mul(), series, square), number(2 / power))
    far = b(ops.Log(), b(ops.Add(), x, number(1.0)))
    return b(ops.Where(), b(ops.Less(), b(ops.Abs(), x), number(SMALL)), b(ops.Mul(), s, series), far)


def of_sum(b: Building, x: Value, axes: Sequence[int]) -> Value:
    """max + log Σ exp(x - max) over ``axes``, which stay with size 1."""
    axes = tuple(axes)
    peak = b(ops.ReduceMax(axes, True), x)  # type: ignore[call-arg]
    total = b(ops.ReduceSum(axes, True), b(ops.Exp(), b(ops.Sub(), x, peak)))  # type: ignore[call-arg]
    return b(ops.Add(), b(ops.Log(), total), peak)
