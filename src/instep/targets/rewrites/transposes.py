"""Transposes for targets that have none: slices, laid the other way round and joined."""

from __future__ import annotations

import math

from instep.graph import Value, ops
from instep.rewrite.lower.table import Build
from instep.targets.rewrites.moves import join
from instep.targets.rewrites.table import Target, clearing

__all__: list[str] = []

#: The most slices of one transpose: what heads of attention, patches and narrow matrices take.
SLICES = 64


@clearing(
    "blocks of axes change places when the slices of one, each with the other in one row, are joined", "TRANSPOSE"
)
def spell_transpose(b: Build, target: Target) -> bool:
    """One exchange [outer, A, B, inner] → [outer, B, A, inner] after the other, each on four axes of batch 1."""
    op = b.node.op
    if not isinstance(op, ops.Permute) or not target.has("SLICE", "CONCATENATION", "RESHAPE"):
        return False
    shape, axes = b.x.shape, [a for a in op.perm if b.x.shape[a] != 1]
    steps = _exchanges(axes)
    sizes = [[math.prod(shape[a] for a in part) for part in step] for step in steps]
    if sum(min(first, second) for _, first, second, _ in sizes) > SLICES:
        return False
    x = b.x
    for step in sizes:
        x = _exchanged(b, x, *step)
    return b.done(ops.Reshape(b.node.output.shape), x)


def _exchanges(wanted: list[int]) -> list[tuple[list[int], ...]]:
    """The exchanges (outer, first, second, inner) of neighbouring blocks that bring sorted axes into the order
    ``wanted``: from the front, each time the longest run that is wanted next."""
    now, steps = sorted(wanted), []
    for place in range(len(now)):
        if now[place] == wanted[place]:
            continue
        at, end = now.index(wanted[place]), place + 1
        while end < len(wanted) and at + end - place < len(now) and now[at + end - place] == wanted[end]:
            end += 1
        stop = at + end - place
        steps.append((now[:place], now[place:at], now[at:stop], now[stop:]))
        now = [*now[:place], *now[at:stop], *now[place:at], *now[stop:]]
    return steps


def _exchanged(b: Build, x: Value, outer: int, first: int, second: int, inner: int) -> Value:
    if first <= second:
        image, row, count = (1, outer, first, second * inner), (1, outer * second, 1, inner), first
    else:
        image, row, count = (1, outer * first, second, inner), (1, outer, 1, first * inner), second
    x = b.reshape(x, image)
    return join(b, [b.reshape(b.slice(x, 2, i, i + 1), row) for i in range(count)], 2)
