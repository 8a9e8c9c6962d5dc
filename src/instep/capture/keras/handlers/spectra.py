"""Fourier transforms of fixed sizes and short-time ones, and layers of them; complex numbers are pairs of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from instep.capture.fourier import pairs_matrix, product, signal_matrix, spectrum_matrix
from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.spatial import arranged, convolved
from instep.capture.keras.registry import Unsupported, function, layer
from instep.graph import Value, ops

__all__: list[str] = []


def _joined(b: Builder, x: Any) -> Value:
    """A pair of tensors as one with the parts on a new last axis."""
    if not isinstance(x, list) or len(x) != 2 or any(not isinstance(v, Value) for v in x):
        raise Unsupported("it is not called with a real and an imaginary tensor")
    return b.concat([b.reshape(v, (*v.shape, 1)) for v in x], x[0].rank)


def _parted(b: Builder, pair: Value) -> tuple[Value, Value]:
    last = pair.rank - 1
    real, imaginary = (b.reshape(b.slice(pair, last, i, i + 1), pair.shape[:-1]) for i in range(2))
    return real, imaginary


def _sized(b: Builder, x: Value, axis: int, size: Any) -> Value:
    """``axis`` cut or padded with zeros to ``size``."""
    if size is None:
        return x
    if not isinstance(size, int) or size < 1:
        raise Unsupported(f"its fft_length is {size}")
    return b.pad(x, [(0, size - x.shape[axis]) if a == axis else (0, 0) for a in range(x.rank)])


# -- whole signals -----------------------------------------------------------------------------------------------------
@function("FFT")
def fft(b: Builder, x: Any) -> tuple[Value, Value]:
    return _between(b, _joined(b, x), 1, False)


@function("FFT2", "IFFT2")
def fft2(b: Builder, x: Any) -> tuple[Value, Value]:
    return _between(b, _joined(b, x), 2, b.place.layer.kind == "IFFT2")


def _between(b: Builder, pair: Value, count: int, inverse: bool) -> tuple[Value, Value]:
    for axis in range(pair.rank - 1 - count, pair.rank - 1):
        pair = product(b, pair, axis, pairs_matrix(pair.shape[axis], None, inverse), True, True)
    return _parted(b, pair)


@function("RFFT")
def rfft(b: Builder, x: Value, fft_length: Any = None) -> tuple[Value, Value]:
    x = _sized(b, x, x.rank - 1, fft_length)
    return _parted(b, product(b, x, x.rank - 1, spectrum_matrix(x.shape[-1], None, whole=False), False, True))


@function("IRFFT")
def irfft(b: Builder, x: Any, fft_length: Any = None) -> Value:
    pair = _joined(b, x)
    axis = pair.rank - 2
    size = 2 * (pair.shape[axis] - 1) if fft_length is None else fft_length
    pair = _sized(b, pair, axis, size // 2 + 1)
    return product(b, pair, axis, signal_matrix(size, None, whole=False), True, False)


# -- frames ------------------------------------------------------------------------------------------------------------
@function("ExtractSequences")
def extract_sequences(b: Builder, x: Value, sequence_length: Any = None, sequence_stride: Any = None) -> Value:
    """Frames of one length, a stride apart, on a new axis before their elements."""
    length, stride = b.whole("sequence_length"), b.whole("sequence_stride")
    count = 1 + (x.shape[-1] - length) // stride
    if count < 1:
        raise Unsupported(f"{x.shape[-1]} elements are less than a frame of {length}")
    places = np.arange(count, dtype=np.int32)[:, None] * stride + np.arange(length, dtype=np.int32)
    return b(ops.Gather(x.rank - 1), x, b.constant(places, "frames"))


@function("STFT")
def stft(b: Builder, x: Value, center: bool = True, **_: Any) -> tuple[Value, Value]:
    length, stride, size = (b.whole(name) for name in ("sequence_length", "sequence_stride", "fft_length"))
    return _frames(b, x, length, stride, size, b.field("window", "hann"), center)


def _frames(
    b: Builder, x: Value, length: int, stride: int, size: int, window: Any, center: bool
) -> tuple[Value, Value]:
    """The spectrum of each frame under the window: a convolution whose kernels are waves, and whose stride a hop is."""
    if center:
        x = b.pad(x, [(0, 0)] * (x.rank - 1) + [(size // 2, size // 2)], "reflect")
    kernels = spectrum_matrix(size, None, whole=False) * _window(b, window, length, size)
    weight = b.constant(kernels.reshape(-1, 1, 1, size).astype(np.float32), "waves")
    batch = int(np.prod(x.shape[:-1], dtype=int))
    y = b(ops.Conv2d(stride=(1, stride)), b.reshape(x, (batch, 1, 1, x.shape[-1])), weight)
    count, frames = y.shape[1] // 2, y.shape[3]
    pair = b.reshape(b.permute(y, (0, 2, 3, 1)), (*x.shape[:-1], frames, count, 2))
    return _parted(b, pair)


def _window(b: Builder, window: Any, length: int, size: int) -> np.ndarray:
    """``size`` numbers with the window in their middle; the names are those of windows that repeat."""
    turn = 2 * np.pi * np.arange(length) / length
    match window:
        case None:
            return np.ones(size)
        case "hann":
            values = 0.5 - 0.5 * np.cos(turn)
        case "hamming":
            values = 0.54 - 0.46 * np.cos(turn)
        case list():
            values = b.numbers(window, "window").astype(np.float64)
        case _:
            raise Unsupported(f"its window is {str(window)[:60]}")
    if values.shape != (length,) or size < length:
        raise Unsupported(f"its window of {values.shape} does not fit {length} and {size}")
    left = (size - length) // 2
    return np.pad(values, (left, size - length - left))


# -- layers ------------------------------------------------------------------------------------------------------------
@layer("STFTSpectrogram")
def stft_spectrogram(b: Builder, x: Value) -> Value:
    """What convolutions with waves make of each channel, in one of seven forms."""
    last = b.layout() == "NHWC"
    batch, time, channels = x.shape if last else (x.shape[0], x.shape[2], x.shape[1])
    mode, length = b.field("mode", "log"), b.whole("frame_length")
    size = b.whole("fft_length") if b.field("fft_length") else 1 << (length - 1).bit_length()
    lines = b.reshape(b.permute(x, (0, 2, 1)) if last else x, (batch * channels, time, 1))
    parts = []
    for name, without in (("real", "imag"), ("imag", "real")):
        if mode == without:
            continue
        kernel = b.kept(b.weight(f"{name}_kernel", (length, 1, size // 2 + 1), f"{name}.weight", arranged(1, "NHWC")))
        y = _spoken(b, lines, kernel, length)
        parts.append(b.permute(b.reshape(y, (batch, channels, *y.shape[1:])), (0, 1, 3, 2)))
    return _arranged(b, _formed(b, mode, parts), last)


def _spoken(b: Builder, lines: Value, kernel: Value, length: int) -> Value:
    """A convolution of lines whose stride is the layer's frame_step."""
    wide = b.reshape(lines, (lines.shape[0], 1, *lines.shape[1:]))
    step = b.whole("frame_step", length // 2) if b.field("frame_step") is not None else length // 2
    y = convolved(b, wide, [kernel], (1, length), 1, (1, step), layout="NHWC")
    return b.reshape(y, (y.shape[0], *y.shape[2:]))


def _formed(b: Builder, mode: Any, parts: list[Value]) -> Value:
    """[batch, channels, frequencies, frames] of the real and the imaginary part."""
    if len(parts) == 1:
        return parts[0]
    real, imaginary = parts
    if mode == "angle":
        return b(ops.Atan2(), imaginary, real)
    if mode == "stft":
        return b.concat(parts, 2)
    power = b(ops.Add(), b(ops.Square(), real), b(ops.Square(), imaginary))
    if mode == "psd":
        inner = b.pad(b.slice(power, 2, 1, power.shape[2] - 1), [(0, 0), (0, 0), (1, 1), (0, 0)])
        return b(ops.Add(), power, inner)
    floor = b.scalar(1e-7, power.dtype)
    size = b(ops.Sqrt(), b(ops.Maximum(), power, floor))
    return size if mode == "magnitude" else b(ops.Log(), b(ops.Maximum(), size, floor))


def _arranged(b: Builder, y: Value, last: bool) -> Value:
    if b.flag("expand_dims"):
        return b.permute(y, (0, 3, 2, 1) if last else (0, 1, 3, 2))
    flat = b.reshape(y, (y.shape[0], y.shape[1] * y.shape[2], y.shape[3]))
    return b.permute(flat, (0, 2, 1)) if last else flat


@layer("MelSpectrogram")
def mel_spectrogram(b: Builder, x: Value) -> Value:
    """Frames' spectra, weighed by bands that are even in mel, in decibel where asked for."""
    size = b.whole("fft_length", 2048)
    length = size if b.field("sequence_length") is None else b.whole("sequence_length")
    real, imaginary = _frames(b, x, length, b.whole("sequence_stride", 512), size, b.field("window", "hann"), True)
    power = b(ops.Add(), b(ops.Square(), real), b(ops.Square(), imaginary))
    exponent = b.number("mag_exp", 2.0)
    y = power if exponent == 2.0 else b(ops.Sqrt(), power)
    if exponent not in (1.0, 2.0):
        y = b(ops.Pow(), y, b.scalar(exponent, y.dtype))
    bands = b.constant(_bands(b, size // 2 + 1).T.astype(np.float32), "bands")
    y = b(ops.Linear(), y, bands)
    if b.flag("power_to_db", True):
        y = _decibel(b, y)
    return b.permute(y, [*range(y.rank - 2), y.rank - 1, y.rank - 2])


def _decibel(b: Builder, y: Value) -> Value:
    least, reference = b.number("min_power", 1e-10), abs(b.number("ref_power", 1.0))
    floor = b.scalar(least, y.dtype)
    y = b(ops.Mul(), b(ops.Log(), b(ops.Maximum(), y, floor)), b.scalar(10 / np.log(10), y.dtype))
    y = b(ops.Sub(), y, b.scalar(10 * float(np.log10(max(reference, least))), y.dtype))
    peak = b(ops.ReduceMax(tuple(range(y.rank)), True), y)
    return b(ops.Maximum(), y, b(ops.Sub(), peak, b.scalar(b.number("top_db", 80.0), y.dtype)))


def _bands(b: Builder, count: int) -> np.ndarray:
    """[frequencies, bands]: triangles in mel, 1127 · log(1 + f / 700) (the HTK Book)."""
    rate, bands = b.number("sampling_rate", 16000), b.whole("num_mel_bins", 128)
    low = b.number("min_freq", 20.0)
    high = rate / 2 if b.field("max_freq") is None else b.number("max_freq")

    def mel(f: Any) -> Any:
        return 1127.0 * np.log(1.0 + f / 700.0)

    places = mel(np.linspace(0.0, rate / 2, count))[1:, None]
    edges = np.linspace(mel(low), mel(high), bands + 2)
    left, middle, right = (edges[i : i + bands][None] for i in range(3))
    weights = np.minimum((places - left) / (middle - left), (right - places) / (right - middle))
    return np.pad(np.maximum(weights, 0.0), ((1, 0), (0, 0)))
