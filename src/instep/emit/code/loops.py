"""Loops: what is computed in rounds, with values carried from one to the next."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from instep.emit.code.program import Line, Rounds
from instep.emit.code.scans import Row, Scan
from instep.emit.code.state import Body, Text, called, elements
from instep.graph.text.outline import CARRIED, EACH, KEPT, LAST, SAME

__all__ = ["written_loop"]


Statements = Callable[[Body], list[str]]


def written_loop(state: Body, number: int, line: Line, rounds: Rounds, statements: Statements) -> list[str]:
    """Line ``number``, a loop, as statements; ``statements`` writes those within it."""
    # what a step computes within another loop would read the names of its rounds
    if rounds.scan is not None and not state.index:
        return _scan(state, number, line, rounds, rounds.scan, statements)
    return _loop(state, number, line, rounds, statements)


def _inner(state: Body, number: int, rounds: Rounds, lines: list[Line]) -> Body:
    """What is known within a loop of ``lines``."""
    inner = Body(
        lines, rounds.outputs, state.dialect, state.member, state.used, invoke=state.invoke, own=state.own,
        arguments=state.arguments, index=rounds.index, lists=dict(state.lists), arrays=set(state.arrays),
    )  # fmt: skip
    # what is read of further out is read in every round; values have names of their own there
    inner.holds = {n: f"outer {n}" for n in state.holds if state.alive(n, number - 1)}
    inner.last |= {f"outer {n}": math.inf for n in inner.holds}
    inner.used = state.used | {rounds.index}
    return inner


def _carried(state: Body, inner: Body, number: int, line: Line, rounds: Rounds) -> dict[str, str]:
    """The names of what is carried, in order, and what each begins with; it is called so behind the loop, too.

    A name is its own, or that of what it begins with where nothing else reads that.
    """
    begins: dict[str, str] = {}
    starts = {place: names[0] for kind, place, names in rounds.reads if kind == CARRIED}
    for place, ((kind, names), value) in enumerate(zip(rounds.gives, rounds.outputs, strict=True)):
        if kind != CARRIED:
            continue
        begin, word = starts[place], inner.made(value)
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
    return begins


def _kept(state: Body, inner: Body, number: int, rounds: Rounds, *, last_first: bool = False) -> list[tuple[str, str]]:
    """The names of what is kept of all rounds, and the value that is kept; by the last round's first, or in order."""
    kept: list[tuple[str, str]] = []
    for (kind, names), value in zip(rounds.gives, rounds.outputs, strict=True):
        if kind == KEPT:
            name = inner.free("ys", -1)
            inner.used = inner.used | {name}
            kept.append((name, value))
            inner.inline.add(value)
            state.lists[name] = len(names)
            latest = max((state.last.get(v, -1) for v in names), default=-1)
            state.holds[name] = f"{name} of {number}"
            state.last[state.holds[name]] = latest
            texts = elements(name, len(names))
            ordered = names[::-1] if last_first else names
            state.texts |= {v: Text(text) for v, text in zip(ordered, texts, strict=True)}
    return kept


def _loop(state: Body, number: int, line: Line, rounds: Rounds, statements: Statements) -> list[str]:
    """A loop: what it begins with, its head and what it does; values from several rounds are in lists."""
    before: list[str] = []
    inner = _inner(state, number, rounds, rounds.lines)
    begins = {n: text for n, text in _carried(state, inner, number, line, rounds).items() if n != text}
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
    kept = _kept(state, inner, number, rounds)
    before += [f"{name} = []" for name, _ in kept]
    state.arrays -= {name for name, _ in kept}
    inside = statements(inner)
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


# -- scans -------------------------------------------------------------------------------------------------------------
def _scan(state: Body, number: int, line: Line, rounds: Rounds, found: Scan, statements: Statements) -> list[str]:
    """A loop as one call, of a function of what is carried and of a place of each sequence."""
    scans, rows = state.dialect.scans, {row.name: row for row in found.rows}
    assert scans is not None
    reads = {made.outputs[0]: made for made in rounds.lines if made.outputs[:1] and made.outputs[0] in rows}
    inner = _inner(state, number, rounds, [made for made in rounds.lines if made.outputs[0] not in rows])
    begins = _carried(state, inner, number, line, rounds)
    step = state.free("step", number - 1)
    taken: dict[str, str] = {}
    for value, row in rows.items():
        name = inner.free(called(reads[value], value) or "x", -1)
        inner.give(value, name)
        inner.last.setdefault(value, 0)
        if row.stays:
            inner.texts[value] = Text(f"{name}[{':, ' * row.axis}None]")
        taken[name] = scans.rows(_part(inner.texts[reads[value].inputs[0]].text, row), row.axis)
    kept = _kept(state, inner, number, rounds, last_first=found.backwards)
    state.arrays |= {name for name, _ in kept}
    given = [_together(list(begins), "carry", inner), _together(list(taken), "rows", inner)]
    inside = [f"{', '.join(names)} = {name}" for name, names in zip(given, (list(begins), list(taken)), strict=True)
              if len(names) > 1]  # fmt: skip
    inside += statements(inner)
    after = [inner.texts[value].text for value in inner.carried]
    inside.append(f"return {_tuple(after)}, {_tuple([inner.texts[v].text for _, v in kept]) or None}")
    ends = [n if state.alive(n, number) else "_" for n in begins]
    results = _tuple(ends) if set(ends) != {"_"} else "_"
    call = scans.scan(step, _tuple(list(begins.values())), _tuple(list(taken.values())), found)
    return [
        "",
        f"def {step}({', '.join(given)}):",
        *(f"    {text}" for text in inside),
        "",
        f"{results}, {_tuple([name for name, _ in kept]) or '_'} = {call}",
    ]


def _part(text: str, row: Row) -> str:
    """The places of ``text`` that a scan reads."""
    start, stop = row.part or (0, 0)
    return f"{text}[{':, ' * row.axis}{start or ''}:{stop}]" if row.part else text


def _together(names: list[str], word: str, inner: Body) -> str:
    """What stands for ``names`` among a step's arguments."""
    return names[0] if len(names) == 1 else inner.free(word, -1)


def _tuple(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})" if texts else ""


# -- the head of a loop ------------------------------------------------------------------------------------------------
def _iterable(state: Body, texts: list[str]) -> str:
    """What a loop goes through to have one of ``texts`` in each round."""
    found = state.starred(", ".join(texts))
    return found[1:] if found.startswith("*") and "," not in found else f"({found})"


def _head(state: Body, rounds: Rounds, each: list[tuple[str, str]], inside: list[str]) -> str:
    """The statement that begins a loop."""
    count = state.literal(rounds.count)
    counted = any(re.search(rf"\b{rounds.index}\b", text) for text in inside)
    names, things = ", ".join(n for n, _ in each), ", ".join(t for _, t in each)
    if len(each) > 1:
        things = f"zip({things}, strict=True)"
    if not each:
        return f"for {rounds.index if counted else '_'} in range({count}):"
    if not counted:
        return f"for {names} in {things}:"
    return f"for {rounds.index}, {f'({names})' if len(each) > 1 else names} in enumerate({things}):"
