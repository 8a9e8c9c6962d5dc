"""Discrete Fourier transforms of fixed sizes, as matrix products; complex tensors as pairs of real ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instep.capture.torch.builder import Builder
from instep.capture.torch.registry import HANDLERS, Complex, find, handles
from instep.graph import Value, ops

__all__: list[str] = []


def _scale(norm: str | None, size: int, inverse: bool) -> float:
    """torch.fft's ``norm``: "backward" (None) divides by the size on the way back, "forward" on the way there."""
    match norm or "backward":
        case "ortho":
            return 1 / math.sqrt(size)
        case "forward":
            return 1.0 if inverse else 1 / size
        case _:
            return 1 / size if inverse else 1.0


def _waves(rows: int, columns: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of 2π · row · column / size, [rows, columns]; the product is reduced first, so zeros are exact."""
    turn = np.outer(np.arange(rows), np.arange(columns)) % size
    sine = np.sin(2 * np.pi * turn / size)
    sine[(2 * turn) % size == 0] = 0.0
    return np.cos(2 * np.pi * turn / size), sine


def _fit(b: Builder, x: Value, axis: int, size: int) -> Value:
    """``x`` cut or padded with zeros at its end to ``size`` on ``axis``."""
    pads = [(0, 0)] * x.rank
    pads[axis] = (0, size - x.shape[axis])
    return b.pad(x, pads)


def _product(b: Builder, x: Value, axis: int, matrix: np.ndarray, pair_in: bool, pair_out: bool) -> Value:
    """``matrix`` [out, in] applied along ``axis`` of ``x``; pairs run along (axis, last) together, interleaved."""
    spatial = x.rank - int(pair_in)
    others = [i for i in range(spatial) if i != axis]
    order = [*others, axis, *([spatial] if pair_in else [])]
    lead = [x.shape[i] for i in others]
    flat = b.reshape(b.permute(x, order), (*lead, -1))
    y = b(ops.Linear(), flat, b.constant(matrix.astype(x.dtype), "dft"))
    y = b.reshape(y, (*lead, -1, 2) if pair_out else (*lead, -1))
    back = [others.index(i) if i != axis else len(others) for i in range(spatial)]
    return b.permute(y, [*back, *([spatial] if pair_out else [])])


def forward_real(b: Builder, x: Value, n: int | None, dim: int, norm: str | None, *, whole: bool = False) -> Complex:
    """Σ x_j exp(-2πi jk / n) of a real tensor: the first n // 2 + 1 frequencies, or all with ``whole``."""
    axis = dim % x.rank
    size = n or x.shape[axis]
    count = size if whole else size // 2 + 1
    cos, sin = _waves(count, size, size)
    matrix = np.stack([cos, -sin], axis=1).reshape(2 * count, size) * _scale(norm, size, False)
    return Complex(_product(b, _fit(b, x, axis, size), axis, matrix, False, True))


def inverse_real(b: Builder, x: Complex, n: int | None, dim: int, norm: str | None) -> Value:
    """The real signal of ``n`` values whose spectrum starts with ``x``; its other half is the mirrored conjugate."""
    axis = dim % x.rank
    size = n or 2 * (x.shape[axis] - 1)
    count = size // 2 + 1
    cos, sin = _waves(size, count, size)
    twice = np.full(count, 2.0)
    twice[0] = 1.0
    if size % 2 == 0:
        twice[-1] = 1.0
    matrix = np.stack([cos * twice, -sin * twice], axis=2).reshape(size, 2 * count) * _scale(norm, size, True)
    return _product(b, _fit(b, x.pair, axis, count), axis, matrix, True, False)


def between(b: Builder, x: Complex, n: int | None, dim: int, norm: str | None, inverse: bool) -> Complex:
    """The complex transform, or its inverse, along one axis."""
    axis = dim % x.rank
    size = n or x.shape[axis]
    cos, sin = _waves(size, size, size)
    sin = sin if inverse else -sin
    matrix = np.stack([np.stack([cos, -sin], axis=2), np.stack([sin, cos], axis=2)], axis=1)
    matrix = matrix.reshape(2 * size, 2 * size) * _scale(norm, size, inverse)
    return Complex(_product(b, _fit(b, x.pair, axis, size), axis, matrix, True, True))


def _many(x: Value | Complex, s: Sequence[int] | None, dim: Sequence[int] | None) -> list[tuple[int, int | None]]:
    """(axis, size) of each transformed axis."""
    axes = list(dim) if dim is not None else list(range(-len(s), 0) if s is not None else range(x.rank))
    return [(a % x.rank, None if s is None or s[i] < 0 else s[i]) for i, a in enumerate(axes)]


@handles("fft_rfft")
def rfft(b: Builder, x: Value, n: int | None = None, dim: int = -1, norm: str | None = None) -> Complex:
    return forward_real(b, x, n, dim, norm)


@handles("fft_irfft")
def irfft(b: Builder, x: Complex, n: int | None = None, dim: int = -1, norm: str | None = None) -> Value:
    return inverse_real(b, _complex(b, x), n, dim, norm)


@handles("fft_fft", "fft_ifft")
def fft(b: Builder, x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Complex:
    inverse = "ifft" in str(b.step.target)
    if isinstance(x, Value) and not inverse:
        return forward_real(b, x, n, dim, norm, whole=True)
    return between(b, _complex(b, x), n, dim, norm, inverse)


@handles("fft_rfft2", "fft_rfftn")
def rfftn(b: Builder, x: Value, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Complex:
    *others, (axis, size) = _many(x, s, dim if "rfft2" in str(b.step.target) or dim != (-2, -1) else None)
    y = forward_real(b, x, size, axis, norm)
    for other, count in others:
        y = between(b, y, count, other, norm, False)
    return y


@handles("fft_irfft2", "fft_irfftn")
def irfftn(b: Builder, x: Complex, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Value:
    x = _complex(b, x)
    *others, (axis, size) = _many(x, s, dim if "irfft2" in str(b.step.target) or dim != (-2, -1) else None)
    for other, count in others:
        x = between(b, x, count, other, norm, True)
    return inverse_real(b, x, size, axis, norm)


@handles("fft_fft2", "fft_fftn", "fft_ifft2", "fft_ifftn")
def fftn(b: Builder, x: Any, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Complex:
    name = str(b.step.target)
    axes = _many(x, s, dim if "fft2" in name or dim != (-2, -1) else None)
    y = _complex(b, x)
    for axis, count in axes:
        y = between(b, y, count, axis, norm, "ifft" in name)
    return y


# -- complex numbers -------------------------------------------------------------------------------------------------
def _complex(b: Builder, x: Any, dtype: str = "float32") -> Complex:
    """A tensor or number as complex; a real one gets an imaginary part of zero."""
    if isinstance(x, Complex):
        return x
    if not isinstance(x, Value):
        return Complex(b.constant(np.array([complex(x).real, complex(x).imag], dtype), "number"))
    zero = b.full((*x.shape, 1), 0.0, x.dtype)
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
    if isinstance(y, complex):
        y = _complex(b, y, x.pair.dtype)
    if not isinstance(y, Complex):
        y = b.operand(y, x.pair.dtype)
        return Complex(b(ops.Mul(), x.pair, b.reshape(y, (*y.shape, 1))))
    (a, c), (d, e) = _parts(b, x), _parts(b, y)
    real = b(ops.Sub(), b(ops.Mul(), a, d), b(ops.Mul(), c, e))
    imag = b(ops.Add(), b(ops.Mul(), a, e), b(ops.Mul(), c, d))
    return Complex(b.concat([real, imag], real.rank - 1))


def _sum(kind: Any) -> Callable[..., Complex]:
    def handler(b: Builder, x: Any, y: Any) -> Complex:
        like = x if isinstance(x, Complex) else y
        x, y = (_complex(b, v, like.pair.dtype) for v in (x, y))
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
    return Complex(b.concat([_complex(b, p).pair for p in parts], dim % len(b.shape())))


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


#: What an operator means when one of its tensors is complex.
_MEANINGS: dict[str, Callable[..., Any]] = {
    "mul": _multiply, "add": _sum(ops.Add), "sub": _sum(ops.Sub), "abs": _magnitude, "conj": _conjugate,
    "_conj": _conjugate, "conj_physical": _conjugate, "resolve_conj": _same, "clone": _same, "contiguous": _same,
    "alias": _same, "detach": _same, "view": _reshaped, "reshape": _reshaped, "flatten": _reshaped,
    "unsqueeze": _reshaped, "squeeze": _reshaped, "permute": _permuted, "transpose": _swapped, "unflatten": _reshaped,
    "div": _divide, "neg": _negative, "exp": _exponential, "expand": _expanded,
    "sum": _total(ops.ReduceSum), "mean": _total(ops.ReduceMean), "cat": _joined,
    **{name: _along(name, at) for name, at in _AXIS_AT.items()},
}  # fmt: skip


def _either(name: str, meaning: Callable[..., Any]) -> None:
    """Let the handlers of ``name``, and of its overloads that have one of their own, take complex tensors too."""
    for full in [n for n in HANDLERS if n.split(".")[0] == name.split(".")[0]] or [name]:
        handles(full)(_choice(HANDLERS.get(full), meaning))


def _choice(plain: Callable[..., Any] | None, meaning: Callable[..., Any]) -> Callable[..., Any]:
    def handler(b: Builder, *args: Any, **options: Any) -> Any:
        given = [a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else (arg,))]
        if any(isinstance(a, Complex) for a in given):
            return meaning(b, *args, **options)
        if plain is None:
            raise b.fail("of real tensors")
        return plain(b, *args, **options)

    return handler


for _name, _meaning in _MEANINGS.items():
    _either(_name, _meaning)
