"""Layers that turn numbers into categories, and categories into numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.picking import hot, passed
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []


@layer("CategoryEncoding")
def category_encoding(b: Builder, x: Value, count_weights: Value | None = None) -> Value:
    return _encoded(b, x, b.whole("num_tokens"), b.field("output_mode", "multi_hot"), count_weights)


def _encoded(b: Builder, x: Value, depth: int, mode: Any, weights: Value | None = None) -> Value:
    """Whole numbers as a row for each ("one_hot"), or one for a sample: whether ("multi_hot"), how often ("count")."""
    if b.flag("sparse"):
        raise Unsupported("its result is sparse; leave sparse=False")
    if mode == "one_hot":
        return hot(b, b.reshape(x, x.shape[:-1]) if x.rank > 1 and x.shape[-1] == 1 else x, depth)
    if mode not in ("multi_hot", "count"):
        raise Unsupported(f"its output_mode is {mode!r}")
    rows = hot(b, x, depth)
    axes = (1 if x.rank > 1 else 0,)
    if mode == "multi_hot":
        return b(ops.ReduceMax(axes, False), rows)
    if weights is not None:
        rows = b(ops.Mul(), rows, b.reshape(b.floating(weights), (*weights.shape, 1)))
    return b(ops.ReduceSum(axes, False), rows)


@layer("Discretization")
def discretization(b: Builder, x: Value) -> Value:
    """The number of the interval between boundaries in which each element lies, or that encoded."""
    edges = b.field("bin_boundaries")
    if not isinstance(edges, list) or not edges:
        raise Unsupported("its bin_boundaries are not in the file; adapt it before it is saved")
    array = b.told("boundaries", np.sort(b.numbers(edges, "bin_boundaries").reshape(-1)))
    found = passed(b, b.floating(x), array, True)
    mode = b.field("output_mode", "int")
    if mode != "int":
        return _encoded(b, found, len(edges) + 1, mode)
    return found if b.major >= 3 else b.cast(found, "int64")


@layer("IntegerLookup")
def integer_lookup(b: Builder, x: Value) -> Value:
    """The place of each number in the vocabulary, behind the mask's place and those of unknown numbers."""
    words = b.field("vocabulary")
    words = words if isinstance(words, list) else []
    if not words or any(not isinstance(w, int) for w in words) or b.flag("invert"):
        raise Unsupported("its vocabulary is not in the file as numbers, or it is inverted; write it as Embedding")
    unknown, mask = b.whole("num_oov_indices", 1, 0), b.field("mask_token")
    if unknown != 1:
        raise Unsupported(f"it has {unknown} places for unknown numbers, which it tells apart by a hash; leave one")
    mode = b.field("output_mode", "int")
    masked = isinstance(mask, int) and mode == "int"
    words = [w for w in words if w != mask]
    found = _places(b, x, words, first=int(masked) + 1, other=int(masked))
    if masked:
        zero = b.scalar(0, "int64")
        found = b(ops.Where(), b(ops.Equal(), x, b.scalar(mask, x.dtype)), zero, found)
    if mode == "int":
        return found
    rows = _encoded(b, found, len(words) + 1, mode)
    return rows if b.major < 3 else b.cast(rows, "int64")


def _places(b: Builder, x: Value, words: Sequence[int], first: int, other: int) -> Value:
    """``first`` + the place of each number among ``words``; ``other`` for those that are not among them."""
    listed = b.constant(np.asarray(words, x.dtype), "vocabulary")
    same = b.cast(b(ops.Equal(), b.reshape(x, (*x.shape, 1)), listed), "int32")
    numbers = b.constant(np.arange(len(words), dtype=np.int32) + first - other, "places")
    place = b(ops.ReduceSum((x.rank,), False), b(ops.Mul(), same, numbers))
    return b.cast(b(ops.Add(), place, b.scalar(other, "int32")), "int64")
