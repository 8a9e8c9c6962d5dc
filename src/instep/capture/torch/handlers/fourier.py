"""Discrete Fourier transforms of fixed sizes, as matrix products over pairs of real numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instep.capture.fourier import fit, pairs_matrix, product, signal_matrix, spectrum_matrix
from instep.capture.torch.builder import Builder
from instep.capture.torch.handlers.complex import as_complex
from instep.capture.torch.registry import Complex, handles
from instep.graph import Value

__all__: list[str] = []


def forward_real(b: Builder, x: Value, n: int | None, dim: int, norm: str | None, *, whole: bool = False) -> Complex:
    """Σ x_j exp(-2πi jk / n) of a real tensor: the first n // 2 + 1 frequencies, or all with ``whole``."""
    axis = dim % x.rank
    size = n or x.shape[axis]
    matrix = spectrum_matrix(size, norm, whole=whole)
    return Complex(product(b, fit(b, x, axis, size), axis, matrix, False, True))


def inverse_real(b: Builder, x: Complex, n: int | None, dim: int, norm: str | None) -> Value:
    """The real signal of ``n`` values whose spectrum starts with ``x``; its other half is the mirrored conjugate."""
    axis = dim % x.rank
    size = n or 2 * (x.shape[axis] - 1)
    matrix = signal_matrix(size, norm, whole=False)
    return product(b, fit(b, x.pair, axis, size // 2 + 1), axis, matrix, True, False)


def between(b: Builder, x: Complex, n: int | None, dim: int, norm: str | None, inverse: bool) -> Complex:
    """The complex transform, or its inverse, along one axis."""
    axis = dim % x.rank
    size = n or x.shape[axis]
    matrix = pairs_matrix(size, norm, inverse)
    return Complex(product(b, fit(b, x.pair, axis, size), axis, matrix, True, True))


def _many(x: Value | Complex, s: Sequence[int] | None, dim: Sequence[int] | None) -> list[tuple[int, int | None]]:
    """(axis, size) of each transformed axis."""
    axes = list(dim) if dim is not None else list(range(-len(s), 0) if s is not None else range(x.rank))
    return [(a % x.rank, None if s is None or s[i] < 0 else s[i]) for i, a in enumerate(axes)]


@handles("fft_rfft")
def rfft(b: Builder, x: Value, n: int | None = None, dim: int = -1, norm: str | None = None) -> Complex:
    return forward_real(b, x, n, dim, norm)


@handles("fft_irfft")
def irfft(b: Builder, x: Complex, n: int | None = None, dim: int = -1, norm: str | None = None) -> Value:
    return inverse_real(b, as_complex(b, x), n, dim, norm)


@handles("fft_fft", "fft_ifft")
def fft(b: Builder, x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Complex:
    inverse = "ifft" in str(b.step.target)
    if isinstance(x, Value) and not inverse:
        return forward_real(b, x, n, dim, norm, whole=True)
    return between(b, as_complex(b, x), n, dim, norm, inverse)


@handles("fft_rfft2", "fft_rfftn")
def rfftn(b: Builder, x: Value, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Complex:
    *others, (axis, size) = _many(x, s, dim if "rfft2" in str(b.step.target) or dim != (-2, -1) else None)
    y = forward_real(b, x, size, axis, norm)
    for other, count in others:
        y = between(b, y, count, other, norm, False)
    return y


@handles("fft_irfft2", "fft_irfftn")
def irfftn(b: Builder, x: Complex, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Value:
    x = as_complex(b, x)
    *others, (axis, size) = _many(x, s, dim if "irfft2" in str(b.step.target) or dim != (-2, -1) else None)
    for other, count in others:
        x = between(b, x, count, other, norm, True)
    return inverse_real(b, x, size, axis, norm)


@handles("fft_fft2", "fft_fftn", "fft_ifft2", "fft_ifftn")
def fftn(b: Builder, x: Any, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Complex:
    name = str(b.step.target)
    axes = _many(x, s, dim if "fft2" in name or dim != (-2, -1) else None)
    y = as_complex(b, x)
    for axis, count in axes:
        y = between(b, y, count, axis, norm, "ifft" in name)
    return y
