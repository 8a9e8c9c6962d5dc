"""Sums of few results whose terms cancel: what is left says little of how large the numbers were that were rounded.

The rounding of a sum is relative to what was added. A source that adds in a lucky order shows next to none of it where
the terms cancel, so the noise of such a value is measured by its terms: the running error analysis of Higham, "Accuracy
and Stability of Numerical Algorithms", section 3.3, where roundings at random add up to the root of their squares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from instep.graph import Graph, Node, Value, ops
from instep.graph.operator import Operator
from instep.graph.ops import elementwise

__all__ = ["Cancelling"]

#: Of more results than these the float32 runs of the source measure the noise themselves.
FEW = 16

_SUMS = (ops.ReduceSum, ops.ReduceMean)
#: Behind a sum its rounding is followed through these, and before it the sizes of terms.
_MOVES = (ops.Reshape, ops.Permute, ops.Neg)
_ARITHMETIC = (ops.Add, ops.Sub, ops.Mul, ops.Div)
#: Every operator that works place by place.
_PLACEWISE = tuple(c for c in vars(elementwise).values() if isinstance(c, type) and issubclass(c, Operator))
#: What a value is, or how large its terms are; None where that is not known.
Look = Callable[[Value], np.ndarray | None]


class Cancelling:
    """The sums of few results in a captured graph, and what is made of these by scaling and adding."""

    def __init__(self, graph: Graph | None) -> None:
        self.graph = graph
        self.makers = graph.producers() if graph is not None else {}
        self.nodes: list[Node] = []
        reached: set[Value] = set()
        for node in graph.nodes if graph is not None else ():
            if not node.output.dtype.startswith("float") or node.output.size > FEW:
                continue
            computed = [v for v in node.inputs if self._constant(v) is None]
            scales = isinstance(node.op, (ops.Mul, ops.Div)) and computed == list(node.inputs[:1])
            follows = isinstance(node.op, (*_MOVES, ops.Add, ops.Sub)) or scales
            if isinstance(node.op, _SUMS) or (follows and reached.intersection(computed)):
                self.nodes.append(node)
                reached.add(node.output)

    def reads(self) -> set[str]:
        """The values that the sizes of terms are made of, where the source shows them."""
        found: set[str] = set()
        stack, seen = [v for n in self.nodes for v in n.inputs], set[Value]()
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen.add(value)
            found.add(value.name)
            node = self.makers.get(value)
            stack += node.inputs if node is not None and _transparent(node) else ()
        return found

    def sizes(self, truth: Mapping[str, np.ndarray]) -> dict[str, float]:
        """By the name of a value the size of what was added up to it (RMS); of an input set with these true values."""
        known: dict[Value, np.ndarray | None] = {}
        sizes: dict[Value, np.ndarray | None] = {}

        def read(value: Value) -> np.ndarray | None:
            """The value itself: as the source shows it, or made of what it shows."""
            if value not in known:
                node = self.makers.get(value)
                known[value] = truth.get(value.name, self._constant(value))
                if known[value] is None and node is not None and _transparent(node):
                    known.update(_made(node, [read(v) for v in node.inputs]))
            return known.get(value)

        def size(value: Value) -> np.ndarray | None:
            if value not in sizes:
                node, shown = self.makers.get(value), read(value)
                own = None if shown is None or shown.dtype.kind != "f" else np.abs(shown)
                within = _sized(node, size, read) if node is not None else None
                sizes[value] = own if within is None else within if own is None else np.maximum(own, within)
            return sizes[value]

        with np.errstate(all="ignore"):
            found = {n.output.name: size(n.output) for n in self.nodes}
            means = {k: float(np.sqrt(np.mean(a * a))) for k, a in found.items() if a is not None and a.size}
        return {name: mean for name, mean in means.items() if np.isfinite(mean)}

    def _constant(self, value: Value) -> np.ndarray | None:
        array = self.graph.array(value) if self.graph is not None else None
        return array.astype(np.float64) if array is not None and array.dtype.kind == "f" else array


def _transparent(node: Node) -> bool:
    """Whether values are followed through ``node``: it works place by place, moves places, or adds them up."""
    return isinstance(node.op, (*_SUMS, *_MOVES, *_PLACEWISE))


def _made(node: Node, inputs: list[np.ndarray | None]) -> dict[Value, np.ndarray]:
    given = [a for a in inputs if a is not None]
    return dict(zip(node.outputs, node.op.evaluate(*given), strict=False)) if len(given) == len(inputs) else {}


def _sized(node: Node, size: Look, read: Look) -> np.ndarray | None:
    """The size of the terms that ``node``'s result is made of; None where they are not followed through it."""
    op = node.op
    if isinstance(op, ops.Where):
        chosen, one, other = read(node.inputs[0]), size(node.inputs[1]), size(node.inputs[2])
        return None if chosen is None or one is None or other is None else np.where(chosen, one, other)
    if not isinstance(op, (*_SUMS, *_MOVES, *_ARITHMETIC)) or getattr(op, "activation", ""):
        return None
    first = size(node.inputs[0])
    if first is None:
        return None
    if isinstance(op, _ARITHMETIC):
        second = read(node.inputs[1]) if isinstance(op, ops.Div) else size(node.inputs[1])
        return None if second is None else _combined(op, first, np.abs(second))
    if isinstance(op, _SUMS):
        (squares,) = op.evaluate(first**2)
        terms = first.size // max(1, squares.size)
        return np.sqrt(squares if isinstance(op, ops.ReduceSum) else squares / terms)
    return first if isinstance(op, ops.Neg) else op.evaluate(first)[0]


def _combined(op: Operator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if isinstance(op, ops.Div):
        return first / second
    return first * second if isinstance(op, ops.Mul) else first + second
