"""A folded network as YAML text: a step a line, fields in flow style, repeated steps as loops over a table."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from instep.graph.text.fields import REQUIRED
from instep.graph.text.fold import Folded, Name
from instep.graph.text.table import LAYERS

__all__ = ["WIDTH", "block", "entry", "flow", "key_text", "struct_text"]

WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_ ./()*+%=<>\-]*")
_NOT_PLAIN = re.compile(r"(?i)null|true|false|~|[-+]?\.inf|\.nan|[-+]?[0-9.]*[0-9][0-9._]*(e[-+0-9]+)?|0[xo].*|.*\s")
#: From how many steps on a run of them is written as a loop.
LOOP = 3
#: Longest line of steps that have no fields: bn = batch_norm; act = relu. Shorter where one says what it reads.
CHAIN, CHAIN_OF_CALLS = 100, 90


def flow(value: Any) -> str:
    """A value in YAML's flow style, as JSON would have it but with bare words."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(v) for v in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _NOT_PLAIN.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def block(value: Any) -> str:
    """A value on a line of its own, where commas need no quotes."""
    if isinstance(value, str) and value[:1] not in "{[,":
        bare = re.sub(r"[,;{}\[\]]", "", value).replace(" := ", " = ")
        return value if flow(bare) == bare else flow(value)
    return flow(value)


def entry(key: Any, value: Any, indent: str = "") -> list[str]:
    """``key: value``, as the formatter has it: on one line, or what is in a mapping below where that is too long."""
    line = f"{indent}{flow(key)}: {flow(value)}"
    if len(line) <= WIDTH or row(value):
        return [line]
    if isinstance(value, dict):
        return [f"{indent}{flow(key)}:", *(line for k, v in value.items() for line in entry(k, v, f"{indent}  "))]
    return [f"{indent}{flow(key)}:", *(f"{indent}  {line}" for v in value for line in _element(v))]


def _element(value: Any) -> list[str]:
    """One of the values of a list that is too long for a line."""
    if not isinstance(value, dict) or len(value) != 1:
        return [f"- {block(value)}"]
    ((key, inner),) = value.items()
    first, *others = entry(key, inner)
    below = f"    {flow(inner)}"
    return [f"- {first}", *([below] if others and len(below) + 2 <= WIDTH else (f"  {line}" for line in others))]


def row(value: Any) -> bool:
    """Whether ``value`` is words and numbers alone, in brackets or not: that is one line, however long."""
    return all(row(v) for v in value) if isinstance(value, list | tuple) else not isinstance(value, dict)


def key_text(names: tuple[str, ...], kind: str, inputs: tuple[str, ...] | None, sign: str = "=") -> str:
    """``names = kind(inputs)``."""
    before = f"{', '.join(names)} {sign} " if names else ""
    return before + kind + ("" if inputs is None else f"({', '.join(inputs)})")


def struct_text(struct: Folded, indent: str) -> list[str]:
    """The lines of a struct's body."""
    lines = [f"{indent}- let: {flow(struct.lets)}"] if struct.lets else []
    place = 0
    items = struct.shape.items
    chained = False
    outer, switch = indent, ""
    while place < len(items):
        if switch != (switch := struct.switches.get(place, "")):
            indent = f"{outer}    " if switch else outer
            lines += [f"{outer}- if {switch}:"] if switch else []
            chained = False
        run = _run(struct, place)
        if run == 1 and (link := _link(struct, place)):
            most = CHAIN if items[place].inputs is None else CHAIN_OF_CALLS
            if chained and len(lines[-1]) + len(f"; {link}") <= most:
                lines[-1] += f"; {link}"
            else:
                lines += step_lines(link, {}, indent)
            chained = True
            place += 1
            continue
        steps = [line for p in range(place, place + run) for line in _step(struct, p, indent)]
        loop = _loop(struct, place, run, indent, len(steps)) if run > 1 else []
        lines += loop or steps
        chained = False
        place += run
    return lines


def _link(struct: Folded, place: int) -> str:
    """A step that has no fields to show, which may stand on one line with others; "" for any other."""
    item = struct.shape.items[place]
    if item.rounds or len(item.names) > 1:
        return ""
    key, shown = _said(struct, place)
    return key if not shown and key[0] not in "{[" and len(key) < CHAIN else ""


def _step(struct: Folded, place: int, indent: str) -> list[str]:
    item = struct.shape.items[place]
    key, shown = _said(struct, place)
    if not item.rounds:
        return step_lines(key, shown, indent)
    body = struct.bodies.get(place)
    lines = step_lines(key, shown, indent + "    ") if body is None else struct_text(body, indent + "    ")
    count = struct.fields[place]["count"]
    stop = f"{count} - 1" if isinstance(count, Name) else f"{count - 1}"
    head = f"range({stop}, -1, -1)" if item.down else f"range({count})"
    return [f"{indent}- for i in {head}:", *lines]


def _said(struct: Folded, place: int) -> tuple[str, dict[str, Any]]:
    """A step's key, and the fields that it has to show."""
    item = struct.shape.items[place]
    fields = {k: v for k, v in struct.fields[place].items() if k != "at"}
    kind = item.kind
    if place in struct.calls:
        inner, arguments = struct.calls[place]
        kind, shown = inner.name, _asked(inner, arguments)
    else:
        kind = "act" if isinstance(fields.get("kind"), Name) else kind
        shown = {} if item.rounds else _shown(kind, fields)
    at = struct.fields[place]["at"]
    here = at == "." and bool(item.names)
    if at is not None and not here:
        shown["at"] = f"{{{at}}}" if isinstance(at, Name) else at
    return key_text(item.names, kind, item.inputs, ":=" if here else "="), shown


def step_lines(key: str, shown: dict[str, Any], indent: str) -> list[str]:
    """A step as text: on one line where it fits."""
    long = len(key) > 900
    if key[0] in "{[":
        key = json.dumps(key)
    if not shown:
        return [f"{indent}- {key}"]
    if long:
        return [f"{indent}- ? {key}", f"{indent}  : {flow(shown)}"]
    line = f"{indent}- {key}: {flow(shown)}"
    if len(line) <= WIDTH:
        return [line]
    below = f"{indent}    {flow(shown)}"
    if len(below) <= WIDTH:
        return [f"{indent}- {key}:", below]
    return [f"{indent}- {key}:", *(f"{indent}    {flow(k)}: {flow(v)}" for k, v in shown.items())]


def _asked(inner: Folded, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are not as they would be anyway."""
    usual = inner.defaults
    return {a: v for a, v in arguments.items() if isinstance(v, Name) or a not in usual or not _same(v, usual[a])}


def _shown(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that are not as they would be anyway."""
    found = {}
    for declared in LAYERS[kind].fields:
        if declared.name not in fields:
            continue
        value = fields[declared.name]
        if isinstance(value, Name) or declared.default is REQUIRED or not _same(value, declared.default):
            found[declared.name] = value
    return found


def _same(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        default = json.loads(json.dumps(default))
    return type(value) is type(default) and value == default


# -- loops ---------------------------------------------------------------------------------------------------------
_COUNTED = re.compile(r"(.*?)(\d+)")


def _run(struct: Folded, place: int) -> int:
    """How many steps from ``place`` on call one struct, one behind the other, with names that count up."""
    first = _countable(struct, place)
    if first is None:
        return 1
    stem, number, callee = first
    count = 1
    switch = struct.switches.get(place)
    while place + count < len(struct.shape.items) and struct.switches.get(place + count) == switch:
        if _countable(struct, place + count) != (stem, number + count, callee):
            break
        if struct.shape.items[place + count].inputs is not None:
            break
        count += 1
    named = {n for i in struct.shape.items for n in (i.inputs or ())} | set(struct.shape.outputs or ())
    inside = {struct.shape.items[p].names[0] for p in range(place, place + count)}
    return count if count >= LOOP and not inside & named else 1


def _countable(struct: Folded, place: int) -> tuple[str, int, str] | None:
    item = struct.shape.items[place]
    if place not in struct.calls or len(item.names) != 1 or struct.fields[place]["at"] is not None:
        return None
    match = _COUNTED.fullmatch(item.names[0])
    if match is None or str(int(match[2])) != match[2] or (item.inputs is not None and len(item.inputs) > 1):
        return None
    inner, arguments = struct.calls[place]
    if any(not isinstance(v, bool | int | float | list | Name) or not _numeric(v) for v in arguments.values()):
        return None
    return match[1], int(match[2]), inner.name


def _numeric(value: Any) -> bool:
    if isinstance(value, list):
        return all(_numeric(v) for v in value)
    return isinstance(value, bool | int | float | Name)


def _loop(struct: Folded, place: int, run: int, indent: str, most: int) -> list[str]:
    """A run as a loop, over a table where arguments differ; nothing where that takes about as many lines."""
    counted = _countable(struct, place)
    assert counted is not None
    stem, number, callee = counted
    calls = [struct.calls[p][1] for p in range(place, place + run)]
    inputs = struct.shape.items[place].inputs
    lines: list[str] = []
    if inputs is not None:
        lines.append(f"{indent}- identity({inputs[0]})")
    varying = [a for a in calls[0] if len({json.dumps(c[a]) for c in calls}) > 1]
    inner = struct.calls[place][0]
    shown = _asked(inner, {a: (Name(a) if a in varying else v) for a, v in calls[0].items()})
    head = ", ".join(["i", *varying])
    read = {w for v in shown.values() if isinstance(v, Name) and v not in varying for w in re.findall(r"\w+", v)}
    if read & {"i", *varying}:
        return []  # what the loop calls so is something else here
    rows = [[number + k, *(c[a] for a in varying)] for k, c in enumerate(calls)]
    short = f"{indent}- for {head} in {flow(rows)}:"
    if varying and len(short) <= WIDTH:
        lines.append(short)
    elif varying:
        table = f"{stem.rstrip('.').replace('.', '_') or callee.lower()}_table"
        table = table if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", table) else f"{callee.lower()}_table"
        lines += [f"{indent}- let:", f"{indent}    {table}:  # i, {', '.join(varying)}"]
        lines += [f"{indent}      - {flow(row)}" for row in rows]
        lines.append(f"{indent}- for {head} in {table}:")
    else:
        lines.append(f"{indent}- for i in range({number}, {number + run}):" if number else
                     f"{indent}- for i in range({run}):")  # fmt: skip
    lines += step_lines(f"{stem}{{i}} = {callee}", shown, indent + "    ")
    return lines if 2 * len(lines) <= most or (len(lines) < most and not varying) else []
