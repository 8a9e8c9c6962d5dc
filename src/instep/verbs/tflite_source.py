"""What the verbs do otherwise where the source is a file of its own: it is run beside what was captured of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instep.capture import Captured
    from instep.verify import Verdict

__all__ = ["anchored", "has_origin", "is_tflite", "two_files"]


def is_tflite(source: Any) -> bool:
    """Whether ``source`` names a TFLite file."""
    return isinstance(source, str | os.PathLike) and os.fspath(source).endswith(".tflite")


def has_origin(source: Any) -> bool:
    """Whether ``source`` can be run beside what is captured of it: a TFLite file, a Keras model."""
    from instep.capture.keras.file import is_keras_source

    return is_tflite(source) or is_keras_source(source)


def anchored(captured: Captured, source: Any, verdict: Verdict, **asked: Any) -> Verdict:
    """``verdict`` on what became of ``captured``, weighed with whether the source file computes what was captured.

    ``asked``: images, picture and seed, as ``instep.verify`` takes them. Raises EngineError.
    """
    from instep.verify.origin import anchor, verify_origin

    if not is_tflite(source):
        return _anchored_keras(captured, source, verdict, **asked)
    return anchor(verdict, verify_origin(captured.reference, source, captured.graph, **asked), captured.source)


def _anchored_keras(captured: Captured, source: Any, verdict: Verdict, **asked: Any) -> Verdict:
    """As ``anchored``; a live model is saved for it, and weights from another file leave nothing to run."""
    from instep.capture.keras.file import save_model
    from instep.verify.origin import anchor, unanchored, verify_keras_origin

    if captured.graph.meta.get("weights"):
        return unanchored(verdict, "its weights come from another file", captured.source)
    with tempfile.TemporaryDirectory(prefix="instep-") as folder:
        file = source if isinstance(source, str | os.PathLike) else save_model(source, Path(folder))
        origin = verify_keras_origin(captured.reference, os.fspath(file), captured.graph, **asked)
    if isinstance(origin, str):
        return unanchored(verdict, origin, captured.source)
    return anchor(verdict, origin, captured.source)


def two_files(
    first: str, second: Path, inputs: Any = None, *, figures: Any = None, on: str = "", **asked: Any
) -> tuple[Captured | None, Verdict]:
    """``second`` against what is captured of ``first``; where that cannot be, or ``first`` rounds, against its runs.

    ``on`` names the engine that runs ``second``.
    Raises TFLiteError, EngineError, or ValueError when the inputs do not fit.
    """
    from instep.capture import CaptureError, capture
    from instep.runtime import tflite_info
    from instep.verify.files import verify_files
    from instep.verify.origin import anchor, apart, verify_origin
    from instep.verify.verify import verify

    try:
        captured = capture(first, inputs=inputs)
        origin = verify_origin(captured.reference, first, captured.graph, **asked)
        why = "it is quantised" if origin is None else ""
    except CaptureError as error:
        captured, origin, why = None, None, str(error)
    if captured is None or origin is None:
        verdict = verify_files(first, second, figures=figures, on=on, **asked)
        verdict.notes.append(f"{Path(first).name} was run on the CPU, not captured: {why}")
        return None, verdict
    graph, reference = captured.graph, captured.reference
    if tflite_info(second).instep.get("source") != captured.source:
        graph, reference = apart(graph)
    verdict = verify(reference, second, graph=graph, figures=figures, on=on, **asked)
    return captured, anchor(verdict, origin, captured.source)
