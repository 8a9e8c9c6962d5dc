"""Constants that a layer can own, also where the graph reads them through permutations and axes of size 1."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from instep.emit.code.call import Weight
from instep.graph import ops
from instep.graph.core import Graph, Node, Value

__all__ = ["claim"]

#: The producers of a graph's values, for as long as nothing is added to it.
_PRODUCERS: WeakKeyDictionary[Graph, tuple[int, dict[Value, Node]]] = WeakKeyDictionary()


def claim(
    graph: Graph, value: Value, perm: Sequence[int] | None = None, shape: Sequence[int] | None = None
) -> Weight | None:
    """The weight that a layer keeps as ``value.transpose(perm).reshape(shape)``, or None where it is computed.

    Captured networks read the vector of a PReLU as [1, C, 1, 1], the kernel of a Conv1d as one of a Conv2d: the weight
    is the parameter itself.
    """
    if not value.dtype.startswith("float"):
        return None
    if value in graph.weights:
        return Weight(value, None if perm is None else tuple(perm), None if shape is None else tuple(shape))
    found = _behind(graph, value)
    if found is None:
        return None
    source, axes = found
    wanted = [value.shape[p] for p in perm] if perm is not None else value.shape
    # the axes of value longer than 1 are those of the source, in the order of ``axes``
    long = [i for i, n in enumerate(value.shape) if n != 1]
    order = [axes[long.index(p)] for p in (perm if perm is not None else range(value.rank)) if p in long]
    order = [i for i, n in enumerate(source.shape) if n == 1] + order
    return Weight(source, tuple(order), tuple(wanted if shape is None else shape))


def _behind(graph: Graph, value: Value) -> tuple[Value, list[int]] | None:
    """The constant that ``value`` is a view of, and which of its axes longer than 1 follow each other in ``value``."""
    size, producers = _PRODUCERS.get(graph, (-1, {}))
    if size != len(graph.nodes):
        producers = graph.producers()
        _PRODUCERS[graph] = len(graph.nodes), producers
    chain: list[Node] = []
    while value not in graph.weights:
        node = producers.get(value)
        if node is None or not isinstance(node.op, ops.Reshape | ops.Permute):
            return None
        chain.append(node)
        value = node.inputs[0]
    axes = [i for i, n in enumerate(value.shape) if n != 1]
    for node in reversed(chain):
        before, after = node.inputs[0].shape, node.output.shape
        if isinstance(node.op, ops.Reshape):
            if [n for n in before if n != 1] != [n for n in after if n != 1]:
                return None
            continue
        long = [i for i, n in enumerate(before) if n != 1]
        axes = [axes[long.index(p)] for p in node.op.perm if p in long]
    return value, axes
