"""The way from a PyTorch source to a Captured: load, export, flatten, convert."""

from __future__ import annotations

import time
from typing import Any

from instep.capture.base import Captured
from instep.capture.torch.convert import convert
from instep.capture.torch.export import export
from instep.capture.torch.flatten import flatten
from instep.capture.torch.places import blocks_of
from instep.capture.torch.reference import TorchReference
from instep.capture.torch.source import load
from instep.capture.torch.tracing import paused_garbage_collection
from instep.capture.torch.weights import load_weights
from instep.graph import Graph, ops

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
        exported = loaded.exported if loaded.exported is not None else export(loaded, inputs, notes)
        done = time.perf_counter()
        program = flatten(exported)
        graph, sources = convert(program)
    outputs = {value.name: step for value, (_, step) in zip(graph.outputs, program.outputs, strict=True)}
    graph.meta.update(loaded.meta)
    graph.meta["source"] = loaded.name
    if blocks := blocks_of(exported.graph.nodes):
        graph.meta["blocks"] = blocks
    if buffers := _buffers(exported, graph):
        graph.meta["buffers"] = buffers
    notes += program.notes
    reference = TorchReference(program, sources, outputs)
    seconds = {"load": middle - start, "export": done - middle, "convert": time.perf_counter() - done}
    return Captured(graph, reference, notes, loaded.name, seconds)


def _buffers(exported: Any, graph: Graph) -> list[str]:
    """The arrays that the network keeps and does not train: parameters without a gradient, buffers, and constants of
    its own forward() (those of a scope say so by their names). A batch norm's statistics are so where its weights are.
    A network that trains none of its parameters is in use, and says nothing of what is to be trained.
    """
    parameters = {s.target for s in exported.graph_signature.input_specs if s.kind.name == "PARAMETER"}
    trained = {name for name in parameters if exported.state_dict[name].requires_grad} or parameters
    kept = parameters - trained
    norms = [n for n in graph.nodes if isinstance(n.op, ops.BatchNorm)]
    read = {v for n in graph.nodes if n not in norms for v in n.inputs} | set(graph.outputs)
    read |= {v for n in norms for v in n.inputs if any(w.name in kept for w in n.inputs[1:3])}
    return [v.name for v in graph.weights if v in read and v.name not in trained and "/" not in v.name]
