"""What a field is for each of several blocks, as a column: one value, an argument, or what is made of arguments."""

from __future__ import annotations

import json
import re
from typing import Any

from instep.graph.text.outline import End

__all__ = [
    "ABSENT", "Name", "alike", "argument_of", "counted", "derived", "family_of", "parts", "related", "reworded",
    "series_of", "type_of", "usual_of",
]  # fmt: skip


class Name(str):
    """An argument's name where a value would stand."""

    __slots__ = ()


#: Where a block has no such step.
ABSENT = object()


def reworded(value: Any, old: str, new: str) -> Any:
    """A field that reads another argument instead."""
    if isinstance(value, list | tuple):
        return type(value)(reworded(v, old, new) for v in value)
    return Name(re.sub(rf"\b{old}\b", new, value)) if isinstance(value, Name) else value


def parts(column: list[Any]) -> list[list[Any]]:
    """A column of lists of one length as the columns of their elements."""
    length = next(len(v) for v in column if v is not ABSENT)
    return [[ABSENT if v is ABSENT else v[n] for v in column] for n in range(length)]


def usual_of(default: Any) -> Any:
    """A layer's default as one that an argument can have."""
    return default if isinstance(default, bool | int | float) else None


def series_of(values: list[Any], down: bool) -> tuple[Any, Any]:
    """An argument over the rounds of a loop: what it is where ``i`` is 0, and by how much it grows with ``i``."""
    values = values[::-1] if down else values
    if len({json.dumps(v) for v in values}) == 1:
        return values[0], 0
    step = values[1] - values[0]
    return int(values[0]), int(step)


def counted(settle: Any, name: str, column: list[tuple[Any, Any]]) -> Any:
    """An argument of a loop's call as an expression of ``i``."""
    first, step = settle(name, [c[0] for c in column]), settle(f"{name}_step", [c[1] for c in column])
    if step == 0:
        return first
    sign = "-" if isinstance(step, int) and step < 0 else "+"
    size = abs(step) if isinstance(step, int) else step
    grown = "i" if size == 1 else f"{_factor(size)} * i"
    if first == 0 and sign == "+":
        return Name(grown)
    if isinstance(first, int) and first < 0 and sign == "+":
        return Name(f"{grown} - {-first}")
    return Name(f"{grown} + {first}" if sign == "+" else f"{first} - {grown}")


def _factor(value: Any) -> str:
    return f"({value})" if " " in str(value) else str(value)


#: Fields, and arguments named after them, that may be one argument where they are equal.
_FAMILIES = {"size": ("out", "mid", "size", "groups", "start", "stop", "count"), "window": ("kernel", "stride")}


def family_of(field_name: str) -> str:
    """What a field, or an argument named after one, is about."""
    word = re.sub(r"(_\d+)+$", "", field_name).rpartition("_")[2]
    return next((family for family, words in _FAMILIES.items() if word in words), word)


def related(family: str, field_name: str, column: list[Any], columns_of: dict[str, list[Any]]) -> Name | None:
    """A stop that lies as far behind the start everywhere; padding that keeps the size under an odd kernel."""
    if not all(type(v) is int for v in column):
        return None
    for argument, other in reversed(columns_of.items()):
        numbers = all(type(v) is int for v in other)
        if family == "padding" and numbers and re.match(r"(.*_)?kernel(_\d+)*$", argument):
            if all(p == k // 2 and k % 2 for p, k in zip(column, other, strict=True)):
                return Name(f"{argument} // 2")
        elif field_name == "stop" and numbers and argument.rstrip("_0123456789").endswith("start"):
            apart = {b - a for a, b in zip(other, column, strict=True)}
            if len(apart) == 1 and (n := apart.pop()) > 0:
                return Name(f"{argument} + {n}")
            return None
    return None


def alike(column: list[Any]) -> bool:
    """Whether all are lists of integers, or of such lists, of one form."""
    if not all(isinstance(v, list) and v for v in column) or len({len(v) for v in column}) > 1:
        return False
    parts = [list(p) for p in zip(*column, strict=True)]
    return all(all(type(v) is int for v in p) or alike(p) for p in parts)


def derived(column: list[Any], columns_of: dict[str, list[Any]]) -> Name | None:
    """``column`` as a multiple, or as a part, of an argument that has sizes."""
    if not all(type(v) is int and v > 1 for v in column):
        return None
    for argument, other in columns_of.items():
        if not all(type(v) is int and v > 1 for v in other):
            continue
        more, less = column[0] // other[0], other[0] // column[0]
        if all(a == b * more for a, b in zip(column, other, strict=True)):
            return Name(f"{more} * {argument}")
        if all(b == a * less for a, b in zip(column, other, strict=True)):
            return Name(f"{argument} // {less}")
    return None


#: Fields whose arguments have another name.
_RENAMED = {"at": "place", "shape": "sizes", "num_features": "channels", "num_channels": "channels",
            "normalized_shape": "channels", "p": "rate"}  # fmt: skip


def argument_of(field_name: str, args: dict[str, str], taken: set[str], owner: str = "") -> str:
    stem = _RENAMED.get(field_name, field_name)
    if stem in ("in", "if", "else", "for", "is", "not", "and", "or"):
        stem += "_"
    if owner and (stem in args or stem in taken) and f"{owner}_{stem}" not in taken:
        stem = f"{owner}_{stem}"
    name, count = stem, 1
    while name in args or name in taken:
        count += 1
        name = f"{stem}_{count}"
    return name


def type_of(column: list[Any]) -> str:
    kinds = {int if isinstance(v, End) else type(v) for v in column}
    names = {int: "int", float: "float", bool: "bool", str: "str", list: "list"}
    return names.get(kinds.pop(), "any") if len(kinds) == 1 else "any"
