"""The way from a Keras model to a Captured: opened as data, converted, with the graph itself as reference."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from instep.capture.base import Captured, CaptureError, Found
from instep.capture.keras.convert import convert
from instep.capture.keras.file import SUFFIXES, Saved, is_model, label_of, open_model, open_saved, open_weights
from instep.capture.keras.hdf5 import closing
from instep.capture.keras.network import Network, is_network, read_network
from instep.graph import Spec
from instep.graph.reference import GraphReference

if TYPE_CHECKING:
    from instep.capture.keras.tracing import Live

__all__ = ["capture_keras"]

_MAX_SIZE = 1 << 20


def capture_keras(
    source: Any, *, weights: str | None = None, inputs: Any = None, args: Any = None, seed: int = 0
) -> Captured:
    """See ``instep.capture.capture``; ``source`` may be what code gave. ``inputs`` settle sizes that the model leaves
    open; ``weights`` may be another file of the same model's weights (.weights.h5, .h5, .keras). Raises CaptureError.

    The reference is the graph itself in float64 or float32; where Keras is installed, ``verify/origin.py`` holds it
    against what Keras computes.
    """
    if args:
        raise CaptureError("a Keras model takes no arguments; leave --arg out")
    if weights is not None and not os.fspath(weights).endswith(SUFFIXES):
        raise CaptureError(f"{weights}: a Keras model takes the weights of a .weights.h5, .h5 or .keras file")
    start = time.perf_counter()
    found = source if isinstance(source, Found) else None
    source = source if found is None else found.network
    with closing():
        saved, live = _opened(source, inputs)
        inputs = inputs if live is None else None
        if not is_network(saved.config):
            raise CaptureError(_no_network(saved))
        try:
            network = read_network(saved.config, saved.label)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, CaptureError):
                raise
            raise CaptureError(f"{saved.label}: its config is damaged: {type(error).__name__}: {error}") from None
        specs = _specs(network, saved.label, inputs)
        store = saved.weights if weights is None else open_weights(weights)
        middle = time.perf_counter()
        graph, notes = convert(network, store, specs, saved.label, saved.major)
    if found is not None:
        saved.label, notes, source = found.text, [*found.notes, *notes], found.file or source
    source = live or source
    if weights is not None:
        notes.append(f"weights from {os.path.basename(weights)}")
        graph.meta["weights"] = os.path.basename(weights)
    graph.meta["source"] = saved.label
    seconds = {"load": middle - start, "export": 0.0, "convert": time.perf_counter() - middle}
    return Captured(graph, GraphReference(graph), notes, saved.label, seconds, source)


def _opened(source: Any, inputs: Any) -> tuple[Saved, Live | None]:
    """The model as data; what runs it, where it is a live one whose call() had to be followed."""
    if isinstance(source, str | os.PathLike):
        return open_saved(source), None
    from instep.capture.keras.tracing import followed, needs_following

    if not is_model(source) or not needs_following(source):
        return open_model(source), None
    with followed(source, inputs, label_of(source)) as (functional, live):
        return open_model(functional), live


def _no_network(saved: Saved) -> str:
    kind = saved.config.get("registered_name") or saved.config["class_name"]
    return (
        f"{saved.label} is a {kind}, a model with a call() of its own, which is not in the file. Give the code that "
        "makes it, file.py:factory, or from Python the live model: its call() is followed"
    )


def _specs(network: Network, label: str, inputs: Any) -> list[Spec]:
    """Shapes and dtypes of the inputs; one sample where the batch is open."""
    names = network.input_names
    given: Sequence[Any] = [None] * len(names)
    if isinstance(inputs, dict):
        unknown = [n for n in inputs if n not in names]
        if unknown:
            raise CaptureError(f"{label} has no input '{unknown[0]}'; its inputs are {', '.join(names)}")
        given = [inputs.get(n) for n in names]
    elif inputs is not None:
        given = list(inputs)
    if len(given) != len(names):
        raise CaptureError(f"{label} has {len(names)} inputs ({', '.join(names)}), {len(given)} were given")
    return [
        _spec(label, name, settled, dtype, entry)
        for name, settled, dtype, entry in zip(names, network.shapes, network.dtypes, given, strict=True)
    ]


def _spec(label: str, name: str, settled: tuple[int | None, ...] | None, dtype: str, entry: Any) -> Spec:
    kind = {"float16": "float32", "bfloat16": "float32", "float64": "float32"}.get(dtype, dtype)
    if kind not in ("float32", "int8", "uint8", "int16", "int32", "int64", "bool"):
        raise CaptureError(f"{label}: input '{name}' is {dtype[:40]}, which Instep does not handle")
    if entry is not None:
        shape = entry.shape if isinstance(entry, Spec) else _shape(entry)
        fits = settled is None or (
            len(settled) == len(shape) and all(n in (None, m) for n, m in zip(settled, shape, strict=True))
        )
        if not fits or min(shape, default=1) < 1:
            raise CaptureError(f"{label}: input '{name}' has the shape {list(settled or ())}, got {list(shape)}")
        return Spec(tuple(int(n) for n in shape), kind)
    if settled is None or None in settled[1:]:
        said = "no shape" if settled is None else f"the open shape {list(settled)}"
        raise CaptureError(f"{label}: input '{name}' has {said}; give its sizes with --input, e.g. --input 1,224,224,3")
    sizes = (1 if settled[0] is None else settled[0], *(n for n in settled[1:] if n is not None))
    if any(not 1 <= n <= _MAX_SIZE for n in sizes) or len(sizes) > 8:
        raise CaptureError(f"{label}: input '{name}' cannot have the shape {list(sizes)}")
    return Spec(sizes, kind)


def _shape(entry: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in (entry if isinstance(entry, (list, tuple)) else np.shape(entry)))
