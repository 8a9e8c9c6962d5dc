"""Two networks or files side by side: the one as a file on trial, with the true values that the other says it has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instep.verbs.capture import capture
from instep.verbs.common import Progress
from instep.verbs.convert import plain_file
from instep.verbs.sources import is_tflite

if TYPE_CHECKING:
    from instep.capture import Captured
    from instep.debug.cutting import Cutter
    from instep.debug.flow import Part
    from instep.debug.trusted import Trusted
    from instep.debug.twin import Twin
    from instep.graph import Graph, Spec
    from instep.verify.inputs import InputSet

__all__ = ["converted", "pair", "sets_of", "sets_of_file"]

#: Sources that bring their own weights and take no arguments.
OWN_WEIGHTS = (".tflite", ".keras", ".h5", ".hdf5", ".pt2", ".py")
#: Input sets that show what a network does to ordinary values; the search runs on the one that shows most.
KINDS = ("noise", "natural")


def pair(
    a: Any, b: Any, folder: Path, read: dict[str, Any], asked: dict[str, Any], tell: Progress
) -> tuple[Cutter, Trusted, float, str, Callable[[Part, Path], Twin]]:
    """The file on trial, its true values, its unit of rounding, what it is called, and what makes a part's twin."""
    from instep.debug import twins
    from instep.debug.cutting import Cutter
    from instep.debug.trusted import from_file, from_reference
    from instep.verify.quantised import judged_as

    same = is_tflite(a) and (b is None or (is_tflite(b) and os.path.realpath(a) == os.path.realpath(b)))
    suspect = a if b is None else b
    captured = None
    if not is_tflite(a):
        tell("capture", str(a))
        captured = capture(a, **read)
    if is_tflite(suspect):
        file, label = Path(os.fspath(suspect)), str(suspect)
    else:
        file = folder / "network.tflite"
        second = captured if b is None else None
        if second is None:
            tell("capture", str(suspect))
            specs = _input_specs(os.fspath(a)) if captured is None else [v.spec for v in captured.graph.inputs]
            second = _alike(suspect, specs, read)
        label = converted(second, file, tell)
    cutter = Cutter(file)
    unit = judged_as(cutter.info, None)[0]
    tell("bisect", "real activations")
    if same:
        trusted = from_file(file, cutter.info, sets_of_file(cutter.info, **asked))
        return cutter, trusted, unit, label, lambda part, place: twins.of_itself(cutter, part)
    if captured is not None:
        from instep.verify.tflite import TfliteSubject

        reference, graph, who = captured.reference, captured.graph, f"{captured.source} in float64"
        sets = sets_of(reference, graph, **asked)
        subject = TfliteSubject.load(file, reference, graph=graph, sets=sets)
    else:
        reference, graph, subject, sets = _file_beside(os.fspath(a), file, asked)
        who = f"{Path(a).name} on LiteRT's built-in CPU kernels"
    trusted = from_reference(reference, graph, subject, sets, who)
    if captured is not None and len(trusted.known) < len(cutter.flow.computed) + len(cutter.info.inputs):
        _fill(trusted, cutter, captured, folder)

    def twin(part: Part, place: Path) -> Twin:
        if captured is None:
            return twins.of_file(Cutter(os.fspath(a)), trusted, part)
        try:
            return twins.of_captured(captured.graph, trusted, part, _lowered, place)
        except ValueError:
            if trusted.filler is None:
                raise
            return twins.of_build(Cutter(trusted.filler), cutter, part)

    return cutter, trusted, unit, label, twin


def _input_specs(file: str) -> list[Spec]:
    from instep.graph import Spec
    from instep.runtime import tflite_info

    info = tflite_info(file)
    return [Spec(info.tensors[i].shape, info.tensors[i].dtype) for i in info.inputs]


def _fill(trusted: Trusted, cutter: Cutter, captured: Captured, folder: Path) -> None:
    """What happens inside of one step of the source is known where a right file does it in the same way: this file
    itself on the CPU, or what Instep writes today."""
    from instep.debug.trusted import fill
    from instep.emit.tflite import write
    from instep.rewrite.pipelines import to_tflite
    from instep.runtime import tflite_info

    facts = cutter.info.instep
    if fill(trusted, cutter.path, cutter.info) or not facts or facts.get("target"):
        return
    again = folder / "again.tflite"
    write(to_tflite(captured.graph, io=facts.get("io", "nhwc"))[0], again, half=bool(facts.get("half")))
    fill(trusted, again, tflite_info(again))


def _lowered(graph: Graph, path: Path) -> None:
    """Write a part of a captured graph as a file that keeps the source's layout."""
    from instep.emit.tflite import write
    from instep.rewrite.pipelines import to_tflite

    write(to_tflite(graph, io="nchw")[0], path)


def _alike(source: Any, specs: Sequence[Spec], read: dict[str, Any]) -> Captured:
    """``source`` captured with inputs like ``specs``: as they are, with channels moved to the other end, or as it says
    itself. Weights and arguments go to what comes without."""
    from instep.capture import CaptureError

    bare = isinstance(source, str) and not source.endswith(OWN_WEIGHTS)
    reason: CaptureError | None = None
    for inputs in (*_ways(specs), None):
        try:
            return capture(source, **({**read, "inputs": inputs} if bare else {"seed": read["seed"], "inputs": inputs}))
        except CaptureError as error:
            reason = reason or error
    assert reason is not None
    raise reason


def _ways(specs: Sequence[Spec]) -> Iterator[list[Any]]:
    """How a source may take such inputs. Integers of 32 bits may be those that a source takes in 64, as PyTorch does:
    its files hold them in 32; what is neither an integer nor a truth value is a plain shape."""
    from instep.graph import Spec

    plain = [tuple(s.shape) for s in specs]
    last = [(s[0], *s[2:], s[1]) if len(s) > 2 else s for s in plain]
    first = [(s[0], s[-1], *s[1:-1]) if len(s) > 2 else s for s in plain]
    exact = [s.dtype if s.dtype in ("int32", "int64", "bool") else "" for s in specs]
    wide = ["int64" if kind == "int32" else kind for kind in exact]
    for kinds in (exact, wide) if wide != exact else (exact,):
        for shapes in (plain, last, first):
            yield [Spec(shape, kind) if kind else shape for shape, kind in zip(shapes, kinds, strict=True)]


def converted(captured: Captured, file: Path, tell: Progress) -> str:
    plain_file(captured, file, tell)
    return f"{captured.source}, converted by Instep"


def _file_beside(first: str, second: Path, asked: dict[str, Any]) -> Any:
    """Two files: the first as reference, the second with its tensors placed in the first."""
    from instep.debug.align import same_build
    from instep.runtime import tflite_info
    from instep.verify.files import FileReference, outline
    from instep.verify.tflite import TfliteSubject

    reference = FileReference(first)
    graph = outline(reference.info)
    sets = sets_of_file(reference.info, **asked)
    info = tflite_info(second)
    mapping = same_build(reference.info, info)
    if mapping is None:
        subject = TfliteSubject.load(second, reference, graph=graph, sets=sets)
    else:
        subject = TfliteSubject(second, info, mapping, [v.name for v in graph.inputs])
    return reference, graph, subject, sets


def sets_of(reference: Any, graph: Any, *, images: Any, picture: Any, seed: int) -> list[InputSet]:
    """The inputs of a proof without its edge cases: pictures first, where the user gives some."""
    from instep.verify.plan import inputs_of

    sets, _ = inputs_of(reference, graph, images=images, seed=seed, picture=picture)
    return [s for s in sets if not s.edge and s.name != "large"][:3]


def sets_of_file(info: Any, *, images: Any, picture: Any, seed: int) -> list[InputSet]:
    from instep.graph import SourceView, Spec
    from instep.verify.indices import index_bounds_of_file
    from instep.verify.inputs import make_inputs
    from instep.verify.quantised import in_range

    tensors = [info.tensors[i] for i in info.inputs]
    specs = [Spec(t.shape, "float32" if t.scale else t.dtype) for t in tensors]
    bounds = index_bounds_of_file(info)
    sets = make_inputs(specs, seed=seed, images=images, picture=picture, bounds=bounds, kinds=KINDS)
    views = [SourceView.whole(t.name, t.shape) for t in tensors]
    return in_range(sets, info, views, [t.name for t in tensors])[:3]
