"""The kinds of values that fields take: what they accept, how an error calls it, and how an editor's schema says it."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from instep.graph.operator import Operator

__all__ = [
    "ANY", "BOOL", "COUNT", "FLOAT", "INT", "INTS", "PADDING", "PAIR", "REQUIRED", "SHAPE", "SIZE", "WORD", "Field",
    "Kind", "choice", "kind_of_hint", "named", "operator_fields",
]  # fmt: skip

#: The default of a field that has none.
REQUIRED: Any = object()
#: No size in a network is larger.
MAX_SIZE = 2**31


@dataclass(frozen=True)
class Kind:
    """``what`` completes "must be …"; ``read`` takes an evaluated value or raises ValueError; words stay words."""

    what: str
    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    #: words that mean themselves here, whatever else has their name
    words: frozenset[str] = frozenset()
    #: a word that is no expression over known names is the value itself
    free: bool = False


@dataclass(frozen=True)
class Field:
    """One field of a layer: its name, what it takes, its default (a value as written in a text), what it does."""

    name: str
    kind: Kind
    default: Any = REQUIRED
    doc: str = ""


def _int(value: Any, low: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError
    if abs(value) > MAX_SIZE or (low is not None and value < low):
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return float(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError
        return _int(value[0], 1), _int(value[1], 1)
    return _int(value, 1), _int(value, 1)


def _ints(value: Any, low: int | None = None) -> tuple[int, ...]:
    if not isinstance(value, tuple | list):
        raise ValueError
    return tuple(_int(v, low) for v in value)


def _padding(value: Any) -> Any:
    """ "same", "valid", or pads per side ((top, bottom), (left, right))."""
    if value in ("same", "valid"):
        return value
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError
        return tuple((_int(v, 0), _int(v, 0)) if not isinstance(v, tuple | list) else _ints2(v) for v in value)
    n = _int(value, 0)
    return ((n, n), (n, n))


def _ints2(value: Any) -> tuple[int, int]:
    a, b = _ints(value, 0)
    return a, b


_TEXT = {"type": "string"}
_NUMBERS = {"type": "array", "items": {"type": ["integer", "string"]}}

COUNT = Kind("a positive integer", lambda v: _int(v, 1), {"type": ["integer", "string"], "minimum": 1})
SIZE = Kind("an integer, 0 or more", lambda v: _int(v, 0), {"type": ["integer", "string"], "minimum": 0})
INT = Kind("an integer", _int, {"type": ["integer", "string"]})
FLOAT = Kind("a number", _float, {"type": ["number", "string"]})
BOOL = Kind("true or false", _bool, {"type": ["boolean", "string"]})
WORD = Kind("a word", _word, _TEXT, free=True)
PAIR = Kind(
    "a positive integer or two of them [height, width]",
    _pair,
    {"anyOf": [{"type": ["integer", "string"], "minimum": 1}, {**_NUMBERS, "minItems": 2, "maxItems": 2}]},
)
INTS = Kind("a list of integers", _ints, {"anyOf": [_TEXT, _NUMBERS]})
SHAPE = Kind(
    "a list of integers, -1 for what is left over", lambda v: _ints(v, -1), {"anyOf": [_TEXT, _NUMBERS]}
)  # fmt: skip
PADDING = Kind(
    "same, valid, an integer, [height, width] or [[top, bottom], [left, right]]",
    _padding,
    {"anyOf": [{"enum": ["same", "valid"]}, {"type": ["integer", "string"]}, {"type": "array"}]},
    words=frozenset({"same", "valid"}),
)
ANY = Kind("a value", lambda v: v, {}, free=True)


def choice(*words: str) -> Kind:
    """One of some words."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError
        return value

    return Kind(f"one of {', '.join(w or repr(w) for w in words)}", read, {"enum": list(words)}, frozenset(words))


_CALL = re.compile(r"([a-z_0-9]+)(?:\(\s*([-+.\deE]+(?:\s*,\s*[-+.\deE]+)*)\s*\))?")


def named(table: Mapping[str, int], what: str) -> Kind:
    """A name of ``table`` with as many numbers behind it as the table says at most: ``leaky_relu(0.05)``.

    It is read as ``(name, numbers)``.
    """

    def read(value: Any) -> tuple[str, tuple[float, ...]]:
        match = _CALL.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[1] not in table:
            raise ValueError
        numbers = tuple(float(n) for n in match[2].split(",")) if match[2] else ()
        if len(numbers) > table[match[1]] or not all(map(math.isfinite, numbers)):
            raise ValueError
        return match[1], numbers

    pattern = f"^({'|'.join(table)})(\\(.*\\))?$"
    schema = {"anyOf": [{"enum": list(table)}, {"type": "string", "pattern": pattern}, {"type": "string"}]}
    return Kind(f"{what} ({', '.join(table)})", read, schema, frozenset(table), free=True)


# -- operators' own fields -----------------------------------------------------------------------------------------
def operator_fields(kind: type[Operator]) -> tuple[Field, ...]:
    """The fields of an operator class, typed and with the defaults of its dataclass."""
    hints = typing.get_type_hints(kind)
    found = []
    for f in dataclasses.fields(kind):  # type: ignore[arg-type]
        default = REQUIRED if f.default is dataclasses.MISSING else f.default
        found.append(Field(f.name, kind_of_hint(hints[f.name]), default))
    return tuple(found)


def kind_of_hint(hint: Any) -> Kind:
    """The kind that a type of an operator's field is."""
    simple: dict[Any, Kind] = {int: INT, float: FLOAT, bool: BOOL, str: WORD}
    if hint in simple:
        return simple[hint]
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = kind_of_hint(next(p for p in parts if p is not type(None)))
        return Kind(f"{inner.what}, or null", lambda v: None if v is None else inner.read(v), {})
    if origin is tuple:
        items = [kind_of_hint(p) for p in parts if p is not Ellipsis]
        if len(parts) == 2 and parts[1] is Ellipsis:
            what = "a list of lists" if typing.get_origin(parts[0]) is tuple else "a list, each " + items[0].what
            return Kind(what, lambda v: tuple(items[0].read(i) for i in _list(v)), {"type": ["array", "string"]})
        return Kind(
            f"a list of {len(items)}", lambda v: _each(items, _list(v)), {"type": ["array", "integer", "string"]}
        )
    return ANY


def _list(value: Any) -> Any:
    if not isinstance(value, tuple | list):
        raise ValueError
    return value


def _each(kinds: list[Kind], values: Any) -> tuple[Any, ...]:
    if len(kinds) != len(values):
        raise ValueError
    return tuple(k.read(v) for k, v in zip(kinds, values, strict=True))
