"""Preprocessing layers that are part of the network, and those that do nothing outside of training."""

from __future__ import annotations

from typing import Any

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.resizing import placed, resized, whole_numbers
from instep.capture.keras.network import Layer
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []


@layer("Rescaling")
def rescaling(b: Builder, x: Value) -> Value:
    """x · scale + offset; numbers, or one per channel."""
    x = b.floating(x)
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
    whole, layout = x.dtype, b.layout()
    if b.major >= 3:
        whole_numbers(b, x, b.field("interpolation"))
    size = (b.whole("height"), b.whole("width"))
    fill = b.number("fill_value", 0.0) if b.flag("pad_to_aspect_ratio") else None
    x = placed(b, b.floating(x), size, layout, b.flag("crop_to_aspect_ratio"), fill)
    y = resized(b, x, size, b.field("interpolation") or "bilinear", layout, b.flag("antialias"))
    return y if b.major < 3 else b.cast(y, whole)


@layer("CenterCrop")
def center_crop(b: Builder, x: Value) -> Value:
    """The middle of the picture; one that is too small is cropped to the aspect ratio and resized."""
    layout, x = b.layout(), b.floating(x)
    first = x.rank - 3 if layout == "NHWC" else x.rank - 2
    size = (b.whole("height"), b.whole("width"))
    if any(want > x.shape[first + i] for i, want in enumerate(size)):
        return resized(b, placed(b, x, size, layout, True, None), size, "bilinear", layout)
    for axis, want in enumerate(size, first):
        start = (x.shape[axis] - want) // 2
        x = b.slice(x, axis, start, start + want)
    return x


@layer("RandomCrop")
def random_crop(b: Builder, x: Value) -> Value:
    """Outside of training nothing; Keras 2 crops to the aspect ratio and resizes."""
    if b.major >= 3:
        return b.floating(x)
    size = (b.whole("height"), b.whole("width"))
    return resized(b, placed(b, b.floating(x), size, "NHWC", True, None), size, "bilinear", "NHWC")


#: Augmentations of Keras 3 that leave whole numbers as they are.
_WHOLE = frozenset({"RandomBrightness"})


@layer("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness",
       "RandomHeight", "RandomWidth", "RandomColorDegeneration", "RandomColorJitter", "RandomElasticTransform",
       "RandomErasing", "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective",
       "RandomPosterization", "RandomSaturation", "RandomSharpness", "RandomShear", "AugMix", "CutMix", "MixUp",
       "RandAugment")  # fmt: skip
def augmentation(b: Builder, x: Value) -> Value:
    """Nothing outside of training."""
    return x if b.major >= 3 and b.place.layer.kind in _WHOLE else b.floating(x)


@layer("Solarization", "AutoContrast")
def always(b: Builder, x: Value) -> Value:
    raise Unsupported("it changes the colours of each picture at rest too; do that before the network")


@layer("Pipeline")
def pipeline(b: Builder, x: Value) -> Value:
    """Preprocessing layers in a row."""
    for i, entry in enumerate(b.field("layers") or ()):
        kind, config = (entry.get(k) if isinstance(entry, dict) else None for k in ("class_name", "config"))
        if not isinstance(kind, str) or not isinstance(config, dict):
            raise Unsupported(f"a layer of it is {str(entry)[:60]}")
        inner = Layer(kind, str(config.get("name", kind.lower())), config, registered=_registered(entry))
        with b.inside(inner, f"layers/{i}", inner.name):
            x = b.call(x)
    return x


def _registered(entry: dict[str, Any]) -> str:
    name = str(entry.get("registered_name") or "")
    return name if ">" in name else ""
