"""Questions about convolutions: groups, strides, dilations, kernels, pads, biases, what is constant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from instep.graph import ops
from instep.targets.probe.question import Given, Question, constant, given, one, spell

__all__ = ["questions"]

SAME = ((1, 1), (1, 1))

#: Groups, input and output channels per group.
GROUPS = [
    (2, 1, 2), (2, 2, 2), (2, 3, 3), (2, 4, 4), (2, 4, 2), (2, 2, 4), (2, 4, 6), (2, 8, 4), (2, 4, 8), (2, 8, 8),
    (2, 6, 4), (2, 6, 6), (2, 12, 4), (2, 4, 12), (2, 16, 16), (3, 4, 4), (3, 8, 8), (3, 8, 2), (3, 2, 2), (3, 4, 1),
    (4, 1, 2), (4, 2, 2), (4, 4, 4), (4, 4, 8), (4, 8, 4), (4, 3, 4), (4, 1, 4), (5, 4, 4), (6, 4, 4), (8, 4, 4),
    (8, 2, 2), (16, 4, 4), (2, 5, 4), (2, 4, 5), (2, 16, 4), (2, 4, 16), (3, 12, 12), (7, 4, 8), (2, 32, 32),
]  # fmt: skip
#: What one convolution has besides the plain: label → (channels, filters, kernel, fields, size, batch).
CONVOLUTIONS = {
    "plain": (8, 12, (3, 3), {}, (9, 8), 1),
    "pointwise": (8, 12, (1, 1), {"padding": ((0, 0), (0, 0))}, (9, 8), 1),
    "channels=3/filters=5": (3, 5, (3, 3), {}, (9, 8), 1),
    "channels=1/filters=1": (1, 1, (3, 3), {}, (9, 8), 1),
    "batch=3": (8, 12, (3, 3), {}, (9, 8), 3),
    "batch=9": (3, 4, (3, 3), {}, (6, 6), 9),
    "stride=2": (8, 12, (3, 3), {"stride": (2, 2), "padding": ((0, 1), (0, 1))}, (8, 8), 1),
    "stride=2x1": (8, 12, (3, 3), {"stride": (2, 1), "padding": ((0, 0), (0, 0))}, (9, 8), 1),
    "stride=3": (8, 12, (3, 3), {"stride": (3, 3), "padding": ((0, 0), (0, 0))}, (9, 9), 1),
    "stride=4": (3, 8, (4, 4), {"stride": (4, 4), "padding": ((0, 0), (0, 0))}, (16, 16), 1),
    "stride=8": (3, 8, (8, 8), {"stride": (8, 8), "padding": ((0, 0), (0, 0))}, (16, 16), 1),
    "dilation=2": (8, 12, (3, 3), {"dilation": (2, 2), "padding": ((0, 0), (0, 0))}, (9, 8), 1),
    "dilation=3x1": (8, 12, (3, 3), {"dilation": (3, 1), "padding": ((0, 0), (0, 0))}, (9, 8), 1),
    "dilation=2/padding=same": (8, 12, (3, 3), {"dilation": (2, 2), "padding": ((2, 2), (2, 2))}, (9, 8), 1),
    "kernel=5": (8, 12, (5, 5), {"padding": ((2, 2), (2, 2))}, (9, 8), 1),
    "kernel=7x1": (8, 12, (7, 1), {"padding": ((3, 3), (0, 0))}, (9, 8), 1),
    "kernel=1x9": (4, 4, (1, 9), {"padding": ((0, 0), (4, 4))}, (9, 12), 1),
    "kernel=17": (2, 3, (17, 17), {"padding": ((8, 8), (8, 8))}, (18, 18), 1),
    "kernel=65": (1, 1, (65, 1), {"padding": ((0, 0), (0, 0))}, (70, 4), 1),
    "padding=explicit": (8, 12, (3, 3), {"padding": ((2, 1), (0, 2))}, (9, 8), 1),
    "activation=relu": (8, 12, (3, 3), {"activation": "relu"}, (9, 8), 1),
    "activation=relu6": (8, 12, (3, 3), {"activation": "relu6"}, (9, 8), 1),
    "activation=relu1": (8, 12, (3, 3), {"activation": "relu1"}, (9, 8), 1),
    "channels=256": (256, 16, (1, 1), {"padding": ((0, 0), (0, 0))}, (3, 3), 1),
    "size=1": (16, 8, (1, 1), {"padding": ((0, 0), (0, 0))}, (1, 1), 1),
}
#: Depthwise: label → (channels, multiplier, kernel, fields, size, batch).
DEPTHWISE = {
    "plain": (8, 1, (3, 3), {}, (9, 8), 1), "channels=5": (5, 1, (3, 3), {}, (9, 8), 1),
    "batch=3": (8, 1, (3, 3), {}, (9, 8), 3), "multiplier=2": (8, 2, (3, 3), {}, (9, 8), 1),
    "multiplier=3/channels=5": (5, 3, (3, 3), {}, (9, 8), 1), "multiplier=4": (4, 4, (3, 3), {}, (9, 8), 1),
    "multiplier=8/channels=2": (2, 8, (3, 3), {}, (9, 8), 1),
    "stride=2": (8, 1, (3, 3), {"stride": (2, 2), "padding": ((0, 1), (0, 1))}, (8, 8), 1),
    "stride=2x1": (8, 1, (3, 3), {"stride": (2, 1), "padding": ((0, 0), (0, 0))}, (9, 8), 1),
    "stride=4": (8, 1, (5, 5), {"stride": (4, 4), "padding": ((0, 0), (0, 0))}, (17, 17), 1),
    "dilation=2": (8, 1, (3, 3), {"dilation": (2, 2), "padding": ((0, 0), (0, 0))}, (9, 8), 1),
    "dilation=2/padding=same": (8, 1, (3, 3), {"dilation": (2, 2), "padding": ((2, 2), (2, 2))}, (9, 8), 1),
    "kernel=1": (8, 1, (1, 1), {"padding": ((0, 0), (0, 0))}, (9, 8), 1),
    "kernel=1/multiplier=2": (8, 2, (1, 1), {"padding": ((0, 0), (0, 0))}, (9, 8), 1),
    "kernel=7": (8, 1, (7, 7), {"padding": ((3, 3), (3, 3))}, (9, 8), 1),
    "kernel=1x11": (8, 1, (1, 11), {"padding": ((0, 0), (5, 5))}, (9, 12), 1),
    "activation=relu6": (8, 1, (3, 3), {"activation": "relu6"}, (9, 8), 1),
}  # fmt: skip
#: Transposed: label → (channels, filters, kernel, fields, size, batch).
TRANSPOSED = {
    "stride=1": (8, 6, (3, 3), {"padding": ((1, 1), (1, 1))}, (5, 6), 1),
    "stride=2/kernel=2": (8, 6, (2, 2), {"stride": (2, 2)}, (5, 6), 1),
    "stride=2/kernel=3": (8, 6, (3, 3), {"stride": (2, 2)}, (5, 6), 1),
    "stride=2/kernel=3/same": (8, 6, (3, 3), {"stride": (2, 2), "padding": ((0, 1), (0, 1))}, (5, 6), 1),
    "stride=2/kernel=4/same": (8, 6, (4, 4), {"stride": (2, 2), "padding": ((1, 1), (1, 1))}, (5, 6), 1),
    "stride=2/kernel=5/same": (4, 4, (5, 5), {"stride": (2, 2), "padding": ((1, 2), (1, 2))}, (5, 6), 1),
    "stride=3/kernel=5/same": (4, 4, (5, 5), {"stride": (3, 3), "padding": ((1, 1), (1, 1))}, (5, 6), 1),
    "stride=2/kernel=3x4/same": (4, 4, (3, 4), {"stride": (2, 2), "padding": ((0, 1), (1, 1))}, (5, 6), 1),
    "stride=2/kernel=5": (4, 4, (5, 5), {"stride": (2, 2)}, (5, 6), 1),
    "stride=3/kernel=3": (8, 6, (3, 3), {"stride": (3, 3)}, (5, 6), 1),
    "stride=4/kernel=4": (8, 6, (4, 4), {"stride": (4, 4)}, (5, 6), 1),
    "stride=2x1/kernel=2x1": (8, 6, (2, 1), {"stride": (2, 1)}, (5, 6), 1),
    "batch=2": (8, 6, (2, 2), {"stride": (2, 2)}, (5, 6), 2),
    "channels=3": (3, 1, (4, 4), {"stride": (2, 2)}, (5, 6), 1),
    "kernel=9/stride=2": (4, 3, (9, 9), {"stride": (2, 2)}, (5, 6), 1),
    "activation=relu": (8, 6, (2, 2), {"stride": (2, 2), "activation": "relu"}, (5, 6), 1),
}  # fmt: skip


def _weights(*shape: int) -> Given:
    return Given(shape, low=-0.5, high=0.5, fixed=True)


def _plain() -> Iterable[Question]:
    for label, (channels, filters, kernel, fields, size, batch) in CONVOLUTIONS.items():
        op = ops.Conv2d(**{"padding": SAME, **fields}, layout="NHWC")
        x, w = (batch, *size, channels), _weights(filters, *kernel, channels)
        yield one(label, "CONV_2D", op, x, w, _weights(filters))
    for groups, channels, filters in GROUPS:
        op = ops.Conv2d(padding=SAME, groups=groups, layout="NHWC")
        label = f"groups={groups}/in_per_group={channels}/out_per_group={filters}"
        yield from _grouped(label, op, groups, channels, filters, (3, 3))
    pointwise = ops.Conv2d(groups=4, layout="NHWC")
    yield from _grouped("groups=4/in_per_group=4/out_per_group=4/pointwise", pointwise, 4, 4, 4, (1, 1))
    strided = ops.Conv2d(stride=(2, 2), groups=4, layout="NHWC")
    yield from _grouped("groups=4/in_per_group=8/out_per_group=8/stride=2", strided, 4, 8, 8, (3, 3))
    same: dict[str, Any] = {"stride_h": 1, "stride_w": 1, "padding": 0, "dilation_h_factor": 1, "dilation_w_factor": 1}
    op = spell("CONV_2D", (1, 9, 8, 12), **same)
    yield one("filter=computed", "CONV_2D", op, (1, 9, 8, 8), given(12, 3, 3, 8), _weights(12))
    yield one("bias=computed", "CONV_2D", op, (1, 9, 8, 8), _weights(12, 3, 3, 8), given(12))
    wild = spell("CONV_2D", (1, 9, 8, 12), **same, fused_activation_function=4)
    yield one("activation=tanh", "CONV_2D", wild, (1, 9, 8, 8), _weights(12, 3, 3, 8), _weights(12))


def _grouped(
    label: str, op: ops.Conv2d, groups: int, channels: int, filters: int, kernel: tuple[int, int]
) -> Iterable[Question]:
    """A grouped CONV_2D (one channel per group would be written as a depthwise one: spelled)."""
    x = (1, 8, 8, groups * channels)
    weight = _weights(groups * filters, *kernel, channels)
    if channels > 1:
        yield one(label, "CONV_2D", op, x, weight, _weights(groups * filters))
        return
    spelled = spell("CONV_2D", (1, 8, 8, groups * filters), stride_h=1, stride_w=1, padding=0, version=6)
    yield one(label, "CONV_2D", spelled, x, weight, _weights(groups * filters))


def _depthwise() -> Iterable[Question]:
    for label, (channels, multiplier, kernel, fields, size, batch) in DEPTHWISE.items():
        op = ops.Conv2d(**{"padding": SAME, **fields}, groups=channels, layout="NHWC")
        x, filters = (batch, *size, channels), channels * multiplier
        yield one(label, "DEPTHWISE_CONV_2D", op, x, _weights(filters, *kernel, 1), _weights(filters))
    single: dict[str, Any] = {
        "stride_h": 1,
        "stride_w": 1,
        "padding": 0,
        "dilation_h_factor": 1,
        "dilation_w_factor": 1,
    }
    op = spell("DEPTHWISE_CONV_2D", (1, 9, 8, 6), **single, depth_multiplier=6)
    yield one("multiplier=6/channels=1", "DEPTHWISE_CONV_2D", op, (1, 9, 8, 1), _weights(1, 3, 3, 6), _weights(6))
    op = spell("DEPTHWISE_CONV_2D", (1, 9, 8, 8), **single, depth_multiplier=1)
    yield one("filter=computed", "DEPTHWISE_CONV_2D", op, (1, 9, 8, 8), given(1, 3, 3, 8), _weights(8))


def questions() -> Iterable[Question]:
    """Every question of the family."""
    yield from _plain()
    yield from _depthwise()
    for label, (channels, filters, kernel, fields, size, batch) in TRANSPOSED.items():
        op = ops.ConvTranspose2d(**fields, layout="NHWC")
        x, w = (batch, *size, channels), _weights(channels, *kernel, filters)
        yield one(label, "TRANSPOSE_CONV", op, x, w, _weights(filters))
    size, filters = constant(values=[1, 10, 12, 6], dtype="int32"), _weights(6, 2, 2, 8)
    op = spell("TRANSPOSE_CONV", (1, 10, 12, 6), padding=1, stride_h=2, stride_w=2)
    yield one("bias=none", "TRANSPOSE_CONV", op, size, filters, (1, 5, 6, 8))
    yield one("plain", "CONV_3D", ops.Conv3d(layout="NHWC"), (1, 4, 5, 6, 3), _weights(4, 2, 2, 2, 3), _weights(4))
