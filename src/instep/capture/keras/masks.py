"""Masks of steps, as Keras hands them on beside its tensors: who makes them, who passes them on, who takes them.

A mask is a boolean value: True where a step counts. Handlers that take it name it among their arguments, as Keras'
``call`` does: ``mask``, or ``query_mask`` and so on where several tensors come as arguments of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.network import Layer
from instep.capture.keras.registry import Unsupported
from instep.graph import Value, ops

__all__ = ["TAKING_OFF", "behind", "counted", "given", "leaves"]

#: Layers behind which the mask of their input holds on (``supports_masking`` of Keras 2 and 3).
_PASSING = frozenset({
    "Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dense", "Dropout", "ELU",
    "GaussianDropout", "GaussianNoise", "GroupNormalization", "GroupQueryAttention", "GroupedQueryAttention",
    "LayerNormalization", "LeakyReLU", "MultiHeadAttention", "PReLU", "ReLU", "Softmax", "SpatialDropout1D",
    "SpatialDropout2D", "SpatialDropout3D", "ThresholdedReLU", "UnitNormalization",
})  # fmt: skip
#: Those of Keras 3 alone.
_NEWER = frozenset({"Identity", "Normalization", "Rescaling", "TimeDistributed"})
_MERGING = frozenset({"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"})
_RECURRENT = frozenset({
    "LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D",
})  # fmt: skip
#: Layers whose mask changes nothing at rest.
_DEAF = frozenset({"BatchNormalization"})
#: Layers of Keras 3 behind which the tensors that they read have no mask any more, for whoever reads them next.
TAKING_OFF = frozenset({"MultiHeadAttention"})


def leaves(tree: Any) -> list[Any]:
    """What is in a list or a list of lists, None included."""
    if isinstance(tree, list | tuple):
        return [v for part in tree for v in leaves(part)]
    return [tree]


@cache
def _names(handler: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(handler).parameters)


def given(
    b: Builder, layer: Layer, handler: Any, args: list[Any], masks: list[Any], kwargs: dict[str, Any],
    named: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """``kwargs`` with the masks that Keras itself hands to the layer; ``masks`` lie as ``args`` do, ``named`` as
    ``kwargs``."""
    explicit = kwargs.pop("mask", None)
    takes = _names(handler) if handler is not None else ()
    if "mask" in takes:
        alone = sum(_tensors(v) for v in [*args, *kwargs.values()]) < 2
        # Keras 3 looks for the mask of a layer that is called with one argument of tensors only
        implicit = masks[0] if masks and (alone or b.major < 3) else None
        found = implicit if explicit is None else explicit
        return kwargs | {"mask": found} if any(m is not None for m in leaves(found)) else kwargs
    if isinstance(explicit, Value) and layer.kind not in _DEAF:
        raise Unsupported("it is called with a mask, and what that means to it is not known here")
    named = named | dict(zip(takes[1:], masks, strict=False))
    return {f"{n}_mask": m for n, m in named.items() if f"{n}_mask" in takes and isinstance(m, Value)} | kwargs


def _tensors(tree: Any) -> bool:
    return any(isinstance(v, Value) for v in leaves(tree))


def behind(
    b: Builder, layer: Layer, args: list[Any], masks: list[Any], values: Sequence[Value], explicit: Any = None
) -> list[Value | None]:
    """The mask of each of ``values``, which ``layer`` made of ``args`` with ``masks``."""
    nothing: list[Value | None] = [None] * len(values)
    first = args[0] if args else None
    before = explicit if explicit is not None else masks[0] if masks else None
    if layer.kind in ("Embedding", "ReversibleEmbedding"):
        shown = b.flag("mask_zero") and isinstance(first, Value)
        return [b(ops.NotEqual(), first, b.scalar(0, first.dtype)), *nothing[1:]] if shown else nothing  # type: ignore
    if layer.kind == "Masking" and isinstance(first, Value):
        return [counted(b, first, False)]
    if all(m is None for m in leaves(before)):
        return nothing
    if layer.kind == "GroupNormalization" and b.major < 3:
        raise Unsupported("a mask reaches it, which weighs its statistics; pass it on behind a layer that drops it")
    mask = _behind(b, layer, first, before)
    both = layer.kind == "Bidirectional" and b.field("merge_mode", "concat") is None
    return [mask, mask, *nothing[2:]] if both else [mask, *nothing[1:]]


def counted(b: Builder, x: Value, keepdims: bool) -> Value:
    """Where Masking counts a step: any of its features is another number than the layer's."""
    other = b(ops.NotEqual(), x, b.scalar(b.number("mask_value", 0.0), x.dtype))
    return b(ops.ReduceAny((x.rank - 1,), keepdims), other)


def _behind(b: Builder, layer: Layer, first: Any, before: Any) -> Value | None:
    mask = next(iter(leaves(before)))
    if layer.kind in _PASSING or (layer.kind in _NEWER and b.major >= 3):
        return mask
    if layer.kind in _RECURRENT:
        inner = b.field("layer")
        of = inner.get("config", {}) if isinstance(inner, dict) else layer.config
        return mask if of.get("return_sequences") else None
    if layer.kind == "TimeDistributed":  # Keras 2: of each step as a whole
        return mask if mask is None or mask.rank <= 2 else b(ops.ReduceAny(tuple(range(2, mask.rank)), False), mask)
    if layer.kind in ("Attention", "AdditiveAttention"):
        return mask
    if layer.kind in _MERGING:
        return _merged(b, leaves(before))
    if layer.kind == "Concatenate":
        return _joined(b, leaves(first), leaves(before))
    return None


def _merged(b: Builder, masks: list[Value | None]) -> Value | None:
    """Keras 3: where any counts, if all have one. Keras 2: where all of those count that are there."""
    known = [m for m in masks if m is not None]
    if b.major >= 3 and len(known) < len(masks):
        return None
    result = known[0]
    for mask in known[1:]:
        result = b((ops.LogicalOr if b.major >= 3 else ops.LogicalAnd)(), result, mask)
    return result


def _joined(b: Builder, inputs: list[Value], masks: list[Value | None]) -> Value:
    """Masks are joined as the inputs are; Keras 3 counts a step where any of its features counts, Keras 2 where all."""
    wide = []
    for x, mask in zip(inputs, masks, strict=True):
        if mask is None:
            mask = b.constant(np.ones(x.shape, bool), "mask")
        elif mask.rank < x.rank:
            mask = b.reshape(mask, (*mask.shape, *[1] * (x.rank - mask.rank)))
            mask = b.expand(mask, x.shape)
        wide.append(mask)
    joined = b.concat(wide, b.axis(b.field("axis", -1), inputs[0].rank))
    axes = (joined.rank - 1,)
    return b((ops.ReduceAny if b.major >= 3 else ops.ReduceAll)(axes, False), joined)
