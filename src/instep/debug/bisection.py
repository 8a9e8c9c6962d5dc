"""From a file that differs from what is trusted to its smallest part that does: what ``instep bisect`` is made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from instep.debug.cutting import Cutter
from instep.debug.search import Found, find, whole_of
from instep.debug.trial import Fault, Outcome, Trial
from instep.debug.trusted import Trusted
from instep.verify.noise import LIMITS, SINGLE, Limits, classify
from instep.verify.verdict import number

__all__ = ["Bisection", "bisect_file"]


@dataclass
class Bisection:
    """Where a file leaves what is trusted.

    ``verdict`` is that of the whole file: "in step", "drifting", "out of step", or how it fails ("refused", "crashed",
    "timed out", "out of memory"). ``found`` is the smallest part that shows the same, None where there is none.
    """

    trusted: Trusted
    cutter: Cutter
    engine: str
    verdict: str
    whole: Outcome
    faults: list[Fault] = field(default_factory=list)
    found: Found | None = None
    #: the found part on every input set
    proof: Outcome | None = None
    runs: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    folder: str = ""
    #: what the file on trial is called: its path, or the network that it was made of
    label: str = ""
    #: what the PyTorch twin said when it ran ("" where there is none)
    twin: str = ""

    @property
    def ok(self) -> bool:
        """True when nothing differs: there is nothing to find."""
        return self.verdict == "in step"

    @property
    def operators(self) -> list[str]:
        """The TFLite operators of the found part, in order."""
        return [] if self.found is None else [self.cutter.info.ops[n].name for n in self.found.outcome.part.ops]

    @property
    def scopes(self) -> list[str]:
        """The tensors that these operators make, by name."""
        info = self.cutter.info
        if self.found is None:
            return []
        return [info.tensors[info.ops[n].outputs[0]].name for n in self.found.outcome.part.ops]

    @property
    def origins(self) -> list[str]:
        """The source lines that these operators come from, where the file tells."""
        info = self.cutter.info
        if self.found is None:
            return []
        return [line for line in dict.fromkeys(info.origin(info.ops[n]) for n in self.found.outcome.part.ops) if line]

    @property
    def said(self) -> str:
        """The engine's words, where it fails."""
        failed = (self.proof or self.whole).failed
        return failed.message if failed is not None else ""

    def to_json(self) -> dict[str, Any]:
        """Plain data under the keys that ``instep bisect --json`` prints."""
        worst, whole = (self.proof or self.whole).worst, self.whole.worst
        info = self.cutter.info
        part = self.found.outcome.part if self.found is not None else None
        return {
            "ok": self.ok,
            "file": self.label or str(self.cutter.path),
            "trusted": self.trusted.who,
            "engine": self.engine,
            "verdict": self.verdict,
            "noise_ratio": number(self.whole.ratio) if whole is not None else None,
            "operators": self.operators,
            "tensors": self.scopes,
            "origins": self.origins,
            "numbers": list(part.ops) if part is not None else [],
            "inputs": [info.tensors[i].name for i in part.inputs] if part is not None else [],
            "outputs": [info.tensors[i].name for i in part.outputs] if part is not None else [],
            "minimal_ratio": number(worst.ratio) if worst is not None and part is not None else None,
            "max_abs": number(worst.max_abs) if worst is not None else None,
            "said": self.said,
            "folder": self.folder,
            "twin": self.twin,
            "runs": self.runs,
            "seconds": round(self.seconds, 3),
            "notes": self.notes,
        }


def bisect_file(
    cutter: Cutter,
    trusted: Trusted,
    engine: str,
    *,
    unit: float = SINGLE,
    limits: Limits = LIMITS,
    seed: int = 0,
    timeout: float = 60.0,
    tell: Callable[[str], None] | None = None,
) -> Bisection:
    """The smallest part of ``cutter``'s file that, run on ``engine``, leaves the ``trusted`` values or fails."""
    start = time.perf_counter()
    tell = tell or (lambda what: None)
    asked: dict[str, Any] = {"unit": unit, "limits": limits, "seed": seed, "timeout": timeout, "tell": tell}
    trial = Trial(cutter, trusted, engine, **asked)
    tell(f"the whole file on {engine}")
    whole = trial.test([whole_of(trial)])[0]
    verdict = classify(whole.ratio, limits) if whole.failed is None else whole.outcome
    result = Bisection(trusted, cutter, engine, verdict, whole, Fault.of(whole, limits), notes=list(trusted.notes))
    if result.faults:
        worst = whole.worst
        number = trusted.names.index(worst.inputs) if whole.failed is None and worst is not None else 0
        narrow = Trial(cutter, trusted.only(number), engine, **asked)
        result.found = _search(narrow, result, limits)
        trial.runs += narrow.runs
    if result.found is not None:
        result.proof = trial.test([result.found.outcome.part])[0]
        _remark(result)
    result.runs, result.seconds = trial.runs, time.perf_counter() - start
    return result


def _search(trial: Trial, result: Bisection, limits: Limits) -> Found | None:
    """The smallest part that shows the first fault; where it is no single operator, a milder measure may find one."""
    fault = result.faults[0]
    found = find(trial, fault)
    if fault.outcome != "ran" or fault.limit <= limits.in_step or (found is not None and len(found.values) == 1):
        return found
    milder = find(trial, Fault("ran", limits.in_step))
    return milder if milder is not None and (found is None or len(milder.values) < len(found.values)) else found


def _remark(result: Bisection) -> None:
    found, fault = result.found, result.faults[0]
    assert found is not None
    guilty, pieces = found.pieces
    if guilty > 1:
        result.notes.append(
            f"{guilty} of the first {pieces} pieces show a fault of this kind; the folder holds one: mend it and "
            "bisect again"
        )
    for other in result.faults[1:]:
        result.notes.append(f"refused as well: {other.operator}: {other.message}")
    if len(found.values) > 1 and fault.outcome == "ran":
        result.notes.append("no smaller part shows it: each of these operators is right when it runs alone")
