"""Whether a profile foretells what an engine answered: what it misses, and what it objects to although it is right."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from instep.targets.check import Violation, check_facts
from instep.targets.facts import Facts
from instep.targets.probe.answers import Answer, Answers
from instep.targets.probe.question import Question
from instep.targets.profile import Profile

__all__ = ["Agreement", "compare", "objections"]

#: Severities that say "this does not come out right there".
_OBJECTING = ("refused", "wrong")


@dataclass
class Agreement:
    """``missed``: bad answers that the profile allows. ``false``: right ones that it objects to, and with what."""

    missed: dict[str, Answer] = field(default_factory=dict)
    false: dict[str, list[Violation]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True when the profile says what the engine said."""
        return not self.missed and not self.false


def objections(facts: Facts, profile: Profile) -> list[Violation]:
    """What the profile says will not run, or not rightly."""
    return [v for v in check_facts(facts, profile) if v.severity in _OBJECTING]


def compare(answers: Answers, profile: Profile, questions: Mapping[str, Question]) -> Agreement:
    """Hold every answer against the profile. Answers to questions that are no longer asked are left out."""
    found = Agreement()
    with tempfile.TemporaryDirectory(prefix="instep-probe-") as folder:
        for name, answer in answers.answers.items():
            if name not in questions or answer.kind == "not compared":
                continue
            objected = objections(questions[name].facts(Path(folder), int8=answers.int8), profile)
            if answer.bad and not objected:
                found.missed[name] = answer
            elif not answer.bad and objected:
                found.false[name] = objected
    return found
