"""Turns answers into a profile: the operators that are taken, and for each that is not always right the rules why.

Rules are chosen, not invented: the candidates are the rules of the shipped profile of that engine and the general
hypotheses of ``hypotheses.yaml``. A candidate explains an operator when some bad answer breaks it and no right answer
does; the fewest that explain all are kept (greedily). What nothing explains is written as the very form that was asked.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from instep.targets.check import check_facts
from instep.targets.facts import Facts, Operation
from instep.targets.probe.answers import Answer, Answers
from instep.targets.probe.question import Question
from instep.targets.profile import OperatorSet, Profile, Rule, load
from instep.targets.reading import read_profile

__all__ = ["HYPOTHESES", "profile_of", "write_profile"]

HYPOTHESES = Path(__file__).with_name("hypotheses.yaml")


#: A candidate and an operator that it objects to.
Broken = tuple[str, str]


@dataclass
class _Case:
    """One answered question and what its file breaks: candidates, each with the operator that breaks it."""

    question: Question
    answer: Answer
    facts: Facts
    broken: set[Broken] = field(default_factory=set)

    @property
    def operation(self) -> Operation | None:
        """The operator that is asked about."""
        found = [op for op in self.facts.operations if op.code == self.question.operator]
        return found[0] if found else None


def write_profile(answers: Answers, questions: Mapping[str, Question], path: Path, base: Profile | None = None) -> Path:
    """Write the profile of ``answers`` to ``path``, whole or not at all. ``base``: the shipped profile."""
    text = yaml.safe_dump(
        profile_of(answers, questions, path.stem, base), sort_keys=False, allow_unicode=True, width=110
    )
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        read_profile(partial)  # what is written can be read
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def profile_of(
    answers: Answers, questions: Mapping[str, Question], name: str, base: Profile | None = None
) -> dict[str, Any]:
    """The YAML tree of the profile that ``answers`` give."""
    candidates = _candidates(base)
    cases = _cases(answers, questions, candidates, base)
    by_operator: dict[str, list[_Case]] = {}
    for case in cases:
        by_operator.setdefault(case.question.operator, []).append(case)
    absent = {op for op, some in by_operator.items() if all(c.answer.kind == "refused" for c in some)}
    kept: dict[str, dict[str, str]] = {}  # candidate → operator → severity
    pinned: list[dict[str, Any]] = []
    unexplained: list[str] = []
    innocent = {broken for c in cases if not c.answer.bad for broken in c.broken}
    partial = {code for code, _ in innocent if candidates[code].scope == "tensor"}
    innocent |= {broken for c in cases for broken in c.broken if broken[0] in partial}
    for operator, some in by_operator.items():
        if operator in absent:
            continue
        # a tensor rule that no right answer breaks is kept for all operators
        chosen, left = _explain(some, list(candidates), innocent)
        for broken in chosen:
            severity = _severity(c for c in some if c.answer.bad and broken in c.broken)
            of = kept.setdefault(broken[0], {})
            of[broken[1]] = "wrong" if "wrong" in (severity, of.get(broken[1])) else "refused"
        pinned += [_pin(answers, case) for case in left if len(case.question.steps) == 1]
        unexplained += [case.question.name for case in left if len(case.question.steps) > 1]
    general = {code for code, rule in candidates.items() if rule.scope == "tensor"} - {code for code, _ in innocent}
    rules = [e for code, of in kept.items() if code not in general for e in _rules(candidates[code], of, answers)]
    taken = {op.code for c in cases if not c.answer.bad for op in c.facts.operations}
    source = answers.source
    what = f"{len(cases)} one-operator files"
    tree: dict[str, Any] = {
        "name": name,
        "description": f"{answers.engine} as it answered {len(cases)} one-operator questions",
        "engine": answers.engine,
        "evidence": [{"grade": "measured", "what": what, "runtime": f"{answers.runtime} {answers.driver}".strip()}],
        "fallback": base.fallback if base is not None else "none",
        "arithmetic": base.arithmetic if base is not None else "float32",
        "operators": {
            "code": "PROBE-OPERATOR", "says": "{op} is not taken", "source": source,
            "names": sorted((set(by_operator) - absent) | taken),
        },
        "tensors": [_tensor_rule(candidates[code]) for code in candidates if code in general],
        "rules": [*rules, *pinned],
    }  # fmt: skip
    if unexplained:
        what = f"no rule is known that foretells {', '.join(sorted(unexplained))}"
        tree["evidence"].append({"grade": "inferred", "what": what})
    return tree


def _candidates(base: Profile | None) -> dict[str, Rule]:
    """Candidate rules under codes of their own; those of ``base`` come first."""
    given = [*(base.rules if base is not None else ()), *load(str(HYPOTHESES)).rules]
    usable = [r for r in given if r.scope != "model" and r.severity in ("refused", "wrong")]
    return {f"C{i}": rule for i, rule in enumerate(usable) if rule.require is not None}


def _cases(
    answers: Answers, questions: Mapping[str, Question], candidates: Mapping[str, Rule], base: Profile | None
) -> list[_Case]:
    trial = Profile(
        "trial", "", (), "", rules=tuple(dataclasses.replace(r, code=c) for c, r in candidates.items()),
        operators=OperatorSet(),
    )  # fmt: skip
    cases = []
    with tempfile.TemporaryDirectory(prefix="instep-probe-") as folder:
        for name, answer in answers.answers.items():
            if name in questions and answer.kind != "not compared":
                case = _Case(questions[name], answer, questions[name].facts(Path(folder), int8=answers.int8))
                case.broken = {(v.code, v.operator) for v in check_facts(case.facts, trial)}
                cases.append(case)
    return cases


def _explain(
    cases: Sequence[_Case], order: Sequence[str], innocent: Collection[Broken]
) -> tuple[list[Broken], list[_Case]]:
    """(candidates, cases that none explains): the fewest that the bad answers break and no right answer does."""
    left = [c for c in cases if c.answer.bad]
    chosen: list[Broken] = []
    while left:
        gain = Counter(broken for c in left for broken in c.broken if broken not in innocent)
        if not gain:
            break
        best = min(gain, key=lambda broken: (-gain[broken], order.index(broken[0]), broken[1]))
        chosen.append(best)
        left = [c for c in left if best not in c.broken]
    return chosen, left


def _severity(cases: Iterable[_Case]) -> str:
    """ "refused" when all of them are; else the engine takes the form and fails, which is worse than a refusal."""
    return "refused" if all(c.answer.kind == "refused" for c in cases) else "wrong"


def _rules(rule: Rule, operators: Mapping[str, str], answers: Answers) -> Iterable[dict[str, Any]]:
    """The chosen rule, for each severity that its operators need."""
    if rule.scope == "tensor":
        return
    for severity in ("refused", "wrong"):
        codes = sorted(op for op, s in operators.items() if s == severity)
        if not codes or rule.require is None:
            continue
        entry: dict[str, Any] = {"code": rule.code, "operators": codes}
        if rule.when is not None:
            entry["when"] = rule.when.text
        entry |= {"require": rule.require.text, "says": rule.says, "source": answers.source, "severity": severity}
        if rule.clears:
            entry["clears"] = list(rule.clears)
        yield entry


def _tensor_rule(rule: Rule) -> dict[str, Any]:
    """A rule on tensors that no right answer breaks, as it was."""
    entry: dict[str, Any] = {"code": rule.code, "of": rule.of}
    if rule.when is not None:
        entry["when"] = rule.when.text
    assert rule.require is not None
    entry |= {"require": rule.require.text, "says": rule.says, "source": rule.source, "severity": rule.severity}
    return entry | ({"clears": list(rule.clears)} if rule.clears else {})


def _pin(answers: Answers, case: _Case) -> dict[str, Any]:
    """A rule against the very form that was asked."""
    operation = case.operation
    given = [t for t in operation.inputs if t is not None] if operation is not None else []
    parts = [f"len(inputs) == {len(given)}"]
    for i, tensor in enumerate(given):
        record = tensor.record
        parts.append(f"inputs[{i}].shape == {record['shape']!r} and inputs[{i}].dtype == {record['dtype']!r}")
        if record["constant"] and record["values"] is not None and record["dtype"] != "float32":
            parts.append(f"inputs[{i}].values == {record['values']!r}")
        else:
            parts.append(f"inputs[{i}].constant == {record['constant']!r}")
    if operation is not None:
        for name, value in operation.options.items():
            if isinstance(value, int | float | str):
                parts.append(f"options.{name} == {value!r}")
    severity = "refused" if case.answer.kind == "refused" else "wrong"
    return {
        "code": "PROBE-ASKED",
        "operators": [case.question.operator],
        "require": f"not ({' and '.join(parts)})",
        "says": f"{case.question.constraint}: {_plain(str(case.answer))}",
        "source": answers.source,
        "severity": severity,
    }


def _plain(text: str) -> str:
    """Text without the braces that a rule's message would read."""
    return text.replace("{", "(").replace("}", ")").replace("\n", " ")[:200]
