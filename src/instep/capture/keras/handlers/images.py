"""Preprocessing layers that are part of the network."""

from __future__ import annotations

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.shape import resized
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []


@layer("Rescaling")
def rescaling(b: Builder, x: Value) -> Value:
    """x · scale + offset; numbers, or one per channel."""
    if x.dtype != "float32":
        x = b.cast(x, "float32")
    for name, op, nothing in (("scale", ops.Mul, 1.0), ("offset", ops.Add, 0.0)):
        array = b.numbers(_values(b.field(name, nothing)), name)
        if array.size == 1:
            if float(array.reshape(())) != nothing:
                x = b(op(), x, b.scalar(float(array.reshape(())), x.dtype))
            continue
        if b.field("data_format") == "channels_first" and array.ndim == 1:
            array = array.reshape(-1, 1, 1)
        x = b(op(), x, b.told(name, array))
    return x


def _values(value: object) -> object:
    """Numbers that Keras serialised as an array."""
    if isinstance(value, dict):
        inner = value.get("config")
        return inner.get("value") if isinstance(inner, dict) else value.get("value")
    return value


@layer("Resizing")
def resizing(b: Builder, x: Value) -> Value:
    if b.field("crop_to_aspect_ratio") or b.field("pad_to_aspect_ratio"):
        raise Unsupported("it keeps the aspect ratio; crop or pad with a layer of its own")
    if x.dtype != "float32":
        x = b.cast(x, "float32")
    size = (b.whole("height"), b.whole("width"))
    return resized(b, x, size, b.field("interpolation") or "bilinear", b.layout(), b.flag("antialias"))


@layer("CenterCrop")
def center_crop(b: Builder, x: Value) -> Value:
    layout = b.layout()
    first = x.rank - 3 if layout == "NHWC" else x.rank - 2
    for axis, want in ((first, b.whole("height")), (first + 1, b.whole("width"))):
        if want > x.shape[axis]:
            raise Unsupported(f"it crops {x.shape[axis]} to {want}: it would resize")
        start = (x.shape[axis] - want) // 2
        x = b.slice(x, axis, start, start + want)
    return x
