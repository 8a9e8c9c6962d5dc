"""Collects tensors, buffers and operators of one TFLite file, and lays out its bytes without copying weights."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from instep.emit.tflite.table import EmitError
from instep.graph import Graph, Node, Value

__all__ = ["Writer"]

_TYPES = {
    "float64": "FLOAT32",
    "float32": "FLOAT32",
    "float16": "FLOAT32",
    "int64": "INT32",
    "int32": "INT32",
    "int16": "INT16",
    "int8": "INT8",
    "uint8": "UINT8",
    "bool": "BOOL",
}
_STORED = {
    "FLOAT32": np.float32,
    "INT32": np.int32,
    "INT16": np.int16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}

#: Flatbuffers address with 31 bits: beyond this, buffers go behind the flatbuffer (``Buffer.offset`` and ``size``).
INLINE_LIMIT = (1 << 31) - (1 << 24)
#: The runtime maps weights in place; XNNPACK wants them on 16 bytes.
ALIGN = 16
#: float16 stores nothing beyond this.
HALF_MAX = 65504.0
#: With ``half``, constants of fewer elements stay float32: biases and scalars are no size and carry precision.
HALF_MIN_SIZE = 64


class Writer:
    """One TFLite file in the making.

    Every integer that the graph calls int64 is written as int32 (indices and shapes fit; int64 has few kernels), and
    every float as float32. With ``half`` the weights are stored as float16 behind one DEQUANTIZE per buffer.
    """

    def __init__(self, graph: Graph, *, half: bool = False) -> None:
        self.graph = graph
        self.half = half
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        # Buffer 0 is the empty one by convention.
        self.arrays: list[np.ndarray | None] = [None]
        self._by_content: dict[tuple[int, int], list[int]] = {}
        self._by_identity: dict[int, int] = {}
        self._keep: list[np.ndarray] = []
        self._index: dict[Value, int] = {}
        self._constants: dict[tuple[int, str, tuple[int, ...]], int] = {}
        self._dequantized: dict[int, int] = {}
        self._views: dict[tuple[Value, str], int] = {}
        self._names: set[str] = {v.name for v in graph.values()}
        # names of the graph's constants that are in the file already, themselves or transposed
        self._stored: set[str] = set()

    # -- reading the graph -------------------------------------------------------------------------------------
    def tensor(self, value: Value) -> int:
        """Index of the tensor of ``value``; a constant is stored when first asked for."""
        index = self._index.get(value)
        if index is None:
            array = self.graph.array(value)
            if array is None:
                index = self.declare(value.name, value.shape, value.dtype)
            else:
                index = self._constant(array, value.name)
            self._index[value] = index
        return index

    def same(self, value: Value, other: Value) -> bool:
        """Let the tensor of ``other`` be that of ``value``, too; False for an output, which has a tensor of its own."""
        if value in self.graph.outputs:
            return False
        self._index[value] = self.tensor(other)
        return True

    def array(self, value: Value, node: Node) -> np.ndarray:
        """The constant behind ``value``; TFLite needs one where ``node`` reads it."""
        array = self.graph.array(value)
        if array is None:
            raise EmitError(f"{node.describe()}: TFLite needs %{value.name} as a constant, but it is computed")
        return array

    def view(self, value: Value, key: str, array: np.ndarray) -> int:
        """A constant derived from ``value`` (its transpose, say), stored once per ``key``."""
        at = (value, key)
        if at not in self._views:
            self._views[at] = self._constant(array, value.name)
        return self._views[at]

    def turned(self, value: Value, key: str, perm: tuple[int, ...]) -> int:
        """``value`` with its axes in the order ``perm``: a constant is stored so (once per ``key``), a computed one is
        transposed in the file."""
        array = self.graph.array(value)
        if array is not None:
            return self.view(value, key, array.transpose(perm))
        at = (value, key)
        if at not in self._views:
            result = self.declare(self.fresh(f"{value.name}.{key}"), [value.shape[p] for p in perm], value.dtype)
            self.transpose(self.tensor(value), perm, result)
            self._views[at] = result
        return self._views[at]

    # -- tensors and buffers -----------------------------------------------------------------------------------
    def fresh(self, stem: str) -> str:
        """A tensor name nothing else has."""
        name, i = stem, 1
        while name in self._names:
            name, i = f"{stem}.{i}", i + 1
        self._names.add(name)
        return name

    def declare(self, name: str, shape: Sequence[int], dtype: str, buffer: int = 0, *, kind: str | None = None) -> int:
        """A new tensor of the given shape and graph dtype."""
        tensor = schema.TensorT()
        tensor.shape = [int(n) for n in shape]
        tensor.type = getattr(schema.TensorType, kind or self.kind(dtype, name))
        tensor.buffer = buffer
        tensor.name = name
        tensor.hasRank = True
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    @staticmethod
    def kind(dtype: str, name: str) -> str:
        """TFLite's type that holds a graph dtype."""
        if dtype not in _TYPES:
            raise EmitError(f"%{name} is {dtype}, which TFLite does not hold; cast it to float32 or int32 first")
        return _TYPES[dtype]

    def constant(self, array: np.ndarray | Sequence[int], name: str = "") -> int:
        """A constant of the writer's own (axes, paddings, zero biases), shared with every equal one."""
        array = np.asarray(array, None if isinstance(array, np.ndarray) else np.int32)
        stored = self._store_type(array, name)
        key = (self._buffer(stored), str(stored.dtype), stored.shape)
        if key not in self._constants:
            self._constants[key] = self.declare(self.fresh(name or "constant"), stored.shape, str(stored.dtype), key[0])
        return self._constants[key]

    def _store_type(self, array: np.ndarray, name: str) -> np.ndarray:
        wanted = _STORED[self.kind(str(array.dtype), name)]
        if array.dtype == np.int64 and array.size and (array.max() > 2**31 - 1 or array.min() < -(2**31)):
            raise EmitError(f"constant %{name} holds integers beyond 32 bits; TFLite files of Instep use int32")
        return np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)

    def _constant(self, array: np.ndarray, name: str) -> int:
        stored = self._store_type(array, name)
        if name in self._stored or name not in self._names:
            name = self.fresh(name)
        self._stored.add(name)
        if not self._halves(stored):
            return self.declare(name, stored.shape, str(stored.dtype), self._buffer(stored))
        buffer = self._buffer(stored.astype(np.float16))
        return self._dequantize(buffer, stored.shape, name)

    def _halves(self, array: np.ndarray) -> bool:
        if not self.half or array.dtype != np.float32 or array.size < HALF_MIN_SIZE:
            return False
        return bool(np.abs(array).max() <= HALF_MAX)

    def _dequantize(self, buffer: int, shape: Sequence[int], name: str) -> int:
        if buffer not in self._dequantized or list(self.tensors[self._dequantized[buffer]].shape) != list(shape):
            packed = self.declare(self.fresh(name + ".float16"), shape, "float32", buffer, kind="FLOAT16")
            result = self.declare(name, shape, "float32")
            self.op("DEQUANTIZE", [packed], [result], version=3)
            self._dequantized[buffer] = result
        return self._dequantized[buffer]

    def _buffer(self, array: np.ndarray) -> int:
        """Index of the buffer that holds ``array``; equal bytes are stored once."""
        known = self._by_identity.get(id(array))
        if known is not None:
            return known
        flat = array.reshape(-1).view(np.uint8)
        key = (flat.nbytes, zlib.crc32(flat[: 1 << 20]))
        for index in self._by_content.get(key, ()):
            other = self.arrays[index]
            if other is not None and np.array_equal(other, flat):
                return index
        self.arrays.append(flat)
        index = len(self.arrays) - 1
        self._by_content.setdefault(key, []).append(index)
        self._by_identity[id(array)] = index
        self._keep.append(array)
        return index

    # -- operators ---------------------------------------------------------------------------------------------
    def op(
        self,
        code: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Any = None,
        *,
        version: int = 1,
    ) -> None:
        """Append one operator; ``options`` is the schema's options object, and names its own type."""
        number = getattr(schema.BuiltinOperator, code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((number, version), len(self._codes))
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
            operator.builtinOptions = options
        self.operators.append(operator)

    @property
    def codes(self) -> list[tuple[int, int]]:
        """(BuiltinOperator, version) by operator code index."""
        return list(self._codes)

    def transpose(self, source: int, perm: Sequence[int], result: int) -> None:
        """Append a TRANSPOSE between two tensors."""
        version = {5: 4, 6: 6}.get(len(perm), 1)
        inputs = [source, self.constant(perm, "perm")]
        self.op("TRANSPOSE", inputs, [result], schema.TransposeOptionsT(), version=version)

    # -- the file ----------------------------------------------------------------------------------------------
    def parts(self, metadata: dict[str, bytes]) -> Iterator[Any]:
        """The file's bytes, in pieces to write one after the other; weights are handed out as they lie in memory."""
        for value in (*self.graph.inputs, *self.graph.outputs):
            self.tensor(value)  # constants among the outputs, which no operator has read
        buffers = list(self.arrays)
        entries = []
        for name, data in metadata.items():
            entry = schema.MetadataT()
            entry.name, entry.buffer = name, len(buffers)
            entries.append(entry)
            buffers.append(np.frombuffer(data, np.uint8))
        total = sum(b.nbytes + 2 * ALIGN for b in buffers if b is not None)
        outside = total > INLINE_LIMIT
        head, fields = self._head(buffers, entries, outside)
        # Second walk: the head's size is known now, so is where each buffer comes to lie.
        at = len(head)
        pieces: list[Any] = [head]
        for field, array in zip(fields, buffers, strict=True):
            if array is None or field < 0:
                continue
            prefix = 0 if outside else 4
            gap = -(at + prefix) % ALIGN
            if outside:
                head[field : field + 8] = (at + gap).to_bytes(8, "little")
                pieces += [bytes(gap), memoryview(array)]
            else:
                start = at + gap
                head[field : field + 4] = (start - field).to_bytes(4, "little")
                pieces += [bytes(gap) + array.nbytes.to_bytes(4, "little"), memoryview(array)]
            at += gap + prefix + array.nbytes
        pieces.append(bytes(-at % ALIGN))
        yield from pieces

    def _head(
        self, buffers: Sequence[np.ndarray | None], entries: list[Any], outside: bool
    ) -> tuple[bytearray, list[int]]:
        """The flatbuffer with stand-ins for the buffers, and where in it each buffer's place is to be written."""
        model = schema.ModelT()
        model.version = 3
        model.description = "Instep"
        model.buffers = []
        stand_in = np.zeros(1, np.uint8)
        for array in buffers:
            buffer = schema.BufferT()
            if array is not None and outside:
                buffer.offset, buffer.size = 1 << 62, max(array.nbytes, 1)
            elif array is not None:
                buffer.data = stand_in  # pyright: ignore[reportAttributeAccessIssue]
            model.buffers.append(buffer)
        model.operatorCodes = []
        for number, version in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = number, version
            code.deprecatedBuiltinCode = min(number, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
            model.operatorCodes.append(code)
        model.subgraphs = [self._subgraph()]
        model.signatureDefs = [self._signature()]
        model.metadata = entries
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        head = bytearray(builder.Output())
        head += bytes(-len(head) % ALIGN)
        root = schema.Model.GetRootAs(head)
        fields = []
        for i, array in enumerate(buffers):
            table = root.Buffers(i)._tab  # type: ignore[union-attr]
            # vtable slots: data 4, offset 6, size 8
            place = table.Offset(6 if outside else 4)
            fields.append(table.Pos + place if array is not None and place else -1)
        return head, fields

    def _subgraph(self) -> Any:
        subgraph = schema.SubGraphT()
        subgraph.name = "main"
        subgraph.inputs = [self.tensor(v) for v in self.graph.inputs]
        subgraph.outputs = [self.tensor(v) for v in self.graph.outputs]
        subgraph.tensors = self.tensors
        subgraph.operators = self.operators
        return subgraph

    def _signature(self) -> Any:
        def maps(names: Sequence[str], values: Sequence[Value]) -> list[Any]:
            result = []
            for name, value in zip(names, values, strict=True):
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = name, self.tensor(value)
                result.append(entry)
            return result

        signature = schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.inputs = maps(self.graph.input_names, self.graph.inputs)
        signature.outputs = maps(self.graph.output_names, self.graph.outputs)
        signature.subgraphIndex = 0
        return signature
