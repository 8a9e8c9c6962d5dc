"""The editor that rewrites use: changes a graph in place and keeps producers and users up to date."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from instep.graph import Graph, Node, Operator, Value

__all__ = ["Editor"]

#: "x.slice.slice" and "x.slice.1.slice": what is made of a value that was made so.
_REPEATED = re.compile(r"(\.[a-z_]+)(?:(?:\.\d+)?\1)+$")


class Editor:
    """Edits ``graph`` in place. New nodes go to the end: the driver restores the order and drops dead nodes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producer: dict[Value, Node] = graph.producers()
        self.users: dict[Value, list[Node]] = graph.users()
        self._names: set[str] = {v.name for v in graph.values()}
        self._dead: set[int] = set()
        #: the nodes that got another operator or were erased, as it happened
        self.journal: list[Node] = []

    # -- reading -----------------------------------------------------------------------------------------------
    def nodes(self, *kinds: type[Operator]) -> list[Node]:
        """The living nodes (of the given operator classes), as they stood when called."""
        return [n for n in self.graph.nodes if id(n) not in self._dead and (not kinds or isinstance(n.op, kinds))]

    def alive(self, node: Node) -> bool:
        return id(node) not in self._dead

    def array(self, value: Value) -> np.ndarray | None:
        """The constant behind ``value``, or None."""
        return self.graph.weights.get(value)

    def is_output(self, value: Value) -> bool:
        return any(v is value for v in self.graph.outputs)

    def maker(self, value: Value, *kinds: type[Operator]) -> Node | None:
        """The node that makes ``value``, if it is one of ``kinds`` (any when none is given)."""
        node = self.producer.get(value)
        if node is None or (kinds and not isinstance(node.op, kinds)):
            return None
        return node

    def only_user(self, value: Value, *kinds: type[Operator]) -> Node | None:
        """The single node that reads ``value`` once, when nothing else sees it (it is no network output)."""
        users = self.users.get(value, [])
        if len(users) != 1 or self.is_output(value):
            return None
        return users[0] if not kinds or isinstance(users[0].op, kinds) else None

    # -- changing ----------------------------------------------------------------------------------------------
    def fresh(self, stem: str) -> str:
        """A name nothing else has, beginning with ``stem``, in which a last word that repeats stands once."""
        stem = _REPEATED.sub(r"\1", stem)
        name, i = stem, 1
        while name in self._names:
            name, i = f"{stem}.{i}", i + 1
        self._names.add(name)
        return name

    def constant(self, array: np.ndarray, name: str) -> Value:
        """A new constant under a fresh name."""
        value = self.graph.constant(array, self.fresh(name))
        self.users[value] = []
        return value

    def add(self, op: Operator, inputs: Sequence[Value], like: Node, name: str = "") -> Value:
        """A new node with the scope and origin of ``like``; returns its first output."""
        node = self.graph.add(op, inputs, scope=like.scope, origin=like.origin)
        for i, value in enumerate(node.outputs):
            value.name = self.fresh(name or f"{like.output.name}.{op.name.lower()}{i or ''}")
            self.producer[value] = node
            self.users[value] = []
        for value in inputs:
            self.users[value].append(node)
        return node.output

    def update(self, node: Node, op: Operator | None = None, inputs: Sequence[Value] | None = None) -> None:
        """Change ``node`` in place: its outputs (and so names, source views and readers) stay.

        The outputs' shapes and dtypes are inferred anew; a changed shape clears the source view.
        """
        if inputs is not None:
            for value in node.inputs:
                self.users[value].remove(node)
            node.inputs = list(inputs)
            for value in inputs:
                self.users[value].append(node)
        if op is not None and op is not node.op:
            node.op = op
            self.journal.append(node)
        for value, spec in zip(node.outputs, node.op.infer(*(v.spec for v in node.inputs)), strict=True):
            if value.shape != spec.shape:
                value.source = None
            value.shape, value.dtype = spec.shape, spec.dtype

    def redirect(self, old: Value, new: Value) -> None:
        """Everything that read ``old`` (network outputs too) now reads ``new``; ``new`` takes over its source view.

        Both must hold the same values in the same shape.
        """
        for node in list(self.users.get(old, [])):
            node.inputs = [new if v is old else v for v in node.inputs]
            self.users[new].append(node)
        self.users[old] = []
        self.graph.outputs = [new if v is old else v for v in self.graph.outputs]
        constant = new in self.graph.weights and new not in self.graph.outputs
        if new.source is None and not constant and new not in self.graph.inputs:
            new.source = old.source

    def erase(self, node: Node) -> None:
        """Remove a node whose outputs nobody reads any more."""
        for value in node.inputs:
            self.users[value].remove(node)
        self._dead.add(id(node))
        self.journal.append(node)
        for value in node.outputs:
            self.producer.pop(value, None)

    def finish(self) -> None:
        """Drop the erased nodes and restore a valid order (the driver calls it)."""
        if self._dead:
            self.graph.nodes = [n for n in self.graph.nodes if id(n) not in self._dead]
        self.graph.sort()
        self.graph.prune()

    def replace(self, node: Node, value: Value) -> None:
        """Let ``value`` stand for the single output of ``node``, and remove the node."""
        self.redirect(node.output, value)
        self.erase(node)

    def splice(self, node: Node, op: Operator, inputs: Sequence[Value]) -> None:
        """Turn ``node`` into ``op(inputs)``, keeping its output Value (same shape required)."""
        shape = node.output.shape
        source = node.output.source
        self.update(node, op, inputs)
        if node.output.shape != shape:
            raise ValueError(f"{node.describe()}: rewriting to {op} changed the shape {shape} to {node.output.shape}")
        node.output.source = source
