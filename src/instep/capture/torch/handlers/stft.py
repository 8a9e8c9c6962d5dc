"""Short-time Fourier transforms: a convolution whose kernels are waves under the window, and one transposed.

The frames themselves never exist: a hop is the convolution's stride (Oppenheim and Schafer, Discrete-Time Signal
Processing, 10.3, a filter bank).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from instep.capture.fourier import signal_matrix, spectrum_matrix
from instep.capture.torch.builder import Builder
from instep.capture.torch.handlers.complex import as_complex
from instep.capture.torch.registry import Complex, handles
from instep.graph import Value, ops

__all__: list[str] = []


@handles("stft.default")
def stft(
    b: Builder,
    x: Value,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Value | None = None,
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Any:
    """[B, L] → [B, frequencies, frames]: the spectrum of each ``n_fft`` values, ``hop_length`` apart."""
    if align_to_window:
        raise b.fail("frames that are aligned to the window; pad the signal first")
    matrix = spectrum_matrix(n_fft, "ortho" if normalized else None, whole=onesided is False)
    kernels = matrix * _window(b, window, win_length, n_fft)
    weight = b.constant(kernels.reshape(-1, 1, 1, n_fft).astype("float32"), "waves")
    batch = x.shape[0] if x.rank > 1 else 1
    hop = hop_length or n_fft // 4
    y = b(ops.Conv2d(stride=(1, hop)), b.reshape(x, (batch, 1, 1, x.shape[-1])), weight)
    count, frames = y.shape[1] // 2, y.shape[3]
    y = b.permute(b.reshape(y, (batch, count, 2, frames)), (0, 1, 3, 2))
    y = b.reshape(y, (*x.shape[:-1], count, frames, 2))
    return Complex(y) if return_complex else y


@handles("stft.center")
def centred_stft(
    b: Builder,
    x: Value,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Value | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    *rest: Any,
    **named: Any,
) -> Any:
    if center:
        x = b.pad(x, [(0, 0)] * (x.rank - 1) + [(n_fft // 2, n_fft // 2)], pad_mode)
    return stft(b, x, n_fft, hop_length, win_length, window, *rest, **named)


@handles("istft")
def istft(
    b: Builder,
    x: Complex,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Value | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Value:
    """The frames under the window, added up where they overlap, over the sum of the window's squares there."""
    if return_complex:
        raise b.fail("a complex signal")
    x = as_complex(b, x)
    frames, hop = x.shape[-1], hop_length or n_fft // 4
    batch = x.shape[0] if x.rank > 2 else 1
    whole = x.shape[-2] != n_fft // 2 + 1 if onesided is None else not onesided
    shape = _window(b, window, win_length, n_fft)
    kernels = signal_matrix(n_fft, "ortho" if normalized else None, whole=whole).T * shape
    weight = b.constant(kernels.reshape(-1, 1, 1, n_fft).astype("float32"), "waves")
    pair = b.permute(b.reshape(x.pair, (batch, x.shape[-2], frames, 2)), (0, 1, 3, 2))
    y = b(ops.ConvTranspose2d(stride=(1, hop)), b.reshape(pair, (batch, -1, 1, frames)), weight)
    start = n_fft // 2 if center else 0
    full = y.shape[3]
    stop = min(start + length, full) if length is not None else full - start
    y = b.slice(b.reshape(y, (batch, full)), 1, start, stop)
    squares = np.zeros(full)
    for i in range(frames):
        squares[i * hop : i * hop + n_fft] += shape**2
    y = b(ops.Mul(), y, b.constant((1 / squares[start:stop]).astype("float32"), "overlap"))
    y = b.pad(y, [(0, 0), (0, (length or 0) - (stop - start) if length is not None else 0)])
    return b.reshape(y, b.shape())


def _window(b: Builder, window: Value | None, win_length: int | None, n_fft: int) -> np.ndarray:
    """The window's ``n_fft`` values, zeros around what is shorter."""
    width = win_length or n_fft
    values = np.ones(width) if window is None else b.known(window, "window", 4)
    if values is None:
        raise b.fail("a window that is computed from an input")
    left = (n_fft - width) // 2
    return np.pad(values.astype(np.float64), (left, n_fft - width - left))
