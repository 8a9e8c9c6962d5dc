"""Carries ``value · scale + shift`` backwards into the layers that make ``value``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.edit import Editor
from instep.rewrite.fold.affine import (
    DEPTH,
    Affine,
    Plan,
    along,
    both,
    fits,
    forget,
    keeps,
    pull,
    spatially_constant,
    unreduced,
)
from instep.rewrite.fold.weights import LAYERS, add_bias, bias_of, canonical, channel_axis, set_constant, set_weight

__all__ = ["absorb"]


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
            before = both(affine, lambda c: pull(op, c, node.inputs[0].shape, value.shape))
            plan = None if before is None else rest(edit, node.inputs[0], before, depth - 1)
        case ops.Slice():
            plan = _into_slice(edit, node, affine, depth)
        case ops.Concat():
            plan = _into_concat(edit, node, affine, depth)
        case ops.Resize2d() | ops.AvgPool2d() | ops.MaxPool2d() | ops.Pad() | ops.AdaptiveAvgPool2d():
            axis = channel_axis(op, value.rank)
            fits = spatially_constant(affine, axis, value.rank) and keeps(op, affine)
            plan = rest(edit, node.inputs[0], affine, depth - 1) if fits else None
        case ops.ReduceMean():
            plan = rest(edit, node.inputs[0], affine if op.keepdims else unreduced(affine, op.axes), depth - 1)
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
    return None if plan is None else [*plan, forget(value)]


def _into_layer(edit: Editor, node: Node, affine: Affine) -> Plan | None:
    axis = channel_axis(node.op, node.output.rank)
    scale = along(affine.scale, axis, node.output.shape[axis])
    shift = along(affine.shift, axis, node.output.shape[axis])
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
    return None if plan is None else [*plan, forget(x)]


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
        scale = along(affine.scale, op.axis, node.output.shape[op.axis])
        shift = along(affine.shift, op.axis, node.output.shape[op.axis])
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
        if edit.array(x) is not None and fits(affine.shift, x.shape):
            return [_scale_constant(edit, node, index, Affine(affine.scale.reshape(-1)[0], affine.shift))]
    return None


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
