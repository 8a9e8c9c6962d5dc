"""Splits convolutions whose last tile of output channels would be mostly empty, for processors with wide vectors."""

from __future__ import annotations

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.driver import Rewrite
from instep.rewrite.edit import Editor

__all__ = ["split_convolutions"]

#: A convolution of fewer taps is done before the joining of its halves has paid.
LEAST_TAPS = 4
#: What may stay behind each half, because it acts on each element alone.
POINTWISE = (ops.LeakyRelu, ops.Relu, ops.Clip, ops.Sigmoid, ops.Tanh, ops.HardSwish, ops.Gelu)


def split_convolutions(tile: int) -> Rewrite:
    """The rewrite that cuts the output channels of a convolution at the last multiple of ``tile``.

    XNNPACK computes the output channels of a float32 convolution in tiles, and a remainder costs a whole tile unless
    it has the convolution to itself and fits half a tile, for which there is a narrower kernel. Measured with XNNPACK
    on AVX-512 (tile 32): 3×3, 48 → 48 channels on 64×64 takes 0.86 ms; 48 → 32 and 48 → 16 take 0.43 and 0.28 ms.
    So with 1 to ``tile`` / 2 channels over a multiple, two convolutions and a concatenation are faster. Processors
    with narrower tiles (8 on Arm) only pay for the concatenation: the rewrite is not part of the default pipeline.
    """

    def function(edit: Editor) -> bool:
        return any([_split(edit, node, tile) for node in edit.nodes(ops.Conv2d)])

    return Rewrite("split-convolutions", "each output channel of a convolution is computed alone", function)


def _split(edit: Editor, node: Node, tile: int) -> bool:
    arrays = [edit.array(value) for value in node.inputs[1:]]
    if node.op.layout != "NHWC" or node.op.groups != 1 or any(a is None for a in arrays):
        return False
    channels, rows, columns, _ = node.inputs[1].shape
    cut = channels // tile * tile
    if not cut or not 0 < channels - cut <= tile // 2 or rows * columns < LEAST_TAPS:
        return False
    parts: list[Value] = []
    for start, stop in ((0, cut), (cut, channels)):
        constants = [
            edit.constant(np.ascontiguousarray(array[start:stop]), f"{value.name}.{start}")
            for array, value in zip(arrays, node.inputs[1:], strict=True)
            if array is not None
        ]
        parts.append(edit.add(node.op, [node.inputs[0], *constants], node, f"{node.output.name}.{start}"))
    behind = edit.only_user(node.output, *POINTWISE)
    if behind is not None:
        parts = [edit.add(behind.op, [p], behind, f"{behind.output.name}.{i}") for i, p in enumerate(parts)]
    edit.splice(behind or node, ops.Concat(3), parts)
    return True
