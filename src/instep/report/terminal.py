"""What a person sees in the terminal: the verdict panel, the worst values, operator counts, the tree of a network."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from instep.report.model import ValueRow, human_bytes, human_count, human_ratio
from instep.report.table import Table

__all__ = ["bench_table", "console", "estimate_table", "op_counts", "tree", "values", "verdict_panel", "zoo_table"]

_STYLES = {
    "in step": ("green", "✓"),
    "good enough": ("green", "✓"),
    "drifting": ("yellow", "≈"),
    "out of step": ("red", "✕"),
    "not good enough": ("red", "✕"),
    **dict.fromkeys(("refused", "crashed", "timed out", "out of memory", "failed"), ("red", "✕")),
}


def verdict_panel(verdict: str, summary: str, facts: Sequence[tuple[str, str]]) -> RenderableType:
    """The box that a conversion opens with: the verdict in colour, one sentence, then the facts."""
    colour, mark = _STYLES.get(verdict, ("white", "·"))
    head = Text(f"{mark} {verdict}", style=f"bold {colour}")
    if summary:
        head.append(f"  {summary}", style="default not bold")
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in facts:
        grid.add_row(label, Text(value))
    return Panel(Group(head, Text(""), grid) if facts else head, box=ROUNDED, border_style=colour, expand=False)


def values(rows: Sequence[ValueRow], title: str) -> Grid:
    """A table of values with what each is of the source network."""
    grid = Grid(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    grid.add_column("value", overflow="fold")
    grid.add_column("operator", no_wrap=True)
    grid.add_column("source line", style="dim", overflow="fold")
    grid.add_column("error/noise", justify="right", no_wrap=True)
    grid.add_column("verdict", no_wrap=True)
    for row in rows:
        grid.add_row(
            Text(row.scope or row.name),
            row.operator,
            Text(row.origin),
            human_ratio(row.ratio),
            Text(row.status, style=_STYLES.get(row.status, ("white", ""))[0]),
        )
    return grid


def op_counts(before: dict[str, int], after: dict[str, int]) -> Grid:
    """One row per side: how many operators, and of which kind."""
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, counts in (("captured", before), ("in the file", after)):
        order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        grid.add_row(label, ", ".join(f"{count} {name}" for name, count in order))
    return grid


def tree(table: Table, depth: int | None = None) -> RenderableType:
    """The rows of ``table`` down to ``depth`` levels of scopes, then the totals."""
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("scope", overflow="fold")
    grid.add_column("operator", no_wrap=True)
    grid.add_column("output", no_wrap=True)
    grid.add_column("parameters", justify="right", no_wrap=True)
    grid.add_column("MACs", justify="right", no_wrap=True)
    grid.add_column("share", justify="right", no_wrap=True)
    total = max(table.macs, 1)
    for line in table.lines:
        if depth is not None and line.depth >= depth:
            continue
        scope = Text("  " * line.depth + (line.name or "·"), style="" if line.operator else "bold")
        grid.add_row(
            scope,
            line.operator,
            "×".join(map(str, line.shape)),
            human_count(line.parameters) if line.parameters else "",
            human_count(line.macs) if line.macs else "",
            f"{100 * line.macs / total:.1f} %" if line.macs else "",
        )
    facts = Grid.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for label, ports in (("inputs", table.inputs), ("outputs", table.outputs)):
        for name, shape, dtype in ports:
            facts.add_row(label, Text(f"{name}: {dtype} {'×'.join(map(str, shape))}"))
    facts.add_row("parameters", f"{human_count(table.parameters)} ({human_bytes(table.parameter_bytes)})")
    facts.add_row("multiply-accumulates", human_count(table.macs))
    facts.add_row("arithmetic operations", human_count(table.arithmetic, 4))
    facts.add_row("activations", human_bytes(table.activation_bytes))
    counts = sorted(table.ops.items(), key=lambda item: (-item[1], item[0]))
    facts.add_row("operators", f"{sum(table.ops.values())}: " + ", ".join(f"{c} {n}" for n, c in counts))
    facts.add_row("largest rank", str(table.max_rank))
    for label, value in table.facts.items():
        facts.add_row(label, Text(_plain(value)))
    return Group(grid, facts, *(Text(f"note: {note}", style="dim") for note in table.notes))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def bench_table(rows: Sequence[tuple[str, float | None, int, str]]) -> Grid:
    """Rows of (file, median ms, bytes, failure); the ratio is to the first file that ran."""
    first = next((ms for _, ms, _, _ in rows if ms is not None), None)
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("file", overflow="fold")
    grid.add_column("median", justify="right", no_wrap=True)
    grid.add_column("against the first", justify="right", no_wrap=True)
    grid.add_column("size", justify="right", no_wrap=True)
    for name, ms, size, failure in rows:
        if ms is None:
            grid.add_row(Text(name), Text(failure or "failed", style="red"), "", human_bytes(size))
        else:
            ratio = f"{ms / first:.3f}" if first else ""
            grid.add_row(Text(name), f"{ms:.2f} ms", ratio, human_bytes(size))
    return grid


def estimate_table(result: Any) -> RenderableType:
    """What an NPU's compiler foretells of each file, then what it leaves to the CPU and why."""
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("file", overflow="fold")
    for label in ("on the NPU", "on the CPU", "cycles", "inferences/s", "SRAM", "DRAM", "flash"):
        grid.add_column(label, justify="right", overflow="fold")
    for name, found in result.estimates.items():
        left, rate = len(found.left), found.per_second
        grid.add_row(
            Text(name), str(len(found.operators) - left), str(left), f"{found.cycles:,}",
            "–" if rate is None else f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}",
            *(human_bytes(n) for n in (found.sram, found.dram, found.flash)),
        )  # fmt: skip
    one = next(iter(result.estimates.values()))
    assumed = (
        f"Vela's estimates for {one.engine} at {one.clock / 1e6:.0f} MHz ({one.system}, {one.memory_mode}), "
        "of the NPU's share alone; nothing ran."
    )
    lists = [_left(name, found.left) for name, found in result.estimates.items() if found.left]
    failures = [Text(f"{name}: {why}", style="red") for name, why in result.failed.items()]
    return Group(grid, *lists, *failures, Text(assumed, style="dim"))


def _left(file: str, operators: Sequence[Any]) -> Grid:
    """The operators that stay on the CPU, counted, by reason; what differs in brackets alone is one reason."""
    alike: dict[str, list[Any]] = {}
    for one in operators:
        alike.setdefault(re.sub(r" *\([^)]*\)", "", "; ".join(one.reasons)), []).append(one)
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column(Text(f"left to the CPU of {file}"), overflow="fold")
    grid.add_column("because", overflow="fold")
    for reason, some in sorted(alike.items(), key=lambda item: -len(item[1])):
        counts = Counter(one.operator for one in some).most_common()
        whole = {"; ".join(one.reasons) for one in some}
        said = (whole.pop() if len(whole) == 1 else reason) or "Vela gives no reason"
        grid.add_row(", ".join(f"{count} {name}" for name, count in counts), Text(said))
    return grid


def zoo_table(entries: Sequence[Any]) -> Grid:
    """One row per network of the zoo."""
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("network", no_wrap=True, style="bold")
    grid.add_column("parameters", justify="right", no_wrap=True)
    grid.add_column("MACs", justify="right", no_wrap=True)
    grid.add_column("input", overflow="fold")
    grid.add_column("seed", no_wrap=True)
    grid.add_column("source", overflow="fold", style="dim")
    for e in entries:
        seed = "" if e.seed is None else f"{e.seed:03}"
        grid.add_row(f"zoo:{e.name}", human_count(e.parameters), human_count(e.macs), e.input, seed, Text(e.source))
    return grid


def console(error: bool = False) -> Console:
    """A console that never breaks words to fit a pipe: where there is no terminal, $COLUMNS or 120 columns."""
    made = Console(stderr=error, highlight=False)
    if made.is_terminal:
        return made
    columns = os.environ.get("COLUMNS", "")
    return Console(stderr=error, highlight=False, width=int(columns) if columns.isdigit() else 120)
