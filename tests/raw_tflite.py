"""TFLite files written operator by operator, for what our own emitter never writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

__all__ = ["Tensor", "raw_tflite", "schema"]

_KINDS = {"float32": 0, "int32": 2, "int64": 4, "uint8": 3, "bool": 6, "int8": 9}
#: name, shape, dtype, the values of a constant, and where it is quantised its scale and, if it is not 0, its zero point
Tensor = (
    tuple[str, tuple[int, ...], str, Any]
    | tuple[str, tuple[int, ...], str, Any, float]
    | tuple[str, tuple[int, ...], str, Any, float, int]
)


def raw_tflite(
    path: Path,
    tensors: Sequence[Tensor],
    ops: Sequence[tuple[str, list[int], list[int], Any]],
    inputs: list[int],
    outputs: list[int],
) -> Path:
    """Write a file of one subgraph without a signature; ``ops`` are (name, inputs, outputs, options object or None)."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], []
    graph.inputs, graph.outputs, graph.tensors, graph.operators = inputs, outputs, [], []
    quantised: list[Any]
    for name, shape, dtype, values, *quantised in tensors:
        tensor: Any = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), _KINDS[dtype], 0
        if values is not None:
            buffer: Any = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values, dtype).tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        if quantised:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = quantised[:1], quantised[1:] or [0]
        graph.tensors.append(tensor)
    for number, (name, given, made, options) in enumerate(ops):
        code: Any = schema.OperatorCodeT()
        code.builtinCode, code.version = getattr(schema.BuiltinOperator, name), 1
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        model.operatorCodes.append(code)
        op: Any = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = number, given, made
        if options is not None:
            op.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            op.builtinOptions = options
        graph.operators.append(op)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
