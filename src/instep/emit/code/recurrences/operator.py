"""The operator that stands for a recurrent layer in code, and what of it a framework has and trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from instep.emit.code.call import Weight
from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator

__all__ = ["Recur", "Recurrent", "one_bias", "single", "states", "trained"]


@dataclass(frozen=True)
class Recur(Operator):
    """A recurrent layer over [batch, time, features], or [time, batch, features] where ``time`` is 0.

    Inputs: the sequence, the states that it begins with where ``begins`` (h, and c of an LSTM), then for each layer and
    direction the input weight [gates·hidden, features], the recurrent weight and ``biases`` biases, the one of the
    inputs first. Outputs: the sequence, h, and c of an LSTM; ``gives`` says which of them something reads.

    ``cell`` is "lstm" (gates i, f, g, o), "gru" (r, z, n; ``gates`` says where each lies in the arrays), "tanh" or
    "relu". A layer that is ``reversed`` reads its times from the last to the first, and gives what it makes of them in
    that order, unless it is ``ordered``. A ``stack`` of n layers in two ``directions`` has states [n·2, batch, hidden];
    that of one layer has them as the graph has: with an axis of size 1 in front, or without.
    """

    cell: str
    time: int
    gates: tuple[int, ...] = ()
    biases: int = 0
    begins: bool = False
    gives: tuple[bool, ...] = ()
    reversed: bool = False
    ordered: bool = False
    stack: int = 1
    directions: int = 1


@dataclass(frozen=True)
class Recurrent:
    """Which recurrent layers a framework has: those of one layer that it ``takes``, and whether it ``stacks`` those of
    one module."""

    takes: Callable[[Graph, Node], bool]
    stacks: bool = False


def trained(graph: Graph, value: Value) -> bool:
    """Whether a constant is a parameter that the source trains."""
    return "/" not in value.name and value.name not in graph.meta.get("buffers", ())


def states(op: Operator) -> int:
    """How many states the cell of a ``Recur`` has."""
    return 2 if op.cell == "lstm" else 1


def one_bias(graph: Graph, biases: Sequence[Value]) -> Weight:
    """The sum of one bias or two as one array. It is trained as the source's where at most one of them is."""
    first, *rest = sorted(biases, key=lambda v: not trained(graph, v))
    return Weight(first, plus=rest[0] if rest else None)


def single(graph: Graph, node: Node) -> bool:
    """Whether a layer with one bias for each gate is trained as the ``Recur`` of ``node`` is.

    The sum of two biases that are trained takes twice the step that one takes.
    """
    biases = node.inputs[len(node.inputs) - node.op.biases :]
    return sum(trained(graph, v) for v in biases) < 2
