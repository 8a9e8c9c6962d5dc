"""A TFLite file as tables of tensors and operators, every one of them checked: the file is not trusted."""

from __future__ import annotations

import json
import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from instep.capture.base import CaptureError
from instep.flatbuffer import Flatbuffer, FlatbufferError, operator_names, type_names

__all__ = ["MAX_ELEMENTS", "MAX_RANK", "Operation", "Subgraph", "Tensor", "TfliteFile", "read_file"]

#: TFLite counts elements with 32-bit integers.
MAX_ELEMENTS = (1 << 31) - 1
#: No kernel of TFLite goes beyond 8; chains that other tools leave stay below this.
MAX_RANK = 16
_MAX_OPERANDS = 1 << 14

#: Integer kinds that hold two or four numbers in a byte: bits per number, signed.
_PACKED = {"int4": (4, True), "uint4": (4, False), "int2": (2, True)}
_NUMPY = {
    "float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One tensor: ``dtype`` is TFLite's name in small letters; ``span`` is where a constant's bytes lie."""

    index: int
    name: str
    shape: tuple[int, ...]
    #: the shape with -1 where the file leaves a size open; () when it leaves none
    signature: tuple[int, ...]
    dtype: str
    span: tuple[int, int]
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    variable: bool
    sparse: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def quantized(self) -> bool:
        """Whether its integers stand for real numbers."""
        return bool(self.scale.size) and not self.dtype.startswith(("float", "bool"))

    @property
    def meaning(self) -> str:
        """The dtype of the numbers it stands for (numpy's name)."""
        return "float32" if self.quantized or self.dtype in ("float16", "bfloat16", "float64") else self.dtype


@dataclass(frozen=True)
class Operation:
    """One operator of the file: its name ("CONV_2D", "CUSTOM:name"), tensors (-1: left out) and options' place."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    #: type and table of ``builtin_options`` and of ``builtin_options_2``; 0 where left out
    options: tuple[int, int]
    options2: tuple[int, int]


@dataclass
class Subgraph:
    """Tensors, operators in the order they run, and which tensors go in and out."""

    name: str
    tensors: list[Tensor]
    operations: list[Operation]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class TfliteFile:
    """A whole file. ``label`` is its name without folders."""

    path: Path
    label: str
    data: memoryview
    subgraphs: list[Subgraph]
    input_names: list[str]
    output_names: list[str]
    signatures: int
    metadata: dict[str, bytes] = field(default_factory=dict)

    @property
    def instep(self) -> dict[str, Any]:
        """What Instep wrote into the file ({} for another tool's)."""
        try:
            facts = json.loads(self.metadata.get("instep", b"{}"))
        except (ValueError, RecursionError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def raw(self, tensor: Tensor) -> np.ndarray:
        """The numbers a constant holds, as stored (4- and 2-bit integers widened). Raises ValueError."""
        start, count = tensor.span
        size = tensor.size
        if tensor.dtype in _PACKED:
            bits, signed = _PACKED[tensor.dtype]
            need = -(-size * bits // 8)
        elif tensor.dtype == "bfloat16":
            need = 2 * size
        elif tensor.dtype in _NUMPY:
            need = size * np.dtype(tensor.dtype).itemsize
        else:
            raise ValueError(f"a constant of {tensor.dtype}, which Instep does not read")
        if need != count:
            raise ValueError(f"its shape {list(tensor.shape)} needs {need} bytes, its buffer holds {count}")
        stored = np.frombuffer(self.data, np.uint8, count, start)
        if tensor.dtype in _PACKED:
            return _unpacked(stored, bits, signed)[:size].reshape(tensor.shape)
        if tensor.dtype == "bfloat16":
            wide = stored.copy().view("<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(tensor.shape)
        kind = np.dtype(tensor.dtype)
        if start % kind.itemsize:
            stored = stored.copy()
        if tensor.dtype == "bool":
            stored = (stored != 0).view(np.uint8)
        return stored.view(kind).reshape(tensor.shape)


def _unpacked(stored: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """Numbers of ``bits`` bits, the first in the low bits of its byte."""
    steps = np.arange(0, 8, bits, dtype=np.uint8)
    flat = ((stored[:, None] >> steps) & ((1 << bits) - 1)).reshape(-1)
    if not signed:
        return flat
    wide = flat.astype(np.int8)
    return np.where(wide >= 1 << (bits - 1), wide - (1 << bits), wide).astype(np.int8)


def read_file(path: str | os.PathLike[str]) -> TfliteFile:
    """Parse ``path``. Raises CaptureError, one sentence, for anything that is not a sound TFLite file."""
    where = Path(path)
    if not where.is_file():
        raise CaptureError(f"there is no file {where}")
    try:
        data = memoryview(np.memmap(where, np.uint8, "r"))
    except (OSError, ValueError) as error:
        raise CaptureError(f"{where}: cannot be read ({error})") from None
    if len(data) < 16 or bytes(data[4:8]) != b"TFL3":
        raise CaptureError(f"{where}: not a TFLite file (it does not carry the mark 'TFL3')")
    try:
        return _Tables(data).file(where)
    except (FlatbufferError, struct.error, IndexError, OverflowError) as error:
        raise CaptureError(f"{where}: damaged TFLite file ({error})") from None


#: Fields of the schema's tables by their vtable slot.
_MODEL = {"codes": 1, "subgraphs": 2, "buffers": 4, "metadata": 6, "signatures": 7}


class _Tables(Flatbuffer):
    """The schema's tables that describe computation."""

    def file(self, path: Path) -> TfliteFile:
        model = self.number(0, "I")
        buffers = [self.buffer(b) for b in self.tables(model, _MODEL["buffers"])]
        codes = [self.code(c) for c in self.tables(model, _MODEL["codes"])]
        subgraphs = [self.subgraph(s, codes, buffers) for s in self.tables(model, _MODEL["subgraphs"])]
        if not subgraphs:
            raise FlatbufferError("it holds no subgraph")
        main = subgraphs[0]
        signatures = self.tables(model, _MODEL["signatures"])
        own = [s for s in signatures if self.scalar(s, 4, "I") == 0]
        names = [self.signature(own[0] if own else 0, slot, main) for slot in (0, 1)]
        facts = self.metadata(model, buffers)
        return TfliteFile(path, path.name, self.data, subgraphs, names[0], names[1], len(signatures), facts)

    def buffer(self, table: int) -> tuple[int, int]:
        """(start, length) of a buffer's bytes, inside the flatbuffer or behind it."""
        start, count = self.span(table, 0, 1)
        offset, size = self.scalar(table, 1, "Q"), self.scalar(table, 2, "Q")
        if not count and offset > 1:
            if offset + size > self.size:
                raise FlatbufferError("a buffer lies outside the file")
            return offset, size
        return start, count

    def code(self, table: int) -> str:
        number = max(self.scalar(table, 0, "b"), self.scalar(table, 3, "i"))
        name = operator_names().get(number, f"UNKNOWN_{number}")
        return f"CUSTOM:{self.text(table, 1)}" if name == "CUSTOM" else name

    def subgraph(self, table: int, codes: list[str], buffers: list[tuple[int, int]]) -> Subgraph:
        tensors = [self.tensor(t, i, buffers) for i, t in enumerate(self.tables(table, 0))]
        count = len(tensors)
        operations = [self.operation(o, i, codes, count) for i, o in enumerate(self.tables(table, 3))]
        inputs, outputs = (self.indices(table, slot, count) for slot in (1, 2))
        if -1 in (*inputs, *outputs):
            raise FlatbufferError("an input or output of the network is left out")
        return Subgraph(self.text(table, 4), tensors, operations, inputs, outputs)

    def tensor(self, table: int, index: int, buffers: list[tuple[int, int]]) -> Tensor:
        name = self.text(table, 3)
        shape = self.shape(table, 0, index, name)
        buffer = self.scalar(table, 2, "I")
        if buffer >= len(buffers):
            raise FlatbufferError(f"tensor {index} reads buffer {buffer} of {len(buffers)}")
        kind = type_names().get(self.scalar(table, 1, "b"), "unknown")
        scale, zero, axis = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
        quantization = self.child(table, 4)
        if quantization:
            scale, zero = self.array(quantization, 2, "f4"), self.array(quantization, 3, "i8")
            axis = self.scalar(quantization, 6, "i")
        return Tensor(
            index,
            name,
            shape,
            self.shape(table, 7, index, name),
            kind,
            buffers[buffer],
            scale,
            zero,
            axis,
            bool(self.scalar(table, 5, "?")),
            bool(self.child(table, 6)),
        )

    def shape(self, table: int, slot: int, index: int, name: str) -> tuple[int, ...]:
        sizes = self.array(table, slot, "i4")
        if len(sizes) > MAX_RANK or (sizes < -1).any():
            raise FlatbufferError(f"tensor {index} '{name[:80]}' has the shape {sizes[:8].tolist()}")
        shape = tuple(sizes.tolist())
        if math.prod(max(n, 1) for n in shape) > MAX_ELEMENTS:
            raise FlatbufferError(f"tensor {index} '{name[:80]}' of shape {list(shape)} is beyond 2³¹ elements")
        return shape

    def indices(self, table: int, slot: int, count: int) -> tuple[int, ...]:
        found = self.array(table, slot, "i4")
        if len(found) > _MAX_OPERANDS:
            raise FlatbufferError(f"an operator lists {len(found)} tensors")
        if ((found < -1) | (found >= count)).any():
            raise FlatbufferError(f"an operator or signature names a tensor that is not among the {count}")
        return tuple(found.tolist())

    def operation(self, table: int, index: int, codes: list[str], count: int) -> Operation:
        code = self.scalar(table, 0, "I")
        if code >= len(codes):
            raise FlatbufferError(f"operator {index} has code {code} of {len(codes)}")
        inputs, outputs = self.indices(table, 1, count), self.indices(table, 2, count)
        options, options2 = (
            (self.scalar(table, kind, "B"), self.checked(at) if (at := self.child(table, slot)) else 0)
            for kind, slot in ((3, 4), (11, 12))
        )
        return Operation(index, codes[code], inputs, outputs, options, options2)

    def signature(self, table: int, slot: int, main: Subgraph) -> list[str]:
        """The signature's names in the order of the subgraph's inputs or outputs; tensor names where it has none."""
        names: dict[int, list[str]] = {}
        for entry in self.tables(table, slot) if table else []:
            names.setdefault(self.scalar(entry, 1, "I"), []).append(self.text(entry, 0))
        wanted = main.inputs if slot == 0 else main.outputs
        return [names[i].pop(0) if names.get(i) else main.tensors[i].name for i in wanted]

    def metadata(self, model: int, buffers: list[tuple[int, int]]) -> dict[str, bytes]:
        found = {}
        for entry in self.tables(model, _MODEL["metadata"]):
            index = self.scalar(entry, 1, "I")
            if index < len(buffers) and (name := self.text(entry, 0)) == "instep":
                start, count = buffers[index]
                found[name] = bytes(self.data[start : start + count])
        return found
