"""What a person sees of cut, bisect and stages."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from instep.report.model import human_bytes, human_ratio
from instep.report.terminal import verdict_panel

__all__ = ["bisection", "cut_facts"]

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
    return verdict_panel("cut", f"{len(result.operators)} operators of {result.source}", facts)


def bisection(result: Any) -> RenderableType:
    """The verdict on the whole file, and the smallest part that shows the same."""
    whole = result.whole
    file = str(result.cutter.path)
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
