"""The verb ``convert``: a network as a TFLite file, and the proof of the file."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instep.report.results import Conversion
from instep.verbs.aim import Aim
from instep.verbs.capture import capture
from instep.verbs.common import Clock, InstepError, Progress, silent, writable
from instep.verbs.origin import anchored
from instep.verbs.sources import is_tflite, load_reader
from instep.verbs.verify import proof
from instep.whole import write_text

if TYPE_CHECKING:
    from instep.capture import Captured
    from instep.emit.tflite.standard import Standard
    from instep.graph import Graph
    from instep.rewrite.driver import PassReport
    from instep.verify import Verdict
    from instep.verify.inputs import Picture
    from instep.verify.proving import Pipeline

__all__ = ["convert", "plain_file"]


def convert(
    source: Any,
    out: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    images: str | os.PathLike[str] | None = None,
    picture: Picture | None = None,
    io: str = "nhwc",
    tune: str = "",
    target: str | None = None,
    force: bool = False,
    half: bool = False,
    report: str | os.PathLike[str] | None = None,
    prove_each: bool = False,
    verify: bool = True,
    thresholds: Mapping[str, float] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a network to the TFLite file ``out``, and prove the file value by value.

    ``source``, ``weights``, ``inputs``, ``args`` and ``seed`` as in ``capture``. ``images``: a picture or a folder of
    them that the proof runs on too; ``picture`` says how pixels become inputs (range, mean, std), and the file says so
    to other tools. ``io``: "nhwc" gives channel-last inputs and outputs, "nchw" the source's; a ``.tflite`` source
    keeps its own. ``tune="avx512"`` lays convolutions out for servers' wide vectors; without it the file suits every
    processor.
    ``target`` (a shipped profile or a ``.yaml`` file) makes the file acceptable to a device: what its profile objects
    to is rewritten, under the same proof. What cannot be cleared is a TargetError, and nothing is written unless
    ``force`` is set.
    ``half`` stores the weights as float16; the proof then counts in units of float16's rounding. ``report`` writes an
    HTML page. ``prove_each`` runs the graph after every rewrite in float64. ``verify=False`` skips the proof.
    ``thresholds`` judge a result that is lossy by intention: minima for "sqnr", "psnr" (dB), "ssim", "correlation",
    "top1", "top5".

    Where the proof fails, the pipeline is run again and the step to blame is named (``.verdict.culprit``).

    The file appears whole when all is done, or not at all; a file whose proof fails is written too (look at
    ``.ok``), so that it can be examined. Raises CaptureError, EmitError, InstepError or OSError.
    """
    from instep.emit.tflite import write
    from instep.rewrite.pipelines import TUNINGS, to_tflite

    if tune and tune not in TUNINGS:
        raise InstepError(f"tune must be one of {', '.join(TUNINGS)}, got {tune!r}")
    if io not in ("nhwc", "nchw"):
        raise InstepError(f"io must be 'nhwc' or 'nchw', got {io!r}")
    path = writable(out)
    page = None if report is None else writable(report)
    aim = None if target is None else Aim(target, images=images, picture=picture, seed=seed, force=force)
    tell = progress or silent
    clock = Clock()

    tell("import", "what reads the source")
    with clock("import"):
        imported = load_reader(source)
    tell("capture", str(source) if isinstance(source, str) else type(source).__name__)
    with clock("capture"):
        captured = capture(source, weights=weights, inputs=inputs, args=args, seed=seed)
    if is_tflite(source):
        io = "nchw"  # which says: as the source has it

    def pipeline(prove: Callable[[Any, Any, str], object] | None) -> tuple[Any, list[PassReport]]:
        avoid = aim.profile.avoid if aim is not None else ()
        step = functools.partial(tell, "rewrite")
        made = to_tflite(captured.graph, io=io, tune=tune, avoid=avoid, prove=prove, progress=step)
        return made if aim is None else aim.reach(*made, prove=prove, progress=step)

    with clock("rewrite"):
        graph, passes = pipeline(_prover(captured, seed) if prove_each else None)
    facts: dict[str, Any] = {"source": captured.source, "io": io, "half": half}
    if aim is not None:
        facts["target"] = aim.profile.name
    standard = _standard(source, captured, graph, picture)
    verdict: Verdict | None = None
    asked: dict[str, Any] = {"images": images, "picture": picture, "seed": seed}
    with tempfile.TemporaryDirectory(prefix="instep-") as folder:
        if verify:
            draft = Path(folder) / path.name
            tell("emit", path.name)
            with clock("emit"):
                write(graph, draft, half=half, metadata=facts, standard=standard)
            verdict = _judged(captured, draft, pipeline, asked, thresholds, half, clock, tell)
            # the proof's summary travels in the file's metadata: the same graph is written once more, with it
            facts["proof"] = _summary(verdict)
        with clock("emit"):
            size = write(graph, path, half=half, metadata=facts, standard=standard)

    result = _result(captured, path, size, io, half, verdict, passes, clock)
    result.imported = imported
    if aim is not None:
        result.target, result.violations = aim.profile.name, [v.to_json() for v in aim.left]
    if page is not None:
        tell("report", page.name)
        with clock("report"):
            _report(page, result, captured, images, picture, shown=verify)
    return result


def _standard(source: Any, captured: Captured, graph: Graph, picture: Picture | None) -> Standard:
    """What the file tells other tools: what a TFLite source told, else what the user says of pictures."""
    from instep.emit.tflite.standard import Normalisation, Standard, standard_metadata, standard_within

    if is_tflite(source):
        from instep.runtime import tflite_info

        said = standard_within(source, tflite_info(source).metadata)
        if said.entry or picture is None:
            return said
    if picture is None:
        return Standard()
    mean, std = (tuple(255 / picture.scale * x for x in numbers) for numbers in (picture.mean, picture.std))
    return Standard(standard_metadata(graph, Normalisation(mean, std), captured.source))


def plain_file(captured: Captured, path: Path, tell: Progress = silent) -> None:
    """What is captured as a TFLite file of the plain pipeline, without a proof."""
    from instep.emit.tflite import write
    from instep.rewrite.pipelines import to_tflite

    graph, _ = to_tflite(captured.graph, progress=lambda name: tell("rewrite", name))
    write(graph, path, metadata={"source": captured.source})


def _judged(
    captured: Captured, draft: Path, pipeline: Pipeline, asked: dict[str, Any], thresholds: Any,
    half: bool, clock: Clock, tell: Progress,
) -> Verdict:  # fmt: skip
    """The verdict on the draft and, where that is a bad one, the step of the pipeline to blame."""
    tell("verify", "source and result side by side")
    with clock("verify"):
        verdict = proof(captured, draft, thresholds=thresholds, **asked)
        anchored(captured, verdict, **asked)
    if not verdict.ok:
        from instep.verify.proving import blame

        tell("verify", "which step is to blame")
        with clock("blame"):
            blame(captured, pipeline, draft, verdict, half=half, **asked)
    return verdict


def _prover(captured: Captured, seed: int) -> Callable[[Any, Any, str], float]:
    from instep.verify.proving import prover

    return prover(captured, seed)


def _result(
    captured: Captured, path: Path, size: int, io: str, half: bool, verdict: Verdict | None, passes: list[PassReport],
    clock: Clock,
) -> Conversion:  # fmt: skip
    from instep.report.table import table_of_graph
    from instep.runtime import tflite_info

    info = tflite_info(path)
    table = table_of_graph(captured.graph, captured.source)
    counts = dict(info.histogram.most_common())
    return Conversion(
        captured.source, str(path), size, counts, table.ops, info.max_rank, table.parameters, table.macs, io, half,
        verdict, passes, clock.seconds, list(captured.notes),
    )  # fmt: skip


def _report(page: Path, result: Conversion, captured: Captured, images: Any, picture: Any, *, shown: bool) -> None:
    from instep.report.document import document_of_conversion
    from instep.report.html import render
    from instep.report.pictures import pictures

    seen = pictures(captured, result.file, images, picture) if shown else []
    write_text(page, render(document_of_conversion(result, seen)))
    result.report = str(page)


def _summary(verdict: Verdict) -> dict[str, Any]:
    said = verdict.to_json(0)
    keys = ("verdict", "noise_ratio", "max_abs", "correlation", "inputs", "values", "lossy")
    return {key: said[key] for key in keys if key in said}
