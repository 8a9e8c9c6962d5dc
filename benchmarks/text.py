"""Captured networks as text and back: is the graph the same, and how many lines does a person have to read?

The flat graph has one line for each operator; with its weights declared, one for each of those too. Results and texts
are kept in benchmarks/cache, by what the text form's code is: a run that was cut short goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import report, runner
from benchmarks.networks import ROOT, Network

__all__ = ["main"]

#: What the text should be at most, beside the flat graph.
SHARE = 1 / 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.text", description=__doc__)
    runner.add_arguments(parser)
    report.add_arguments(parser)
    parser.set_defaults(suite="timm")
    options = parser.parse_args()
    results = [_one(network, options) for network in runner.chosen(options)]
    good = [r for r in results if r.get("equal")]
    shares = [_share(r) for r in good]
    declared = [r["lines"] / (r["operators"] + r["weights"]) for r in good]
    lines = [["networks", len(results)], ["text → Graph equal", len(good)]]
    if good:
        lines += [
            ["lines of text / operators, median", f"{statistics.median(shares):.2f}"],
            ["lines of text / operators and weights, median", f"{statistics.median(declared):.2f}"],
            ["at most a third of the operators", sum(s <= SHARE for s in shares)],
            ["at most a third of the operators and weights", sum(s <= SHARE for s in declared)],
            ["seconds to print, median", f"{statistics.median(r['seconds']['print'] for r in good):.2f}"],
            ["seconds to read, median", f"{statistics.median(r['seconds']['read'] for r in good):.2f}"],
        ]
    text = "\n\n".join(
        [
            f"Suite {options.suite}.",
            report.table(["", ""], lines),
            report.table(
                ["network", "equal", "operators", "lines", "share", "structs", "print s", "read s", "fault"],
                [_row(r) for r in results],
            ),
        ]
    )
    report.deliver(options, f"text {options.suite}", text, {"suite": options.suite, "networks": results})
    return int(len(good) < len(results))


def _one(network: Network, options: argparse.Namespace) -> dict[str, Any]:
    record = runner.CACHE / f"text-{_state()}" / network.suite / f"{network.name}.json"
    if record.is_file() and not options.fresh:
        result = json.loads(record.read_text())
    else:
        record.parent.mkdir(parents=True, exist_ok=True)
        kept = ["--keep", str(record.with_suffix(".yaml"))]
        result = runner.child(["benchmarks.text_child", network.suite, network.name, *kept], options.timeout)
        record.write_text(json.dumps(result, indent=1))
    result = {"network": network.name} | result
    told = {k: result[k] for k in ("equal", "operators", "lines", "error") if k in result}
    print(f"{network.name}: {told}", file=sys.stderr, flush=True)
    return result


def _state() -> str:
    """What the code of the text form is."""
    found = hashlib.sha256()
    for path in sorted((ROOT / "src" / "instep" / "graph" / "text").glob("*.py")):
        found.update(Path(path).read_bytes())
    return found.hexdigest()[:10]


def _share(result: dict[str, Any]) -> float:
    return result["lines"] / result["operators"]


def _row(result: dict[str, Any]) -> list[Any]:
    if "error" in result:
        return [result["network"], "failed", *[None] * 6, result["error"][:80]]
    seconds = result["seconds"]
    return [
        result["network"], "yes" if result["equal"] else "no", result["operators"], result["lines"],
        f"{_share(result):.2f}", result["structs"], f"{seconds['print']:.2f}", f"{seconds['read']:.2f}",
        result["difference"] or None,
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
