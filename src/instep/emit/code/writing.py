"""A program as the text of a module; a ``Style`` says what a framework's classes look like."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from instep.emit.code.bodies import body
from instep.emit.code.call import Call, Dialect
from instep.emit.code.chains import rows
from instep.emit.code.flat import helper_source
from instep.emit.code.layout import fitted
from instep.emit.code.paths import Path
from instep.emit.code.program import Class, Constant, Member, Program
from instep.emit.code.state import arguments_of, written
from instep.emit.code.statements import constructor, identifier, unique
from instep.graph.text.fold import Name

__all__ = ["Style", "Tree", "class_name", "helpers", "members", "one_line", "write"]


@dataclass
class Tree:
    """The members of a class by the parts of their paths."""

    member: Member | None = None
    inner: dict[str, Tree] = field(default_factory=dict)
    #: it is the class itself, which is no list
    root: bool = False

    @classmethod
    def of(cls, members: Iterable[Member]) -> Tree:
        root = cls(root=True)
        for member in members:
            place = root
            for part in member.path:
                place = place.inner.setdefault(part, cls())
            place.member = member
        return root

    @property
    def listed(self) -> bool:
        """Whether what is inside is a list: numbers alone, without great gaps."""
        numbers = [int(n) for n in self.inner if n.isdecimal()]
        kinds = {bool(t.member and t.member.constant) for t in self.inner.values()}
        trained = all(t.member.constant.trained for t in self.inner.values() if t.member and t.member.constant)
        if self.root or self.member is not None or not numbers or len(numbers) < len(self.inner):
            return False
        limit = len(numbers) if True in kinds else 4 * len(numbers) + 8
        return len(kinds) == 1 and trained and max(numbers) < limit


class Style:
    """How a framework's classes are written. The methods are PyTorch's manner; other frameworks change them."""

    dialect: Dialect
    #: the class that all inherit from, and that of the network where it differs
    base = "nn.Module"
    forward = "forward"
    #: arguments that every constructor has behind its own, and those that are handed on
    constructed = ""
    handed = ""
    #: what a constructor begins with
    opening = ("super().__init__()",)
    #: what a container for members with names of their own is made by
    container = "nn.Module()"

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    # -- pieces that frameworks write differently ----------------------------------------------------------------------
    def layer(self, call: Call, literals: dict[str, str]) -> str:
        """What makes a layer."""
        return constructor(call, literals)

    def row(self, elements: list[str]) -> str:
        return f"nn.Sequential({', '.join(elements)})"

    def list_of(self, elements: list[str], constants: bool) -> str:
        return f"nn.{'ParameterList' if constants else 'ModuleList'}([{', '.join(elements)}])"

    def gap(self) -> str:
        """What stands in a list where the network has nothing."""
        return "nn.Identity()"

    def constant(self, constant: Constant, member: Member) -> str:
        """What makes a parameter, as an expression."""
        raise NotImplementedError

    def assign(self, owner: str, name: str, member: Member, text: str) -> str:
        """The statement that makes ``text`` the member ``name`` of ``owner``."""
        return f'setattr({owner}, "{name}", {text})' if name.isdecimal() else f"{owner}.{name} = {text}"

    def attribute(self, owner: str, name: str) -> str:
        return f'getattr({owner}, "{name}")' if name.isdecimal() else f"{owner}.{name}"

    # -- the whole ---------------------------------------------------------------------------------------------------
    def member(self, tree: Tree, path: Path) -> str:
        """How a method reads the member at ``path``."""
        text, place = "self", tree
        for part in path:
            listed = place is not None and place.listed
            text = f"{text}[{part}]" if listed or (place is None and part.isdecimal()) else self.attribute(text, part)
            place = place.inner.get(part) if place is not None else None  # type: ignore[assignment]
        return text

    def makers(self, tree: Tree, owner: str = "self") -> list[str]:
        """The statements of a constructor that make the members."""
        lines = []
        for name, inner in tree.inner.items():
            place = f"{owner}[{name}]" if tree.listed else self.attribute(owner, name)
            if not tree.listed:
                text = self.expression(inner)
                lines.append(self.assign(owner, name, inner.member or Member((name,)), text))
            if inner.inner:
                lines += self.makers(inner, place)
        return lines

    def expression(self, tree: Tree) -> str:
        """What makes the member at the root of ``tree``."""
        member = tree.member
        if member is None:
            if not tree.listed:
                return self.container
            held = {int(n): t for n, t in tree.inner.items()}
            constants = all(t.member and t.member.constant for t in held.values())
            return self.list_of(self.elements({n: self.expression(t) for n, t in held.items()}), constants)
        if member.row:
            return self.row(self.elements({int(m.path[-1]): self.expression(Tree(m)) for m in member.row}))
        literals = {k: written(self.dialect, v) for k, v in member.fields.items()}
        if member.constant is not None:
            return self.constant(member.constant, member)
        if member.inner is not None:
            given = [f"{k}={v}" for k, v in literals.items() if _said(member, k)]
            return f"{member.inner.name}({', '.join([*given, self.handed] if self.handed else given)})"
        assert member.call is not None
        call = Call(**{**vars(member.call), "fields": member.fields})
        return self.layer(call, literals)

    def elements(self, held: dict[int, str]) -> list[str]:
        """A list's elements; equal objects of one class that follow each other in one expression."""
        listed = [held.get(n) or self.gap() for n in range(max(held) + 1)]
        made: list[str] = []
        start = 0
        while start < len(listed):
            stop = start
            while stop < len(listed) and listed[stop] == listed[start]:
                stop += 1
            if stop - start > 2 and not listed[start].startswith("nn."):
                made.append(f"*({listed[start]} for _ in range({stop - start}))")
            else:
                made += listed[start:stop]
            start = stop
        return made

    def class_text(self, made: Class, doc: str, inputs: list[str], used: set[str]) -> str:
        """One class."""
        rows(made)
        tree = Tree.of(made.members)
        statements, kept = body(made, self.dialect, lambda path: self.member(tree, path), inputs, used)
        lines = [f"class {made.name}({self.base}):", f'    """{doc}"""', ""]
        if made.members or made.args:
            lines += fitted(f"def __init__({self.signature(made)}) -> None:", "    ")
            lines += [f"        {text}" for text in self.opening]
            lines += [f"        self.{a} = {a}" for a in made.args if a in kept]
            for text in self.makers(tree):
                lines += fitted(text, "        ")
            lines.append("")
        lines += fitted(f"def {self.forward}({', '.join(['self', *inputs])}):", "    ")
        for text in statements if statements[0] else statements[1:]:
            lines += fitted(text, "        ")
        return "\n".join(lines) + "\n"

    def signature(self, made: Class) -> str:
        """The parameters of a constructor."""
        first, last = [], []
        for name, kind in made.args.items():
            typed = f"{name}: {kind}" if kind in ("int", "float", "bool", "str") else name
            default = _defaults(made).get(name)
            if default is None:
                first.append(typed)
            else:
                last.append(f"{typed} = {default}" if ":" in typed else f"{typed}={default}")
        return ", ".join(["self", *first, *last, *([self.constructed] if self.constructed else [])])


def _said(member: Member, argument: str) -> bool:
    """Whether an argument is said where an object is made: it is not the default."""
    assert member.inner is not None
    value = member.fields[argument]
    default = _defaults(member.inner).get(argument)
    return default is None or isinstance(value, Name) or repr(value) != default


def _defaults(made: Class) -> dict[str, str]:
    """The arguments that every layer reading them has a default for, and that default."""
    found: dict[str, set[str]] = {}
    for member in members(made):
        for name, value in member.fields.items():
            default = member.call.defaults.get(name) if member.call is not None else None
            said = repr(default) if isinstance(default, bool | int | float) else ""
            for argument in arguments_of(value):
                found.setdefault(argument, set()).add(said if value == argument else "")
    alike = {argument: said.pop() for argument, said in found.items() if len(said) == 1}
    return {argument: said for argument, said in alike.items() if said}


def members(made: Class) -> Iterable[Member]:
    """What a class makes, the elements of rows one by one."""
    for member in made.members:
        yield from member.row or [member]


def class_name(text: str, used: set[str]) -> str:
    """A class's name from free text: ``rfdn (NTIRE 2022)`` is Rfdn."""
    words = re.findall(r"[A-Za-z0-9]+", text.partition("(")[0])[:4]
    name = "".join(w[:1].upper() + w[1:] for w in words)
    return unique(identifier(name or "Network"), used)


def one_line(text: Any, width: int = 80) -> str:
    """Free text that is safe in a docstring, on one line; as much of it as ``width`` characters hold."""
    kept = "".join(c if c.isprintable() and c not in '\\"' else " " for c in str(text))
    words = " ".join(kept.split())
    if len(words) > width:
        words = re.split(r"[;.,] ", words)[0] if width < 100 else words
        words = words[: width + 1].rpartition(" ")[0] if len(words) > width else words
    return words


def helpers(found: Program, dialect: Dialect) -> str:
    return helper_source(found.helpers, dialect)


def write(found: Program, style: Style, name: str, reserved: set[str]) -> list[str]:
    """The classes of a program as texts, inner ones first. ``reserved`` are the module's names."""
    used = {*reserved, *style.dialect.prelude, "self"}
    for made in found.classes:
        made.name = class_name(name, used) if made is found.main else class_name(made.name, used)
    count = Counter(m.inner.name for c in found.classes for m in c.members if m.inner)
    texts = []
    for made in found.classes:
        if made is found.main:
            seen = set(used)
            inputs = [unique(identifier(n), seen) for n in found.graph.input_names]
            doc = one_line(found.graph.meta.get("doc") or found.graph.meta.get("name") or made.name)
            results = _results(found, inputs)
        else:
            results = ""
            inputs = ["x"] if len(made.inputs) == 1 else [f"x{n + 1}" for n in range(len(made.inputs))]
            doc = f"{one_line(made.scope)}" + (f" and {count[made.name] - 1} more" if count[made.name] > 1 else "")
        texts.append(style.class_text(made, f"{doc or made.name}.{results}", inputs, used))
    return texts


def _results(found: Program, inputs: list[str]) -> str:
    """What a docstring says of several outputs: their names, in order, and the input that each state goes back into."""
    graph = found.graph
    states = {after: before for before, after in graph.meta.get("state", {}).items()}
    told = any(not re.fullmatch(r"output(_\d+)?", n) for n in graph.output_names)
    if not states and (len(graph.outputs) < 2 or not told):
        return ""
    places = dict(zip(graph.input_names, inputs, strict=True))
    back = {n: f" (the next {places[states[n]]})" for n in graph.output_names if states.get(n) in places}
    said = ", ".join(f"{one_line(n)}{back.get(n, '')}" for n in graph.output_names)
    lines = textwrap.wrap(f"Gives {said}.", 100, break_long_words=False, break_on_hyphens=False)
    return "\n".join(["\n", *(f"    {line}" for line in lines), "    "])
