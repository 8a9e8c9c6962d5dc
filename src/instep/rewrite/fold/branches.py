"""Parallel convolutions whose results are only added become one convolution, identity branches included."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.affine import read_affine
from instep.rewrite.fold.sequences import Linearity, composed, linearity
from instep.rewrite.fold.weights import channel_axis, restore, sole_user

__all__ = ["merge_branches"]

#: Largest convolution that layers in a row are tried as.
MOST_WEIGHTS = 2**22


@dataclass
class _Branch:
    """One term of a sum, as a convolution of ``x``: taps at rows and columns relative to the output's place."""

    x: Value
    node: Node | None
    stride: tuple[int, int]
    groups: int
    weight: np.ndarray  # canonical, float64
    bias: np.ndarray
    rows: list[int]
    cols: list[int]
    sign: float = 1.0
    macs: int = 0
    #: of a scaled identity (``groups`` 0): the axis that its scale and shift lie along, 0 for scalars
    axis: int = 0
    #: layers before ``node`` that the branch takes in, the last one first
    before: tuple[Node, ...] = ()


@rewrite("convolution is linear in its weights: the sum of convolutions of one input is the convolution with their sum")
def merge_branches(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Add, ops.Sub):
        if not edit.alive(node) or _is_term(edit, node):
            continue
        changed |= _merge_sum(edit, node)
    return changed


def _plain_sum(node: Node | None) -> bool:
    return (
        node is not None
        and isinstance(node.op, ops.Add | ops.Sub)
        and not node.op.activation
        and all(v.shape == node.output.shape for v in node.inputs)
    )


def _is_term(edit: Editor, node: Node) -> bool:
    """Whether another sum takes this one in."""
    return sole_user(edit, node.output) and _plain_sum(edit.users[node.output][0])


def _terms(edit: Editor, node: Node, sign: float, inner: list[Node]) -> list[tuple[Value, float]]:
    found: list[tuple[Value, float]] = []
    for i, value in enumerate(node.inputs):
        part = -sign if i == 1 and isinstance(node.op, ops.Sub) else sign
        maker = edit.maker(value)
        if maker is not None and _plain_sum(maker) and sole_user(edit, value):
            inner.append(maker)
            found += _terms(edit, maker, part, inner)
        else:
            found.append((value, part))
    return found


def _merge_sum(edit: Editor, root: Node) -> bool:
    if not _plain_sum(root) or root.output.rank != 4:
        return False
    inner: list[Node] = []
    terms = _terms(edit, root, 1.0, inner)
    choices = _choices(edit, terms)
    for lead in [b for branch in choices for b in branch]:
        if not lead.groups or lead.node is None:
            continue
        alike = [
            next((b for b in branch if b.x is lead.x and b.stride == lead.stride), None) for branch in choices
        ]  # fmt: skip
        fitted = {i: _fitted(b, lead.node.op.layout) for i, b in enumerate(alike) if b is not None}
        group = [b for b in fitted.values() if b is not None]
        group.sort(key=lambda b: b.node is not lead.node)
        others = [t for i, t in enumerate(terms) if fitted.get(i) is None]
        same_size = root.output.shape == lead.x.shape and lead.stride == (1, 1)
        identity = [t for t in others if t[0] is lead.x][:1] if same_size else []
        members = group + [_identity(lead, s) for _, s in identity]
        others = [t for t in others if not identity or t is not identity[0]]
        merged = _merge(members) if len(members) > 1 else None
        if merged is None:
            continue
        _rewrite(edit, root, inner, group, merged, others)
        return True
    return False


def _choices(edit: Editor, terms: list[tuple[Value, float]]) -> list[list[_Branch]]:
    """What each term can be seen as: a convolution, and, where another term starts earlier, several in a row as one."""
    rows = [_row(edit, value) for value, _ in terms]
    scaled = [None if row else _scaled(edit, *term) for row, term in zip(rows, terms, strict=True)]
    starts = [layer.x for row in rows for layer in row] + [value for value, _ in terms] + [b.x for b in scaled if b]
    choices = []
    for row, identity, (_, sign) in zip(rows, scaled, terms, strict=True):
        found = [] if identity is None else [identity]
        shared = [sum(x is layer.x for x in starts) > 1 for layer in row]
        whole: Linearity | None = None
        for i, layer in enumerate(row):
            if i and True not in shared[i:]:
                break
            # alone it may cost more than its parts; with the others it has to pay (_merge)
            whole = layer if whole is None else composed(layer, whole, MOST_WEIGHTS)
            if whole is None:
                break
            found.append(_branch(whole, sign))
        choices.append(found)
    return choices


def _row(edit: Editor, value: Value) -> list[Linearity]:
    """The convolutions that make ``value`` one after the other and for nobody else, the last one first."""
    found: list[Linearity] = []
    while (node := edit.maker(value, ops.Conv2d)) is not None and sole_user(edit, value):
        layer = linearity(edit, node)
        if layer is None:
            break
        found.append(layer)
        value = layer.x
    return found


def _branch(layer: Linearity, sign: float) -> _Branch:
    op = layer.op
    rows, cols = (
        [k * d - p[0] for k in range(n)] for n, d, p in zip(layer.kernel, op.dilation, op.padding, strict=True)
    )
    *before, node = layer.nodes
    return _Branch(
        layer.x, node, op.stride, op.groups, layer.weight, layer.bias, rows, cols, sign, layer.macs,
        before=tuple(reversed(before)),
    )  # fmt: skip


def _scaled(edit: Editor, value: Value, sign: float) -> _Branch | None:
    """x · s + t per channel, a batch norm for one, as a 1×1 depthwise convolution."""
    node = edit.maker(value)
    if node is None or not sole_user(edit, value):
        return None
    read = read_affine(edit, node)
    if read is None:
        return None
    x, affine = read
    axes = {i for c in (affine.scale, affine.shift) for i, n in enumerate(c.shape) if n > 1}
    if len(axes) > 1 or not axes <= {1, 3}:
        return None
    axis = axes.pop() if axes else 0
    scale, shift = (c.reshape(-1) for c in (affine.scale, affine.shift))
    return _Branch(x, node, (1, 1), 0, scale, shift, [0], [0], sign, 0, axis)


def _fitted(branch: _Branch, layout: str) -> _Branch | None:
    """``branch`` as a convolution in ``layout``, or None where that is not its layout."""
    if branch.groups:
        return branch if branch.node is not None and branch.node.op.layout == layout else None  # type: ignore[attr-defined]
    axis = 1 if layout == "NCHW" else 3
    if branch.axis not in (0, axis):
        return None
    channels = branch.x.shape[axis]
    scale, shift = (np.broadcast_to(c, (channels,)) for c in (branch.weight, branch.bias))
    return replace(branch, groups=channels, weight=scale.reshape(channels, 1, 1, 1), bias=shift)


def _identity(like: _Branch, sign: float) -> _Branch:
    assert like.node is not None
    channels = like.x.shape[channel_axis(like.node.op, 4)]
    return _Branch(like.x, None, (1, 1), channels, np.ones((channels, 1, 1, 1)), np.zeros(channels), [0], [0], sign)


def _grid(offsets: list[list[int]]) -> range | None:
    """The regular taps that hold all the given ones, or None when there are none; a range, as they may be many."""
    every = sorted({o for part in offsets for o in part})
    steps = {b - a for a, b in itertools.pairwise(every)}
    if not steps:
        return range(every[0], every[0] + 1)
    step = int(np.gcd.reduce(list(steps)))
    return range(every[0], every[-1] + 1, step) if every[0] <= 0 else None


def _merge(members: list[_Branch]) -> _Branch | None:
    """One convolution that computes the sum, when it takes no more multiplications than its parts."""
    rows, cols = _grid([b.rows for b in members]), _grid([b.cols for b in members])
    if rows is None or cols is None:
        return None
    groups = int(np.gcd.reduce([b.groups for b in members]))
    if any(b.groups % groups for b in members):
        return None
    first = members[0]
    channels_in = first.groups * first.weight.shape[2]
    channels_out = first.groups * first.weight.shape[1]
    o, i = channels_out // groups, channels_in // groups
    assert first.node is not None
    if first.node.output.size * i * len(rows) * len(cols) > sum(b.macs for b in members):
        return None
    total = np.zeros((groups, o, i, len(rows), len(cols)))
    bias = np.zeros(channels_out)
    for b in members:
        taps = b.weight.reshape(*b.weight.shape[:3], len(b.rows), len(b.cols))
        at_rows, at_cols = [rows.index(r) for r in b.rows], [cols.index(c) for c in b.cols]
        ratio = b.groups // groups
        bo, bi = o // ratio, i // ratio
        for g in range(b.groups):
            big, part = divmod(g, ratio)
            spot = np.ix_([big], range(part * bo, (part + 1) * bo), range(part * bi, (part + 1) * bi), at_rows, at_cols)
            total[spot] += b.sign * taps[g]
        bias += b.sign * b.bias
    if not np.any(total):
        return None
    return _Branch(first.x, first.node, first.stride, groups, total, bias, list(rows), list(cols))


def _rewrite(
    edit: Editor, root: Node, inner: list[Node], group: list[_Branch], merged: _Branch,
    others: list[tuple[Value, float]],
) -> None:  # fmt: skip
    like = merged.node
    assert like is not None
    layout = like.op.layout  # type: ignore[attr-defined]
    dtype = root.output.dtype
    out_axes = (2, 3) if layout == "NCHW" else (1, 2)
    padding, dilation = [], []
    for taps, axis, stride in zip((merged.rows, merged.cols), out_axes, merged.stride, strict=True):
        reach = (root.output.shape[axis] - 1) * stride + taps[-1]
        padding.append((-taps[0], max(0, reach - (merged.x.shape[axis] - 1))))
        dilation.append(taps[1] - taps[0] if len(taps) > 1 else 1)
    op = ops.Conv2d(merged.stride, (padding[0], padding[1]), (dilation[0], dilation[1]), merged.groups, layout)
    kernel = (len(merged.rows), len(merged.cols))
    flat = merged.weight.reshape(*merged.weight.shape[:3], -1)
    stem = like.scope or like.output.name
    weight = edit.constant(np.ascontiguousarray(restore(op, flat, kernel).astype(dtype)), f"{stem}.weight")
    inputs = [merged.x, weight]
    if np.any(merged.bias):
        inputs.append(edit.constant(merged.bias.astype(dtype), f"{stem}.bias"))
    scope = like.scope
    if not others:
        edit.splice(root, op, inputs)
        root.scope = scope
    else:
        total = edit.add(op, inputs, like, f"{stem}.merged")
        for value, sign in others[:-1]:
            total = edit.add(ops.Add() if sign > 0 else ops.Sub(), [total, value], root)
        value, sign = others[-1]
        edit.splice(root, ops.Add() if sign > 0 else ops.Sub(), [total, value])
    for node in [*inner, *(n for b in group for n in (b.node, *b.before))]:
        if node is not None:
            _erase_unread(edit, node)


def _erase_unread(edit: Editor, node: Node) -> None:
    if edit.alive(node) and not edit.users[node.output] and not edit.is_output(node.output):
        edit.erase(node)
