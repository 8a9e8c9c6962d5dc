"""What is known where statements are written: the names that values have, and which are still read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from instep.emit.code.call import Dialect
from instep.emit.code.paths import Path
from instep.emit.code.program import Line
from instep.emit.code.statements import identifier, unique
from instep.graph import ops
from instep.graph.text.fold import Name
from instep.graph.text.table import snake

__all__ = ["PARTS", "Body", "Text", "arguments_of", "called", "elements", "written"]

#: Values called so are parts of others.
PARTS = {"slice", "split", "split_with_sizes", "chunk", "unbind"}
#: What a trace calls values after functions that have other names here.
_TRACED = {"matmul", "bmm", "cat", "select", "view", "expand_as", "view_as", "type_as", "unflatten", "contiguous"}
#: Values called so have no names.
_OPERATORS = frozenset(snake(name) for name in vars(ops)) | {"value", *PARTS, *_TRACED}


def written(dialect: Dialect, value: object) -> str:
    """A field's value as code: a class's argument, or plain data."""
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, tuple):
        return f"({', '.join(written(dialect, v) for v in value)}{',' * (len(value) == 1)})"
    return dialect.literal(value)


def arguments_of(value: object) -> set[str]:
    """The class's arguments that a field is said by."""
    if isinstance(value, tuple):
        return {a for v in value for a in arguments_of(v)}
    return set(re.findall(r"[A-Za-z_]\w*", value)) if isinstance(value, Name) else set()


@dataclass
class Text:
    """A value as it is written."""

    text: str
    #: a name, a call or an attribute: it needs no parentheses anywhere
    primary: bool = True


@dataclass
class Body:
    """What is known where statements are written: in a method or function, or within one of its loops."""

    lines: list[Line]
    outputs: list[str]
    dialect: Dialect
    member: Callable[[Path], str]
    #: names that values cannot have
    used: set[str]
    texts: dict[str, Text] = field(default_factory=dict)
    #: which value a name has at the moment
    holds: dict[str, str] = field(default_factory=dict)
    #: the number of the line that reads a value last
    last: dict[str, float] = field(default_factory=dict)
    reads: Counter[str] = field(default_factory=Counter)
    #: arguments of the class that the statements read
    arguments: set[str] = field(default_factory=set)
    invoke: Callable[[Path, list[str]], str] | None = None
    own: str = "self."
    #: the number of the round, in a loop
    index: str = ""
    #: lists that loops have filled, and with how many values
    lists: dict[str, int] = field(default_factory=dict)
    #: those among them that are arrays, which scans have given
    arrays: set[str] = field(default_factory=set)
    #: what the method is called with: what has these names keeps them
    given: frozenset[str] = frozenset()
    #: what values are to those that read them
    roles: dict[str, str] = field(default_factory=dict)
    #: results that need no name where the last line makes them
    inline: set[str] = field(default_factory=set)
    #: the names of what a loop carries, by the value that takes it
    carried: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reads = Counter(v for line in self.lines for v in line.inputs) + Counter(self.outputs)
        for number, line in enumerate(self.lines):
            self.last |= dict.fromkeys(line.inputs, number)
            given = zip(line.inputs, line.call.roles if line.call else (), strict=False)
            self.roles |= {value: word for value, word in given if word}
        self.last |= dict.fromkeys(self.outputs, len(self.lines))

    def give(self, value: str, name: str) -> None:
        """``value`` is called ``name`` from here on."""
        self.texts[value] = Text(name)
        self.holds[name] = value

    def alive(self, name: str, number: float) -> bool:
        """Whether the value that ``name`` has is read behind line ``number``."""
        return name in self.holds and self.last.get(self.holds[name], -1) > number

    def free(self, stem: str, number: float) -> str:
        """A name like ``stem`` that nothing has which is still read."""
        taken = {n for n in self.holds if self.alive(n, number)} | self.used | set(self.carried.values())
        return unique(identifier(stem), taken)

    def literal(self, value: object) -> str:
        """A field that an expression reads; the class's arguments are attributes of its objects."""
        text = written(self.dialect, value)
        for argument in arguments_of(value) - {self.index}:
            self.arguments.add(argument)
            text = re.sub(rf"\b{argument}\b", f"{self.own}{argument}", text)
        return text

    def starred(self, text: str) -> str:
        """``text`` with whole lists instead of their elements one by one."""
        for name, count in self.lists.items():
            each = elements(name, count)
            for order, found in ((each, name), (each[::-1], f"{name}[::-1]")):
                joined = re.escape(", ".join(order))
                text = re.sub(rf"\[{joined}\]", found, text)
                text = re.sub(rf"(?<![\w.]){joined}(?!\w)", f"*{found}", text)
        return text

    def made(self, value: str) -> str:
        """What a value is in the graph, where that is no operator's name."""
        return next((called(line, value) for line in self.lines if value in line.outputs), "")


def called(line: Line, value: str) -> str:
    """What a value that ``line`` makes is in the graph, where that is no operator's name."""
    word = line.words[line.outputs.index(value)].lower() if line.words else ""
    return "" if word in _OPERATORS else word


def elements(name: str, count: int) -> list[str]:
    """The elements of a list, one by one."""
    return [*(f"{name}[{n}]" for n in range(count - 1)), f"{name}[-1]"]
