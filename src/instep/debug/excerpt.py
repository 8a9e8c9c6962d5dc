"""A part of a captured graph as a graph of its own."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from instep.graph import Graph, SourceView, Value

__all__ = ["excerpt", "value_called"]


def excerpt(graph: Graph, start: Sequence[str] = (), end: Sequence[str] = ()) -> Graph:
    """The operators of a captured ``graph`` between the values ``start`` (its inputs) and ``end`` (its outputs).

    Raises ValueError for unknown names and where the one does not lead to the other.
    """
    part = graph.copy()
    given = [value_called(part, name) for name in start] or list(part.inputs)
    wanted = [value_called(part, name) for name in end] or list(dict.fromkeys(part.outputs))
    for value in wanted:
        if value in given or value in part.inputs:
            raise ValueError(f"'{value.name}' is where the part begins; no operator lies between")
    named = dict(zip([*part.inputs, *part.outputs], [*part.input_names, *part.output_names], strict=False))
    makers = part.producers()
    part.nodes = [n for n in part.nodes if not any(v in given for v in n.outputs)]
    cut_off = {v for v in makers if v in given}
    part.outputs = wanted
    part.output_names = _distinct([named.get(v) or v.name for v in wanted])
    part.prune()
    read = {v for n in part.nodes for v in n.inputs}
    unused = [v for v in given if v in cut_off and v not in read]
    if unused:
        ends = ", ".join(f"'{v.name}'" for v in wanted)
        raise ValueError(f"'{unused[0].name}' does not lead to {ends}; choose a value before it")
    part.inputs = [v for v in dict.fromkeys([*part.inputs, *given]) if v in read]
    part.input_names = _distinct([named.get(v) or v.name for v in part.inputs])
    for value in part.inputs:
        value.source = SourceView.whole(value.name, value.shape)
    return part


def value_called(graph: Graph, name: str) -> Value:
    """The computed value or input called ``name``: its name, its scope, or a beginning that no other has."""
    known: dict[str, Value] = {v.name: v for v in graph.inputs}
    scopes: dict[str, list[Value]] = {}
    for node in graph.nodes:
        for value in node.outputs:
            known[value.name] = value
        # the last operator of a scope gives what the layer gives
        scopes[node.scope] = [node.output]
    if name in known:
        return known[name]
    if name in scopes and name:
        return scopes[name][-1]
    begin = [n for n in known if n.startswith(name)]
    if len(begin) == 1:
        return known[begin[0]]
    if begin:
        shown = ", ".join(f"'{n}'" for n in begin[:6])
        raise ValueError(f"{len(begin)} values begin with '{name}': {shown}{' …' if len(begin) > 6 else ''}")
    near = difflib.get_close_matches(name, [*known, *scopes], 5, 0.4)
    said = "near ones: " + ", ".join(f"'{n}'" for n in near) if near else f"it has {len(known)} values"
    raise ValueError(f"the network has no value '{name}'; {said}")


def _distinct(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        while name in found:
            name += "_"
        found.append(name)
    return found
