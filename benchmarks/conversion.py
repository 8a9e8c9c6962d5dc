"""Conversion by Instep and by litert-torch: does each network convert, in how many seconds and how much memory."""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from benchmarks import report, runner
from benchmarks.networks import Network

__all__ = ["main"]

MIB = 2**20


def ok(result: dict[str, Any], limit: float = 1e-3) -> bool:
    """Converted, and the file's outputs agree with PyTorch within ``limit`` of the largest value."""
    return "error" not in result and result["difference"] <= limit


def both(network: Network, options: argparse.Namespace) -> dict[str, Any]:
    """One network converted by Instep and by the peer."""
    ours = runner.convert("instep", network, options)
    peer: dict[str, Any] = {"error": "not run"}
    if not options.no_peer:
        peer = runner.convert("litert-torch", network, options, fresh=options.fresh)
    return {"suite": network.suite, "network": network.name, "instep": ours, "litert-torch": peer}


def row(name: str, ours: dict[str, Any], peer: dict[str, Any]) -> list[Any]:
    cells: list[Any] = [name]
    for result in (ours, peer):
        if runner.failed(result):
            cells += ["failed", None, None]
            continue
        seconds = result["seconds"]
        text = f"{result['difference']:.0e}" if "difference" in result else "cannot run"
        cells += [f"{seconds['total']:.2f}", f"{result['peak_memory'] / MIB:.0f}", text]
    if runner.failed(ours) or runner.failed(peer):
        return [*cells, None]
    return [*cells, f"{peer['seconds']['total'] / ours['seconds']['total']:.1f}×"]


def summary(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[list[Any]]:
    """Lines of the summary table: what, Instep, litert-torch."""
    columns = list(zip(*pairs, strict=True))
    lines: list[list[Any]] = [["networks", *(len(c) for c in columns)]]

    def line(what: str, value: Any) -> None:
        lines.append([what, *(value(column) for column in columns)])

    line("converted", lambda c: sum(not runner.failed(r) for r in c))
    line("… and within 1e-3 of PyTorch (relative to the largest value)", lambda c: sum(ok(r) for r in c))
    done = [[r for r in c if not runner.failed(r)] for c in columns]

    def over(what: str, value: Any) -> None:
        lines.append([what, *(value(d) if d else None for d in done)])

    over("files with a tensor of rank > 4", lambda d: sum(r["max_rank"] > 4 for r in d))
    over("files with GATHER_ND", lambda d: sum("GATHER_ND" in r["ops"] for r in d))
    over("TRANSPOSE operators in all files", lambda d: sum(r["ops"].get("TRANSPOSE", 0) for r in d))
    over("operators in all files", lambda d: sum(sum(r["ops"].values()) for r in d))
    over("seconds, median", lambda d: f"{statistics.median(r['seconds']['total'] for r in d):.2f}")
    over("seconds, worst", lambda d: f"{max(r['seconds']['total'] for r in d):.2f}")
    over("peak memory, median MiB", lambda d: f"{statistics.median(r['peak_memory'] for r in d) / MIB:.0f}")
    over("peak memory, worst MiB", lambda d: f"{max(r['peak_memory'] for r in d) / MIB:.0f}")
    beside = [(a, b) for a, b in pairs if not runner.failed(a) and not runner.failed(b)]
    if beside:
        ratios = [b["seconds"]["total"] / a["seconds"]["total"] for a, b in beside]
        lines.append(["times faster than litert-torch, median", f"{statistics.median(ratios):.1f}×", None])
        lines.append(["times faster than litert-torch, least", f"{min(ratios):.1f}×", None])
        more = sum(a["peak_memory"] > b["peak_memory"] for a, b in beside)
        lines.append(["networks that take more memory than litert-torch", more, None])
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conversion", description=__doc__)
    runner.add_arguments(parser)
    report.add_arguments(parser)
    parser.add_argument("--no-peer", action="store_true", help="Instep alone")
    options = parser.parse_args()
    rows, pairs, figures = [], [], []
    for result in runner.results(options, both, lambda r: ok(r["instep"])):
        ours, peer = result["instep"], result["litert-torch"]
        print(f"{result['network']}: {runner.summary(ours)} | {runner.summary(peer)}", file=sys.stderr, flush=True)
        rows.append(row(result["network"], ours, peer))
        pairs.append((ours, peer))
        figures.append(result)
    cached = any(peer.get("cached") for _, peer in pairs)
    note = "litert-torch's column is from the cache of an earlier run." if cached else "Both in the same run, in turn."
    text = "\n\n".join(
        [
            f"Suite {options.suite}. {note} Seconds from the module to the file, imports not counted; peak memory of "
            "the whole process.",
            report.table(["", "Instep", "litert-torch"], summary(pairs)),
            report.table(
                ["network", "s", "MiB", "off by", "litert-torch s", "MiB", "off by", "faster"],
                rows,
            ),
        ]
    )
    report.deliver(options, f"conversion {options.suite}", text, {"suite": options.suite, "networks": figures})
    return int(any(not ok(ours) for ours, _ in pairs))


if __name__ == "__main__":
    sys.exit(main())
