"""The verbs for debugging: a sub-network as a file, the smallest one that differs, where along the network it grows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instep.verbs.capture import capture
from instep.verbs.common import Progress, silent
from instep.verbs.pair import converted, pair, sets_of, sets_of_file
from instep.verbs.sources import is_tflite

if TYPE_CHECKING:
    from instep.capture import Captured
    from instep.debug.bisection import Bisection
    from instep.debug.stages import Stages
    from instep.verify.inputs import Picture

__all__ = ["Cut", "bisect", "cut", "stages"]


@dataclass
class Cut:
    """A sub-network that was written: ``file``, what it reads and gives, its operators in order."""

    source: str
    file: str
    bytes: int
    inputs: list[str]
    outputs: list[str]
    operators: list[str]
    #: folders with the arrays that flow there, where a folder was asked for
    activations: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data under the keys that ``instep cut --json`` prints."""
        return dict(vars(self))


def cut(
    source: Any,
    out: str | os.PathLike[str],
    *,
    start: Sequence[str] = (),
    end: Sequence[str] = (),
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    images: str | os.PathLike[str] | None = None,
    picture: Picture | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Cut:
    """Write the operators between the values ``start`` (default: the inputs) and ``end`` (default: the outputs).

    A TFLite file is cut losslessly: the same operators, options, scales and weights. Anything else that ``capture``
    takes is cut as captured and converted. A value is named as in `instep show`, by a beginning that no other has, or
    as ``#12``. ``out`` is a ``.tflite`` file, or a folder: that gets ``part.tflite`` and, from a run of the whole
    network on ``images`` (else on a picture-like input), what flows in and out of the part as ``.npy`` arrays.
    Raises ValueError (unknown names list near ones), CaptureError, TFLiteError, EngineError.
    """
    from instep.debug.folder import whole_folder

    tell = progress or silent
    asked = {"images": images, "picture": picture, "seed": seed}
    with ExitStack() as stack:
        alone = str(out).endswith(".tflite")
        folder = None if alone else stack.enter_context(whole_folder(out))
        path = Path(out) if folder is None else folder / "part.tflite"
        if is_tflite(source):
            tell("cut", str(source))
            result = _cut_file(os.fspath(source), path, start, end, folder, asked)
        else:
            tell("capture", str(source))
            captured = capture(source, weights=weights, inputs=inputs, args=args, seed=seed)
            result = _cut_captured(captured, path, start, end, folder, asked)
        if folder is not None:
            _mark(folder, result.to_json())
    result.file = str(out) if alone else str(Path(out) / "part.tflite")
    return result


def _cut_file(
    source: str, path: Path, start: Sequence[str], end: Sequence[str], folder: Path | None, asked: dict[str, Any]
) -> Cut:
    from instep.debug.cutting import Cutter
    from instep.debug.folder import arrays
    from instep.debug.trusted import from_file

    cutter = Cutter(source)
    info, flow = cutter.info, cutter.flow
    given = [flow.resolve(name) for name in start] or list(info.inputs)
    wanted = [flow.resolve(name) for name in end] or list(dict.fromkeys(info.outputs))
    part = cutter.part(given, wanted)
    size = cutter.write(part, path, f"cut from {Path(source).name} by Instep")
    names = {i: info.tensors[i].name for i in (*part.inputs, *part.outputs)}
    result = Cut(
        source, str(path), size, [names[i] for i in part.inputs], [names[i] for i in part.outputs],
        [info.ops[n].name for n in part.ops],
    )  # fmt: skip
    if start and (extra := [names[i] for i in part.inputs if i not in given]):
        result.notes.append(f"the part reads {', '.join(extra)} as well, which --from does not stand before")
    if folder is not None:
        trusted = from_file(source, info, sets_of_file(info, **asked)[:1])
        for label, indices in (("inputs", part.inputs), ("outputs", part.outputs)):
            flows = [trusted.given(0, i) for i in indices if i in trusted.known]
            result.activations[label] = arrays(folder / label, [names[i] for i in indices if i in trusted.known], flows)
        result.notes.append(f"activations: the whole file on LiteRT's built-in kernels, input '{trusted.names[0]}'")
    return result


def _cut_captured(
    captured: Captured, path: Path, start: Sequence[str], end: Sequence[str], folder: Path | None, asked: dict[str, Any]
) -> Cut:
    from instep.debug.excerpt import excerpt
    from instep.debug.folder import arrays
    from instep.emit.tflite import write
    from instep.rewrite.pipelines import to_tflite
    from instep.verify.mapping import mapping_of

    part = excerpt(captured.graph, start, end)
    graph, _ = to_tflite(part)
    size = write(graph, path, metadata={"source": f"{captured.source}, a part"})
    result = Cut(
        captured.source, str(path), size, [v.name for v in part.inputs], [v.name for v in part.outputs],
        [n.op.name for n in part.nodes],
    )  # fmt: skip
    result.notes += captured.notes
    if folder is not None:
        given = sets_of(captured.reference, captured.graph, **asked)[0]
        ends = [*part.inputs, *part.outputs]
        truth = captured.reference.run(list(given.arrays), dtype="float32", keep=[v.name for v in ends])
        truth |= dict(zip([v.name for v in captured.graph.inputs], given.arrays, strict=True))
        mapping = mapping_of(graph)
        for label, values, views in (
            ("inputs", part.inputs, mapping.inputs), ("outputs", part.outputs, mapping.outputs),
        ):  # fmt: skip
            shown = [truth[v.name] if w is None else w.apply(truth[w.name]) for v, w in zip(values, views, strict=True)]
            result.activations[label] = arrays(folder / label, [v.name for v in values], shown)
        result.notes.append(f"activations: the whole network in float32, input '{given.name}', in the file's layout")
    return result


def bisect(
    a: Any,
    b: Any = None,
    out: str | os.PathLike[str] | None = None,
    *,
    on: str = "",
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    images: str | os.PathLike[str] | None = None,
    picture: Picture | None = None,
    seed: int = 0,
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> Bisection:
    """Find the smallest sub-network at which ``b`` leaves ``a``, on the activations that ``a`` has there.

    ``a`` is trusted: a network of any framework (anything that ``capture`` takes), run in float64, or a TFLite file,
    run on LiteRT's built-in kernels. ``b`` is on trial: a TFLite file, or a network of any framework, which is
    converted first; ``on`` names the engine that runs it (default "builtin"). ``inputs`` are those of ``a``.
    Without ``b`` the file ``a`` stands trial on the engine ``on`` against itself on the CPU. A refusal, a crash or a
    time-out of the engine (``timeout`` seconds for each file) is found the same way. What is found is
    written into the folder ``out``, fit for a bug report; when nothing differs, nothing is.
    Raises CaptureError, TFLiteError, EngineError, or ValueError when the two cannot be compared.
    """
    from instep.debug.bisection import bisect_file

    tell = progress or silent
    if b is None and not on:
        raise ValueError("name a second thing to compare with, or an engine to run the file on, e.g. --on litert-gpu")
    engine = _engine(on)
    asked = {"images": images, "picture": picture, "seed": seed}
    read = {"weights": weights, "inputs": inputs, "args": args, "seed": seed}
    with tempfile.TemporaryDirectory(prefix="instep-bisect-") as folder:
        cutter, trusted, unit, label, twin = pair(a, b, Path(folder), read, asked, tell)
        found = bisect_file(
            cutter, trusted, engine, unit=unit, seed=seed, timeout=timeout, tell=lambda what: tell("bisect", what)
        )
        found.label = label
        if found.found is not None and out is not None:
            from instep.debug.report import write_report

            tell("bisect", f"writing {out}")
            write_report(found, out, label, twin)
    return found


def stages(
    a: Any,
    b: Any = None,
    *,
    on: str = "",
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    images: str | os.PathLike[str] | None = None,
    picture: Picture | None = None,
    seed: int = 0,
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> Stages:
    """The stages of a network: where its pictures keep their size, under which scopes, of which operators.

    With ``b`` or ``on`` (as in ``bisect``) each stage is run alone on the values that ``a`` has there, and everything
    up to its end from the inputs: the error that is born in it, and the error that has gathered.
    """
    from instep.debug.stages import Stages, measure, stages_of
    from instep.debug.trial import Trial

    tell = progress or silent
    engine = _engine(on)
    read = {"weights": weights, "inputs": inputs, "args": args, "seed": seed}
    with tempfile.TemporaryDirectory(prefix="instep-stages-") as folder:
        if b is None and not on:
            from instep.runtime import tflite_info

            file = Path(os.fspath(a)) if is_tflite(a) else Path(folder) / "network.tflite"
            label = str(a)
            if not is_tflite(a):
                tell("capture", str(a))
                label = converted(capture(a, **read), file, tell)
            return Stages(label, stages_of(tflite_info(file)))
        asked = {"images": images, "picture": picture, "seed": seed}
        cutter, trusted, unit, label, _ = pair(a, b, Path(folder), read, asked, tell)
        result = Stages(label, stages_of(cutter.info), engine, trusted.who, list(trusted.notes))
        tell("stages", f"{len(result.stages)} stages on {engine}")
        trial = Trial(cutter, trusted.only(0), engine, unit=unit, seed=seed, timeout=timeout)
        measure(trial, result.stages)
    return result


def _engine(on: str) -> str:
    """The engine that parts of a file run on."""
    from instep.runtime import ENGINES, engine_of
    from instep.verify.on_engine import check_engine

    if on and engine_of(on).runs and ".tflite" not in engine_of(on).takes:
        raise ValueError(
            f"parts of a network run as TFLite files, which {on} does not take: leave --on out, or name one of "
            f"{', '.join(ENGINES)}. `instep verify A B --on {on}` names the first layer that is out of step there"
        )
    return check_engine(on) if on else "builtin"


def _mark(folder: Path, facts: dict[str, Any]) -> None:
    import json

    from instep.debug.folder import MARK

    (folder / MARK).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
