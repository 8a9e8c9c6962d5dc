"""The verbs as functions, with the names of the command line; those about targets come from ``targeting``."""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instep import tflite_source
from instep.collector import importing
from instep.debugging import bisect, cut, stages
from instep.probing import Probe, probe
from instep.report.results import Bench, Conversion, Verification
from instep.targeting import Aim, Check, TargetError, check, legalize

if TYPE_CHECKING:
    from instep.capture import Captured
    from instep.report.table import Table
    from instep.rewrite.driver import PassReport
    from instep.verify import Verdict
    from instep.verify.inputs import Picture

__all__ = [
    "Bench",
    "Check",
    "Conversion",
    "InstepError",
    "Probe",
    "TargetError",
    "Verification",
    "bench",
    "bisect",
    "capture",
    "check",
    "convert",
    "cut",
    "legalize",
    "probe",
    "show",
    "stages",
    "verify",
]

#: What a caller may pass to hear how far a long walk has come: called with the room and what happens in it.
Progress = Callable[[str, str], None]


class InstepError(ValueError):
    """Something the user can put right; the message says what, where and what to do."""


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
    ``"timm:NAME"`` (random weights from ``seed`` unless ``weights`` are given), a ``.pt2`` or a ``.tflite`` file, a
    network's text (``.yaml``, ``.json``) or ``"zoo:NAME"``.
    ``weights``: a ``.safetensors`` file, or a ``.pth`` of plain tensors (nothing is unpickled but those).
    ``inputs``: a list of shapes, Specs or arrays, one per input, or a dict by argument name; None: as the source says.
    Raises CaptureError (a ValueError) with scope, source line and what to do.
    """
    from instep.capture import capture as run

    _load(source)
    return run(
        source,
        weights=os.fspath(weights) if weights is not None else None,
        inputs=inputs,
        args=dict(args) if args else None,
        seed=seed,
    )


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
    them that the proof runs on too; ``picture`` says how pixels become inputs (range, mean, std). ``io``: "nhwc" gives
    channel-last inputs and outputs, "nchw" the source's; a ``.tflite`` source keeps its own. ``tune="avx512"`` lays
    convolutions out for servers' wide vectors; without it the file suits every processor.
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
    from instep.runtime import tflite_info

    if tune and tune not in TUNINGS:
        raise InstepError(f"tune must be one of {', '.join(TUNINGS)}, got {tune!r}")
    if io not in ("nhwc", "nchw"):
        raise InstepError(f"io must be 'nhwc' or 'nchw', got {io!r}")
    path = _writable(out)
    page = None if report is None else _writable(report)
    aim = None if target is None else Aim(target, images=images, picture=picture, seed=seed, force=force)
    tell = progress or (lambda room, what: None)
    seconds: dict[str, float] = {}

    tell("import", "what reads the source")
    start = time.perf_counter()
    _load(source)
    seconds["import"] = time.perf_counter() - start
    tell("capture", str(source) if isinstance(source, str) else type(source).__name__)
    start = time.perf_counter()
    captured = capture(source, weights=weights, inputs=inputs, args=args, seed=seed)
    seconds["capture"] = time.perf_counter() - start

    if tflite_source.is_tflite(source):
        io = "nchw"  # which says: as the source has it
    start = time.perf_counter()
    prove = _proving().prover(captured, seed) if prove_each else None

    def pipeline(prove: Callable[[Any, Any, str], object] | None) -> tuple[Any, list[PassReport]]:
        avoid = aim.profile.avoid if aim is not None else ()
        step = functools.partial(tell, "rewrite")
        made = to_tflite(captured.graph, io=io, tune=tune, avoid=avoid, prove=prove, progress=step)
        return made if aim is None else aim.reach(*made, prove=prove, progress=step)

    graph, passes = pipeline(prove)
    seconds["rewrite"] = time.perf_counter() - start

    facts: dict[str, Any] = {"source": captured.source, "io": io, "half": half}
    if aim is not None:
        facts["target"] = aim.profile.name
    verdict: Verdict | None = None
    seconds["emit"] = 0.0
    with tempfile.TemporaryDirectory(prefix="instep-") as folder:
        if verify:
            draft = Path(folder) / path.name
            tell("emit", path.name)
            start = time.perf_counter()
            write(graph, draft, half=half, metadata=facts)
            seconds["emit"] = time.perf_counter() - start
            tell("verify", "source and result side by side")
            start = time.perf_counter()
            verdict = _proof(captured, draft, images=images, picture=picture, seed=seed, thresholds=thresholds)
            if tflite_source.is_tflite(source):
                tflite_source.anchored(captured, source, verdict, images=images, picture=picture, seed=seed)
            seconds["verify"] = time.perf_counter() - start
            if not verdict.ok and verdict.verdict in ("drifting", "out of step"):
                tell("verify", "which step is to blame")
                start = time.perf_counter()
                asked = {"images": images, "picture": picture, "seed": seed}
                _proving().blame(captured, pipeline, draft, verdict, half=half, **asked)
                seconds["blame"] = time.perf_counter() - start
            # the proof's summary travels in the file's metadata: the same graph is written once more, with it
            facts["proof"] = _summary(verdict)
        start = time.perf_counter()
        size = write(graph, path, half=half, metadata=facts)
        seconds["emit"] += time.perf_counter() - start

    from instep.report.table import table_of_graph

    info = tflite_info(path)
    table = table_of_graph(captured.graph, captured.source)
    result = Conversion(
        captured.source,
        str(path),
        size,
        dict(info.histogram.most_common()),
        table.ops,
        info.max_rank,
        table.parameters,
        table.macs,
        io,
        half,
        verdict,
        passes,
        seconds,
        list(captured.notes),
        target=None if aim is None else aim.profile.name,
        violations=[] if aim is None else [v.to_json() for v in aim.left],
    )
    if page is not None:
        from instep.report.document import document_of_conversion
        from instep.report.html import render
        from instep.report.pictures import pictures

        tell("report", page.name)
        start = time.perf_counter()
        shown = pictures(captured, path, images, picture) if verify else []
        _write_text(page, render(document_of_conversion(result, shown)))
        seconds["report"] = time.perf_counter() - start
        result.report = str(page)
    return result


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
    seed: int = 0,
    progress: Progress | None = None,
) -> Verification:
    """Prove that the TFLite ``file`` computes what ``source`` computes, value by value.

    ``source`` as in ``capture``, or another ``.tflite`` file. The file may come from any tool: where its tensors do
    not say what they are, they are aligned by what flows through them. ``on`` names the engine whose outputs stand
    trial, such as "litert-gpu"; that it refuses the file or dies of it is a verdict.
    Raises CaptureError, TFLiteError, EngineError, InstepError.
    """
    path = Path(file)
    page = None if report is None else _writable(report)
    tell = progress or (lambda room, what: None)
    seconds: dict[str, float] = {}
    if not path.is_file():
        raise InstepError(f"no such file: {path}")
    start = time.perf_counter()
    if tflite_source.is_tflite(source):
        tell("verify", "two files side by side")
        asked: dict[str, Any] = {"images": images, "picture": picture, "seed": seed}
        captured, verdict = tflite_source.two_files(
            os.fspath(source), path, inputs, figures=_figures(thresholds), on=on, **asked
        )
        title, notes = str(source), [] if captured is None else list(captured.notes)
    else:
        tell("capture", str(source))
        captured = capture(source, weights=weights, inputs=inputs, args=args, seed=seed)
        seconds["capture"] = time.perf_counter() - start
        start = time.perf_counter()
        tell("verify", "source and result side by side")
        verdict = _proof(captured, path, images=images, picture=picture, seed=seed, thresholds=thresholds, on=on)
        title, notes = captured.source, list(captured.notes)
    seconds["verify"] = time.perf_counter() - start
    result = Verification(title, str(path), verdict, seconds, notes)
    if page is not None:
        from instep.report.document import document_of_verification
        from instep.report.html import render
        from instep.report.pictures import pictures

        shown = pictures(captured, path, images, picture) if captured is not None else []
        _write_text(page, render(document_of_verification(result, captured, shown)))
        result.report = str(page)
    return result


def show(
    source: Any,
    *,
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Table:
    """The table of a network or of a TFLite file: scopes, operators, shapes, parameters, multiply-accumulates."""
    from instep.report.table import table_of_file, table_of_graph

    if tflite_source.is_tflite(source):
        from instep.runtime import tflite_info

        return table_of_file(tflite_info(os.fspath(source)))
    captured = capture(source, weights=weights, inputs=inputs, args=args, seed=seed)
    return table_of_graph(captured.graph, captured.source, captured.notes)


def bench(
    files: Sequence[str | os.PathLike[str]], *, repeats: int = 15, threads: int = 1, on: str = "xnnpack"
) -> Bench:
    """Median latency of TFLite files on one engine, measured in turn so that what slows the machine slows all."""
    from instep.runtime import bench as measure
    from instep.runtime import tflite_info

    names = [os.fspath(f) for f in files]
    sizes = {name: tflite_info(name).bytes for name in names}
    measured = measure(names, repeats=repeats, threads=threads, engine=on)
    return Bench(names, measured.median, measured.failed, sizes, threads)


def _load(source: Any = None) -> None:
    """Import what captures ``source``."""
    with importing():
        if tflite_source.is_tflite(source):
            import_module("instep.capture.tflite.capture")
        elif not import_module("instep.capture.text").is_text_source(source):
            import_module("instep.capture.torch.capture")
        import_module("instep.extensions").load_extensions()


def _proof(
    captured: Captured,
    file: Path,
    *,
    images: Any,
    picture: Picture | None,
    seed: int,
    thresholds: Mapping[str, float] | None,
    on: str = "",
) -> Verdict:
    from instep.verify.verify import verify as judge

    return judge(
        captured.reference,
        file,
        graph=captured.graph,
        images=images,
        picture=picture,
        seed=seed,
        figures=_figures(thresholds),
        on=on,
    )


def _proving() -> Any:
    """The room of both ways to put the pipeline on trial; it brings the whole proof with it."""
    return import_module("instep.proving")


def _figures(thresholds: Mapping[str, float] | None) -> Any:
    if not thresholds:
        return None
    from instep.verify.lossy import Figures

    try:
        return Figures(**thresholds)
    except TypeError:
        known = ", ".join(Figures.__dataclass_fields__)
        raise InstepError(f"thresholds are {known}; got {', '.join(thresholds)}") from None


def _summary(verdict: Verdict) -> dict[str, Any]:
    said = verdict.to_json(0)
    keys = ("verdict", "noise_ratio", "max_abs", "correlation", "inputs", "values", "lossy")
    return {key: said[key] for key in keys if key in said}


def _writable(out: str | os.PathLike[str]) -> Path:
    """``out`` as a path that can be written, or an InstepError before any work is done."""
    path = Path(out)
    if path.is_dir():
        raise InstepError(f"{path} is a folder; name the file to write, e.g. {path / 'network.tflite'}")
    if not path.parent.is_dir():
        raise InstepError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InstepError(f"{path}: the folder {path.parent} is not writable; choose another place with -o")
    return path


def _write_text(path: Path, text: str) -> None:
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
