"""The statements of a class: names for its values, and short expressions within others."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from instep.emit.code.call import Dialect
from instep.emit.code.paths import Path
from instep.emit.code.program import Class, Line, Rounds
from instep.emit.code.statements import expression, identifier, unique
from instep.graph import ops
from instep.graph.text.fold import Name
from instep.graph.text.outline import CARRIED, EACH, KEPT, LAST, SAME
from instep.graph.text.table import snake

__all__ = ["body", "written"]

#: Values called so are parts of others.
_CUT = {"slice", "split", "chunk", "unbind"}
#: Values called so have no names.
_OPERATORS = frozenset(snake(name) for name in vars(ops)) | {"value", "matmul", "bmm", "cat", "select", "view", *_CUT}
#: What comes to no more characters stands within another expression.
SHORT = 76


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
class _Value:
    text: str
    #: a name, a call or an attribute: it needs no parentheses anywhere
    primary: bool = True


@dataclass
class _Body:
    """What is known where statements are written: in a method or function, or within one of its loops."""

    lines: list[Line]
    outputs: list[str]
    dialect: Dialect
    member: Callable[[Path], str]
    #: names that values cannot have
    used: set[str]
    texts: dict[str, _Value] = field(default_factory=dict)
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
            self.roles |= dict(zip(line.inputs, line.call.roles if line.call else (), strict=False))
        self.last |= dict.fromkeys(self.outputs, len(self.lines))

    def give(self, value: str, name: str) -> None:
        """``value`` is called ``name`` from here on."""
        self.texts[value] = _Value(name)
        self.holds[name] = value

    def alive(self, name: str, number: float) -> bool:
        """Whether the value that ``name`` has is read behind line ``number``."""
        return name in self.holds and self.last.get(self.holds[name], -1) > number

    def free(self, stem: str, number: float) -> str:
        """A name like ``stem`` that nothing has which is still read."""
        taken = {n for n in self.holds if self.alive(n, number)} | self.used | set(self.carried.values())
        return unique(identifier(stem), taken)


def body(
    made: Class,
    dialect: Dialect,
    member: Callable[[Path], str],
    inputs: list[str],
    used: set[str],
    invoke: Callable[[Path, list[str]], str] | None = None,
    own: str = "self.",
) -> tuple[list[str], set[str]]:
    """The statements of ``made``, ``return`` included, and those of its arguments that they read.

    Statements within loops begin with blanks. ``invoke`` writes the call of a member with inputs where it is no object
    that is called, ``own`` stands before the class's arguments.
    """
    inline = set(made.outputs) if len(made.outputs) == 1 else set()
    state = _Body(made.lines, made.outputs, dialect, member, used, invoke=invoke, own=own)
    state.inline, state.given = inline, frozenset(made.inputs)
    for value, path in made.arrays.items():
        state.texts[value] = _Value(member(path))
    for value, name in zip(made.inputs, inputs, strict=True):
        state.give(value, name)
    statements = _statements(state)
    results = _starred(state, ", ".join(state.texts[v].text for v in made.outputs))
    whole = results.startswith("*") and "," not in results  # a star needs something beside it
    statements.append(f"return {f'tuple({results[1:]})' if whole else results}")
    return statements, state.arguments


def _statements(state: _Body) -> list[str]:
    statements: list[str] = []
    for number, line in enumerate(state.lines):
        if line.rounds is not None:
            statements += _loop(state, number, line, line.rounds)
            continue
        text, primary = _expression(state, line)
        if _within(state, number, text, primary):
            state.texts[line.outputs[0]] = _Value(text, primary)
            continue
        names = [_named(state, value, line, number) for value in line.outputs]
        statements.append(f"{_unpacked(line, names)} = {text}")
    return statements


def _unpacked(line: Line, names: list[str]) -> str:
    """What stands before the = of a line."""
    if line.call is None or not line.call.gives:
        return ", ".join(names)
    return line.call.gives.format(*names).replace("(_, _)", "_")


# -- loops -------------------------------------------------------------------------------------------------------------
def _loop(state: _Body, number: int, line: Line, rounds: Rounds) -> list[str]:
    """A loop: what it begins with, its head and what it does; values from several rounds are in lists."""
    before: list[str] = []
    inner = _Body(
        rounds.lines, rounds.outputs, state.dialect, state.member, state.used, invoke=state.invoke, own=state.own,
        arguments=state.arguments, index=rounds.index, lists=dict(state.lists),
    )  # fmt: skip
    # what is read of further out is read in every round; values have names of their own there
    inner.holds = {n: f"outer {n}" for n in state.holds if state.alive(n, number - 1)}
    inner.last |= {f"outer {n}": math.inf for n in inner.holds}
    inner.used = state.used | {rounds.index}
    # what is carried has a name of its own, or that of what it begins with where nothing else reads that
    begins: dict[str, str] = {}
    starts = {place: names[0] for kind, place, names in rounds.reads if kind == CARRIED}
    for place, ((kind, names), value) in enumerate(zip(rounds.gives, rounds.outputs, strict=True)):
        if kind != CARRIED:
            continue
        begin, word = starts[place], _made(inner, value)
        text = name = state.texts[begin].text
        over = name in state.holds and state.last.get(begin, -1) <= number and line.inputs.count(begin) == 1
        over = over and begin not in state.given
        if word not in ("", name) or not over:
            name = inner.free(word or "state", -1)
            begins[name] = text
        inner.carried[value] = name
        state.give(names[0], name)
    for (kind, place, names), value in zip(rounds.reads, rounds.inputs, strict=True):
        if kind == CARRIED and place is not None:
            inner.give(value, inner.carried[rounds.outputs[place]])
        elif kind == SAME:
            inner.texts[value] = state.texts[names[0]]
    if all(re.fullmatch(r"[\w.]+", text) for text in begins.values()) and begins:
        before.append(f"{', '.join(begins)} = {', '.join(begins.values())}")
    else:
        before += [f"{name} = {text}" for name, text in begins.items()]
    # what is read of another value in each round
    each: list[tuple[str, str]] = []
    for (kind, _, names), value in zip(rounds.reads, rounds.inputs, strict=True):
        if kind == EACH:
            name = inner.free("x", -1)
            inner.give(value, name)
            inner.last[value] = max(inner.last.get(value, 0), 0)
            each.append((name, _iterable(state, [state.texts[v].text for v in names])))
    # what is kept
    kept: list[tuple[str, str]] = []
    for (kind, names), value in zip(rounds.gives, rounds.outputs, strict=True):
        if kind == KEPT:
            name = inner.free("ys", -1)
            inner.used = inner.used | {name}
            kept.append((name, value))
            inner.inline.add(value)
            before.append(f"{name} = []")
            state.lists[name] = len(names)
            latest = max((state.last.get(v, -1) for v in names), default=-1)
            state.holds[name] = f"{name} of {number}"
            state.last[state.holds[name]] = latest
            state.texts |= {v: _Value(text) for v, text in zip(names, _elements(name, len(names)), strict=True)}
    inside = _statements(inner)
    for name, value in kept:
        inside.append(f"{name}.append({inner.texts[value].text})")
    moved = {n: inner.texts[v].text for v, n in inner.carried.items() if inner.texts[v].text != n}
    if moved:
        inside.append(f"{', '.join(moved)} = {', '.join(moved.values())}")
    for (kind, names), value in zip(rounds.gives, rounds.outputs, strict=True):
        if kind == LAST:
            state.give(names[0], inner.texts[value].text)
    head = _head(state, rounds, each, inside)
    if kept and inside == [f"{kept[0][0]}.append({inner.texts[kept[0][1]].text})"]:
        return [*before[:-1], f"{kept[0][0]} = [{inner.texts[kept[0][1]].text} {head[:-1]}]"]
    return [*before, head, *(f"    {text}" for text in inside)]


def _iterable(state: _Body, texts: list[str]) -> str:
    """What a loop goes through to have one of ``texts`` in each round."""
    found = _starred(state, ", ".join(texts))
    return found[1:] if found.startswith("*") and "," not in found else f"({found})"


def _starred(state: _Body, text: str) -> str:
    """``text`` with whole lists instead of their elements one by one."""
    for name, count in state.lists.items():
        elements = _elements(name, count)
        for order, found in ((elements, name), (elements[::-1], f"{name}[::-1]")):
            joined = re.escape(", ".join(order))
            text = re.sub(rf"\[{joined}\]", found, text)
            text = re.sub(rf"(?<![\w.]){joined}(?!\w)", f"*{found}", text)
    return text


def _elements(name: str, count: int) -> list[str]:
    """The elements of a list, one by one."""
    return [*(f"{name}[{n}]" for n in range(count - 1)), f"{name}[-1]"]


def _head(state: _Body, rounds: Rounds, each: list[tuple[str, str]], inside: list[str]) -> str:
    """The statement that begins a loop."""
    count = _literal(state, rounds.count)
    counted = any(re.search(rf"\b{rounds.index}\b", text) for text in inside)
    names, things = ", ".join(n for n, _ in each), ", ".join(t for _, t in each)
    if len(each) > 1:
        things = f"zip({things}, strict=True)"
    if not each:
        return f"for {rounds.index if counted else '_'} in range({count}):"
    if not counted:
        return f"for {names} in {things}:"
    return f"for {rounds.index}, {f'({names})' if len(each) > 1 else names} in enumerate({things}):"


# -- lines -------------------------------------------------------------------------------------------------------------
def _literal(state: _Body, value: object) -> str:
    """A field that an expression reads; the class's arguments are attributes of its objects."""
    text = written(state.dialect, value)
    for argument in arguments_of(value) - {state.index}:
        state.arguments.add(argument)
        text = re.sub(rf"\b{argument}\b", f"{state.own}{argument}", text)
    return text


def _expression(state: _Body, line: Line) -> tuple[str, bool]:
    """A line as code, and whether it needs no parentheses."""
    inputs = [state.texts[v].text for v in line.inputs]
    if line.call is None and state.invoke is not None:
        return state.invoke(line.path, inputs), True
    layer = state.member(line.path) if line.path else ""
    if line.call is None:
        return f"{layer}({', '.join(inputs)})", True
    read = {name: f"{{{name}" in line.call.code for name in line.fields}
    literals = {n: _literal(state, v) if read[n] else written(state.dialect, v) for n, v in line.fields.items()}
    text = _starred(state, expression(line.call, inputs, layer, literals))
    return text, _primary(text)


def _primary(text: str) -> bool:
    """Whether ``text`` is one call: what stands before its last parentheses is a dotted name or a call."""
    if not text.endswith(")"):
        return bool(re.fullmatch(r"[\w.]+", text))
    depth = 0
    for place in range(len(text) - 1, -1, -1):
        depth += (text[place] in ")]}") - (text[place] in "([{")
        if depth == 0:
            before, _, method = text[:place].rpartition(".")
            plain = bool(re.fullmatch(r"[\w.\[\]-]+", text[:place]))
            return plain or (method.isidentifier() and _primary(before))
    return False


def _within(state: _Body, number: int, text: str, primary: bool) -> bool:
    """Whether a line's result stands within the next statement, the only one that reads it."""
    lines, line = state.lines, state.lines[number]
    if len(line.outputs) != 1 or state.reads[line.outputs[0]] != 1 or len(text) > SHORT:
        return False
    value = line.outputs[0]
    if number + 1 == len(lines):
        return value in state.inline
    following = lines[number + 1]
    if value not in following.inputs or following.call is None or following.path or len(following.inputs) > 2:
        return False
    place = following.inputs.index(value)
    code = following.call.code
    if not primary and not re.search(rf"[(,] ?\{{{place}\}}[,)]", code):
        return False
    return code.count(f"{{{place}}}") == 1 and len(text) + len(code) <= SHORT


def _named(state: _Body, value: str, line: Line, number: int) -> str:
    """A name for ``value``: x again for what is read at once, else a word of its own."""
    following = state.lines[number + 1 : number + 2]
    at_once = number + 1 == len(state.lines) or (value in following[0].inputs and following[0].rounds is None)
    at_once = at_once and not any(len(line.inputs) > 2 for line in following)  # one of several has its own name
    brief = state.last.get(value, number) <= number + 1 and at_once
    free = [n for n in ("x", "y", "z") if not state.alive(n, number) and n not in state.carried.values()]
    own = state.carried.get(value)
    if state.reads[value] == 0:
        name = "_"
    elif own and not state.alive(own, number):
        name = own
    elif brief and free and len(line.outputs) == 1:
        name = free[0]
    else:
        name = _word(state, line, number, value)
    state.give(value, name)
    return name


def _word(state: _Body, line: Line, number: int, value: str) -> str:
    words = [p for p in (line.path or line.scope) if not p.isdecimal()]
    stem = "" if line.path and len(line.outputs) == 1 else _made(state, value) or state.roles.get(value, "")
    if words and not stem:
        stem = words[-1]
    elif not stem and line.call is not None:
        found = re.search(r"(\w+?)(?:[123]d)?\(", f"{line.call.layer}({line.call.code}")
        stem = "part" if set(line.words) & _CUT else found[1] if found else "value"
    return state.free(stem.lower() or "value", number)


def _made(state: _Body, value: str) -> str:
    """What a value is in the graph, where that is no operator's name."""
    for line in state.lines:
        if value in line.outputs and line.words:
            word = line.words[line.outputs.index(value)].lower()
            return "" if word in _OPERATORS else word
    return ""
