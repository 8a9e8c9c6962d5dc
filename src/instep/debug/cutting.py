"""Writes a part of a TFLite file as a file of its own, losslessly: the same operators, options, scales and buffers."""

from __future__ import annotations

import copy
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instep.debug.flow import Flow, Part
from instep.runtime import TFLiteError, tflite_info
from instep.whole import written

__all__ = ["Cutter"]

#: What the runtime reads from a file's metadata; the rest speaks of the whole network.
KEPT_METADATA = {b"min_runtime_version", b"reduced_precision_support"}
#: Fields of operator options that name another subgraph.
SUBGRAPH_FIELDS = (
    "subgraph", "thenSubgraphIndex", "elseSubgraphIndex", "condSubgraphIndex", "bodySubgraphIndex",
    "initSubgraphIndex", "decompositionSubgraphIndex",
)  # fmt: skip


class Cutter:
    """One file, unpacked once, of which parts are written."""

    def __init__(self, path: str | Path) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.path = Path(path)
        self.info = tflite_info(path)
        self.flow = Flow(self.info)
        self.schema = schema
        data = self.path.read_bytes()
        try:
            self.model: Any = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
        except (struct.error, IndexError, TypeError, ValueError, OverflowError, MemoryError) as error:
            raise TFLiteError(f"{path}: damaged TFLite file ({error})") from None
        self._check_numbers()
        for buffer in self.model.buffers or []:
            if buffer.offset > 1:  # large weights lie behind the flatbuffer, whose length is about to change
                buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        for operator in (op for graph in self.model.subgraphs for op in graph.operators or []):
            if operator.largeCustomOptionsOffset > 1:
                start, size = operator.largeCustomOptionsOffset, operator.largeCustomOptionsSize
                operator.customOptions = np.frombuffer(data, np.uint8, size, start)
                operator.largeCustomOptionsOffset = operator.largeCustomOptionsSize = 0

    def _check_numbers(self) -> None:
        """TFLiteError where a tensor, a note that is kept or an operator of any subgraph names what is not there."""
        model, graphs = self.model, self.model.subgraphs
        holders = [t.buffer for g in graphs for t in g.tensors or []]
        holders += [m.buffer for m in model.metadata or [] if m.name in KEPT_METADATA]
        codes = [o.opcodeIndex for g in graphs for o in g.operators or []]
        for what, numbers, have in (("buffer", holders, model.buffers), ("operator code", codes, model.operatorCodes)):
            if numbers and max(numbers) >= len(have or []):
                raise TFLiteError(
                    f"{self.path}: damaged TFLite file ({what} {max(numbers)} of {len(have or [])} is named)"
                )

    def part(self, given: Sequence[int], wanted: Sequence[int]) -> Part:
        """The operators between the tensors ``given`` and ``wanted``. ValueError where there is no such part."""
        info = self.info
        label = {i: f"'{info.tensors[i].name}'" for i in (*given, *wanted)}
        for index in wanted:
            if index not in self.flow.maker:
                raise ValueError(f"{info.path}: {label[index]} is an input; no operator makes it, nothing ends there")
            if index in given:
                raise ValueError(f"{info.path}: {label[index]} is both where the part begins and where it ends")
        part = self.flow.between(given, wanted)
        unused = [i for i in given if i not in part.inputs and i not in info.inputs]
        if unused:
            ends = ", ".join(label[i] for i in wanted)
            raise ValueError(f"{info.path}: {label[unused[0]]} does not lead to {ends}; choose a value before it")
        return part

    def write(self, part: Part, out: str | Path, description: str = "") -> int:
        """Write ``part`` as the TFLite file ``out``, whole or not at all. Returns its size in bytes."""
        import flatbuffers

        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.excerpt(part, description).Pack(builder), b"TFL3")
        data = builder.Output()
        with written(out) as file:
            file.write(data)
        return len(data)

    def excerpt(self, part: Part, description: str = "") -> Any:
        """The part as an unpacked model of the schema; what it shares with the whole is not copied."""
        whole, main = self.model, self.model.subgraphs[0]
        model = copy.copy(whole)
        model.metadata, model.metadataBuffer = [], None
        model.description = description.encode() if description else whole.description
        graph = copy.copy(main)
        chosen = [copy.copy(main.operators[n]) for n in part.ops]
        model.subgraphs = [graph, *(whole.subgraphs[1:] if any(map(_calls, chosen)) else [])]
        graph.inputs, graph.outputs = list(part.inputs), list(part.outputs)

        used = {i for op in chosen for side in (op.inputs, op.outputs) for i in _numbers(side)}
        used.update(*(_numbers(op.intermediates) for op in chosen))
        order = sorted({i for i in used if i >= 0} | set(part.inputs) | set(part.outputs))
        place = {old: new for new, old in enumerate(order)}
        graph.tensors = [copy.copy(main.tensors[i]) for i in order]
        for operator in chosen:
            for name in ("inputs", "outputs", "intermediates"):
                numbers = getattr(operator, name)
                if numbers is not None:
                    setattr(operator, name, [place.get(int(i), -1) for i in numbers])
        graph.inputs = [place[i] for i in part.inputs]
        graph.outputs = [place[i] for i in part.outputs]
        graph.operators = chosen
        model.subgraphs[1:] = [_copied(g) for g in model.subgraphs[1:]]
        self._codes(model)
        self._metadata(model)
        self._buffers(model)
        model.signatureDefs = [self._signature(part, graph)]
        return model

    def _codes(self, model: Any) -> None:
        """Only the operator codes that are used, renumbered."""
        operators = [op for graph in model.subgraphs for op in graph.operators or []]
        codes = sorted({op.opcodeIndex for op in operators})
        model.operatorCodes = [self.model.operatorCodes[c] for c in codes]
        for operator in operators:
            operator.opcodeIndex = codes.index(operator.opcodeIndex)

    def _metadata(self, model: Any) -> None:
        model.metadata = [copy.copy(m) for m in self.model.metadata or [] if m.name in KEPT_METADATA]

    def _buffers(self, model: Any) -> None:
        """Only the buffers that are used, renumbered; the first is empty, as the format has it."""
        tensors = [t for graph in model.subgraphs for t in graph.tensors or []]
        holders = [*((t, "buffer") for t in tensors), *((m, "buffer") for m in model.metadata)]
        numbers = sorted({getattr(h, n) for h, n in holders} - {0})
        place = {0: 0, **{old: new + 1 for new, old in enumerate(numbers)}}
        model.buffers = [self.model.buffers[0], *(self.model.buffers[n] for n in numbers)]
        for holder, name in holders:
            setattr(holder, name, place[getattr(holder, name)])

    def _signature(self, part: Part, graph: Any) -> Any:
        """A signature with the whole file's names where it has some, else the tensors' names, each once."""
        info, schema = self.info, self.schema
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
        named = dict(zip(info.outputs, info.output_names, strict=True))
        named |= dict(zip(info.inputs, info.input_names, strict=True))
        for attribute, olds, news in (
            ("inputs", part.inputs, graph.inputs),
            ("outputs", part.outputs, graph.outputs),
        ):
            entries, taken = [], set()
            for old, new in zip(olds, news, strict=True):
                name = named.get(old) or info.tensors[old].name or f"value{old}"
                while name in taken:
                    name += "_"
                taken.add(name)
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = name.encode(), new
                entries.append(entry)
            setattr(signature, attribute, entries)
        return signature


def _numbers(side: Any) -> list[int]:
    return [] if side is None else [int(i) for i in side]


def _calls(operator: Any) -> bool:
    """Does the operator name another subgraph?"""
    options = (operator.builtinOptions, operator.builtinOptions2)
    return any(hasattr(o, name) for o in options if o is not None for name in SUBGRAPH_FIELDS)


def _copied(graph: Any) -> Any:
    """A subgraph whose tensors and operators may be renumbered without touching the whole file's."""
    twin = copy.copy(graph)
    twin.tensors = [copy.copy(t) for t in graph.tensors or []]
    twin.operators = [copy.copy(o) for o in graph.operators or []]
    return twin
