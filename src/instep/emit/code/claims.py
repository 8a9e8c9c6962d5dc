"""Constants that a layer can own, also where the graph reads them through permutations and axes of size 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from instep.emit.code.call import Weight
from instep.emit.code.shaping import uniform
from instep.graph import ops
from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator

__all__ = ["claim", "turned"]

T = TypeVar("T")

#: The producers and the readers of a graph's values, for as long as nothing is added to it.
_PRODUCERS: WeakKeyDictionary[Graph, tuple[int, dict[Value, Node]]] = WeakKeyDictionary()
_READERS: WeakKeyDictionary[Graph, tuple[int, dict[Value, list[Node]]]] = WeakKeyDictionary()


def claim(
    graph: Graph, value: Value, perm: Sequence[int] | None = None, shape: Sequence[int] | None = None
) -> Weight | None:
    """The weight that a layer keeps as ``value.transpose(perm).reshape(shape)``, or None where it is computed.

    Captured networks read the vector of a PReLU as [1, C, 1, 1], the kernel of a Conv1d as one of a Conv2d: the weight
    is the parameter itself. What layers of two kinds read (a table of words that the last layer multiplies with), or
    one layer turned and another not, is no layer's: each would train an array of its own.
    """
    if not value.dtype.startswith("float"):
        return None
    if not _alike(graph, value):
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


def turned(graph: Graph, node: Node, perm: Sequence[int], transpose: str, *, at: int = 1) -> tuple[list[Value], str]:
    """What ``node`` reads, and its input ``at`` transposed by ``perm`` as an expression: "ops.transpose({1}, (1, 2, 3,
    0))". Transposes that the graph has before it are one with it."""
    producers = _known(_PRODUCERS, graph, Graph.producers)
    inputs, order = list(node.inputs), tuple(perm)
    while (made := producers.get(inputs[at])) is not None and isinstance(made.op, ops.Permute):
        order, inputs[at] = tuple(made.op.perm[p] for p in order), made.inputs[0]
    axes = tuple(range(len(order)))
    if order == axes:
        return inputs, f"{{{at}}}"
    return inputs, f"{transpose}({{{at}}})" if order == axes[::-1] else f"{transpose}({{{at}}}, {order})"


def _known(
    table: WeakKeyDictionary[Graph, tuple[int, dict[Value, T]]], graph: Graph, find: Callable[[Graph], dict[Value, T]]
) -> dict[Value, T]:
    size, found = table.get(graph, (-1, {}))
    if size != len(graph.nodes):
        found = find(graph)
        table[graph] = len(graph.nodes), found
    return found


def _alike(graph: Graph, value: Value) -> bool:
    """Whether all that reads the array behind ``value`` reads it as one kind of layer does, and turned alike. Arrays of
    one number are many layers' by chance."""
    producers = _known(_PRODUCERS, graph, Graph.producers)
    readers = _known(_READERS, graph, Graph.users)
    while value not in graph.weights:
        node = producers.get(value)
        if node is None or not isinstance(node.op, ops.Reshape | ops.Permute):
            return True
        value = node.inputs[0]
    if len(readers[value]) == 1 or uniform(graph.weights[value]):
        return True
    ways: set[Any] = set()
    open_: list[tuple[Value, tuple[Operator, ...]]] = [(value, ())]
    while open_:
        read, moves = open_.pop()
        for node in readers[read]:
            if isinstance(node.op, ops.Reshape | ops.Permute):
                open_.append((node.output, (*moves, node.op)))
            else:
                ways.add((type(node.op), tuple(i for i, v in enumerate(node.inputs) if v is read), moves))
    return len(ways) <= 1


def _behind(graph: Graph, value: Value) -> tuple[Value, list[int]] | None:
    """The constant that ``value`` is a view of, and which of its axes longer than 1 follow each other in ``value``."""
    producers = _known(_PRODUCERS, graph, Graph.producers)
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
