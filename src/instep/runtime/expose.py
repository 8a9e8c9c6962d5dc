"""Copies of a TFLite file with other outputs: the way to read values on an engine that hides them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instep.runtime.info import tflite_info

__all__ = ["expose", "shorten"]


def expose(path: str | Path, out: str | Path, tensors: Sequence[str]) -> list[str]:
    """Write ``path`` to ``out`` with ``tensors`` (by name) as further outputs, behind its own. Returns their names.

    Only values that operators make are shown, each once, and none that is an output already: engines get files wrong
    whose outputs repeat, or are inputs or constants. A name that several tensors carry is left out.
    """
    info = tflite_info(path)
    made = {i for op in info.ops for i in op.outputs if i >= 0} - set(info.outputs)
    places: dict[str, list[int]] = {}
    for index in sorted(made):
        places.setdefault(info.tensors[index].name, []).append(index)
    shown = [name for name in dict.fromkeys(tensors) if len(places.get(name, ())) == 1]
    _write(path, out, [*info.outputs, *(places[name][0] for name in shown)], len(info.ops))
    return shown


def shorten(path: str | Path, out: str | Path, count: int) -> list[str]:
    """Write the first ``count`` operators of ``path`` to ``out``; its outputs are what those leave unread.

    Returns the names of the outputs.
    """
    info = tflite_info(path)
    ops = info.ops[:count]
    read = {i for op in ops for i in op.inputs}
    made = dict.fromkeys(i for op in ops for i in op.outputs if i >= 0)
    outputs = [i for i in made if i not in read or i in info.outputs]
    _write(path, out, outputs, count)
    return [info.tensors[i].name for i in outputs]


def _write(path: str | Path, out: str | Path, outputs: Sequence[int], count: int) -> None:
    """A copy of ``path`` of its first ``count`` operators with the tensors ``outputs`` as its outputs."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    info = tflite_info(path)
    data = Path(path).read_bytes()
    model: Any = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for buffer in model.buffers:
        if buffer.offset > 1:  # large weights lie behind the flatbuffer, whose length is about to change
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    main = model.subgraphs[0]
    main.outputs, main.operators = list(outputs), main.operators[:count]
    if model.signatureDefs:
        called = dict(zip(info.outputs, info.output_names, strict=True))
        model.signatureDefs = model.signatureDefs[:1]
        model.signatureDefs[0].outputs = []
        for index in outputs:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = called.get(index, info.tensors[index].name), index
            model.signatureDefs[0].outputs.append(entry)
    builder = flatbuffers.Builder(info.bytes)
    builder.Finish(model.Pack(builder), b"TFL3")
    Path(out).write_bytes(builder.Output())
