"""Lowerings of operators that move or choose elements."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from instep.emit.tflite.table import EmitError, lowers
from instep.emit.tflite.writer import Writer
from instep.graph import Node, ops

__all__: list[str] = []


@lowers(ops.Reshape)
def reshape(w: Writer, node: Node) -> None:
    options = schema.ReshapeOptionsT()
    options.newShape = list(node.op.shape)
    w.op("RESHAPE", [w.tensor(node.inputs[0]), w.constant(node.op.shape, "shape")], [w.tensor(node.output)], options)


@lowers(ops.Permute)
def permute(w: Writer, node: Node) -> None:
    w.transpose(w.tensor(node.inputs[0]), node.op.perm, w.tensor(node.output))


@lowers(ops.Slice)
def cut(w: Writer, node: Node) -> None:
    op, x, y = node.op, w.tensor(node.inputs[0]), w.tensor(node.output)
    if all(s == 1 for s in op.steps):
        inputs = [x, w.constant(op.starts, "begin"), w.constant(node.output.shape, "size")]
        return w.op("SLICE", inputs, [y], schema.SliceOptionsT(), version=5 if node.output.rank > 4 else 1)
    inputs = [x, w.constant(op.starts, "begin"), w.constant(op.stops, "end"), w.constant(op.steps, "strides")]
    return w.op("STRIDED_SLICE", inputs, [y], schema.StridedSliceOptionsT())


@lowers(ops.Concat)
def concat(w: Writer, node: Node) -> None:
    options = schema.ConcatenationOptionsT()
    options.axis = node.op.axis
    w.op("CONCATENATION", [w.tensor(v) for v in node.inputs], [w.tensor(node.output)], options)


@lowers(ops.Pad)
def pad(w: Writer, node: Node) -> None:
    op, x, y = node.op, w.tensor(node.inputs[0]), w.tensor(node.output)
    pads = w.constant(np.asarray(op.pads, np.int32), "pads")
    if op.mode == "reflect":
        options = schema.MirrorPadOptionsT()
        options.mode = schema.MirrorPadMode.REFLECT
        return w.op("MIRROR_PAD", [x, pads], [y], options)
    if op.mode != "constant":
        raise EmitError(f"{node.describe()}: TFLite has no pad of mode {op.mode!r}; run the rewrite 'lower' first")
    if op.value == 0:
        return w.op("PAD", [x, pads], [y], schema.PadOptionsT())
    # -inf is refused by GPU delegates and means the same as the lowest float to whatever reads it here.
    dtype = np.float32 if node.output.dtype.startswith("float") else np.dtype(node.output.dtype)
    value = np.asarray(np.clip(op.value, np.finfo(np.float32).min, np.finfo(np.float32).max), dtype)
    return w.op("PADV2", [x, pads, w.constant(value, "value")], [y], schema.PadV2OptionsT())


@lowers(ops.Flip)
def flip(w: Writer, node: Node) -> None:
    inputs = [w.tensor(node.inputs[0]), w.constant(node.op.axes, "axes")]
    w.op("REVERSE_V2", inputs, [w.tensor(node.output)], schema.ReverseV2OptionsT())


@lowers(ops.Gather)
def gather(w: Writer, node: Node) -> None:
    options = schema.GatherOptionsT()
    options.axis = node.op.axis
    w.op("GATHER", [w.tensor(v) for v in node.inputs], [w.tensor(node.output)], options)
