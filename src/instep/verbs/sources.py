"""What a user may name as a source, of which kind it is, and what has to be imported to read it."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from instep.process import importing
from instep.runtime import available
from instep.runtime.modules import framework_of

__all__ = ["choose_backend", "is_tflite", "load_reader"]

#: The packages that a reader or a source may bring in, as people call them.
_PACKAGES = {"torch": "PyTorch", "keras": "Keras", "tensorflow": "TensorFlow", "jax": "JAX"}


def is_tflite(source: Any) -> bool:
    """Whether ``source`` names a TFLite file."""
    return isinstance(source, str | os.PathLike) and os.fspath(source).endswith(".tflite")


def choose_backend() -> None:
    """Keras takes TensorFlow when nobody says what; where that is missing and JAX is not, JAX."""
    if available("keras-tensorflow") is not None and available("keras-jax") is None:
        os.environ.setdefault("KERAS_BACKEND", "jax")


def load_reader(source: Any) -> list[str]:
    """Import what captures ``source``, for Python code the framework that it is written for.

    The frameworks that this brought in, as people call them.
    """
    from instep.capture.keras.file import is_keras_source
    from instep.capture.python import is_python_source
    from instep.capture.text import is_text_source

    before = set(sys.modules)
    with importing():
        if is_tflite(source):
            import_module("instep.capture.tflite.capture")
        elif is_keras_source(source):
            import_module("instep.capture.keras.capture")
        elif is_python_source(source) and framework_of(os.fspath(source).partition(":")[0]) == "keras":
            choose_backend()
            import_module("keras")
        elif not is_text_source(source):
            import_module("instep.capture.torch.capture")
        import_module("instep.extensions").load_extensions()
    return [name for package, name in _PACKAGES.items() if package in sys.modules and package not in before]
