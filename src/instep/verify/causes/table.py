"""The table of causes and the decorator that fills it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instep.graph import Graph, Node, Operator, Value

__all__ = ["CAUSES", "Arrays", "Context", "Found", "Variant", "changed", "explains", "swapped", "variants_of"]

Arrays = list[np.ndarray]
#: A variant's meaning: the node's float64 inputs → its (wrong) output or outputs.
Meaning = Callable[..., Any]
#: What a generator yields: evidence sentence and meaning (the cause's name comes from its decorator), or with a name.
Found = tuple[str, Meaning]


@dataclass(frozen=True)
class Variant:
    """One mistake at one node: ``cause`` is its name in the table, ``evidence`` says what exactly was assumed."""

    cause: str
    evidence: str
    run: Meaning
    rank: int = 0


@dataclass
class Context:
    """What a generator may look at: the captured graph, the names of its constants, values that could be mixed up."""

    graph: Graph
    #: shape → constants of that shape (name, float64 array)
    constants: dict[tuple[int, ...], list[tuple[str, np.ndarray]]] = field(default_factory=dict)
    #: further arrays that could be mixed up: weights of other layers with their norms folded in
    extra: list[tuple[str, np.ndarray]] = field(default_factory=list)
    #: the bad value itself, where its maker's unknown parameter can be read off it
    bad: dict[Value, np.ndarray] = field(default_factory=dict)
    #: folded constants by value
    made: dict[Value, np.ndarray] = field(default_factory=dict)

    def array(self, value: Value) -> np.ndarray | None:
        """The constant behind ``value`` (of the graph, or folded), or None when it is computed."""
        found = self.graph.array(value)
        return self.made.get(value) if found is None else found

    def others(self, array: np.ndarray | None, limit: int = 24) -> Iterator[tuple[str, np.ndarray]]:
        """Other constants of the same shape (the weights of another layer)."""
        if array is None:
            return
        if not self.constants:
            for name, data in [*self.extra, *((v.name, a) for v, a in self.graph.weights.items())]:
                if data.dtype.kind == "f":
                    self.constants.setdefault(data.shape, []).append((name, data))
        found = 0
        for name, data in self.constants.get(array.shape, []):
            if found < limit and not np.array_equal(data, array):
                found += 1
                yield name, data.astype(array.dtype)


Generator = Callable[[Node, Context], Iterator[Found]]
#: (name, operator classes, generator), the more specific and more frequent first: of two that fit, the first is named.
CAUSES: list[tuple[str, tuple[type[Operator], ...], Generator]] = []


def explains(name: str, *kinds: type[Operator]) -> Callable[[Generator], Generator]:
    """Decorator: the generator yields the variants of cause ``name`` for nodes whose operator is one of ``kinds``."""

    def register(generator: Generator) -> Generator:
        CAUSES.append((name, kinds, generator))
        return generator

    return register


def changed(node: Node, **fields: Any) -> Meaning:
    """The node's operator with some fields changed."""
    op = node.op.with_(**fields)
    return lambda ins: op.evaluate(*ins)


def swapped(node: Node, number: int, change: Callable[[np.ndarray], np.ndarray]) -> Meaning:
    """The node with input ``number`` changed."""
    op = node.op

    def run(ins: Arrays) -> Any:
        ins = list(ins)
        ins[number] = change(ins[number])
        return op.evaluate(*ins)

    return run


def variants_of(node: Node, context: Context) -> Iterator[Variant]:
    """Every variant of ``node``, in the order of the table."""
    for rank, (name, kinds, generator) in enumerate(CAUSES):
        if isinstance(node.op, kinds):
            for evidence, run in generator(node, context):
                yield Variant(name, evidence, run, rank)


def permutations(count: int, limit: int = 24) -> Sequence[tuple[int, ...]]:
    """At most ``limit`` permutations of ``count`` things but the identity, the simplest first (reversal, swaps)."""
    import itertools

    same = tuple(range(count))
    first = [same[::-1]]
    for i, j in itertools.combinations(range(count), 2):
        p = list(same)
        p[i], p[j] = p[j], p[i]
        first.append(tuple(p))
    first += [same[1:] + same[:1], same[-1:] + same[:-1]]
    rest = itertools.permutations(range(count)) if count <= 5 else []
    seen: dict[tuple[int, ...], None] = {}
    for p in [*first, *rest]:
        if p != same:
            seen.setdefault(tuple(p))
    return list(seen)[:limit]
