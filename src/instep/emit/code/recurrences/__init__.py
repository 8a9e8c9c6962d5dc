"""Recurrent layers among the nodes of a graph: steps of one cell, each fed by the one before, over all times.

They are found by what their nodes compute, whatever they are called. What a layer of a framework does not do (a state
that is read between two steps, a projection, weights that something else reads) leaves the steps as they are.

``steps.py`` finds one step of a cell, ``layers.py`` the chains of steps that are a layer, ``stacks.py`` layers that are
one module; ``operator.py`` is what stands for them in the graph.
"""

from __future__ import annotations

from instep.emit.code.recurrences.layers import Found, alone, chains, layer_of, turned
from instep.emit.code.recurrences.operator import Recur, Recurrent, one_bias, single, states, trained
from instep.emit.code.recurrences.reader import Reader
from instep.emit.code.recurrences.stacks import stacked
from instep.graph.core import Graph

__all__ = ["Found", "Recur", "Recurrent", "one_bias", "recurrences", "single", "states", "trained"]


def recurrences(graph: Graph, kinds: Recurrent) -> list[Found]:
    """The recurrent layers of ``graph`` that a framework with ``kinds`` has."""
    seen = Reader(graph)
    found = [layer for chain in chains(seen) if (layer := layer_of(seen, chain)) is not None]
    found = [layer for layer in alone(seen, found) if kinds.takes(graph, layer.node)]
    if kinds.stacks:
        found = stacked(seen, found)
    return [turned(seen, layer) for layer in found]
