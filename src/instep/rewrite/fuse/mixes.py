"""A linear map over few entries of an axis that is moved to the end for it: the map's matrix from the left instead."""

from __future__ import annotations

import math

import numpy as np

from instep.graph import Node, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor

__all__ = ["mix_small_axes"]

#: Up to so many entries (attention heads that talk) the product is faster than two transposes: 4 maps of 196 × 196
#: take 0.34 ms instead of 0.44 ms, 8 of them no less than before (docs/xnnpack-forms.md).
FEW = 6


@rewrite("an axis moved to the end, mapped by W and moved back is W · x with that axis as rows")
def mix_small_axes(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Linear):
        before = edit.maker(node.inputs[0], ops.Permute)
        after = edit.only_user(node.output, ops.Permute)
        if before is None or after is None or edit.only_user(before.output) is None or node.op != ops.Linear():
            continue
        axis, rank = before.op.perm[-1], node.output.rank
        to_end = (*(a for a in range(rank) if a != axis), axis)
        if before.op.perm != to_end or after.op.perm != tuple(np.argsort(to_end)) or axis == rank - 1:
            continue
        weights = [edit.array(v) for v in node.inputs[1:]]
        if all(w is not None and max(w.shape) <= FEW for w in weights):
            _from_the_left(edit, before, node, after, [w for w in weights if w is not None])
            changed = True
    return changed


def _from_the_left(edit: Editor, before: Node, node: Node, after: Node, weights: list[np.ndarray]) -> None:
    x, axis = before.inputs[0], before.op.perm[-1]
    matrix = edit.constant(np.ascontiguousarray(weights[0][None]), f"{node.inputs[1].name}.rows")
    rows = (math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :]))
    value = edit.add(ops.MatMul(), [matrix, edit.add(ops.Reshape(rows), [x], node)], node)
    if len(weights) > 1:
        bias = edit.constant(np.ascontiguousarray(weights[1].reshape(1, -1, 1)), f"{node.inputs[2].name}.rows")
        value = edit.add(ops.Add(), [value, bias], node)
    edit.splice(after, ops.Reshape(after.output.shape), [value])
    edit.erase(node)
    edit.erase(before)
