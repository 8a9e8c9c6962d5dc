"""TFLite files written operator by operator, for what our own emitter never writes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

__all__ = ["Subgraph", "Tensor", "options", "raw_tflite", "schema"]

_KINDS = {"float32": 0, "float16": 1, "int32": 2, "int64": 4, "uint8": 3, "bool": 6, "int8": 9}
#: name, shape, dtype, the values of a constant, and where it is quantised its scale and, if it is not 0, its zero point
Tensor = (
    tuple[str, tuple[int, ...], str, Any]
    | tuple[str, tuple[int, ...], str, Any, float]
    | tuple[str, tuple[int, ...], str, Any, float, int]
)
#: Operators are (name or "CUSTOM:name", inputs, outputs, options object, bytes of a custom one's, or None).
Operator = tuple[str, list[int], list[int], Any]
#: Tensors, operators, inputs and outputs.
Subgraph = tuple[Sequence[Tensor], Sequence[Operator], list[int], list[int]]


def options(kind: str, **fields: Any) -> Any:
    """The schema's options object of this kind."""
    made = getattr(schema, f"{kind}T")()
    for name, value in fields.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


def raw_tflite(
    path: Path,
    tensors: Sequence[Tensor],
    ops: Sequence[Operator],
    inputs: list[int],
    outputs: list[int],
    *,
    bodies: Sequence[Subgraph] = (),
    variables: Collection[int] = (),
) -> Path:
    """Write a file without a signature of one subgraph, and of ``bodies`` that its operators run; the tensors
    ``variables`` keep what is written to them."""
    model: Any = schema.ModelT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], []
    model.subgraphs = [_subgraph(model, *parts) for parts in ((tensors, ops, inputs, outputs), *bodies)]
    for index in variables:
        model.subgraphs[0].tensors[index].isVariable = True
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _subgraph(
    model: Any, tensors: Sequence[Tensor], ops: Sequence[Operator], inputs: list[int], outputs: list[int]
) -> Any:
    graph: Any = schema.SubGraphT()
    graph.inputs, graph.outputs = inputs, outputs
    parts: Any = tensors
    graph.tensors = [_tensor(model, *tensor) for tensor in parts]
    graph.operators = [_operator(model, *op) for op in ops]
    return graph


def _tensor(model: Any, name: str, shape: tuple[int, ...], dtype: str, values: Any, *quantised: Any) -> Any:
    tensor: Any = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), _KINDS[dtype], 0
    if values is not None:
        buffer: Any = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values, dtype).tobytes(), np.uint8)
        tensor.buffer = len(model.buffers)
        model.buffers.append(buffer)
    if quantised:
        scales: Any = schema.QuantizationParametersT()
        scales.scale, scales.zeroPoint = quantised[:1], quantised[1:] or [0]
        tensor.quantization = scales
    return tensor


def _operator(model: Any, name: str, given: list[int], made: list[int], opts: Any) -> Any:
    code: Any = schema.OperatorCodeT()
    kind, _, custom = name.partition(":")
    code.builtinCode, code.version = getattr(schema.BuiltinOperator, kind), 1
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.customCode = custom or None
    model.operatorCodes.append(code)
    op: Any = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = len(model.operatorCodes) - 1, given, made
    if custom:
        op.customOptions = list(opts or b"")
    elif opts is not None:
        label = type(opts).__name__.removesuffix("T")
        if hasattr(schema.BuiltinOptions, label):
            op.builtinOptionsType, op.builtinOptions = getattr(schema.BuiltinOptions, label), opts
        else:
            op.builtinOptions2Type, op.builtinOptions2 = getattr(schema.BuiltinOptions2, label), opts
    return op
