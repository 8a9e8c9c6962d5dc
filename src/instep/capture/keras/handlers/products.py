"""Functions of keras.ops over windows: convolutions with any kernel, pools, patches."""

from __future__ import annotations

from typing import Any

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.matrices import tensor
from instep.capture.keras.handlers.pool import adapted, pooled
from instep.capture.keras.handlers.spatial import convolved
from instep.capture.keras.registry import Unsupported, function
from instep.graph import Value, ops

__all__: list[str] = []


# -- windows -----------------------------------------------------------------------------------------------------------
@function("AveragePool", "MaxPool")
def pool(b: Builder, x: Value, **_: Any) -> Value:
    return pooled(b, x, x.rank - 2)


@function("AdaptiveAveragePool", "AdaptiveMaxPool")
def adaptive_pool(b: Builder, x: Value, **_: Any) -> Value:
    return adapted(b, x, x.rank - 2)


@function("Unfold")
def unfold(b: Builder, x: Value, **_: Any) -> Value:
    """[N, C, H, W] to [N, C · KH · KW, windows], as PyTorch does it."""
    kernel, stride, pads, dilation = _windows(b)
    return b(ops.Unfold2d(kernel, stride, pads, dilation, "NCHW"), x)


@function("Fold")
def fold(b: Builder, x: Value, **_: Any) -> Value:
    kernel, stride, pads, dilation = _windows(b)
    return b(ops.Fold2d(b.sizes("output_size", 2), kernel, stride, pads, dilation, "NCHW"), x)  # type: ignore


def _windows(b: Builder) -> Any:
    names = (("kernel_size", 1), ("stride", 1), ("dilation", 1))
    kernel, stride, dilation = (b.sizes(name, 2, default) for name, default in names)
    return kernel, stride, tuple((p, p) for p in b.sizes("padding", 2, 0, 0)), dilation


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
    kernel = tensor(b, kernel)
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
