"""Functions that look elements up, and those that write numbers as places: one-hot rows, counts, segments."""

from __future__ import annotations

from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.arithmetic import common, kind_of
from instep.capture.keras.handlers.views import sizes_of
from instep.capture.keras.registry import Unsupported, function
from instep.graph import Value, ops

__all__ = ["hot", "passed"]

#: Operators whose results are places, and so never below zero.
_PLACES = (ops.ArgMax, ops.ArgMin, ops.TopK)


@function("Take", "tf.gather")
def take(b: Builder, x: Any = None, indices: Any = None, axis: Any = None, params: Any = None, batch_dims: Any = 0,
         name: Any = None, validate_indices: Any = None) -> Value:  # fmt: skip
    table = x if x is not None else params
    table = b.operand(table, table.dtype if hasattr(table, "dtype") else "float32")
    if batch_dims:
        raise Unsupported("it gathers in batches; use take_along_axis")
    if axis is None and b.place.layer.operation:  # TensorFlow's gathers along the first axis
        table = b.reshape(table, (table.size,))
    at = b.axis(axis or 0, table.rank)
    return b(ops.Gather(at), table, _indices(b, indices, table.shape[at]))


def _indices(b: Builder, indices: Any, size: int) -> Value:
    """Places from 0 on; those below count from the end."""
    if isinstance(indices, list | int):
        numbers = np.asarray(indices, np.int32)
        return b.constant(np.where(numbers < 0, numbers + size, numbers).astype(np.int32), "indices")
    if not isinstance(indices, Value):
        raise Unsupported(f"its indices are {str(indices)[:60]}")
    if np.dtype(indices.dtype).kind not in "iu":
        indices = b.cast(indices, "int32")
    if not b.place.layer.operation or np.dtype(indices.dtype).kind == "u" or _never_below(b, indices):
        return indices
    below = b(ops.Less(), indices, b.scalar(0, indices.dtype))
    return b(ops.Where(), below, b(ops.Add(), indices, b.scalar(size, indices.dtype)), indices)


def _never_below(b: Builder, indices: Value) -> bool:
    maker = b.graph.producers().get(indices)
    while maker is not None and isinstance(maker.op, ops.Cast | ops.Reshape | ops.Permute | ops.Expand | ops.Slice):
        maker = b.graph.producers().get(maker.inputs[0])
    return maker is not None and isinstance(maker.op, _PLACES)


@function("TakeAlongAxis")
def take_along_axis(b: Builder, x: Value, indices: Any = None, axis: Any = None) -> Value:
    if not isinstance(indices, Value | list):
        raise Unsupported(f"its indices are {str(indices)[:60]}")
    if axis is None:
        x, axis = b.reshape(x, (x.size,)), 0
    at = b.axis(axis, x.rank)
    places = _indices(b, indices, x.shape[at])
    if places.rank != x.rank:
        raise Unsupported(f"its indices have the shape {list(places.shape)} for {list(x.shape)}")
    wide = [max(n, m) for n, m in zip(x.shape, places.shape, strict=True)]
    x = b.expand(x, [x.shape[a] if a == at else n for a, n in enumerate(wide)])
    places = b.expand(places, [places.shape[a] if a == at else n for a, n in enumerate(wide)])
    return b(ops.TakeAlong(at), x, places)


# -- places as numbers -------------------------------------------------------------------------------------------------
def hot(b: Builder, x: Value, count: int, dtype: str = "float32") -> Value:
    """Whole numbers as rows of ``count`` zeros with a one at their place; none for what is no place."""
    x = x if x.dtype in ("int32", "int64") else b.cast(x, "int32")
    classes = b.constant(np.arange(count, dtype=x.dtype), "classes")
    return b.cast(b(ops.Equal(), b.reshape(x, (*x.shape, 1)), classes), dtype)


@function("OneHot", "tf.one_hot")
def one_hot(b: Builder, x: Value, num_classes: Any = None, axis: Any = -1, dtype: Any = None, sparse: bool = False,
            depth: Any = None, on_value: Any = None, off_value: Any = None, name: Any = None) -> Value:  # fmt: skip
    count = num_classes if num_classes is not None else depth
    if sparse or not isinstance(count, int) or on_value not in (None, 1) or off_value not in (None, 0):
        raise Unsupported("it is sparse, or has other numbers than 0 and 1")
    rows = hot(b, x, count, "float32" if dtype is None else kind_of(dtype))
    at = b.axis(-1 if axis is None else axis, rows.rank)
    last = rows.rank - 1
    return b.permute(rows, [*range(at), last, *range(at, last)])


@function("MultiHot")
def multi_hot(b: Builder, inputs: Value, num_classes: Any = None, axis: Any = -1, dtype: Any = None,
              sparse: bool = False, num_tokens: Any = None) -> Value:  # fmt: skip
    rows = one_hot(b, inputs, num_classes or num_tokens, axis, "float32", sparse)
    y = b(ops.ReduceMax((1 if inputs.rank > 1 else 0,), False), rows)
    return y if dtype is None else b.cast(y, kind_of(dtype))


def passed(b: Builder, x: Value, edges: Any, right: bool) -> Value:
    """How many of the rising ``edges`` lie below each element, or at it with ``right``."""
    dtype = common(x, edges) if hasattr(edges, "dtype") else "float32"
    bounds = b.operand(edges, dtype)
    wide = b.reshape(b.cast(x, dtype), (*x.shape, 1))
    beyond = b((ops.GreaterEqual if right else ops.Greater)(), wide, bounds)
    return b(ops.ReduceSum((x.rank,), False), b.cast(beyond, "int32"))


@function("Digitize")
def digitize(b: Builder, x: Value, bins: Any = None) -> Value:
    return passed(b, x, bins, True)


@function("SearchSorted", "tf.searchsorted")
def search_sorted(b: Builder, sorted_sequence: Any = None, values: Any = None, side: str = "left",
                  out_type: Any = None, name: Any = None) -> Value:  # fmt: skip
    if not isinstance(values, Value) or (isinstance(sorted_sequence, Value) and sorted_sequence.rank != 1):
        raise Unsupported("it looks up numbers that are no tensor, or in several rows")
    return passed(b, values, sorted_sequence, side == "right")


@function("UnravelIndex")
def unravel_index(b: Builder, indices: Value, shape: Any = None) -> tuple[Value, ...]:
    """The place along each axis of ``shape``; places below zero count from the end."""
    sizes = sizes_of(shape, 1)
    if indices.rank != 1:
        raise Unsupported("of places in more than one row, which Keras on TensorFlow mixes up; ravel them")
    total = int(np.prod(sizes))
    rest = b(ops.FloorMod(), indices, b.scalar(total, indices.dtype))
    found = []
    for n in reversed(sizes):
        found.append(b(ops.FloorMod(), rest, b.scalar(n, indices.dtype)))
        rest = b(ops.FloorDiv(), rest, b.scalar(n, indices.dtype))
    return tuple(reversed(found))


@function("SegmentSum")
def segment_sum(b: Builder, data: Value, segment_ids: Any = None, num_segments: Any = None,
                sorted: bool = False) -> Value:  # fmt: skip
    """Rows summed by the segment that each belongs to, as a product with a matrix of zeros and ones."""
    if not isinstance(num_segments, int):
        raise Unsupported("without num_segments its shape depends on the numbers; give num_segments")
    ids = b.operand(segment_ids, "int32")
    rows = b.permute(hot(b, ids, num_segments, data.dtype), (1, 0))
    flat = b.reshape(data, (data.shape[0], data.size // data.shape[0]))
    return b.reshape(b(ops.MatMul(), rows, flat), (num_segments, *data.shape[1:]))
