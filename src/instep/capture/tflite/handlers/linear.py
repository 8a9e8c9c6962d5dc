"""Handlers of matrix products."""

from __future__ import annotations

from instep.capture.tflite.builder import Builder
from instep.capture.tflite.registry import Unsupported, reads
from instep.graph import Value, ops

__all__: list[str] = []


@reads("FULLY_CONNECTED", "FullyConnectedOptions")
def fully_connected(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    if b.option("WeightsFormat"):
        raise Unsupported("its weights are shuffled for one processor")
    if weight.rank != 2:
        raise Unsupported(f"its weight has the shape {list(weight.shape)}")
    if not b.option("KeepNumDims", False) or not x.rank:
        x = b.reshape(x, (x.size // max(weight.shape[1], 1), weight.shape[1]))
    inputs = [x, weight] if bias is None else [x, weight, b.reshape(bias, (bias.size,))]
    return b.activated(b(ops.Linear(), *inputs))


@reads("BATCH_MATMUL", "BatchMatMulOptions")
def batch_matmul(b: Builder, x: Value, y: Value) -> Value:
    return b(ops.MatMul(bool(b.option("AdjX", False)), bool(b.option("AdjY", False))), x, y)
