"""Handlers of reductions, scans and rankings."""

from __future__ import annotations

from typing import Any

from instep.capture.tflite.builder import Builder
from instep.capture.tflite.registry import reads
from instep.graph import Value, ops

__all__: list[str] = []

_REDUCTIONS: dict[str, Any] = {
    "MEAN": ops.ReduceMean,
    "SUM": ops.ReduceSum,
    "REDUCE_MAX": ops.ReduceMax,
    "REDUCE_MIN": ops.ReduceMin,
    "REDUCE_PROD": ops.ReduceProd,
    "REDUCE_ANY": ops.ReduceAny,
    "REDUCE_ALL": ops.ReduceAll,
}


def _reduction(name: str, kind: Any) -> None:
    @reads(name, "ReducerOptions")
    def handler(b: Builder, x: Value, axes: Value) -> Value:
        found = tuple(sorted({b.axis(a, x.rank) for a in b.ints(axes, "axes")}))
        return b(kind(found, bool(b.option("KeepDims", False))), x) if found else x


for _name, _kind in _REDUCTIONS.items():
    _reduction(_name, _kind)


@reads("SOFTMAX", "SoftmaxOptions")
def softmax(b: Builder, x: Value) -> Value:
    beta = float(b.option("Beta", 1.0))
    if beta != 1.0:
        x = b(ops.Mul(), x, b.scalar(beta, x.dtype))
    return b(ops.Softmax(x.rank - 1), x)


@reads("LOG_SOFTMAX")
def log_softmax(b: Builder, x: Value) -> Value:
    return b(ops.LogSoftmax(x.rank - 1), x)


@reads("ARG_MAX")
def arg_max(b: Builder, x: Value, axis: Value) -> Value:
    return b(ops.ArgMax(b.axis(b.integer(axis, "axis"), x.rank)), x)


@reads("ARG_MIN")
def arg_min(b: Builder, x: Value, axis: Value) -> Value:
    return b(ops.ArgMin(b.axis(b.integer(axis, "axis"), x.rank)), x)


@reads("CUMSUM", "CumsumOptions")
def cumsum(b: Builder, x: Value, axis: Value) -> Value:
    along = b.axis(b.integer(axis, "axis"), x.rank)
    backwards = bool(b.option("Reverse", False))
    if backwards:
        x = b(ops.Flip((along,)), x)
    if b.option("Exclusive", False):
        # each sum without its own element: one place later, starting from nothing
        x = b.slice(x, along, 0, x.shape[along] - 1)
        x = b.pad(x, [(1, 0) if a == along else (0, 0) for a in range(x.rank)])
    x = b(ops.CumSum(along), x)
    return b(ops.Flip((along,)), x) if backwards else x


@reads("TOPK_V2")
def top_k(b: Builder, x: Value, k: Value) -> tuple[Value, ...]:
    return tuple(b.node(ops.TopK(b.integer(k, "k")), x).outputs)


@reads("L2_NORMALIZATION", "L2NormOptions")
def l2_normalization(b: Builder, x: Value) -> Value:
    # l2normalization.h: x / max(√Σx², 1e-6) over the last axis
    total = b(ops.ReduceSum((x.rank - 1,), True), b(ops.Square(), x))
    length = b(ops.Maximum(), b(ops.Sqrt(), total), b.scalar(1e-6, x.dtype))
    return b.activated(b(ops.Div(), x, length))
