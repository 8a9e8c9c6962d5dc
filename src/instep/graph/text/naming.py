"""An outline as it will be printed: local names for values, what each block reads and gives, fields to compare."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from instep.graph.core import Graph, Value
from instep.graph.text.outline import Block, Leaf
from instep.graph.text.table import LAYERS, snake

__all__ = ["Item", "Shape", "shape_of"]

_GOOD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


@dataclass
class Item:
    """A step to print: names, kind, inputs (None: what came before), fields, and the block where it is one."""

    names: tuple[str, ...]
    kind: str
    inputs: tuple[str, ...] | None
    fields: dict[str, Any]
    child: Shape | None = None
    #: what arguments are named after where the field's name is taken
    stem: str = ""


@dataclass
class Shape:
    """A block to print. ``key`` is all of it but the values of its fields: equal keys fold into one struct."""

    scope: str
    inputs: tuple[str, ...]
    items: list[Item]
    outputs: tuple[str, ...] | None
    key: Any = None
    #: constants that the text says in numbers, in order
    constants: list[Value] = field(default_factory=list)
    height: int = 0
    #: names that no argument may have
    reserved: frozenset[str] = frozenset()


@dataclass
class _Step:
    source: Leaf | Block
    reads: list[Value]
    gives: list[Value]
    weighted: bool
    suffix: str
    kind: str


def shape_of(block: Block, graph: Graph) -> Shape:
    """The printed form of the whole outline of ``graph``."""
    readers: dict[Value, int] = {}
    for leaf in block.leaves():
        for value in leaf.inputs:
            readers[value] = readers.get(value, 0) + 1
    for value in graph.outputs:
        readers[value] = readers.get(value, 0) + 1
    names = tuple(_word(n, set()) for n in graph.input_names)
    return _Namer(readers, set()).shape(block, list(graph.inputs), list(graph.outputs), names)


def _word(name: str, used: set[str]) -> str:
    """``name`` as something a step can read, unlike any of ``used``."""
    word = name if _GOOD.fullmatch(name) else re.sub(r"[^A-Za-z0-9_.\-]", "_", name).lstrip(".-") or "v"
    stem, count = word, 1
    while word in used or word == "_":
        count += 1
        word = f"{stem}_{count}"
    used.add(word)
    return word


class _Namer:
    def __init__(self, readers: dict[Value, int], shared: set[str]) -> None:
        self.readers = readers
        #: weights that have been printed: the next layer that has one of them shares it
        self.printed = shared

    def shape(self, block: Block, inputs: list[Value], outputs: list[Value], names: tuple[str, ...]) -> Shape:
        steps = [self.step(i, block.scope) for i in block.items]
        used = set(names)
        local = dict(zip(inputs, names, strict=True))
        wanted = self.wanted(steps, inputs, outputs)
        shape = Shape(block.scope, names, [], None)
        previous = inputs[:1]
        for step in steps:
            at, chosen = self.names(step, block.scope, wanted, used)
            reads = self.reads(step, previous, local)
            fields = dict(step.source.fields) if isinstance(step.source, Leaf) else {}
            shared = self.shares(step)
            if at is None and shared:
                at = step.suffix or "."
            fields["at"] = at
            child = None
            if isinstance(step.source, Block):
                inner = tuple(f"x{i}" for i in range(1, len(step.reads) + 1)) if len(step.reads) > 1 else ("x",)
                child = self.shape(step.source, step.reads, step.gives, inner[: len(step.reads)])
                shape.constants += child.constants
                shape.height = max(shape.height, child.height + 1)
            elif step.kind == "param" and fields["value"] is not None:
                shape.constants += step.gives
            shape.items.append(Item(chosen, step.kind, reads, fields, child))
            if chosen:
                local.update(zip(step.gives, chosen, strict=False))
            if step.kind != "param":
                previous = step.gives
        if len(outputs) != 1 or previous[:1] != outputs:
            shape.outputs = tuple(local[v] for v in outputs) or None
        shape.key = self.key(shape)
        return shape

    def step(self, item: Leaf | Block, scope: str) -> _Step:
        suffix = _suffix(item.scope, scope)
        if isinstance(item, Leaf):
            weighted = item.kind == "param" or bool(item.weights)
            return _Step(item, item.inputs, item.outputs, weighted, suffix, item.kind)
        leaves = item.leaves()
        made = {v for leaf in leaves for v in leaf.outputs}
        reads = list(dict.fromkeys(v for leaf in leaves for v in leaf.inputs if v not in made))
        inside: dict[Value, int] = {}
        for leaf in leaves:
            for value in leaf.inputs:
                inside[value] = inside.get(value, 0) + 1
        # constants are said wherever they are read: no block hands them to another
        computed = [v for leaf in leaves if leaf.kind != "param" for v in leaf.outputs]
        gives = [v for v in computed if self.readers.get(v, 0) > inside.get(v, 0)]
        return _Step(item, reads, list(dict.fromkeys(gives)), True, suffix, "")

    def wanted(self, steps: Sequence[_Step], inputs: list[Value], outputs: list[Value]) -> set[Value]:
        """Values that need a name: read by another step than the next, or given back from further up."""
        found: set[Value] = set()
        previous: list[Value] = inputs[:1]
        for step in steps:
            found.update(v for v in step.reads if v not in previous[:1])
            if step.kind != "param":
                previous = step.gives
        if len(outputs) != 1 or previous[:1] != outputs:
            found.update(outputs)
        return found

    def names(self, step: _Step, scope: str, wanted: set[Value], used: set[str]) -> tuple[str | None, tuple[str, ...]]:
        """What ``at`` says and the names of a step's results."""
        if step.kind == "param":
            return self.param_name(step, scope, used)
        count = len(step.gives)
        needed = step.weighted or count > 1 or bool(step.suffix) or any(v in wanted for v in step.gives)
        if not needed:
            return None, ()
        stem = step.suffix or f"{snake(step.kind) or 'part'}_1"
        first = _word(stem, used)
        at = None if step.suffix and first == step.suffix and count <= 1 else _at(step.suffix)
        return at, (first, *(_word(stem, used) for _ in range(count - 1)))

    def param_name(self, step: _Step, scope: str, used: set[str]) -> tuple[str | None, tuple[str, ...]]:
        assert isinstance(step.source, Leaf)
        full = step.gives[0].name
        if step.source.fields["value"] is not None:
            several = self.readers.get(step.gives[0], 0) > 1
            return (_braced("/" + full) if several else None), (_word("c", used),)
        inner = _suffix(full, scope) if not scope or full.startswith(scope + ".") else ""
        # a name of its own would keep blocks apart that are equal otherwise
        name = _word(inner or "w", used)
        return None if name == inner else _braced(inner or "/" + full), (name,)

    def reads(self, step: _Step, previous: list[Value], local: dict[Value, str]) -> tuple[str, ...] | None:
        if not step.reads:
            return () if step.kind != "param" and step.weighted else None
        if step.reads == previous[:1]:
            return None
        return tuple(local.get(v) or "_" for v in step.reads)

    def shares(self, step: _Step) -> bool:
        """Whether the step has weights that an earlier one has; remembers those of this step."""
        source = step.source
        leaves = [source] if isinstance(source, Leaf) else source.leaves()
        mine = {w.name for leaf in leaves for w in leaf.weights if leaf.fields.get("value") is None}
        if isinstance(source, Block):
            return bool(mine & self.printed)
        again = bool(mine & self.printed)
        self.printed |= mine
        return again

    def key(self, shape: Shape) -> Any:
        items = []
        for item in shape.items:
            declared = LAYERS[item.kind].fields if item.child is None else ()
            given = tuple(f.name for f in declared if f.name in item.fields)
            marks = (item.fields["at"] is None, item.fields.get("value") is None)
            inner = item.child.key if item.child is not None else None
            items.append((item.names, item.kind, item.inputs, given, marks, inner))
        return (shape.inputs, shape.outputs, tuple(items))


def _suffix(scope: str, outer: str) -> str:
    if not outer:
        return scope
    return scope[len(outer) + 1 :] if scope.startswith(outer + ".") else ""


def _at(suffix: str) -> str:
    return _braced(suffix) if suffix else "."


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
