"""Matrix products: linear, matmul and its kin, einsum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from instep.capture.torch.builder import Builder, Scalar
from instep.capture.torch.handlers.index import diagonal
from instep.capture.torch.registry import handles
from instep.graph import Value, ops

__all__ = ["einsum", "letters", "matmul"]


@handles("linear")
def linear(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    if weight.rank == 1:
        y = matmul(b, x, weight)
        return y if bias is None else b(ops.Add(), y, bias)
    if x.rank == 1:
        y = b(ops.Linear(), b.reshape(x, (1, x.size)), weight, *([] if bias is None else [bias]))
        return b.reshape(y, (weight.shape[0],))
    if bias is not None and bias.rank != 1:
        return b(ops.Add(), b(ops.Linear(), x, weight), bias)
    return b(ops.Linear(), x, weight, *([] if bias is None else [bias]))


@handles("matmul", "mm", "bmm", "mv", "dot", "vdot", "linalg_matmul")
def matmul(b: Builder, x: Value, y: Value) -> Value:
    """torch.matmul: 1-d operands get an axis for the while."""
    left = b.reshape(x, (1, x.size)) if x.rank == 1 else x
    right = b.reshape(y, (y.size, 1)) if y.rank == 1 else y
    z = b(ops.MatMul(), left, right)
    if x.rank == 1 or y.rank == 1:
        shape = list(z.shape)
        if y.rank == 1:
            shape.pop(-1)
        if x.rank == 1:
            shape.pop(-1 if y.rank == 1 else -2)
        z = b.reshape(z, shape)
    return z


@handles("addmm", "baddbmm", "addmv")
def addmm(b: Builder, x: Value, left: Value, right: Value, beta: Scalar = 1, alpha: Scalar = 1) -> Value:
    return _add_product(b, x, matmul(b, left, right), beta, alpha)


@handles("addbmm")
def addbmm(b: Builder, x: Value, left: Value, right: Value, beta: Scalar = 1, alpha: Scalar = 1) -> Value:
    total = b(ops.ReduceSum(axes=(0,), keepdims=False), b(ops.MatMul(), left, right))  # type: ignore[call-arg]
    return _add_product(b, x, total, beta, alpha)


def _add_product(b: Builder, x: Value, product: Value, beta: Scalar, alpha: Scalar) -> Value:
    if alpha != 1:
        product = b(ops.Mul(), product, b.scalar(alpha, product.dtype))
    if beta == 0:
        return product
    if beta != 1:
        x = b(ops.Mul(), x, b.scalar(beta, x.dtype))
    return b(ops.Add(), x, product)


@handles("outer", "ger")
def outer(b: Builder, x: Value, y: Value) -> Value:
    return b(ops.Mul(), b.reshape(x, (x.size, 1)), b.reshape(y, (1, y.size)))


@handles("bilinear")
def bilinear(b: Builder, x: Value, y: Value, weight: Value, bias: Value | None = None) -> Value:
    """Σ x_i W_oij y_j: x W first, then a product with y."""
    o, i, j = weight.shape
    lead = x.shape[:-1]
    flat = b(ops.Linear(), b.reshape(x, (-1, i)), b.reshape(b.permute(weight, (0, 2, 1)), (o * j, i)))
    z = b(ops.MatMul(), b.reshape(flat, (-1, o, j)), b.reshape(y, (-1, j, 1)))
    z = b.reshape(z, (*lead, o))
    return z if bias is None else b(ops.Add(), z, bias)


@handles("linalg_multi_dot", "chain_matmul")
def multi_dot(b: Builder, tensors: Sequence[Value]) -> Value:
    result = tensors[0]
    for y in tensors[1:]:
        result = matmul(b, result, y)
    return result


@handles("tensordot")
def tensordot(b: Builder, x: Value, y: Value, dims_self: Sequence[int], dims_other: Sequence[int]) -> Value:
    """Sum over pairs of axes: one product of [kept, summed] and [summed, kept]."""
    mine, others = [d % x.rank for d in dims_self], [d % y.rank for d in dims_other]
    left = [a for a in range(x.rank) if a not in mine]
    right = [a for a in range(y.rank) if a not in others]
    count = math.prod(x.shape[a] for a in mine)
    p = b.reshape(b.permute(x, (*left, *mine)), (math.prod(x.shape[a] for a in left), count))
    q = b.reshape(b.permute(y, (*others, *right)), (count, math.prod(y.shape[a] for a in right)))
    return b.reshape(b(ops.MatMul(), p, q), (*(x.shape[a] for a in left), *(y.shape[a] for a in right)))


@handles("inner")
def inner(b: Builder, x: Value, y: Value) -> Value:
    """Sum over the last axis of both; a number scales."""
    if not x.rank or not y.rank:
        return b(ops.Mul(), x, y)
    return tensordot(b, x, y, (-1,), (-1,))


@handles("kron")
def kron(b: Builder, x: Value, y: Value) -> Value:
    rank = max(x.rank, y.rank)
    x, y = (b.reshape(v, (1,) * (rank - v.rank) + v.shape) for v in (x, y))
    wide = b.reshape(x, [n for d in x.shape for n in (d, 1)])
    return b.reshape(b(ops.Mul(), wide, b.reshape(y, [n for d in y.shape for n in (1, d)])), b.shape())


# -- einsum ------------------------------------------------------------------------------------------------------
@handles("einsum.default")
def einsum(b: Builder, equation: str, tensors: Sequence[Value], path: Any = None) -> Value:
    """Any einsum, two operands at a time, each pair as one MatMul of [batch, left, sum] and [batch, sum, right]."""
    terms, result = letters(equation, [v.rank for v in tensors])
    operands: list[tuple[str, Value]] = [_diagonal(b, t, v) for t, v in zip(terms, tensors, strict=True)]
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


def _diagonal(b: Builder, term: str, value: Value) -> tuple[str, Value]:
    """The operand with each letter that it repeats once, at the end: those axes are walked together."""
    while twice := next((x for x in term if term.count(x) > 1), ""):
        first = term.index(twice)
        second = term.index(twice, first + 1)
        value = diagonal(b, value, 0, first, second)
        term = term[:first] + term[first + 1 : second] + term[second + 1 :] + twice
    return term, value


def _contract(b: Builder, ta: str, a: Value, tb: str, c: Value, kept: set[str]) -> tuple[str, Value]:
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


def _full(b: Builder, term: str, value: Value, letters: Sequence[str], size: dict[str, int]) -> Value:
    """Broadcast size-1 axes of the summed letters."""
    shape = [size[x] if x in letters else n for x, n in zip(term, value.shape, strict=True)]
    return b.expand(value, shape)


def _outer(
    b: Builder, ta: str, a: Value, tb: str, c: Value, batch: list[str], left: list[str], right: list[str]
) -> tuple[str, Value]:
    """Nothing is summed: a broadcast product."""
    a = b.permute(a, [ta.index(x) for x in (*batch, *left)])
    c = b.permute(c, [tb.index(x) for x in (*batch, *right)])
    nb = len(batch)
    a = b.reshape(a, (*a.shape, *[1] * len(right)))
    c = b.reshape(c, (*c.shape[:nb], *[1] * len(left), *c.shape[nb:]))
    return "".join([*batch, *left, *right]), b(ops.Mul(), a, c)
