"""A network as a program: classes with arguments, what each makes and what it computes; equal blocks are one class."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from instep.emit.code.blocks import CodeLeaf, outlined
from instep.emit.code.call import Call, Dialect, Weight
from instep.emit.code.paths import Path
from instep.emit.code.scans import Scan
from instep.emit.code.shaping import CodeItem, Constant, Shaper, uniform
from instep.graph.core import Graph
from instep.graph.text.fold import Folded, Name, fold
from instep.graph.text.titles import titles_of

__all__ = ["Class", "Constant", "Line", "Member", "Program", "Rounds", "layers_of", "program"]


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
    #: what the results are in the graph, as words
    words: tuple[str, ...] = ()
    #: it is a loop
    rounds: Rounds | None = None

    def within(self) -> Iterator[Line]:
        """The line itself, or all lines of the loop that it is."""
        if self.rounds is None:
            yield self
            return
        for line in self.rounds.lines:
            yield from line.within()


@dataclass
class Rounds:
    """A loop: lines that are computed ``count`` times, with values of their own names.

    A round reads ``inputs``. ``reads`` says of each what it is (CARRIED, with its place in ``gives``; SAME; EACH) and
    which inputs of the loop's line it comes from: where it begins, one for all rounds, or one for each. A round gives
    ``outputs``; ``gives`` says what becomes of each (CARRIED, KEPT, LAST) and which outputs of the line those are.
    """

    count: Any
    #: the name that fields have the number of the round by
    index: str
    lines: list[Line]
    inputs: list[str]
    outputs: list[str]
    reads: list[tuple[str, int | None, list[str]]]
    gives: list[tuple[str, list[str]]]
    #: it can be one call
    scan: Scan | None = None


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

    def all_lines(self) -> Iterator[Line]:
        """Its lines, those within loops too."""
        for line in self.lines:
            yield from line.within()


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


def layers_of(made: Class, above: Path = ()) -> Iterator[tuple[Path, Call]]:
    """All layers within ``made``, which lies at ``above``, with their paths."""
    for member in (m for held in made.members for m in held.row or [held]):
        path = (*above, *member.path)
        if member.call is not None and member.call.layer:
            yield path, member.call
        if member.inner is not None:
            yield from layers_of(member.inner, path)


def program(graph: Graph, dialect: Dialect) -> Program:
    """``graph`` as classes. NoCode where ``dialect`` has no form for an operator."""
    outline = outlined(graph, dialect, getattr(dialect, "reserved", ()))
    shaper = Shaper(outline, graph, eager=dialect.eager, scans=dialect.scans)
    # scopes are paths of identifiers by now
    titles = {".".join(outline.paths.of(scope)): title for scope, title in titles_of(graph).items()}
    main, rest = fold(shaper.shape(outline.root, list(graph.inputs), list(graph.outputs)), derive=True, titles=titles)
    made: dict[int, Class] = {}
    for folded in [*rest, main]:
        if not folded.shape.round:
            made[id(folded)] = _class(folded, made)
    leaves = [leaf for leaf in outline.root.leaves() if isinstance(leaf, CodeLeaf)]
    weights, ties = _weights(leaves, shaper)
    helpers = {h for leaf in leaves for h in leaf.call.helpers} | shaper.helpers
    return Program(list(made.values()), weights, ties, helpers, graph)


def _weights(leaves: list[CodeLeaf], shaper: Shaper) -> tuple[dict[Path, Weight], dict[Path, Path]]:
    found: dict[Path, Weight] = {}
    ties: dict[Path, Path] = {}
    first: dict[Weight, Path] = {}
    for leaf in leaves:
        for key, weight in leaf.call.weights.items():
            path = (*leaf.path, key)
            found[path] = weight
            same = weight
            if not uniform(weight.of(shaper.graph.weights)) and first.setdefault(same, path) != path:
                ties[path] = first[same]
    return found | shaper.weights, ties


def _class(folded: Folded, made: dict[int, Class]) -> Class:
    shape = folded.shape
    result = Class(folded.name, dict(folded.args), list(shape.inputs), list(shape.outputs or ()), scope=shape.scope)
    members: dict[Path, Member] = {}
    result.lines = _lines(folded, made, members, result.arrays)
    result.members = list(members.values())
    return result


def _lines(folded: Folded, made: dict[int, Class], members: dict[Path, Member], arrays: dict[str, Path]) -> list[Line]:
    """The lines of a struct, and what is made for them. A loop's own layers are made where it stands."""
    lines: list[Line] = []
    for place, item in enumerate(folded.shape.items):
        assert isinstance(item, CodeItem)
        fields = folded.fields[place]
        if item.array:
            arrays[item.names[0]] = item.array
            continue
        if item.constant is not None:
            members[item.path] = Member(item.path, constant=item.constant, fields=fields)
            arrays[item.names[0]] = item.path
            continue
        line = Line(list(item.names), list(item.inputs or ()), item.call, fields, item.path, item.scope, item.words)
        if item.loop is not None:
            inner, arguments = folded.calls[place]
            line.rounds = _rounds(item, inner, arguments, fields["count"], made, members)
        elif place in folded.calls:
            inner, arguments = folded.calls[place]
            members[item.path] = Member(item.path, inner=made[id(inner)], fields=arguments)
        elif item.path:
            members.setdefault(item.path, Member(item.path, item.call, fields=fields))
        lines.append(line)
    return lines


def _rounds(
    item: CodeItem,
    inner: Folded,
    arguments: dict[str, Any],
    count: Any,
    made: dict[int, Class],
    members: dict[Path, Member],
) -> Rounds:
    """A loop whose rounds are ``inner``, called with ``arguments``, which count by i."""
    words = {w for i in inner.shape.items if isinstance(i, CodeItem) for w in i.words}
    index = next(n for n in ("i", "t", "k", "n", "index", "round_number") if n not in words)
    given = {k: Name(re.sub(r"\bi\b", index, v)) if isinstance(v, Name) else v for k, v in arguments.items()}
    own: dict[Path, Member] = {}
    lines = _lines(inner, made, own, {})
    for line in lines:
        line.fields = {k: _filled(v, given) for k, v in line.fields.items()}
    for path, member in own.items():
        member.fields = {k: _filled(v, given) for k, v in member.fields.items()}
        members.setdefault(path, member)
    assert item.loop is not None
    shape = inner.shape
    return Rounds(count, index, lines, list(shape.inputs), list(shape.outputs or ()), *item.loop)


def _filled(value: Any, given: dict[str, Any]) -> Any:
    """A field with what a struct's arguments are in their places."""
    if isinstance(value, tuple):
        return tuple(_filled(v, given) for v in value)
    if not isinstance(value, Name):
        return value
    if value in given:
        return given[value]

    def put(found: re.Match[str]) -> str:
        text = str(given.get(found[0], found[0]))
        return f"({text})" if " " in text else text

    return Name(re.sub(r"[A-Za-z_]\w*", put, value))


def describe(found: Program) -> str:
    """The classes in short, for people who look into this."""
    return json.dumps([[c.name, c.args, [".".join(m.path) for m in c.members], len(c.lines)] for c in found.classes])
