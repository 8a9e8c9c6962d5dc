"""The way from a network's text to a Captured: parsed, its weights loaded or drawn, the graph itself as reference."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from instep.capture.base import Captured, CaptureError
from instep.capture.foreign import fit_keras, renamed
from instep.capture.keras.hdf5 import read_named
from instep.capture.tf.checkpoint import is_checkpoint, read_checkpoint
from instep.graph import SourceView
from instep.graph.reference import GraphReference
from instep.graph.text import TextError, is_text, parse

__all__ = ["capture_text", "is_text_source"]


def is_text_source(source: Any) -> bool:
    """Whether ``source`` is a network's text: a .yaml or .json file, or ``zoo:NAME``."""
    return is_text(source) or (isinstance(source, str) and source.startswith("zoo:"))


def capture_text(
    source: str | os.PathLike[str], *, weights: str | None = None, inputs: Any = None, args: Any = None, seed: int = 0
) -> Captured:
    """See ``instep.capture.capture``. ``args`` are the network's arguments. Raises CaptureError."""
    start = time.perf_counter()
    label = os.fspath(source)
    try:
        path = _path(label)
        given, notes = _weights(path, weights, inputs, args)
        middle = time.perf_counter()
        graph = parse(path, inputs=inputs, args=args, weights=given, seed=seed)
    except TextError as error:
        raise CaptureError(str(error)) from None
    if given is None and not graph.meta.pop("loaded", False) and graph.weights:
        notes.append(f"random weights from seed {seed}; --weights FILE loads trained ones")
    for value in (*graph.inputs, *(v for n in graph.nodes for v in n.outputs)):
        value.source = SourceView.whole(value.name, value.shape)
    graph.meta["source"] = label if label.startswith("zoo:") else os.path.basename(label)
    seconds = {"load": middle - start, "export": 0.0, "convert": time.perf_counter() - middle}
    return Captured(graph, GraphReference(graph), notes, graph.meta["source"], seconds)


def _path(label: str) -> str:
    if not label.startswith("zoo:"):
        return label
    from instep.zoo import path_of

    return os.fspath(path_of(label.removeprefix("zoo:")))


def _weights(path: str, weights: str | None, inputs: Any, args: Any) -> tuple[Any, list[str]]:
    """What ``parse`` takes as weights: a safetensors file is its own business, a .pth is read by torch.

    A text's ``names`` say what the files call its layers.
    """
    if weights is None or weights.endswith(".safetensors"):
        return weights, [] if weights is None else [f"weights from {os.path.basename(weights)}"]
    bare = parse(path, inputs=inputs, args=args, initial=False)
    said = bare.meta.get("names")
    table: dict[str, Any] = dict(said) if isinstance(said, dict) else {}
    loaded = f"weights from {os.path.basename(weights)}"
    if is_checkpoint(weights) or weights.endswith((".h5", ".hdf5")):
        found = read_checkpoint(weights) if is_checkpoint(weights) else read_named(weights)
        arrays, notes = fit_keras(found, bare, table, weights)
        return arrays, [loaded, *notes]
    from instep.capture.torch.weights import fitting, read_tensors, unwrap

    notes = []
    state = unwrap(read_tensors(weights), weights, notes)
    names = renamed(state, table)
    state = {names.get(k) or k: v for k, v in state.items() if names.get(k, k) is not None}
    state = fitting(state, {v.name: v for v in bare.weights}, notes)
    return {k: np.asarray(v.detach().cpu().numpy()) for k, v in state.items()}, [loaded, *notes]
