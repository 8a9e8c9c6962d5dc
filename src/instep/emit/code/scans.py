"""Loops over time that are one call: every round is the same step, of another place of a sequence (jax.lax.scan)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from instep.emit.code.blocks import CodeLeaf
from instep.emit.code.call import Call
from instep.emit.code.indexing import place
from instep.graph.core import Graph, Value
from instep.graph.text.outline import CARRIED, EACH, LAST, Loop

__all__ = ["Finder", "Row", "Scan", "Scans"]


class Scans(Protocol):
    """How a framework writes them."""

    def allows(self, call: Call) -> bool:
        """Whether a step may do what ``call`` does: nothing in it changes the network."""
        ...

    def rows(self, text: str, axis: int) -> str:
        """The value ``text`` with ``axis`` first."""
        ...

    def joined(self, text: str, name: str) -> str:
        """An expression that reads what a scan called ``name`` gave, which is one array and no list."""
        ...

    def scan(self, step: str, start: str, rows: str, found: Scan) -> str:
        """The call."""
        ...


@dataclass(frozen=True)
class Row:
    """What a step reads of a sequence: a place of ``axis``, which stays, of size 1, or goes. ``name`` is its value.

    ``part`` says where those places begin and end on the axis, where that is not all of it.
    """

    name: str
    axis: int
    stays: bool
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class Scan:
    """A loop that is a scan. It reads its rows ``backwards``, from the last to the first, or as they are.

    ``given``: it begins with arrays of the network, which may be one state for a whole batch.
    """

    rows: tuple[Row, ...]
    backwards: bool = False
    given: bool = False


@dataclass
class Finder:
    """Says which loops are scans where a framework has ``scans``; ``begin`` says what stand-ins stand for."""

    graph: Graph
    scans: Scans | None
    begin: Callable[[Value], Value]

    def scan(self, loop: Loop, names: Callable[[CodeLeaf], str]) -> Scan | None:
        """``loop`` as a scan, where it is one; ``names`` has the names of what a round's leaves give."""
        if self.scans is None or EACH in (kind for kind, _ in loop.inputs) or LAST in loop.outputs:
            return None
        starts = self.starts(loop)
        if not starts or any(len({(v.shape, v.dtype) for v in ends}) > 1 for _, ends in starts):
            return None
        if any(start.dtype != ends[0].dtype or not _spreads(start, ends[0]) for start, ends in starts):
            return None
        rows: list[Row] = []
        orders: set[bool] = set()
        for leaves in zip(*(r.leaves() for r in loop.rounds), strict=True):
            if not all(isinstance(leaf, CodeLeaf) and self.scans.allows(leaf.call) for leaf in leaves):
                return None
            if all(leaf.fields == leaves[0].fields for leaf in leaves):
                continue
            mine = any(item is leaves[0] for item in loop.rounds[0].items)
            found = self.row(names(leaves[0]), leaves) if mine else None
            if found is None:
                return None
            rows.append(found[0])
            orders.add(found[1])
        if len(orders) != 1:
            return None
        given = any(s.shape != ends[0].shape or s not in self.computed for s, ends in starts)
        return Scan(tuple(rows), orders.pop(), given)

    def starts(self, loop: Loop) -> list[tuple[Value, list[Value]]]:
        """What is carried: the value that it begins with, and those of all rounds."""
        found = []
        for (kind, at), first in zip(loop.inputs, loop.rounds[0].reads or (), strict=True):
            if kind == CARRIED and at is not None:
                found.append((self.begin(first), [(r.gives or [])[at] for r in loop.rounds]))
        return found

    def row(self, name: str, leaves: Sequence[CodeLeaf]) -> tuple[Row, bool] | None:
        """What the rounds read, and whether from the last place on; None where it is not one place after the other."""
        whole = {self.begin(leaf.inputs[0]) for leaf in leaves}
        found = place(leaves[0].call)
        if found is None or len(whole) != 1:
            return None
        (axis, stays), key = found, "index"
        if stays:
            key = f"start{axis}"
            if any(leaf.fields[f"stop{axis}"] != leaf.fields[key] + 1 for leaf in leaves):
                return None
        places, size = [leaf.fields[key] for leaf in leaves], whole.pop().shape[axis]
        part = (min(places), max(places) + 1)
        every = list(range(*part))
        if places not in (every, every[::-1]):
            return None
        return Row(name, axis, stays, part if part != (0, size) else None), places != every

    @cached_property
    def computed(self) -> set[Value]:
        """What depends on the inputs."""
        found = set(self.graph.inputs)
        for node in self.graph.nodes:
            if found.intersection(node.inputs):
                found.update(node.outputs)
        return found


def _spreads(start: Value, end: Value) -> bool:
    """Whether the one becomes the other by repetition."""
    return start.rank == end.rank and all(a in (1, b) for a, b in zip(start.shape, end.shape, strict=True))
