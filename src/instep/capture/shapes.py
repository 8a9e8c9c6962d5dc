"""What a person writes of a network's inputs: ``1,3,64,64``, ``x=1,3,64,64``, ``int64:1,77``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instep.capture.base import CaptureError
from instep.graph import Spec

__all__ = ["INPUT_TYPES", "shapes_of"]

#: What an input may hold; float32 where the source and the user say nothing.
INPUT_TYPES = ("float32", "int64", "int32", "bool")


def shapes_of(inputs: Any, option: str = "inputs") -> Any:
    """``inputs`` with what is written in words read, the rest as it is.

    ``["1,3,64,64"]`` → ``[[1, 3, 64, 64]]``; ``["x=1,3"]`` → ``{"x": [1, 3]}``; ``["int64:1,77"]`` → a Spec.
    ``option`` is what messages call the inputs. Raises CaptureError.
    """
    if isinstance(inputs, str):
        inputs = [inputs]
    if isinstance(inputs, Mapping):
        return {k: _shape(v, f"{k}={v}", option) if isinstance(v, str) else v for k, v in inputs.items()}
    if not isinstance(inputs, list | tuple) or not any(isinstance(entry, str) for entry in inputs):
        return inputs
    named = [entry for entry in inputs if isinstance(entry, str) and "=" in entry]
    if not named:
        return [_shape(entry, entry, option) if isinstance(entry, str) else entry for entry in inputs]
    if len(named) != len(inputs):
        raise CaptureError(f"{option}: name all inputs ({option} x=1,3,64,64) or none")
    parts = [entry.partition("=") for entry in named]
    return {name: _shape(sizes, f"{name}={sizes}", option) for name, _, sizes in parts}


def _shape(text: str, whole: str, option: str) -> Any:
    """A list of sizes; with a kind of number before a colon a Spec."""
    dtype, colon, sizes_text = text.rpartition(":")
    if colon and dtype not in INPUT_TYPES:
        raise CaptureError(f"{option} {whole}: {dtype!r} is none of {', '.join(INPUT_TYPES)}; write int64:1,77")
    try:
        sizes = [int(part) for part in sizes_text.replace("x", ",").split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise CaptureError(f"{option} {whole}: a shape is positive whole numbers with commas, e.g. 1,3,224,224")
    return Spec(tuple(sizes), dtype) if colon else sizes
