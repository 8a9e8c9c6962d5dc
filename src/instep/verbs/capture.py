"""The verb ``capture``: a network of any source as a Graph, with a reference that runs the source itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from instep.verbs.sources import load_reader

if TYPE_CHECKING:
    from instep.capture import Captured

__all__ = ["capture"]


def capture(
    source: Any,
    *,
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Captured:
    """Read a network into a Graph, faithfully, together with a reference that runs the source itself.

    ``source``: a ``torch.nn.Module``, a live ``keras.Model``, ``"package.module:factory"`` or ``"file.py:factory"``
    (called with ``args``) that give one of these, a ``"file.py"`` with a function ``load`` (as exported code has),
    ``"timm:NAME"`` (random weights from ``seed`` unless ``weights`` are given), a ``.pt2``, ``.keras``, ``.h5`` or
    ``.tflite`` file, a network's text (``.yaml``, ``.json``) or ``"zoo:NAME"``.
    ``weights``: a ``.safetensors`` file, or a ``.pth`` of plain tensors (nothing is unpickled but those); for a text
    also a TensorFlow checkpoint (``.index``, a SavedModel's folder), for a Keras model ``.weights.h5``.
    ``inputs``: a list of shapes, Specs or arrays, one per input, or a dict by argument name; shapes may be written as
    on the command line (``"1,3,64,64"``, ``"int64:1,77"``, ``"x=1,3"``). None: as the source says.
    The graph of a live PyTorch model shares the memory of its parameters, as long as nothing moves them: train such a
    model further, and capture it again for what is to be written or proved of it then.
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
