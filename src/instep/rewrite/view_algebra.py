"""The algebra of views: what any chain of reshapes and permutes does, in its smallest form.

A chain of reshapes and permutes splits the input's axes into *atoms*, reorders the atoms and merges them again.
Atoms of size 1 do not matter and atoms that travel side by side are one atom: what is left is the data movement.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, pairwise, permutations

from instep.graph import ops
from instep.graph.operator import Operator

__all__ = ["View", "factor_permutation", "moves_data", "reshape_groups"]


class _Atom:
    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


def moves_data(shape: Sequence[int], perm: Sequence[int]) -> bool:
    """Whether transposing ``shape`` by ``perm`` changes the order in memory (moving axes of size 1 does not)."""
    real = [p for p in perm if shape[p] != 1]
    return real != sorted(real)


def reshape_groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of axes, (of ``before``, of ``after``), whose products agree, in order.

    Axes of size 1 join the group before them (the first group at the front).
    """
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left, right = [], []
        a = b = 1
        if i < len(before):
            a, left, i = before[i], [i], i + 1
        if j < len(after):
            b, right, j = after[j], [j], j + 1
        while a != b:
            if a < b:
                a, i = a * before[i], i + 1
                left.append(i - 1)
            else:
                b, j = b * after[j], j + 1
                right.append(j - 1)
        groups.append((left, right))
    return groups


class View:
    """What a chain of reshapes and permutes does to a tensor of ``in_shape``."""

    def __init__(self, in_shape: Sequence[int]) -> None:
        self.in_shape = tuple(in_shape)
        self._inner: list[_Atom] = []
        self._dims: list[list[_Atom]] = []
        for size in in_shape:
            atom = _Atom(size)
            self._inner.append(atom)
            self._dims.append([atom])

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(math.prod(a.size for a in dim) for dim in self._dims)

    # -- growing the chain -------------------------------------------------------------------------------------
    def then(self, op: Operator) -> bool:
        """Append a Reshape or Permute. False (and unusable from then on) when the chain is not one affine map."""
        if isinstance(op, ops.Permute):
            self._dims = [self._dims[p] for p in op.perm]
            return True
        if isinstance(op, ops.Reshape):
            return self._reshape(op.shape)
        return False

    def _coalesce(self) -> None:
        """Drop atoms of size 1 and merge atoms that are neighbours, in this order, inside and outside."""
        self._inner = [a for a in self._inner if a.size != 1]
        place = {id(a): i for i, a in enumerate(self._inner)}
        gone: set[int] = set()
        for dim in self._dims:
            merged: list[_Atom] = []
            for atom in dim:
                if atom.size == 1:
                    continue
                last = merged[-1] if merged else None
                if last is not None and place[id(atom)] == place[id(last)] + 1:
                    fused = _Atom(last.size * atom.size)
                    self._inner[place[id(atom)]] = fused
                    place[id(fused)] = place[id(atom)]
                    gone.add(place[id(last)])
                    merged[-1] = fused
                else:
                    merged.append(atom)
            dim[:] = merged
        self._inner = [a for i, a in enumerate(self._inner) if i not in gone]

    def _split(self, atom: _Atom, outer: int) -> tuple[_Atom, _Atom]:
        a, b = _Atom(outer), _Atom(atom.size // outer)
        where = next(i for i, x in enumerate(self._inner) if x is atom)
        self._inner[where : where + 1] = [a, b]
        return a, b

    def _reshape(self, shape: Sequence[int]) -> bool:
        self._dims = [[a for dim in self._dims for a in dim]]
        self._coalesce()
        queue = deque(self._dims[0])
        dims: list[list[_Atom]] = []
        for size in shape:
            dim: list[_Atom] = []
            rest = size
            while rest > 1:
                if not queue:
                    return False
                atom = queue.popleft()
                if rest % atom.size == 0:
                    dim.append(atom)
                    rest //= atom.size
                elif atom.size % rest == 0:
                    outer, inner = self._split(atom, rest)
                    dim.append(outer)
                    queue.appendleft(inner)
                    rest = 1
                else:
                    return False
            dims.append(dim)
        self._dims = dims
        return not queue

    # -- reading -----------------------------------------------------------------------------------------------
    def core(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(sizes, perm): the movement on the fewest axes; an empty or sorted perm moves nothing."""
        seq = [a for dim in self._dims for a in dim if a.size != 1]
        place = {id(a): i for i, a in enumerate(x for x in self._inner if x.size != 1)}
        order = [place[id(a)] for a in seq]
        sizes = [a.size for a in self._inner if a.size != 1]
        blocks: list[list[int]] = []
        for i in order:
            if blocks and blocks[-1][-1] + 1 == i:
                blocks[-1].append(i)
            else:
                blocks.append([i])
        ranks = {b[0]: r for r, b in enumerate(sorted(blocks, key=lambda b: b[0]))}
        perm = tuple(ranks[b[0]] for b in blocks)
        core = tuple(math.prod(sizes[i] for i in b) for b in sorted(blocks, key=lambda b: b[0]))
        return core, perm

    @property
    def moves(self) -> bool:
        _, perm = self.core()
        return list(perm) != sorted(perm)

    def place(self, axis: int) -> tuple[int, int] | None:
        """(size, stride) of one axis of the result in the input's memory; None where no single stride says it."""
        atoms = [a for a in self._dims[axis] if a.size != 1]
        if len(atoms) != 1:
            return None
        where = next(i for i, a in enumerate(self._inner) if a is atoms[0])
        return atoms[0].size, math.prod(a.size for a in self._inner[where + 1 :])

    def without(self, axis: int) -> View:
        """What the chain does to one entry along an axis that has a ``place``."""
        rest = self.of(self.in_shape)
        rest._inner = [a for a in self._inner if a not in self._dims[axis]]
        del rest._dims[axis]
        return rest.of([a.size for a in rest._inner])

    def of(self, in_shape: Sequence[int]) -> View:
        """The same movement of what has as many elements in another shape."""
        view = View(in_shape)
        view._inner, view._dims = list(self._inner), [list(dim) for dim in self._dims]
        return view

    def to_ops(self, max_rank: int = 4) -> list[Operator]:
        """The fewest reshapes and permutes, none moving more than ``max_rank`` axes, that do the same."""
        out = self.out_shape
        sizes, perm = self.core()
        if list(perm) == sorted(perm):
            return [] if out == self.in_shape else [ops.Reshape(out)]
        direct = self._direct(sizes, perm, max_rank)
        if direct is not None:
            return direct
        steps: list[Operator] = []
        shape = self.in_shape
        for split, move in factor_permutation(perm, max_rank):
            blocks = tuple(math.prod(sizes[i] for i in b) for b in split)
            if blocks != shape:
                steps.append(ops.Reshape(blocks))
            steps.append(ops.Permute(move))
            shape = tuple(blocks[m] for m in move)
        if shape != out:
            steps.append(ops.Reshape(out))
        return steps

    def _direct(self, sizes: tuple[int, ...], perm: tuple[int, ...], max_rank: int) -> list[Operator] | None:
        """Permute the input's own axes, or reshape once and permute to the output's own axes, where that is enough."""
        out = self.out_shape
        in_axes = _axes_of_blocks(self.in_shape, sizes)
        if in_axes is not None and len(self.in_shape) <= max_rank:
            ones = [i for i, n in enumerate(self.in_shape) if n == 1]
            real = [axis for p in perm for axis in in_axes[p]]
            move = _place_ones(self.in_shape, real, ones, out)
            if move is not None:
                return [ops.Permute(move)]
            move = tuple(ones + real)
            return [ops.Permute(move), ops.Reshape(out)]
        out_sizes = tuple(sizes[p] for p in perm)
        out_axes = _axes_of_blocks(out, out_sizes)
        if out_axes is not None and len(out) <= max_rank:
            back = {p: k for k, p in enumerate(perm)}
            order = [axis for p in range(len(perm)) for axis in out_axes[back[p]]]
            order = [i for i, n in enumerate(out) if n == 1] + order
            before = tuple(out[a] for a in order)
            move = tuple(order.index(a) for a in range(len(out)))
            return [ops.Reshape(before), ops.Permute(move)]
        return None


def _axes_of_blocks(shape: Sequence[int], blocks: Sequence[int]) -> list[list[int]] | None:
    """Which axes (size > 1) of ``shape`` make each block, or None when an axis spans two blocks."""
    result: list[list[int]] = []
    axis = 0
    for block in blocks:
        mine: list[int] = []
        rest = block
        while rest > 1:
            while shape[axis] == 1:
                axis += 1
            if rest % shape[axis]:
                return None
            mine.append(axis)
            rest //= shape[axis]
            axis += 1
        result.append(mine)
    return result


def _place_ones(shape: Sequence[int], real: list[int], ones: list[int], out: Sequence[int]) -> tuple[int, ...] | None:
    """A permutation of ``shape``'s axes that keeps the order ``real`` and gives exactly ``out``, or None."""
    if len(out) != len(shape):
        return None
    move: list[int] = []
    real, ones = list(real), list(ones)
    for size in out:
        source = ones if size == 1 else real
        if not source or shape[source[0]] != size:
            return None
        move.append(source.pop(0))
    return tuple(move)


Step = tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]
#: Up to so many blocks the fewest moves are found by search; beyond, moves are chosen greedily.
SEARCH_LIMIT = 6


@lru_cache(maxsize=1024)
def factor_permutation(perm: tuple[int, ...], max_rank: int = 4) -> tuple[Step, ...]:
    """The fewest moves of at most ``max_rank`` contiguous blocks that bring 0…n-1 into the order ``perm``.

    Each step is (blocks, move): the current order cut into blocks of labels, and the permutation of the blocks.
    Beyond six blocks each move is the one that leaves the fewest blocks: short, though not always shortest.
    """
    state, goal = tuple(range(len(perm))), tuple(perm)
    steps: list[Step] = []
    while len(_blocks(state, goal)) > SEARCH_LIMIT:
        groups = _blocks(state, goal)
        _, step = min(
            ((len(_blocks(after, goal)), step) for after, step in _moves(groups, max_rank)), key=lambda found: found[0]
        )
        steps.append(step)
        state = tuple(x for m in step[1] for x in step[0][m])
    return (*steps, *_search(state, goal, max_rank))


def _blocks(state: tuple[int, ...], goal: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """``state`` cut wherever neighbours are not neighbours in ``goal``."""
    after = dict(pairwise(goal))
    blocks: list[list[int]] = []
    for label in state:
        if blocks and after.get(blocks[-1][-1]) == label:
            blocks[-1].append(label)
        else:
            blocks.append([label])
    return tuple(tuple(b) for b in blocks)


def _moves(groups: tuple[tuple[int, ...], ...], max_rank: int) -> Iterator[tuple[tuple[int, ...], Step]]:
    """Every order that one move of at most ``max_rank`` blocks (each of whole ``groups``) reaches, with the move."""
    n = len(groups)
    for parts in range(2, min(max_rank, n) + 1):
        for cuts in combinations(range(1, n), parts - 1):
            edges = (0, *cuts, n)
            blocks = tuple(sum(groups[a:b], ()) for a, b in pairwise(edges))
            for move in permutations(range(parts)):
                if all(b != a + 1 for a, b in pairwise(move)):  # else fewer parts do the same
                    yield tuple(x for m in move for x in blocks[m]), (blocks, move)


def _search(start: tuple[int, ...], goal: tuple[int, ...], max_rank: int) -> tuple[Step, ...]:
    """Breadth-first search for the fewest moves from ``start`` to ``goal``."""
    came: dict[tuple[int, ...], tuple[tuple[int, ...], Step] | None] = {start: None}
    queue = deque([start])
    while goal not in came:
        state = queue.popleft()
        for after, step in _moves(_blocks(state, goal), max_rank):
            if after not in came:
                came[after] = (state, step)
                queue.append(after)
    steps: list[Step] = []
    link = came[goal]
    while link is not None:
        steps.append(link[1])
        link = came[link[0]]
    return tuple(reversed(steps))
