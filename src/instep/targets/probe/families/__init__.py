"""What is asked, one table per family of operators; ``QUESTIONS`` holds every question by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from instep.targets.probe.families import (
    convolutions,
    elementwise,
    linear,
    logic,
    moves,
    pools,
    reductions,
    shuffles,
)  # fmt: skip
from instep.targets.probe.question import Question

__all__ = ["FAMILIES", "questions"]

FAMILIES: dict[str, Callable[[], Iterable[Question]]] = {
    module.__name__.rpartition(".")[2]: module.questions
    for module in (elementwise, logic, convolutions, linear, pools, shuffles, moves, reductions)
}


@functools.cache
def questions() -> dict[str, Question]:
    """Every question by its name."""
    found: dict[str, Question] = {}
    for family in FAMILIES.values():
        for question in family():
            if question.name in found:
                raise ValueError(f"two questions are called {question.name!r}")
            found[question.name] = question
    return found
