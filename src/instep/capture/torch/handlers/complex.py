"""Complex tensors as pairs of real ones: what each operator means on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from instep.capture.einsum import letters
from instep.capture.torch.builder import Builder
from instep.capture.torch.handlers.linear import einsum
from instep.capture.torch.registry import HANDLERS, Complex, find, handles
from instep.graph import Value, ops

__all__ = ["as_complex"]


def as_complex(b: Builder, x: Any, dtype: str = "float32") -> Complex:
    """A tensor or number as complex; a real one gets an imaginary part of zero."""
    if isinstance(x, Complex):
        return x
    if not isinstance(x, Value):
        return Complex(b.constant(np.array([complex(x).real, complex(x).imag], dtype), "number"))
    x = b.cast(x, dtype)
    zero = b.full((*x.shape, 1), 0.0, dtype)
    return Complex(b.concat([b.reshape(x, (*x.shape, 1)), zero], x.rank))


def _parts(b: Builder, x: Complex) -> tuple[Value, Value]:
    """Real and imaginary part, each [..., 1]."""
    return b.slice(x.pair, x.rank, 0, 1), b.slice(x.pair, x.rank, 1, 2)


@handles("view_as_real")
def view_as_real(b: Builder, x: Complex) -> Value:
    return x.pair


@handles("view_as_complex")
def view_as_complex(b: Builder, x: Value) -> Complex:
    return Complex(x)


@handles("complex")
def make_complex(b: Builder, real: Value, imag: Value) -> Complex:
    parts = [b.reshape(b.expand(p, b.shape()), (*b.shape(), 1)) for p in (real, imag)]
    return Complex(b.concat(parts, len(b.shape())))


@handles("real", "imag")
def part(b: Builder, x: Any) -> Value:
    if isinstance(x, Value):
        return x
    return b.reshape(_parts(b, x)[int("imag" in str(b.step.target))], x.shape)


def _multiply(b: Builder, x: Any, y: Any) -> Complex:
    """(a + bi)(c + di) = (ac - bd) + (ad + bc)i; numbers and real tensors scale both parts."""
    if not isinstance(x, Complex):
        x, y = y, x
    if isinstance(x, complex):
        x, y = y, x
    if isinstance(x, Value):
        x = Complex(b.reshape(b.cast(x, "float32"), (*x.shape, 1)))  # the number has the two parts
        return Complex(b(ops.Mul(), x.pair, as_complex(b, y).pair))
    if isinstance(y, complex):
        y = as_complex(b, y, x.pair.dtype)
    if not isinstance(y, Complex):
        y = b.operand(y, x.pair.dtype)
        return Complex(b(ops.Mul(), x.pair, b.reshape(y, (*y.shape, 1))))
    (a, c), (d, e) = _parts(b, x), _parts(b, y)
    real = b(ops.Sub(), b(ops.Mul(), a, d), b(ops.Mul(), c, e))
    imag = b(ops.Add(), b(ops.Mul(), a, e), b(ops.Mul(), c, d))
    return Complex(b.concat([real, imag], real.rank - 1))


def _sum(kind: Any) -> Callable[..., Complex]:
    def handler(b: Builder, x: Any, y: Any) -> Complex:
        x, y = (as_complex(b, v) for v in (x, y))
        return Complex(b(kind(), x.pair, y.pair))

    return handler


def _magnitude(b: Builder, x: Complex) -> Value:
    squares = b(ops.ReduceSum(axes=(x.rank,), keepdims=False), b(ops.Mul(), x.pair, x.pair))  # type: ignore[call-arg]
    return b(ops.Sqrt(), squares)


def _conjugate(b: Builder, x: Complex) -> Complex:
    return Complex(b(ops.Mul(), x.pair, b.constant(np.array([1, -1], x.pair.dtype), "conjugate")))


def _reshaped(b: Builder, x: Complex, *_: Any) -> Complex:
    return Complex(b.reshape(x.pair, (*b.shape(), 2)))


def _permuted(b: Builder, x: Complex, dims: Sequence[int]) -> Complex:
    return Complex(b.permute(x.pair, [*(d % x.rank for d in dims), x.rank]))


def _swapped(b: Builder, x: Complex, i: int, j: int) -> Complex:
    order = list(range(x.rank))
    order[i], order[j] = order[j], order[i]
    return _permuted(b, x, order)


def _same(b: Builder, x: Complex, *_: Any, **__: Any) -> Complex:
    return x


def _divide(b: Builder, x: Any, y: Any, **_: Any) -> Complex:
    """x / y, as x · conj(y) / |y|² where y is complex."""
    if isinstance(y, Complex):
        squares = b(ops.ReduceSum(axes=(y.rank,), keepdims=True), b(ops.Mul(), y.pair, y.pair))  # type: ignore[call-arg]
        return Complex(b(ops.Div(), _multiply(b, x, _conjugate(b, y)).pair, squares))
    if isinstance(y, complex):
        return _multiply(b, x, 1 / y)
    x = as_complex(b, x)
    y = b.operand(y, x.pair.dtype)
    return Complex(b(ops.Div(), x.pair, b.reshape(y, (*y.shape, 1))))


def _along(name: str, at: int) -> Callable[..., Any]:
    """An operator that moves whole numbers along axes (its argument ``at`` behind the tensor), run on the pairs."""
    plain = find(f"aten.{name}")
    if plain is None:
        raise LookupError(f"no handler of {name} to run on pairs")

    def handler(b: Builder, x: Complex, *args: Any, **options: Any) -> Any:
        given = options.pop("dim") if "dim" in options else args[at] if len(args) > at else 0
        axes = [d % x.rank for d in given] if isinstance(given, (list, tuple)) else given % x.rank
        made = plain(b, x.pair, *args[:at], axes, *args[at + 1 :], **options)
        return tuple(Complex(v) for v in made) if isinstance(made, (list, tuple)) else Complex(made)

    return handler


#: Where the axes are among the arguments that follow the tensor.
_AXIS_AT = {
    "slice": 0, "select.int": 0, "flip": 0, "roll": 1, "narrow": 0, "unbind": 0, "split": 1, "split_with_sizes": 1,
    "chunk": 1,
}  # fmt: skip


def _total(kind: Any) -> Callable[..., Complex]:
    def handler(b: Builder, x: Complex, dim: Any = None, keepdim: bool = False, **_: Any) -> Complex:
        dims = (dim,) if isinstance(dim, int) else dim or range(x.rank)
        return Complex(b(kind(axes=tuple(sorted(d % x.rank for d in dims)), keepdims=bool(keepdim)), x.pair))

    return handler


def _joined(b: Builder, parts: Sequence[Any], dim: int = 0) -> Complex:
    return Complex(b.concat([as_complex(b, p).pair for p in parts], dim % len(b.shape())))


def _negative(b: Builder, x: Complex) -> Complex:
    return Complex(b(ops.Neg(), x.pair))


@handles("angle")
def angle(b: Builder, x: Any) -> Value:
    """The phase; that of a negative real number is π."""
    if isinstance(x, Value):
        negative = b(ops.Less(), x, b.scalar(0.0, x.dtype))
        return b(ops.Where(), negative, b.scalar(math.pi, x.dtype), b.scalar(0.0, x.dtype))
    real, imag = (b.reshape(p, x.shape) for p in _parts(b, x))
    return b(ops.Atan2(), imag, real)


def _expanded(b: Builder, x: Complex, *_: Any, **__: Any) -> Complex:
    shape = (1,) * (len(b.shape()) - x.rank) + x.shape
    return Complex(b.expand(b.reshape(x.pair, (*shape, 2)), (*b.shape(), 2)))


def _exponential(b: Builder, x: Complex) -> Complex:
    real, imag = _parts(b, x)
    turn = b.concat([b(ops.Cos(), imag), b(ops.Sin(), imag)], x.rank)
    return Complex(b(ops.Mul(), b(ops.Exp(), real), turn))


@handles("polar")
def polar(b: Builder, size: Value, angle: Value) -> Complex:
    angle = b.reshape(angle, (*angle.shape, 1))
    turn = b.concat([b(ops.Cos(), angle), b(ops.Sin(), angle)], angle.rank - 1)
    return Complex(b(ops.Mul(), b.reshape(size, (*size.shape, 1)), turn))


def _filled(number: float | None) -> Callable[..., Complex]:
    """A tensor of one number: ``number``, or the operator's last argument."""

    def handler(b: Builder, x: Any, *args: Any, **_: Any) -> Complex:
        return _expanded(b, as_complex(b, args[-1] if number is None else number))

    return handler


def _copied(b: Builder, x: Any, source: Any, *_: Any) -> Complex:
    return _expanded(b, as_complex(b, source))


def _cast(b: Builder, x: Any, *_: Any, **__: Any) -> Complex:
    return as_complex(b, x)


def _into(name: str) -> Callable[..., Complex]:
    """An operator that writes its second tensor into a part of its first, along one axis, run on the pairs."""
    plain = HANDLERS[name]

    def handler(b: Builder, x: Any, source: Any, dim: int = 0, *args: Any, **options: Any) -> Complex:
        x, source = as_complex(b, x), as_complex(b, source)
        return Complex(plain(b, x.pair, source.pair, dim % x.rank, *args, **options))

    return handler


def _chosen(b: Builder, condition: Value, x: Any, y: Any) -> Complex:
    x, y = as_complex(b, x), as_complex(b, y)
    return Complex(b(ops.Where(), b.reshape(condition, (*condition.shape, 1)), x.pair, y.pair))


def _stacked(b: Builder, parts: Sequence[Any], dim: int = 0) -> Complex:
    axis = dim % len(b.shape())
    pairs = [as_complex(b, p).pair for p in parts]
    return Complex(b.concat([b.reshape(p, (*p.shape[:axis], 1, *p.shape[axis:])) for p in pairs], axis))


# -- products --------------------------------------------------------------------------------------------------------
def _einsum(b: Builder, equation: str, tensors: Sequence[Any], path: Any = None) -> Complex:
    """A real einsum in which each complex operand behind the first is a matrix from pairs to pairs.

    (a + bi)(c + di) is (a, b) times [[c, d], [-d, c]]: one product more of two, and no more products.
    """
    terms, result = letters(equation, [v.rank for v in tensors])
    spare = [c for c in map(chr, range(0x400, 0x450)) if c not in equation]
    operands: list[Value] = []
    count = 0
    for i, value in enumerate(tensors):
        if isinstance(value, Complex):
            terms[i] += spare[0] if count == 0 else spare[count - 1] + spare[count]
            operands.append(value.pair if count == 0 else _matrix(b, value))
            count += 1
        else:
            operands.append(value)
    return Complex(einsum(b, f"{','.join(terms)}->{result}{spare[count - 1]}", operands))


def _matrix(b: Builder, x: Complex) -> Value:
    """[..., 2] → [..., 2, 2]: what multiplication by ``x`` does to a pair."""
    real, imag = _parts(b, x)
    turned = b.concat([b(ops.Neg(), imag), real], x.rank)
    return b.concat([b.reshape(v, (*x.shape, 1, 2)) for v in (x.pair, turned)], x.rank)


def _matmul(b: Builder, x: Any, y: Any) -> Complex:
    if min(x.rank, y.rank) < 2:
        raise b.fail("a complex matrix by a vector; write it as einsum")
    return _einsum(b, "...ij,...jk->...ik", [x, y])


#: What an operator means when one of its tensors is complex, or its result.
_MEANINGS: dict[str, Callable[..., Any]] = {
    "mul": _multiply, "add": _sum(ops.Add), "sub": _sum(ops.Sub), "abs": _magnitude, "conj": _conjugate,
    "_conj": _conjugate, "conj_physical": _conjugate, "resolve_conj": _same, "clone": _same, "contiguous": _same,
    "alias": _same, "detach": _same, "view": _reshaped, "reshape": _reshaped, "flatten": _reshaped,
    "unsqueeze": _reshaped, "squeeze": _reshaped, "permute": _permuted, "transpose": _swapped, "unflatten": _reshaped,
    "div": _divide, "neg": _negative, "exp": _exponential, "expand": _expanded,
    "sum": _total(ops.ReduceSum), "mean": _total(ops.ReduceMean), "cat": _joined, "stack": _stacked,
    "einsum": _einsum, "matmul": _matmul, "mm": _matmul, "bmm": _matmul, "where": _chosen,
    "copy": _copied, "to": _cast, "_to_copy": _cast, "type_as": _cast, "slice_scatter": _into("slice_scatter"),
    "select_scatter": _into("select_scatter"), "zeros_like": _filled(0), "new_zeros": _filled(0),
    "ones_like": _filled(1), "new_ones": _filled(1), "full_like": _filled(None), "new_full": _filled(None),
    "fill": _filled(None),
    **{name: _along(name, at) for name, at in _AXIS_AT.items()},
}  # fmt: skip


def _either(name: str, meaning: Callable[..., Any]) -> None:
    """Let the handlers of ``name``, and of its overloads that have one of their own, take complex tensors too."""
    for full in [n for n in HANDLERS if n.split(".")[0] == name.split(".")[0]] or [name]:
        handles(full)(_choice(HANDLERS.get(full), meaning))


def _choice(plain: Callable[..., Any] | None, meaning: Callable[..., Any]) -> Callable[..., Any]:
    def handler(b: Builder, *args: Any, **options: Any) -> Any:
        given = [a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else (arg,))]
        val = b.step.val
        if any(isinstance(a, Complex) for a in given) or (isinstance(val, torch.Tensor) and val.is_complex()):
            return meaning(b, *args, **options)
        if plain is None:
            raise b.fail("of real tensors")
        return plain(b, *args, **options)

    return handler


for _name, _meaning in _MEANINGS.items():
    _either(_name, _meaning)
