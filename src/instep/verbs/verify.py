"""The verb ``verify``: whether a file computes what its source computes, value by value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instep.report.results import Verification
from instep.verbs.capture import capture
from instep.verbs.common import Clock, InstepError, Progress, silent, writable
from instep.verbs.origin import anchored, two_files
from instep.verbs.sources import is_tflite
from instep.whole import write_text

if TYPE_CHECKING:
    from instep.capture import Captured
    from instep.verify import Verdict
    from instep.verify.inputs import Picture

__all__ = ["proof", "verify"]


def verify(
    source: Any,
    file: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    images: str | os.PathLike[str] | None = None,
    picture: Picture | None = None,
    report: str | os.PathLike[str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    on: str = "",
    timeout: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Verification:
    """Prove that ``file`` computes what ``source`` computes, value by value.

    ``source`` as in ``capture``, or another ``.tflite`` file. ``file``: a ``.tflite`` file of any tool, whose tensors
    are aligned by what flows through them where they do not say what they are; a network of PyTorch, Keras or JAX (a
    source file with a function ``load``, a ``.pt2``, a ``.keras``), which is run; or a network's text. ``on`` names the
    engine whose outputs stand trial, such as "litert-gpu" or "keras-jax"; that it refuses the file or dies of it is a
    verdict, and so is that it takes longer than ``timeout`` seconds (by default 900) for all inputs. As long may
    ``source`` take, where it is a file that runs on an engine, and each further run that the search for a fault needs.
    Raises CaptureError, TFLiteError, EngineError, InstepError.
    """
    path = Path(file)
    page = None if report is None else writable(report)
    tell = progress or silent
    clock = Clock()
    if not path.is_file():
        raise InstepError(f"no such file: {path}")
    asked: dict[str, Any] = {"images": images, "picture": picture, "seed": seed}
    patience: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    bounds: dict[str, Any] = {"on": on, **patience}
    if is_tflite(source) and is_tflite(path):
        from instep.capture.shapes import shapes_of

        tell("verify", "two files side by side")
        with clock("verify"):
            captured, verdict = two_files(
                os.fspath(source), path, shapes_of(inputs), figures=_figures(thresholds), bounds=bounds, **asked
            )
        title, notes = str(source), [] if captured is None else list(captured.notes)
    else:
        tell("capture", str(source))
        with clock("capture"):
            captured = capture(source, weights=weights, inputs=inputs, args=args, seed=seed)
        tell("verify", "source and result side by side")
        with clock("verify"):
            verdict = proof(captured, path, thresholds=thresholds, bounds=bounds, **asked)
            anchored(captured, verdict, **asked, **patience)
        title, notes = captured.source, list(captured.notes)
    result = Verification(title, str(path), verdict, clock.seconds, notes)
    if page is not None:
        from instep.report.document import document_of_verification
        from instep.report.html import render
        from instep.report.pictures import pictures

        shown = pictures(captured, path, images, picture) if captured is not None and is_tflite(path) else []
        write_text(page, render(document_of_verification(result, captured, shown)))
        result.report = str(page)
    return result


def proof(
    captured: Captured,
    file: Path,
    *,
    images: Any,
    picture: Picture | None,
    seed: int,
    thresholds: Mapping[str, float] | None,
    bounds: Mapping[str, Any] | None = None,
) -> Verdict:
    """The verdict on ``file``, a network in whatever form; ``bounds``: the engine ("on") and its "timeout"."""
    from instep.capture.text import is_text_source
    from instep.runtime import suffix_of

    asked: dict[str, Any] = {
        "graph": captured.graph, "images": images, "picture": picture, "seed": seed, "figures": _figures(thresholds),
    }  # fmt: skip
    if is_text_source(os.fspath(file)):
        from instep.verify.text import verify_text

        return verify_text(captured.reference, file, **asked)
    if suffix_of(file) != ".tflite":
        from instep.verify.module import verify_module

        return verify_module(captured.reference, file, **(bounds or {}), **asked)
    from instep.verify.verify import verify as judge

    return judge(captured.reference, file, **(bounds or {}), **asked)


def _figures(thresholds: Mapping[str, float] | None) -> Any:
    if not thresholds:
        return None
    from instep.verify.lossy import Figures

    try:
        return Figures(**thresholds)
    except TypeError:
        known = ", ".join(Figures.__dataclass_fields__)
        raise InstepError(f"thresholds are {known}; got {', '.join(thresholds)}") from None
