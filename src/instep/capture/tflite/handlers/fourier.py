"""Handlers of complex tensors, which are pairs of real numbers [..., 2] here, and of the transform that makes them."""

from __future__ import annotations

from instep.capture.fourier import fit, pairs_matrix, product, spectrum_matrix
from instep.capture.tflite.builder import Builder
from instep.capture.tflite.registry import Unsupported, reads
from instep.graph import Value, ops

__all__ = ["times"]


@reads("RFFT2D")
def rfft_2d(b: Builder, x: Value, length: Value) -> Value:
    sizes = b.ints(length, "fft_length")
    if len(sizes) != 2 or x.rank < 2 or min(sizes) < 1 or max(sizes) > 1 << 14:
        raise Unsupported(f"its fft_length {sizes[:8]} does not fit {list(x.shape)}")
    (height, width), rows, columns = sizes, x.rank - 2, x.rank - 1
    x = product(b, fit(b, x, columns, width), columns, spectrum_matrix(width, None, whole=False), False, True)
    x = fit(b, x, rows, height)
    return x if height == 1 else product(b, x, rows, pairs_matrix(height, None, False), True, True)


def _part(b: Builder, x: Value, number: int) -> Value:
    return b.reshape(b.slice(x, x.rank - 1, number, number + 1), x.shape[:-1])


@reads("REAL")
def real(b: Builder, x: Value) -> Value:
    return _part(b, x, 0)


@reads("IMAG")
def imag(b: Builder, x: Value) -> Value:
    return _part(b, x, 1)


@reads("COMPLEX_ABS")
def complex_abs(b: Builder, x: Value) -> Value:
    return b(ops.Sqrt(), b(ops.ReduceSum((x.rank - 1,)), b(ops.Square(), x)))


def times(b: Builder, x: Value, y: Value) -> Value:
    """(a + bi) (c + di) of pairs."""
    (a, bi), (c, d) = ([b.slice(v, v.rank - 1, i, i + 1) for i in (0, 1)] for v in (x, y))
    mul = ops.Mul()
    first = b(ops.Sub(), b(mul, a, c), b(mul, bi, d))
    second = b(ops.Add(), b(mul, a, d), b(mul, bi, c))
    return b.concat([first, second], first.rank - 1)
