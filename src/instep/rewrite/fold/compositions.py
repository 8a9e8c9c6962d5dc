"""A convolution of a convolution of few channels becomes one larger convolution, with the frame computed as before."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import bias_of, canonical, kernel_of, restore

__all__ = ["compose_convolutions"]

#: Measured on XNNPACK (AVX-512): a multiplication with few input channels takes 1.7 times one with many; moving an
#: element into a join twice takes as long as some 60 multiplications; the composed form has to save a fifth.
FEW, JOINS, GAIN = 1.7, 60, 0.8
#: Smaller maps are not worth the operators of their frame.
PLACES = 1024


@rewrite("away from the frame, where the second convolution pads, the two are the convolution with their product")
def compose_convolutions(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Conv2d):
        first = edit.maker(node.inputs[0], ops.Conv2d)
        if first is not None and _fits(edit, first, node) and _pays(first, node):
            _compose(edit, first, node)
            changed = True
    return changed


def _fits(edit: Editor, first: Node, then: Node) -> bool:
    for node in (first, then):
        op: Any = node.op
        if op.groups != 1 or op.stride != (1, 1) or op.dilation != (1, 1):
            return False
        if any(edit.array(v) is None for v in node.inputs[1:]):
            return False
    return first.op.layout == then.op.layout and not first.op.activation  # type: ignore[attr-defined]


def _spatial(node: Node, value: Value) -> tuple[int, int]:
    return value.shape[2:4] if node.op.layout == "NCHW" else value.shape[1:3]  # type: ignore[attr-defined, return-value]


def _pays(first: Node, then: Node) -> bool:
    """Whether the composed convolution, its frame and the joins take less than the second convolution does."""
    one, two = (kernel_of(n.op, n.inputs[1].shape) for n in (first, then))
    outer: Any = then.op
    rows, cols = _spatial(then, then.output)
    if rows * cols < PLACES or any(n < 4 * k for n, k in zip(_spatial(first, first.output), two, strict=True)):
        return False
    inputs = first.inputs[1].size // first.inputs[1].shape[0] // math.prod(one)
    middle = then.inputs[1].size // then.inputs[1].shape[0] // math.prod(two)
    whole = [a + b - 1 for a, b in zip(one, two, strict=True)]
    framed = sum(outer.padding[0]) * cols + sum(outer.padding[1]) * rows
    direct = math.prod(two) * middle * rows * cols
    joins = JOINS if framed else 0
    composed = (FEW * math.prod(whole) * inputs + joins) * rows * cols + math.prod(two) * middle * framed
    return composed < GAIN * direct


def _compose(edit: Editor, first: Node, then: Node) -> None:
    op: Any = first.op
    outer: Any = then.op
    one, two = (kernel_of(n.op, n.inputs[1].shape) for n in (first, then))
    weights = [canonical(n.op, edit.graph.weights[n.inputs[1]])[0] for n in (first, then)]
    a, b = (w.reshape(*w.shape[:2], *k) for w, k in zip(weights, (one, two), strict=True))
    whole = tuple(m + n - 1 for m, n in zip(one, two, strict=True))
    product = np.zeros((b.shape[0], a.shape[1], *whole))
    for i in range(two[0]):
        for j in range(two[1]):
            product[:, :, i : i + one[0], j : j + one[1]] += np.einsum("om,mirc->oirc", b[:, :, i, j], a)
    bias_one, bias_two = bias_of(edit, first), bias_of(edit, then)
    assert bias_one is not None and bias_two is not None
    bias = np.einsum("omrc,m->o", b, bias_one) + bias_two
    dtype, stem = then.output.dtype, then.scope or then.output.name
    flat = product.reshape(1, *product.shape[:2], -1)
    weight = edit.constant(np.array(restore(outer, flat, whole), dtype=dtype, order="C"), f"{stem}.composed")
    shift = edit.constant(bias.astype(dtype), f"{stem}.composed.bias")
    inner = op.with_(activation=outer.activation)
    x = first.inputs[0]
    if not any(map(any, outer.padding)):
        edit.splice(then, inner, [x, weight, shift])
        return
    axes = (2, 3) if op.layout == "NCHW" else (1, 2)
    middle = edit.add(inner, [x, weight, shift], then, f"{then.output.name}.inner")
    alone = len(edit.users[first.output]) == 1 and not edit.is_output(first.output)

    def border(axis: int, end: int) -> list[Value]:
        """The outputs that see the second convolution's padding at the start (0) or end (1) of an axis."""
        side = axes.index(axis)
        pad = outer.padding[side][end]
        if not pad:
            return []
        source = _edge(edit, first, axis, end, two[side] - 1, one[side], alone)
        padding = [list(p) for p in outer.padding]
        padding[side] = [pad, 0] if end == 0 else [0, pad]
        if side == 1:  # the rows at the top and bottom are whole; columns run between them
            padding[0] = [0, 0]
        own = outer.with_(padding=tuple(map(tuple, padding)))
        return [edit.add(own, [source, *then.inputs[1:]], then, f"{then.output.name}.frame")]

    between = [*border(axes[1], 0), middle, *border(axes[1], 1)]
    if len(between) > 1:
        middle = edit.add(ops.Concat(axes[1]), between, then, f"{then.output.name}.rows")
    parts = [*border(axes[0], 0), middle, *border(axes[0], 1)]
    edit.splice(then, ops.Concat(axes[0]), parts)


def _edge(edit: Editor, first: Node, axis: int, end: int, count: int, kernel: int, alone: bool) -> Value:
    """``count`` rows or columns of the first convolution's result, cut from it or, where only they remain, computed."""
    op: Any = first.op
    if not alone:
        return _cut(edit, first, first.output, axis, end, count)
    side = axis - (2 if op.layout == "NCHW" else 1)
    pads = op.padding[side]
    needed = min(count + kernel - 1 - pads[end], first.inputs[0].shape[axis])
    padding = [list(p) for p in op.padding]
    padding[side] = [pads[0], 0] if end == 0 else [0, pads[1]]
    strip = _cut(edit, first, first.inputs[0], axis, end, needed)
    own = op.with_(padding=tuple(map(tuple, padding)))
    return edit.add(own, [strip, *first.inputs[1:]], first, f"{first.output.name}.edge")


def _cut(edit: Editor, like: Node, value: Value, axis: int, end: int, count: int) -> Value:
    start = 0 if end == 0 else value.shape[axis] - count
    return edit.add(ops.Slice.along(value.shape, axis, start, start + count), [value], like, f"{value.name}.edge")
