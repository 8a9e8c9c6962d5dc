"""Writes a lowered graph as a TFLite file: one lowering function per operator class, one file per family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from instep.emit.tflite import elementwise, linear, reduce, shape, spatial  # noqa: F401  (they fill the table)
from instep.emit.tflite.metadata import pack
from instep.emit.tflite.standard import ENTRY, Standard
from instep.emit.tflite.table import LOWERINGS, EmitError, lowers
from instep.emit.tflite.writer import Writer
from instep.graph import Graph
from instep.whole import written

__all__ = ["LOWERINGS", "EmitError", "emit", "lowers", "write"]


def _fill(graph: Graph, half: bool) -> Writer:
    writer = Writer(graph, half=half)
    for value in graph.inputs:
        writer.tensor(value)
    for node in graph.nodes:
        lowering = LOWERINGS.get(type(node.op))
        if lowering is None:
            raise EmitError(
                f"{node.describe()}: TFLite has no such operator; run the rewrite 'lower' first, or register a "
                "lowering for it (docs/add-an-operator.md)"
            )
        lowering(writer, node)
    return writer


def emit(graph: Graph, *, half: bool = False, metadata: dict[str, Any] | None = None) -> bytes:
    """The bytes of a TFLite file that computes ``graph`` (stage "lowered": NHWC, one TFLite form per node).

    ``half`` stores the weights as float16 (the file computes in float32 still). ``metadata`` is added to the file's
    "instep" entry. Raises EmitError when a node has no TFLite form.
    """
    writer = _fill(graph, half)
    return b"".join(writer.parts(pack(graph, metadata)))


def write(
    graph: Graph,
    path: str | Path,
    *,
    half: bool = False,
    metadata: dict[str, Any] | None = None,
    standard: Standard | None = None,
) -> int:
    """As ``emit``, into the file ``path``, which appears whole or not at all. Returns the number of bytes.

    ``standard`` is what the file tells other tools. Weights go from their arrays to the file without a copy in between.
    """
    standard = standard or Standard()
    entries = pack(graph, metadata) | ({ENTRY: standard.entry} if standard.entry else {})
    parts = _fill(graph, half).parts(entries)
    with written(path) as file:
        return sum(file.write(part) for part in parts) + standard.append(file)
