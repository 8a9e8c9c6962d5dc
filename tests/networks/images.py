"""Real images of the data folder: high-resolution, its bicubic reduction, and the distance of two images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .checkpoints import data_dir

__all__ = ["high_resolution", "psnr", "reduced"]


def high_resolution(folder: str) -> list[Path]:
    """The PNG files of ``sr/<folder>`` (set5, set14), sorted; [] without the data folder."""
    place = data_dir()
    return sorted((place / "sr" / folder).glob("*.png")) if place else []


def reduced(path: Path, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """(low, high): uint8 [H, W, 3]. ``high`` is cropped to a multiple of ``scale``, ``low`` its bicubic reduction."""
    image = Image.open(path).convert("RGB")
    width, height = image.width // scale, image.height // scale
    image = image.crop((0, 0, width * scale, height * scale))
    low = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(low), np.asarray(image)


def psnr(a: np.ndarray, b: np.ndarray, border: int) -> float:
    """Peak signal-to-noise ratio in dB of two images in [0, 255], all channels, without ``border`` pixels."""
    inside = (slice(border, -border), slice(border, -border))
    error = np.mean((a[inside].astype(np.float64) - b[inside].astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / error))
