"""Blocks that are others without some of their steps: which of them one struct can stand for."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from instep.graph.text.shape import Item, Shape

__all__ = ["TAILS", "Family", "families", "word_of"]

#: In how many places a block may lack steps, and how many conditions a struct may have.
GAPS, SWITCHES = 2, 3
#: Longest block that is compared with others.
LONGEST = 40
#: Steps at the end of a block that may be there or not, whatever the block is called.
TAILS = ("add", "mul", "relu", "concat", "relu6", "silu", "gelu", "hard_swish")
_NUMBERED = re.compile(r"((?:.*\.)?)(\d+)")

_Class = list[Shape]


@dataclass
class Family:
    """Blocks that one struct stands for, those that have all steps first; the items of each by the places of these."""

    shapes: list[Shape]
    rows: list[list[Item | None]]
    #: by how much the numbers in names are lower in each, because of steps that are missing before them
    shifts: list[int]

    def presence(self, place: int) -> list[bool]:
        """Which of the blocks have a step."""
        return [row[place] is not None for row in self.rows]

    def conditional(self) -> list[list[bool]]:
        """The different ways in which steps are missing."""
        ways = {tuple(self.presence(p)): None for p in range(len(self.rows[0]))}
        return [list(way) for way in ways if not all(way)]


def families(root: Shape, titles: Mapping[str, str], *, merge: bool, apart: Collection[Any] = ()) -> list[Family]:
    """The blocks of a network, equal ones together, the called ones first, the network last.

    With ``merge`` blocks that are others without some steps join these, but for those whose keys are in ``apart``.
    ``titles`` are the names that blocks have in the source: what has another name is something else.
    """
    classes: dict[Any, _Class] = {}
    _collect(root, classes)
    ordered = sorted(classes.values(), key=lambda shapes: shapes[0].height)
    if not merge:
        return [_plain(shapes) for shapes in ordered]
    return _Merger(titles, apart).families(ordered)


def _collect(shape: Shape, found: dict[Any, _Class]) -> None:
    for item in shape.items:
        for child in item.rounds or [item.child]:
            if child is not None:
                _collect(child, found)
    found.setdefault(shape.key, []).append(shape)


def word_of(scope: str) -> str:
    """The word of a scope, without number."""
    words = [p for p in scope.split(".") if not p.isdigit()]
    return re.sub(r"\d+$", "", re.sub(r"[^A-Za-z0-9_]", "_", words[-1])).strip("_") if words else ""


def _plain(shapes: _Class) -> Family:
    return Family(list(shapes), [list(s.items) for s in shapes], [0] * len(shapes))


class _Merger:
    def __init__(self, titles: Mapping[str, str], apart: Collection[Any]) -> None:
        self.titles = titles
        self.apart = apart
        self.groups: dict[int, list[_Class]] = {}
        #: the group of a block, by the block's key
        self.home: dict[Any, int] = {}

    def families(self, classes: Sequence[_Class]) -> list[Family]:
        """``classes`` come in the order of their height, the network last."""
        for number, shapes in enumerate(classes):
            group = [shapes]
            for other in list(self.groups) if shapes is not classes[-1] else []:
                joined = [*self.groups[other], *group]
                if self.akin(joined) and not any(self.within(other, c) for c in group) and self.family(joined):
                    group = joined
                    del self.groups[other]
                    self.home |= {c[0].key: number for c in group}
            self.groups[number] = group
            self.home[shapes[0].key] = number
        found = [self.family(self.groups[number]) for number in self.order()]
        return [f for f in found if f is not None]

    def order(self) -> list[int]:
        """The groups, called ones first."""
        done: dict[int, None] = {}

        def visit(number: int) -> None:
            for called in sorted({c for shapes in self.groups[number] for c in self.called(shapes)}):
                if called not in done:
                    visit(called)
            done[number] = None

        for number in self.groups:
            if number not in done:
                visit(number)
        return list(done)

    def called(self, shapes: _Class) -> set[int]:
        return {self.home[c.key] for i in shapes[0].items for c in (i.rounds or [i.child]) if c is not None}

    def within(self, group: int, shapes: _Class) -> bool:
        """Whether ``shapes`` call ``group``, or something that does."""
        called, seen = self.called(shapes), set[int]()
        while called:
            number = called.pop()
            if number == group:
                return True
            seen.add(number)
            called |= {c for other in self.groups[number] for c in self.called(other)} - seen
        return False

    def akin(self, group: Sequence[_Class]) -> bool:
        """Whether they may be one: no rounds, and no rows of one block, which are of any number."""
        shapes = [c[0] for c in group]
        if any(s.key in self.apart or s.round or len(s.items) > LONGEST for s in shapes):
            return False
        rows = any(all(i.child is not None for i in s.items) and len(self.called([s])) == 1 for s in shapes)
        named = all(self.titles.get(s.scope) for s in shapes)
        return (named or not rows) and not any(i.rounds for s in shapes for i in s.items)

    def family(self, group: Sequence[_Class]) -> Family | None:
        """``group`` as one family; None where that can't be, or reads worse than several."""
        full = max(group, key=lambda shapes: len(shapes[0].items))
        found = _plain(full)
        for shapes in group:
            if shapes is full:
                continue
            laid = self.laid(shapes[0], full[0])
            if laid is None:
                return None
            places, shift = laid
            for shape in shapes:
                row: list[Item | None] = [None] * len(found.rows[0])
                for place, item in zip(places, shape.items, strict=True):
                    row[place] = item
                found.shapes.append(shape)
                found.rows.append(row)
                found.shifts.append(shift)
        ways = found.conditional()
        shifted = [shift == 0 for shift in found.shifts]
        clear = len({s for s in found.shifts if s}) <= 1 and (all(shifted) or shifted in ways)
        return found if clear and len(ways) <= SWITCHES else None

    # -- one block laid over another -----------------------------------------------------------------------------
    def laid(self, short: Shape, full: Shape) -> tuple[list[int], int] | None:
        """The places in ``full`` of the items of ``short``, and the shift of their names: the way that fits best."""
        count, more = len(short.items), len(full.items) - len(short.items)
        if not 0 <= more <= count or (count < 2 and short.items[0].child is None):
            return None
        best: tuple[int, list[int], int] | None = None
        for places in _layings(self.forms(short), self.forms(full)):
            shift = self.shift(short, full, places)
            if shift is None:
                continue
            worse = sum(_unlike(i, full.items[p]) for i, p in zip(short.items, places, strict=True))
            if best is None or worse < best[0]:
                best = worse, places, shift
        if best is None or self.again(full, best[1]) or not self.one(short, full, best[1]):
            return None
        return best[1:]

    def one(self, short: Shape, full: Shape, places: Sequence[int]) -> bool:
        """Whether the source calls both the same, or nothing but an activation or a residual is missing at the end."""
        called = [self.titles.get(s.scope) or word_of(s.scope) for s in (short, full)]
        tail = full.items[len(short.items) :]
        ends = len(places) == places[-1] + 1 and all(i.child is None and i.kind in TAILS for i in tail)
        return called[0] == called[1] or (ends and 0 < len(tail) <= 2)

    def again(self, full: Shape, places: Sequence[int]) -> bool:
        """Whether steps that are not at ``places`` do what the one beside them does: they are rounds of a row."""
        items, forms = full.items, self.forms(full)
        return any(
            forms[a] == forms[a + 1] and not _unlike(items[a], items[a + 1])
            for a in range(len(items) - 1)
            if a not in places or a + 1 not in places
        )

    def shift(self, short: Shape, full: Shape, places: Sequence[int]) -> int | None:
        """By how much the numbers in the names of ``short`` are lower; None where it isn't ``full`` at ``places``."""
        if short.inputs != full.inputs:
            return None
        shifts: set[int] = set()
        names = {n: n for n in full.inputs} | {"_": "_"}
        for item, place in zip(short.items, places, strict=True):
            twin = full.items[place]
            if item.inputs != _renamed(twin.inputs, names):
                return None
            for mine, other in zip(item.names, twin.names, strict=True):
                shift = _apart(mine, other)
                if shift is None:
                    return None
                names[other] = mine
                shifts.add(shift)
        if short.outputs != _renamed(full.outputs, names) or len(shifts - {0}) > 1:
            return None
        return max(shifts, default=0)

    def forms(self, shape: Shape) -> list[Any]:
        """What is the same in all calls of each step."""
        found = []
        for item, (names, kind, _, given, marks, *_) in zip(shape.items, shape.key[2], strict=True):
            child = None if item.child is None else self.home[item.child.key]
            found.append((len(names), kind, given, marks, child))
        return found


def _layings(short: Sequence[Any], full: Sequence[Any]) -> list[list[int]]:
    """The places in ``full`` that ``short`` can have, in order, what is left out lying in one run or in a few.

    The fewest runs come first, and of those the earliest.
    """
    found: list[list[int]] = []

    def lay(places: list[int], runs: int) -> None:
        begin, left = places[-1] + 1 if places else 0, len(short) - len(places)
        if not left:
            if runs + (begin < len(full)) <= GAPS:
                found.append(places)
            return
        for place in range(begin, len(full) - left + 1):
            more = runs + (place > begin)
            if more > GAPS:
                return
            if short[len(places)] == full[place]:
                lay([*places, place], more)

    lay([], 0)
    return sorted(found, key=lambda places: _runs(places, len(full)))


def _runs(places: Sequence[int], count: int) -> tuple[int, list[int], list[int]]:
    """The runs among ``count`` steps that are not at ``places``: how many, behind how many steps, and their sizes."""
    bounds = [-1, *places, count]
    sizes = {n: b - a - 1 for n, (a, b) in enumerate(pairwise(bounds)) if b - a > 1}
    return len(sizes), list(sizes), list(sizes.values())


def _renamed(names: tuple[str, ...] | None, known: Mapping[str, str]) -> tuple[str, ...] | None:
    return None if names is None else tuple(known.get(n, "") for n in names)


def _apart(mine: str, other: str) -> int | None:
    """By how much the number of one name is lower than the other's: 0.conv.1 and 0.conv.2; None for other names."""
    if mine == other:
        return 0
    a, b = _NUMBERED.fullmatch(mine), _NUMBERED.fullmatch(other)
    if a is None or b is None or a[1] != b[1] or int(a[2]) >= int(b[2]):
        return None
    return int(b[2]) - int(a[2])


def _unlike(item: Item, twin: Item) -> int:
    """How many fields differ, those of all steps within counted."""
    count = sum(item.fields[f] != twin.fields.get(f) for f in item.fields)
    if item.child is None or twin.child is None:
        return count
    return count + sum(_unlike(a, b) for a, b in zip(item.child.items, twin.child.items, strict=False))
