"""Slices of joins and joins of slices: parts are taken where they come from."""

from __future__ import annotations

from typing import Any

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import sole_user

__all__ = ["simplify_joins"]


@rewrite("a part of a join is a part of what was joined, and neighbouring parts of a value make a larger part of it")
def simplify_joins(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Slice, ops.Concat):
        if not edit.alive(node):
            continue
        changed |= _part_of_join(edit, node) if isinstance(node.op, ops.Slice) else _join_of_parts(edit, node)
    return changed


def _cut_axes(node: Node) -> list[int]:
    return [i for i, (n, m) in enumerate(zip(node.inputs[0].shape, node.output.shape, strict=True)) if n != m]


def _part_of_join(edit: Editor, node: Node) -> bool:
    """A slice that lies within one input of a Concat reads that input."""
    join = edit.maker(node.inputs[0], ops.Concat)
    if join is None:
        return False
    op: Any = node.op
    axis, start = join.op.axis, 0  # type: ignore[attr-defined]
    for x in join.inputs:
        stop = start + x.shape[axis]
        if start <= op.starts[axis] and op.stops[axis] <= stop:
            starts, stops = list(op.starts), list(op.stops)
            starts[axis] -= start
            stops[axis] -= start
            edit.splice(node, ops.Slice(tuple(starts), tuple(stops), op.steps), [x])
            return True
        start = stop
    return False


def _join_of_parts(edit: Editor, node: Node) -> bool:
    """Neighbouring parts of one value, joined in order, are one part; a join inside a join is one join."""
    axis = node.op.axis  # type: ignore[attr-defined]
    parts: list[Value] = []
    changed = False
    for x in node.inputs:
        inner = edit.maker(x, ops.Concat)
        if inner is not None and inner.op == node.op and sole_user(edit, x):
            parts += inner.inputs
            changed = True
        else:
            parts.append(x)
    merged: list[Value] = []
    for x in parts:
        joined = _merge(edit, merged[-1], x, axis) if merged else None
        if joined is None:
            merged.append(x)
        else:
            merged[-1] = joined
            changed = True
    if not changed:
        return False
    edit.splice(node, node.op, merged)
    return True


def _merge(edit: Editor, left: Value, right: Value, axis: int) -> Value | None:
    a, b = edit.maker(left, ops.Slice), edit.maker(right, ops.Slice)
    if a is None or b is None or a.inputs[0] is not b.inputs[0]:
        return None
    p: Any = a.op
    q: Any = b.op
    same = all(
        (p.starts[i], p.stops[i], p.steps[i]) == (q.starts[i], q.stops[i], q.steps[i])
        for i in range(left.rank) if i != axis
    )  # fmt: skip
    if not same or p.steps[axis] != 1 or q.steps[axis] != 1 or p.stops[axis] != q.starts[axis]:
        return None
    stops = list(p.stops)
    stops[axis] = q.stops[axis]
    return edit.add(ops.Slice(p.starts, tuple(stops), p.steps), a.inputs, a)
