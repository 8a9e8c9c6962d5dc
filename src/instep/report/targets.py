"""What a person sees of targets: the list of profiles, one profile with its rules, the violations of a check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from instep.report.findings import findings, single

__all__ = ["judgement", "judgements", "left", "profile", "profiles"]

_STYLES = {"error": "red", "warning": "yellow", "note": "dim"}
#: Of what a conversion could not clear, findings beyond this many are counted, not listed.
SHOWN = 8


def profiles(found: Sequence[Any]) -> RenderableType:
    """One row per profile: what it is, what happens to what it refuses, what it rests on."""
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("target", no_wrap=True, style="bold")
    grid.add_column("what it is", overflow="fold")
    grid.add_column("fallback", no_wrap=True)
    grid.add_column("rules", justify="right", no_wrap=True)
    grid.add_column("evidence", overflow="fold", style="dim")
    for one in found:
        grades = Counter(e.grade for e in one.evidence)
        grid.add_row(
            one.name, one.description, one.fallback, str(len(one.rules) + (one.operators.names is not None)),
            ", ".join(grades),
        )  # fmt: skip
    return grid


def profile(one: Any) -> RenderableType:
    """A profile's facts, its evidence and its rules."""
    facts = Grid.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("target", Text(one.name, style="bold"))
    facts.add_row("what it is", Text(one.description))
    if one.extends:
        facts.add_row("extends", ", ".join(one.extends))
    facts.add_row("fallback", one.fallback)
    facts.add_row("computes in", one.arithmetic)
    if one.engine:
        facts.add_row("engine", one.engine)
    facts.add_row("operators", "any" if one.operators.names is None else ", ".join(sorted(one.operators.names)))
    for evidence in one.evidence:
        version = f" ({evidence.runtime})" if evidence.runtime else ""
        facts.add_row(evidence.grade, Text(evidence.what + version))
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("code", no_wrap=True)
    grid.add_column("on", overflow="fold")
    grid.add_column("must hold", overflow="fold")
    grid.add_column("else", no_wrap=True)
    grid.add_column("cleared by", overflow="fold")
    for rule in one.rules:
        on = ", ".join(sorted(rule.operators)) or (f"{rule.of} tensor" if rule.scope == "tensor" else rule.scope)
        holds = rule.require.text if rule.require else "never"
        grid.add_row(rule.code, on, Text(holds), rule.severity, ", ".join(rule.clears))
    return Group(facts, Text(""), grid)


def judgement(one: Any, every: bool = False) -> RenderableType:
    """The verdict of one target, then what it found, errors first; ``every`` violation in a row of its own, or those
    that say the same of one kind of operator in one."""
    errors, warnings = one.of("error"), one.of("warning")
    place = one.placement
    mark, style = ("✕", "bold red") if errors else ("≈", "bold yellow") if warnings else ("✓", "bold green")
    said = ", ".join(
        f"{len(of)} {what}{'s' * (len(of) != 1)}" for of, what in ((errors, "error"), (warnings, "warning")) if of
    )
    pieces = f" in {place.partitions} pieces" if place.partitions > 1 else ""
    head = Text(f"{mark} {one.target}", style=style)
    head.append(f"  {said or 'nothing to object'}; ", style="default not bold")
    head.append(f"{place.on_target} of {place.operators} operators run there{pieces}", style="default not bold")
    if not one.violations:
        return head
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("code", no_wrap=True)
    grid.add_column("operator", overflow="fold")
    grid.add_column("scope", overflow="fold")
    grid.add_column("why", overflow="fold", ratio=2)
    grid.add_column("cleared by", overflow="fold")
    order = [v.to_json() for v in sorted(one.violations, key=lambda v: list(_STYLES).index(v.level))]
    for found in single(order) if every else findings(order):
        code = Text(found.first["code"], style=_STYLES[found.first["level"]])
        place = Text(found.scope)
        if found.origin:
            place.append(f"\n{found.origin}", style="dim")
        grid.add_row(code, found.operator, place, Text(found.message), Text(found.cleared_by))
    return Group(head, grid)


def judgements(check: Any, every: bool = False) -> RenderableType:
    """What ``check`` found, target after target."""
    return Group(*(judgement(one, every) for one in check.judgements))


def left(target: str, violations: Sequence[dict[str, Any]]) -> RenderableType:
    """What a conversion for a target could not clear, in one line or a few."""
    if not violations:
        return Text(f"✓ {target} accepts every operator", style="green")
    lines = [Text(f"≈ {target}: {len(violations)} left", style="yellow")]
    found = findings(violations)
    for f in found[:SHOWN]:
        tried = f"; {f.first['tried']}" if f.first["tried"] else ""
        lines.append(Text(f"  {f.first['level']} {f.first['code']}: {f.operator} '{f.scope}' {f.message}{tried}"))
    if len(found) > SHOWN:
        lines.append(Text(f"  … and {sum(len(f.violations) for f in found[SHOWN:])} more"))
    return Group(*lines)
