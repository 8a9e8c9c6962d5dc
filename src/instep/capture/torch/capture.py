"""The way from a PyTorch source to a Captured: load, export, flatten, convert."""

from __future__ import annotations

import time
from typing import Any

from instep.capture.base import Captured
from instep.capture.torch.convert import convert
from instep.capture.torch.export import export
from instep.capture.torch.flatten import flatten
from instep.capture.torch.frozen import frozen_norms
from instep.capture.torch.places import blocks_of
from instep.capture.torch.reference import TorchReference
from instep.capture.torch.source import load
from instep.capture.torch.tracing import paused_garbage_collection
from instep.capture.torch.trained import note_untrained, staying_in_eval
from instep.capture.torch.weights import load_weights

__all__ = ["capture_torch"]


def capture_torch(
    source: Any, *, weights: str | None = None, inputs: Any = None, args: dict[str, Any] | None = None, seed: int = 0
) -> Captured:
    """See ``instep.capture.capture``; raises CaptureError."""
    start = time.perf_counter()
    loaded = load(source, args=args, seed=seed, weights=weights)
    notes = list(loaded.notes)
    if loaded.exported is None and weights is not None:
        notes += load_weights(loaded.module, weights)
    middle = time.perf_counter()
    with paused_garbage_collection():
        still = staying_in_eval(loaded.module)
        exported = loaded.exported if loaded.exported is not None else export(loaded, inputs, notes)
        done = time.perf_counter()
        program = flatten(exported)
        graph, sources = convert(program)
    outputs = {value.name: step for value, (_, step) in zip(graph.outputs, program.outputs, strict=True)}
    frozen_norms(graph, exported)
    graph.meta.update(loaded.meta)
    graph.meta["source"] = loaded.name
    if blocks := blocks_of(exported.graph.nodes):
        graph.meta["blocks"] = blocks
    note_untrained(graph, exported, still)
    notes += program.notes
    reference = TorchReference(program, sources, outputs)
    seconds = {"load": middle - start, "export": done - middle, "convert": time.perf_counter() - done}
    return Captured(graph, reference, notes, loaded.name, seconds)
