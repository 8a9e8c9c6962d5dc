"""Coverage with the proof: is each network's file in step, of rank ≤ 4, without GATHER_ND and custom operators."""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from benchmarks import report, runner
from benchmarks.networks import Network

__all__ = ["main"]


def faults(result: dict[str, Any]) -> list[str]:
    """What keeps a network from being covered; [] when nothing does."""
    if "error" in result:
        return [result["error"]]
    found = []
    if result["verdict"] != "in step":
        found.append(f"{result['verdict']}: {result['diagnosis'] or result['first']}")
    if result["max_rank"] > 4:
        found.append(f"rank {result['max_rank']}")
    found += [name for name in result["ops"] if name in ("GATHER_ND", "CUSTOM") or name.startswith(("CUSTOM:", "Flex"))]
    return found


def prove(network: Network, options: argparse.Namespace) -> dict[str, Any]:
    command = ["benchmarks.prove", network.suite, network.name, "--images", str(options.images)]
    return {"network": network.name, "suite": network.suite} | runner.child(command, options.timeout)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    runner.add_arguments(parser)
    report.add_arguments(parser)
    parser.add_argument(
        "--images", type=int, default=0, help="prove on so many images of Set5 and Set14 too (trained networks)"
    )
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for result in runner.results(options, prove, lambda r: not faults(r)):
        results.append(result)
        told = {k: result.get(k) for k in ("verdict", "noise_ratio", "max_rank", "seconds", "wall")}
        print(f"{result['network']}: {told} {'; '.join(faults(result))}", file=sys.stderr, flush=True)
    rows = [
        [
            r["network"],
            r.get("verdict", "failed"),
            f"{r['noise_ratio']:.2f}" if "noise_ratio" in r else None,
            r.get("max_rank"),
            sum(r["ops"].values()) if "ops" in r else None,
            r["ops"].get("TRANSPOSE", 0) if "ops" in r else None,
            f"{r['seconds']['verify']:.1f}" if "verdict" in r else None,
            "; ".join(faults(r)) or None,
        ]
        for r in results
    ]
    proved = [r for r in results if "verdict" in r]
    lines = [
        ["networks", len(results)],
        ["in step", sum(r["verdict"] == "in step" for r in proved)],
        ["in step, rank ≤ 4, no GATHER_ND, no custom operator", sum(not faults(r) for r in results)],
        ["values compared", sum(r["values"] for r in proved)],
        ["values not in step", sum(r["values_not_in_step"] for r in proved)],
    ]
    if proved:
        lines.append(["seconds of proof, median", f"{statistics.median(r['seconds']['verify'] for r in proved):.1f}"])
    text = "\n\n".join(
        [
            f"Suite {options.suite}"
            + (f", proved on {options.images} images of Set5 and Set14 too." if options.images else "."),
            report.table(["", ""], lines),
            report.table(
                ["network", "verdict", "noise ratio", "max rank", "operators", "TRANSPOSE", "proof s", "faults"], rows
            ),
        ]
    )
    report.deliver(options, f"coverage {options.suite}", text, {"suite": options.suite, "networks": results})
    return int(any(faults(r) for r in results))


if __name__ == "__main__":
    sys.exit(main())
