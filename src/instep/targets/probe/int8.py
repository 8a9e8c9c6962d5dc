"""A question's file in eight bits, as NPUs take them: every float tensor becomes int8, every bias int32.

What is asked of a compiler is where an operator would run, not its values: all computed tensors share one scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from instep.emit.tflite.writer import Writer

__all__ = ["quantise"]

#: The scale of what is computed, and where TFLite prescribes another: (scale, zero point) of the result.
USUAL = (0.05, 0)
_PRESCRIBED = {
    "SOFTMAX": (1 / 256, -128), "LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0), "L2_NORMALIZATION": (1 / 128, 0),
    "LOG_SOFTMAX": (16 / 256, 127),
}  # fmt: skip
#: Which input of an operator is the image, the filter and the bias.
_FILTERS = {
    "CONV_2D": (0, 1, 2), "DEPTHWISE_CONV_2D": (0, 1, 2), "FULLY_CONNECTED": (0, 1, 2), "CONV_3D": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}  # fmt: skip


def quantise(w: Writer) -> None:
    """Turn the float tensors of a finished writer into int8, in place."""
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    wanted: dict[int, tuple[float, int]] = {}
    biases: dict[int, tuple[int, int]] = {}
    for op in w.operators:
        code = names[w.codes[op.opcodeIndex][0]]
        for index in op.outputs:
            wanted[index] = _PRESCRIBED.get(code, USUAL)
        if code in _FILTERS and len(op.inputs) > _FILTERS[code][2]:
            image, filters, bias = (op.inputs[i] for i in _FILTERS[code])
            biases[bias] = (image, filters)
    float32 = [i for i, t in enumerate(w.tensors) if t.type == schema.TensorType.FLOAT32]
    for index in float32:
        if index not in biases:
            _to_int8(w, index, wanted.get(index, USUAL))
    for index, (image, filters) in biases.items():
        scale = _scale(w.tensors[image]) * _scale(w.tensors[filters])
        _set(w.tensors[index], schema.TensorType.INT32, scale, 0)
        if w.tensors[index].buffer:
            _store(w, index, np.round(_floats(w, index) / scale).astype(np.int32))


def _to_int8(w: Writer, index: int, usual: tuple[float, int]) -> None:
    tensor = w.tensors[index]
    if not tensor.buffer:
        _set(tensor, schema.TensorType.INT8, *usual)
        return
    values = _floats(w, index)
    scale = float(np.abs(values).max(initial=0.0)) / 127 or 1.0
    _set(tensor, schema.TensorType.INT8, scale, 0)
    _store(w, index, np.clip(np.round(values / scale), -127, 127).astype(np.int8))


def _floats(w: Writer, index: int) -> np.ndarray:
    array = w.arrays[w.tensors[index].buffer]
    assert array is not None
    return array.view(np.float32)


def _store(w: Writer, index: int, array: np.ndarray) -> None:
    w.arrays.append(array.reshape(-1).view(np.uint8))
    w.tensors[index].buffer = len(w.arrays) - 1


def _scale(tensor: Any) -> float:
    return float(tensor.quantization.scale[0]) if tensor.quantization is not None else USUAL[0]


def _set(tensor: Any, kind: int, scale: float, zero: int) -> None:
    tensor.type = kind
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
