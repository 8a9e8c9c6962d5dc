"""The statements of a class: names for its values, and short expressions within others."""

from __future__ import annotations

import re
from collections.abc import Callable

from instep.emit.code.call import Dialect
from instep.emit.code.loops import written_loop
from instep.emit.code.paths import Path
from instep.emit.code.program import Class, Line
from instep.emit.code.state import PARTS, Body, Text, written
from instep.emit.code.statements import expression

__all__ = ["body"]

#: What comes to no more characters stands within another expression.
SHORT = 76


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

    Statements within loops begin with blanks; an empty one is an empty line. ``invoke`` writes the call of a member
    with inputs where it is no object that is called, ``own`` stands before the class's arguments.
    """
    inline = set(made.outputs) if len(made.outputs) == 1 else set()
    state = Body(made.lines, made.outputs, dialect, member, used, invoke=invoke, own=own)
    state.inline, state.given = inline, frozenset(made.inputs)
    for value, path in made.arrays.items():
        state.texts[value] = Text(member(path))
    for value, name in zip(made.inputs, inputs, strict=True):
        state.give(value, name)
    statements = _statements(state)
    results = state.starred(", ".join(state.texts[v].text for v in made.outputs))
    whole = results.startswith("*") and "," not in results  # a star needs something beside it
    statements.append(f"return {f'tuple({results[1:]})' if whole else results}")
    return statements, state.arguments


def _statements(state: Body) -> list[str]:
    statements: list[str] = []
    for number, line in enumerate(state.lines):
        if line.rounds is not None:
            statements += written_loop(state, number, line, line.rounds, _statements)
            continue
        text, primary = _expression(state, line)
        if _within(state, number, text, primary):
            state.texts[line.outputs[0]] = Text(text, primary)
            continue
        names = [_named(state, value, line, number) for value in line.outputs]
        statements.append(f"{_unpacked(line, names)} = {text}")
    return statements


def _unpacked(line: Line, names: list[str]) -> str:
    """What stands before the = of a line."""
    if line.call is None or not line.call.gives:
        return ", ".join(names)
    return line.call.gives.format(*names).replace("(_, _)", "_")


# -- lines -------------------------------------------------------------------------------------------------------------


def _expression(state: Body, line: Line) -> tuple[str, bool]:
    """A line as code, and whether it needs no parentheses."""
    inputs = [state.texts[v].text for v in line.inputs]
    if line.call is None and state.invoke is not None:
        return state.invoke(line.path, inputs), True
    layer = state.member(line.path) if line.path else ""
    if line.call is None:
        return f"{layer}({', '.join(inputs)})", True
    read = {name: f"{{{name}" in line.call.code for name in line.fields}
    literals = {n: state.literal(v) if read[n] else written(state.dialect, v) for n, v in line.fields.items()}
    text = state.starred(expression(line.call, inputs, layer, literals))
    for name in state.arrays:
        assert state.dialect.scans is not None
        text = state.dialect.scans.joined(text, name)
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


def _within(state: Body, number: int, text: str, primary: bool) -> bool:
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


def _named(state: Body, value: str, line: Line, number: int) -> str:
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


def _word(state: Body, line: Line, number: int, value: str) -> str:
    words = [p for p in (line.path or line.scope) if not p.isdecimal()]
    stem = "" if line.path and len(line.outputs) == 1 else state.made(value) or state.roles.get(value, "")
    if words and not stem:
        stem = words[-1]
    elif not stem and line.call is not None:
        found = re.search(r"(\w+?)(?:[123]d)?\(", f"{line.call.layer}({line.call.code}")
        stem = "part" if set(line.words) & PARTS else found[1] if found else "value"
    return state.free(stem.lower() or "value", number)
