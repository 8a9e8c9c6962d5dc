"""Functions that only TensorFlow has, and keras.ops.image: resizing, pixel shuffles, leaky activations."""

from __future__ import annotations

from typing import Any

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.resizing import placed, resized, whole_numbers
from instep.capture.keras.registry import Unsupported, function
from instep.graph import Value, ops

__all__: list[str] = []


def _layout(data_format: Any) -> str:
    return "NCHW" if data_format in ("NCHW", "channels_first") else "NHWC"


@function("tf.nn.depth_to_space", "tf.compat.v1.nn.depth_to_space", "DepthToSpace", "tf.depth_to_space")
def depth_to_space(b: Builder, x: Value, block_size: Any = None, data_format: Any = "NHWC", name: Any = None) -> Value:
    return b(ops.DepthToSpace(_block(block_size), "DCR", _layout(data_format)), x)


@function("tf.nn.space_to_depth", "tf.compat.v1.nn.space_to_depth", "SpaceToDepth", "tf.space_to_depth")
def space_to_depth(b: Builder, x: Value, block_size: Any = None, data_format: Any = "NHWC", name: Any = None) -> Value:
    return b(ops.SpaceToDepth(_block(block_size), "DCR", _layout(data_format)), x)


def _block(block: Any) -> int:
    if not isinstance(block, int) or block < 1:
        raise Unsupported(f"its block size is {block}")
    return block


@function("tf.image.resize")
def image_resize(
    b: Builder, x: Value, size: Any = None, method: Any = "bilinear", preserve_aspect_ratio: bool = False,
    antialias: bool = False, name: Any = None,
) -> Value:  # fmt: skip
    return _resize(b, x, size, str(method).lower(), antialias, bool(preserve_aspect_ratio))


@function("Resize")
def keras_resize(
    b: Builder, x: Value, size: Any = None, interpolation: Any = "bilinear", antialias: bool = False,
    data_format: Any = None, crop_to_aspect_ratio: bool = False, pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant", fill_value: float = 0.0,
) -> Value:  # fmt: skip
    layout = _layout(data_format)
    whole_numbers(b, x, interpolation)
    if isinstance(size, list):
        x = placed(b, x, size, layout, crop_to_aspect_ratio, fill_value if pad_to_aspect_ratio else None)
    return _resize(b, x, size, interpolation, antialias, False, layout)


def _resize(b: Builder, x: Value, size: Any, mode: Any, antialias: Any, ratio: bool, layout: str = "NHWC") -> Value:
    if ratio or not isinstance(size, list):
        raise Unsupported("its size is computed, or it keeps the aspect ratio")
    x = x if mode == "nearest" else b.floating(x)
    batched = x if x.rank == 4 else b.reshape(x, (1, *x.shape))
    y = resized(b, batched, size, mode, layout, bool(antialias))
    return y if x.rank == 4 else b.reshape(y, y.shape[1:])


@function("tf.compat.v1.image.resize_bilinear", "tf.compat.v1.image.resize_nearest_neighbor")
def resize_v1(b: Builder, x: Value, size: Any = None, align_corners: bool = False, half_pixel_centers: bool = False,
              name: Any = None) -> Value:  # fmt: skip
    """TensorFlow 1's, without half-pixel centres unless asked for."""
    if not isinstance(size, list) or len(size) != 2:
        raise Unsupported("its size is computed")
    coordinates = "align_corners" if align_corners else "half_pixel" if half_pixel_centers else "asymmetric"
    mode = "bilinear" if "bilinear" in b.place.layer.config.get("function", "") else "nearest"
    return b(ops.Resize2d((size[0], size[1]), mode, coordinates, layout="NHWC"), x)


@function("tf.nn.leaky_relu")
def leaky_relu(b: Builder, features: Value, alpha: float = 0.2, name: Any = None) -> Value:
    return b(ops.LeakyRelu(float(alpha)), features)


@function("tf.nn.gelu")
def gelu(b: Builder, features: Value, approximate: bool = False, name: Any = None) -> Value:
    return b(ops.Gelu(bool(approximate)), features)


@function("tf.nn.elu")
def elu(b: Builder, features: Value, name: Any = None) -> Value:
    return b(ops.Elu(1.0), features)


@function("tf.nn.softmax", "tf.math.softmax")
def softmax(b: Builder, logits: Value, axis: Any = -1, name: Any = None) -> Value:
    return b(ops.Softmax(b.axis(-1 if axis is None else axis, logits.rank)), logits)
