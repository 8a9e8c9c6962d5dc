"""Reads what a TFLite file says about itself, without a runtime and without trusting the file."""

from __future__ import annotations

import functools
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from instep.flatbuffer import FlatbufferError
from instep.tflite_tables import MODEL, ModelTables, origins_within, type_names, written_facts

__all__ = ["OpInfo", "TFLiteError", "TFLiteInfo", "TensorInfo", "tflite_info"]


class TFLiteError(ValueError):
    """A file that is no sound TFLite file; the message is one sentence."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: ``constant_bytes`` is 0 for computed ones; ``scale`` and ``zero_point`` are empty when float.

    A negative size in ``shape`` is one that the file leaves open. ``constant_at`` is where in the file a constant lies.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    constant_bytes: int
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    constant_at: int = 0
    open_shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class OpInfo:
    """One operator: its name ("CONV_2D", or "CUSTOM:name"), version and tensor indices (-1: left out).

    ``options`` is the schema's options object, or None where the file has none that can be read.
    """

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = None


@dataclass
class TFLiteInfo:
    """The main subgraph of a file, its signature and metadata."""

    path: str
    bytes: int
    description: str
    tensors: list[TensorInfo]
    ops: list[OpInfo]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_names: list[str]
    output_names: list[str]
    subgraphs: int
    metadata: dict[str, bytes] = field(default_factory=dict)

    @property
    def histogram(self) -> Counter[str]:
        """Operator name → how often."""
        return Counter(op.name for op in self.ops)

    @property
    def max_rank(self) -> int:
        """The largest rank of any tensor, constants included."""
        return max((len(t.shape) for t in self.tensors), default=0)

    def made(self, op: OpInfo) -> TensorInfo | None:
        """The first tensor that an operator makes; None for one of a damaged file that makes none."""
        return next((self.tensors[i] for i in op.outputs if i >= 0), None)

    def constant(self, index: int) -> np.ndarray | None:
        """The array of a constant tensor; None for a computed one, for kinds that numpy lacks, and where the file's
        bytes do not fit its shape."""
        tensor = self.tensors[index]
        if tensor.dtype not in _NUMPY or not tensor.constant_bytes:
            return None
        kind = np.dtype(tensor.dtype).newbyteorder("<")
        size = int(np.prod(tensor.shape, dtype=np.int64))
        if min(tensor.shape, default=0) < 0 or size * kind.itemsize != tensor.constant_bytes:
            return None
        raw = np.memmap(self.path, np.uint8, "r", tensor.constant_at, (tensor.constant_bytes,))
        return np.asarray(raw).view(kind).reshape(tensor.shape)

    @property
    def instep(self) -> dict[str, Any]:
        """What Instep wrote into the file ({} for another tool's)."""
        return written_facts(self.metadata)

    @functools.cached_property
    def origins(self) -> dict[str, str]:
        """Tensor → source line of the operator that makes it, as a file of Instep tells."""
        return origins_within(self.instep)

    def origin(self, op: OpInfo) -> str:
        """The source line (``model.py:41``) that an operator comes from; "" where the file does not tell."""
        made = self.made(op)
        return self.origins.get(made.name, "") if made is not None else ""


def tflite_info(path: str | Path) -> TFLiteInfo:
    """Parse ``path``. Raises TFLiteError for anything that is not a sound TFLite file, FileNotFoundError likewise
    as TFLiteError."""
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise TFLiteError(f"{path}: cannot be read ({error})") from None
    if len(data) < 16 or bytes(data[4:8]) != b"TFL3":
        raise TFLiteError(f"{path}: not a TFLite file (it does not carry the mark 'TFL3')")
    try:
        return _Parser(memoryview(data)).info(str(path))
    except (TFLiteError, FlatbufferError, struct.error, IndexError, OverflowError) as error:
        raise TFLiteError(f"{path}: damaged TFLite file ({error})") from None


_NUMPY = ("float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "bool")


class _Parser(ModelTables):
    """The tables of the schema as far as a report needs them."""

    def info(self, path: str) -> TFLiteInfo:
        model = self.number(0, "I")
        buffers, codes = self.buffers(model), self.codes(model)
        subgraphs = self.subgraphs(model)
        main = subgraphs[0]
        tensors = [self.tensor(t, i, buffers) for i, t in enumerate(self.tables(main, 0))]
        count = len(tensors)
        inputs, outputs = (self.operands(main, slot, count) for slot in (1, 2))
        ops = [self.op(o, codes, count) for o in self.tables(main, 3)]
        signature = next(iter(self.tables(model, MODEL["signatures"])), 0)
        names = [t.name for t in tensors]
        input_names, output_names = (self.names(signature, k, w, names) for k, w in enumerate((inputs, outputs)))
        return TFLiteInfo(
            path,
            self.size,
            self.text(model, MODEL["description"]),
            tensors,
            ops,
            inputs,
            outputs,
            input_names,
            output_names,
            len(subgraphs),
            self.metadata(model, buffers),
        )

    def tensor(self, table: int, index: int, buffers: list[tuple[int, int]]) -> TensorInfo:
        dimensions = self.array(table, 0, "i4")
        if len(dimensions) > 64 or (dimensions < -1).any():
            raise FlatbufferError(f"tensor {index} has the shape {dimensions[:8].tolist()}")
        shape = tuple(dimensions.tolist())
        kind = self.scalar(table, 1, "b")
        start, length = self.chosen(table, 2, buffers, f"tensor {index} reads buffer")
        scale: tuple[float, ...] = ()
        zero: tuple[int, ...] = ()
        quantization = self.child(table, 4)
        if quantization:
            scale = tuple(float(s) for s in self.array(quantization, 2, "f4"))
            zero = tuple(int(z) for z in self.array(quantization, 3, "i8"))
        name = type_names().get(kind, f"unknown_{kind}")
        open_shape = tuple(int(n) for n in self.array(table, 7, "i4"))
        return TensorInfo(index, self.text(table, 3), shape, name, length, scale, zero, start, open_shape)

    def op(self, table: int, codes: list[tuple[str, int]], count: int) -> OpInfo:
        name, version = self.chosen(table, 0, codes, "an operator has code")
        inputs, outputs = (self.operands(table, slot, count) for slot in (1, 2))
        return OpInfo(name, version, inputs, outputs, self.options(table))

    def options(self, table: int) -> Any:
        from ai_edge_litert.schema_py_generated import BuiltinOptionsCreator
        from flatbuffers.table import Table

        kind, at = self.scalar(table, 3, "B"), self.child(table, 4)
        if not kind or not at:
            return None
        self.number(at, "i")
        try:
            return BuiltinOptionsCreator(kind, Table(self.data, at))
        except (struct.error, TypeError, ValueError, IndexError, OverflowError):
            return None
