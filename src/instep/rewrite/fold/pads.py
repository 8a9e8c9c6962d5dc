"""Explicit pads join the padding of the operator behind them."""

from __future__ import annotations

import math
from typing import Any

from instep.graph import Node, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.identities import range_of
from instep.rewrite.fold.weights import channel_axis

__all__ = ["fold_pads"]

_LOWEST = -1e30


@rewrite("zeros that a pad adds are the zeros that the operator's own padding stands for")
def fold_pads(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Pad, ops.Conv2d, ops.MaxPool2d, ops.AvgPool2d):
        pad = edit.maker(node.inputs[0], ops.Pad)
        if pad is None or pad.op.mode != "constant":
            continue
        op: Any = node.op
        first: Any = pad.op
        if isinstance(op, ops.Pad):
            if op.mode != "constant" or op.value != first.value:
                continue
            joined = tuple((a + c, b + d) for (a, b), (c, d) in zip(first.pads, op.pads, strict=True))
            edit.splice(node, op.with_(pads=joined), pad.inputs)
        else:
            new = _taken(edit, node, pad)
            if new is None:
                continue
            edit.splice(node, new, [pad.inputs[0], *node.inputs[1:]])
        changed = True
    return changed


def _taken(edit: Editor, node: Node, pad: Node) -> Any:
    """The operator of ``node`` with the pads taken in, or None."""
    op: Any = node.op
    first: Any = pad.op
    axis = channel_axis(op, 4)
    rows = 2 if axis == 1 else 1
    if first.pads[0] != (0, 0) or first.pads[axis] != (0, 0):
        return None
    extra = first.pads[rows : rows + 2]
    joined = tuple((a + c, b + d) for (a, b), (c, d) in zip(op.padding, extra, strict=True))
    match op:
        case ops.Conv2d():
            return op.with_(padding=joined) if first.value == 0 else None
        case ops.MaxPool2d():
            never_wins = first.value <= _LOWEST or (
                range_of(edit, pad.inputs[0])[0] >= first.value and first.value > -math.inf
            )
            reach = [(k - 1) * d for k, d in zip(op.kernel, op.dilation, strict=True)]
            fits = all(max(p) <= r // 2 for p, r in zip(joined, reach, strict=True))
            # a window of padding alone would show the pad's value
            return op.with_(padding=joined) if never_wins and fits else None
        case ops.AvgPool2d():
            plain = not any(map(any, op.padding)) and op.overhang == (0, 0)
            fits = all(max(p) < k for p, k in zip(joined, op.kernel, strict=True))
            counts = plain or op.count_include_pad
            return op.with_(padding=joined, count_include_pad=True) if first.value == 0 and counts and fits else None
    return None
