"""What values are to an attention: queries, keys and values are called so in a printed text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from instep.graph.core import Value
from instep.graph.text.table import snake

__all__ = ["roles"]

#: What may stand between the scores and their softmax, and between the softmax and its product with the values.
_BETWEEN = {"scale", "shift", "add", "mul", "sub", "div", "where", "clip", "dropout", "reshape", "maximum"}
#: What moves a value's numbers, or scales them, and leaves it what it is.
_SAME = {"permute", "reshape", "scale", "expand", "select", "div"}


class _Step(Protocol):
    """A step of a body as it is named."""

    reads: list[Value]
    gives: list[Value]
    suffix: str
    kind: str


def roles(steps: Sequence[_Step]) -> dict[Value, str]:
    """``q``, ``k`` and ``v`` of every ``softmax(q kᵀ) v`` among ``steps``, and of what they are moved from.

    A word that a step's scope has already is left to that one.
    """
    makers = {v: s for s in steps for v in s.gives}
    found: dict[Value, str] = {}
    for step in steps:
        if step.kind == "Attend":  # all of it in one (emit/code/idioms.py)
            found |= {v: found.get(v, word) for v, word in zip(step.reads[:3], "qkv", strict=True)}
        if snake(step.kind) != "mat_mul" or len(step.reads) != 2:
            continue
        weights = _back(step.reads[0], makers, "softmax")
        scores = _back(weights.reads[0], makers, "mat_mul") if weights is not None else None
        if scores is not None and len(scores.reads) == 2:
            for value, word in zip((*scores.reads, step.reads[1]), "qkv", strict=True):
                found.setdefault(value, word)
    for step in reversed(steps):
        if snake(step.kind) in _SAME and step.reads and step.gives[0] in found:
            found.setdefault(step.reads[0], found[step.gives[0]])
    taken = {s.suffix.partition(".")[0] for s in steps}
    return {v: word for v, word in found.items() if word not in taken}


def _back(value: Value, makers: dict[Value, _Step], kind: str) -> _Step | None:
    """The step of ``kind`` that ``value`` comes from, through what may stand between."""
    stack, seen = [value], {value}
    while stack:
        step = makers.get(stack.pop())
        if step is None:
            continue
        if snake(step.kind) == kind:
            return step
        if snake(step.kind) in _BETWEEN:
            stack += [v for v in step.reads if v not in seen]
            seen.update(step.reads)
    return None
