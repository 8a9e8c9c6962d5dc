"""Discrete Fourier transforms of fixed sizes, as matrix products over pairs of real numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from instep.capture.torch.builder import Builder
from instep.capture.torch.handlers.complex import as_complex
from instep.capture.torch.registry import Complex, handles
from instep.graph import Value, ops

__all__ = ["signal_matrix", "spectrum_matrix"]


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
    matrix = spectrum_matrix(size, norm, whole=whole)
    return Complex(_product(b, _fit(b, x, axis, size), axis, matrix, False, True))


def spectrum_matrix(size: int, norm: str | None, *, whole: bool) -> np.ndarray:
    """[2 · frequencies, size]: from a real signal to the pairs of its spectrum."""
    count = size if whole else size // 2 + 1
    cos, sin = _waves(count, size, size)
    return np.stack([cos, -sin], axis=1).reshape(2 * count, size) * _scale(norm, size, False)


def inverse_real(b: Builder, x: Complex, n: int | None, dim: int, norm: str | None) -> Value:
    """The real signal of ``n`` values whose spectrum starts with ``x``; its other half is the mirrored conjugate."""
    axis = dim % x.rank
    size = n or 2 * (x.shape[axis] - 1)
    matrix = signal_matrix(size, norm, whole=False)
    return _product(b, _fit(b, x.pair, axis, size // 2 + 1), axis, matrix, True, False)


def signal_matrix(size: int, norm: str | None, *, whole: bool) -> np.ndarray:
    """[size, 2 · frequencies]: from the pairs of a spectrum, or of its first half, to the real part of its signal."""
    count = size if whole else size // 2 + 1
    cos, sin = _waves(size, count, size)
    times = np.ones(count)
    if not whole:
        times[1 : (size + 1) // 2] = 2.0
    return np.stack([cos * times, -sin * times], axis=2).reshape(size, 2 * count) * _scale(norm, size, True)


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
