"""Questions about pools and resizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from instep.graph import ops
from instep.targets.probe.question import Question, chain, constant, given, one, spell

__all__ = ["questions"]

#: label → (kernel, stride, padding, size, channels, batch)
POOLS = {
    "kernel=2": ((2, 2), (2, 2), None, (8, 6), 8, 1), "kernel=3/stride=1": ((3, 3), (1, 1), None, (8, 6), 8, 1),
    "kernel=3/stride=2": ((3, 3), (2, 2), None, (9, 7), 8, 1),
    "kernel=2/stride=3": ((2, 2), (3, 3), None, (8, 8), 8, 1),
    "kernel=1/stride=2": ((1, 1), (2, 2), None, (8, 6), 8, 1), "kernel=1": ((1, 1), (1, 1), None, (8, 6), 8, 1),
    "kernel=3x1": ((3, 1), (2, 1), None, (9, 6), 8, 1), "kernel=9": ((9, 9), (1, 1), None, (12, 12), 3, 1),
    "kernel=global": ((7, 7), (1, 1), None, (7, 7), 8, 1), "channels=5": ((2, 2), (2, 2), None, (8, 6), 5, 1),
    "batch=3": ((2, 2), (2, 2), None, (8, 6), 8, 3), "padding=same": ((3, 3), (1, 1), ((1, 1), (1, 1)), (8, 6), 8, 1),
    "padding=same/stride=2": ((3, 3), (2, 2), ((0, 1), (0, 1)), (8, 6), 8, 1),
    "padding=explicit": ((3, 3), (2, 2), ((1, 1), (1, 1)), (8, 6), 8, 1),
    "kernel=12/padding=same": ((11, 11), (1, 1), ((5, 5), (5, 5)), (14, 14), 3, 1),
    "kernel=4/stride=4": ((4, 4), (4, 4), None, (8, 8), 8, 1),
}  # fmt: skip
#: label → (input size, output size)
SIZES = {
    "2x": ((4, 5), (8, 10)), "3x": ((4, 5), (12, 15)), "4x": ((4, 5), (16, 20)), "8x": ((4, 5), (32, 40)),
    "half": ((8, 10), (4, 5)), "odd": ((4, 5), (7, 11)), "2x1": ((4, 5), (8, 5)), "from-one": ((1, 1), (4, 5)),
    "same": ((4, 5), (4, 5)), "third": ((9, 12), (3, 4)), "2n-1": ((4, 5), (7, 9)),
}  # fmt: skip
CENTRES = ("asymmetric", "half_pixel", "align_corners")


def _pools() -> Iterable[Question]:
    for label, (kernel, stride, padding, size, channels, batch) in POOLS.items():
        pads = padding or ((0, 0), (0, 0))
        x = (batch, *size, channels)
        largest = ops.MaxPool2d(kernel, stride, pads, layout="NHWC")
        yield one(label, "MAX_POOL_2D", largest, given(*x, low=-2.0, high=-0.5))
        mean = ops.AvgPool2d(kernel, stride, pads, count_include_pad=padding is None, layout="NHWC")
        if label != "padding=explicit":
            yield one(label, "AVERAGE_POOL_2D", mean, x)
    # a maximum has to start somewhere
    far = given(1, 8, 6, 8, low=-30000.0, high=-15000.0)
    yield one("values=-30000", "MAX_POOL_2D", ops.MaxPool2d((2, 2), (2, 2), layout="NHWC"), far)
    counted = ops.AvgPool2d((3, 3), (2, 2), ((1, 1), (1, 1)), layout="NHWC")
    yield one("after=pad", "AVERAGE_POOL_2D", counted, (1, 8, 6, 8))
    for after in (ops.Pad(((0, 0), (1, 1), (1, 1), (0, 0))), ops.Pad(((0, 0), (0, 1), (2, 0), (0, 0)))):
        label = f"after=pad-{after.pads[1][0]}-{after.pads[2][0]}/kernel=2"
        plain = ops.AvgPool2d((2, 2), (2, 2), layout="NHWC")
        yield chain(label, "AVERAGE_POOL_2D", [(1, 8, 6, 8)], (after, (0,)), (plain, (1,)))
    tall = ops.Pad(((0, 0), (1, 1), (1, 1), (0, 0)))
    yield chain(
        "after=pad",
        "MAX_POOL_2D",
        [given(1, 8, 6, 8, low=-2.0, high=-0.5)],
        (tall, (0,)),
        (ops.MaxPool2d((3, 3), (1, 1), layout="NHWC"), (1,)),
    )
    for code in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        fused: dict[str, Any] = {"filter_height": 2, "filter_width": 2, "stride_h": 2, "stride_w": 2, "padding": 1}
        op = spell(code, (1, 4, 3, 8), **fused, fused_activation_function=1)
        yield one("activation=relu", code, op, (1, 8, 6, 8))
    squares: dict[str, Any] = {"filter_height": 2, "filter_width": 2, "stride_h": 2, "stride_w": 2, "padding": 1}
    yield one("plain", "L2_POOL_2D", spell("L2_POOL_2D", (1, 4, 3, 8), **squares), (1, 8, 6, 8))


def _resizes() -> Iterable[Question]:
    for mode, code in (("bilinear", "RESIZE_BILINEAR"), ("nearest", "RESIZE_NEAREST_NEIGHBOR")):
        for centre in CENTRES:
            for label, (size, out) in SIZES.items():
                op = ops.Resize2d(out, mode, centre, layout="NHWC")
                yield one(f"{centre}/{label}", code, op, (1, *size, 6))
        op = ops.Resize2d((8, 10), mode, "half_pixel", layout="NHWC")
        yield one("half_pixel/batch=2", code, op, (2, 4, 5, 6))
        yield one("half_pixel/channels=8", code, op, (1, 4, 5, 8))
        both: dict[str, Any] = {"align_corners": True, "half_pixel_centers": True}
        if mode == "nearest":
            size = constant(values=[8, 10], dtype="int32")
            yield one("both", code, spell(code, (1, 8, 10, 6), version=3, **both), (1, 4, 5, 6), size)


def questions() -> Iterable[Question]:
    """Every question of the family."""
    yield from _pools()
    yield from _resizes()
