"""Mistakes of biases, weights, matrix products and normalisations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from instep.graph import Node, ops
from instep.verify.causes.table import Arrays, Context, Found, Meaning, changed, explains, swapped

__all__: list[str] = []

WEIGHTED = (ops.Conv2d, ops.ConvTranspose2d, ops.Conv3d, ops.Linear)
NORMS = (ops.BatchNorm, ops.GroupNorm, ops.LayerNorm, ops.RmsNorm)


def _with_bias(node: Node, change: Any) -> Meaning:
    return swapped(node, 2, change)


@explains("bias dropped", *WEIGHTED)
def bias_dropped(node: Node, context: Context) -> Iterator[Found]:
    if len(node.inputs) > 2:
        yield "the result without its bias", _with_bias(node, np.zeros_like)


@explains("bias doubled", *WEIGHTED)
def bias_doubled(node: Node, context: Context) -> Iterator[Found]:
    if len(node.inputs) > 2:
        yield "the bias added twice", _with_bias(node, lambda b: 2 * b)


@explains("bias with the wrong sign", *WEIGHTED)
def bias_negated(node: Node, context: Context) -> Iterator[Found]:
    if len(node.inputs) > 2:
        yield "the bias subtracted", _with_bias(node, np.negative)


@explains("bias permuted", *WEIGHTED)
def bias_permuted(node: Node, context: Context) -> Iterator[Found]:
    if len(node.inputs) > 2 and node.inputs[2].size > 1:
        yield "the bias in reverse order", _with_bias(node, lambda b: b[::-1])
        yield "the bias moved by one channel", _with_bias(node, lambda b: np.roll(b, 1))
        yield "the bias moved back by one channel", _with_bias(node, lambda b: np.roll(b, -1))


def _rounded(k: np.ndarray, kind: str) -> np.ndarray:
    if kind == "float16":
        return k.astype(np.float16).astype(k.dtype)
    if kind == "bfloat16":
        bits = k.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32).astype(k.dtype)
    if kind == "int8":
        step = np.abs(k).max() / 127 or 1.0
        return np.round(k / step) * step
    step = np.abs(k).max(tuple(range(1, k.ndim)), keepdims=True) / 127
    step[step == 0] = 1.0
    return np.round(k / step) * step


@explains("weights in lower precision", *WEIGHTED)
def weights_rounded(node: Node, context: Context) -> Iterator[Found]:
    for kind in ("float16", "bfloat16", "int8", "int8 per channel"):
        yield f"weights rounded to {kind}", swapped(node, 1, lambda k, kind=kind: _rounded(k, kind))
        if len(node.inputs) > 2 and kind.endswith("16"):

            def run(ins: Arrays, kind: str = kind) -> Any:
                return node.op.evaluate(ins[0], _rounded(ins[1], kind), _rounded(ins[2], kind))

            yield f"weights and bias rounded to {kind}", run


@explains("weights scaled", *WEIGHTED)
def weights_scaled(node: Node, context: Context) -> Iterator[Found]:
    yield "the weights negated", swapped(node, 1, np.negative)
    yield "the weights doubled", swapped(node, 1, lambda k: 2 * k)
    yield "the weights halved", swapped(node, 1, lambda k: 0.5 * k)


@explains("weights zero", *WEIGHTED)
def weights_zero(node: Node, context: Context) -> Iterator[Found]:
    yield "all weights zero", swapped(node, 1, np.zeros_like)


@explains("transposed weights", ops.Linear)
def linear_transposed(node: Node, context: Context) -> Iterator[Found]:
    shape = node.inputs[1].shape
    if shape[0] == shape[1] > 1:
        yield "Wᵀ for W", swapped(node, 1, lambda k: k.T)


@explains("input features in the wrong order", ops.Linear)
def features_reversed(node: Node, context: Context) -> Iterator[Found]:
    if node.inputs[0].shape[-1] > 1:
        yield "input features reversed", swapped(node, 0, lambda x: x[..., ::-1])


@explains("transposed matrix product", ops.MatMul)
def matmul_transposed(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    a, b = (v.shape for v in node.inputs)
    if a[-1] == a[-2]:
        yield "the first factor transposed", changed(node, transpose_a=not op.transpose_a)
    if b[-1] == b[-2]:
        yield "the second factor transposed", changed(node, transpose_b=not op.transpose_b)
    if node.output.shape[-1] == node.output.shape[-2]:
        yield "the product transposed", lambda ins: op.evaluate(*ins)[0].swapaxes(-1, -2)


@explains("operands in the wrong order", ops.MatMul)
def matmul_order(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    yield "b · a for a · b", lambda ins: op.evaluate(ins[1], ins[0])


@explains("heads in the wrong order", ops.MatMul)
def heads_order(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    a, b = (v.shape for v in node.inputs)
    for number, shape in ((0, a), (1, b)):
        if len(shape) > 2 and shape[-3] > 1:
            yield f"heads of factor {number + 1} reversed", swapped(node, number, lambda x: np.flip(x, -3))
            yield f"heads of factor {number + 1} moved by one", swapped(node, number, lambda x: np.roll(x, 1, -3))
    if len(node.output.shape) > 2 and node.output.shape[-3] > 1:
        yield "heads of the product reversed", lambda ins: np.flip(op.evaluate(*ins)[0], -3)


@explains("normalisation epsilon", *NORMS)
def epsilon(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for eps in (1e-3, 1e-5, 1e-6, 1e-12, 1e-8, 1e-7, 1e-4, 1e-2, 0.0):
        if eps != op.eps:
            yield f"eps = {eps:g} instead of {op.eps:g}", changed(node, eps=eps)


@explains("momentum taken for epsilon", ops.BatchNorm)
def momentum_for_epsilon(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    for eps in dict.fromkeys((op.momentum, 1 - op.momentum, 0.1, 0.01, 0.9, 0.99)):
        if eps:
            yield f"eps = {eps:g} (a momentum) instead of {op.eps:g}", changed(node, eps=eps)


@explains("epsilon outside the square root", *NORMS)
def epsilon_outside(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op

    def run(ins: Arrays) -> Any:
        if isinstance(op, ops.BatchNorm):
            root = np.square(np.sqrt(ins[4]) + op.eps)
            return op.with_(eps=0.0).evaluate(*ins[:4], root)
        return op.with_(eps=op.eps**2).evaluate(*ins)

    yield "√var + eps instead of √(var + eps)", run


def _exchanged(node: Node, i: int, j: int) -> Meaning:
    def run(ins: Arrays) -> Any:
        ins = list(ins)
        ins[i], ins[j] = ins[j], ins[i]
        return node.op.evaluate(*ins)

    return run


@explains("mean and variance swapped", ops.BatchNorm)
def statistics_swapped(node: Node, context: Context) -> Iterator[Found]:
    yield "running mean and variance exchanged", _exchanged(node, 3, 4)

    def run(ins: Arrays) -> Any:
        return node.op.evaluate(*ins[:3], ins[4], np.abs(ins[3]))

    yield "running mean and |variance| exchanged", run


@explains("scale and shift swapped", ops.BatchNorm, ops.GroupNorm, ops.LayerNorm)
def affine_swapped(node: Node, context: Context) -> Iterator[Found]:
    yield "weight and bias exchanged", _exchanged(node, 1, 2)


@explains("scale of a normalisation dropped", *NORMS)
def scale_dropped(node: Node, context: Context) -> Iterator[Found]:
    yield "weight taken as 1", swapped(node, 1, np.ones_like)


@explains("shift of a normalisation dropped", ops.BatchNorm, ops.GroupNorm, ops.LayerNorm)
def shift_dropped(node: Node, context: Context) -> Iterator[Found]:
    yield "bias taken as 0", swapped(node, 2, np.zeros_like)


@explains("shift of a normalisation doubled", ops.BatchNorm, ops.GroupNorm, ops.LayerNorm)
def shift_doubled(node: Node, context: Context) -> Iterator[Found]:
    yield "bias added twice", swapped(node, 2, lambda b: 2 * b)


@explains("running mean dropped", ops.BatchNorm)
def mean_dropped(node: Node, context: Context) -> Iterator[Found]:
    yield "mean taken as 0", swapped(node, 3, np.zeros_like)
    yield "mean added instead of subtracted", swapped(node, 3, np.negative)


@explains("running variance dropped", ops.BatchNorm)
def variance_dropped(node: Node, context: Context) -> Iterator[Found]:
    yield "variance taken as 1", swapped(node, 4, np.ones_like)
    yield "the variance taken for the deviation (no square root)", swapped(node, 4, np.square)


@explains("running statistics ignored", ops.BatchNorm)
def statistics_ignored(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op

    def fresh(ins: Arrays) -> Any:
        return op.evaluate(*ins[:3], np.zeros_like(ins[3]), np.ones_like(ins[4]))

    yield "mean 0 and variance 1, as at initialisation", fresh

    def batch(ins: Arrays) -> Any:
        axes = tuple(a for a in range(ins[0].ndim) if a != op.axis)
        return op.evaluate(*ins[:3], ins[0].mean(axes), ins[0].var(axes))

    yield "the batch's own statistics (training mode)", batch


@explains("normalisation dropped", *NORMS)
def norm_dropped(node: Node, context: Context) -> Iterator[Found]:
    yield "the input as it is", lambda ins: ins[0]


@explains("statistics of another layer", ops.BatchNorm)
def statistics_of_another(node: Node, context: Context) -> Iterator[Found]:
    names = {1: "weight", 2: "bias", 3: "mean", 4: "variance"}
    others: dict[str, Any] = {}
    for other in context.graph.nodes:
        if other is not node and isinstance(other.op, ops.BatchNorm) and other.inputs[3].shape == node.inputs[3].shape:
            arrays = [context.graph.array(v) for v in other.inputs[1:]]
            if all(a is not None for a in arrays):
                others[other.scope or other.output.name] = arrays
    for name, arrays in list(others.items())[:12]:
        yield f"all four vectors of {name}", lambda ins, a=arrays: node.op.evaluate(ins[0], *a)
        yield f"mean and variance of {name}", lambda ins, a=arrays: node.op.evaluate(*ins[:3], *a[2:])
        for i, what in names.items():
            yield f"{what} of {name}", swapped(node, i, lambda _, d=arrays[i - 1]: d)


@explains("unbiased variance", ops.BatchNorm, ops.GroupNorm, ops.LayerNorm)
def unbiased(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    shape = node.inputs[0].shape
    if isinstance(op, ops.BatchNorm):
        count = int(np.prod(shape)) // shape[op.axis]
        if count > 1:
            yield "variance · n / (n - 1)", swapped(node, 4, lambda v: v * count / (count - 1))
        return
    if isinstance(op, ops.GroupNorm):
        count = int(np.prod(shape[1:])) // op.groups
    else:
        count = int(np.prod([shape[a] for a in op.axes]))
    if count < 2:
        return

    def run(ins: Arrays) -> Any:
        zero = np.zeros_like(ins[2])
        # (x - m) / √(v·n/(n-1) + eps) = √((n-1)/n) · (x - m) / √(v + eps·(n-1)/n)
        share = (count - 1) / count
        bare = op.with_(eps=op.eps * share).evaluate(ins[0], ins[1] * np.sqrt(share), zero)[0]
        return bare + op.evaluate(np.zeros_like(ins[0]), np.zeros_like(ins[1]), ins[2])[0]

    yield "divided by n - 1 instead of n", run


@explains("groups of a normalisation", ops.GroupNorm)
def norm_groups(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    c = node.inputs[0].shape[op.axis]
    for groups in [1, c, *(g for g in range(2, c) if c % g == 0)][:16]:
        if groups != op.groups:
            yield f"{groups} groups instead of {op.groups}", changed(node, groups=groups)


@explains("group order", ops.GroupNorm)
def norm_group_order(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    c = node.inputs[0].shape[op.axis]
    if not 1 < op.groups < c:
        return
    order = np.arange(c).reshape(op.groups, -1).T.ravel()

    def run(ins: Arrays) -> Any:
        ones, zeros = np.ones_like(ins[1]), np.zeros_like(ins[2])
        mixed = op.evaluate(np.take(ins[0], order, op.axis), ones, zeros)[0]
        plain = np.take(mixed, np.argsort(order), op.axis)
        shape = [-1 if a == op.axis else 1 for a in range(ins[0].ndim)]
        return plain * ins[1].reshape(shape) + ins[2].reshape(shape)

    yield "channels grouped c % groups instead of c // (C / groups)", run


@explains("axis of a normalisation", ops.LayerNorm, ops.RmsNorm, ops.GroupNorm)
def norm_axis(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    x = node.inputs[0].shape
    sets = {(a,) for a in range(1, len(x))} | {tuple(range(a, len(x))) for a in range(1, len(x))} | {(2, 3)}
    vector = node.inputs[1].shape
    own = tuple(op.axes) if hasattr(op, "axes") else None
    for axes in sorted(s for s in sets if max(s) < len(x) and s != own):

        def run(ins: Arrays, axes: tuple[int, ...] = axes) -> Any:
            if own is not None:
                spread = [x[i] if i in own else 1 for i in range(len(x))]
            else:
                spread = [-1 if i == op.axis else 1 for i in range(len(x))]
            mean = 0.0 if isinstance(op, ops.RmsNorm) else ins[0].mean(axes, keepdims=True)
            root = np.sqrt(np.square(ins[0] - mean).mean(axes, keepdims=True) + op.eps)
            result = (ins[0] - mean) / root * ins[1].reshape(spread)
            return result + ins[2].reshape(spread) if len(ins) > 2 else result

        yield f"normalised over axes {list(axes)} instead of {list(own or ())}", run
    del vector


@explains("mean not subtracted", ops.LayerNorm, ops.GroupNorm)
def mean_kept(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    if not isinstance(op, ops.LayerNorm):
        return

    def run(ins: Arrays) -> Any:
        rms = ops.RmsNorm(op.axes, op.eps).evaluate(ins[0], ins[1])[0]
        return rms + op.spread(ins[2], ins[0].ndim, ins[0].shape)

    yield "x / √(mean(x²) + eps), the RMS form", run


@explains("mean subtracted", ops.RmsNorm)
def mean_taken(node: Node, context: Context) -> Iterator[Found]:
    op: Any = node.op
    other = ops.LayerNorm(op.axes, op.eps)
    yield "LayerNorm for RMSNorm", lambda ins: other.evaluate(ins[0], ins[1], np.zeros_like(ins[1]))


@explains("scale or shift permuted", *NORMS)
def affine_permuted(node: Node, context: Context) -> Iterator[Found]:
    n = node.inputs[1].shape[0] if node.inputs[1].shape else 0
    if n < 2:
        return
    for i in range(1, len(node.inputs)):
        yield f"vector {i} in reverse order", swapped(node, i, lambda v: v[::-1])
        yield f"vector {i} moved by one", swapped(node, i, lambda v: np.roll(v, 1, 0))
        yield f"vector {i} moved back by one", swapped(node, i, lambda v: np.roll(v, -1, 0))


@explains("bias of another layer", *WEIGHTED)
def bias_of_another(node: Node, context: Context) -> Iterator[Found]:
    if len(node.inputs) > 2:
        for name, data in context.others(context.array(node.inputs[2])):
            yield f"the bias is {name}", _with_bias(node, lambda b, d=data: d.astype(b.dtype))


@explains("weights of another layer", *WEIGHTED)
def weights_of_another(node: Node, context: Context) -> Iterator[Found]:
    for name, data in context.others(context.array(node.inputs[1]), 12):
        yield f"the weights are {name}", swapped(node, 1, lambda k, d=data: d.astype(k.dtype))
