"""Which values of a graph the layers of its code give: what a proof can read of a network that runs elsewhere."""

from __future__ import annotations

from instep.emit.code.blocks import CodeLeaf, outlined
from instep.emit.code.call import Dialect
from instep.graph.core import Graph, Value

__all__ = ["layers_of"]


def layers_of(graph: Graph, dialect: Dialect) -> dict[str, Value]:
    """The value that each layer gives, by the layer's path in the code; of one that is called often, the first."""
    found: dict[str, Value] = {}
    for leaf in outlined(graph, dialect, getattr(dialect, "reserved", ())).root.leaves():
        if isinstance(leaf, CodeLeaf) and leaf.layered and leaf.call.code == "{layer}({0})":
            found.setdefault(".".join(leaf.path), leaf.call.outputs[0])
    return found
