"""The scale and shift at the end of a normalisation fold into the layers that read it."""

from __future__ import annotations

from typing import Any

import numpy as np

from instep.graph import Node, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.affine import Affine
from instep.rewrite.fold.deliver import deliver
from instep.rewrite.fold.weights import set_constant, shrink

__all__ = ["fold_norm_scales"]


@rewrite("a norm's last step is x · s + t by constants, which composes with the linear layers that read it")
def fold_norm_scales(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.LayerNorm, ops.GroupNorm, ops.RmsNorm):
        vectors = [edit.array(v) for v in node.inputs[1:]]
        if any(v is None for v in vectors):
            continue
        affine = _affine(node, [np.asarray(v, np.float64) for v in vectors])
        if not (affine.scales or affine.shifts):
            continue
        plan = deliver(edit, node.output, affine)
        shift_stays = False
        if plan is None and affine.scales and affine.shifts and np.all(np.abs(affine.scale) > 1e-6):
            plan = deliver(edit, node.output, Affine(affine.scale, np.zeros_like(affine.shift)))
            shift_stays = True
        if plan is None:
            continue
        for act in plan:
            act()
        weight = vectors[0]
        assert weight is not None
        if len(node.inputs) > 2:
            rest = np.asarray(vectors[1], np.float64) / np.asarray(weight, np.float64) if shift_stays else 0 * weight
            set_constant(edit, node, 2, rest)
        set_constant(edit, node, 1, np.ones_like(weight))
        node.output.source = None
        changed = True
    return changed


def _affine(node: Node, vectors: list[np.ndarray]) -> Affine:
    op: Any = node.op
    x = node.inputs[0]
    axes = (op.axis,) if isinstance(op, ops.GroupNorm) else op.axes
    shape = [n if i in axes else 1 for i, n in enumerate(x.shape)]
    scale = shrink(vectors[0].reshape(shape))
    shift = shrink(vectors[1].reshape(shape)) if len(vectors) > 1 else np.zeros((1,) * x.rank)
    return Affine(scale, shift)
