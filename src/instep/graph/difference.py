"""Whether two graphs are the same: structure, attributes, names and the numbers of the weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from instep.graph.core import Graph, Value

__all__ = ["difference"]


def difference(a: Graph, b: Graph) -> str:
    """The first thing in which the two graphs are not the same, in words; "" where they are equal.

    Compared are inputs and outputs with their names, the nodes in order (operator, attributes, scope, values), the
    weights in order with their numbers, and which of them the network keeps and does not train.
    """
    for what, ours, theirs in (("inputs", _ends(a, "input"), _ends(b, "input")),
                               ("outputs", _ends(a, "output"), _ends(b, "output"))):  # fmt: skip
        if ours != theirs:
            return f"{what} {ours} and {theirs}"
    if len(a.nodes) != len(b.nodes):
        return f"{len(a.nodes)} and {len(b.nodes)} operators"
    for one, other in zip(a.nodes, b.nodes, strict=True):
        facts = [(n.scope, [*map(_said, n.inputs)], [*map(_said, n.outputs)]) for n in (one, other)]
        # NaN is not equal to itself, but reads the same
        if facts[0] != facts[1] or (one.op != other.op and repr(one.op) != repr(other.op)):
            return f"{one.describe()} and {other.describe()}"
    if [*map(_said, a.weights)] != [*map(_said, b.weights)]:
        return "the weights' names"
    for value, ours, theirs in zip(a.weights, a.weights.values(), b.weights.values(), strict=True):
        if ours.dtype != theirs.dtype or not np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"):
            return f"the numbers of {value.name}"
    kept = [set(g.meta.get("buffers", ())) for g in (a, b)]
    if kept[0] != kept[1]:
        return f"buffers: {', '.join(sorted(kept[0] ^ kept[1])[:5])}"
    return ""


def _said(value: Value) -> tuple[str, Any]:
    return value.name, value.spec


def _ends(graph: Graph, side: str) -> list[Any]:
    values, names = getattr(graph, f"{side}s"), getattr(graph, f"{side}_names")
    return [*names, *map(_said, values)]
