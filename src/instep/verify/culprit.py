"""Which step of a conversion is to blame: the graphs along the pipeline on trial, found by bisection.

Every graph that the pipeline passes through states the whole network, so any of them can be run in float64 by its
operators' numpy meaning and compared with the source. The first that has left the source names the rewrite that made
it. Where none has, the file is at fault: it is compared with the last graph, operator by operator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instep.graph import Graph, Node, SourceView
from instep.runtime import tflite_info
from instep.verify.inputs import InputSet
from instep.verify.jumps import Jumps
from instep.verify.mapping import Mapping, mapping_of
from instep.verify.noise import CLASSES, SINGLE
from instep.verify.reference import GraphReference, Reference
from instep.verify.subject import GraphSubject, Run, Subject, shown_inputs
from instep.verify.tflite import TfliteSubject
from instep.verify.verdict import Culprit, Row, Verdict
from instep.verify.verify import judge

__all__ = ["Stage", "find_culprit"]

BAD = CLASSES[1:]
ENGINES = ("builtin", "xnnpack")


@dataclass(frozen=True)
class Stage:
    """One graph along the pipeline: ``rewrite`` made it ("" for the captured one), exact because of ``exact``."""

    rewrite: str
    graph: Graph
    exact: str = ""


def find_culprit(
    reference: Reference,
    stages: Sequence[Stage],
    file: str | Path,
    verdict: Verdict,
    sets: Sequence[InputSet],
    *,
    unit: float = SINGLE,
    seed: int = 0,
) -> Culprit | None:
    """The first step after which ``file``'s values leave the source's, or None when every step agrees.

    ``stages`` begin with the captured graph and end with the one that was written to ``file``; ``verdict`` is the
    proof of the file on ``sets``. Takes log2(stages) + 1 evaluations, then one or two more to name the operator.
    """
    captured = stages[0].graph
    # where operators jump, all values are shown: the proof follows every legal jump
    watched = None if Jumps(captured).nodes else _watched(verdict)
    trial = _Trial(Remembered(reference), captured, _failing(verdict, sets), watched, unit, seed)
    if not trial.leaves(stages[-1].graph):
        written = Path(file).suffix == ".tflite"
        return _in_file(trial, stages[-1].graph, file) if written else _in_code(trial, verdict, file)
    good, bad = -1, len(stages) - 1
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if trial.leaves(stages[middle].graph) else (middle, bad)
    return _in_stage(trial, stages, bad)


def _failing(verdict: Verdict, sets: Sequence[InputSet]) -> list[InputSet]:
    """The input set that showed the fault; beside an edge case a plain one, which tells a value's usual size."""
    rows = [r for r in [*verdict.outputs, verdict.first] if r is not None and r.verdict in BAD]
    by_name = {s.name: s for s in sets}
    chosen = [by_name[r.inputs] for r in rows if r.inputs in by_name]
    first = next((s for s in chosen if not s.edge), chosen[0] if chosen else sets[0])
    plain = next((s for s in sets if not s.edge), None)
    return [first, plain] if first.edge and plain is not None else [first]


def _watched(verdict: Verdict) -> set[str]:
    """Source values to look at beside the outputs: the first bad one where the outputs hide the fault."""
    if any(r.verdict in BAD for r in verdict.outputs) or verdict.first is None:
        return set()
    return {verdict.first.source}


class Remembered:
    """A reference that computes each question once: every stage is asked on the same inputs."""

    def __init__(self, inner: Reference) -> None:
        self.inner = inner
        self.input_specs, self.input_names = inner.input_specs, inner.input_names
        self._known: dict[tuple[str, ...], dict[str, np.ndarray]] = {}

    def run(
        self, inputs: Sequence[np.ndarray], *, dtype: str = "float64", keep: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        content = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in inputs)).hexdigest()
        key = (dtype, content, *(["*"] if keep is None else sorted(keep)))
        if key not in self._known:
            self._known[key] = self.inner.run(inputs, dtype=dtype, keep=keep)
        return self._known[key]


@dataclass
class _Trial:
    """What every stage is asked: the source, the failing inputs, the values to watch."""

    reference: Remembered
    captured: Graph
    sets: list[InputSet]
    watched: set[str] | None
    unit: float
    seed: int
    evaluations: int = 0

    @property
    def names(self) -> list[str]:
        """The source's inputs."""
        return [v.name for v in self.captured.inputs]

    def judge(self, graph: Graph, only: set[str] | None) -> Verdict:
        """``graph`` in float64 against the source on the failing inputs."""
        self.evaluations += 1
        subject = GraphSubject(graph, self.names, dtype="float64", only=only)
        return judge(self.reference, subject, self.sets, graph=self.captured, draws=1, seed=self.seed, explain=False,
                     unit=self.unit, only=only)  # fmt: skip

    def leaves(self, graph: Graph) -> bool:
        """Has a watched value or an output of ``graph`` left the source's?"""
        verdict = self.judge(graph, self.watched)
        return any(r.verdict in BAD for r in [*verdict.outputs, *verdict.rows])


def _first_bad(verdict: Verdict, known: Collection[str]) -> Row | None:
    """The first bad row, in the order of the data, that is not ``known`` from before."""
    rows = [r for r in [*verdict.rows, *verdict.outputs] if r.verdict in BAD]
    return next((r for r in rows if r.source not in known), rows[0] if rows else None)


def _in_stage(trial: _Trial, stages: Sequence[Stage], number: int) -> Culprit | None:
    """The operator at which stage ``number`` leaves the source, though the one before it does not."""
    stage = stages[number]
    before = trial.judge(stages[number - 1].graph, None) if number else None
    # a value that was off before already, unheard by any output, is a wrong view and no fault of this step
    known = {r.source for r in before.rows if r.verdict in BAD} if before is not None else set()
    row = _first_bad(trial.judge(stage.graph, None), known)
    if row is None:
        return None
    now = _maker(stage.graph, row.source)
    if number == 0:
        said = f"the captured graph itself is {_times(row)} away from what PyTorch computes there"
        return _culprit(trial, "capture", row.operator, now, row, said, len(stages) - 1)
    was = _maker(stages[number - 1].graph, row.source)
    changed = _change(was, now)
    said = (
        f"step {number} of {len(stages) - 1} {changed}: from there on values are {_times(row)} away from the source, "
        f"which they are not before it"
    )
    found = _culprit(trial, "rewrite", stage.rewrite, was or now, row, said, len(stages) - 1)
    found.step, found.exact = number, stage.exact
    return found


def _change(was: Node | None, now: Node | None) -> str:
    if now is None:
        return "left a value that nothing computes any more"
    if was is None:
        return f"made {now.describe()}"
    if was.op == now.op:
        return f"changed what {now.describe()} reads"
    return f"turned {was.describe()} into {now.op.name}"


def _maker(graph: Graph, source: str) -> Node | None:
    """The node of ``graph`` whose output shows the source value ``source`` (the last, where several do)."""
    found = None
    for node in graph.nodes:
        for value in node.outputs:
            if (value.source.name if value.source is not None else value.name) == source:
                found = node
    return found


def _times(row: Row) -> str:
    return f"{row.ratio:.3g} times the rounding noise"


def _culprit(trial: _Trial, stage: str, name: str, node: Node | None, row: Row, said: str, steps: int = 0) -> Culprit:
    operator, scope, origin = (node.op.name, node.scope, node.origin) if node else (row.operator, row.scope, row.origin)
    return Culprit(
        stage, name, operator, scope or row.scope or row.source, origin or row.origin, row.source, row.ratio, said,
        steps=steps, evaluations=trial.evaluations,
    )  # fmt: skip


# -- behind the last rewrite -----------------------------------------------------------------------------------------
class _OneEngine:
    """A file's outputs as one of its engines computes them."""

    def __init__(self, inner: TfliteSubject, engine: str) -> None:
        self.inner, self.engine = inner, engine
        self.mapping, self.output_tensors = inner.mapping, inner.output_tensors

    def runs(self, sets: Sequence[Sequence[np.ndarray]]) -> Iterator[Run]:
        for run in self.inner.runs(sets):
            yield Run({}, {k: v for k, v in run.outputs.items() if k == self.engine})


def _in_file(trial: _Trial, lowered: Graph, file: str | Path) -> Culprit | None:
    """Where the file leaves the graph that was written to it: a wrong lowering of the emitter, or an engine's fault."""
    subject, sets = _as_written(trial, lowered, file)
    reference = Remembered(GraphReference(lowered))

    def ask(on_trial: Subject, only: set[str] | None, explain: bool = False) -> Verdict:
        trial.evaluations += 1
        return judge(reference, on_trial, sets, graph=lowered, draws=1, seed=trial.seed, explain=explain,
                     unit=trial.unit, only=only)  # fmt: skip

    whole = ask(subject, None, explain=True)
    row = whole.first or next((r for r in whole.outputs if r.verdict in BAD), None)
    if whole.verdict == "in step" or row is None:
        return None
    apart = [e for e in ENGINES if any(r.verdict in BAD for r in ask(_OneEngine(subject, e), set()).outputs)]
    said = f"every rewrite keeps the source's values, and the file is {_times(row)} away from the graph written to it"
    if len(apart) == 1:
        other = next(e for e in ENGINES if e not in apart)
        said += f"; only on the engine {apart[0]}, not on {other}"
        return _culprit(trial, "runtime", apart[0], None, row, said)
    kinds = {subject.info.tensors[i].name: op.name for op in subject.info.ops for i in op.outputs if i >= 0}
    written = kinds.get(row.tensor, "")
    said += f"; {written or row.operator} is the first operator that computes something else, on both engines"
    if whole.diagnosis is not None:
        said += f" (likely cause: {whole.diagnosis.cause})"
    return _culprit(trial, "emit", written or row.operator, None, row, said)


def _in_code(trial: _Trial, verdict: Verdict, file: str | Path) -> Culprit | None:
    """Of a file that is no TFLite file: what is written of the graph there says something else, or is run otherwise."""
    row = verdict.first or next((r for r in verdict.outputs if r.verdict in BAD), None)
    if row is None:
        return None
    ran = f", run on {verdict.engine}," if verdict.engine else ""
    said = f"every rewrite keeps the source's values, and {Path(file).name}{ran} is {_times(row)} away from them"
    between = [s for s in verdict.suspects if row.operator not in s or (row.scope or row.source) not in s]
    if between:
        said += f"; between the last values in step and this one: {', '.join(between[:4])}"
    return _culprit(trial, "emit", Path(file).suffix.removeprefix(".") or "code", None, row, said)


def _as_written(trial: _Trial, lowered: Graph, file: str | Path) -> tuple[TfliteSubject, list[InputSet]]:
    """The file with every tensor standing for the value of the lowered graph that it was written from."""
    info = tflite_info(file)
    shapes = {t.name: t.shape for t in info.tensors}
    made = {v.name: v for n in lowered.nodes for v in n.outputs}
    views = {n: SourceView.whole(n, v.shape) for n, v in made.items() if shapes.get(n) == v.shape}
    outputs: list[SourceView | None] = [SourceView.whole(v.name, v.shape) for v in lowered.outputs]
    subject = TfliteSubject(file, info, Mapping(views, [None] * len(lowered.inputs), outputs), [
        v.name for v in lowered.inputs
    ])  # fmt: skip
    view = mapping_of(lowered)
    sets = [InputSet(s.name, tuple(shown_inputs(view, trial.names, s.arrays)), s.edge) for s in trial.sets]
    return subject, sets
