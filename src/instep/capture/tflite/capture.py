"""The way from a .tflite file to a Captured: read, convert, and a reference that runs the graph's meaning."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from instep.capture.base import Captured, CaptureError
from instep.capture.tflite.convert import convert
from instep.capture.tflite.file import TfliteFile, read_file
from instep.graph import Spec
from instep.graph.reference import GraphReference

__all__ = ["capture_tflite"]


def capture_tflite(
    source: str | os.PathLike[str], *, weights: str | None = None, inputs: Any = None, args: Any = None, seed: int = 0
) -> Captured:
    """See ``instep.capture.capture``. ``inputs`` may settle sizes that the file leaves open. Raises CaptureError.

    The reference is the graph itself in float64 or float32: what a file computes is defined by its operators alone.
    """
    if weights is not None or args:
        raise CaptureError("a .tflite file brings its own weights and no arguments; leave --weights and --arg out")
    start = time.perf_counter()
    file = read_file(source)
    middle = time.perf_counter()
    graph, _, notes = convert(file, _given(file, inputs))
    graph.meta["source"] = file.label
    seconds = {"load": middle - start, "export": 0.0, "convert": time.perf_counter() - middle}
    return Captured(graph, GraphReference(graph), notes, file.label, seconds, source)


def _given(file: TfliteFile, inputs: Any) -> dict[int, Spec]:
    """Input tensor → the shape that the user wants, which must keep what the file settles."""
    if inputs is None:
        return {}
    main = file.subgraphs[0]
    if isinstance(inputs, dict):
        unknown = [n for n in inputs if n not in file.input_names]
        if unknown:
            raise CaptureError(f"{file.path} has no input '{unknown[0]}'; its inputs are {', '.join(file.input_names)}")
        entries: Sequence[Any] = [inputs.get(name) for name in file.input_names]
    else:
        entries = list(inputs)
    if len(entries) != len(main.inputs):
        raise CaptureError(f"{file.path} has {len(main.inputs)} inputs, {len(entries)} were given")
    found = {}
    for index, entry in zip(main.inputs, entries, strict=True):
        if entry is None:
            continue
        shape = _shape(entry)
        tensor = main.tensors[index]
        settled = tensor.signature or tensor.shape
        if len(shape) != len(settled) or any(n not in (-1, m) for n, m in zip(settled, shape, strict=True)):
            raise CaptureError(f"{file.path}: input '{tensor.name}' has the shape {list(settled)}, got {list(shape)}")
        found[index] = Spec(shape, tensor.meaning)
    return found


def _shape(entry: Any) -> tuple[int, ...]:
    if isinstance(entry, Spec):
        return entry.shape
    return tuple(int(n) for n in (entry if isinstance(entry, (list, tuple)) else np.shape(entry)))
