"""Matrix products: linear, matmul and its kin, einsum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from instep.capture.einsum import contracted, letters
from instep.capture.torch.builder import Builder, Scalar
from instep.capture.torch.handlers.index import diagonal
from instep.capture.torch.registry import handles
from instep.graph import Value, ops

__all__ = ["einsum", "matmul"]


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
    """Any einsum; a letter that an operand repeats is its diagonal."""
    terms, result = letters(equation, [v.rank for v in tensors])
    operands = [_diagonal(b, t, v) for t, v in zip(terms, tensors, strict=True)]
    return contracted(b, operands, result)


def _diagonal(b: Builder, term: str, value: Value) -> tuple[str, Value]:
    """The operand with each letter that it repeats once, at the end: those axes are walked together."""
    while twice := next((x for x in term if term.count(x) > 1), ""):
        first = term.index(twice)
        second = term.index(twice, first + 1)
        value = diagonal(b, value, 0, first, second)
        term = term[:first] + term[first + 1 : second] + term[second + 1 :] + twice
    return term, value
