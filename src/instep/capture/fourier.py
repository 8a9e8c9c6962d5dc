"""Discrete Fourier transforms of fixed sizes, as matrix products over pairs of numbers: real part, imaginary part."""

from __future__ import annotations

import math

import numpy as np

from instep.capture.building import Building
from instep.graph import Value, ops

__all__ = ["fit", "pairs_matrix", "product", "signal_matrix", "spectrum_matrix"]


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


def spectrum_matrix(size: int, norm: str | None, *, whole: bool) -> np.ndarray:
    """[2 · frequencies, size]: from a real signal to the pairs of its spectrum."""
    count = size if whole else size // 2 + 1
    cos, sin = _waves(count, size, size)
    return np.stack([cos, -sin], axis=1).reshape(2 * count, size) * _scale(norm, size, False)


def signal_matrix(size: int, norm: str | None, *, whole: bool) -> np.ndarray:
    """[size, 2 · frequencies]: from the pairs of a spectrum, or of its first half, to the real part of its signal."""
    count = size if whole else size // 2 + 1
    cos, sin = _waves(size, count, size)
    times = np.ones(count)
    if not whole:
        times[1 : (size + 1) // 2] = 2.0
    return np.stack([cos * times, -sin * times], axis=2).reshape(size, 2 * count) * _scale(norm, size, True)


def pairs_matrix(size: int, norm: str | None, inverse: bool) -> np.ndarray:
    """[2 · size, 2 · size]: from the pairs of a complex signal to those of its spectrum, or back."""
    cos, sin = _waves(size, size, size)
    sin = sin if inverse else -sin
    matrix = np.stack([np.stack([cos, -sin], axis=2), np.stack([sin, cos], axis=2)], axis=1)
    return matrix.reshape(2 * size, 2 * size) * _scale(norm, size, inverse)


def fit(b: Building, x: Value, axis: int, size: int) -> Value:
    """``x`` cut or padded with zeros at its end to ``size`` on ``axis``."""
    pads = [(0, 0)] * x.rank
    pads[axis] = (0, size - x.shape[axis])
    return b.pad(x, pads)


def product(b: Building, x: Value, axis: int, matrix: np.ndarray, pair_in: bool, pair_out: bool) -> Value:
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
