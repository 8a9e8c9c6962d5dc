"""Members that are numbered and called one after the other become a row: one member, called once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from instep.emit.code.paths import Path
from instep.emit.code.program import Class, Line, Member

__all__ = ["rows"]

#: How a layer is called that can stand in a row.
PLAIN = "{layer}({0})"


def rows(made: Class) -> None:
    """Put the rows of ``made`` together, inner ones first."""
    while (found := _longest(made)) is not None:
        prefix, start, stop = found
        lines = made.lines[start:stop]
        members = {m.path: m for m in made.members}
        row = [members.get(_place(line)) or _bare(line) for line in lines]
        first = next(i for i, m in enumerate(made.members) if m in row)
        kept = [m for m in made.members if m not in row]
        kept.insert(first, Member(prefix, row=row))
        made.members = kept
        made.lines[start:stop] = [Line(lines[-1].outputs, lines[0].inputs, path=prefix, scope=prefix)]


def _bare(line: Line) -> Member:
    return Member(line.scope, line.call, fields=line.fields)


def _place(line: Line) -> Path:
    return line.path or line.scope


def _longest(made: Class) -> tuple[Path, int, int] | None:
    """The deepest prefix whose members are a row, and their lines."""
    looped = {line.path[:-1] for loop in made.lines if loop.rounds for line in loop.within()}
    prefixes = {m.path[:-1] for m in made.members if len(m.path) > 1 and m.path[-1].isdecimal()} - looped
    for prefix in sorted(prefixes, key=lambda p: (-len(p), p)):
        inside = [m for m in made.members if m.path[: len(prefix)] == prefix]
        if any(len(m.path) != len(prefix) + 1 or m.constant is not None for m in inside):
            continue
        run = _run(made, prefix, len(inside))
        if run is not None:
            return (prefix, *run)
    return None


def _run(made: Class, prefix: Path, count: int) -> tuple[int, int] | None:
    """The lines that call the ``count`` members at ``prefix``, in order and nothing between them."""
    reads = Counter(v for line in made.lines for v in line.inputs) + Counter(made.outputs)
    members = {m.path: m for m in made.members}
    places = [n for n, line in enumerate(made.lines) if line.path and line.path[:-1] == prefix]
    if len(places) != count:
        return None
    start, stop = places[0], places[-1] + 1
    while start > 0 and _fits(made.lines[start - 1], prefix, members):
        start -= 1
    while stop < len(made.lines) and _fits(made.lines[stop], prefix, members):
        stop += 1
    lines = made.lines[start:stop]
    numbers = [int(_place(line)[-1]) if len(_place(line)) == len(prefix) + 1 else -1 for line in lines]
    if not all(_fits(line, prefix, members) for line in lines) or numbers != sorted(set(numbers)):
        return None
    if numbers[-1] > 4 * len(numbers) + 8:
        return None
    for line, following in pairwise(lines):
        if following.inputs != line.outputs or reads[line.outputs[0]] != 1:
            return None
    return start, stop


def _fits(line: Line, prefix: Path, members: dict[Path, Member]) -> bool:
    """Whether a line is an element of the row: it calls a member with one value, or could be a layer."""
    place = _place(line)
    if place[:-1] != prefix or not place[-1].isdecimal() or len(line.inputs) != 1 or len(line.outputs) != 1:
        return False
    if line.path:
        return line.call is None or line.call.code == PLAIN
    return place not in members and line.call is not None and bool(line.call.module)
