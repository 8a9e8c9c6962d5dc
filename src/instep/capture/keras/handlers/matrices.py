"""Functions that multiply matrices and sum over axes of two tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from instep.capture.einsum import contracted, letters
from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.arithmetic import common
from instep.capture.keras.registry import Unsupported, function
from instep.graph import Value, ops

__all__ = ["tensor"]


def tensor(b: Builder, x: Any) -> Value:
    """A tensor; an array of the config is a constant one."""
    if not isinstance(x, Value | list):
        raise Unsupported("it is not called with tensors")
    return b.operand(x, getattr(x, "dtype", "float32")) if isinstance(x, list) else x


def _pair(b: Builder, x1: Any, x2: Any) -> tuple[Value, Value]:
    """Two tensors of one dtype."""
    left, right = tensor(b, x1), tensor(b, x2)
    dtype = common(left, right)
    return b.cast(left, dtype), b.cast(right, dtype)


@function("Matmul", "tf.linalg.matmul", "tf.matmul")
def matmul(b: Builder, x1: Any = None, x2: Any = None, transpose_a: bool = False, transpose_b: bool = False,
           a: Any = None, b_: Any = None, **_: Any) -> Value:  # fmt: skip
    left, right = _pair(b, x1 if x1 is not None else a, x2 if x2 is not None else b_)
    row, column = left.rank == 1, right.rank == 1
    left = b.reshape(left, (1, left.size)) if row else left
    right = b.reshape(right, (right.size, 1)) if column else right
    y = b(ops.MatMul(bool(transpose_a), bool(transpose_b)), left, right)
    gone = {y.rank - 2 if row else -1, y.rank - 1 if column else -1}
    return b.reshape(y, [n for axis, n in enumerate(y.shape) if axis not in gone])


@function("Einsum")
def einsum(b: Builder, *operands: Any, subscripts: str = "") -> Value:
    given = [tensor(b, x) for x in operands]
    ranks = [x.rank for x in given]
    if len(subscripts.partition("->")[0].split(",")) != len(ranks):
        raise Unsupported(f"its subscripts {subscripts!r} are not those of {len(ranks)} tensors")
    names, out = letters(subscripts, ranks)
    wrong = any(len(n) != r or len(set(n)) != len(n) for n, r in zip(names, ranks, strict=True))
    if wrong or len(set(out)) != len(out) or set(out) - set("".join(names)):
        raise Unsupported(f"its subscripts {subscripts!r} do not fit tensors of the ranks {ranks}, or take a diagonal")
    sizes: dict[str, int] = {}
    for c, n in ((c, n) for name, x in zip(names, given, strict=True) for c, n in zip(name, x.shape, strict=True)):
        if sizes.setdefault(c, n) != n:
            raise Unsupported(f"axis {c!r} has {sizes[c]} and {n} elements")
    return contracted(b, list(zip(names, given, strict=True)), out)


@function("Tensordot", "tf.tensordot")
def tensordot(b: Builder, x1: Any = None, x2: Any = None, axes: Any = 2, a: Any = None, b_: Any = None,
              name: Any = None) -> Value:  # fmt: skip
    left, right = _pair(b, x1 if x1 is not None else a, x2 if x2 is not None else b_)
    if isinstance(axes, int):
        first, second = list(range(left.rank - axes, left.rank)), list(range(axes))
    else:
        first, second = (v if isinstance(v, list) else [v] for v in axes)
    return _summed(b, left, right, first, second)


def _summed(b: Builder, left: Value, right: Value, first: Sequence[int], second: Sequence[int]) -> Value:
    """The sum over axes ``first`` of left and ``second`` of right; what is left of the one comes before the other's."""
    rows = [b.axis(a, left.rank) for a in first]
    columns = [b.axis(a, right.rank) for a in second]
    if [left.shape[a] for a in rows] != [right.shape[a] for a in columns]:
        raise Unsupported(f"axes {list(first)} of {list(left.shape)} and {list(second)} of {list(right.shape)}")
    kept = [a for a in range(left.rank) if a not in rows]
    made = [a for a in range(right.rank) if a not in columns]
    depth = math.prod(left.shape[a] for a in rows)
    x = b.reshape(b.permute(left, (*kept, *rows)), (math.prod(left.shape[a] for a in kept), depth))
    y = b.reshape(b.permute(right, (*columns, *made)), (depth, math.prod(right.shape[a] for a in made)))
    shape = (*(left.shape[a] for a in kept), *(right.shape[a] for a in made))
    return b.reshape(b(ops.MatMul(), x, y), shape)


@function("Dot")
def dot(b: Builder, x1: Any = None, x2: Any = None) -> Value:
    """Over the last axis of the one and the last but one of the other."""
    if isinstance(x1, int | float) or isinstance(x2, int | float):
        dtype = common(x1, x2)
        return b(ops.Mul(), b.operand(x1, dtype), b.operand(x2, dtype))
    left, right = _pair(b, x1, x2)
    if not left.rank or not right.rank:
        return b(ops.Mul(), left, right)
    return _summed(b, left, right, [left.rank - 1], [max(right.rank - 2, 0)])


@function("Inner")
def inner(b: Builder, x1: Any = None, x2: Any = None) -> Value:
    left, right = _pair(b, x1, x2)
    return _summed(b, left, right, [left.rank - 1], [right.rank - 1])


@function("Vdot")
def vdot(b: Builder, x1: Any = None, x2: Any = None) -> Value:
    left, right = (b.reshape(v, (v.size,)) for v in _pair(b, x1, x2))
    return _summed(b, left, right, [0], [0])


@function("Outer")
def outer(b: Builder, x1: Any = None, x2: Any = None) -> Value:
    left, right = _pair(b, x1, x2)
    return b(ops.Mul(), b.reshape(left, (left.size, 1)), b.reshape(right, (1, right.size)))


@function("Kron")
def kron(b: Builder, x1: Any = None, x2: Any = None) -> Value:
    """Every element of the one times the whole other, side by side."""
    left, right = _pair(b, x1, x2)
    rank = max(left.rank, right.rank)
    p, q = ((1,) * (rank - v.rank) + v.shape for v in (left, right))
    y = b(ops.Mul(), b.reshape(left, [v for n in p for v in (n, 1)]), b.reshape(right, [v for n in q for v in (1, n)]))
    return b.reshape(y, [n * m for n, m in zip(p, q, strict=True)])


@function("Cross", "tf.linalg.cross")
def cross(b: Builder, x1: Any = None, x2: Any = None, axisa: int = -1, axisb: int = -1, axisc: int = -1,
          axis: Any = None, a: Any = None, b_: Any = None, name: Any = None) -> Value:  # fmt: skip
    """The vector product of three components along an axis."""
    left, right = _pair(b, x1 if x1 is not None else a, x2 if x2 is not None else b_)
    i, k = (b.axis(e if axis is None else axis, v.rank) for e, v in ((axisa, left), (axisb, right)))
    out = axisc if axis is None else axis
    if left.rank != right.rank or i != k or b.axis(out, left.rank) != i or (left.shape[i], right.shape[k]) != (3, 3):
        raise Unsupported(f"it is called with {list(left.shape)} and {list(right.shape)} along axes {axisa}, {axisb}")

    def turned(x: Value, by: int) -> Value:
        return b(ops.Roll((by,), (i,)), x)

    first = b(ops.Mul(), turned(left, -1), turned(right, 1))
    return b(ops.Sub(), first, b(ops.Mul(), turned(left, 1), turned(right, -1)))


@function("Norm", "tf.norm", "tf.linalg.norm")
def norm(b: Builder, x: Value = None, ord: Any = None, axis: Any = None, keepdims: bool = False,  # type: ignore
         tensor: Any = None, name: Any = None) -> Value:  # fmt: skip
    """Of vectors along one axis, or of matrices over two: the root of the squares, sums or maxima of |x|."""
    x = b.floating(x if x is not None else tensor)
    axes = b.all_axes(axis, x.rank)
    ord = math.inf if str(ord) in ("inf", "Infinity") else -math.inf if str(ord) == "-inf" else ord
    plain = ord in (None, "fro", "euclidean") or (ord == 2 and len(axes) == 1)
    if plain:
        return b(ops.Sqrt(), b(ops.ReduceSum(axes, bool(keepdims)), b(ops.Square(), x)))
    if len(axes) != 1 or not isinstance(ord, int | float):
        raise Unsupported(f"its order is {ord!r} over the axes {list(axes)}; that of matrices is the Frobenius norm")
    size = b(ops.Abs(), x)
    if math.isinf(ord):
        return b((ops.ReduceMax if ord > 0 else ops.ReduceMin)(axes, bool(keepdims)), size)
    if ord == 0:
        return b(ops.ReduceSum(axes, bool(keepdims)), b.cast(b(ops.NotEqual(), x, b.scalar(0, x.dtype)), x.dtype))
    if ord == 1:
        return b(ops.ReduceSum(axes, bool(keepdims)), size)
    total = b(ops.ReduceSum(axes, bool(keepdims)), b(ops.Pow(), size, b.scalar(float(ord), x.dtype)))
    return b(ops.Pow(), total, b.scalar(1 / ord, x.dtype))


@function("CDist")
def distances(b: Builder, x: Any = None, y: Any = None) -> Value:
    """Of every row of the one from every row of the other."""
    left, right = _pair(b, x, y)
    p = b.reshape(left, (*left.shape[:-1], 1, left.shape[-1]))
    q = b.reshape(right, (*right.shape[:-2], 1, *right.shape[-2:]))
    apart = b(ops.Square(), b(ops.Sub(), p, q))
    return b(ops.Sqrt(), b(ops.ReduceSum((apart.rank - 1,), False), apart))


@function("Corrcoef")
def correlations(b: Builder, x: Value) -> Value:
    """Of every row with every row."""
    if x.rank != 2:
        raise Unsupported(f"its input has the shape {list(x.shape)}")
    centred = b(ops.Sub(), x, b(ops.ReduceMean((1,), True), x))
    root = b(ops.Sqrt(), b(ops.ReduceSum((1,), True), b(ops.Square(), centred)))
    unit = b(ops.Div(), centred, root)
    return b(ops.Clip(-1.0, 1.0), b(ops.MatMul(transpose_b=True), unit, unit))
