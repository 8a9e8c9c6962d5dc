"""Functions of keras.ops that multiply and sum: matrix products, convolutions with any kernel, pools."""

from __future__ import annotations

from typing import Any

from instep.capture.einsum import contracted, letters
from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.pool import pooled
from instep.capture.keras.handlers.spatial import convolved
from instep.capture.keras.registry import Unsupported, function
from instep.capture.logarithms import of_sum, plus_one
from instep.graph import Value, ops

__all__: list[str] = []


# -- matrices ----------------------------------------------------------------------------------------------------------
@function("Matmul", "tf.linalg.matmul", "tf.matmul")
def matmul(b: Builder, x1: Any = None, x2: Any = None, transpose_a: bool = False, transpose_b: bool = False,
           a: Any = None, b_: Any = None, **_: Any) -> Value:  # fmt: skip
    left, right = _tensor(b, x1 if x1 is not None else a), _tensor(b, x2 if x2 is not None else b_)
    row, column = left.rank == 1, right.rank == 1
    left = b.reshape(left, (1, left.size)) if row else left
    right = b.reshape(right, (right.size, 1)) if column else right
    y = b(ops.MatMul(bool(transpose_a), bool(transpose_b)), left, right)
    gone = {y.rank - 2 if row else -1, y.rank - 1 if column else -1}
    return b.reshape(y, [n for axis, n in enumerate(y.shape) if axis not in gone])


def _tensor(b: Builder, x: Any) -> Value:
    """A tensor; a list of numbers is a constant one."""
    if not isinstance(x, Value | list):
        raise Unsupported("it is not called with tensors")
    return b.operand(x, "float32") if isinstance(x, list) else x


@function("Einsum")
def einsum(b: Builder, *operands: Any, subscripts: str = "") -> Value:
    given = [_tensor(b, x) for x in operands]
    ranks = [x.rank for x in given]
    if len(subscripts.partition("->")[0].split(",")) != len(ranks):
        raise Unsupported(f"its subscripts {subscripts!r} are not those of {len(ranks)} tensors")
    names, out = letters(subscripts, ranks)
    wrong = any(len(n) != r or len(set(n)) != len(n) for n, r in zip(names, ranks, strict=True))
    if wrong or len(set(out)) != len(out) or set(out) - set("".join(names)):
        raise Unsupported(f"its subscripts {subscripts!r} do not fit tensors of the ranks {ranks}, or take a diagonal")
    sizes: dict[str, int] = {}
    for c, n in ((c, n) for name, x in zip(names, given, strict=True) for c, n in zip(name, x.shape, strict=True)):
        if sizes.setdefault(c, n) != n:
            raise Unsupported(f"axis {c!r} has {sizes[c]} and {n} elements")
    return contracted(b, list(zip(names, given, strict=True)), out)


# -- sums --------------------------------------------------------------------------------------------------------------
@function("Cumsum")
def cumsum(b: Builder, x: Value, axis: Any = None, dtype: Any = None) -> Value:
    x, axis = (b.reshape(x, (x.size,)), 0) if axis is None else (x, axis)
    return b(ops.CumSum(b.axis(axis, x.rank)), x)


@function("Logsumexp")
def logsumexp(b: Builder, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    given = range(x.rank) if axis is None else axis if isinstance(axis, list) else [axis]
    axes = tuple(sorted({b.axis(a, x.rank) for a in given}))
    y = of_sum(b, x, axes)
    return y if keepdims else b.reshape(y, [n for a, n in enumerate(x.shape) if a not in axes])


@function("Log1p", "tf.math.log1p")
def log1p(b: Builder, x: Value) -> Value:
    return plus_one(b, x)


# -- windows -----------------------------------------------------------------------------------------------------------
@function("AveragePool", "MaxPool")
def pool(b: Builder, x: Value, **_: Any) -> Value:
    return pooled(b, x, x.rank - 2)


def _arranged(b: Builder, kernel: Value) -> Value:
    """[K…, I, O] to [O, K…, I] or [O, I, K…]; a line's kernel gets a row."""
    if kernel.rank == 3:
        kernel = b.reshape(kernel, (1, *kernel.shape))
    last = kernel.rank - 1
    places = tuple(range(last - 1))
    return b.permute(kernel, (last, *places, last - 1) if b.layout() == "NHWC" else (last, last - 1, *places))


def _channels(b: Builder, x: Value) -> int:
    return x.shape[-1] if b.layout() == "NHWC" else x.shape[1]


def _kernel(b: Builder, x: Value, kernel: Any) -> Value:
    kernel = _tensor(b, kernel)
    if kernel.rank != x.rank or x.rank not in (3, 4, 5):
        raise Unsupported(f"its kernel {list(kernel.shape)} does not fit {list(x.shape)}")
    return kernel


@function("Conv")
def conv(b: Builder, x: Value, kernel: Any = None, **_: Any) -> Value:
    kernel = _kernel(b, x, kernel)
    groups, rest = divmod(_channels(b, x), kernel.shape[-2])
    if rest or kernel.shape[-1] % groups:
        raise Unsupported(f"its kernel {list(kernel.shape)} does not fit {_channels(b, x)} channels")
    return convolved(b, x, [_arranged(b, kernel)], kernel.shape[:-2], groups)


@function("DepthwiseConv")
def depthwise_conv(b: Builder, x: Value, kernel: Any = None, **_: Any) -> Value:
    """Output channel c · M + m of a kernel [K…, C, M]."""
    kernel = _kernel(b, x, kernel)
    *places, channels, many = kernel.shape
    flat = b.reshape(kernel, (*places, 1, channels * many))
    return convolved(b, x, [_arranged(b, flat)], places, channels)


@function("SeparableConv")
def separable_conv(b: Builder, x: Value, depthwise_kernel: Any = None, pointwise_kernel: Any = None, **_: Any) -> Value:
    y = depthwise_conv(b, x, depthwise_kernel)
    pointwise = _kernel(b, x, pointwise_kernel)
    axis = y.rank - 1 if b.layout() == "NHWC" else 1
    rows = b.permute(b.reshape(pointwise, pointwise.shape[-2:]), (1, 0))
    last = [a for a in range(y.rank) if a != axis]
    mixed = b(ops.MatMul(transpose_b=True), b.permute(y, (*last, axis)), rows)
    return b.permute(mixed, [*range(axis), y.rank - 1, *range(axis, y.rank - 1)])


@function("ConvTranspose")
def conv_transpose(b: Builder, x: Value, *_: Any, **__: Any) -> Value:
    raise Unsupported("Keras itself cannot run this operation of a saved network; use a layer such as Conv2DTranspose")
