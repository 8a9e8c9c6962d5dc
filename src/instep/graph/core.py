"""The graph: values, nodes and weights of one network, in static single assignment form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instep.graph.operator import Operator, Spec

__all__ = ["Graph", "GraphError", "Node", "SourceView", "Value"]


class GraphError(ValueError):
    """A graph that breaks its own rules; the message names the node, its scope and its origin."""


@dataclass(frozen=True, slots=True)
class SourceView:
    """How a value shows a value of the source network: ``source.transpose(perm).reshape(shape)``.

    ``name`` is the captured value's name, ``perm`` a permutation of its axes and ``shape`` the shape after it.
    The proof compares through this view, whatever rewrites did to layouts and ranks.
    """

    name: str
    perm: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def whole(cls, name: str, shape: Sequence[int]) -> SourceView:
        """The source value itself."""
        return cls(name, tuple(range(len(shape))), tuple(shape))

    def permuted(self, perm: Sequence[int], from_shape: Sequence[int]) -> SourceView | None:
        """The view after ``transpose(perm)``, or None when the reshape in between cannot be moved behind it."""
        if self.shape != tuple(from_shape) or len(self.perm) != len(self.shape):
            return None
        return SourceView(self.name, tuple(self.perm[p] for p in perm), tuple(self.shape[p] for p in perm))

    def reshaped(self, shape: Sequence[int]) -> SourceView:
        """The view after a further ``reshape(shape)``."""
        return SourceView(self.name, self.perm, tuple(shape))

    def fits(self, source: Sequence[int]) -> bool:
        """Whether a source value of this shape can be shown so."""
        return len(self.perm) == len(source) and math.prod(self.shape) == math.prod(source)

    def apply(self, source: np.ndarray) -> np.ndarray:
        """What this view shows of ``source`` (the source network's value, in the source's layout)."""
        return source.transpose(self.perm).reshape(self.shape)


class Value:
    """One tensor of the network: a name, a static shape, a dtype (numpy's name), and what it is in the source."""

    __slots__ = ("dtype", "name", "shape", "source")

    def __init__(
        self, name: str, shape: Sequence[int], dtype: str = "float32", source: SourceView | None = None
    ) -> None:
        self.name = name
        self.shape = tuple(int(d) for d in shape)
        self.dtype = dtype
        self.source = source

    @property
    def spec(self) -> Spec:
        return Spec(self.shape, self.dtype)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize

    def __repr__(self) -> str:
        return f"%{self.name}: {self.dtype}{list(self.shape)}"


@dataclass(eq=False, slots=True)
class Node:
    """One application of an operator.

    ``scope`` is the place in the module hierarchy (``backbone.stem.conv``), ``origin`` the source line
    (``model.py:41``). A node that a rewrite makes keeps the scope and origin of what it replaces.
    """

    op: Operator
    inputs: list[Value]
    outputs: list[Value]
    scope: str = ""
    origin: str = ""

    @property
    def output(self) -> Value:
        return self.outputs[0]

    def describe(self) -> str:
        """``Conv2d 'backbone.stem.conv' (model.py:41)``: how messages name a node."""
        place = f" ({self.origin})" if self.origin else ""
        return f"{self.op.name} '{self.scope or self.output.name}'{place}"

    def __repr__(self) -> str:
        ins = ", ".join("%" + v.name for v in self.inputs)
        outs = ", ".join(map(repr, self.outputs))
        return f"{outs} = {self.op}({ins})"


@dataclass(eq=False)
class Graph:
    """A network: ``inputs`` → ``nodes`` (in topological order) → ``outputs``, with constants in ``weights``.

    ``weights`` maps a constant Value to its numpy array; a parameter keeps its ``state_dict`` name as the
    Value's name, and tied parameters are one Value. ``input_names`` and ``output_names`` are the signature's
    names. ``meta`` holds free facts (source, seed, …) that travel into the file's metadata.
    """

    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    weights: dict[Value, np.ndarray] = field(default_factory=dict)
    input_names: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    # -- building ----------------------------------------------------------------------------------------------
    def constant(self, array: np.ndarray, name: str) -> Value:
        """A new constant. The array is kept, not copied."""
        value = Value(name, array.shape, str(array.dtype))
        self.weights[value] = array
        return value

    def add(
        self,
        op: Operator,
        inputs: Sequence[Value],
        *,
        scope: str = "",
        origin: str = "",
        names: Sequence[str] = (),
    ) -> Node:
        """Append ``op`` applied to ``inputs``; the outputs' shapes and dtypes come from the operator's rule."""
        try:
            specs = op.infer(*(v.spec for v in inputs))
        except (ValueError, IndexError, TypeError) as error:
            place = f" ({origin})" if origin else ""
            raise GraphError(f"{op.name} '{scope}'{place}: {error}") from error
        stem = names or [f"{scope or op.name}" + (f".{i}" if i else "") for i in range(len(specs))]
        outputs = [Value(n, s.shape, s.dtype) for n, s in zip(stem, specs, strict=True)]
        node = Node(op, list(inputs), outputs, scope, origin)
        self.nodes.append(node)
        return node

    # -- reading -----------------------------------------------------------------------------------------------
    def values(self) -> Iterator[Value]:
        """Every value once: inputs, then constants, then what nodes produce."""
        yield from self.inputs
        yield from self.weights
        for node in self.nodes:
            yield from node.outputs

    def producers(self) -> dict[Value, Node]:
        return {value: node for node in self.nodes for value in node.outputs}

    def users(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, once per use."""
        table: dict[Value, list[Node]] = {value: [] for value in self.values()}
        for node in self.nodes:
            for value in node.inputs:
                table[value].append(node)
        return table

    def array(self, value: Value) -> np.ndarray | None:
        """The constant behind ``value``, or None when it is computed."""
        return self.weights.get(value)

    def absent(self, value: Value, fill: float) -> bool:
        """Whether ``value`` is a scale or a shift that a layer goes without: ``fill`` throughout, and no parameter."""
        return "/" in value.name and value in self.weights and bool(np.all(self.weights[value] == fill))

    # -- changing ----------------------------------------------------------------------------------------------
    def copy(self) -> Graph:
        """A copy with its own nodes and values; the weight arrays are shared."""
        twin = {v: Value(v.name, v.shape, v.dtype, v.source) for v in self.values()}
        return Graph(
            [twin[v] for v in self.inputs],
            [twin[v] for v in self.outputs],
            [
                Node(n.op, [twin[v] for v in n.inputs], [twin[v] for v in n.outputs], n.scope, n.origin)
                for n in self.nodes
            ],
            {twin[v]: a for v, a in self.weights.items()},
            list(self.input_names),
            list(self.output_names),
            dict(self.meta),
        )

    def sort(self) -> None:
        """Restore topological order; a producer that came late moves to just before its first reader."""
        producer = self.producers()
        done: set[int] = set()
        order: list[Node] = []
        for root in self.nodes:
            stack = [(root, False)]
            while stack:
                node, ready = stack.pop()
                if id(node) in done:
                    continue
                if ready:
                    done.add(id(node))
                    order.append(node)
                    continue
                stack.append((node, True))
                for value in reversed(node.inputs):
                    parent = producer.get(value)
                    if parent is not None and id(parent) not in done:
                        stack.append((parent, False))
        self.nodes = order

    def prune(self) -> bool:
        """Drop nodes and constants that no output needs. True when something went."""
        alive: set[Value] = set(self.outputs)
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if any(v in alive for v in node.outputs):
                alive.update(node.inputs)
                kept.append(node)
        changed = len(kept) != len(self.nodes)
        self.nodes = kept[::-1]
        dead = [v for v in self.weights if v not in alive]
        for value in dead:
            del self.weights[value]
        return changed or bool(dead)

    # -- running -----------------------------------------------------------------------------------------------
    def run(self, inputs: Sequence[np.ndarray], *, keep: Iterable[Value] | None = None) -> dict[Value, np.ndarray]:
        """Evaluate with the operators' numpy meaning, in the floating type of ``inputs``.

        Floating constants are cast to the type of the first floating input, so float64 inputs give a float64
        run. Returns the outputs, and the values of ``keep`` (all values when ``keep`` is None). Raises GraphError where
        an index lies outside of what it indexes.
        """
        real = next((a.dtype for a in inputs if a.dtype.kind == "f"), np.dtype("float32"))
        wanted = None if keep is None else set(keep) | set(self.outputs)
        last: dict[Value, int] = {}
        for i, node in enumerate(self.nodes):
            for value in node.inputs:
                last[value] = i
        table: dict[Value, np.ndarray] = dict(zip(self.inputs, inputs, strict=True))

        def read(value: Value) -> np.ndarray:
            if value in table:
                return table[value]
            array = self.weights[value]
            return array.astype(real) if array.dtype.kind == "f" else array

        with np.errstate(all="ignore"):
            for i, node in enumerate(self.nodes):
                try:
                    results = node.op.evaluate(*(read(v) for v in node.inputs))
                except IndexError as error:
                    raise GraphError(f"{node.describe()}: {error}") from None
                for value, result in zip(node.outputs, results, strict=True):
                    array = np.asarray(result)
                    # a cast from integers makes float32: in a float64 run it counts as exact and goes on wider
                    widen = real == np.float64 and array.dtype.kind == "f" and array.dtype != real
                    table[value] = array.astype(real) if widen else array
                if wanted is not None:
                    for value in node.inputs:
                        if last[value] == i and value not in wanted:
                            table.pop(value, None)
        for value in self.outputs:
            table.setdefault(value, read(value))
        if wanted is None:
            return table
        return {v: a for v, a in table.items() if v in wanted}
