"""Running results along an axis: cumsum, cumprod, cummax, cummin, logcumsumexp."""

from __future__ import annotations

from typing import Any

import numpy as np

from instep.capture.scans import prefixes
from instep.capture.torch.builder import Builder
from instep.capture.torch.registry import Deferred, handles
from instep.graph import Value, ops

__all__ = ["limits"]


@handles("cumsum")
def cumsum(b: Builder, x: Value, dim: int, **_: Any) -> Value:
    return b(ops.CumSum(dim % x.rank), b.cast(x, b.dtype())) if x.rank else x


@handles("cumprod")
def cumprod(b: Builder, x: Value, dim: int, **_: Any) -> Value:
    return prefixes(b, b.cast(x, b.dtype()), dim, lambda p, q: b(ops.Mul(), p, q), 1)


@handles("cummax")
def cummax(b: Builder, x: Value, dim: int) -> tuple[Value, Deferred]:
    found = prefixes(b, x, dim, lambda p, q: b(ops.Maximum(), p, q), limits(x.dtype)[0])
    return found, Deferred(lambda: _places(b, x, found, dim))


@handles("cummin")
def cummin(b: Builder, x: Value, dim: int) -> tuple[Value, Deferred]:
    found = prefixes(b, x, dim, lambda p, q: b(ops.Minimum(), p, q), limits(x.dtype)[1])
    return found, Deferred(lambda: _places(b, x, found, dim))


def _places(b: Builder, x: Value, found: Value, dim: int) -> Value:
    """Where the running extremes ``found`` of x are: the last place so far that holds the extreme itself."""
    if not x.rank:
        return b.full((), 0, "int64")
    axis = dim % x.rank
    every = np.arange(x.shape[axis], dtype=np.int32).reshape([-1 if a == axis else 1 for a in range(x.rank)])
    here = b(ops.Where(), b(ops.Equal(), x, found), b.constant(every, "places"), b.scalar(0, "int32"))
    return b.cast(prefixes(b, here, dim, lambda p, q: b(ops.Maximum(), p, q), 0), "int64")


@handles("logcumsumexp")
def logcumsumexp(b: Builder, x: Value, dim: int) -> Value:
    """log Σ exp, each pair about its own maximum: nothing overflows."""

    def both(p: Value, q: Value) -> Value:
        top = b(ops.Maximum(), p, q)
        terms = [b(ops.Exp(), b(ops.Sub(), v, top)) for v in (p, q)]
        return b(ops.Add(), top, b(ops.Log(), b(ops.Add(), *terms)))

    return prefixes(b, x, dim, both, limits(x.dtype)[0])


def limits(dtype: str) -> tuple[float, float]:
    """(lowest, highest) finite number of a dtype."""
    known = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    return np.asarray(known.min).item(), np.asarray(known.max).item()
