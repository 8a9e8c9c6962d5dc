"""Runs of equal steps in an outline become loops: rounds of one form, with values carried from one to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from instep.graph.core import Value
from instep.graph.text.outline import CARRIED, EACH, KEPT, LAST, SAME, Block, Leaf, Loop

__all__ = ["repeated"]

#: A run is worth a loop from so many steps saved on; two rounds alone only where they are long.
SAVED, LONG = 6, 8
#: Longest round.
LONGEST = 256

_Item = Leaf | Block


def repeated(root: Block, outputs: Sequence[Value]) -> dict[Value, Value]:
    """Put loops into ``root`` in place. What it returns says which value each stand-in is at first.

    The first round of a loop reads stand-ins for what the others have from the round before, so that all are equal even
    where two carried values begin as one.
    """
    users: dict[Value, set[int]] = {}
    for leaf in root.leaves():
        for value in leaf.inputs:
            users.setdefault(value, set()).add(id(leaf))
    for value in outputs:
        users.setdefault(value, set()).add(0)
    return _Finder(users).walk(root)


class _Finder:
    def __init__(self, users: dict[Value, set[int]]) -> None:
        self.users = users
        self.starts: dict[Value, Value] = {}
        self.tokens: dict[Any, int] = {}
        #: weights that a loop begins with, to be declared before it instead of in a block of its first round
        self.lifted: dict[Value, Leaf] = {}

    def walk(self, block: Block) -> dict[Value, Value]:
        for item in block.items:
            if isinstance(item, Block):
                self.walk(item)
        declared: dict[Value, int] = {}
        for item in block.items:
            if isinstance(item, Leaf) and item.kind == "param":
                declared[item.outputs[0]] = declared.get(item.outputs[0], 0) + 1
        # a weight is declared once, before what reads it first; numbers of one step stay with it
        single = {v for v, n in declared.items() if n == 1 and _plain(block.items, v)}
        params = {i.outputs[0]: i for i in block.items[::-1] if isinstance(i, Leaf) and _hoisted(i, single)}
        rest: list[Any] = [i for i in block.items if not (isinstance(i, Leaf) and _hoisted(i, single))]
        found: list[Any] = []
        rest = self.search(rest, block.scope)
        params |= {v: leaf for v, leaf in self.lifted.items() if v not in params}
        self.lifted.clear()
        for item in rest:
            if isinstance(item, Loop):
                reads = [self.starts.get(v, v) for r in item.rounds for v in r.reads or ()]
            else:
                own = {v for leaf in _leaves(item) if leaf.kind == "param" for v in leaf.outputs}
                reads = [v for leaf in _leaves(item) for v in leaf.inputs if v not in own]
            found += [params.pop(v) for v in dict.fromkeys(reads) if v in params]
            found.append(item)
        block.items = [*found, *params.values()]
        return self.starts

    # -- runs ----------------------------------------------------------------------------------------------------
    def search(self, items: list[_Item], scope: str) -> list[Any]:
        """``items`` with their longest run as a loop, and so on in what lies before and behind it."""
        ids = [self.tokens.setdefault(_token(i, scope), len(self.tokens)) for i in items]
        for start, period, matched in _runs(ids):
            loop = self.loop(items, start, period, matched, scope)
            if loop is not None:
                first, count, made = loop
                return [*self.search(items[:first], scope), made, *self.search(items[first + count :], scope)]
        return list(items)

    def loop(
        self, items: list[_Item], start: int, period: int, matched: int, scope: str
    ) -> tuple[int, int, Loop] | None:
        """The loop of the run from ``start`` on, with where it begins and how many items it takes."""
        rounds, extra = divmod(matched, period)
        rounds += 1
        for count, most in ((rounds, extra), (rounds - 1, extra + period)):
            if period * (count - 1) < SAVED or (count == 2 and period < LONG) or count < 2:
                continue
            places: list[tuple[int, int]] = []
            for offset in range(start, start + min(most, period) + 1):
                few = min(count, 3)
                slots = self.slots(_cut(items, offset, period, few))
                if slots is not None:
                    places.append((len(slots[0]) + len(slots[1]), offset))
            for _, offset in sorted(places):
                bodies = _cut(items, offset, period, count)
                slots = self.slots(bodies)
                if slots is not None and _affine(bodies):
                    return offset, period * count, self.made(bodies, scope, *slots)
        return None

    def slots(self, bodies: list[list[_Item]]) -> tuple[list[Any], list[Any]] | None:
        """What rounds read and give: ``(kind, leaf, output or values)`` each; None where they are not alike."""
        made: dict[Value, tuple[int, int, int]] = {}
        rounds = [_inner(b) for b in bodies]
        for number, leaves in enumerate(rounds):
            for place, (leaf, _) in enumerate(leaves):
                for out, value in enumerate(leaf.outputs):
                    made.setdefault(value, (number, place, out))
        reads: dict[Any, None] = {}
        carried: dict[tuple[int, int], None] = {}
        for column in zip(*rounds, strict=True):
            for values in zip(*(leaf.inputs for leaf, _ in column), strict=True):
                slot = _slot([self.begin(v) for v in values], made, [own for _, own in column])
                if slot is None:
                    return None
                if slot:
                    reads.setdefault(slot)
                if slot and slot[0] == CARRIED:
                    carried.setdefault(slot[1])
        inside = {id(leaf) for leaves in rounds for leaf, _ in leaves}
        gives: list[Any] = [(CARRIED, c) for c in carried]
        for place, (leaf, _) in enumerate(rounds[0]):
            for out in range(len(leaf.outputs)):
                values = [leaves[place][0].outputs[out] for leaves in rounds]
                outer = [bool(self.users.get(v, set()) - inside) for v in values]
                if leaf.kind == "param":
                    continue
                if any(outer[:-1]):
                    gives.append((KEPT, (place, out)))
                elif outer[-1] and (place, out) not in carried:
                    gives.append((LAST, (place, out)))
        return list(reads), gives

    def begin(self, value: Value) -> Value:
        """What a stand-in stands for; any other value is itself."""
        return self.starts.get(value, value)

    def made(self, bodies: list[list[_Item]], scope: str, reads: list[Any], gives: list[Any]) -> Loop:
        rounds = [_inner(b) for b in bodies]
        order = [g[1] for g in gives if g[0] == CARRIED]
        inputs: list[list[Value]] = [[] for _ in rounds]
        stand_ins: list[Value] = []
        for kind, what, *init in reads:
            if kind == CARRIED:
                place, out = what
                stand_in = Value(init[0].name, init[0].shape, init[0].dtype)
                self.replace(rounds, what, init[0], stand_in)
                self.lift(bodies[0], init[0], scope)
                self.starts[stand_in] = init[0]
                stand_ins.append(stand_in)
                values = [stand_in, *(leaves[place][0].outputs[out] for leaves in rounds[:-1])]
            else:
                values = what if kind == EACH else [what] * len(rounds)
            for mine, value in zip(inputs, values, strict=True):
                mine.append(value)
        for items in zip(*bodies, strict=True):
            self.align(list(items))
        blocks = []
        for body, leaves, mine in zip(bodies, rounds, inputs, strict=True):
            given = [leaves[place][0].outputs[out] for _, (place, out) in gives]
            blocks.append(Block(scope, list(body), mine, given))
        roles = [(kind, order.index(what) if kind == CARRIED else None) for kind, what, *_ in reads]
        return Loop(scope, blocks, roles, [g[0] for g in gives], stand_ins)

    def align(self, items: list[Any]) -> None:
        """Blocks of the rounds give back what any of them is asked for."""
        if not isinstance(items[0], Block):
            return
        leaves = [[leaf for leaf in b.leaves() if not _weight(leaf)] for b in items]
        inside = [{id(leaf) for leaf in mine} for mine in leaves]
        gives: list[list[Value]] = [[] for _ in items]
        for column in zip(*leaves, strict=True):
            for values in zip(*(leaf.outputs for leaf in column), strict=True):
                asked = any(self.users.get(v, set()) - mine for v, mine in zip(values, inside, strict=True))
                if asked and column[0].kind != "param":
                    for mine, value in zip(gives, values, strict=True):
                        mine.append(value)
        for block, mine in zip(items, gives, strict=True):
            block.gives = mine
        parts = [[i for i in b.items if not (isinstance(i, Leaf) and _weight(i))] for b in items]
        if len({len(p) for p in parts}) == 1:
            for inner in zip(*parts, strict=True):
                self.align(list(inner))

    def lift(self, body: Sequence[Any], value: Value, scope: str) -> None:
        """Take the declaration of ``value`` out of blocks that do not read it any more."""
        for item in body:
            if not isinstance(item, Block):
                continue
            mine = [i for i in item.items if isinstance(i, Leaf) and _weight(i) and i.outputs == [value]]
            if mine and not any(value in leaf.inputs for leaf in item.leaves()):
                item.items = [i for i in item.items if i not in mine]
                self.lifted[value] = Leaf("param", [], [value], dict(mine[0].fields), scope, [value])
            self.lift(item.items, value, scope)

    def replace(self, rounds: list[Any], what: tuple[int, int], init: Value, stand_in: Value) -> None:
        """Where the second round reads ``what`` of the first, the first reads ``stand_in``."""
        place, out = what
        before = rounds[0][place][0].outputs[out]
        for (leaf, _), (twin, _) in zip(rounds[0], rounds[1], strict=True):
            for i, (value, other) in enumerate(zip(leaf.inputs, twin.inputs, strict=True)):
                if self.starts.get(other, other) is not before or self.starts.get(value, value) is not init:
                    continue
                if value in self.starts:
                    self.starts[value] = stand_in  # of a loop within the round
                else:
                    leaf.inputs[i] = stand_in


def _slot(values: Sequence[Value], made: dict[Value, tuple[int, int, int]], own: list[frozenset[Value]]) -> Any:
    """What one input is in all rounds: () within the round; None where it is not the same."""
    if all(v in o for v, o in zip(values, own, strict=True)) and len(set(values)) == 1:
        return ()
    places = [made.get(v) for v in values]
    if all(p is None for p in places):
        if any(v in o for v, o in zip(values, own, strict=True)):
            return None
        return (SAME, values[0]) if len(set(values)) == 1 else (EACH, tuple(values))
    if any(p is None for p in places[1:]):
        return None
    steps = [(p[0] - n, p[1:]) for n, p in enumerate(places) if p is not None]
    if places[0] is None:
        alike = len(set(steps)) == 1 and steps[0][0] == -1
        return (CARRIED, steps[0][1], values[0]) if alike else None
    return () if len(set(steps)) == 1 and steps[0][0] == 0 else None


def _runs(ids: list[int]) -> Iterator[tuple[int, int, int]]:
    """Where items repeat at a distance: start, distance, how many do; those that save most first."""
    before: dict[int, int] = {}
    distances: set[int] = set()
    for place, number in enumerate(ids):
        if number in before:
            distances.add(place - before[number])
        before[number] = place
    found = []
    for period in sorted(d for d in distances if d <= LONGEST):
        start = 0
        for place in range(len(ids) - period + 1):
            if place < len(ids) - period and ids[place] == ids[place + period]:
                continue
            rounds = (place - start) // period
            if rounds and rounds * period >= SAVED:
                found.append((-rounds * period, period, start, place - start))
            start = place + 1
    for _, period, start, matched in sorted(found):
        yield start, period, matched


def _cut(items: list[_Item], start: int, period: int, count: int) -> list[list[_Item]]:
    return [items[start + k * period : start + (k + 1) * period] for k in range(count)]


def _inner(body: Sequence[_Item]) -> list[tuple[Leaf, frozenset[Value]]]:
    """The leaves of a round, each with the weights that its own block declares."""
    found = []
    for item in body:
        leaves = _leaves(item)
        own = frozenset(v for leaf in leaves if leaf.kind == "param" for v in leaf.outputs)
        own = own if isinstance(item, Block) else frozenset()
        found += [(leaf, own) for leaf in leaves if not _weight(leaf)]
    return found


def _leaves(item: Any) -> list[Leaf]:
    return [item] if isinstance(item, Leaf) else item.leaves()


def _plain(items: Sequence[Any], value: Value) -> bool:
    return any(isinstance(i, Leaf) and i.outputs == [value] and i.fields.get("value") is not None for i in items)


def _weight(leaf: Leaf) -> bool:
    """Whether it declares a weight, whose numbers are not in the text."""
    return leaf.kind == "param" and leaf.fields.get("value") is None


def _hoisted(leaf: Leaf, single: set[Value]) -> bool:
    return leaf.kind == "param" and leaf.outputs[0] not in single


def _token(item: _Item, scope: str) -> Any:
    if isinstance(item, Leaf):
        inner = item.scope[len(scope) :] if item.scope.startswith(scope) else "/" + item.scope
        fields = tuple((k, _form(v)) for k, v in item.fields.items())
        weights = tuple(w.name for w in item.weights) if item.fields.get("value") is None else ()
        return (item.kind, inner, fields, weights, len(item.inputs), len(item.outputs))
    return (item.scope[len(scope) :], tuple(_token(leaf, scope) for leaf in item.leaves() if not _weight(leaf)))


def _form(value: Any) -> Any:
    """A field's value without its integers."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int
    if isinstance(value, list | tuple):
        return tuple(_form(v) for v in value)
    return repr(value)


def _affine(bodies: list[list[_Item]]) -> bool:
    """Whether the integers of all fields count up evenly from round to round."""
    numbers = [[n for leaf, _ in _inner(b) for n in _integers(list(leaf.fields.values()))] for b in bodies]
    for column in zip(*numbers, strict=True):
        step = column[1] - column[0]
        if any(n != column[0] + k * step for k, n in enumerate(column)):
            return False
    return True


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, list | tuple):
        for v in value:
            yield from _integers(v)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value
