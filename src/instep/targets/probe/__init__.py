"""Asks an engine one operator and one constraint at a time, and turns its answers into a profile."""

from __future__ import annotations

from instep.targets.probe.agreement import Agreement, compare
from instep.targets.probe.answers import Answer, Answers, recorded
from instep.targets.probe.ask import ask, runtime_of
from instep.targets.probe.families import FAMILIES, questions
from instep.targets.probe.question import Question
from instep.targets.probe.writing import write_profile

__all__ = [
    "FAMILIES", "Agreement", "Answer", "Answers", "Question", "ask", "compare", "questions", "recorded", "runtime_of",
    "write_profile",
]  # fmt: skip
