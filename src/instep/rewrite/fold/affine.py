"""Scales and shifts by constants: reading them off nodes, and what they become on the other side of an operator.

Constants are float64 arrays of the value's rank, of size 1 along axes where they do not vary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from instep.graph import Node, Operator, Value, ops
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import channel_axis, shrink

__all__ = [
    "DEPTH", "Affine", "Plan", "both", "fits", "forget", "keeps", "pull", "push", "read_affine", "scalar_line",
    "spatially_constant", "unreduced", "along",
]  # fmt: skip

#: Changes to make, once all of them are known to be possible.
Plan = list[Callable[[], None]]
#: How many operators a scale may travel through.
DEPTH = 24
#: Larger constants (tables of positions) are no scales or shifts.
TABLE = 1 << 16
#: A reshape is looked through when its value has at most this many elements.
SMALL = 1 << 20


@dataclass(frozen=True)
class Affine:
    """x · scale + shift."""

    scale: np.ndarray
    shift: np.ndarray

    def then(self, later: Affine) -> Affine:
        return Affine(self.scale * later.scale, self.shift * later.scale + later.shift)

    @property
    def scales(self) -> bool:
        return bool(np.any(self.scale != 1))

    @property
    def shifts(self) -> bool:
        return bool(np.any(self.shift != 0))

    @property
    def size(self) -> int:
        return max(self.scale.size, self.shift.size)


def read_affine(edit: Editor, node: Node, *, active: bool = False) -> tuple[Value, Affine] | None:
    """(x, x · scale + shift) when ``node`` is a batch norm or arithmetic with one constant, else None.

    Nodes with a fused activation are read, up to that activation, only where ``active`` says so.
    """
    op = node.op
    if isinstance(op, ops.Conv2d):
        return _read_scaling(edit, node, op)
    if not isinstance(op, ops.BatchNorm | ops.Add | ops.Sub | ops.Mul | ops.Div | ops.Neg):
        return None
    if not node.output.dtype.startswith("float") or (getattr(op, "activation", "") and not active):
        return None
    rank = node.output.rank
    one, zero = np.ones((1,) * rank), np.zeros((1,) * rank)
    if isinstance(op, ops.Neg):
        return node.inputs[0], Affine(-one, zero)
    arrays = [edit.array(v) for v in node.inputs]
    if isinstance(op, ops.BatchNorm):
        if any(a is None for a in arrays[1:]):
            return None
        weight, bias, mean, var = (np.asarray(a, dtype=np.float64) for a in arrays[1:])
        scale = weight / np.sqrt(var + op.eps)
        spread = [-1 if i == op.axis else 1 for i in range(rank)]
        return node.inputs[0], Affine(scale.reshape(spread), (bias - mean * scale).reshape(spread))
    if (arrays[0] is None) == (arrays[1] is None):
        return None
    index = 0 if arrays[0] is None else 1
    x, constant = node.inputs[index], arrays[1 - index]
    if constant is None or x.shape != node.output.shape:
        return None
    short = shrink(constant.reshape((1,) * (rank - constant.ndim) + constant.shape))
    if short.size > TABLE or not np.all(np.isfinite(short)):
        return None
    c = short.astype(np.float64)
    match op:
        case ops.Add():
            return x, Affine(one, c)
        case ops.Sub():
            return (x, Affine(one, -c)) if index == 0 else (x, Affine(-one, c))
        case ops.Mul():
            return x, Affine(c, zero)
        case ops.Div() if index == 0 and np.all(c != 0):
            return x, Affine(1 / c, zero)
    return None


def scalar_line(edit: Editor, value: Value) -> tuple[Value, float, float]:
    """(x, a, b) with value = a · x + b by scalar constants, x as far back as they reach."""
    a, b = 1.0, 0.0
    while True:
        node = edit.maker(value)
        read = read_affine(edit, node) if node is not None else None
        if read is None or read[1].scale.size != 1 or read[1].shift.size != 1:
            return value, a, b
        scale, shift = float(read[1].scale.flat[0]), float(read[1].shift.flat[0])
        a, b = a * scale, a * shift + b
        value = read[0]


def _read_scaling(edit: Editor, node: Node, op: ops.Conv2d) -> tuple[Value, Affine] | None:
    """A depthwise convolution with a 1×1 kernel multiplies and shifts each channel."""
    weight = edit.array(node.inputs[1])
    channels = node.inputs[0].shape[channel_axis(op, 4)]
    if (
        op.groups != channels
        or op.activation
        or weight is None
        or weight.size != channels
        or weight.shape[0] != channels
    ):
        return None
    if op.stride != (1, 1) or any(map(any, op.padding)):
        return None
    bias = edit.array(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(channels)
    if bias is None:
        return None
    spread = [-1 if i == channel_axis(op, 4) else 1 for i in range(4)]
    scale, shift = (v.astype(np.float64).reshape(spread) for v in (weight, bias))
    return node.inputs[0], Affine(scale, shift)


def along(array: np.ndarray, axis: int, size: int) -> np.ndarray | None:
    """``array`` as a vector along ``axis``; None when it varies along another axis."""
    if any(n != 1 for i, n in enumerate(array.shape) if i != axis):
        return None
    return np.broadcast_to(array.reshape(-1), (size,))


def forget(value: Value) -> Callable[[], None]:
    """The value will no longer be what the source computed there."""

    def act() -> None:
        value.source = None

    return act


def both(affine: Affine, move: Callable[[np.ndarray], np.ndarray | None]) -> Affine | None:
    scale, shift = move(affine.scale), move(affine.shift)
    return None if scale is None or shift is None else Affine(scale, shift)


def unreduced(affine: Affine, axes: tuple[int, ...]) -> Affine:
    return Affine(np.expand_dims(affine.scale, axes), np.expand_dims(affine.shift, axes))


def fits(array: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether adding ``array`` to something of ``shape`` keeps that shape."""
    try:
        return np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        return False


def spatially_constant(affine: Affine, axis: int, rank: int) -> bool:
    return all(along(c, axis, 1 if c.shape[axis] == 1 else c.shape[axis]) is not None for c in
               (affine.scale, affine.shift))  # fmt: skip


def keeps(op: Operator, affine: Affine) -> bool:
    """Whether a spatial operator commutes with a per-channel scale and shift."""
    match op:
        case ops.Resize2d():
            return True
        case ops.AdaptiveAvgPool2d():
            return True
        case ops.AvgPool2d():
            padded = op.count_include_pad and any(map(any, op.padding))
            return not op.activation and not (padded and affine.shifts)
        case ops.MaxPool2d():
            return not op.activation and bool(np.all(affine.scale > 0))
        case ops.Pad():
            return op.mode != "constant" or (op.value == 0 and not affine.shifts)
    return False


def pull(op: Operator, c: np.ndarray, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray | None:
    """A constant on the output of an index map, as a constant on its input."""
    match op:
        case ops.Permute():
            return c.transpose(np.argsort(op.perm))
        case ops.Flip():
            return np.flip(c, op.axes)
        case ops.Roll():
            return np.roll(c, [-s for s in op.shifts], op.axes)
        case ops.Reshape():
            return _reshaped(c, after, before)
        case ops.DepthToSpace() | ops.SpaceToDepth():
            inverse = ops.SpaceToDepth if isinstance(op, ops.DepthToSpace) else ops.DepthToSpace
            return _shuffled(inverse(op.block, op.order, op.layout), c, after)
    return None


def push(op: Operator, c: np.ndarray, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray | None:
    """A constant on the input of an index map, as a constant on its output."""
    match op:
        case ops.Permute():
            return c.transpose(op.perm)
        case ops.Flip():
            return np.flip(c, op.axes)
        case ops.Roll():
            return np.roll(c, op.shifts, op.axes)
        case ops.Reshape():
            return _reshaped(c, before, after)
        case ops.Slice():
            bounds = zip(op.starts, op.stops, op.steps, strict=True)
            return c[tuple(slice(a, b, s) if c.shape[i] > 1 else slice(None) for i, (a, b, s) in enumerate(bounds))]
        case ops.DepthToSpace() | ops.SpaceToDepth():
            return _shuffled(op, c, before)
    return None


def _reshaped(c: np.ndarray, shape: tuple[int, ...], to: tuple[int, ...]) -> np.ndarray | None:
    if c.size == 1:
        return c.reshape((1,) * len(to))
    if math.prod(shape) > SMALL:
        return None
    return shrink(np.broadcast_to(c, shape).reshape(to))


def _shuffled(op: ops.DepthToSpace | ops.SpaceToDepth, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    axis = channel_axis(op, 4)
    vector = along(c, axis, shape[axis])
    if vector is None:
        return None
    side = op.block if isinstance(op, ops.SpaceToDepth) else 1
    small = [side] * 4
    small[0], small[axis] = 1, shape[axis]
    spread = vector.reshape([-1 if i == axis else 1 for i in range(4)])
    short = shrink(op.evaluate(np.broadcast_to(spread, small))[0])
    return short if all(n == 1 for i, n in enumerate(short.shape) if i != axis) else None
