"""The verb ``capture``: a network of any source as a Graph, with a reference that runs the source itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from instep.process import importing
from instep.verbs.tflite_source import is_tflite

if TYPE_CHECKING:
    from instep.capture import Captured

__all__ = ["capture", "load_reader"]


def capture(
    source: Any,
    *,
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Captured:
    """Read a network into a Graph, faithfully, together with a reference that runs the source itself.

    ``source``: a ``torch.nn.Module``, ``"package.module:factory"``, ``"file.py:factory"`` (called with ``args``),
    ``"timm:NAME"`` (random weights from ``seed`` unless ``weights`` are given), a live ``keras.Model``, a ``.pt2``,
    ``.keras``, ``.h5`` or ``.tflite`` file, a network's text (``.yaml``, ``.json``) or ``"zoo:NAME"``.
    ``weights``: a ``.safetensors`` file, or a ``.pth`` of plain tensors (nothing is unpickled but those); for a text
    also a TensorFlow checkpoint (``.index``, a SavedModel's folder), for a Keras model ``.weights.h5``.
    ``inputs``: a list of shapes, Specs or arrays, one per input, or a dict by argument name; None: as the source says.
    Raises CaptureError (a ValueError) with scope, source line and what to do.
    """
    from instep.capture import capture as run

    load_reader(source)
    return run(
        source,
        weights=os.fspath(weights) if weights is not None else None,
        inputs=inputs,
        args=dict(args) if args else None,
        seed=seed,
    )


def load_reader(source: Any) -> None:
    """Import what captures ``source``."""
    with importing():
        if is_tflite(source):
            import_module("instep.capture.tflite.capture")
        elif import_module("instep.capture.keras.file").is_keras_source(source):
            import_module("instep.capture.keras.capture")
        elif not import_module("instep.capture.text").is_text_source(source):
            import_module("instep.capture.torch.capture")
        import_module("instep.extensions").load_extensions()
