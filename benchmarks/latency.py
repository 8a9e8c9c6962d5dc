"""Latency of Instep's files against litert-torch's and against the time of the networks' convolutions alone."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import report, runner
from benchmarks.networks import Network

from instep.runtime import bench

__all__ = ["main", "measure"]


def measure(network: Network, options: argparse.Namespace) -> dict[str, Any]:
    """Median milliseconds of the files there are: "instep", "litert-torch", "floor"; "error" where one failed.

    Processor time of the one thread: what other programs take of a busy machine is not counted. "… elapsed" are the
    medians by the clock.
    """
    result: dict[str, Any] = {"suite": network.suite, "network": network.name}
    ours = runner.convert("instep", network, options, fresh=options.convert)
    peer = runner.convert("litert-torch", network, options, fresh=options.fresh)
    files = {"instep": ours["file"], "floor": str(Path(ours["file"]).with_suffix(".floor.tflite"))}
    if not runner.failed(peer):
        files["litert-torch"] = peer["file"]
    files = {tool: path for tool, path in files.items() if Path(path).is_file()}
    if runner.failed(ours):
        return result | {"error": ours["error"]}
    # where a process puts a file's tensors in memory moves its time by percents: several processes for each file
    rounds = -(-options.rounds // options.loads)
    loads = [bench(files.values(), repeats=rounds, target_ms=options.sample) for _ in range(options.loads)]
    for tool, path in files.items():
        if all(path in times.median for times in loads):
            result[tool] = statistics.median(t for times in loads for t in times.cpu[path])
            result[f"{tool} elapsed"] = statistics.median(times.median[path] for times in loads)
        elif tool == "instep":
            result["error"] = next(times.failed[path] for times in loads if path in times.failed)
    if "instep" in result:
        for other in ("litert-torch", "floor"):
            if other in result:
                result[f"to {other}"] = result["instep"] / result[other]
                result[f"to {other}, elapsed"] = result["instep elapsed"] / result[f"{other} elapsed"]
    return result


def summary(results: list[dict[str, Any]]) -> list[list[Any]]:
    ratios = {r["network"]: r["to litert-torch"] for r in results if "to litert-torch" in r}
    floors = {r["network"]: r["to floor"] for r in results if "to floor" in r}
    lines: list[list[Any]] = [["networks timed", sum("instep" in r for r in results)]]
    if ratios:
        worst, best = max(ratios, key=ratios.__getitem__), min(ratios, key=ratios.__getitem__)
        lines += [
            ["networks timed beside litert-torch", len(ratios)],
            ["Instep / litert-torch, geometric mean", f"{report.geometric_mean(list(ratios.values())):.3f}"],
            ["Instep / litert-torch, worst", f"{ratios[worst]:.3f} ({worst})"],
            ["Instep / litert-torch, best", f"{ratios[best]:.3f} ({best})"],
            ["networks above 1.03", sum(r > 1.03 for r in ratios.values())],
        ]
    if floors:
        lines.append(
            ["Instep / convolutions alone, geometric mean", f"{report.geometric_mean(list(floors.values())):.3f}"]
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    runner.add_arguments(parser)
    report.add_arguments(parser)
    parser.add_argument("--convert", action="store_true", help="convert with Instep again instead of reading the cache")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default 15)")
    parser.add_argument("--loads", type=int, default=3, help="processes that load each file (default 3)")
    parser.add_argument("--sample", type=float, default=20.0, help="milliseconds one sample fills (default 20)")
    parser.add_argument(
        "--above", type=float, default=1e9, help="time those of --results again that took longer than so many peers"
    )
    options = parser.parse_args()
    tuned = f" with INSTEP_TUNE={os.environ['INSTEP_TUNE']}" if os.environ.get("INSTEP_TUNE") else ""
    results = []
    for result in runner.results(options, measure, lambda r: r.get("to litert-torch", 0.0) <= options.above):
        results.append(result)
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}, file=sys.stderr, flush=True)

    def cell(result: dict[str, Any], key: str, digits: int) -> str | None:
        return f"{result[key]:.{digits}f}" if key in result else None

    rows = [
        [
            r["network"],
            cell(r, "instep", 2) or "failed",
            cell(r, "litert-torch", 2),
            cell(r, "floor", 2),
            cell(r, "to litert-torch", 3),
            cell(r, "to floor", 3),
        ]
        for r in sorted(results, key=lambda r: -r.get("to litert-torch", 0.0))
    ]
    text = "\n\n".join(
        [
            f"Suite {options.suite}{tuned}. Milliseconds of processor time on one XNNPACK thread: medians of "
            f"{options.rounds} rounds that time each file in turn, in {options.loads} processes for each file.",
            report.table(["", ""], summary(results)),
            report.table(
                ["network", "Instep", "litert-torch", "convolutions alone", "to litert-torch", "to convolutions"], rows
            ),
        ]
    )
    report.deliver(options, f"latency {options.suite}" + tuned, text, {"suite": options.suite, "networks": results})
    return int(any("error" in r for r in results))


if __name__ == "__main__":
    sys.exit(main())
