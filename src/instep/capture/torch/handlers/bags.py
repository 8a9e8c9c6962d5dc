"""Embeddings that are summed up, averaged or maximised over bags of known sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from instep.capture.torch.builder import Builder
from instep.capture.torch.handlers.scan import limits
from instep.capture.torch.registry import Missing, handles
from instep.graph import Value, ops

__all__: list[str] = []

SUM, MEAN, MAX = range(3)


@handles("embedding_bag")
def embedding_bag(
    b: Builder,
    weight: Value,
    indices: Value,
    offsets: Value,
    scale_grad_by_freq: bool = False,
    mode: int = SUM,
    sparse: bool = False,
    per_sample_weights: Value | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Any, ...]:
    """A row per bag: of the embeddings of its indices, those of ``padding_idx`` left out; an empty bag is zero."""
    starts = b.known(offsets, "offsets", 2)
    if starts is None:
        raise b.fail("embedding_bag with computed offsets")
    starts = starts[:-1] if include_last_offset else starts
    sizes = np.diff(np.append(starts, indices.size))
    rows = b(ops.Gather(0), weight, indices)
    if per_sample_weights is not None:
        rows = b(ops.Mul(), rows, b.reshape(per_sample_weights, (-1, 1)))
    counted: Value | None = None
    neutral = limits(rows.dtype)[0] if mode == MAX else 0.0
    if padding_idx is not None and padding_idx >= 0:
        counted = b.reshape(b(ops.NotEqual(), indices, b.scalar(padding_idx, indices.dtype)), (-1, 1))
        rows = b(ops.Where(), counted, rows, b.scalar(neutral, rows.dtype))
        counted = b.cast(counted, rows.dtype)
    bags = _bags(b, rows, starts, sizes, neutral)
    counts = b.constant(sizes[:, None].astype(rows.dtype), "sizes") if counted is None else None
    if counts is None and counted is not None and mode != SUM:
        counts = b(ops.ReduceSum((1,), False), _bags(b, counted, starts, sizes, 0.0))
    y = b((ops.ReduceMax if mode == MAX else ops.ReduceSum)((1,), False), bags)
    if mode == MEAN and counts is not None:
        y = b(ops.Div(), y, b(ops.Clip(low=1.0), counts))
    if mode == MAX and counts is not None and (counted is not None or not sizes.all()):
        zero = b.scalar(0.0, y.dtype)
        y = b(ops.Where(), b(ops.Greater(), counts, zero), y, zero)
    return y, *(Missing("what embedding_bag keeps for its gradient") for _ in range(3))


def _bags(b: Builder, rows: Value, starts: np.ndarray, sizes: np.ndarray, neutral: float) -> Value:
    """[bags, rows of the largest, n]; shorter bags are filled up with ``neutral``."""
    most = int(sizes.max(initial=1))
    if (sizes == most).all():
        return b.reshape(rows, (len(sizes), most, rows.shape[1]))
    place = np.arange(most)
    places = np.where(place < sizes[:, None], starts[:, None] + place, rows.shape[0])
    filled = b.concat([rows, b.full((1, rows.shape[1]), neutral, rows.dtype)], 0)
    return b(ops.Gather(0), filled, b.constant(places.astype(np.int32), "places"))
