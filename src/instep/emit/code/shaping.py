"""Blocks of calls as shapes: local names, and keys of all but the values of fields, by which equal blocks fold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from instep.emit.code.blocks import CodeLeaf, Outline
from instep.emit.code.call import Call, Weight
from instep.emit.code.paths import Path
from instep.emit.code.scans import Finder, Scan, Scans
from instep.emit.code.statements import plain
from instep.graph.core import Graph, Value
from instep.graph.text.outline import CARRIED, EACH, KEPT, Block, Loop
from instep.graph.text.shape import Item, Shape
from instep.graph.text.spelling import numbers

__all__ = ["CodeItem", "Constant", "Shaper", "uniform"]


@dataclass
class Constant:
    """A parameter or a buffer. ``fields`` has its ``shape``, or its numbers as ``value`` where the code says them."""

    dtype: str
    trained: bool
    fields: dict[str, Any]
    fill: float | None = None


@dataclass
class CodeItem(Item):
    """An item with its call and its place."""

    path: Path = ()
    call: Call | None = None
    constant: Constant | None = None
    scope: Path = ()
    array: Path = ()
    words: tuple[str, ...] = ()
    #: of a loop: ``Rounds.reads``, ``Rounds.gives`` and ``Rounds.scan``
    loop: tuple[Any, Any, Scan | None] | None = None


def uniform(array: np.ndarray) -> bool:
    """Whether all numbers are one: files keep such arrays once for layers that have nothing to do with each other."""
    return bool(np.all(array == array.flat[0])) if array.size else True


class Shaper:
    """Blocks as shapes whose keys are all but the values of fields."""

    def __init__(self, outline: Outline, graph: Graph, *, eager: bool = False, scans: Scans | None = None) -> None:
        self.outline = outline
        self.graph = graph
        #: weights that the source keeps and does not train
        self.buffers = frozenset(graph.meta.get("buffers", ()))
        self.weights: dict[Path, Weight] = {}
        self.scans = Finder(graph, scans, outline.begin)
        #: functions of the prelude that loops need
        self.helpers: set[str] = set()
        self.readers = Counter(outline.begin(v) for leaf in outline.root.leaves() for v in leaf.inputs)
        self.readers.update(graph.outputs)
        self.early = _early(outline, graph) if eager else frozenset()

    def shape(self, block: Block, inputs: list[Value], outputs: list[Value]) -> Shape:
        at = _depth(block)
        local = {v: f"x{n}" for n, v in enumerate(inputs)}
        shape = Shape(block.scope, tuple(local.values()), [], None)

        fresh_numbers = count(len(local))

        def enter(item: CodeItem, gives: list[Value], items: list[Item] = shape.items) -> None:
            fresh = [f"v{next(fresh_numbers)}" for _ in gives]
            local.update(zip(gives, fresh, strict=True))
            item.names = tuple(fresh)
            items.append(item)

        # they come behind the layers, whose fields name the arguments better
        constants: list[Item] = []
        for value, path in self.outline.owned.get(id(block), []):
            enter(self.constant(value, path, at), [value], constants)
        for value, path, key in self.outline.shown.get(id(block), []):
            enter(CodeItem((), "array", None, {}, array=(*path[at:], key)), [value], constants)

        def walk(items: Sequence[Any]) -> None:
            for item in items:
                if isinstance(item, Loop):
                    local.update({v: local[self.outline.begin(v)] for v in item.stand_ins})
                    whole = self.loop(item, local)
                    if whole is None:
                        for each in item.rounds:
                            walk(each.items)
                        continue
                    found, gives = whole
                    shape.height = max(shape.height, *(r.height + 1 for r in found.rounds))
                    enter(found, gives)
                    assert found.loop is not None
                    loop_reads, kinds, scan = found.loop
                    found.loop = loop_reads, [(k, [found.names[n] for n in ns]) for k, ns in kinds], scan
                elif isinstance(item, Block):
                    reads, gives = self.traffic(item)
                    child = self.shape(item, reads, gives)
                    shape.height = max(shape.height, child.height + 1)
                    path = tuple(item.scope.split("."))[at:]
                    given = tuple(local[v] for v in reads)
                    enter(CodeItem((), "", given, {}, child, _stem(path), path), gives)
                else:
                    assert isinstance(item, CodeLeaf)
                    path = item.path[at:] if item.layered else ()
                    given = tuple(local[v] for v in item.inputs)
                    fields = dict(item.fields)
                    made = CodeItem((), item.kind, given, fields, None, _stem(path), path, item.call)
                    made.scope, made.words = item.path[at:], tuple(map(_word, item.outputs))
                    enter(made, item.outputs)

        walk(block.items)
        shape.items += constants
        paths = [i.path for i in shape.items if isinstance(i, CodeItem)]
        shape.reserved = frozenset({p[0] for p in paths if p} | set(self.outline.paths.reserved))
        shape.outputs = tuple(local[v] for v in outputs)
        shape.key = (shape.inputs, shape.outputs, tuple(map(_key, shape.items)))
        return shape

    def loop(self, loop: Loop, local: dict[Value, str]) -> tuple[CodeItem, list[Value]] | None:
        """A loop as an item and the values that it gives; None where its rounds are not alike."""
        rounds = [self.shape(r, list(r.reads or ()), list(r.gives or ())) for r in loop.rounds]
        places = [place for kind, place in loop.inputs if kind == CARRIED]
        if len({str(r.key) for r in rounds}) > 1 or len(set(places)) < len(places):
            return None
        for made in rounds:
            made.round, made.key = True, (*made.key, "round")
        reads: list[tuple[str, int | None, list[str]]] = []
        for (kind, place), *values in zip(loop.inputs, *(r.reads or () for r in loop.rounds), strict=True):
            few = values if kind == EACH else values[:1]
            reads.append((kind, place, [local[v] for v in few]))
        gives: list[Value] = []
        kinds: list[tuple[str, range]] = []
        for kind, *values in zip(loop.outputs, *(r.gives or () for r in loop.rounds), strict=True):
            few = values if kind == KEPT else values[-1:]
            kinds.append((kind, range(len(gives), len(gives) + len(few))))
            gives += few
        given = tuple(name for _, _, names in reads for name in names)
        scan = self.scans.scan(loop, lambda leaf: _given(rounds[0], leaf))
        self.helpers |= {"scan"} if scan is not None and scan.given else set()
        item = CodeItem((), "for", given, {"count": len(rounds)}, rounds[0], rounds=rounds, loop=(reads, kinds, scan))
        return item, gives

    def traffic(self, block: Block) -> tuple[list[Value], list[Value]]:
        """What a block reads from around it, and what it gives back."""
        leaves = block.leaves()
        made = {v for leaf in leaves for v in leaf.outputs} | self.inside(block)
        read = [self.outline.begin(v) for leaf in leaves for v in leaf.inputs]
        inside = Counter(read)
        reads = list(dict.fromkeys(v for v in read if v not in made))
        outputs = [v for leaf in leaves for v in leaf.outputs]
        return reads, list(dict.fromkeys(v for v in outputs if self.readers.get(v, 0) > inside.get(v, 0)))

    def inside(self, block: Block) -> set[Value]:
        """The constants that a block has."""
        found = {v for v, _ in self.outline.owned.get(id(block), [])}
        found |= {v for v, _, _ in self.outline.shown.get(id(block), [])}
        return found.union(*(self.inside(i) for i in block.items if isinstance(i, Block)))

    def constant(self, value: Value, path: Path, at: int) -> CodeItem:
        array = self.graph.weights[value]
        trained = array.dtype.kind == "f" and "/" not in value.name and value.name not in self.buffers
        if plain(value, array) and value not in self.early:
            fields: dict[str, Any] = {"value": numbers(array)}
        else:
            fields = {"shape": tuple(value.shape)}
            self.weights[path] = Weight(value)
        same = array.size and trained and uniform(array)
        made = Constant(value.dtype, trained, fields, float(array.flat[0]) if same else None)
        kind = f"constant {value.dtype} {trained} {made.fill}"
        return CodeItem((), kind, None, fields, None, _stem(path), path[at:], None, made)


def _early(outline: Outline, graph: Graph) -> frozenset[Value]:
    """Numbers in the code that a layer computes with alone, directly or by way of others: it would be called, and its
    result kept, before it has its weights."""
    sources = {v: {v} for v, array in graph.weights.items() if plain(v, array)}
    found: set[Value] = set()
    for leaf in outline.root.leaves():
        assert isinstance(leaf, CodeLeaf)
        inputs = [outline.begin(v) for v in leaf.inputs]
        if not inputs or any(v not in sources for v in inputs):
            continue
        numbers = set[Value]().union(*(sources[v] for v in inputs))
        if leaf.call.weights:
            found |= numbers
        else:
            sources.update((v, numbers) for v in leaf.outputs)
    return frozenset(found)


def _given(shape: Shape, leaf: CodeLeaf) -> str:
    """The name that what ``leaf`` gives has in ``shape``."""
    return next(i.names[0] for i in shape.items if isinstance(i, CodeItem) and i.call is leaf.call)


def _depth(block: Block) -> int:
    return len(block.scope.split(".")) if block.scope else 0


def _stem(path: Path) -> str:
    words = [p for p in path if not p.isdecimal()]
    return words[-1] if words else ""


def _key(item: Item) -> Any:
    assert isinstance(item, CodeItem)
    inner = item.child.key if item.child is not None else None
    fields = tuple(item.fields)
    return (item.names, item.kind, item.inputs, fields, item.path, item.scope, item.array, str(item.loop), inner)


def _word(value: Value) -> str:
    """What a value is by its name, without the scope and the numbers that tell it from others."""
    return re.sub(r"([._]\d+|_)+$", "", value.name.rpartition("/")[2]).rpartition(".")[2]
