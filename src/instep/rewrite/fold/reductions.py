"""Reductions over axes of one entry, and over what was stacked for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from instep.graph import Node, Operator, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import sole_user

__all__ = ["unstack_reductions"]

#: Reduction → the operator that takes two of its terms together.
_PAIRWISE: dict[type[Operator], type[Operator]] = {
    ops.ReduceSum: ops.Add, ops.ReduceMean: ops.Add, ops.ReduceMax: ops.Maximum, ops.ReduceMin: ops.Minimum,
    ops.ReduceProd: ops.Mul,
}  # fmt: skip
#: Of more parts, joining and reducing reads less than it costs to make as many sums.
MOST = 8


@rewrite("the reduction of a stack is its parts taken together, one after the other; of one entry it is the entry")
def unstack_reductions(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(*_PAIRWISE):
        op: Any = node.op
        x = node.inputs[0]
        if not op.keepdims and all(x.shape[a] == 1 for a in op.axes):
            edit.splice(node, ops.Reshape(node.output.shape), [x])
            changed = True
        elif len(op.axes) == 1:
            changed |= _unstack(edit, node, op.axes[0])
    return changed


def _unstack(edit: Editor, node: Node, axis: int) -> bool:
    stack = edit.maker(node.inputs[0], ops.Concat)
    if stack is None or stack.op.axis != axis or not sole_user(edit, stack.output):  # type: ignore[attr-defined]
        return False
    parts = stack.inputs
    if not 1 < len(parts) <= MOST or any(p.shape[axis] != 1 for p in parts):
        return False
    terms = [_viewed(edit, p, node) for p in parts]
    together = _PAIRWISE[type(node.op)]
    total = terms[0]
    mean = isinstance(node.op, ops.ReduceMean)
    for i, term in enumerate(terms[1:], 2):
        if i == len(terms) and not mean:
            edit.splice(node, together(), [total, term])
            return True
        total = edit.add(together(), [total, term], node)
    share = np.asarray(1 / len(terms), total.dtype)
    edit.splice(node, ops.Mul(), [total, edit.constant(share, f"{node.output.name}.share")])
    return True


def _viewed(edit: Editor, part: Value, node: Node) -> Value:
    """``part`` in the shape of the result: what it was before it was made a slice of the stack, or a reshape."""
    shape = node.output.shape
    made = edit.maker(part, ops.Reshape)
    if made is not None and made.inputs[0].shape == shape:
        return made.inputs[0]
    return part if part.shape == shape else edit.add(ops.Reshape(shape), [part], node)
