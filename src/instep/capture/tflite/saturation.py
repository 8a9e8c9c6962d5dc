"""Where the range of a quantised tensor is part of the function: an activation that its producer lost to it, and the
ends of a quantisation that is undone at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from instep.capture.tflite.builder import Builder
from instep.capture.tflite.file import Operation, Tensor
from instep.graph import Operator, Value, ops

__all__ = ["Saturation", "ends"]

#: Operators whose results have either sign by nature. Converters leave their Relu or Relu6 out where the integers of
#: the result hold nothing else: fake quantisation from 0 to 6 is one, TensorFlow 1's converter drops written ones.
#: A product is not among them: SiLU's results are so little below zero that a range with large steps begins at zero.
_SIGNED = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "ADD", "SUB"}
_INTEGERS = {
    "int4": (-8, 7), "uint4": (0, 15), "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767),
}  # fmt: skip

Range = tuple[float, float]


def ends(tensor: Tensor) -> Range | None:
    """The real numbers that the lowest and the highest integer of ``tensor`` stand for; None where channels differ.

    To as many digits as the float32 scale has: 6/255 ends at 6.
    """
    if tensor.dtype not in _INTEGERS or tensor.scale.size != 1 or tensor.zero_point.size > 1:
        return None
    scale, zero = float(tensor.scale[0]), sum(map(int, tensor.zero_point))
    if not 0 < scale < math.inf:
        return None
    low, high = (float(f"{(n - zero) * scale:.7g}") for n in _INTEGERS[tensor.dtype])
    return (low, high) if low < high else None


class Saturation:
    """Adds the activations that ranges of quantised tensors stand for; other saturation is left out, as rounding is."""

    def __init__(self, build: Builder) -> None:
        self.build = build
        #: what QUANTIZE leaves of real numbers, by subgraph and tensor
        self.left: dict[tuple[int, int], Range] = {}

    def of(self, number: int, operation: Operation, tensors: Sequence[Tensor], result: Value) -> Value:
        """``result`` of an operator of subgraph ``number`` that reads ``tensors``, as the tensor it makes holds it."""
        made = self.build.declared[0]
        if operation.name == "QUANTIZE":
            self.quantise(number, tensors[0], made)
            return result
        op = None
        if operation.name == "DEQUANTIZE":
            left = self.left.get((number, tensors[0].index))
            op = None if left is None else ops.Clip(*left)
        elif operation.name in _SIGNED and not self.build.option("FusedActivationFunction"):
            op = _activation(operation.name, tensors, made)
        return result if op is None else self.build(op, result)

    def quantise(self, number: int, read: Tensor, made: Tensor) -> None:
        """Keep what is left of the real numbers in ``read``, quantised once before or not at all, in ``made``."""
        before = self.left.get((number, read.index)) if read.quantized else (-math.inf, math.inf)
        range_ = ends(made)
        if before is None or range_ is None:
            return
        low, high = max(before[0], range_[0]), min(before[1], range_[1])
        if low < high:
            self.left[number, made.index] = (low, high)


def _activation(name: str, read: Sequence[Tensor], made: Tensor) -> Operator | None:
    """The activation that the range of ``made`` is, where it begins at zero."""
    range_ = ends(made)
    if range_ is None or range_[0] != 0 or (name == "ADD" and all(r and r[0] >= 0 for r in map(ends, read))):
        return None
    # other upper ends are what calibration happened to see
    return ops.Clip(0.0, 6.0) if abs(range_[1] - 6) <= made.scale[0] / 2 else ops.Relu()
