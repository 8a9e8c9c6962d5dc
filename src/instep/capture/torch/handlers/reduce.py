"""Reductions, norms, statistics and ranking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from instep.capture.logarithms import of_sum
from instep.capture.torch.builder import Builder, Scalar
from instep.capture.torch.registry import HANDLERS, handles
from instep.graph import Operator, Value, ops

__all__: list[str] = []


def _axes(x: Value, dim: Any) -> tuple[int, ...]:
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return tuple(range(x.rank))
    dims = (dim,) if isinstance(dim, int) else dim
    return tuple(sorted({d % max(x.rank, 1) for d in dims}))


def _reduce(b: Builder, kind: Any, x: Value, dim: Any, keepdim: bool) -> Value:
    axes = _axes(x, dim) if x.rank else ()
    return b(kind(axes=axes, keepdims=bool(keepdim)), x)


def _plain(kind: type[Operator]) -> Any:
    def handler(b: Builder, x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
        return _reduce(b, kind, b.cast(x, b.dtype()), dim, keepdim)

    return handler


for _name, _kind in (
    ("sum", ops.ReduceSum), ("mean", ops.ReduceMean), ("prod", ops.ReduceProd), ("amax", ops.ReduceMax),
    ("amin", ops.ReduceMin),
):  # fmt: skip
    HANDLERS[_name] = _plain(_kind)


@handles("any", "all")
def truth(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    x = x if x.dtype == "bool" else b(ops.NotEqual(), x, b.scalar(0, x.dtype))
    kind = ops.ReduceAny if ".any." in f".{str(b.step.target).removeprefix('aten.')}" else ops.ReduceAll
    return _reduce(b, kind, x, dim, keepdim)


@handles("max.default", "max.dim", "min.default", "min.dim")
def extreme(b: Builder, x: Value, dim: int | None = None, keepdim: bool = False) -> Any:
    largest = "aten.max" in str(b.step.target)
    y = _reduce(b, ops.ReduceMax if largest else ops.ReduceMin, x, dim, keepdim)
    if not isinstance(b.step.val, (list, tuple)):
        return y
    assert dim is not None
    return y, b((ops.ArgMax if largest else ops.ArgMin)(dim % x.rank, bool(keepdim)), x)


@handles("argmax", "argmin")
def arg(b: Builder, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    kind = ops.ArgMax if "argmax" in str(b.step.target) else ops.ArgMin
    if dim is None:
        y = b(kind(0), b.reshape(x, (-1,)))
        return b.reshape(y, b.shape())
    return b(kind(dim % x.rank, bool(keepdim)), x)


@handles("aminmax")
def aminmax(b: Builder, x: Value, dim: int | None = None, keepdim: bool = False) -> tuple[Value, Value]:
    return _reduce(b, ops.ReduceMin, x, dim, keepdim), _reduce(b, ops.ReduceMax, x, dim, keepdim)


@handles("topk")
def topk(b: Builder, x: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Value, Value]:
    return _ranked(b, x, int(k), dim, largest)


@handles("sort")
def sort(b: Builder, x: Value, *rest: Any, **named: Any) -> tuple[Value, Value]:
    rest = rest[1:] if "stable" in str(b.step.target) and rest and not isinstance(rest[0], int) else rest
    dim = named.get("dim", rest[0] if rest else -1)
    descending = named.get("descending", rest[1] if len(rest) > 1 else False)
    return _ranked(b, x, x.shape[dim], dim, descending)


@handles("argsort")
def argsort(b: Builder, x: Value, *rest: Any, **named: Any) -> Value:
    return sort(b, x, *rest, **named)[1]


def _ranked(b: Builder, x: Value, k: int, dim: int, largest: bool) -> tuple[Value, Value]:
    """TopK works along the last axis; the smallest are the largest of the negated."""
    if x.dtype == "bool":
        values, places = _ranked(b, b.cast(x, "int32"), k, dim, largest)
        return b.cast(values, "bool"), places
    axis = dim % x.rank
    swap = list(range(x.rank))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    moved = b.permute(x, swap)
    node = b.node(ops.TopK(k), moved if largest else b(ops.Neg(), moved))
    values, places = node.outputs
    values = values if largest else b(ops.Neg(), values)
    return b.permute(values, swap), b.permute(places, swap)


@handles("kthvalue", "median.dim", "mode")
def order_statistic(b: Builder, x: Value, *rest: Any, **_: Any) -> Any:
    name = str(b.step.target)
    if "mode" in name:
        raise b.fail("the most frequent value has no graph operator")
    k = rest[0] if "kthvalue" in name else None
    given = rest[1:] if k is not None else rest
    dim, keepdim = (given[0] if given else -1), (given[1] if len(given) > 1 else False)
    axis = dim % x.rank
    k = (x.shape[axis] + 1) // 2 if k is None else k
    last = [b.slice(v, axis, k - 1, k) for v in _ranked(b, x, k, axis, False)]
    value, place = last if keepdim else (b.reshape(v, x.shape[:axis] + x.shape[axis + 1 :]) for v in last)
    return value, place


@handles("quantile")
def quantile(
    b: Builder, x: Value, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Value:
    """The order statistics on both sides of place q · (n - 1), mixed as ``interpolation`` says; x without NaN."""
    wanted = b.array(q) if isinstance(q, Value) else np.asarray(q)
    if wanted is None:
        raise b.fail("quantiles that are computed")
    if dim is None:
        kept = (1,) * x.rank if keepdim else ()
        x, axis = b.reshape(x, (-1,)), 0
    else:
        axis = dim % x.rank
        kept = (*x.shape[:axis], *((1,) if keepdim else ()), *x.shape[axis + 1 :])
    size = x.shape[axis]
    ordered, _ = _ranked(b, x, size, axis, False)
    found = []
    for place in wanted.astype(np.float64).reshape(-1) * (size - 1):
        low, high = math.floor(place), math.ceil(place)
        if interpolation == "nearest":
            low = high = round(place)
        share = {"lower": 0.0, "higher": 1.0, "midpoint": 0.5, "nearest": 0.0}.get(interpolation, place - low)
        y, above = b.slice(ordered, axis, low, low + 1), b.slice(ordered, axis, high, high + 1)
        if share and high != low:
            y = b(ops.Add(), y, b(ops.Mul(), b(ops.Sub(), above, y), b.scalar(share, x.dtype)))
        found.append(b.reshape(y, kept))
    return found[0] if wanted.ndim == 0 else b.concat([b.reshape(y, (1, *kept)) for y in found], 0)


# -- norms and statistics ----------------------------------------------------------------------------------------
@handles("linalg_vector_norm", "norm", "linalg_norm.default", "frobenius_norm")
def vector_norm(b: Builder, x: Value, *rest: Any, **named: Any) -> Value:
    name = str(b.step.target)
    if "frobenius" in name:
        rest = (2.0, *rest)
    order = rest[0] if rest else named.get("ord", named.get("p", 2))
    order = 2.0 if order is None else float(order)
    dim = rest[1] if len(rest) > 1 else named.get("dim")
    keepdim = rest[2] if len(rest) > 2 else named.get("keepdim", False)
    if "linalg_norm" in name and len(_axes(x, dim)) == 2 and rest and rest[0] is not None:
        raise b.fail("a norm of matrices")  # which has a definition
    return _norm(b, b.cast(x, b.dtype()), order, dim, bool(keepdim))


@handles("linalg_matrix_norm")
def matrix_norm(
    b: Builder, x: Value, order: Any = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False
) -> Value:
    if order != "fro":
        raise b.fail("a matrix norm that takes singular values" if order == "nuc" else "another norm of matrices")
    return _norm(b, x, 2.0, dim, keepdim)


def _norm(b: Builder, x: Value, order: float, dim: Any, keepdim: bool) -> Value:
    if order == 2:
        return b(ops.Sqrt(), _reduce(b, ops.ReduceSum, b(ops.Square(), x), dim, keepdim))
    size = b(ops.Abs(), x)
    if order == 1:
        return _reduce(b, ops.ReduceSum, size, dim, keepdim)
    if math.isinf(order):
        return _reduce(b, ops.ReduceMax if order > 0 else ops.ReduceMin, size, dim, keepdim)
    if order == 0:
        nonzero = b.cast(b(ops.NotEqual(), x, b.scalar(0, x.dtype)), x.dtype)
        return _reduce(b, ops.ReduceSum, nonzero, dim, keepdim)
    total = _reduce(b, ops.ReduceSum, b(ops.Pow(), size, b.scalar(order, x.dtype)), dim, keepdim)
    return b(ops.Pow(), total, b.scalar(1 / order, x.dtype))


def _spread(b: Builder, x: Value, rest: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, float, bool]:
    """(dim, correction, keepdim) of the overloads of var and std."""
    overload = str(b.step.target).rsplit(".", 1)[1]
    if overload == "default":
        return None, float(rest[0] if rest else named.get("unbiased", True)), False
    dim = rest[0] if rest else named.get("dim")
    if overload == "dim":
        unbiased = rest[1] if len(rest) > 1 else named.get("unbiased", True)
        return dim, float(unbiased), rest[2] if len(rest) > 2 else named.get("keepdim", False)
    correction = named.get("correction")
    return dim, 1.0 if correction is None else float(correction), named.get("keepdim", False)


def _variance(b: Builder, x: Value, dim: Any, correction: float, keepdim: bool) -> tuple[Value, Value]:
    """(variance, mean): Σ (x - mean)² / (n - correction)."""
    axes = _axes(x, dim)
    mean = _reduce(b, ops.ReduceMean, x, axes, True)
    squares = b(ops.Square(), b(ops.Sub(), x, mean))
    count = math.prod(x.shape[a] for a in axes)
    var = _reduce(b, ops.ReduceMean, squares, axes, keepdim)
    if correction:
        scale = count / (count - correction) if count > correction else math.inf
        var = b(ops.Mul(), var, b.scalar(scale, x.dtype))
    if not keepdim:
        mean = b.reshape(mean, tuple(n for a, n in enumerate(x.shape) if a not in axes))
    return var, mean


@handles("var", "std")
def var(b: Builder, x: Value, *rest: Any, **named: Any) -> Value:
    value, _ = _variance(b, x, *_spread(b, x, rest, named))
    return b(ops.Sqrt(), value) if "aten.std" in str(b.step.target) else value


@handles("var_mean", "std_mean")
def var_mean(b: Builder, x: Value, *rest: Any, **named: Any) -> tuple[Value, Value]:
    value, mean = _variance(b, x, *_spread(b, x, rest, named))
    return (b(ops.Sqrt(), value) if "aten.std" in str(b.step.target) else value), mean


@handles("logsumexp", "special_logsumexp")
def logsumexp(b: Builder, x: Value, dim: Any, keepdim: bool = False) -> Value:
    return b.reshape(of_sum(b, x, _axes(x, dim) if x.rank else ()), b.shape())


@handles("cosine_similarity")
def cosine_similarity(b: Builder, x: Value, y: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    """x·y / (max(‖x‖, ε) · max(‖y‖, ε)), each operand divided by its norm first, as torch does.

    torch broadcasts first: an operand that has ``dim`` once counts with its copies. Other axes can wait.
    """
    rank = max(x.rank, y.rank)
    axis = dim % rank
    x, y = (b.reshape(v, (1,) * (rank - v.rank) + v.shape) for v in (x, y))
    size = max(x.shape[axis], y.shape[axis])
    x, y = (b.expand(v, (*v.shape[:axis], size, *v.shape[axis + 1 :])) for v in (x, y))
    unit = [b(ops.Div(), v, b(ops.Clip(low=float(eps)), _norm(b, v, 2.0, axis, True))) for v in (x, y)]
    return _reduce(b, ops.ReduceSum, b(ops.Mul(), *unit), axis, False)


@handles("cdist", "_cdist_forward", "pairwise_distance")
def distance(b: Builder, x: Value, y: Value, p: float = 2.0, *rest: Any) -> Value:
    if "cdist" in str(b.step.target):
        x = b.reshape(x, (*x.shape[:-1], 1, x.shape[-1]))
        y = b.reshape(y, (*y.shape[:-2], 1, *y.shape[-2:]))
        return _norm(b, b(ops.Sub(), x, y), float(p), -1, False)
    eps: Scalar = rest[0] if rest else 1e-6
    keep = bool(rest[1]) if len(rest) > 1 else False
    return _norm(b, b(ops.Add(), b(ops.Sub(), x, y), b.scalar(eps, x.dtype)), float(p), -1, keep)


@handles("count_nonzero.default", "count_nonzero.dim_IntList")
def count_nonzero(b: Builder, x: Value, dim: Any = None) -> Value:
    truth_ = b.cast(b(ops.NotEqual(), x, b.scalar(0, x.dtype)), "int64")
    return _reduce(b, ops.ReduceSum, truth_, dim, False)
