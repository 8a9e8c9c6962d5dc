"""Equal blocks become one struct: what differs between them becomes its arguments."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from instep.graph.core import Graph
from instep.graph.text.naming import Item, Shape
from instep.graph.text.outline import End
from instep.graph.text.table import LAYERS

__all__ = ["Folded", "Name", "fold", "titles_of"]


class Name(str):
    """An argument's name where a value would stand."""

    __slots__ = ()


@dataclass
class Folded:
    """A struct to print: arguments by name and type, and one shape whose differing fields are names of arguments."""

    name: str
    args: dict[str, str]
    shape: Shape
    #: from which place on the items are there only where the argument ``switch`` says so
    optional: int | None = None
    switch: str = ""
    #: the item's struct, and the arguments that it is called with, by the item's place
    calls: dict[int, tuple[Folded, dict[str, Any]]] = field(default_factory=dict)
    #: the fields of leaves, by the item's place
    fields: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: what a loop does in each round, by the item's place, where it is no struct
    bodies: dict[int, Folded] = field(default_factory=dict)
    #: what arguments are where a call does not say: the defaults of the layers' fields
    defaults: dict[str, Any] = field(default_factory=dict)


#: Arguments by instance: which value each argument has for one shape.
_Values = dict[int, dict[str, Any]]


def fold(
    root: Shape, *, derive: bool = False, sizes: bool = False, titles: Mapping[str, str] | None = None
) -> tuple[Folded, list[Folded]]:
    """The network as a struct, and the structs that it uses, inner ones first.

    ``titles`` are the names that blocks have in the source, by scope. With ``derive`` a size that is a multiple of
    another argument everywhere is said by it: ``4 * channels``; with ``sizes`` those fields alone that are sizes, and
    lists of integers element by element.
    """
    classes: dict[Any, list[Shape]] = {}
    _collect(root, classes)
    done: dict[Any, tuple[Folded, _Values]] = {}
    # a class of the source may be called as an operator that the network uses, too: Conv2d
    used = {i.kind for shapes in classes.values() for s in shapes for i in s.items if i.child is None}
    structs: list[Folded] = []
    numbers = {key: i for i, key in enumerate(classes)}
    longer = _merge(root, classes)
    for key in sorted(classes, key=lambda k: (classes[k][0].height, numbers[k])):
        shapes = classes[key]
        if key in longer:
            continue
        name = "" if root in shapes else _name(shapes, used, titles or {})
        made, values = _struct(name, shapes, done, derive, sizes)
        done |= {k: (made, values) for k in (key, *(short for short, long in longer.items() if long == key))}
        structs.append(made)
    main = structs.pop()
    return main, structs


def titles_of(graph: Graph) -> dict[str, str]:
    """What the blocks of ``graph`` are called in its source, by scope."""
    found = graph.meta.get("blocks")
    return found if isinstance(found, dict) else {}


def _collect(shape: Shape, classes: dict[Any, list[Shape]]) -> None:
    for item in shape.items:
        for child in item.rounds or [item.child]:
            if child is not None:
                _collect(child, classes)
    classes.setdefault(shape.key, []).append(shape)


def _merge(root: Shape, classes: dict[Any, list[Shape]]) -> dict[Any, Any]:
    """Blocks that are others without their last steps (a residual, say) join them: shorter key → longer key."""
    found: dict[Any, Any] = {}
    for long in classes:
        tail = classes[long][0].items
        for short in classes:
            count = len(short[2])
            fits = 2 <= count < len(tail) <= count + 2 and short[:2] == long[:2] and short[2] == long[2][:count]
            plain = all(i.child is None and i.kind in _TAILS and i.fields.get("at") is None for i in tail[count:])
            # what may be there or not is the same wherever it is there
            plain = plain and all(
                s.items[p].fields == tail[p].fields for s in classes[long] for p in range(count, len(tail))
            )
            once = short not in found and short not in found.values() and long not in found
            if fits and plain and once and long[1] is None and root.key not in (short, long):
                if long in found.values():
                    continue
                found[short] = long
    for short, long in found.items():
        classes[long].extend(classes[short])
    return found


#: Steps at the end of a block that may be there or not.
_TAILS = ("add", "mul", "relu", "concat", "relu6", "silu", "gelu")


def _struct(
    name: str, shapes: list[Shape], done: dict[Any, tuple[Folded, _Values]], derive: bool, sizes: bool
) -> tuple[Folded, _Values]:
    """One struct for ``shapes``, and the value of each of its arguments for each of them."""
    made = Folded(name, {}, shapes[0])
    lengths = [len(s.items) for s in shapes]
    values: _Values = {id(s): {} for s in shapes}
    known: dict[str, Name] = {}
    columns_of: dict[str, list[Any]] = {}
    windows: dict[str, list[Any]] = {}
    taken = {n.partition(".")[0] for i in shapes[0].items for n in i.names}
    taken |= {*shapes[0].inputs, *shapes[0].reserved, *("i" for i in shapes[0].items if i.rounds)}

    def settle(field_name: str, column: list[Any], stem: str = "", usual: Any = None) -> Any:
        if all(isinstance(v, End) for v in column):
            return None
        texts = [json.dumps(v) for v in column]
        if len(set(texts)) == 1:
            return column[0]
        if derive and all(isinstance(v, tuple) for v in column) and len({len(v) for v in column}) == 1:
            return tuple(settle(field_name, list(part), stem) for part in zip(*column, strict=True))
        if sizes and _alike(column):
            one = "size" if field_name == "shape" else field_name.removesuffix("s")
            return [settle(one, list(part), stem) for part in zip(*column, strict=True)]
        family = _family(field_name) if sizes else ""
        vector = f"{family} {json.dumps(texts)}"
        size = family in ("", "size")
        if vector not in known and derive and size and (found := _derived(column, columns_of)):
            known[vector] = found
        if vector not in known and sizes and (found := _related(family, field_name, column, columns_of | windows)):
            known[vector] = found
        if vector not in known:
            argument = _argument(field_name, made.args, taken, stem)
            (columns_of if size else windows)[argument] = column
            made.args[argument] = _type(column)
            if usual is not None and usual in column and all(type(v) is type(usual) for v in column):
                made.defaults[argument] = usual
            known[vector] = Name(argument)
            for shape, value in zip(shapes, column, strict=True):
                values[id(shape)][argument] = value
        return known[vector]

    if min(lengths) < max(lengths):
        kind = shapes[0].items[min(lengths)].kind
        made.optional = min(lengths)
        column = [n == max(lengths) for n in lengths]
        usual = sum(column) * 2 > len(column) if sizes else None
        made.switch = str(settle("residual" if kind == "add" else "tail", column, usual=usual))
    for place, item in enumerate(shapes[0].items):
        if place == made.optional:
            made.fields |= {p: i.fields for p, i in enumerate(shapes[0].items) if p >= place}
            break
        twins = [s.items[place] for s in shapes]
        columns = {f: [t.fields[f] for t in twins] for f in item.fields}
        if item.child is None:
            usual = {f.name: f.default for f in LAYERS[item.kind].fields} if sizes else {}
            made.fields[place] = {
                f: settle(f, column, item.stem, _usual(usual.get(f))) for f, column in columns.items()
            }
            continue
        inner, given = done[item.child.key]
        made.fields[place] = {f: settle(f, column) for f, column in columns.items()}
        if item.rounds:
            series = {a: [_series([given[id(r)][a] for r in t.rounds], t.down) for t in twins] for a in inner.args}
            arguments = {a: _counted(settle, a, column) for a, column in series.items()}
        else:
            arguments = {
                a: settle(a, [given[_id(t)][a] for t in twins], item.stem, inner.defaults.get(a)) for a in inner.args
            }
        made.calls[place] = (inner, arguments)
    return made, values


def _usual(default: Any) -> Any:
    """A layer's default as one that an argument can have."""
    return default if isinstance(default, bool | int | float) else None


def _series(values: list[Any], down: bool) -> tuple[Any, Any]:
    """An argument over the rounds of a loop: what it is where ``i`` is 0, and by how much it grows with ``i``."""
    values = values[::-1] if down else values
    if len({json.dumps(v) for v in values}) == 1:
        return values[0], 0
    step = values[1] - values[0]
    return int(values[0]), int(step)


def _counted(settle: Any, name: str, column: list[tuple[Any, Any]]) -> Any:
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


def _id(item: Item) -> int:
    return id(item.child)


#: Fields, and arguments named after them, that may be one argument where they are equal.
_FAMILIES = {"size": ("out", "size", "groups", "start", "stop", "count"), "window": ("kernel", "stride")}


def _family(field_name: str) -> str:
    """What a field, or an argument named after one, is about."""
    word = re.sub(r"(_\d+)+$", "", field_name).rpartition("_")[2]
    return next((family for family, words in _FAMILIES.items() if word in words), word)


def _related(family: str, field_name: str, column: list[Any], columns_of: dict[str, list[Any]]) -> Name | None:
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


def _alike(column: list[Any]) -> bool:
    """Whether all are lists of integers, or of such lists, of one form."""
    if not all(isinstance(v, list) and v for v in column) or len({len(v) for v in column}) > 1:
        return False
    parts = [list(p) for p in zip(*column, strict=True)]
    return all(all(type(v) is int for v in p) or _alike(p) for p in parts)


def _derived(column: list[Any], columns_of: dict[str, list[Any]]) -> Name | None:
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


def _argument(field_name: str, args: dict[str, str], taken: set[str], owner: str = "") -> str:
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


def _type(column: list[Any]) -> str:
    kinds = {int if isinstance(v, End) else type(v) for v in column}
    names = {int: "int", float: "float", bool: "bool", str: "str", list: "list"}
    return names.get(kinds.pop(), "any") if len(kinds) == 1 else "any"


def _stem(scope: str) -> str:
    """The word of a scope, without number; in the singular where the scope is one of a list."""
    words = [p for p in scope.split(".") if not p.isdigit()]
    stem = re.sub(r"\d+$", "", re.sub(r"[^A-Za-z0-9_]", "_", words[-1])).strip("_") if words else ""
    one = scope.rpartition(".")[2].isdigit() and len(stem) > 3 and stem.endswith("s") and not stem.endswith("ss")
    return stem[:-1] if one else stem


def _name(shapes: list[Shape], used: set[str], titles: Mapping[str, str]) -> str:
    """A struct's name: the source's, or one from the scopes it stands for: ``blocks.0`` and ``blocks.1`` are Block."""
    stems = []
    for shape in shapes:
        title = re.sub(r"[^A-Za-z0-9_]", "", str(titles.get(shape.scope, ""))).strip("_")
        if shape.round:
            stems.append(f"{title or _stem(shape.scope)}_round")
            continue
        if title:
            stems.append(title)
            continue
        stem = _stem(shape.scope)
        inner = {_stem(i.child.scope) for i in shape.items if i.child is not None}
        group = stem in inner and shape.scope.rpartition(".")[2].isdigit()
        stems.append(f"{stem}_stage" if group else stem or "Part")
    stem = Counter(stems).most_common(1)[0][0]
    stem = "".join(p[:1].upper() + p[1:] for p in stem.split("_")) or "Part"
    name, count = (stem if stem[0].isalpha() else f"Part{stem}"), 1
    first = name
    while name in used:
        count += 1
        name = f"{first}{count}"
    used.add(name)
    return name
