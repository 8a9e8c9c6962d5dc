"""Lowerings of matrix products."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from instep.emit.tflite.elementwise import fused
from instep.emit.tflite.table import lowers
from instep.emit.tflite.writer import Writer
from instep.graph import Node, ops

__all__ = ["bias"]


def bias(w: Writer, node: Node, channels: int) -> int:
    """The node's bias, or shared zeros: XNNPACK refuses a convolution without one."""
    if len(node.inputs) > 2:
        return w.tensor(node.inputs[2])
    return w.constant(np.zeros(channels, np.float32), "zeros")


@lowers(ops.Linear)
def linear(w: Writer, node: Node) -> None:
    options = fused(schema.FullyConnectedOptionsT(), node.op)
    options.keepNumDims = node.output.rank != 2
    inputs = [w.tensor(node.inputs[0]), w.tensor(node.inputs[1]), bias(w, node, node.output.shape[-1])]
    w.op("FULLY_CONNECTED", inputs, [w.tensor(node.output)], options, version=5 if options.keepNumDims else 1)


@lowers(ops.MatMul)
def matmul(w: Writer, node: Node) -> None:
    options = schema.BatchMatMulOptionsT()
    options.adjX, options.adjY = node.op.transpose_a, node.op.transpose_b
    w.op("BATCH_MATMUL", [w.tensor(v) for v in node.inputs], [w.tensor(node.output)], options)
