"""Einsums: products over the axes that letters name, two operands at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from instep.capture.building import Building
from instep.graph import Value, ops

__all__ = ["contracted", "letters"]


def contracted(b: Building, operands: Sequence[tuple[str, Value]], result: str) -> Value:
    """The einsum of ``operands``, each with the letters of its axes, none twice: each pair as one MatMul of
    [batch, left, sum] and [batch, sum, right]."""
    operands = list(operands)
    while len(operands) > 1:
        (ta, a), (tb, c), *others = operands
        kept = set(result).union(*(t for t, _ in others)) if others else set(result)
        operands = [_contract(b, ta, a, tb, c, kept), *others]
    term, value = operands[0]
    drop = tuple(i for i, letter in enumerate(term) if letter not in result)
    if drop:
        value = b(ops.ReduceSum(axes=drop, keepdims=False), value)  # type: ignore[call-arg]
        term = "".join(letter for letter in term if letter in result)
    return b.permute(value, [term.index(letter) for letter in result]) if len(result) > 1 else value


def letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Letters of each operand and of the result; an ellipsis becomes Greek letters of its own."""
    equation = equation.replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    spare = [c for c in map(chr, range(0x3B1, 0x3CA)) if c not in equation]
    most = max((r - len(t) + 3 for t, r in zip(terms, ranks, strict=True) if "..." in t), default=0)
    dots = "".join(spare[:most])
    terms = [
        t.replace("...", dots[most - (r - len(t) + 3) :] if r - len(t) + 3 else "") if "..." in t else t
        for t, r in zip(terms, ranks, strict=True)
    ]
    if arrow:
        return terms, result.replace("...", dots)
    joined = "".join(terms)
    return terms, dots + "".join(sorted({c for c in joined if joined.count(c) == 1 and c not in dots}))


def _contract(b: Building, ta: str, a: Value, tb: str, c: Value, kept: set[str]) -> tuple[str, Value]:
    """The product of two operands, summed over the letters that nobody needs later."""
    size = {**dict(zip(tb, c.shape, strict=True))}
    for letter, n in zip(ta, a.shape, strict=True):
        size[letter] = max(n, size.get(letter, 1))
    for mine, other, which in ((ta, tb, 0), (tb, ta, 1)):
        alone = tuple(i for i, x in enumerate(mine) if x not in other and x not in kept)
        if alone:
            value = b(ops.ReduceSum(axes=alone, keepdims=False), a if which == 0 else c)  # type: ignore[call-arg]
            term = "".join(x for i, x in enumerate(mine) if i not in alone)
            (ta, a), (tb, c) = ((term, value), (tb, c)) if which == 0 else ((ta, a), (term, value))
    shared = [x for x in ta if x in tb]
    batch = [x for x in shared if x in kept]
    summed = [x for x in shared if x not in kept]
    left = [x for x in ta if x not in tb]
    right = [x for x in tb if x not in ta]
    if not summed:
        return _outer(b, ta, a, tb, c, batch, left, right)
    a, c = _full(b, ta, a, summed, size), _full(b, tb, c, summed, size)
    la, lc = [*batch, *left, *summed], [*batch, *summed, *right]
    a, c = b.permute(a, [ta.index(x) for x in la]), b.permute(c, [tb.index(x) for x in lc])
    nb, nl = len(batch), len(left)
    a = b.reshape(a, (*a.shape[:nb], math.prod(a.shape[nb : nb + nl]), math.prod(a.shape[nb + nl :])))
    c = b.reshape(c, (*c.shape[:nb], math.prod(c.shape[nb : nb + len(summed)]), math.prod(c.shape[nb + len(summed) :])))
    z = b(ops.MatMul(), a, c)
    z = b.reshape(z, [*z.shape[:nb], *(size[x] for x in left), *(size[x] for x in right)])
    return "".join([*batch, *left, *right]), z


def _full(b: Building, term: str, value: Value, letters: Sequence[str], size: dict[str, int]) -> Value:
    """Broadcast size-1 axes of the summed letters."""
    shape = [size[x] if x in letters else n for x, n in zip(term, value.shape, strict=True)]
    return b.expand(value, shape)


def _outer(
    b: Building, ta: str, a: Value, tb: str, c: Value, batch: list[str], left: list[str], right: list[str]
) -> tuple[str, Value]:
    """Nothing is summed: a broadcast product."""
    a = b.permute(a, [ta.index(x) for x in (*batch, *left)])
    c = b.permute(c, [tb.index(x) for x in (*batch, *right)])
    nb = len(batch)
    a = b.reshape(a, (*a.shape, *[1] * len(right)))
    c = b.reshape(c, (*c.shape[:nb], *[1] * len(left), *c.shape[nb:]))
    return "".join([*batch, *left, *right]), b(ops.Mul(), a, c)
