"""The statements of a class: names for its values, and short expressions within others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from instep.emit.code.call import Dialect
from instep.emit.code.paths import Path
from instep.emit.code.program import Class, Line
from instep.emit.code.statements import expression, identifier, unique
from instep.graph.text.fold import Name

__all__ = ["body", "written"]

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
    made: Class
    dialect: Dialect
    member: Callable[[Path], str]
    #: the attribute that a field of the class is read from, where an expression uses an argument of the class
    used: set[str]
    texts: dict[str, _Value] = field(default_factory=dict)
    #: which value a name has at the moment
    holds: dict[str, str] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    arguments: set[str] = field(default_factory=set)
    invoke: Callable[[Path, list[str]], str] | None = None
    own: str = "self."


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

    ``invoke`` writes the call of a member with inputs where it is no object that is called, ``own`` stands before the
    class's arguments.
    """
    state = _Body(made, dialect, member, used, invoke=invoke, own=own)
    reads = Counter(v for line in made.lines for v in line.inputs) + Counter(made.outputs)
    for number, line in enumerate(made.lines):
        state.last |= dict.fromkeys(line.inputs, number)
    state.last |= dict.fromkeys(made.outputs, len(made.lines))
    for value, path in made.arrays.items():
        state.texts[value] = _Value(member(path))
    for value, name in zip(made.inputs, inputs, strict=True):
        state.texts[value] = _Value(name)
        state.holds[name] = value
    statements: list[str] = []
    for number, line in enumerate(made.lines):
        text, primary = _expression(state, line)
        if _within(state, number, reads, text, primary):
            state.texts[line.outputs[0]] = _Value(text, primary)
            continue
        names = [_named(state, value, line, number, reads) for value in line.outputs]
        statements.append(f"{', '.join(names)} = {text}")
    results = ", ".join(state.texts[v].text for v in made.outputs)
    statements.append(f"return {results}")
    return statements, state.arguments


def _expression(state: _Body, line: Line) -> tuple[str, bool]:
    """A line as code, and whether it needs no parentheses."""
    inputs = [state.texts[v].text for v in line.inputs]
    if line.call is None and state.invoke is not None:
        return state.invoke(line.path, inputs), True
    layer = state.member(line.path) if line.path else ""
    if line.call is None:
        return f"{layer}({', '.join(inputs)})", True
    literals = {}
    for name, value in line.fields.items():
        literals[name] = written(state.dialect, value)
        if f"{{{name}" not in line.call.code:
            continue
        for argument in arguments_of(value):
            state.arguments.add(argument)
            literals[name] = re.sub(rf"\b{argument}\b", f"{state.own}{argument}", literals[name])
    text = expression(line.call, inputs, layer, literals)
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
            plain = bool(re.fullmatch(r"[\w.\[\]]+", text[:place]))
            return plain or (method.isidentifier() and _primary(before))
    return False


def _within(state: _Body, number: int, reads: Counter[str], text: str, primary: bool) -> bool:
    """Whether a line's result stands within the next statement, the only one that reads it."""
    lines, line = state.made.lines, state.made.lines[number]
    if len(line.outputs) != 1 or reads[line.outputs[0]] != 1 or len(text) > SHORT:
        return False
    value = line.outputs[0]
    if number + 1 == len(lines):
        return state.made.outputs == [value]
    following = lines[number + 1]
    if value not in following.inputs or following.call is None or following.path or len(following.inputs) > 2:
        return False
    place = following.inputs.index(value)
    code = following.call.code
    if not primary and not re.search(rf"[(,] ?\{{{place}\}}[,)]", code):
        return False
    return code.count(f"{{{place}}}") == 1 and len(text) + len(code) <= SHORT


def _named(state: _Body, value: str, line: Line, number: int, reads: Counter[str]) -> str:
    """A name for ``value``: x again for what is read at once, else a word of its own."""
    following = {v for n in state.made.lines[number + 1 : number + 2] for v in n.inputs}
    brief = state.last.get(value, number) <= number + 1 and (value in following or number + 1 == len(state.made.lines))
    free = [n for n in ("x", "y", "z") if not _alive(state, n, number)]
    if reads[value] == 0:
        name = "_"
    elif brief and free and len(line.outputs) == 1:
        name = free[0]
    else:
        name = _word(state, line, number)
    state.texts[value] = _Value(name)
    state.holds[name] = value
    return name


def _alive(state: _Body, name: str, number: int) -> bool:
    """Whether the value that ``name`` has is read behind line ``number``."""
    return name in state.holds and state.last.get(state.holds[name], -1) > number


def _word(state: _Body, line: Line, number: int) -> str:
    words = [p for p in (line.path or line.scope) if not p.isdecimal()]
    stem = words[-1] if words else ""
    if not stem and line.call is not None:
        found = re.search(r"(\w+?)(?:[123]d)?\(", f"{line.call.layer}({line.call.code}")
        stem = found[1] if found else "value"
    taken = {n for n in state.holds if _alive(state, n, number)} | state.used
    return unique(identifier(stem.lower() or "value", state.used), set(taken))
