"""Lowerings of reductions, scans and rankings."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from instep.emit.tflite.table import EmitError, lowers
from instep.emit.tflite.writer import Writer
from instep.graph import Node, ops

__all__: list[str] = []

_REDUCTIONS: dict[type, str] = {
    ops.ReduceMean: "MEAN",
    ops.ReduceSum: "SUM",
    ops.ReduceMax: "REDUCE_MAX",
    ops.ReduceMin: "REDUCE_MIN",
    ops.ReduceProd: "REDUCE_PROD",
    ops.ReduceAny: "REDUCE_ANY",
    ops.ReduceAll: "REDUCE_ALL",
}


@lowers(*_REDUCTIONS)
def reduction(w: Writer, node: Node) -> None:
    options = schema.ReducerOptionsT()
    options.keepDims = node.op.keepdims
    inputs = [w.tensor(node.inputs[0]), w.constant(node.op.axes, "axes")]
    w.op(_REDUCTIONS[type(node.op)], inputs, [w.tensor(node.output)], options)


@lowers(ops.Softmax)
def softmax(w: Writer, node: Node) -> None:
    if node.op.axis != node.output.rank - 1:
        raise EmitError(f"{node.describe()}: TFLite's softmax runs over the last axis; run the rewrite 'lower' first")
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    w.op("SOFTMAX", [w.tensor(node.inputs[0])], [w.tensor(node.output)], options)


@lowers(ops.ArgMax, ops.ArgMin)
def arg(w: Writer, node: Node) -> None:
    if node.op.keepdims:
        raise EmitError(f"{node.describe()}: TFLite's arg max drops its axis; run the rewrite 'lower' first")
    largest = isinstance(node.op, ops.ArgMax)
    options = schema.ArgMaxOptionsT() if largest else schema.ArgMinOptionsT()
    options.outputType = schema.TensorType.INT32
    inputs = [w.tensor(node.inputs[0]), w.constant(np.asarray(node.op.axis, np.int32), "axis")]
    w.op("ARG_MAX" if largest else "ARG_MIN", inputs, [w.tensor(node.output)], options)


@lowers(ops.CumSum)
def cumsum(w: Writer, node: Node) -> None:
    inputs = [w.tensor(node.inputs[0]), w.constant(np.asarray(node.op.axis, np.int32), "axis")]
    w.op("CUMSUM", inputs, [w.tensor(node.output)], schema.CumsumOptionsT())


@lowers(ops.TopK)
def top_k(w: Writer, node: Node) -> None:
    inputs = [w.tensor(node.inputs[0]), w.constant(np.asarray(node.op.k, np.int32), "k")]
    w.op("TOPK_V2", inputs, [w.tensor(v) for v in node.outputs], schema.TopKV2OptionsT())


@lowers(ops.LogSoftmax)
def log_softmax(w: Writer, node: Node) -> None:
    if node.op.axis != node.output.rank - 1:
        raise EmitError(f"{node.describe()}: TFLite's softmax runs over the last axis; run the rewrite 'lower' first")
    w.op("LOG_SOFTMAX", [w.tensor(node.inputs[0])], [w.tensor(node.output)], schema.LogSoftmaxOptionsT())
