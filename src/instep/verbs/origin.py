"""Sources that are run beside what was captured of them: TFLite files, Keras models."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instep.verbs.sources import is_tflite

if TYPE_CHECKING:
    from instep.capture import Captured
    from instep.verify import Verdict

__all__ = ["anchored", "two_files"]


def anchored(captured: Captured, verdict: Verdict, **asked: Any) -> Verdict:
    """``verdict`` on what became of ``captured``, weighed with whether the source itself computes what was captured.

    ``asked``: images, picture, seed and timeout, as ``instep.verify`` takes them. Raises EngineError.
    """
    from instep.verify.origin import anchor, unanchored, verify_tflite_origin

    if captured.origin is None:
        return verdict
    if not is_tflite(captured.origin):
        return _anchored_keras(captured, verdict, **asked)
    origin = verify_tflite_origin(captured.reference, captured.origin, captured.graph, **asked)
    if isinstance(origin, str):
        return unanchored(verdict, origin, captured.source)
    return anchor(verdict, origin, captured.source)


def _anchored_keras(captured: Captured, verdict: Verdict, **asked: Any) -> Verdict:
    """As ``anchored``; a live model is saved for it, and weights from another file leave nothing to run."""
    from instep.capture.keras.file import save_model
    from instep.capture.keras.tracing import Live
    from instep.verify.origin import anchor, unanchored, verify_keras_origin, verify_live_origin

    if captured.graph.meta.get("weights"):
        return unanchored(verdict, "its weights come from another file", captured.source)
    live = captured.origin
    if isinstance(live, Live):
        asked.pop("timeout", None)  # it runs in this process
        origin = verify_live_origin(captured.reference, live, captured.graph, **asked)
    else:
        with tempfile.TemporaryDirectory(prefix="instep-") as folder:
            file = live if isinstance(live, str | os.PathLike) else save_model(live, Path(folder))
            origin = verify_keras_origin(captured.reference, os.fspath(file), captured.graph, **asked)
    if isinstance(origin, str):
        return unanchored(verdict, origin, captured.source)
    return anchor(verdict, origin, captured.source)


def two_files(
    first: str, second: Path, inputs: Any = None, *, figures: Any = None, bounds: Mapping[str, Any], **asked: Any
) -> tuple[Captured | None, Verdict]:
    """``second`` against what is captured of ``first``; where that cannot be, or ``first`` rounds, against its runs.

    ``bounds``: the engine that runs ``second`` ("on"), and the "timeout" of either file's.
    Raises TFLiteError, EngineError, or ValueError when the inputs do not fit.
    """
    from instep.capture import CaptureError, capture
    from instep.runtime import tflite_info
    from instep.verify.files import verify_files
    from instep.verify.origin import anchor, apart, unanchored, verify_tflite_origin
    from instep.verify.verify import verify

    patience = {k: v for k, v in bounds.items() if k == "timeout"}
    try:
        captured = capture(first, inputs=inputs)
        origin = verify_tflite_origin(captured.reference, first, captured.graph, **asked, **patience)
        why = "it is quantised" if origin is None else ""
    except CaptureError as error:
        captured, origin, why = None, None, str(error)
    if captured is None or origin is None:
        verdict = verify_files(first, second, figures=figures, **bounds, **asked)
        verdict.notes.append(f"{Path(first).name} was run on the CPU, not captured: {why}")
        return None, verdict
    graph, reference = captured.graph, captured.reference
    if tflite_info(second).instep.get("source") != captured.source:
        graph, reference = apart(graph)
    verdict = verify(reference, second, graph=graph, figures=figures, **bounds, **asked)
    if isinstance(origin, str):
        return captured, unanchored(verdict, origin, captured.source)
    return captured, anchor(verdict, origin, captured.source)
