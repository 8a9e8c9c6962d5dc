"""What a person sees of a probe: how many answers of each kind, by operator, and the answers that are not right."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

__all__ = ["probed"]

_KINDS = ("right", "refused", "wrong", "crashed", "timed out", "not compared")
_STYLES = {"right": "green", "refused": "yellow", "wrong": "red", "crashed": "red", "timed out": "red"}
#: Bad answers of one operator with the same message beyond this many are counted, not listed.
SHOWN = 4


def probed(result: Any) -> RenderableType:
    """The counts, the operators, what is not right, and what changed since the shipped answers."""
    answers = result.answers
    counts = answers.counts()
    said = ", ".join(f"{counts[kind]} {kind}" for kind in _KINDS if counts[kind])
    who = ", ".join(filter(None, (answers.runtime, answers.driver)))
    head = Text.assemble((answers.engine, "bold"), f" ({who}): {len(answers.answers)} questions: {said}")
    parts: list[RenderableType] = [head, _operators(answers)]
    if result.changed:
        parts.append(Text(f"{len(result.changed)} answers differ from those that ship with Instep:", "bold red"))
        parts += [Text(f"  {name}: {now}, shipped as {was}") for name, was, now in result.changed]
    elif result.compared:
        parts.append(Text("every answer is the one that the shipped profile rests on", "green"))
    if result.file:
        parts.append(Text(f"profile: {result.file}"))
    return Group(*parts)


def _operators(answers: Any) -> Grid:
    """One row per operator that is not always right, and one for all others."""
    groups: dict[str, list[tuple[str, Any]]] = {}
    for name, answer in answers.answers.items():
        operator, _, constraint = name.partition("/")
        groups.setdefault(operator.upper(), []).append((constraint, answer))
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("operator", no_wrap=True, style="bold")
    grid.add_column("right", justify="right", no_wrap=True)
    grid.add_column("not right", overflow="fold")
    healthy = [op for op, some in groups.items() if all(a.kind == "right" for _, a in some)]
    for operator, some in sorted(groups.items()):
        if operator not in healthy:
            right = sum(a.kind == "right" for _, a in some)
            grid.add_row(operator, f"{right}/{len(some)}", _not_right(some))
    if healthy:
        total = sum(len(groups[op]) for op in healthy)
        grid.add_row(f"{len(healthy)} others", f"{total}/{total}", Text(", ".join(sorted(healthy)), "dim"))
    return grid


def _not_right(some: list[tuple[str, Any]]) -> Text:
    """The bad answers of one operator; those that say the same stand together."""
    said: dict[tuple[str, str], list[str]] = {}
    for constraint, answer in some:
        if answer.kind != "right":
            said.setdefault((answer.kind, answer.message), []).append(constraint)
    lines = Text()
    for i, ((kind, message), constraints) in enumerate(said.items()):
        more = f" and {len(constraints) - SHOWN} more" if len(constraints) > SHOWN else ""
        where = ", ".join(constraints[:SHOWN]) + more
        first = message.split("; ")[0].strip()[:120]
        lines.append("\n" if i else "")
        lines.append(kind, _STYLES.get(kind, ""))
        lines.append(f" {where}" + (f": {first}" if first else ""))
    return lines
