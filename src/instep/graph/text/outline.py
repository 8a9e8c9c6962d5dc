"""The outline of a graph that is printed: layers, the scopes that they stand in, and loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from instep.graph.core import Value

__all__ = [
    "CARRIED",
    "EACH",
    "KEPT",
    "LAST",
    "SAME",
    "Block",
    "End",
    "Leaf",
    "Loop",
    "begin",
    "first_within",
    "grouped",
    "shared",
    "told_apart",
]

#: What a round of a loop reads: what the round before gave, one value in all, or another value in each.
CARRIED, SAME, EACH = "carried", "same", "each"
#: What a round gives besides what is carried: a value that is read of several rounds, or of the last alone.
KEPT, LAST = "kept", "last"


class End(int):
    """A stop that is the end of the axis, which need not be said."""


@dataclass
class Leaf:
    """One layer: what it reads and gives, its fields (all of them, defaults too), the scope of its weights."""

    kind: str
    inputs: list[Value]
    outputs: list[Value]
    fields: dict[str, Any]
    scope: str
    #: the weights that the layer has of itself, by their names within it
    weights: list[Value] = field(default_factory=list)
    #: the scope of the one step that reads a constant of further up
    inner: str = field(default="", kw_only=True)
    #: numbers that are among its fields
    constants: list[Value] = field(default_factory=list, kw_only=True)


@dataclass
class Block:
    """A scope: its leaves and the scopes within it, in order."""

    scope: str
    #: leaves, blocks and loops
    items: list[Any]
    #: what it reads and gives, in this order, where that is settled
    reads: list[Value] | None = None
    gives: list[Value] | None = None

    def leaves(self) -> list[Leaf]:
        return [leaf for i in self.items for leaf in ([i] if isinstance(i, Leaf) else i.leaves())]

    def stand_ins(self) -> list[Value]:
        """Those of all loops within."""
        found: list[Value] = []
        for item in self.items:
            if isinstance(item, Loop):
                found += item.stand_ins
            inner = item.rounds if isinstance(item, Loop) else [item] if isinstance(item, Block) else []
            found += [v for block in inner for v in block.stand_ins()]
        return found


@dataclass
class Loop:
    """Blocks of one form, one behind the other: the rounds of a loop. All read and give as many values."""

    scope: str
    rounds: list[Block]
    #: what each of the read values is, with the place among the given ones that it is carried from
    inputs: list[tuple[str, int | None]]
    outputs: list[str]
    #: what the first round reads instead of what it begins with
    stand_ins: list[Value] = field(default_factory=list)

    def leaves(self) -> list[Leaf]:
        return [leaf for r in self.rounds for leaf in r.leaves()]


def begin(value: Value, starts: Mapping[Value, Value]) -> Value:
    """What ``value`` is outside of the loops that it is a stand-in of."""
    while value in starts:
        value = starts[value]
    return value


def grouped(leaves: Sequence[Leaf], scope: str, *, whole: bool = False) -> list[Any]:
    """Consecutive leaves of one inner scope become a block, those of this scope stay.

    Those that are all of one scope, none of its own within it, become one where ``whole`` asks for it.
    """
    items: list[Any] = []
    at = 0
    while at < len(leaves):
        first = first_within(leaves[at].scope, scope)
        stop = at + 1
        while first and stop < len(leaves) and first_within(leaves[stop].scope, scope) == first:
            stop += 1
        run = leaves[at:stop]
        at = stop
        steps = sum(r.kind != "param" for r in run)
        if len({r.scope for r in run}) == 1 and not (whole and first and steps > 1):
            items.extend(run)
            continue
        inner = shared([r.scope for r in run])
        items.append(Block(inner, grouped(run, inner, whole=whole)))
    return items


def told_apart(block: Block, titles: Mapping[str, str]) -> bool:
    """Blocks that hold nothing but another one come back in ``block`` where the source has more of their name.

    ``grouped`` leaves them out; but what is in a block here may be beside other steps in the next one. What it returns
    says whether there are any.
    """
    return _told_apart(block, titles, {titles.get(b.scope, "") for b in _blocks(block)} - {""})


def _told_apart(block: Block, titles: Mapping[str, str], known: set[str]) -> bool:
    found = False
    for place, item in enumerate(block.items):
        if not isinstance(item, Block):
            continue
        found |= _told_apart(item, titles, known)
        scope = item.scope.rpartition(".")[0]
        while len(scope) > len(block.scope):
            if titles.get(scope) in known:
                block.items[place] = Block(scope, [block.items[place]])
                found = True
            scope = scope.rpartition(".")[0]
    return found


def _blocks(block: Block) -> list[Block]:
    inner = [i for i in block.items if isinstance(i, Block)]
    return [b for i in inner for b in (i, *_blocks(i))]


def first_within(scope: str, outer: str) -> str:
    """The first component of ``scope`` within ``outer``; nothing where it is that scope itself, or elsewhere."""
    if not outer:
        return scope.partition(".")[0]
    return scope[len(outer) + 1 :].partition(".")[0] if scope.startswith(outer + ".") else ""


def shared(scopes: Sequence[str]) -> str:
    """The longest scope that holds all of ``scopes``."""
    parts = [s.split(".") for s in scopes]
    common = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        common.append(column[0])
    return ".".join(common)
