"""How convolutions and linear layers hold their weights, in one form that every fold works on."""

from __future__ import annotations

import numpy as np

from instep.graph import Node, Operator, Value, ops
from instep.rewrite.edit import Editor

__all__ = [
    "LAYERS", "add_bias", "adopt", "bias_of", "canonical", "channel_axis", "kernel_of", "regrouped", "restore",
    "set_constant", "set_weight", "shrink", "sole_user", "zero_padded",
]  # fmt: skip

#: Operators with inputs (x, weight[, bias]) that mix channels linearly.
LAYERS = (ops.Conv2d, ops.ConvTranspose2d, ops.Conv3d, ops.Linear)


def channel_axis(op: Operator, rank: int) -> int:
    """The axis of the channels, of a layer's or another spatial operator's input and output."""
    return 1 if getattr(op, "layout", "NHWC") == "NCHW" else rank - 1


def canonical(op: Operator, weight: np.ndarray) -> np.ndarray:
    """The weight as float64 [groups, outputs / group, inputs / group, kernel places]."""
    wide = weight.astype(np.float64)
    groups = getattr(op, "groups", 1)
    if getattr(op, "layout", "NCHW") == "NHWC":
        wide = np.moveaxis(wide, -1, 1)
    flat = wide.reshape(groups, wide.shape[0] // groups, wide.shape[1], -1)
    return flat.swapaxes(1, 2) if isinstance(op, ops.ConvTranspose2d) else flat


def regrouped(weight: np.ndarray, groups: int) -> np.ndarray:
    """A canonical weight as one of fewer ``groups`` (a divisor of its own), with zeros between what it kept apart."""
    old, o, i, k = weight.shape
    if old == groups:
        return weight
    ratio = old // groups
    wide = np.zeros((groups, ratio, o, ratio, i, k))
    for part in range(ratio):
        wide[:, part, :, part] = weight.reshape(groups, ratio, o, i, k)[:, part]
    return wide.reshape(groups, ratio * o, ratio * i, k)


def kernel_of(op: Operator, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The spatial extents of a weight shape."""
    return shape[1:-1] if getattr(op, "layout", "NCHW") == "NHWC" else shape[2:]


def restore(op: Operator, weight: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
    """The inverse of ``canonical`` (still float64); channel counts may have changed."""
    flat = weight.swapaxes(1, 2) if isinstance(op, ops.ConvTranspose2d) else weight
    wide = flat.reshape(flat.shape[0] * flat.shape[1], flat.shape[2], *kernel)
    return np.moveaxis(wide, 1, -1) if getattr(op, "layout", "NCHW") == "NHWC" else wide


def zero_padded(op: Operator) -> bool:
    """Whether some output sees fewer inputs, or other weights, than the next: a constant input gives no constant."""
    return isinstance(op, ops.ConvTranspose2d) or any(map(any, getattr(op, "padding", ())))


def set_constant(edit: Editor, node: Node, index: int, array: np.ndarray) -> None:
    """Give ``node`` the constant ``array`` (cast to the old dtype) as input ``index``; other readers keep theirs."""
    old = node.inputs[index]
    array = np.array(array, dtype=old.dtype, order="C")
    if len(edit.users[old]) == 1 and not edit.is_output(old):
        edit.graph.weights[old] = array
        old.shape = array.shape
        return
    inputs = list(node.inputs)
    inputs[index] = edit.constant(array, old.name)
    edit.update(node, inputs=inputs)


def set_weight(edit: Editor, node: Node, weight: np.ndarray) -> None:
    """Store a canonical weight back into a layer."""
    kernel = kernel_of(node.op, node.inputs[1].shape)
    set_constant(edit, node, 1, restore(node.op, weight, kernel))


def bias_of(edit: Editor, node: Node) -> np.ndarray | None:
    """A layer's bias in float64; zeros when it has none; None when it is computed."""
    if len(node.inputs) > 2:
        bias = edit.array(node.inputs[2])
        return None if bias is None else bias.astype(np.float64)
    return np.zeros(node.output.shape[channel_axis(node.op, node.output.rank)])


def add_bias(edit: Editor, node: Node, bias: np.ndarray) -> None:
    """Set a layer's bias, adding one where it has none (and leaving none where all is zero)."""
    if len(node.inputs) > 2:
        set_constant(edit, node, 2, bias)
    elif np.any(bias):
        value = edit.constant(bias.astype(node.output.dtype), f"{node.scope or node.output.name}.bias")
        edit.update(node, inputs=[*node.inputs, value])


def shrink(array: np.ndarray) -> np.ndarray:
    """``array`` with every axis along which it does not vary cut to size 1."""
    for axis, size in enumerate(array.shape):
        if size == 1:
            continue
        lead = (slice(None),) * axis
        first = array[(*lead, slice(0, 1))]
        if np.array_equal(array[(*lead, slice(1, 2))], first) and bool(np.all(array == first)):
            array = first
    return array


def sole_user(edit: Editor, value: Value) -> bool:
    """Whether one node reads ``value`` once and nothing else sees it."""
    return len(edit.users.get(value, ())) == 1 and not edit.is_output(value)


def adopt(edit: Editor, value: Value, node: Node) -> None:
    """Remove ``node``; the maker of ``value``, which only ``node`` read, now makes ``node``'s output itself.

    The output Value survives with its name and source view.
    """
    maker = edit.producer[value]
    output = node.output
    edit.erase(node)
    maker.outputs[maker.outputs.index(value)] = output
    edit.producer.pop(value, None)
    edit.producer[output] = maker
