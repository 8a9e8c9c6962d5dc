"""Indexing with tensors: gathers, constant index_put, scatters into slices, triangles, diagonals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from instep.capture.torch.builder import Builder, Scalar
from instep.capture.torch.handlers.scan import limits
from instep.capture.torch.handlers.shape import bounds
from instep.capture.torch.registry import handles
from instep.graph import Operator, Value, ops

__all__: list[str] = []

#: So often one place may be added to: each time is an operator over all places, with a constant of their number.
ROUNDS = 64


def _wrapped(b: Builder, index: Value, size: int) -> Value:
    """Indices made non-negative: at once when constant, by a remainder when they are computed."""
    array = b.array(index)
    if array is not None:
        if array.size and array.min() >= 0:
            return index
        return b.constant(np.where(array < 0, array + size, array), "index")
    negative = b(ops.Less(), index, b.scalar(0, index.dtype))
    return b(ops.Where(), negative, b(ops.Add(), index, b.scalar(size, index.dtype)), index)


@handles("embedding")
def embedding(b: Builder, weight: Value, indices: Value, *_: Any, **__: Any) -> Value:
    return b(ops.Gather(0), weight, indices)


@handles("one_hot")
def one_hot(b: Builder, x: Value, classes: int = -1) -> Value:
    if classes < 0:
        raise b.fail("one_hot without num_classes has a shape that depends on the data; give num_classes")
    places = b.constant(np.arange(classes, dtype=x.dtype), "classes")
    return b.cast(b(ops.Equal(), b.reshape(x, (*x.shape, 1)), places), b.dtype())


@handles("bucketize.Tensor")
def bucketize(b: Builder, x: Value, bounds: Value, *, right: bool = False, **_: Any) -> Value:
    """How many of the sorted boundaries x lies beyond (with ``right``, lies on or beyond)."""
    dtype = b.common(x, bounds)
    x = b.reshape(b.cast(x, dtype), (*x.shape, 1))
    beyond = b(ops.GreaterEqual() if right else ops.Greater(), x, b.cast(bounds, dtype))
    counted = b(ops.ReduceSum((x.rank - 1,), False), b.cast(beyond, "float32"))
    return b.cast(counted, b.dtype())


@handles("index_select")
def index_select(b: Builder, x: Value, dim: int, index: Value) -> Value:
    axis = dim % x.rank
    return b(ops.Gather(axis), x, b.reshape(_wrapped(b, index, x.shape[axis]), (-1,)))


@handles("take")
def take(b: Builder, x: Value, index: Value) -> Value:
    return b(ops.Gather(0), b.reshape(x, (-1,)), _wrapped(b, index, x.size))


@handles("gather")
def gather(b: Builder, x: Value, dim: int, index: Value, **_: Any) -> Value:
    axis = dim % x.rank
    return b(ops.TakeAlong(axis), x, _wrapped(b, index, x.shape[axis]))


@handles("take_along_dim")
def take_along_dim(b: Builder, x: Value, index: Value, dim: int | None = None) -> Value:
    """gather of operands that are broadcast along the other axes, or of all elements in a row."""
    if dim is None:
        x, index, dim = b.reshape(x, (-1,)), b.reshape(index, (-1,)), 0
    axis = dim % x.rank
    others = [max(n, m) for n, m in zip(x.shape, index.shape, strict=True)]
    x, index = (b.expand(v, (*others[:axis], v.shape[axis], *others[axis + 1 :])) for v in (x, index))
    return gather(b, x, axis, index)


@handles("select.Tensor")
def select_tensor(b: Builder, x: Value, dim: int, index: Value) -> Value:
    axis = dim % x.rank
    return b(ops.Gather(axis), x, b.reshape(_wrapped(b, index, x.shape[axis]), ()))


@handles("index.Tensor", "_unsafe_index", "index.Tensor_hacked_twin")
def index(b: Builder, x: Value, indices: Sequence[Value | None]) -> Value:
    """numpy-like advanced indexing: one Gather over the indexed axes, flattened when there are several."""
    picks = _expanded(b, x, indices)
    axes = [a for a, p in enumerate(picks) if p is not None]
    together = axes == list(range(axes[0], axes[-1] + 1))
    if not together:
        rest = [a for a in range(x.rank) if a not in axes]
        x = b.permute(x, (*axes, *rest))
        picks = [picks[a] for a in axes] + [None] * len(rest)
        axes = list(range(len(axes)))
    first, sizes = axes[0], [x.shape[a] for a in axes]
    flat = b.reshape(x, (*x.shape[:first], math.prod(sizes), *x.shape[axes[-1] + 1 :]))
    return b(ops.Gather(first), flat, _flat_index(b, [p for p in picks if p is not None], sizes))


def _expanded(b: Builder, x: Value, indices: Sequence[Value | None]) -> list[Value | None]:
    """One index (or None) per axis of x; a constant bool mask becomes the places where it is true."""
    picks: list[Value | None] = []
    for pick in indices:
        if pick is None or pick.dtype not in ("bool", "uint8"):
            picks.append(pick)
            continue
        mask = b.array(pick)
        if mask is None:
            raise b.fail("a computed bool mask makes a shape that depends on the data; use torch.where instead")
        picks += [b.constant(places.astype(np.int64), "index") for places in np.nonzero(mask)]
    return picks + [None] * (x.rank - len(picks))


def _flat_index(b: Builder, picks: Sequence[Value], sizes: Sequence[int]) -> Value:
    """Row-major position of the broadcast indices; computed by numpy when all of them are constant."""
    arrays = [b.array(p) for p in picks]
    if all(a is not None for a in arrays):
        wrapped = [np.where(a < 0, a + n, a).astype(np.int64) for a, n in zip(arrays, sizes, strict=True)]  # type: ignore[operator]
        flat = np.ravel_multi_index(np.broadcast_arrays(*wrapped), tuple(sizes)).astype(np.int64)
        only = arrays[0] if len(picks) == 1 else None
        if only is not None and only.dtype == np.int64 and np.array_equal(only, flat):
            return picks[0]
        return b.constant(flat, "index")
    total: Value | None = None
    for pick, size in zip(picks, sizes, strict=True):
        pick = b.cast(_wrapped(b, pick, size), "int64")
        total = pick if total is None else b(ops.Add(), b(ops.Mul(), total, b.scalar(size, "int64")), pick)
    assert total is not None
    return total


# -- writing -----------------------------------------------------------------------------------------------------
def _between(b: Builder, x: Value, part: Value, axis: int, start: int, stop: int) -> Value:
    """x with x[start:stop] on ``axis`` replaced by ``part``."""
    before, after = b.slice(x, axis, 0, start), b.slice(x, axis, stop, x.shape[axis])
    return b.concat([v for v in (before, part, after) if v.shape[axis]], axis)


@handles("slice_scatter")
def slice_scatter(
    b: Builder, x: Value, source: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    axis = dim % x.rank
    lo, hi = bounds(x.shape[axis], start, end)
    source = b.cast(source, x.dtype)
    if step == 1:
        part = b.expand(source, (*x.shape[:axis], hi - lo, *x.shape[axis + 1 :]))
        return _between(b, x, part, axis, lo, hi)
    places = np.arange(lo, hi, step)
    return _scattered(b, x, source, axis, places)


def _scattered(b: Builder, x: Value, source: Value, axis: int, places: np.ndarray) -> Value:
    """x with the slices at ``places`` on ``axis`` replaced: a Gather over x and source joined."""
    order = np.arange(x.shape[axis])
    order[places] = x.shape[axis] + np.arange(len(places))
    joined = b.concat([x, source], axis)
    return b(ops.Gather(axis), joined, b.constant(order.astype(np.int64), "index"))


@handles("select_scatter")
def select_scatter(b: Builder, x: Value, source: Value, dim: int, index: int) -> Value:
    axis = dim % x.rank
    index = index + x.shape[axis] if index < 0 else index
    part = b.reshape(b.cast(source, x.dtype), (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    return _between(b, x, part, axis, index, index + 1)


@handles("diagonal_scatter")
def diagonal_scatter(b: Builder, x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    places = np.moveaxis(np.arange(x.size).reshape(x.shape), (dim1, dim2), (-2, -1))
    return _put_flat(b, x, np.diagonal(places, offset, -2, -1), b.cast(source, x.dtype))


def _put_flat(
    b: Builder, x: Value, places: np.ndarray, values: Value, combine: Operator | None = None, neutral: Scalar = 0
) -> Value:
    """x with its row-major ``places`` set to (or combined with) ``values`` of the same shape."""
    flat = places.reshape(-1)
    values = b.reshape(b.expand(values, places.shape), (-1,))
    base = b.reshape(x, (-1,))
    if combine is not None:
        most = int(np.bincount(flat).max(initial=0))
        if most > ROUNDS:
            raise b.fail(f"index_put with accumulate=True writes one place {most} times; up to {ROUNDS} are added up")
        some = b.concat([values, b.full((1,), neutral, x.dtype)], 0)
        for order in _rounds(flat, x.size):
            base = b(combine, base, b(ops.Gather(0), some, b.constant(order, "index")))
        return b.reshape(base, x.shape)
    order = np.full(x.size, -1, np.int64)
    order[flat] = np.arange(flat.size)  # the last writer wins, as on one thread
    order = np.where(order < 0, np.arange(x.size), x.size + order)
    return b.reshape(b(ops.Gather(0), b.concat([base, values], 0), b.constant(order, "index")), x.shape)


def _rounds(flat: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """For each of ``size`` places which entry of ``flat`` names it (``flat.size``: none); places that several entries
    name get them in as many rounds."""
    left = np.arange(flat.size)
    while left.size:
        order = np.full(size, flat.size, np.int64)
        order[flat[left]] = left
        yield order
        left = np.setdiff1d(left, order, assume_unique=True)


@handles("index_put", "_unsafe_index_put")
def index_put(b: Builder, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False) -> Value:
    values = b.cast(values, x.dtype)
    mask = indices[-1]
    if mask is not None and mask.dtype == "bool" and all(i is None for i in indices[:-1]):
        behind = x.rank - len(indices) + 1 - mask.rank
        if values.size == 1 or values.rank <= behind:
            mask = b.reshape(mask, (1,) * (len(indices) - 1) + mask.shape + (1,) * behind)
            values = b.reshape(values, (1,) * x.rank if values.size == 1 else values.shape)
            return b(ops.Where(), mask, b(ops.Add(), x, values) if accumulate else values, x)
    picks = _expanded(b, x, indices)
    arrays = [None if p is None else b.array(p) for p in picks]
    if any(p is not None and a is None for p, a in zip(picks, arrays, strict=True)):
        raise b.fail("index_put at computed places")
    whole = np.arange(x.size).reshape(x.shape)
    places = whole[tuple(slice(None) if a is None else a for a in arrays)]
    return _put_flat(b, x, places, values, ops.Add() if accumulate else None)


@handles("index_copy")
def index_copy(b: Builder, x: Value, dim: int, index: Value, source: Value) -> Value:
    array = b.array(index)
    if array is None:
        raise b.fail("index_copy at computed places")
    return _scattered(b, x, source, dim % x.rank, array.reshape(-1))


@handles("index_fill")
def index_fill(b: Builder, x: Value, dim: int, index: Value, value: Any) -> Value:
    array = b.array(index)
    if array is None:
        raise b.fail("index_fill at computed places")
    axis = dim % x.rank
    mask = np.zeros(x.shape[axis], bool)
    mask[array] = True
    mask = mask.reshape([-1 if a == axis else 1 for a in range(x.rank)])
    return b(ops.Where(), b.constant(mask, "mask"), b.operand(value, x.dtype), x)


@handles("scatter", "scatter_add")
def scatter(b: Builder, x: Value, dim: int, index: Value, source: Any, **_: Any) -> Value:
    array = b.array(index)
    axis = dim % x.rank
    if _.get("reduce"):
        raise b.fail("scatter with a reduction")
    if array is None:
        return _scattered_at(b, x, axis, index, source)
    places = _places(x, axis, array)
    values = _first(b, source, array.shape) if isinstance(source, Value) else b.full(places.shape, source, x.dtype)
    return _put_flat(b, x, places, values, ops.Add() if "scatter_add" in str(b.step.target) else None)


def _places(x: Value, axis: int, index: np.ndarray) -> np.ndarray:
    """The row-major places of x that ``index`` names along ``axis``."""
    grid: list[Any] = list(np.indices(index.shape))
    grid[axis] = index
    return np.arange(x.size).reshape(x.shape)[tuple(grid)]


def _first(b: Builder, source: Value, shape: Sequence[int]) -> Value:
    """As much of ``source`` as ``shape`` takes."""
    for a, n in enumerate(shape):
        source = b.slice(source, a, 0, n)
    return source


@handles("scatter_reduce.two", "index_reduce")
def scatter_extreme(
    b: Builder, x: Value, dim: int, index: Value, source: Value, reduce: str, *, include_self: bool = True
) -> Value:
    """The largest (smallest, product) of what is written to a place; with ``include_self`` and of what was there."""
    array, axis = b.array(index), dim % x.rank
    kinds: dict[str, type[Operator]] = {"amax": ops.Maximum, "amin": ops.Minimum, "prod": ops.Mul}
    if reduce not in kinds:
        raise b.fail("sums and means")  # which have a definition
    if array is None:
        raise b.fail(f"scatter_reduce at computed places with the reduction {reduce}")
    if "index_reduce" in str(b.step.target):
        array = np.broadcast_to(array.reshape([-1 if a == axis else 1 for a in range(x.rank)]), source.shape)
    places = _places(x, axis, array)
    lowest, highest = limits(x.dtype)
    neutral = {"amax": lowest, "amin": highest, "prod": 1}[reduce]
    if not include_self:
        written = np.zeros(x.size, bool)
        written[places.reshape(-1)] = True
        x = b(ops.Where(), b.constant(written.reshape(x.shape), "written"), b.scalar(neutral, x.dtype), x)
    return _put_flat(b, x, places, _first(b, source, array.shape), kinds[reduce](), neutral)


def _scattered_at(b: Builder, x: Value, axis: int, index: Value, source: Any) -> Value:
    """scatter at computed places: one comparison of the places with all places for each index along the axis.

    ``zeros.scatter(1, index, 1)`` makes one-hot codes so. The last writer wins, as on one thread.
    """
    writes, rest = index.shape[axis], [n for a, n in enumerate(x.shape) if a != axis]
    if writes > 8 or [n for a, n in enumerate(index.shape) if a != axis] != rest:
        raise b.fail("scatter at computed places with more than 8 of them a row, or not for every row")
    added = "scatter_add" in str(b.step.target)
    places = np.arange(x.shape[axis], dtype=index.dtype).reshape([-1 if a == axis else 1 for a in range(x.rank)])
    every = b.constant(places, "places")
    for i in range(writes):
        here = b(ops.Equal(), b.slice(index, axis, i, i + 1), every)
        new = b.slice(source, axis, i, i + 1) if isinstance(source, Value) else b.scalar(source, x.dtype)
        x = b(ops.Where(), here, b(ops.Add(), x, new) if added else new, x)
    return x


# -- triangles and diagonals -------------------------------------------------------------------------------------
@handles("tril", "triu")
def triangle(b: Builder, x: Value, diagonal: int = 0) -> Value:
    cut = np.tril if "tril" in str(b.step.target) else np.triu
    mask = cut(np.ones(x.shape[-2:], bool), diagonal)
    if x.dtype == "bool":
        return b(ops.LogicalAnd(), x, b.constant(mask, "mask"))
    zero: Scalar = 0
    return b(ops.Where(), b.constant(mask, "mask"), x, b.scalar(zero, x.dtype))


@handles("diagonal", "linalg_diagonal", "diagonal_copy")
def diagonal(b: Builder, x: Value, *rest: Any, **named: Any) -> Value:
    offset = named.get("offset", rest[0] if rest else 0)
    pair = (-2, -1) if "linalg" in str(b.step.target) else (0, 1)
    given = [rest[i + 1] if len(rest) > i + 1 else pair[i] for i in range(2)]
    axes = [named.get(k, a) % x.rank for k, a in zip(("dim1", "dim2"), given, strict=True)]
    rest_axes = [a for a in range(x.rank) if a not in axes]
    x = b.permute(x, (*rest_axes, *axes))
    rows, cols = x.shape[-2:]
    places = np.diagonal(np.arange(rows * cols).reshape(rows, cols), offset).astype(np.int64)
    flat = b.reshape(x, (*x.shape[:-2], rows * cols))
    return b(ops.Gather(flat.rank - 1), flat, b.constant(places, "index"))


@handles("diag_embed")
def diag_embed(b: Builder, x: Value, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Value:
    """Matrices with x on a diagonal and zeros elsewhere, their rows on axis ``dim1`` and columns on ``dim2``."""
    eye = b.constant(np.eye(x.shape[-1], dtype=bool), "eye")
    y = b(ops.Where(), eye, b.reshape(x, (*x.shape, 1)), b.scalar(0, x.dtype))
    right, down = max(offset, 0), max(-offset, 0)
    y = b.pad(y, [*[(0, 0)] * (x.rank - 1), (down, right), (right, down)])
    places = {dim1 % y.rank: y.rank - 2, dim2 % y.rank: y.rank - 1}
    others = iter(range(y.rank - 2))
    return b.permute(y, [places[a] if a in places else next(others) for a in range(y.rank)])


@handles("unfold")
def unfold(b: Builder, x: Value, dimension: int, size: int, step: int) -> Value:
    """Tensor.unfold: windows along one axis, their elements on a new last axis."""
    axis = dimension % x.rank
    count = (x.shape[axis] - size) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(size)
    y = b(ops.Gather(axis), x, b.constant(places.astype(np.int64), "index"))
    order = [*range(axis + 1), *range(axis + 2, y.rank), axis + 1]
    return b.permute(y, order)
