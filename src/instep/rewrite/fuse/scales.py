"""A product and a sum per channel become one depthwise convolution; short channel rows are broadcast as long ones."""

from __future__ import annotations

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import sole_user

__all__ = ["fuse_scale_and_shift", "widen_broadcasts"]

#: XNNPACK's loop over a row of at least this many channels is as fast as any (measured on AVX-512: at 512 channels
#: a product and a sum take 0.110 ms, the depthwise convolution 0.076 ms; at 50 channels 0.56 and 0.34 ms).
LONG_ROW = 64
#: A widened constant may have this many elements, all of them together this share of the weights or of this size.
WIDEST, SHARE, FREE = 16384, 0.2, 65536


def _per_channel(edit: Editor, value: Value, channels: int) -> np.ndarray | None:
    """A constant along the last axis only, as a vector."""
    array = edit.array(value)
    if array is None or array.size != channels or (array.ndim and array.shape[-1] != channels):
        return None
    return array.reshape(-1)


@rewrite("a depthwise convolution with a 1×1 kernel is x · s + t per channel")
def fuse_scale_and_shift(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Add, ops.Sub):
        if node.output.rank != 4 or not _regular(node.output.shape[3]) or node.output.dtype != "float32":
            continue
        channels = node.output.shape[3]
        for index in (0, 1) if isinstance(node.op, ops.Add) else (0,):
            product = edit.maker(node.inputs[index], ops.Mul)
            shift = _per_channel(edit, node.inputs[1 - index], channels)
            if product is None or shift is None or not sole_user(edit, product.output) or product.op != ops.Mul():
                continue
            at = 0 if edit.array(product.inputs[1]) is not None else 1
            scale = _per_channel(edit, product.inputs[1 - at], channels)
            x = product.inputs[at]
            if scale is None or x.shape != node.output.shape:
                continue
            shift = -shift if isinstance(node.op, ops.Sub) else shift
            _become_depthwise(edit, node, x, scale, shift)
            edit.erase(product)
            changed = True
            break
    return changed


def _become_depthwise(edit: Editor, node: Node, x: Value, scale: np.ndarray, shift: np.ndarray) -> None:
    channels = x.shape[3]
    stem = node.scope or node.output.name
    weight = edit.constant(np.ascontiguousarray(scale.reshape(channels, 1, 1, 1)), f"{stem}.scale")
    bias = edit.constant(np.ascontiguousarray(shift), f"{stem}.shift")
    activation = node.op.fields()["activation"]
    op = ops.Conv2d(groups=channels, layout="NHWC", activation=activation)
    edit.splice(node, op, [x, weight, bias])


@rewrite("a broadcast over more axes repeats the same numbers, and a product with ones changes none")
def widen_broadcasts(edit: Editor) -> bool:
    changed = False
    budget = max(FREE, int(SHARE * sum(v.size for v in edit.graph.weights)))
    wide: dict[tuple[Value, int], Value] = {}
    kinds = (ops.Add, ops.Sub, ops.Mul, ops.Div, ops.Prelu, ops.Maximum, ops.Minimum)
    for node in edit.nodes(*kinds):
        if node.output.rank != 4 or node.output.dtype != "float32":
            continue
        _, rows, columns, channels = node.output.shape
        if not _short(channels) or rows < 4 or columns < 4 or columns * channels > WIDEST:
            continue
        for index, value in enumerate(node.inputs):
            other = node.inputs[1 - index]
            if other.shape != node.output.shape or value.size != channels or value.shape[-1:] != (channels,):
                continue
            known = wide.get((value, columns))
            if known is None:
                if edit.array(value) is not None:
                    budget -= columns * channels
                    if budget < 0:
                        continue
                elif isinstance(node.op, ops.Prelu) or value.rank != 4:
                    continue
                known = wide[value, columns] = _widened(edit, node, value, columns)
            inputs = list(node.inputs)
            inputs[index] = known
            edit.update(node, inputs=inputs)
            changed = True
            break
    return changed


def _regular(channels: int) -> bool:
    return channels >= LONG_ROW or (channels >= LONG_ROW // 2 and channels % 16 == 0)


def _short(channels: int) -> bool:
    return 1 < channels < LONG_ROW or (channels % 16 != 0 and channels < 256)


def _widened(edit: Editor, node: Node, value: Value, columns: int) -> Value:
    """``value`` [C] as [1, W, C] ([1, 1, W, C] when computed)."""
    channels = value.shape[-1]
    array = edit.array(value)
    if array is not None:
        return edit.constant(np.tile(array.reshape(1, 1, channels), (1, columns, 1)), f"{value.name}.row")
    ones = edit.constant(np.ones((1, 1, columns, channels), value.dtype), "ones")
    return edit.add(ops.Mul(), [value, ones], node, f"{value.name}.row")
