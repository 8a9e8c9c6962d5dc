"""What a person sees of cut, bisect and stages."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text

from instep.report.model import human_bytes, human_ratio
from instep.report.terminal import verdict_panel

__all__ = ["bisection", "cut_facts", "stage_table"]

#: Names beyond this many are counted, not listed.
SHOWN = 6


def cut_facts(result: Any) -> RenderableType:
    """What was written, what it reads and gives."""
    facts = [
        ("file", f"{result.file} ({human_bytes(result.bytes)})"),
        ("reads", _listed(result.inputs)),
        ("gives", _listed(result.outputs)),
        ("operators", _listed(result.operators)),
    ]
    count = len(result.operators)
    return verdict_panel("cut", f"{count} operator{'s' * (count != 1)} of {result.source}", facts)


def bisection(result: Any) -> RenderableType:
    """The verdict on the whole file, and the smallest part that shows the same."""
    whole = result.whole
    file = result.label or str(result.cutter.path)
    facts = [("trusted", result.trusted.who), ("on trial", f"{file} on {result.engine}")]
    if result.ok:
        said = f"worst output at {human_ratio(whole.ratio)} the rounding noise: nothing to find"
        return verdict_panel("in step", said, facts)
    said = whole.failed.message if whole.failed is not None else f"{human_ratio(whole.ratio)} the rounding noise"
    if result.found is None:
        facts.append(("found", "no part of the file shows it alone"))
        return verdict_panel(result.verdict, said, facts)
    info, part = result.cutter.info, result.found.outcome.part
    facts.append(("operator" if len(part.ops) == 1 else "operators", _listed(result.operators)))
    facts.append(("makes", _listed(result.scopes)))
    sources = [result.trusted.shows[i] for i in part.outputs if i in result.trusted.shows]
    if sources:
        facts.append(("in the source", _listed(sources)))
    if result.origins:
        facts.append(("written at", _listed(result.origins)))
    shapes = [f"{info.tensors[i].name} {list(info.tensors[i].shape)}" for i in part.inputs]
    facts.append(("reads", _listed(shapes)))
    worst = result.proof.worst if result.proof is not None else None
    if result.said:
        facts.append(("it says", result.said))
    elif worst is not None:
        facts.append(("alone", f"{human_ratio(worst.ratio)} its rounding noise, max |error| {worst.max_abs:.3g}"))
    facts.append(("search", f"{result.runs} runs of parts, {result.seconds:.1f} s"))
    if result.folder:
        facts.append(("folder", result.folder))
    return verdict_panel(result.verdict, said, facts)


def _listed(names: list[str]) -> str:
    more = f", … and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def stage_table(result: Any) -> RenderableType:
    """One row per stage; the errors are in units of rounding noise, up to 10 is in step."""
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("stage", justify="right", no_wrap=True)
    grid.add_column("size", no_wrap=True)
    grid.add_column("scope", overflow="fold")
    grid.add_column("ends as", no_wrap=True)
    grid.add_column("operators", overflow="fold")
    grid.add_column("weights", justify="right", no_wrap=True)
    if result.engine:
        grid.add_column("error born here", justify="right")
        grid.add_column("error so far", justify="right")
    for number, stage in enumerate(result.stages, 1):
        count = sum(stage.operators.values())
        kinds = ", ".join(f"{n} {k}" for k, n in list(stage.operators.items())[:3])
        more = len(stage.operators) - 3
        row = [
            str(number), stage.size or "–", Text(stage.scope), "×".join(map(str, stage.shape)),
            f"{count}: {kinds}{f', {more} more kinds' if more > 0 else ''}", human_bytes(stage.constant_bytes),
        ]  # fmt: skip
        if result.engine:
            row += [_error(stage.own), _error(stage.so_far)]
        grid.add_row(*row)
    return grid


def _error(outcome: Any) -> Text:
    from instep.debug.stages import verdict_of

    if outcome is None:
        return Text("–", style="dim")
    verdict = verdict_of(outcome)
    style = {"in step": "green", "drifting": "yellow", "not comparable": "dim"}.get(verdict, "red")
    if outcome.failed is not None or not outcome.rows:
        return Text(verdict, style=style)
    return Text(human_ratio(outcome.ratio), style=style)
