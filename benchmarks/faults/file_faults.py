"""Kinds of faults planted in the written file: its buffers and its operators' options, through the schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FILE_FAULTS", "FileFault", "Planted"]


@dataclass(frozen=True)
class Planted:
    """A file with one fault: the output tensor of the operator at fault."""

    path: Path
    tensor: str


@dataclass(frozen=True)
class FileFault:
    """``change(file, operator number) -> bool`` edits the unpacked model in place."""

    kind: str
    operators: tuple[str, ...]
    named: tuple[str, ...]
    change: Callable[[_File, Any], bool]

    def places(self, path: Path, limit: int) -> Iterator[Planted]:
        """Up to ``limit`` copies of ``path``, each with the fault at another operator."""
        found = 0
        for number, op in enumerate(_File(path).graph.operators):
            file = _File(path)
            op = file.graph.operators[number]
            if found >= limit or file.name(op) not in self.operators:
                continue
            if self.change(file, op):
                found += 1
                out = path.with_name(f"{path.stem}-fault.tflite")
                out.write_bytes(file.pack())
                yield Planted(out, file.tensor(op.outputs[0]))


class _File:
    """A TFLite file unpacked by the schema's object interface."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
        self.graph = self.model.subgraphs[0]
        self.codes = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
        data = path.read_bytes()
        for buffer in self.model.buffers:
            if buffer.offset and buffer.offset > 1:
                buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset).copy()
                buffer.offset = buffer.size = 0

    def name(self, op: Any) -> str:
        code = self.model.operatorCodes[op.opcodeIndex]
        return self.codes[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def tensor(self, index: int) -> str:
        return self.graph.tensors[index].name.decode()

    def array(self, index: int) -> np.ndarray | None:
        """The float32 constant behind a tensor."""
        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None or not len(data) or tensor.type != self.schema.TensorType.FLOAT32:
            return None
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.float32).reshape(tensor.shape)

    def replace(self, op: Any, number: int, array: np.ndarray) -> bool:
        """Give input ``number`` of ``op`` a buffer and tensor of its own."""
        import copy

        old = self.array(op.inputs[number])
        if old is None or np.array_equal(old, array):
            return False
        tensor = copy.copy(self.graph.tensors[op.inputs[number]])
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array, np.float32).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        tensor.buffer = len(self.model.buffers) - 1
        tensor.name = tensor.name + b".fault"
        self.graph.tensors.append(tensor)
        op.inputs = np.array(op.inputs)
        op.inputs[number] = len(self.graph.tensors) - 1
        return True

    def pack(self) -> bytes:
        import flatbuffers

        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


FILE_FAULTS: list[FileFault] = []


def fault(kind: str, operators: tuple[str, ...], *named: str) -> Callable[..., Any]:
    def register(change: Callable[[_File, Any], bool]) -> Callable[[_File, Any], bool]:
        FILE_FAULTS.append(FileFault(kind, operators, named, change))
        return change

    return register


@fault("file: weights flipped", ("CONV_2D", "DEPTHWISE_CONV_2D"), "weights flipped (convolution for correlation)")
def flipped(file: _File, op: Any) -> bool:
    k = file.array(op.inputs[1])
    return k is not None and min(k.shape[1:3]) > 1 and file.replace(op, 1, k[:, ::-1, ::-1])


@fault("file: weights transposed spatially", ("CONV_2D", "DEPTHWISE_CONV_2D"), "weights transposed in height and width")
def turned(file: _File, op: Any) -> bool:
    k = file.array(op.inputs[1])
    return k is not None and k.shape[1] == k.shape[2] > 1 and file.replace(op, 1, k.swapaxes(1, 2))


@fault("file: bias dropped", ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), "bias dropped",
       "shift of a normalisation dropped")  # fmt: skip
def no_bias(file: _File, op: Any) -> bool:
    b = file.array(op.inputs[2]) if len(op.inputs) > 2 and op.inputs[2] >= 0 else None
    return b is not None and file.replace(op, 2, np.zeros_like(b))


@fault("file: filters permuted", ("CONV_2D", "FULLY_CONNECTED"), "output channels permuted")
def permuted(file: _File, op: Any) -> bool:
    k = file.array(op.inputs[1])
    return k is not None and file.replace(op, 1, np.roll(k, 1, 0))


@fault("file: half-precision weights", ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"),
       "weights in lower precision")  # fmt: skip
def half(file: _File, op: Any) -> bool:
    k = file.array(op.inputs[1])
    return k is not None and file.replace(op, 1, k.astype(np.float16).astype(np.float32))


@fault("file: activation dropped", ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "FULLY_CONNECTED"), "activation dropped")
def no_activation(file: _File, op: Any) -> bool:
    options = op.builtinOptions
    if not getattr(options, "fusedActivationFunction", 0):
        return False
    options.fusedActivationFunction = 0
    return True


@fault("file: align_corners", ("RESIZE_BILINEAR",), "align_corners", "half-pixel centres")
def align(file: _File, op: Any) -> bool:
    options = op.builtinOptions
    options.alignCorners, options.halfPixelCenters = not options.alignCorners, False
    return True


@fault("file: half-pixel centres", ("RESIZE_BILINEAR",), "half-pixel centres", "align_corners")
def half_pixel(file: _File, op: Any) -> bool:
    options = op.builtinOptions
    if options.alignCorners:
        return False
    options.halfPixelCenters = not options.halfPixelCenters
    return True


@fault("file: slope of a leaky ReLU", ("LEAKY_RELU",), "slope of a leaky ReLU")
def slope(file: _File, op: Any) -> bool:
    op.builtinOptions.alpha = 0.2 if abs(op.builtinOptions.alpha - 0.2) > 1e-3 else 0.1
    return True


@fault("file: concatenation order", ("CONCATENATION",), "order of a concatenation")
def concat(file: _File, op: Any) -> bool:
    shapes = {tuple(file.graph.tensors[i].shape) for i in op.inputs}
    if len(shapes) > 1 or len(set(op.inputs)) < 2:
        return False
    op.inputs = np.asarray(op.inputs)[::-1].copy()
    return True


@fault("file: operands swapped", ("SUB", "DIV"), "operands in the wrong order")
def operands(file: _File, op: Any) -> bool:
    shapes = {tuple(file.graph.tensors[i].shape) for i in op.inputs}
    if len(shapes) > 1:
        return False
    op.inputs = np.asarray(op.inputs)[::-1].copy()
    return True


@fault("file: tanh for erf GELU", ("GELU",), "GELU approximation (tanh for erf)")
def gelu(file: _File, op: Any) -> bool:
    op.builtinOptions.approximate = not op.builtinOptions.approximate
    return True


@fault("file: bit flip in a weight", ("CONV_2D", "FULLY_CONNECTED"), "a few channels wrong")
def bit_flip(file: _File, op: Any) -> bool:
    k = file.array(op.inputs[1])
    if k is None:
        return False
    k = k.copy()
    flat = k.reshape(-1).view(np.uint32)
    flat[flat.size // 2] ^= 1 << 29
    return np.isfinite(k).all() and file.replace(op, 1, k)
