"""Weighted sums over the places of windows: involutions, predicted kernels, attention among neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from instep.graph import Node, Value, ops
from instep.graph.ops.images import window_counts
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import sole_user
from instep.rewrite.view_algebra import View

__all__ = ["sum_windows"]

#: So many places of a window, and no more, are written out.
MOST = 49


@rewrite("a sum over the places of windows, each times a number of its own, is a sum of shifted images")
def sum_windows(edit: Editor) -> bool:
    """Σₖ windows[k] · factor[k] → one multiplication and addition of the whole image for each place k.

    The windows themselves, as many times the image as they have places, are never made.
    """
    return any([_summed(edit, node) for node in edit.nodes(ops.ReduceSum, ops.MatMul)])


def _summed(edit: Editor, node: Node) -> bool:
    for (windows, mine), (factor, its) in _pairs(edit, node):
        if min(*mine, *its) < 0 or [windows.shape[a] for a in mine] != [factor.shape[a] for a in its]:
            continue
        images = _images(edit, windows, mine, node)
        if images:
            total: Value | None = None
            for image, number in zip(images, _entries(edit, factor, its, node), strict=True):
                term = edit.add(ops.Mul(), [image, number], node)
                total = term if total is None else edit.add(ops.Add(), [total, term], node)
            assert total is not None
            edit.splice(node, ops.Reshape(node.output.shape), [total])
            return True
    return False


Side = tuple[Value, list[int]]


def _pairs(edit: Editor, node: Node) -> list[tuple[Side, Side]]:
    """What may be windows, with the axes that are summed, and what they are multiplied by, with its."""
    op = node.op
    if isinstance(op, ops.MatMul):
        a, b = node.inputs
        (m, n), rank = node.output.shape[-2:], node.output.rank
        left, right = (
            (a, [a.rank - 2 if op.transpose_a else a.rank - 1]),
            (b, [b.rank - 1 if op.transpose_b else b.rank - 2]),
        )
        # a product with rows as many as columns would take every window many times
        return ([(left, right)] if n == 1 and a.rank == rank else []) + (
            [(right, left)] if m == 1 and b.rank == rank else []
        )
    assert isinstance(op, ops.ReduceSum)
    made = edit.maker(node.inputs[0], ops.Mul)
    if made is None or not sole_user(edit, made.output):
        return []
    sides = [(v, [a - made.output.rank + v.rank for a in sorted(op.axes)]) for v in made.inputs]
    return [(sides[0], sides[1]), (sides[1], sides[0])]


def _images(edit: Editor, windows: Value, axes: Sequence[int], like: Node) -> list[Value]:
    """Each place's image, as the windows without ``axes`` have it; none where the axes are not those of the places."""
    chain: list[Node] = []
    made = edit.maker(windows)
    while made is not None and isinstance(made.op, ops.Reshape | ops.Permute) and sole_user(edit, made.output):
        chain.append(made)
        made = edit.maker(made.inputs[0])
    if made is None or not isinstance(made.op, ops.Unfold2d) or not sole_user(edit, made.output):
        return []
    op, x, view = made.op, made.inputs[0], View(made.output.shape)
    top = 2 if op.layout == "NCHW" else 1
    counts = window_counts(x.shape[top : top + 2], op.kernel, op.stride, op.dilation, op.padding)
    if math.prod(op.kernel) > MOST or not all(view.then(n.op) for n in reversed(chain)):
        return []
    places = _places(view, axes, math.prod(op.kernel), math.prod(counts) if top == 2 else 1)
    if places and any(map(any, op.padding)):
        pads = [(0, 0)] * 4
        pads[top : top + 2] = op.padding
        x = edit.add(ops.Pad(tuple(pads)), [x], like)
    for axis in sorted(axes, reverse=True):
        view = view.without(axis)
    found = []
    for place in places:
        starts, stops, steps = [0] * 4, list(x.shape), [1] * 4
        for i, at in enumerate(divmod(place, op.kernel[1])):
            starts[top + i], steps[top + i] = at * op.dilation[i], op.stride[i]
            stops[top + i] = starts[top + i] + op.stride[i] * (counts[i] - 1) + 1
        image = edit.add(ops.Slice(tuple(starts), tuple(stops), tuple(steps)), [x], like)
        found.append(_viewed(edit, image, view, like))
    return found


def _places(view: View, axes: Sequence[int], count: int, unit: int) -> list[int]:
    """Which place of a window each entry along ``axes`` is, the last axis fastest; none where they are something else.

    ``unit``: how far apart two places next to each other lie in the memory of what the view sees.
    """
    found = [view.place(a) for a in axes]
    if any(f is None or f[1] % unit for f in found):
        return []
    sizes, steps = zip(*((size, stride // unit) for size, stride in found), strict=True)  # type: ignore[misc]
    places = [sum(i * s for i, s in zip(index, steps, strict=True)) for index in product(*map(range, sizes))]
    return places if sorted(places) == list(range(count)) else []


def _entries(edit: Editor, factor: Value, axes: Sequence[int], like: Node) -> list[Value]:
    """The entries of ``factor`` along ``axes``, which they have no more; the last axis fastest."""
    if not axes:
        return [factor]
    axis, *rest = axes
    inner = [a - (a > axis) for a in rest]
    return [e for part in _along(edit, factor, axis, like) for e in _entries(edit, part, inner, like)]


def _along(edit: Editor, factor: Value, axis: int, like: Node) -> list[Value]:
    """The entries along one axis.

    Where it is a part of the channels of an image, those are brought in its order first: the layer before can make
    them so.
    """
    count, root, chain = factor.shape[axis], factor, []
    while (made := edit.maker(root, ops.Reshape, ops.Permute)) is not None:
        chain.append(made)
        root = made.inputs[0]
    view = View(root.shape)
    place = view.place(axis) if chain and all(view.then(n.op) for n in reversed(chain)) else None
    if place is not None and root.rank == 4:
        channels, area = root.shape[1], root.shape[2] * root.shape[3]
        size, stride = place
        if stride % area == 0 and size * stride <= channels * area:
            order = np.arange(channels).reshape(-1, size, stride // area).swapaxes(0, 1).reshape(-1)
            if np.any(order != np.arange(channels)):
                index = edit.constant(order.astype(np.int32), f"{root.name}.order")
                root = edit.add(ops.Gather(1), [root, index], like)
            return [_viewed(edit, p, view.without(axis), like) for p in _cut(edit, root, 1, count, like)]
    shape = (*factor.shape[:axis], *factor.shape[axis + 1 :])
    return [edit.add(ops.Reshape(shape), [p], like) for p in _cut(edit, factor, axis, count, like)]


def _cut(edit: Editor, x: Value, axis: int, count: int, like: Node) -> list[Value]:
    """``count`` parts of one size along an axis."""
    each = x.shape[axis] // count
    starts = range(0, x.shape[axis], each)
    return [edit.add(ops.Slice.along(x.shape, axis, start, start + each), [x], like) for start in starts]


def _viewed(edit: Editor, x: Value, view: View, like: Node) -> Value:
    """``x`` as a view of what has as many elements in the same order."""
    for op in view.of(x.shape).to_ops(max(x.rank, len(view.out_shape))):
        x = edit.add(op, [x], like)
    return x
