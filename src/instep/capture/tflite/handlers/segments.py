"""Handlers of operators that compute on parts of an axis which indices or lengths name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.capture.tflite.builder import Builder
from instep.capture.tflite.registry import Unsupported, reads
from instep.graph import Value, ops

__all__: list[str] = []

#: Elements that places are compared with, or moved to.
_MAX_MADE = 1 << 26
_MOST = float(np.finfo(np.float32).max)
#: Reduction, and what a segment without elements holds: of integers no more than their type has.
_SEGMENTS: dict[str, tuple[Any, float]] = {
    "UNSORTED_SEGMENT_SUM": (ops.ReduceSum, 0.0),
    "UNSORTED_SEGMENT_PROD": (ops.ReduceProd, 1.0),
    "UNSORTED_SEGMENT_MAX": (ops.ReduceMax, -_MOST),
    "UNSORTED_SEGMENT_MIN": (ops.ReduceMin, _MOST),
}


def _reduced(b: Builder, x: Value, ids: Value, count: int, kind: Any, empty: float) -> Value:
    """Each segment's reduction: of all elements, those of other segments being ``empty``."""
    rank = ids.rank
    if x.shape[:rank] != ids.shape or not 0 < count <= 1 << 16:
        raise Unsupported(f"{count} segments by {list(ids.shape)} ids do not fit {list(x.shape)}")
    size, rest = math.prod(ids.shape), x.shape[rank:]
    numbers = b.constant(np.arange(count, dtype=ids.dtype).reshape(count, 1), "segments")
    mine = b(ops.Equal(), numbers, b.reshape(ids, (1, size)))
    wide = b.reshape(x, (1, size, math.prod(rest)))
    if np.dtype(x.dtype).kind != "f":
        empty = int(np.clip(empty, np.iinfo(x.dtype).min, np.iinfo(x.dtype).max))
    kept = b(ops.Where(), b.reshape(mine, (count, size, 1)), wide, b.scalar(empty, x.dtype))
    return b.reshape(b(kind((1,), False), kept), (count, *rest))


def _unsorted(name: str, kind: Any, empty: float) -> None:
    @reads(name)
    def handler(b: Builder, x: Value, ids: Value, count: Value) -> Value:
        return _reduced(b, x, ids, b.integer(count, "number of segments"), kind, empty)


for _name, (_kind, _empty) in _SEGMENTS.items():
    _unsorted(_name, _kind, _empty)


@reads("SEGMENT_SUM")
def segment_sum(b: Builder, x: Value, ids: Value) -> Value:
    return _reduced(b, x, ids, max(b.ints(ids, "ids"), default=-1) + 1, ops.ReduceSum, 0.0)


@reads("SCATTER_ND")
def scatter_nd(b: Builder, indices: Value, updates: Value, shape: Value) -> Value:
    """The sum of the updates at each place; places are counted in row-major order."""
    wanted = b.ints(shape, "shape")
    depth = indices.shape[-1] if indices.rank else 0
    if not 1 <= depth <= len(wanted) or min(wanted) < 1 or math.prod(wanted) > _MAX_MADE:
        raise Unsupported(f"its shape {wanted[:8]} does not fit indices of {list(indices.shape)}")
    named, rest = wanted[:depth], wanted[depth:]
    size, count = math.prod(named), indices.size // depth
    updates = b.reshape(updates, (count, *rest))
    found = b.array(indices)
    if found is not None:
        rows = found.reshape(-1, depth).astype(np.int64)
        if (rows < 0).any() or (rows >= np.asarray(named)).any():
            raise Unsupported(f"its places leave {named}")
        return b.reshape(_placed(b, updates, np.ravel_multi_index(tuple(rows.T), tuple(named)), size), wanted)
    if size * updates.size > _MAX_MADE:
        raise Unsupported(f"its places are computed, of {size} for {count} updates: too many to compare")
    steps = np.asarray([math.prod(named[i + 1 :]) for i in range(depth)], indices.dtype)
    places = b(ops.ReduceSum((1,)), b(ops.Mul(), b.reshape(indices, (count, depth)), b.constant(steps, "steps")))
    return b.reshape(_reduced(b, updates, places, size, ops.ReduceSum, 0.0), wanted)


def _placed(b: Builder, updates: Value, places: np.ndarray, size: int) -> Value:
    """Updates at constant places: gathered from them and one element of nothing, the n-th updates of all places with
    each other, and added."""
    count, rest = len(places), updates.shape[1:]
    order = np.argsort(places, kind="stable")
    nth = np.empty(count, np.int64)
    nth[order] = np.arange(count) - np.searchsorted(places[order], places[order])
    rounds = int(nth.max(initial=0)) + 1
    if rounds * size > _MAX_MADE:
        raise Unsupported(f"it adds {rounds} updates at one place")
    parts = b.concat([updates, b.full((1, *rest), 0, updates.dtype)], 0)
    total = None
    for n in range(rounds):
        source = np.full(size, count, np.int32)
        source[places[nth == n]] = np.flatnonzero(nth == n)
        part = b(ops.Gather(0), parts, b.constant(source, "places"))
        total = part if total is None else b(ops.Add(), total, part)
    assert total is not None
    return total


@reads("REVERSE_SEQUENCE", "ReverseSequenceOptions")
def reverse_sequence(b: Builder, x: Value, lengths: Value) -> Value:
    """The first ``lengths[n]`` elements of each n backwards, the others where they are."""
    time, batch = b.axis(b.option("SeqDim"), x.rank), b.axis(b.option("BatchDim"), x.rank)
    if time == batch or lengths.shape != (x.shape[batch],):
        raise Unsupported(f"lengths of shape {list(lengths.shape)} do not fit axes {batch}, {time} of {list(x.shape)}")
    known, size = b.array(lengths), x.shape[time]
    if known is not None and (known == size).all():
        return b(ops.Flip((time,)), x)
    steps = b.constant(np.arange(size, dtype=lengths.dtype), "steps")
    ends = b.reshape(lengths, (x.shape[batch], 1))
    last = b(ops.Sub(), ends, b.scalar(1, lengths.dtype))
    places = b(ops.Where(), b(ops.Less(), steps, ends), b(ops.Sub(), last, steps), steps)
    places = b(ops.Add(), places, b.constant((np.arange(x.shape[batch]) * size)[:, None].astype(lengths.dtype), "rows"))
    order = [batch, time, *(a for a in range(x.rank) if a not in (batch, time))]
    moved = b.permute(x, order)
    flat = b.reshape(moved, (x.shape[batch] * size, *moved.shape[2:]))
    return b.permute(b(ops.Gather(0), flat, places), [order.index(a) for a in range(x.rank)])


@reads("BUCKETIZE", "BucketizeOptions")
def bucketize(b: Builder, x: Value) -> Value:
    """How many boundaries an element has reached."""
    given = b.option("BoundariesAsNumpy", 0)
    bounds = np.zeros(0, np.float32) if isinstance(given, int) else np.asarray(given)
    if not bounds.size:
        return b.expand(b.scalar(0, "int32"), x.shape)
    reached = b(ops.GreaterEqual(), b.reshape(x, (*x.shape, 1)), b.constant(bounds.astype(x.dtype), "boundaries"))
    return b(ops.ReduceSum((x.rank,), False), b.cast(reached, "int32"))


#: What to do where the numbers decide how many elements a result has.
_DECIDED = "depends on the numbers; end the network before it, or export it with a fixed number of results"


@reads("WHERE")
def where(b: Builder, condition: Value) -> Value:
    """The places of what is not zero, row by row: of a constant, their number is known."""
    found = b.array(condition)
    if found is None:
        raise Unsupported(f"how many elements it finds {_DECIDED}")
    return b.constant(np.argwhere(found).astype(b.declared[0].meaning), "places")


@reads("UNIQUE", "UniqueOptions")
def unique(b: Builder, x: Value) -> tuple[Value, Value]:
    """The values in the order they first occur, and where each element's is among them."""
    found = b.array(x)
    if found is None or found.ndim != 1:
        raise Unsupported(f"how many values it finds {_DECIDED}")
    values, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    order = np.argsort(first)
    places = np.argsort(order)[inverse.reshape(-1)].astype(b.declared[1].meaning)
    return b.constant(values[order], "values"), b.constant(places, "places")


@reads("SPARSE_TO_DENSE", "SparseToDenseOptions")
def sparse_to_dense(b: Builder, indices: Value, shape: Value, values: Value, default: Value) -> Value:
    """The values at their constant places, the default elsewhere; the last of those at one place stays."""
    wanted, found = b.ints(shape, "shape"), b.array(indices)
    if found is None:
        raise Unsupported("its places are computed while the network runs")
    if min(wanted, default=1) < 1 or math.prod(wanted) > _MAX_MADE:
        raise Unsupported(f"its shape is {wanted[:8]}")
    rows = found.reshape(-1, len(wanted)).astype(np.int64)
    if (rows < 0).any() or (rows >= np.asarray(wanted)).any():
        raise Unsupported(f"its places leave {wanted[:8]}")
    flat = b.expand(values, (len(rows),)) if values.size == 1 else b.reshape(values, (len(rows),))
    source = np.full(math.prod(wanted), len(rows), np.int32)
    source[np.ravel_multi_index(tuple(rows.T), tuple(wanted))] = np.arange(len(rows))
    parts = b.concat([flat, b.reshape(default, (1,))], 0)
    return b.reshape(b(ops.Gather(0), parts, b.constant(source, "places")), wanted)
