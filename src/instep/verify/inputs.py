"""The inputs a proof runs on: seeded noise, structured pictures, edge cases, and the user's own images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instep.graph import Spec

__all__ = ["IMAGE_SUFFIXES", "InputSet", "Picture", "load_images", "make_inputs", "natural"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class InputSet:
    """One run's inputs, in the source's order, layout and dtypes. ``edge`` marks extreme cases."""

    name: str
    arrays: tuple[np.ndarray, ...]
    edge: bool = False


@dataclass(frozen=True)
class Picture:
    """How a picture becomes an input: pixels in [0, 1] · ``scale``, then (x - mean) / std per channel.

    ``scale`` 1 gives [0, 1], 255 gives 0..255.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """``pixels`` [C, H, W] in [0, 1] → float32 [C, H, W].

        A mean per colour says nothing of an input with another number of channels: that one is scaled only.
        """
        if not {len(self.mean), len(self.std)} <= {1, len(pixels)}:
            return (pixels * self.scale).astype(np.float32)
        mean, std = (np.asarray(v, np.float64).reshape(-1, 1, 1) for v in (self.mean, self.std))
        return ((pixels * self.scale - mean) / std).astype(np.float32)


def _frame(shape: tuple[int, ...]) -> tuple[int, int, int, str] | None:
    """(C, H, W, layout) when ``shape`` can be a picture, else None."""
    if len(shape) == 4 and shape[1] in (1, 3, 4) and min(shape[2:]) > 4:
        return shape[1], shape[2], shape[3], "NCHW"
    if len(shape) == 4 and shape[3] in (1, 3, 4) and min(shape[1:3]) > 4:
        return shape[3], shape[1], shape[2], "NHWC"
    if len(shape) == 4 and min(shape[2:]) > 4:
        return shape[1], shape[2], shape[3], "NCHW"
    if len(shape) == 3 and min(shape[1:]) > 8 and shape[0] in (1, 3, 4):
        return shape[0], shape[1], shape[2], "CHW"
    return None


def natural(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """A picture-like array [C, H, W] in [0, 1]: a 1/f spectrum, edges, flat areas, correlated channels."""
    rng = np.random.default_rng(seed)
    c, h, w = shape
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None]
    radius = np.sqrt(fy * fy + fx * fx)
    radius[0, 0] = np.inf
    layers = []
    for _ in range(min(c, 3) + 1):
        spectrum = (rng.standard_normal(radius.shape) + 1j * rng.standard_normal(radius.shape)) / radius
        field = np.fft.irfft2(spectrum, s=(h, w))
        layers.append(field / (field.std() or 1.0))
    base = layers[0]
    image = np.stack([0.85 * base + 0.35 * layers[1 + i % (len(layers) - 1)] for i in range(c)])
    image = 0.5 + 0.18 * image
    for _ in range(4):
        y, x = int(rng.integers(0, max(1, h - 3))), int(rng.integers(0, max(1, w - 3)))
        dy, dx = int(rng.integers(2, max(3, h // 3))), int(rng.integers(2, max(3, w // 3)))
        image[:, y : y + dy, x : x + dx] = rng.random((c, 1, 1))
    return np.clip(image, 0.0, 1.0)


def _mosaic(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Edge cases side by side [C, H, W] in [0, 1]: ramps, an impulse on black, checkerboard, constant patches."""
    c, h, w = shape
    image = np.zeros(shape)
    my, mx = h // 2, w // 2
    image[:, :my, :mx] = np.linspace(0, 1, max(mx, 1))[None, None, :]
    image[:, :my, mx:] = np.linspace(1, 0, max(my, 1))[None, :, None]
    image[:, my + (h - my) // 2, mx // 2] = 1.0
    yy, xx = np.mgrid[0 : h - my, 0 : w - mx]
    image[:, my:, mx:] = ((yy + xx) % 2)[None]
    image[:, my:, mx + (w - mx) // 2 :] = np.random.default_rng(seed).random((c, 1, 1))
    return image


def _spread(pixels: np.ndarray, spec: Spec, layout: str, seed: int) -> np.ndarray:
    """[C, H, W] → the input's shape; further samples of a batch are the picture flipped and dimmed."""
    if layout == "CHW":
        return pixels.astype(np.float32)
    rows = [
        pixels if i == 0 else (pixels[:, ::-1, ::-1] if i % 2 else pixels) * (1 - 0.1 * (i % 5))
        for i in range(spec.shape[0])
    ]
    batch = np.stack(rows)
    return np.ascontiguousarray(batch if layout == "NCHW" else batch.transpose(0, 2, 3, 1)).astype(np.float32)


def _array(spec: Spec, kind: str, picture: Picture, bound: int | None, seed: int) -> np.ndarray:
    if bound is not None and spec.dtype.startswith("float"):
        # a quarter above: moved by a rounding, it is still the same index, whether it is cut or rounded
        return (_array(Spec(spec.shape, "int64"), kind, picture, bound, seed) + 0.25).astype(spec.dtype)
    bound = 2 if bound is None else bound
    rng = np.random.default_rng(seed)
    if spec.dtype == "bool":
        plain = {"zeros": np.zeros, "constant": np.ones}
        return plain[kind](spec.shape, bool) if kind in plain else rng.random(spec.shape) < 0.5
    if not spec.dtype.startswith("float"):
        if kind == "zeros":
            return np.zeros(spec.shape, spec.dtype)
        if kind == "constant":
            return np.full(spec.shape, bound - 1, spec.dtype)
        return rng.integers(0, bound, spec.shape).astype(spec.dtype)
    frame = _frame(spec.shape)
    unit = Picture(picture.scale)
    if kind == "zeros":
        result = np.zeros(spec.shape)
    elif kind == "constant":
        result = np.full(spec.shape, 0.6 * unit.scale)
    elif kind == "noise" or (frame is None and kind != "large"):
        normalised = picture.std != (1.0,) or frame is None
        result = rng.standard_normal(spec.shape) if normalised else rng.random(spec.shape) * unit.scale
        if kind != "noise" and frame is None:
            # no picture: smooth along the last axis instead
            result = np.cumsum(result, -1) / np.sqrt(np.arange(1, spec.shape[-1] + 1)) if result.ndim else result
    elif kind == "large":
        result = rng.standard_normal(spec.shape) * 4.0 * unit.scale
    else:
        assert frame is not None
        make = natural if kind == "natural" else _mosaic
        result = _spread(picture.apply(make(frame[:3], seed)), spec, frame[3], seed)
    return np.asarray(result, spec.dtype, order="C")


def load_images(paths: str | Path | Sequence[str | Path], limit: int = 4) -> list[tuple[str, np.ndarray]]:
    """(file name, pixels [H, W, 3] uint8) of the pictures named, or of a folder's first ``limit`` by name.

    Raises FileNotFoundError when a path does not exist or a folder holds no picture, ValueError when a file is no
    picture that PIL reads.
    """
    from PIL import Image

    many = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files: list[Path] = []
    for path in map(Path, many):
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            if not found:
                raise FileNotFoundError(f"no picture ({', '.join(IMAGE_SUFFIXES)}) in {path}")
            files += found[:limit]
        elif path.exists():
            files.append(path)
        else:
            raise FileNotFoundError(f"no such picture or folder: {path}")
    result = []
    for file in files:
        try:
            with Image.open(file) as image:
                result.append((file.name, np.asarray(image.convert("RGB"))))
        except OSError as error:
            raise ValueError(f"{file} is no picture that PIL can read: {error}") from error
    return result


def fit(pixels: np.ndarray, channels: int, height: int, width: int) -> np.ndarray:
    """[H, W, 3] uint8 → [channels, height, width] in [0, 1]: centre crop of the right aspect, area resize to size."""
    from PIL import Image

    h, w = pixels.shape[:2]
    if h >= height and w >= width and max(h / height, w / width) < 4:
        ch, cw = height, width
    else:
        factor = min(h / height, w / width)
        ch, cw = max(1, round(height * factor)), max(1, round(width * factor))
    top, left = (h - ch) // 2, (w - cw) // 2
    image = Image.fromarray(pixels[top : top + ch, left : left + cw])
    if (ch, cw) != (height, width):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    if channels == 1:
        image = image.convert("L")
    array = np.asarray(image, np.float64) / 255.0
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return np.stack([array[i % len(array)] for i in range(channels)])


def make_inputs(
    specs: Sequence[Spec],
    *,
    seed: int = 0,
    images: str | Path | Sequence[str | Path] | None = None,
    picture: Picture | None = None,
    bounds: Mapping[int, int] | None = None,
    given: Sequence[Sequence[np.ndarray]] = (),
    kinds: Sequence[str] = ("noise", "natural", "mosaic", "zeros", "constant", "large"),
) -> list[InputSet]:
    """The input sets of a proof.

    ``given`` sets come first (they are the user's), then the pictures of ``images``, then ``kinds``. ``bounds`` holds
    the exclusive upper bound of integer inputs by number (default 2). Raises ValueError when a given array does not
    fit its input.
    """
    picture, bounds = picture or Picture(), bounds or {}
    sets: list[InputSet] = []
    for i, arrays in enumerate(given):
        if len(arrays) != len(specs):
            raise ValueError(f"the network has {len(specs)} inputs, given set {i} has {len(arrays)}")
        for array, spec in zip(arrays, specs, strict=True):
            if tuple(array.shape) != spec.shape:
                raise ValueError(f"given input of shape {list(array.shape)} does not fit {list(spec.shape)}")
        sets.append(InputSet(f"given {i}", tuple(np.asarray(a, s.dtype) for a, s in zip(arrays, specs, strict=True))))
    if images is not None:
        for name, pixels in load_images(images):
            arrays = []
            for i, spec in enumerate(specs):
                frame = _frame(spec.shape) if spec.dtype.startswith("float") else None
                if frame is None:
                    arrays.append(_array(spec, "noise", picture, bounds.get(i), seed + i))
                else:
                    arrays.append(_spread(picture.apply(fit(pixels, *frame[:3])), spec, frame[3], seed))
            sets.append(InputSet(name, tuple(arrays)))
    for j, kind in enumerate(kinds):
        arrays = [_array(s, kind, picture, bounds.get(i), seed + 1000 * j + i) for i, s in enumerate(specs)]
        sets.append(InputSet(kind, tuple(arrays), kind in ("zeros", "constant")))
    return sets
