"""A network as a program: classes with arguments, what each makes and what it computes; equal blocks are one class."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instep.emit.code.blocks import CodeLeaf, Outline, outlined
from instep.emit.code.call import Call, Dialect, Weight
from instep.emit.code.paths import Path
from instep.emit.code.statements import plain
from instep.graph.core import Graph, Value
from instep.graph.text.fold import Folded, fold, titles_of
from instep.graph.text.naming import Item, Shape
from instep.graph.text.outline import Block

__all__ = ["Class", "Constant", "Line", "Member", "Program", "program"]


@dataclass
class Constant:
    """A parameter or a buffer. ``fields`` has its ``shape``, or its numbers as ``value`` where the code says them."""

    dtype: str
    trained: bool
    fields: dict[str, Any]
    fill: float | None = None


@dataclass
class Member:
    """What a class makes: at ``path`` within itself a layer, an object of another class, a constant, or a row of them.

    Fields and arguments hold plain data, or a ``Name``: an expression of the class's own arguments.
    """

    path: Path
    call: Call | None = None
    inner: Class | None = None
    constant: Constant | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    #: members that are called one after the other
    row: list[Member] = field(default_factory=list)


@dataclass
class Line:
    """One computation: an expression (``call``), or a member called with the inputs. Values are numbered in a class."""

    outputs: list[str]
    inputs: list[str]
    call: Call | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    #: the member that it calls
    path: Path = ()
    #: the scope that it came from, within the class
    scope: Path = ()


@dataclass
class Class:
    """A class of the program."""

    name: str
    #: its arguments and their types
    args: dict[str, str]
    inputs: list[str]
    outputs: list[str]
    members: list[Member] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    #: values that are members' arrays: by the value's name the path of the array
    arrays: dict[str, Path] = field(default_factory=dict)
    #: how often it is made in all
    count: int = 1
    scope: str = ""


@dataclass
class Program:
    """All classes, inner ones first, the network last; and every array by its path from the network on."""

    classes: list[Class]
    weights: dict[Path, Weight]
    #: arrays that two layers share: the path of the second and that of the first
    ties: dict[Path, Path]
    helpers: set[str]
    graph: Graph

    @property
    def main(self) -> Class:
        return self.classes[-1]


@dataclass
class CodeItem(Item):
    """An item with its call and its place."""

    path: Path = ()
    call: Call | None = None
    constant: Constant | None = None
    scope: Path = ()
    array: Path = ()


def program(graph: Graph, dialect: Dialect) -> Program:
    """``graph`` as classes. NoCode where ``dialect`` has no form for an operator."""
    outline = outlined(graph, dialect, getattr(dialect, "reserved", ()))
    shaper = _Shaper(outline, graph)
    # scopes are paths of identifiers by now
    titles = {".".join(outline.paths.of(scope)): title for scope, title in titles_of(graph).items()}
    main, rest = fold(shaper.shape(outline.root, list(graph.inputs), list(graph.outputs)), derive=True, titles=titles)
    made: dict[int, Class] = {}
    for folded in [*rest, main]:
        made[id(folded)] = _class(folded, made)
    leaves = [leaf for leaf in outline.root.leaves() if isinstance(leaf, CodeLeaf)]
    weights, ties = _weights(leaves, shaper)
    helpers = {h for leaf in leaves for h in leaf.call.helpers}
    return Program(list(made.values()), weights, ties, helpers, graph)


def _weights(leaves: list[CodeLeaf], shaper: _Shaper) -> tuple[dict[Path, Weight], dict[Path, Path]]:
    found: dict[Path, Weight] = {}
    ties: dict[Path, Path] = {}
    first: dict[tuple[Any, ...], Path] = {}
    for leaf in leaves:
        for key, weight in leaf.call.weights.items():
            path = (*leaf.path, key)
            found[path] = weight
            same = (weight.value, weight.perm, weight.shape)
            if not _uniform(shaper.graph.weights[weight.value]) and first.setdefault(same, path) != path:
                ties[path] = first[same]
    return found | shaper.weights, ties


def _uniform(array: np.ndarray) -> bool:
    """Whether all numbers are one: files keep such arrays once for layers that have nothing to do with each other."""
    return bool(np.all(array == array.flat[0])) if array.size else True


class _Shaper:
    """Blocks as shapes whose keys are all but the values of fields."""

    def __init__(self, outline: Outline, graph: Graph) -> None:
        self.outline = outline
        self.graph = graph
        #: weights that the source keeps and does not train
        self.buffers = frozenset(graph.meta.get("buffers", ()))
        self.readers: dict[Value, int] = {}
        self.weights: dict[Path, Weight] = {}
        for leaf in outline.root.leaves():
            for value in leaf.inputs:
                self.readers[value] = self.readers.get(value, 0) + 1
        for value in graph.outputs:
            self.readers[value] = self.readers.get(value, 0) + 1

    def shape(self, block: Block, inputs: list[Value], outputs: list[Value]) -> Shape:
        at = _depth(block)
        local = {v: f"x{n}" for n, v in enumerate(inputs)}
        shape = Shape(block.scope, tuple(local.values()), [], None)

        def enter(item: CodeItem, gives: list[Value], items: list[Item] = shape.items) -> None:
            fresh = [f"v{len(local) + n}" for n in range(len(gives))]
            local.update(zip(gives, fresh, strict=True))
            item.names = tuple(fresh)
            items.append(item)

        # they come behind the layers, whose fields name the arguments better
        constants: list[Item] = []
        for value, path in self.outline.owned.get(id(block), []):
            enter(self.constant(value, path, at), [value], constants)
        for value, path, key in self.outline.shown.get(id(block), []):
            enter(CodeItem((), "array", None, {}, array=(*path[at:], key)), [value], constants)
        for item in block.items:
            if isinstance(item, Block):
                reads, gives = self.traffic(item)
                child = self.shape(item, reads, gives)
                shape.height = max(shape.height, child.height + 1)
                path = tuple(item.scope.split("."))[at:]
                given = tuple(local[v] for v in reads)
                enter(CodeItem((), "", given, {}, child, _stem(path), path), gives)
                continue
            assert isinstance(item, CodeLeaf)
            path = item.path[at:] if item.layered else ()
            given = tuple(local[v] for v in item.inputs)
            made = CodeItem(
                (), item.kind, given, dict(item.fields), None, _stem(path), path, item.call, scope=item.path[at:]
            )
            enter(made, item.outputs)
        shape.items += constants
        paths = [i.path for i in shape.items if isinstance(i, CodeItem)]
        shape.reserved = frozenset({p[0] for p in paths if p} | set(self.outline.paths.reserved))
        shape.outputs = tuple(local[v] for v in outputs)
        shape.key = (shape.inputs, shape.outputs, tuple(map(_key, shape.items)))
        return shape

    def traffic(self, block: Block) -> tuple[list[Value], list[Value]]:
        """What a block reads from around it, and what it gives back."""
        leaves = block.leaves()
        made = {v for leaf in leaves for v in leaf.outputs} | self.inside(block)
        inside: dict[Value, int] = {}
        for leaf in leaves:
            for value in leaf.inputs:
                inside[value] = inside.get(value, 0) + 1
        reads = list(dict.fromkeys(v for leaf in leaves for v in leaf.inputs if v not in made))
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
        if plain(value, array):
            fields: dict[str, Any] = {"value": _numbers(array)}
        else:
            fields = {"shape": tuple(value.shape)}
            self.weights[path] = Weight(value)
        same = array.size and trained and _uniform(array)
        made = Constant(value.dtype, trained, fields, float(array.flat[0]) if same else None)
        kind = f"constant {value.dtype} {trained} {made.fill}"
        return CodeItem((), kind, None, fields, None, _stem(path), path[at:], None, made)


def _depth(block: Block) -> int:
    return len(block.scope.split(".")) if block.scope else 0


def _stem(path: Path) -> str:
    words = [p for p in path if not p.isdecimal()]
    return words[-1] if words else ""


def _key(item: Item) -> Any:
    assert isinstance(item, CodeItem)
    inner = item.child.key if item.child is not None else None
    return (item.names, item.kind, item.inputs, tuple(item.fields), item.path, item.scope, item.array, inner)


def _numbers(array: np.ndarray) -> Any:
    if array.dtype == np.float32:
        return np.array([float(str(v)) for v in array.ravel()], np.float64).reshape(array.shape).tolist()
    return array.tolist()


def _class(folded: Folded, made: dict[int, Class]) -> Class:
    shape = folded.shape
    result = Class(folded.name, dict(folded.args), list(shape.inputs), list(shape.outputs or ()), scope=shape.scope)
    members: dict[Path, Member] = {}
    for place, item in enumerate(shape.items):
        assert isinstance(item, CodeItem)
        fields = folded.fields[place]
        if item.array:
            result.arrays[item.names[0]] = item.array
            continue
        if item.constant is not None:
            members[item.path] = Member(item.path, constant=item.constant, fields=fields)
            result.arrays[item.names[0]] = item.path
            continue
        line = Line(list(item.names), list(item.inputs or ()), item.call, fields, item.path, item.scope)
        if place in folded.calls:
            inner, arguments = folded.calls[place]
            members[item.path] = Member(item.path, inner=made[id(inner)], fields=arguments)
        elif item.path:
            members.setdefault(item.path, Member(item.path, item.call, fields=fields))
        result.lines.append(line)
    result.members = list(members.values())
    return result


def describe(found: Program) -> str:
    """The classes in short, for people who look into this."""
    return json.dumps([[c.name, c.args, [".".join(m.path) for m in c.members], len(c.lines)] for c in found.classes])
