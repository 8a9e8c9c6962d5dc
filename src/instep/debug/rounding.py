"""How much rounding a part of a file may cost on its own: the floors of the proof's noise, from the operators."""

from __future__ import annotations

import math

from instep.debug.flow import Part
from instep.runtime import OpInfo, TFLiteInfo
from instep.verify.noise import LIMITS, Arithmetic, Limits

__all__ = ["growth_of"]

#: TFLite operators that sum products: which sizes of the filter or of the operands make the number of terms.
_WHOLE_FILTER = {"CONV_2D", "CONV_3D"}
_MEANS = {"MEAN", "SUM", "AVERAGE_POOL_2D", "L2_NORMALIZATION"}


def growth_of(
    info: TFLiteInfo, part: Part, limits: Limits = LIMITS, arithmetic: Arithmetic | None = None
) -> dict[int, float]:
    """Tensor → the eps that other legal orders of summation may have cost from the part's inputs to there.

    The rule of ``instep.verify.noise.growth``, read from a file's operators.
    """
    engine = arithmetic or Arithmetic()
    found: dict[int, float] = {}
    for number in part.ops:
        op = info.ops[number]
        before = max((found.get(i, 1.0) for i in op.inputs if i >= 0), default=1.0)
        sums, products = _terms(info, op)
        own = limits.sums**2 * sums + limits.products**2 * products
        own += engine.functions.get(op.name, 0.0) ** 2
        for index in op.outputs:
            if index >= 0:
                found[index] = math.sqrt(before**2 + own)
    return found


def _terms(info: TFLiteInfo, op: OpInfo) -> tuple[float, float]:
    """(terms of each sum, terms of each product sum)."""
    shapes = [info.tensors[i].shape if i >= 0 else () for i in op.inputs]
    out = info.tensors[op.outputs[0]].shape if op.outputs else ()
    if op.name in _WHOLE_FILTER and len(shapes) > 1 and shapes[1]:
        return 0, math.prod(shapes[1]) / max(1, shapes[1][0])
    if op.name == "DEPTHWISE_CONV_2D" and len(shapes) > 1:
        return 0, math.prod(shapes[1][1:3])
    if op.name == "TRANSPOSE_CONV" and len(shapes) > 1 and shapes[1]:
        return 0, math.prod(shapes[1]) / max(1, shapes[1][0])
    if op.name in ("FULLY_CONNECTED", "BATCH_MATMUL") and shapes and shapes[0]:
        return 0, abs(shapes[0][-1])
    if op.name in _MEANS and shapes:
        return max(1.0, math.prod(shapes[0]) / max(1, math.prod(out))), 0
    if op.name in ("SOFTMAX", "LOG_SOFTMAX", "CUMSUM") and shapes and shapes[0]:
        return abs(shapes[0][-1]), 0
    return 0, 0
