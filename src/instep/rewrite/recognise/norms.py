"""Sees layer norm and RMS norm in means, differences and roots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.affine import read_affine, scalar_line
from instep.rewrite.fold.weights import sole_user

__all__ = ["fold_scales_into_norms", "recognise_folded_norms", "recognise_norms"]


@dataclass
class _Norm:
    x: Value
    axes: tuple[int, ...]
    eps: float
    centred: bool
    #: what multiplies the variance (n / (n - 1) for the unbiased one)
    factor: float


@rewrite("(x - mean) / √(variance + eps) is the definition of layer norm, x / √(mean square + eps) of RMS norm")
def recognise_norms(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Mul, ops.Div):
        found = _norm(edit, node) if edit.alive(node) and not node.op.fields()["activation"] else None
        if found is None or found.x.spec != node.output.spec:
            continue
        # (x - m) / √(k·v + e) = (x - m) / √(v + e/k) / √k
        shape = tuple(found.x.shape[a] for a in found.axes)
        stem = node.scope or node.output.name
        weight = edit.constant(np.full(shape, found.factor**-0.5).astype(found.x.dtype), f"{stem}.weight")
        if found.centred:
            bias = edit.constant(np.zeros(shape, found.x.dtype), f"{stem}.bias")
            edit.splice(node, ops.LayerNorm(found.axes, found.eps / found.factor), [found.x, weight, bias])
        else:
            edit.splice(node, ops.RmsNorm(found.axes, found.eps / found.factor), [found.x, weight])
        changed = True
    return changed


def _norm(edit: Editor, node: Node) -> _Norm | None:
    """``node`` as numerator / √(variance + eps)."""
    for top, bottom in ((0, 1), (1, 0)) if isinstance(node.op, ops.Mul) else ((0, 1),):
        root = edit.maker(node.inputs[bottom], ops.Rsqrt if isinstance(node.op, ops.Mul) else ops.Sqrt)
        if root is None:
            continue
        found = _variance(edit, root.inputs[0], node.inputs[top])
        if found is not None:
            return found
    return None


def _variance(edit: Editor, value: Value, top: Value) -> _Norm | None:
    y, factor, eps = scalar_line(edit, value)
    mean = edit.maker(y, ops.ReduceMean, ops.ReduceSum)
    if mean is None or factor <= 0 or eps < 0:
        return None
    op: Any = mean.op
    axes = tuple(sorted(op.axes))
    squared = edit.maker(mean.inputs[0], ops.Square, ops.SquaredDifference, ops.Mul)
    if (
        squared is None
        or not op.keepdims
        or (isinstance(squared.op, ops.Mul) and squared.inputs[0] is not squared.inputs[1])
    ):
        return None
    count = int(np.prod([mean.inputs[0].shape[a] for a in axes]))
    if isinstance(op, ops.ReduceSum):
        factor *= count
    if isinstance(squared.op, ops.SquaredDifference):
        x, centre = squared.inputs
        if not _is_mean(edit, centre, x, axes) or not _is_centred(edit, top, x, axes):
            return None
        return _Norm(x, axes, eps, True, factor)
    base = squared.inputs[0]
    centred = edit.maker(base, ops.Sub)
    if centred is not None and _is_centred(edit, base, centred.inputs[0], axes):
        x = centred.inputs[0]
        return _Norm(x, axes, eps, True, factor) if _is_centred(edit, top, x, axes) else None
    if base is not top:
        return None
    # an RMS norm keeps its own form unless it runs over the last axes
    trailing = axes == tuple(range(base.rank - len(axes), base.rank))
    return _Norm(base, axes, eps, False, factor) if trailing else None


def _is_mean(edit: Editor, value: Value, x: Value, axes: tuple[int, ...]) -> bool:
    node = edit.maker(value, ops.ReduceMean)
    if node is None or node.inputs[0] is not x:
        return False
    op: Any = node.op
    return op.keepdims and tuple(sorted(op.axes)) == axes


def _is_centred(edit: Editor, value: Value, x: Value, axes: tuple[int, ...]) -> bool:
    node = edit.maker(value, ops.Sub)
    return node is not None and node.inputs[0] is x and _is_mean(edit, node.inputs[1], x, axes)


@rewrite("x · r + (-(r · mean)) is (x - mean) · r, the definition of layer norm where r is 1 / √(variance + eps)")
def recognise_folded_norms(edit: Editor) -> bool:
    """A batch norm by its own statistics is how XLA writes a layer norm: one value per row, reshaped as needed."""
    changed = False
    for node in edit.nodes(ops.Add):
        found = _folded(edit, node) if edit.alive(node) and not node.op.activation else None
        if found is None:
            continue
        shape = tuple(found.x.shape[a] for a in found.axes)
        stem = node.scope or node.output.name
        weight = edit.constant(np.full(shape, found.factor**-0.5).astype(found.x.dtype), f"{stem}.weight")
        bias = edit.constant(np.zeros(shape, found.x.dtype), f"{stem}.bias")
        edit.splice(node, ops.LayerNorm(found.axes, found.eps / found.factor), [found.x, weight, bias])
        changed = True
    return changed


def _folded(edit: Editor, node: Node) -> _Norm | None:
    for top, shift in (node.inputs, node.inputs[::-1]):
        scaled = edit.maker(top, ops.Mul)
        moved = _negated(edit, _bare(edit, shift))
        if scaled is None or scaled.op.activation or moved is None or node.output.spec != top.spec:
            continue
        for x, scale in (scaled.inputs, scaled.inputs[::-1]):
            root = edit.maker(_bare(edit, scale), ops.Rsqrt)
            product = edit.maker(moved, ops.Mul)
            if root is None or product is None or product.op.activation or x.spec != top.spec:
                continue
            factors = [_bare(edit, v) for v in product.inputs]
            if root.output not in factors:
                continue
            mean = factors[1 - factors.index(root.output)]
            found = _row_variance(edit, root.inputs[0], x, mean)
            if found is not None and _per_row(x, found.axes, scale) and _per_row(x, found.axes, shift):
                return found
    return None


def _row_variance(edit: Editor, value: Value, x: Value, mean: Value) -> _Norm | None:
    """``value`` as factor · variance + eps of the rows of ``x``, whose mean is ``mean``."""
    y, factor, eps = scalar_line(edit, value)
    variance, centre = edit.maker(_bare(edit, y), ops.ReduceMean), edit.maker(mean, ops.ReduceMean)
    squared = edit.maker(variance.inputs[0], ops.SquaredDifference) if variance is not None else None
    if variance is None or squared is None or centre is None or factor <= 0 or eps < 0:
        return None
    axes = tuple(a for a in sorted(centre.op.axes) if x.shape[a] > 1)
    same = axes == tuple(a for a in sorted(variance.op.axes) if x.shape[a] > 1)
    whole = squared.inputs[0] is x and squared.output.shape == x.shape and centre.inputs[0] is x
    if not axes or not same or not whole or _bare(edit, squared.inputs[1]) is not mean:
        return None
    return _Norm(x, axes, eps, True, factor) if _per_row(x, axes, squared.inputs[1]) else None


def _bare(edit: Editor, value: Value) -> Value:
    """``value`` before reshapes: the same numbers in the same order."""
    node = edit.maker(value, ops.Reshape)
    return value if node is None else _bare(edit, node.inputs[0])


def _negated(edit: Editor, value: Value) -> Value | None:
    """y where ``value`` is -y."""
    y, factor, shift = scalar_line(edit, value)
    return _bare(edit, y) if (factor, shift) == (-1.0, 0.0) else None


def _per_row(x: Value, axes: tuple[int, ...], value: Value) -> bool:
    """Whether ``value`` lies on ``x`` with one number per row, a row being what ``axes`` span."""
    return value.shape == tuple(1 if a in axes else n for a, n in enumerate(x.shape))


@rewrite("the norm's own scale and shift are its last step: what follows by constants of the same axes joins them")
def fold_scales_into_norms(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Mul, ops.Add, ops.Sub, ops.Div):
        read = read_affine(edit, node) if edit.alive(node) else None
        norm = edit.maker(read[0], ops.LayerNorm, ops.RmsNorm, ops.GroupNorm) if read is not None else None
        if read is None or norm is None or not sole_user(edit, read[0]):
            continue
        vectors = [edit.array(v) for v in norm.inputs[1:]]
        op: Any = norm.op
        affine, x = read[1], norm.inputs[0]
        axes = (op.axis,) if isinstance(op, ops.GroupNorm) else op.axes
        if any(v is None for v in vectors) or (affine.shifts and len(vectors) == 1):
            continue
        if any(n > 1 and i not in axes for c in (affine.scale, affine.shift) for i, n in enumerate(c.shape)):
            continue
        scale, shift = (
            np.broadcast_to(c.reshape([c.shape[i] for i in axes]), norm.inputs[1].shape)
            for c in (affine.scale, affine.shift)
        )
        stem = norm.scope or norm.output.name
        inputs = [x, edit.constant((np.asarray(vectors[0], np.float64) * scale).astype(x.dtype), f"{stem}.weight")]
        if len(vectors) > 1:
            bias = np.asarray(vectors[1], np.float64) * scale + shift
            inputs.append(edit.constant(bias.astype(x.dtype), f"{stem}.bias"))
        scope = norm.scope
        edit.splice(node, op, inputs)
        node.scope = scope
        edit.erase(norm)
        changed = True
    return changed
