"""Decompositions of comparisons with infinity."""

from __future__ import annotations

import numpy as np

from instep.graph import Operator, ops
from instep.rewrite.lower.table import Build, decomposes

__all__: list[str] = []

#: What says the same of all numbers up to the largest finite one, where infinities may arrive as that one.
_LARGEST: dict[tuple[type[Operator], bool], type[Operator]] = {
    (ops.Equal, True): ops.GreaterEqual, (ops.Equal, False): ops.LessEqual,
    (ops.GreaterEqual, True): ops.GreaterEqual, (ops.LessEqual, False): ops.LessEqual,
    (ops.Less, True): ops.Less, (ops.Greater, False): ops.Greater,
}  # fmt: skip


@decomposes(ops.Equal, ops.Less, ops.Greater, ops.LessEqual, ops.GreaterEqual)
def infinite(b: Build) -> bool:
    """x = ∞ as x ≥ the largest number: LiteRT's own kernels clamp what arithmetic gives to finite numbers, so 1 / 0 is
    no infinity there (tensorflow/lite/kernels/kernel_util.h, CalculateActivationRange)."""
    bound = b.array(1)
    if bound is None or bound.size != 1 or bound.dtype.kind != "f" or not np.isinf(bound).all():
        return False
    positive = bool(bound.reshape(-1)[0] > 0)
    kind = _LARGEST.get((type(b.node.op), positive))
    if kind is None:
        return False
    largest = np.finfo(bound.dtype).max
    return b.done(kind(), b.x, b.constant(largest if positive else -largest, "largest", str(bound.dtype)))
