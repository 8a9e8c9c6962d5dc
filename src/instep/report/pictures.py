"""Side-by-side pictures of an image-to-image network: input, source output, file output, amplified difference."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from instep.report.model import Picture

if TYPE_CHECKING:
    from instep.verify.inputs import Picture as Pixels

__all__ = ["pictures"]

_LIMIT = 3
_LARGEST_SIDE = 1024


def pictures(captured: Any, file: str | Path, images: Any = None, pixels: Pixels | None = None) -> list[Picture]:
    """Up to three pictures through the source in float64 and through ``file``; [] when it maps no image to an image.

    ``captured`` is a Captured. Without ``images`` a synthetic picture with edges and flat areas is taken.
    ``pixels`` says how pixels in [0, 1] become inputs.
    """
    specs = captured.reference.input_specs
    if len(specs) != 1 or not specs[0].dtype.startswith("float") or not _is_image(specs[0].shape):
        return []
    outputs = captured.graph.outputs
    chosen = next(
        (i for i, v in enumerate(outputs) if _is_image(v.shape) and _same_aspect(specs[0].shape, v.shape)), None
    )
    if chosen is None:
        return []
    made = (_one(captured, Path(file), name, shown, chosen, pixels) for name, shown in _inputs(specs[0], images))
    return [picture for picture in made if picture is not None]


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[0] == 1 and shape[1] in (1, 3) and min(shape[2:]) >= 8


def _same_aspect(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return abs(a[2] * b[3] - a[3] * b[2]) <= max(b[2:])


def _inputs(spec: Any, images: Any) -> list[tuple[str, np.ndarray]]:
    from instep.verify.inputs import fit, load_images, natural

    _, channels, height, width = spec.shape
    if images is None:
        return [("(synthetic)", natural((channels, height, width), 0)[None].astype(spec.dtype))]
    return [
        (name, fit(pixels, channels, height, width)[None].astype(spec.dtype))
        for name, pixels in load_images(images, _LIMIT)
    ]


def _one(captured: Any, file: Path, name: str, shown: np.ndarray, chosen: int, pixels: Pixels | None) -> Picture | None:
    from instep.runtime import run, tflite_info

    array = shown if pixels is None else pixels.apply(shown[0])[None].astype(shown.dtype)
    info = tflite_info(file)
    shape = info.tensors[info.inputs[0]].shape
    given = array if array.shape == shape else np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    ran = run(file, [given])
    if ran.failed or len(ran.outputs) <= chosen:
        return None
    output = captured.graph.outputs[chosen]
    truth = captured.reference.run([array], dtype="float64")[output.name]
    result = ran.outputs[chosen]
    if result.shape != truth.shape:
        result = result.transpose(0, 3, 1, 2)
    difference = np.abs(np.asarray(result, np.float64) - truth)
    largest = float(np.nanmax(difference))
    scale = 255.0 if float(np.nanmax(np.abs(truth))) > 8 else 1.0
    amplification = scale / largest if largest > 0 else 1.0
    return Picture(
        name,
        _png(shown[0]),
        _png(truth[0] / scale),
        _png(np.asarray(result[0], np.float64) / scale),
        _png(difference[0] * amplification / scale),
        amplification,
        largest,
    )


def _png(pixels: np.ndarray) -> bytes:
    """``pixels`` [C, H, W], 1 or 3 channels in [0, 1] (clipped), as a PNG of at most 1024 pixels a side."""
    from PIL import Image

    clipped = np.nan_to_num(np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
    image = Image.fromarray(clipped[0] if clipped.shape[0] == 1 else np.ascontiguousarray(clipped.transpose(1, 2, 0)))
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
