"""Does a TFLite file or a Keras model compute what was captured from it? So the meanings that a proof takes for the
truth are anchored in the runtime that the file was made for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from instep.graph import Graph, SourceView
from instep.graph.reference import GraphReference
from instep.runtime import TFLiteInfo, tflite_info, without_operator
from instep.runtime.modules import engine_for
from instep.verify.inputs import Picture
from instep.verify.mapping import Mapping
from instep.verify.module import ModuleSubject
from instep.verify.noise import CLASSES, LIMITS, NARROW, SINGLE, Limits, arithmetic_of
from instep.verify.on_engine import check_engine
from instep.verify.plan import inputs_of
from instep.verify.quantised import holds_integers
from instep.verify.reference import Reference
from instep.verify.subject import PATIENCE, Run
from instep.verify.tflite import EngineError, TfliteSubject
from instep.verify.verdict import Verdict
from instep.verify.verify import judge

__all__ = [
    "anchor",
    "apart",
    "unanchored",
    "verify_keras_origin",
    "verify_live_origin",
    "verify_origin",
    "verify_tflite_origin",
]

#: The proof of the result runs on every kind of input; two show whether an operator was misread.
SETS = 2


def verify_origin(
    reference: Reference,
    file: str | Path,
    graph: Graph,
    *,
    images: str | Path | Sequence[str | Path] | None = None,
    seed: int = 0,
    picture: Picture | None = None,
    limits: Limits = LIMITS,
    timeout: float = PATIENCE,
) -> Verdict | None:
    """Judge ``file``, run on LiteRT, by the ``graph`` that was captured from it, tensor by tensor of the same name.

    None for a file whose values are quantised, or are for the time of an operator: it rounds where the captured graph
    does not. Raises EngineError when the file does not run, or takes longer than ``timeout`` seconds.
    """
    info = tflite_info(file)
    if _rounds(info):
        return None
    names = Counter(t.name for t in info.tensors)
    views = {
        value.name: SourceView.whole(value.name, value.shape)
        for value in graph.values()
        if value not in graph.weights and value.source is not None and names[value.name] == 1
    }
    inputs, outputs = ([SourceView.whole(v.name, v.shape) for v in side] for side in (graph.inputs, graph.outputs))
    subject = TfliteSubject(file, info, Mapping(views, [*inputs], [*outputs]), [v.name for v in graph.inputs])
    subject.timeout = timeout
    sets, _ = inputs_of(reference, graph, images=images, seed=seed, picture=picture)
    return judge(reference, subject, sets[:SETS], graph=graph, draws=1, seed=seed, limits=limits, explain=False)


def _rounds(info: TFLiteInfo) -> bool:
    """Does it compute with quantised values? TFLite's hybrid operators (dynamic-range quantisation: float values,
    eight-bit weights) quantise the values that they read, too, and fake quantisation rounds real ones."""
    if any(op.name == "FAKE_QUANT" for op in info.ops):
        return True
    made = {i for op in info.ops for i in op.outputs} | set(info.inputs)
    weights = {i for op in info.ops if op.name != "DEQUANTIZE" for i in op.inputs}
    return any(holds_integers(info.tensors[i]) for i in made | weights if i >= 0)


def verify_tflite_origin(reference: Reference, file: str | Path, graph: Graph, **asked: Any) -> Verdict | str | None:
    """As ``verify_origin``; the runtime's own words where it lacks an operator of the file."""
    try:
        return verify_origin(reference, file, graph, **asked)
    except EngineError as error:
        if not without_operator(str(error)):
            raise
        return (str(error).strip().splitlines() or [""])[0].partition(". ")[0]


def verify_keras_origin(
    reference: Reference,
    file: str | Path,
    graph: Graph,
    *,
    images: str | Path | Sequence[str | Path] | None = None,
    seed: int = 0,
    picture: Picture | None = None,
    limits: Limits = LIMITS,
    timeout: float = PATIENCE,
) -> Verdict | str:
    """Judge a ``.keras`` or ``.h5`` file, run by Keras in a child process, by the ``graph`` that was captured from it.

    Layers whose results are values of that name are compared too. Where it computes in half precision, the unit of
    rounding is that one's. A sentence where there is no Keras, or where this one
    cannot run the file, or not within ``timeout`` seconds.
    """
    try:
        engine = check_engine(engine_for(file))
    except (ValueError, EngineError) as error:
        return str(error)
    inner = {
        value.name: SourceView.whole(value.name, value.shape)
        for node in graph.nodes
        for value in node.outputs
        if value.name == node.scope or value.name.startswith(f"{node.scope}:")
    }
    inputs, outputs = ([SourceView.whole(v.name, v.shape) for v in side] for side in (graph.inputs, graph.outputs))
    subject = ModuleSubject(file, engine, Mapping(inner, [*inputs], [*outputs]), [v.name for v in graph.inputs])
    subject.timeout = timeout
    sets, _ = inputs_of(reference, graph, images=images, seed=seed, picture=picture)
    unit = NARROW.get(graph.meta.get("computes", ""), SINGLE)
    try:
        verdict = judge(
            reference, subject, sets[:SETS], graph=graph, draws=1, seed=seed, limits=limits, explain=False, unit=unit,
            arithmetic=arithmetic_of(engine),
        )  # fmt: skip
    except EngineError as error:
        return (str(error).strip().splitlines() or [""])[0]
    verdict.engine = engine
    return verdict


class _LiveSubject:
    """A live model on trial, in this very process; of its layers nothing is shown."""

    def __init__(self, live: Runs, graph: Graph) -> None:
        self.live = live
        inputs, outputs = ([SourceView.whole(v.name, v.shape) for v in side] for side in (graph.inputs, graph.outputs))
        self.mapping = Mapping({}, [*inputs], [*outputs])
        self.output_tensors = [v.name for v in graph.outputs]

    def runs(self, sets: Sequence[Sequence[np.ndarray]]) -> Iterator[Run]:
        for arrays in sets:
            yield Run({}, {"keras": self.live.run(arrays)})


class Runs(Protocol):
    """What runs a live model."""

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]: ...


def verify_live_origin(
    reference: Reference,
    live: Runs,
    graph: Graph,
    *,
    images: str | Path | Sequence[str | Path] | None = None,
    seed: int = 0,
    picture: Picture | None = None,
    limits: Limits = LIMITS,
) -> Verdict | str:
    """Judge a live model, run where it lives, by the ``graph`` that was captured of it; a sentence where it fails."""
    sets, _ = inputs_of(reference, graph, images=images, seed=seed, picture=picture)
    unit = NARROW.get(graph.meta.get("computes", ""), SINGLE)
    try:
        return judge(
            reference, _LiveSubject(live, graph), sets[:SETS], graph=graph, draws=1, seed=seed, limits=limits,
            explain=False, unit=unit,
        )  # fmt: skip
    except Exception as error:  # whatever the user's own code raises
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"


def unanchored(verdict: Verdict, why: str, label: str) -> Verdict:
    """``verdict`` with the remark that nothing but Instep's own meaning of operators stands behind it."""
    verdict.notes.append(f"{label} itself was not run, what was captured of it rests on Instep's reading alone: {why}")
    return verdict


def anchor(verdict: Verdict, origin: Verdict | None, label: str) -> Verdict:
    """``verdict`` on a result of a captured file, no better than the file's own: what was misread is not proved."""
    if origin is None:
        verdict.notes.append(
            f"{label} is quantised and rounds on its way: the result is proved against the numbers that its integers "
            "stand for, not against its rounding"
        )
    elif origin.ok:
        verdict.notes.append(
            f"{label} itself computes what was captured from it: in step, {origin.noise_ratio:.2g} of the noise"
        )
    else:
        at = f" from '{origin.first.tensor}' ({origin.first.origin})" if origin.first is not None else ""
        said = f"{label} itself is {origin.verdict} with what was captured from it{at}: please report it"
        ours, theirs = (CLASSES.index(v) if v in CLASSES else -1 for v in (verdict.verdict, origin.verdict))
        if 0 <= ours < theirs:
            verdict.verdict, verdict.why = origin.verdict, said
        else:
            verdict.notes.append(said)
    return verdict


def apart(graph: Graph) -> tuple[Graph, GraphReference]:
    """``graph`` with names of its own, and its reference: for a file whose table speaks of another source's values."""
    twin = graph.copy()
    for value in twin.values():
        value.name = f"source:{value.name}"
        if value.source is not None:
            value.source = SourceView.whole(value.name, value.shape)
    return twin, GraphReference(twin)
