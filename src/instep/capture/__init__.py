"""Reads a network of some framework into a Graph, faithfully, and can run the source itself. Frameworks load lazily."""

from __future__ import annotations

import os
from typing import Any

from instep.capture.base import Captured, CaptureError, Reference
from instep.capture.shapes import shapes_of
from instep.capture.vision import prepare_torchvision

__all__ = ["CaptureError", "Captured", "Reference", "capture"]


def capture(
    source: Any,
    *,
    weights: str | None = None,
    inputs: Any = None,
    args: dict[str, Any] | None = None,
    seed: int = 0,
) -> Captured:
    """Capture ``source`` as a Graph in its own layout, with a reference that runs the source framework.

    ``source``: a ``torch.nn.Module``, a live ``keras.Model``, ``"package.module:factory"`` or ``"file.py:factory"``
    (called with ``args``) that give one of these, a ``"file.py"`` with a function ``load`` (exported code),
    ``"timm:NAME"`` (random weights from ``seed`` unless ``weights`` are given), a ``.pt2``, ``.keras``, ``.h5``,
    ``.tflite``, ``.yaml`` or ``.json`` file, or ``"zoo:NAME"``.
    ``weights``: a ``.safetensors`` file or a ``.pth`` file of plain tensors; for a text also a TensorFlow checkpoint.
    ``inputs``: one entry per network input: a shape (list of ints), a ``Spec``, an array or tensor, or what the command
    line takes (``"1,3,64,64"``, ``"int64:1,77"``, ``"x=1,3"``); or a dict of such entries by argument name. Default:
    what the source says (timm's input size, ``example_inputs`` of the module or ``EXAMPLE_INPUT`` of its file).

    Raises CaptureError with the scope, the source line and what to do.
    """
    inputs = shapes_of(inputs)
    prepare_torchvision()
    if isinstance(source, str | os.PathLike) and os.fspath(source).endswith(".tflite"):
        from instep.capture.tflite.capture import capture_tflite

        return capture_tflite(source, weights=weights, inputs=inputs, args=args, seed=seed)
    from instep.capture.keras.file import is_keras_source

    if is_keras_source(source):
        from instep.capture.keras.capture import capture_keras

        return capture_keras(source, weights=weights, inputs=inputs, args=args, seed=seed)
    from instep.capture.text import capture_text, is_text_source

    if is_text_source(source):
        return capture_text(source, weights=weights, inputs=inputs, args=args, seed=seed)
    from instep.capture.python import find, is_python_source

    if is_python_source(source):
        found = find(source, args, seed, weights)
        if is_keras_source(found.network):
            from instep.capture.keras.capture import capture_keras

            return capture_keras(found, weights=weights, inputs=inputs, seed=seed)
        source = found
    from instep.capture.torch.capture import capture_torch

    return capture_torch(source, weights=weights, inputs=inputs, args=args, seed=seed)
