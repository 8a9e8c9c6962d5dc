"""Instep as the benchmarks run it: capture, rewrite and emit timed apart, and the file of the convolutions alone."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from instep.graph import Graph, Value

__all__ = ["convert", "convolutions_alone", "prepare", "version"]


def version() -> str:
    """Instep's version."""
    import instep

    tune = os.environ.get("INSTEP_TUNE")
    return instep.__version__ + (f"-{tune}" if tune else "")


def prepare() -> None:
    """Import what a conversion needs, so that the imports are not timed."""
    import instep.capture.torch.capture
    import instep.emit.tflite
    import instep.rewrite.pipelines  # noqa: F401


def convert(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], outputs: list[torch.Tensor], path: Path
) -> dict[str, float]:
    """Convert and write ``path``, and beside it ``<name>.floor.tflite``. Returns seconds of the steps and "total".

    $INSTEP_TUNE is the ``tune`` of ``to_tflite``.
    """
    from instep.capture import capture
    from instep.emit import tflite
    from instep.rewrite.pipelines import to_tflite

    start = time.perf_counter()
    captured = capture(module, inputs=list(inputs))
    captured_at = time.perf_counter()
    graph, _ = to_tflite(captured.graph, tune=os.environ.get("INSTEP_TUNE", ""))
    rewritten_at = time.perf_counter()
    tflite.write(graph, path)
    end = time.perf_counter()
    floor = convolutions_alone(graph)
    if floor is not None:
        tflite.write(floor, path.with_suffix(".floor.tflite"))
    return {
        "capture": captured_at - start,
        "rewrite": rewritten_at - captured_at,
        "emit": end - rewritten_at,
        "total": end - start,
    }


def convolutions_alone(graph: Graph) -> Graph | None:
    """The convolutions and fully connected layers of a lowered graph and nothing else; None when it has none.

    Each reads the latest unread result of its input's shape, so that its input is as warm in the caches as in the
    network; where there is none it reads a graph input of that shape, one per shape. What nobody reads is a graph
    output, so that no runtime can leave a convolution out. The numbers are meaningless, the work is the same.
    """
    from instep.graph import Graph, Node, Value
    from instep.graph.ops import Conv2d, ConvTranspose2d, Linear

    alone = Graph()
    waiting: dict[tuple[int, ...], list[Value]] = {}
    given: dict[tuple[int, ...], Value] = {}
    for node in graph.nodes:
        constant = all(v in graph.weights for v in node.inputs[1:])
        if not isinstance(node.op, Conv2d | ConvTranspose2d | Linear) or not constant:
            continue
        shape = node.inputs[0].shape
        if waiting.get(shape):
            x = waiting[shape].pop()
        else:
            if shape not in given:
                given[shape] = Value(f"input{len(given)}", shape)
            x = given[shape]
        weights: list[Value] = []
        for value in node.inputs[1:]:
            alone.weights[value] = graph.weights[value]
            weights.append(value)
        result = Value(node.output.name, node.output.shape, node.output.dtype)
        alone.nodes.append(Node(node.op, [x, *weights], [result], node.scope, node.origin))
        waiting.setdefault(result.shape, []).append(result)
    alone.inputs = list(given.values())
    alone.outputs = [value for values in waiting.values() for value in values]
    alone.input_names = [v.name for v in alone.inputs]
    alone.output_names = [f"output{i}" for i in range(len(alone.outputs))]
    return alone if alone.nodes else None
