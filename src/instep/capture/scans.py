"""Running combinations along an axis: every prefix of a tensor, in few steps."""

from __future__ import annotations

import math
from collections.abc import Callable

from instep.capture.building import Building
from instep.graph import Value

__all__ = ["prefixes"]


def prefixes(b: Building, x: Value, dim: int, combine: Callable[[Value, Value], Value], neutral: float) -> Value:
    """All prefixes of x along ``dim`` combined, in log₂ n steps (Hillis and Steele, CACM 29(12), 1986)."""
    if not x.rank:
        return x
    axis = dim % x.rank
    length = x.shape[axis]
    for k in range(math.ceil(math.log2(max(1, length)))):
        step = 1 << k
        ahead = b.full((*x.shape[:axis], step, *x.shape[axis + 1 :]), neutral, x.dtype)
        x = combine(x, b.concat([ahead, b.slice(x, axis, 0, length - step)], axis))
    return x
