"""From the first bad value to its cause, or to the finding that no operator is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from instep.graph import Graph
from instep.verify.diagnose import GROWN, Case, diagnose, surroundings
from instep.verify.inputs import InputSet
from instep.verify.noise import CLASSES, Limits, Noise
from instep.verify.reference import Reference
from instep.verify.subject import Run, Subject
from instep.verify.verdict import Verdict

__all__ = ["AFFORDABLE", "Witness", "between_good_and_bad", "explain_verdict"]

#: Bytes of float64 values of one input set that a proof holds at a time.
AFFORDABLE = 1.5e9


@dataclass
class Witness:
    """What the diagnosis asks again: source and result on the input sets that showed the fault, run once."""

    reference: Reference
    subject: Subject
    sets: Sequence[InputSet]
    graph: Graph
    noise: dict[str, Noise]
    limits: Limits
    truths: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)

    def hear(self, sets: Sequence[InputSet], keep: list[str] | None) -> tuple[list[dict[str, np.ndarray]], list[Run]]:
        """Truths and runs of ``sets``; the truths hold at least ``keep`` (all values when None)."""
        fresh = [s for s in sets if s.name not in self.runs]
        if fresh:
            self.runs.update(zip((s.name for s in fresh), self.subject.runs([s.arrays for s in fresh]), strict=True))
        for given in sets:
            known = self.truths.get(given.name)
            if known is None or (keep is not None and not known.keys() >= set(keep)):
                self.truths[given.name] = self.reference.run(list(given.arrays), dtype="float64", keep=keep)
        return [self.truths[s.name] for s in sets], [self.runs[s.name] for s in sets]


def explain_verdict(verdict: Verdict, witness: Witness) -> None:
    """Find the cause of the first bad value, or show that there is none.

    A network that amplifies rounding beyond what a few float32 runs show can put a healthy result out of step. So
    where a bad value is what the source makes of the result's own inputs, the next bad value is asked; when all of
    them are, every operator is right and the result is in step.
    """
    settled: set[str] = set()
    bad = [r for r in verdict.rows if r.verdict in CLASSES[1:]]
    while verdict.first is not None:
        case = _case(witness, verdict, settled)
        diagnosis = diagnose(case) if case is not None else None
        if diagnosis is None or diagnosis.cause != GROWN or len(settled) >= 100:
            break
        settled.add(verdict.first.source)
        rest = [r for r in bad if r.source not in settled]
        if not rest:
            break
        verdict.first = rest[0]
    unheard = [r for r in verdict.outputs if r.verdict in CLASSES[1:] and r.source not in settled]
    if settled and not unheard and all(r.source in settled for r in bad):
        verdict.verdict, verdict.first, verdict.why = "in step", None, ""
        verdict.notes.append(
            f"{len(settled)} values are further from the truth than the source's own float32 runs, but each is what "
            "the source computes from the result's own values: this network amplifies rounding, no operator is wrong"
        )
        return
    if case is not None and verdict.first is not None:
        verdict.suspects = [n.describe() for n in case.suspects]
        verdict.suspect_values = [v.name for n in case.suspects for v in n.outputs]
        verdict.diagnosis = diagnosis
        verdict.first.diagnosis = str(diagnosis) if diagnosis is not None else ""


def _case(witness: Witness, verdict: Verdict, settled: set[str]) -> Case | None:
    """Everything the diagnosis needs about the first bad value; values in ``settled`` are as good as in step."""
    first, graph, noise = verdict.first, witness.graph, witness.noise
    sets = witness.sets
    assert first is not None
    usable = [s for s in sets if s.name == first.inputs] + [s for s in sets if not s.edge and s.name != first.inputs]
    usable = usable[:2]
    if not usable:
        return None
    good = _good(verdict) | settled
    usable = [s for s in usable if s.name in noise[first.source].rms]
    target = next((v for n in graph.nodes for v in n.outputs if v.name == first.source), None)
    if target is None or not usable:
        return None
    keep: list[str] | None = None
    if 8 * sum(v.size for n in graph.nodes for v in n.outputs) > AFFORDABLE:
        nodes, frontier = surroundings(graph, target, good)
        keep = [*(v.name for n in nodes for v in n.outputs), *(v.name for v in frontier)]
    truths, runs = witness.hear(usable, keep)
    levels = [noise[first.source].level(s.name, witness.limits)[0] for s in usable]
    mapping = witness.subject.mapping
    return Case.build(graph, first, good, truths, runs, mapping, levels, [s.arrays for s in usable])


def between_good_and_bad(graph: Graph, verdict: Verdict) -> set[str]:
    """The source values between the first bad value and the last ones in step before it."""
    assert verdict.first is not None
    target = next((v for n in graph.nodes for v in n.outputs if v.name == verdict.first.source), None)
    if target is None:
        return set()
    nodes, frontier = surroundings(graph, target, _good(verdict))
    return {v.name for n in nodes for v in n.outputs} | {v.name for v in frontier}


def _good(verdict: Verdict) -> set[str]:
    """The source values that are in step, in every tensor that shows them."""
    bad = {r.source for r in verdict.rows if r.verdict in CLASSES[1:]}
    return {r.source for r in verdict.rows if r.verdict == "in step"} - bad
