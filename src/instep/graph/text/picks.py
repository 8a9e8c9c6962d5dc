"""Nodes in a row that a reader sees as one step: a value cut into its parts, a place of an axis, all of its places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instep.graph import ops
from instep.graph.core import Node, Value

__all__ = ["MOST_PARTS", "parts", "pick", "picks"]


def parts(nodes: Sequence[Node], place: int) -> int:
    """How many nodes from ``place`` on cut one value into its parts along an axis, in order."""
    count, axis, at = 0, -1, 0
    whole = nodes[place].inputs[:1]
    for node in nodes[place:]:
        op: Any = node.op
        if type(op) is not ops.Slice or node.inputs != whole or node.scope != nodes[place].scope:
            return 1
        shape = whole[0].shape
        cut = [a for a, n in enumerate(shape) if (op.starts[a], op.stops[a], op.steps[a]) != (0, n, 1)]
        if len(cut) != 1 or cut[0] != (axis if count else cut[0]):
            return 1
        axis = cut[0]
        if op.starts[axis] != at or op.stops[axis] <= at or op.steps[axis] != 1:
            return 1
        count, at = count + 1, op.stops[axis]
        if at == shape[axis]:
            return count
    return 1


#: Most parts that are said as one step with a name for each.
MOST_PARTS = 8


def picks(nodes: Sequence[Node], place: int, users: Mapping[Value, Sequence[Node]]) -> int:
    """How many pairs of nodes from ``place`` on take a place of an axis each, without the axis: one, or all places."""
    first = pick(nodes, place, users)
    if first is None:
        return 0
    axis, index = first
    whole = nodes[place].inputs
    places = whole[0].shape[axis]
    if index or not 2 <= places <= MOST_PARTS:
        return 1
    for number in range(1, places):
        at = place + 2 * number
        same = at < len(nodes) and nodes[at].inputs == whole and nodes[at].scope == nodes[place].scope
        if not same or pick(nodes, at, users) != (axis, number):
            return 1
    return places


def pick(nodes: Sequence[Node], place: int, users: Mapping[Value, Sequence[Node]]) -> tuple[int, int] | None:
    """The axis and the place on it that a slice and a reshape take: x[:, i]."""
    if place + 1 >= len(nodes):
        return None
    cut, view = nodes[place], nodes[place + 1]
    op: Any = cut.op
    if type(op) is not ops.Slice or type(view.op) is not ops.Reshape or view.inputs != cut.outputs:
        return None
    if len(users[cut.output]) > 1 or view.scope != cut.scope:
        return None
    shape = cut.inputs[0].shape
    axes = [a for a, n in enumerate(shape) if (op.starts[a], op.stops[a], op.steps[a]) != (0, n, 1)]
    if len(axes) != 1 or op.stops[axes[0]] != op.starts[axes[0]] + 1 or op.steps[axes[0]] != 1:
        return None
    axis = axes[0]
    return (axis, op.starts[axis]) if view.output.shape == (*shape[:axis], *shape[axis + 1 :]) else None
