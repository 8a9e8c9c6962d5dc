"""Normalisations, with the parts that a layer goes without as ones and zeros."""

from __future__ import annotations

import math

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.normalising import standardised
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []


def _scale(b: Builder, shape: tuple[int, ...]) -> Value:
    if b.flag("scale", True):
        return b.weight("gamma", shape, "weight")
    return b.told("gamma", np.ones(shape, np.float32))


def _shift(b: Builder, shape: tuple[int, ...]) -> Value:
    if b.flag("center", True):
        return b.weight("beta", shape, "bias")
    return b.told("beta", np.zeros(shape, np.float32))


@layer("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization")
def batch_norm(b: Builder, x: Value, *, fixed: bool = False) -> Value:
    """Keras' momentum is the weight of the old statistics, the graph's that of the new batch: 1 - momentum."""
    if b.field("virtual_batch_size") is not None:
        raise Unsupported("it has a virtual_batch_size, which divides the batch at rest too; save it without")
    axes = b.axes("axis", x.rank)
    if len(axes) != 1:
        return _batch_norm_of(b, x, axes)
    shape = (x.shape[axes[0]],)
    vectors = [_scale(b, shape), _shift(b, shape)]
    vectors += [b.weight("moving_mean", shape, "running_mean"), b.weight("moving_variance", shape, "running_var")]
    momentum = round(1 - b.number("momentum", 0.99), 12)
    return b(ops.BatchNorm(b.number("epsilon", 1e-3), axes[0], momentum, fixed), x, *vectors)


def _batch_norm_of(b: Builder, x: Value, axes: tuple[int, ...]) -> Value:
    """Statistics of each element of several axes: these become one for the while."""
    rest = [a for a in range(x.rank) if a not in axes]
    order = [*rest, *axes]
    size = math.prod(x.shape[a] for a in axes)
    # Keras 2 keeps the vectors with ones for the other axes
    kept = tuple(n if a in axes else 1 for a, n in enumerate(x.shape))
    names = [
        ("gamma", "weight", "scale", 1.0), ("beta", "bias", "center", 0.0), ("moving_mean", "running_mean", "", 0.0),
        ("moving_variance", "running_var", "", 0.0),
    ]  # fmt: skip
    vectors = [
        b.weight(role, kept, name, lambda a: a.reshape(-1)) if not flag or b.flag(flag, True)
        else b.told(role, np.full((size,), plain, np.float32))
        for role, name, flag, plain in names
    ]  # fmt: skip
    turned = b.permute(x, order)
    flat = b.reshape(turned, (*(x.shape[a] for a in rest), size))
    op = ops.BatchNorm(b.number("epsilon", 1e-3), flat.rank - 1, round(1 - b.number("momentum", 0.99), 12))
    y = b.reshape(b(op, flat, *vectors), turned.shape)
    return b.permute(y, [order.index(a) for a in range(x.rank)])


@layer("LayerNormalization")
def layer_norm(b: Builder, x: Value) -> Value:
    axes = b.axes("axis", x.rank)
    shape = tuple(x.shape[a] for a in axes)
    if b.field("rms_scaling"):
        spread = [n if a in axes else 1 for a, n in enumerate(x.shape)]
        y = standardised(b, x, axes, b.number("epsilon", 1e-3))
        return b(ops.Mul(), y, b.weight("gamma", shape, "weight", lambda a: a.reshape(spread)))
    return b(ops.LayerNorm(axes, b.number("epsilon", 1e-3)), x, _scale(b, shape), _shift(b, shape))


@layer("RMSNormalization")
def rms_norm(b: Builder, x: Value) -> Value:
    axes = b.axes("axis", x.rank)
    shape = tuple(x.shape[a] for a in axes)
    return b(ops.RmsNorm(axes, b.number("epsilon", 1e-6)), x, b.weight("scale", shape, "weight"))


@layer("GroupNormalization")
def group_norm(b: Builder, x: Value) -> Value:
    (axis,) = b.axes("axis", x.rank)
    channels = x.shape[axis]
    groups = b.field("groups", 32)
    if not isinstance(groups, int) or groups == 0 or channels % groups:
        raise Unsupported(f"{channels} channels do not split into {groups} groups")
    groups = channels if groups < 0 else groups
    shape, place = (channels,), axis if axis in (1, x.rank - 1) else x.rank - 1
    order = list(range(x.rank)) if place == axis else [*(a for a in range(x.rank) if a != axis), axis]
    op = ops.GroupNorm(groups, b.number("epsilon", 1e-3), place)
    y = b(op, b.permute(x, order), _scale(b, shape), _shift(b, shape))
    return b.permute(y, [order.index(a) for a in range(x.rank)])


@layer("UnitNormalization")
def unit_norm(b: Builder, x: Value) -> Value:
    """x / √max(Σ x², 1e-24), TensorFlow's l2_normalize has 1e-12."""
    axes = b.axes("axis", x.rank)
    total = b(ops.ReduceSum(axes, True), b(ops.Square(), x))
    floor = b.scalar(1e-24 if b.major >= 3 else 1e-12, x.dtype)
    return b(ops.Mul(), x, b(ops.Rsqrt(), b(ops.Maximum(), total, floor)))


@layer("Normalization")
def normalization(b: Builder, x: Value) -> Value:
    """(x - mean) / max(√variance, 1e-7), with statistics of the data; ``invert`` undoes it."""
    axis, x = b.field("axis", -1), b.floating(x)
    axes = () if axis is None or axis == [] else b.axes("axis", x.rank)
    shape = tuple(x.shape[a] for a in axes)
    spread = tuple(n if a in axes else 1 for a, n in enumerate(x.shape))
    if b.field("mean") is None:
        mean = b.kept(b.weight("mean", shape, "mean", lambda a: a.reshape(spread)))
        root = b.kept(b.weight("variance", shape, "deviation", lambda a: _deviation(a.reshape(spread))))
    else:
        mean, root = (_given(b, name, axes, x) for name in ("mean", "variance"))
    if b.flag("invert"):
        return b(ops.Add(), mean, b(ops.Mul(), x, root))
    return b(ops.Div(), b(ops.Sub(), x, mean), root)


def _deviation(variance: np.ndarray) -> np.ndarray:
    return np.maximum(np.sqrt(variance), np.float32(1e-7))


def _given(b: Builder, name: str, axes: tuple[int, ...], x: Value) -> Value:
    """Numbers of the config, aligned with the kept axes from the last one on."""
    array = b.numbers(b.field(name), name)
    shape = [1] * x.rank
    if array.ndim > len(axes):
        if any(n != 1 for n in array.shape[: array.ndim - len(axes)]) or array.ndim > x.rank:
            raise Unsupported(f"its {name} has the shape {list(array.shape)} for the axes {list(axes)}")
        array = array.reshape(array.shape[array.ndim - len(axes) :])
    for at, size in zip(axes[len(axes) - array.ndim :], array.shape, strict=True):
        shape[at] = size
    array = array.reshape(shape)
    return b.told("mean", array) if name == "mean" else b.told("deviation", _deviation(array))


@layer("LayerScale")
def layer_scale(b: Builder, x: Value) -> Value:
    """x · gamma (of keras.applications' ConvNeXt)."""
    return b(ops.Mul(), x, b.weight("gamma", (b.whole("projection_dim"),), "gamma"))
