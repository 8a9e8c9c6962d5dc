"""Channel orders go into the weights: pixel shuffles take TFLite's order, constant channel gathers vanish."""

from __future__ import annotations

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.channel_order import dcr_from_crd, reorder
from instep.rewrite.fold.weights import channel_axis

__all__ = ["fold_channel_gathers", "fold_pixel_shuffle_order"]


@rewrite("reordering the rows of the weights before, or the columns after, makes CRD order DCR order")
def fold_pixel_shuffle_order(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.DepthToSpace, ops.SpaceToDepth):
        if node.op.order != "CRD":
            continue
        many = _deep_value(node)
        axis = channel_axis(node.op, 4)
        perm = dcr_from_crd(many.shape[axis], node.op.block)
        if np.array_equal(perm, np.arange(len(perm))):  # one channel, or one place: both orders are the same
            edit.update(node, node.op.with_(order="DCR"))
            changed = True
            continue
        changed |= reorder(edit, many, axis, perm)
    return changed


def _deep_value(node: Node) -> Value:
    """The side of a pixel shuffle that has the many channels."""
    return node.inputs[0] if isinstance(node.op, ops.DepthToSpace) else node.output


@rewrite("the weights on one side of a constant reordering of channels are reordered instead")
def fold_channel_gathers(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Gather):
        indices = edit.array(node.inputs[1])
        axis = node.op.axis
        x = node.inputs[0]
        if indices is None or indices.ndim != 1 or not 0 < axis < x.rank or indices.size != x.shape[axis]:
            continue
        if not np.array_equal(np.sort(indices), np.arange(indices.size)):
            continue
        changed |= reorder(edit, node.output, axis, np.argsort(indices)) or reorder(edit, x, axis, indices)
    return changed
