"""The proof on an engine of the user's choice: its own outputs are judged, and where they leave, the operator is named.

An accelerator shows outputs alone. So the outputs are judged first; where they are out of step, a copy of the file that
gives intermediate values as further outputs runs on the same engine, and the same file runs on the CPU: whose fault is
it?
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instep.graph import Graph
from instep.runtime import ENGINES, RunResult, available, engine_of, run, tflite_info
from instep.runtime.expose import shorten
from instep.verify.inputs import InputSet
from instep.verify.noise import CLASSES, LIMITS, SINGLE, Limits, arithmetic_of
from instep.verify.reference import Reference
from instep.verify.subject import PATIENCE, shown_inputs
from instep.verify.tflite import USUAL, EngineError, Exposed, TfliteSubject
from instep.verify.verdict import Culprit, Row, Verdict
from instep.verify.verify import judge

__all__ = ["check_engine", "first_trouble", "locate", "not_run"]

BAD = CLASSES[1:]


def check_engine(name: str) -> str:
    """The full name of an engine that a proof can run on. ValueError when there is none such, EngineError when this
    machine lacks it."""
    engine = engine_of(name)
    if not engine.runs:
        raise ValueError(
            f"{engine.name} only compiles and gives no values to prove: name an engine that runs ({', '.join(ENGINES)})"
            f"; `instep bench FILE --on {engine.name}` prints what its compiler makes of a file"
        )
    missing = available(name)
    if missing is not None:
        raise EngineError(missing)
    return engine.name


def not_run(result: RunResult, subject: TfliteSubject, sets: Sequence[InputSet]) -> Verdict:
    """The verdict on a file that the engine refused, or died of; where it names no operator, the first is searched."""
    verdict = Verdict(result.outcome, float("nan"), float("nan"), float("nan"), engine=result.engine)
    verdict.refusals = [{"operator": r.operator, "message": r.message, "tensor": r.tensor} for r in result.refusals]
    verdict.said = result.message
    if result.outcome in ("refused", "crashed") and not any(r.operator for r in result.refusals):
        given = shown_inputs(subject.mapping, subject.input_values, sets[0].arrays)
        verdict.culprit = first_trouble(subject.path, given, result.engine, subject.timeout)
    return verdict


@dataclass
class _Asked:
    """What is asked of the engine's file, of its exposed copy and of the CPU alike."""

    reference: Reference
    sets: list[InputSet]
    graph: Graph | None
    seed: int
    limits: Limits
    unit: float

    def judge(self, subject: TfliteSubject, *, explain: bool) -> Verdict:
        return judge(
            self.reference, subject, self.sets, graph=self.graph, draws=1, seed=self.seed, limits=self.limits,
            unit=self.unit, explain=explain, arithmetic=arithmetic_of(subject.engines[0]),
        )  # fmt: skip


def locate(
    verdict: Verdict,
    reference: Reference,
    subject: TfliteSubject,
    sets: Sequence[InputSet],
    *,
    graph: Graph | None = None,
    seed: int = 0,
    limits: Limits = LIMITS,
    unit: float = SINGLE,
    explain: bool = True,
) -> None:
    """Add to ``verdict``, whose outputs left step on ``subject``'s engine, where they did and whose fault it is.

    The rows of values, ``first``, the diagnosis and, where the CPU is in step with the same file, the culprit.
    """
    engine = subject.engines[0]
    asked = _Asked(reference, _failing(verdict, sets), graph, seed, limits, unit)
    usual = TfliteSubject(subject.path, subject.info, subject.mapping, subject.input_values)
    usual.engines, usual.timeout = USUAL, subject.timeout
    healthy = asked.judge(usual, explain=False)
    if any(r.verdict in BAD for r in healthy.outputs):
        first = healthy.first
        place = f", first at {first.operator} '{first.scope or first.source}'" if first is not None else ""
        verdict.notes.append(f"it is the file, not {engine}: the same file is {healthy.verdict} on the CPU too{place}")
        return
    verdict.notes.append(f"it is {engine}, not the file: the same file is in step on the CPU")
    hidden = not engine_of(engine).intermediates and bool(subject.mapping.values)
    if hidden and not subject.complaints and _show(verdict, subject, asked, explain):
        return
    if subject.complaints:
        # one step of the engine's that fails takes the values of all others with it: they say nothing
        given = shown_inputs(subject.mapping, subject.input_values, asked.sets[0].arrays)
        verdict.culprit = first_trouble(subject.path, given, engine, subject.timeout)
        verdict.diagnosis, verdict.suspects, verdict.suspect_values = None, [], []


def first_trouble(
    path: str | Path, inputs: Sequence[np.ndarray], engine: str, timeout: float = PATIENCE
) -> Culprit | None:
    """The first operator of a file with which ``engine`` refuses it, dies of it, or complains; None when none does.

    The file's first operators alone are run, so many that log2 of their number decides; each run may take
    ``timeout`` seconds.
    """
    info = tflite_info(path)
    good, bad, said = 0, len(info.ops) + 1, ""
    with tempfile.TemporaryDirectory(prefix="instep-short-") as folder:
        short = Path(folder) / "short.tflite"
        while bad - good > 1:
            middle = min((good + bad) // 2, len(info.ops))
            shorten(path, short, middle)
            result = run(short, inputs, engine=engine, timeout=timeout)
            trouble = result.message if result.failed else "; ".join(result.log[:1])
            if trouble:
                bad, said = middle, trouble
            else:
                good = middle
    if bad > len(info.ops):
        return None
    op = info.ops[bad - 1]
    tensor = info.made(op)
    made = tensor.name if tensor is not None else ""
    evidence = f"with the first {bad} operators of the file {engine} says: {said}"
    return Culprit("runtime", engine, op.name, made, "", made, float("nan"), evidence, evaluations=bad.bit_length())


def _failing(verdict: Verdict, sets: Sequence[InputSet]) -> list[InputSet]:
    """The input set on which an output is worst, beside an edge case a plain one."""
    bad = [r for r in verdict.outputs if r.verdict in BAD]
    name = max(bad, key=lambda r: r.ratio).inputs if bad else sets[0].name
    chosen = next(s for s in sets if s.name == name)
    plain = next((s for s in sets if not s.edge), None)
    return [chosen, plain] if chosen.edge and plain is not None else [chosen]


def _show(verdict: Verdict, subject: TfliteSubject, asked: _Asked, explain: bool) -> bool:
    """Take the proof of the exposed copy over into ``verdict``; False where its values say nothing."""
    engine = subject.engines[0]
    with tempfile.TemporaryDirectory(prefix="instep-shown-") as folder:
        exposed = Exposed(subject, Path(folder))
        try:
            finer = asked.judge(exposed, explain=explain)
        except EngineError as error:
            verdict.notes.append(f"{engine} does not run the file with its values as further outputs: {error}")
            return False
    if exposed.complaints:
        subject.complaints += exposed.complaints
        return False
    amplified = finer.verdict == "in step" and any(r.verdict in BAD for r in finer.outputs)
    if finer.verdict == "in step" and not amplified:
        verdict.notes.append(
            f"with every value as a further output {engine} is in step: what is wrong is how it runs several "
            "operators together"
        )
        return True
    verdict.rows, verdict.first, verdict.diagnosis = finer.rows, finer.first, finer.diagnosis
    verdict.suspects, verdict.suspect_values = finer.suspects, finer.suspect_values
    verdict.not_comparable = finer.not_comparable
    verdict.notes += [n for n in finer.notes if n not in verdict.notes]
    if amplified:
        verdict.verdict, verdict.why = "in step", ""
    elif finer.first is not None:
        verdict.culprit = _blame(subject, engine, finer.first)
    return True


def _blame(subject: TfliteSubject, engine: str, row: Row) -> Culprit:
    kinds = {subject.info.tensors[i].name: op.name for op in subject.info.ops for i in op.outputs if i >= 0}
    written = kinds.get(row.tensor, row.operator)
    said = f"{engine} accepts {written} and computes something else: {row.ratio:.3g} times the rounding noise away"
    return Culprit("runtime", engine, written, row.scope or row.source, row.origin, row.source, row.ratio, said)
