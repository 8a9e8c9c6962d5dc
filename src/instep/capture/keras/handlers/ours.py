"""The layers that Instep's own Keras networks bring along: each is one operator of the graph."""

from __future__ import annotations

from typing import Any

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.norm import batch_norm
from instep.capture.keras.network import plain
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []

#: The running variance of this one is the unbiased one, as the graph's is.
layer("instep>BatchNormalization")(batch_norm)


@layer("instep>FixedBatchNormalization")
def fixed_batch_norm(b: Builder, x: Value) -> Value:
    """Keeps to its statistics in training, whether its scale and shift are trained or not."""
    return batch_norm(b, x, fixed=True)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _settings(b: Builder, *names: str) -> list[Any]:
    """Fields that are the operator's own, lists as tuples."""
    return [_tuples(plain(b.field(name))) for name in names]


@layer("instep>Parameter", "instep.capture>Parameter")
def parameter(b: Builder, x: Value) -> Value:
    shape, kind = _settings(b, "shape", "kind")
    if not isinstance(shape, tuple) or any(not isinstance(n, int) or n < 0 for n in shape) or not isinstance(kind, str):
        raise Unsupported(f"its shape is {shape}")
    followed = b.place.layer.registered.startswith("instep.capture>")  # its name is the array's
    return b.weight("value", shape, "" if followed else "value")


@layer("instep>PaddedAveragePooling2D")
def padded_average(b: Builder, x: Value) -> Value:
    size, stride, padding, overhang = _settings(b, "pool_size", "strides", "padding", "overhang")
    counted = b.flag("count_include_pad")
    return b(ops.AvgPool2d(size, stride, padding, counted, overhang or (0, 0), "NHWC"), x)


@layer("instep>DilatedMaxPooling2D")
def dilated_maximum(b: Builder, x: Value) -> Value:
    size, stride, padding, dilation = _settings(b, "pool_size", "strides", "padding", "dilation")
    return b(ops.MaxPool2d(size, stride, padding, dilation, "NHWC"), x)


@layer("instep>SpreadConv2DTranspose")
def spread_transpose(b: Builder, x: Value) -> Value:
    """Pads are those of the spread input: what they lack of the kernel's reach is cropped, what is over is added."""
    kernel, stride, pads, dilation = _settings(b, "kernel_size", "strides", "pads", "dilation")
    filters, groups = b.whole("filters"), b.whole("groups", 1)
    if filters % groups or x.rank != 4:
        raise Unsupported(f"groups={groups} do not divide {filters} channels, or its input is {list(x.shape)}")
    shape = (*kernel, filters // groups, x.shape[3])
    weights = [b.weight("kernel", shape, "weight", lambda a: a.transpose(3, 0, 1, 2))]
    if b.flag("use_bias", True):
        weights.append(b.weight("bias", (filters,), "bias"))
    cut = [(d * (k - 1) - p, d * (k - 1) - q) for k, d, (p, q) in zip(kernel, dilation, pads, strict=True)]
    if any(first < 0 for first, _ in cut):
        raise Unsupported(f"its pads are {pads}")
    crops, more = tuple((a, max(c, 0)) for a, c in cut), tuple(max(-c, 0) for _, c in cut)
    op: Any = ops.ConvTranspose2d(stride, crops, more, dilation, groups, "NHWC")  # type: ignore[arg-type]
    return b.activated(b(op, *[x, *weights]), b.field("activation"))


@layer("instep>Resize")
def resize(b: Builder, x: Value) -> Value:
    size, mode, coordinates, scale = _settings(b, "size", "mode", "coordinates", "scale")
    return b(ops.Resize2d(size, mode, coordinates, scale, b.flag("antialias"), "NHWC"), x)


@layer("instep>Unfold")
def unfold(b: Builder, x: Value) -> Value:
    kernel, stride, padding, dilation = _settings(b, "kernel_size", "strides", "padding", "dilation")
    return b(ops.Unfold2d(kernel, stride, padding, dilation, "NHWC"), x)


@layer("instep>Fold")
def fold(b: Builder, x: Value) -> Value:
    size, kernel = _settings(b, "output_size", "kernel_size")
    stride, padding, dilation = _settings(b, "strides", "padding", "dilation")
    return b(ops.Fold2d(size, kernel, stride, padding, dilation, "NHWC"), x)


@layer("instep>GridSample")
def grid_sample(b: Builder, parts: Any) -> Value:
    mode, padding = _settings(b, "mode", "padding_mode")
    return b(ops.GridSample(mode, padding, b.flag("align_corners"), "NHWC"), *parts)
