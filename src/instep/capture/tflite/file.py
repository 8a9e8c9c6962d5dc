"""A TFLite file as tables of tensors and operators, every one of them checked: the file is not trusted."""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from instep.capture.base import CaptureError
from instep.flatbuffer import FlatbufferError
from instep.tflite_tables import MODEL, ModelTables, type_names, written_facts

__all__ = ["MAX_ELEMENTS", "MAX_RANK", "Operation", "Subgraph", "Tensor", "TfliteFile", "read_file"]

#: TFLite counts elements with 32-bit integers.
MAX_ELEMENTS = (1 << 31) - 1
#: No kernel of TFLite goes beyond 8; chains that other tools leave stay below this.
MAX_RANK = 16

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
    def complex(self) -> bool:
        """Whether it holds complex numbers: its Value has one axis more, of their real and imaginary parts."""
        return self.dtype == "complex64"

    @property
    def meaning(self) -> str:
        """The dtype of the numbers it stands for (numpy's name)."""
        if self.complex:
            return "float32"
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
    #: where a custom operator's bytes lie
    custom: tuple[int, int]

    @property
    def keeps_state(self) -> bool:
        """Whether it writes to the variable tensors that it reads."""
        return "_SEQUENCE_" in self.name or self.name in ("LSTM", "RNN", "SVDF")


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
        return written_facts(self.metadata)

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


class _Tables(ModelTables):
    """The schema's tables that describe computation."""

    def file(self, path: Path) -> TfliteFile:
        model = self.number(0, "I")
        buffers, codes = self.buffers(model), [name for name, _ in self.codes(model)]
        subgraphs = [self.subgraph(s, codes, buffers) for s in self.subgraphs(model)]
        main = subgraphs[0]
        signatures = self.tables(model, MODEL["signatures"])
        own = next((s for s in signatures if self.scalar(s, 4, "I") == 0), 0)
        tensors = [t.name for t in main.tensors]
        inputs, outputs = (self.names(own, k, w, tensors) for k, w in enumerate((main.inputs, main.outputs)))
        facts = self.metadata(model, buffers, only=("instep",))
        return TfliteFile(path, path.name, self.data, subgraphs, inputs, outputs, len(signatures), facts)

    def subgraph(self, table: int, codes: list[str], buffers: list[tuple[int, int]]) -> Subgraph:
        tensors = [self.tensor(t, i, buffers) for i, t in enumerate(self.tables(table, 0))]
        count = len(tensors)
        operations = [self.operation(o, i, codes, count) for i, o in enumerate(self.tables(table, 3))]
        inputs, outputs = (self.operands(table, slot, count) for slot in (1, 2))
        if -1 in (*inputs, *outputs):
            raise FlatbufferError("an input or output of the network is left out")
        return Subgraph(self.text(table, 4), tensors, operations, inputs, outputs)

    def tensor(self, table: int, index: int, buffers: list[tuple[int, int]]) -> Tensor:
        name = self.text(table, 3)
        shape = self.shape(table, 0, index, name)
        span = self.chosen(table, 2, buffers, f"tensor {index} reads buffer")
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
            span,
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

    def operation(self, table: int, index: int, codes: list[str], count: int) -> Operation:
        code = self.chosen(table, 0, codes, f"operator {index} has code")
        inputs, outputs = self.operands(table, 1, count), self.operands(table, 2, count)
        options, options2 = (
            (self.scalar(table, kind, "B"), self.checked(at) if (at := self.child(table, slot)) else 0)
            for kind, slot in ((3, 4), (11, 12))
        )
        return Operation(index, code, inputs, outputs, options, options2, self.span(table, 5, 1))
