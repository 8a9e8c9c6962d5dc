"""Writes what a benchmark found: JSON, and Markdown tables between named markers of a document."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["add_arguments", "deliver", "geometric_mean", "machine", "table"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--json OUT and -o DOCUMENT."""
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument(
        "-o", "--output", type=Path, help="update the tables of this Markdown file (docs/benchmarks.md)"
    )


def machine() -> str:
    """The machine in words: cores and processor."""
    name = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} cores, {name}"


def geometric_mean(values: Sequence[float]) -> float:
    """NaN for no values."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; numbers are right-aligned, None is an empty cell."""
    cells = [["" if c is None else str(c) for c in row] for row in rows]
    right = [all(not row[i] or row[i][0].isdigit() or row[i][0] in "-–×" for row in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(" ---: " if r else " --- " for r in right) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in cells])


def deliver(options: argparse.Namespace, name: str, text: str, figures: dict[str, Any]) -> None:
    """Print ``text``; with -o put it between the markers ``name`` of the document; with --json write ``figures``.

    A document without the markers gets them at its end.
    """
    print(text)
    stamp = {"when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "machine": machine()}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(stamp | figures, indent=1) + "\n")
    if not options.output:
        return
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    block = f"{begin}\n{text}\n\n*{stamp['when']}, {stamp['machine']}.*\n{end}"
    page = options.output.read_text() if options.output.is_file() else ""
    if begin in page and end in page:
        before, rest = page.split(begin, 1)
        page = before + block + rest.split(end, 1)[1]
    else:
        page = f"{page.rstrip()}\n\n{block}\n"
    options.output.write_text(page)
