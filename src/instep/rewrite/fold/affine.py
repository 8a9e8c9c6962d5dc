"""Scales and shifts by constants: reading them off nodes, and carrying them through other operators.

``absorb`` carries ``value · scale + shift`` backwards into the layers that make ``value``; ``deliver`` carries it
forwards into the layers that read it. Both return a plan, a list of changes to make, or None when some place cannot
take it exactly. Constants are float64 arrays of the value's rank, of size 1 along axes where they do not vary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from instep.graph import Node, Operator, Value, ops
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import (
    LAYERS,
    add_bias,
    bias_of,
    canonical,
    channel_axis,
    set_constant,
    set_weight,
    shrink,
    zero_padded,
)

__all__ = ["Affine", "Plan", "absorb", "deliver", "read_affine"]

Plan = list[Callable[[], None]]
#: How many operators a scale may travel through.
DEPTH = 24
#: A plan of more changes than this is not worth its reading.
LONGEST = 64
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


def _vector(array: np.ndarray, axis: int, size: int) -> np.ndarray | None:
    """``array`` as a vector along ``axis``; None when it varies along another axis."""
    if any(n != 1 for i, n in enumerate(array.shape) if i != axis):
        return None
    return np.broadcast_to(array.reshape(-1), (size,))


def _forget(value: Value) -> Callable[[], None]:
    """The value will no longer be what the source computed there."""

    def act() -> None:
        value.source = None

    return act


# -- backwards -------------------------------------------------------------------------------------------------------


def absorb(edit: Editor, value: Value, affine: Affine, depth: int = DEPTH) -> Plan | None:
    """The changes that turn ``value``, read by one node only, into ``value · scale + shift``."""
    if edit.is_output(value) or depth == 0:
        return None
    node = edit.maker(value)
    if node is None or len(node.outputs) != 1:
        return None
    if len(edit.users[value]) != 1:
        return None
    return _into(edit, node, affine, depth)


def _into(edit: Editor, node: Node, affine: Affine, depth: int) -> Plan | None:
    op, value = node.op, node.output
    if isinstance(op, LAYERS):
        return _into_layer(edit, node, affine)
    rest = absorb
    match op:
        case ops.Reshape() | ops.Permute() | ops.Flip() | ops.Roll() | ops.DepthToSpace() | ops.SpaceToDepth():
            before = _both(affine, lambda c: _pull(op, c, node.inputs[0].shape, value.shape))
            plan = None if before is None else rest(edit, node.inputs[0], before, depth - 1)
        case ops.Slice():
            plan = _into_slice(edit, node, affine, depth)
        case ops.Concat():
            plan = _into_concat(edit, node, affine, depth)
        case ops.Resize2d() | ops.AvgPool2d() | ops.MaxPool2d() | ops.Pad() | ops.AdaptiveAvgPool2d():
            axis = channel_axis(op, value.rank)
            fits = _spatially_constant(affine, axis, value.rank) and _keeps(op, affine)
            plan = rest(edit, node.inputs[0], affine, depth - 1) if fits else None
        case ops.ReduceMean():
            plan = rest(edit, node.inputs[0], affine if op.keepdims else _unreduced(affine, op.axes), depth - 1)
        case ops.Relu() | ops.LeakyRelu() | ops.Prelu() if not affine.shifts and np.all(affine.scale > 0):
            plan = rest(edit, node.inputs[0], affine, depth - 1)
        case ops.MatMul() if not affine.shifts and affine.scale.size == 1:
            plan = None
            for x in node.inputs:
                scale = Affine(affine.scale.reshape((1,) * x.rank), np.zeros((1,) * x.rank))
                plan = plan or rest(edit, x, scale, depth - 1)
        case ops.Mul() | ops.Div() if not affine.shifts and not op.activation:
            plan = _into_factor(edit, node, affine, depth)
        case ops.BatchNorm() | ops.Mul() | ops.Add() | ops.Sub() | ops.Div():
            plan = _into_affine(edit, node, affine) or _into_terms(edit, node, affine, depth)
        case _:
            plan = None
    return None if plan is None else [*plan, _forget(value)]


def _unreduced(affine: Affine, axes: tuple[int, ...]) -> Affine:
    return Affine(np.expand_dims(affine.scale, axes), np.expand_dims(affine.shift, axes))


def _both(affine: Affine, move: Callable[[np.ndarray], np.ndarray | None]) -> Affine | None:
    scale, shift = move(affine.scale), move(affine.shift)
    return None if scale is None or shift is None else Affine(scale, shift)


def _into_layer(edit: Editor, node: Node, affine: Affine) -> Plan | None:
    axis = channel_axis(node.op, node.output.rank)
    scale = _vector(affine.scale, axis, node.output.shape[axis])
    shift = _vector(affine.shift, axis, node.output.shape[axis])
    if scale is None or shift is None or node.op.fields()["activation"]:
        return None
    if edit.array(node.inputs[1]) is None or bias_of(edit, node) is None:
        return None

    def act() -> None:
        weight, bias = canonical(node.op, edit.graph.weights[node.inputs[1]]), bias_of(edit, node)
        assert bias is not None
        if np.any(scale != 1):
            set_weight(edit, node, weight * scale.reshape(weight.shape[0], weight.shape[1], 1, 1))
        add_bias(edit, node, bias * scale + shift)
        node.output.source = None

    return [act]


def _into_slice(edit: Editor, node: Node, affine: Affine, depth: int) -> Plan | None:
    """Into what is sliced: the other readers must be slices of other places."""
    op, x = node.op, node.inputs[0]
    if edit.is_output(x):
        return None
    axes = [i for i, n in enumerate(x.shape) if node.output.shape[i] != n]
    for user in edit.users[x]:
        if user is node:
            continue
        if not isinstance(user.op, ops.Slice):
            return None
        apart = [i for i in axes if user.op.stops[i] <= op.starts[i] or op.stops[i] <= user.op.starts[i]]
        if not apart:
            return None
        axes = apart
    axis = axes[0] if axes else 0
    maker = edit.maker(x)
    if maker is None or len(maker.outputs) != 1 or depth == 0:
        return None

    def spread(c: np.ndarray, fill: float) -> np.ndarray:
        shape = [x.shape[i] if i == axis else n for i, n in enumerate(c.shape)]
        for i, n in enumerate(c.shape):
            if n > 1:
                shape[i] = x.shape[i]
        full = np.full(shape, fill)
        cut = tuple(
            slice(a, b, s) if full.shape[i] > 1 else slice(None)
            for i, (a, b, s) in enumerate(zip(op.starts, op.stops, op.steps, strict=True))
        )
        full[cut] = c
        return full

    widened = Affine(spread(affine.scale, 1.0), spread(affine.shift, 0.0))
    plan = _into(edit, maker, widened, depth - 1)
    return None if plan is None else [*plan, _forget(x)]


def _into_concat(edit: Editor, node: Node, affine: Affine, depth: int) -> Plan | None:
    axis, plan, start = node.op.axis, [], 0
    for x in node.inputs:
        stop = start + x.shape[axis]

        def cut(c: np.ndarray, start: int = start, stop: int = stop) -> np.ndarray:
            return c if c.shape[axis] == 1 else c.take(range(start, stop), axis)

        part = Affine(cut(affine.scale), cut(affine.shift))
        start = stop
        if not part.scales and not part.shifts:
            continue
        more = absorb(edit, x, part, depth - 1)
        if more is None:
            return None
        plan += more
    return plan


def _into_factor(edit: Editor, node: Node, affine: Affine, depth: int) -> Plan | None:
    """A scale goes into either factor of a product, or into the dividend."""
    for index in range(1 if isinstance(node.op, ops.Div) else 2):
        x = node.inputs[index]
        offset = node.output.rank - x.rank
        if any(n > 1 and (i < offset or x.shape[i - offset] == 1) for i, n in enumerate(affine.scale.shape)):
            continue
        part = Affine(affine.scale.reshape(affine.scale.shape[offset:]), np.zeros((1,) * x.rank))
        array = edit.array(x)
        if array is not None:
            return [_scale_constant(edit, node, index, part)]
        plan = absorb(edit, x, part, depth - 1)
        if plan is not None:
            return plan
    return None


def _scale_constant(edit: Editor, node: Node, index: int, affine: Affine) -> Callable[[], None]:
    def act() -> None:
        array = edit.graph.weights[node.inputs[index]].astype(np.float64)
        set_constant(edit, node, index, array * affine.scale + affine.shift)

    return act


def _into_affine(edit: Editor, node: Node, affine: Affine) -> Plan | None:
    """Into a batch norm, or into the constant of an addition."""
    op = node.op
    if isinstance(op, ops.BatchNorm):
        scale = _vector(affine.scale, op.axis, node.output.shape[op.axis])
        shift = _vector(affine.shift, op.axis, node.output.shape[op.axis])
        if scale is None or shift is None or any(edit.array(v) is None for v in node.inputs[1:]):
            return None

        def act() -> None:
            weight, bias = (edit.graph.weights[v].astype(np.float64) for v in node.inputs[1:3])
            set_constant(edit, node, 1, weight * scale)
            set_constant(edit, node, 2, bias * scale + shift)

        return [act]
    if affine.scales or not isinstance(op, ops.Add) or op.activation:
        return None
    for index, x in enumerate(node.inputs):
        if edit.array(x) is not None and _fits(affine.shift, x.shape):
            return [_scale_constant(edit, node, index, Affine(affine.scale.reshape(-1)[0], affine.shift))]
    return None


def _fits(array: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether adding ``array`` to something of ``shape`` keeps that shape."""
    try:
        return np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        return False


def _into_terms(edit: Editor, node: Node, affine: Affine, depth: int) -> Plan | None:
    """A scale goes into both terms of a sum; a shift into one."""
    op = node.op
    if not isinstance(op, ops.Add | ops.Sub) or op.activation or any(v.shape != node.output.shape for v in node.inputs):
        return None
    plan: Plan = []
    if affine.scales:
        scale = Affine(affine.scale, np.zeros_like(affine.shift))
        for x in node.inputs:
            more = absorb(edit, x, scale, depth - 1)
            if more is None:
                return None
            plan += more
    if not affine.shifts:
        return plan
    signs = (1.0, -1.0 if isinstance(op, ops.Sub) else 1.0)
    for x, sign in zip(node.inputs, signs, strict=True):
        more = absorb(edit, x, Affine(np.ones_like(affine.scale), affine.shift * sign), depth - 1)
        if more is not None:
            return plan + more
    return None


def _spatially_constant(affine: Affine, axis: int, rank: int) -> bool:
    return all(_vector(c, axis, 1 if c.shape[axis] == 1 else c.shape[axis]) is not None for c in
               (affine.scale, affine.shift))  # fmt: skip


def _keeps(op: Operator, affine: Affine) -> bool:
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


def _pull(op: Operator, c: np.ndarray, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray | None:
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


def _push(op: Operator, c: np.ndarray, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray | None:
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
    vector = _vector(c, axis, shape[axis])
    if vector is None:
        return None
    side = op.block if isinstance(op, ops.SpaceToDepth) else 1
    small = [side] * 4
    small[0], small[axis] = 1, shape[axis]
    spread = vector.reshape([-1 if i == axis else 1 for i in range(4)])
    short = shrink(op.evaluate(np.broadcast_to(spread, small))[0])
    return short if all(n == 1 for i, n in enumerate(short.shape) if i != axis) else None


# -- forwards --------------------------------------------------------------------------------------------------------


def deliver(edit: Editor, value: Value, affine: Affine, depth: int = DEPTH) -> Plan | None:
    """The changes after which every reader of ``value`` sees ``value · scale + shift`` in its place."""
    if edit.is_output(value) or depth == 0 or not edit.users[value]:
        return None
    plan: Plan = []
    for node in dict.fromkeys(edit.users[value]):
        more = _onto(edit, node, value, affine, depth)
        if more is None:
            return None
        plan += more
        if len(plan) > LONGEST:
            return None
    return plan


def _onto(edit: Editor, node: Node, value: Value, affine: Affine, depth: int) -> Plan | None:
    op = node.op
    if sum(v is value for v in node.inputs) != 1 or len(node.outputs) != 1:
        return None
    if isinstance(op, LAYERS):
        return _onto_layer(edit, node, affine) if node.inputs[0] is value else None
    after: Affine | None = None
    output = node.output
    match op:
        case ops.Reshape() | ops.Permute() | ops.Flip() | ops.Roll() | ops.DepthToSpace() | ops.SpaceToDepth():
            after = _both(affine, lambda c: _push(op, c, value.shape, output.shape))
        case ops.Slice():
            after = _both(affine, lambda c: _push(op, c, value.shape, output.shape))
        case ops.Resize2d() | ops.AvgPool2d() | ops.MaxPool2d() | ops.Pad() | ops.AdaptiveAvgPool2d():
            axis = channel_axis(op, value.rank)
            after = affine if _spatially_constant(affine, axis, value.rank) and _keeps(op, affine) else None
        case ops.ReduceMean() if all(c.shape[a] == 1 for c in (affine.scale, affine.shift) for a in op.axes):
            keep = [i for i in range(value.rank) if op.keepdims or i not in op.axes]
            after = _both(affine, lambda c: c.reshape([c.shape[i] for i in keep]))
        case ops.Relu() | ops.LeakyRelu() | ops.Prelu() if not affine.shifts and np.all(affine.scale > 0):
            after = affine if node.inputs[0] is value else None
        case ops.Add() | ops.Sub() if not affine.scales and not op.activation and output.shape == value.shape:
            sign = -1.0 if isinstance(op, ops.Sub) and node.inputs[1] is value else 1.0
            after = Affine(affine.scale, affine.shift * sign)
        case ops.Mul() | ops.Div() if not affine.shifts and _constant_beside(edit, node, value) is not None:
            return _onto_product(edit, node, affine)
        case ops.Mul() if not affine.shifts and not op.activation:
            wide = (1,) * (output.rank - value.rank) + affine.scale.shape
            scale = affine.scale.reshape(wide)
            after = Affine(scale, np.zeros((1,) * output.rank)) if output.shape == value.shape else None
        case ops.MatMul() if not affine.shifts and affine.scale.size == 1:
            after = Affine(affine.scale.reshape((1,) * output.rank), np.zeros((1,) * output.rank))
        case ops.BatchNorm() if node.inputs[0] is value:
            return _onto_batch_norm(edit, node, affine)
    if after is None:
        return None
    plan = deliver(edit, output, after, depth - 1)
    return None if plan is None else [*plan, _forget(output)]


def _constant_beside(edit: Editor, node: Node, value: Value) -> int | None:
    """The index of the constant that multiplies ``value``, or divides it."""
    index = 1 if node.inputs[0] is value else 0
    if isinstance(node.op, ops.Div) and index == 0:
        return None
    return index if edit.array(node.inputs[index]) is not None and node.output.shape == value.shape else None


def _onto_product(edit: Editor, node: Node, affine: Affine) -> Plan | None:
    """Into the constant of a product, where that makes it no larger."""
    index = 1 if edit.array(node.inputs[1]) is not None else 0
    held = edit.graph.weights[node.inputs[index]]
    if np.broadcast_shapes(held.shape, affine.scale.shape) != (1,) * (affine.scale.ndim - held.ndim) + held.shape:
        return None

    def act() -> None:
        now = edit.graph.weights[node.inputs[index]].astype(np.float64)
        scale = affine.scale.reshape(affine.scale.shape[affine.scale.ndim - now.ndim :])
        set_constant(edit, node, index, now / scale if isinstance(node.op, ops.Div) else now * scale)

    return [act]


def _onto_layer(edit: Editor, node: Node, affine: Affine) -> Plan | None:
    x = node.inputs[0]
    axis = channel_axis(node.op, x.rank)
    scale, shift = (_vector(c, axis, x.shape[axis]) for c in (affine.scale, affine.shift))
    if scale is None or shift is None or edit.array(node.inputs[1]) is None or bias_of(edit, node) is None:
        return None
    if affine.shifts and zero_padded(node.op):
        return None

    def act() -> None:
        weight, bias = canonical(node.op, edit.graph.weights[node.inputs[1]]), bias_of(edit, node)
        assert bias is not None
        groups, _, per_group, _ = weight.shape
        if affine.shifts:
            moved = np.einsum("goik,gi->go", weight, shift.reshape(groups, per_group))
            add_bias(edit, node, bias + moved.reshape(-1))
        if np.any(scale != 1):
            set_weight(edit, node, weight * scale.reshape(groups, 1, per_group, 1))

    return [act]


def _onto_batch_norm(edit: Editor, node: Node, affine: Affine) -> Plan | None:
    op = node.op
    scale, shift = (_vector(c, op.axis, node.output.shape[op.axis]) for c in (affine.scale, affine.shift))
    if scale is None or shift is None or any(edit.array(v) is None for v in node.inputs[1:]):
        return None

    def act() -> None:
        weight, bias, mean, var = (edit.graph.weights[v].astype(np.float64) for v in node.inputs[1:])
        slope = weight / np.sqrt(var + op.eps)
        set_constant(edit, node, 1, weight * scale)
        set_constant(edit, node, 2, bias + slope * (shift + mean * (scale - 1)))

    return [act]
