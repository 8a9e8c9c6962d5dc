"""LiteRT's GPU delegate: does every network run there entirely and in step, and does check foretell what will not?"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report, runner
from benchmarks.networks import Network

__all__ = ["main", "runs_right"]

PEER = "litert-torch"


def runs_right(result: dict[str, Any]) -> bool:
    """The network's file runs on the GPU as a whole and is in step (with --quick: right) there."""
    return result.get("verdict") in ("in step", "right")


def trouble(result: dict[str, Any]) -> str | None:
    """Why a network does not run right, as short as can be."""
    if runs_right(result):
        return None
    if "verdict" not in result:
        return result.get("error", "no verdict")
    why = result["culprit"] or result["said"] or "; ".join(result["notes"][:2])
    return f"{result['verdict']}: {why}"[:220]


def peer_file(network: Network, cache: Path) -> Path | None:
    """The newest file of the peer's for the network in ``cache``, None when there is none."""
    found = cache.glob(f"{PEER}-*/{network.suite}/{network.name}.tflite")
    return max(found, key=lambda p: p.stat().st_mtime, default=None)


def foresight(judged: Sequence[tuple[str, dict[str, Any], bool, bool]]) -> list[list[Any]]:
    """check against the engine, over (name, what check says, it ran, it was right): lines of a table with names."""

    def named(what: str, holds: Callable[[dict[str, Any], bool, bool], bool]) -> list[Any]:
        names = [name for name, said, ran, right in judged if holds(said, ran, right)]
        return [what, len(names), ", ".join(names) or None]

    return [
        ["files run on the GPU", len(judged), None],
        named("refused by the delegate", lambda said, ran, right: not ran),
        named("… and not foretold (missed)", lambda said, ran, right: not ran and not said["refused"]),
        named("accepted and wrong", lambda said, ran, right: ran and not right),
        named("… and not foretold", lambda said, ran, right: ran and not right and not said["errors"]),
        named("right, and objected to (false)", lambda said, ran, right: right and bool(said["errors"])),
    ]


def measure(network: Network, options: argparse.Namespace) -> dict[str, Any]:
    """One network in a process of its own."""
    command = ["benchmarks.gpu_child", network.suite, network.name, "--rounds", str(options.rounds)]
    peer = peer_file(network, options.peer) if options.peer else None
    if peer is not None:
        command += ["--peer", str(peer)]
    if options.locate:
        command.append("--locate")
    if options.quick:
        command.append("--quick")
    if options.latency:
        command.append("--latency")
    if options.keep:
        command += ["--keep", str(options.keep)]
    return {"network": network.name, "suite": network.suite} | runner.child(command, options.timeout)


def summary(results: list[dict[str, Any]]) -> list[list[Any]]:
    proved = [r for r in results if "verdict" in r]
    lines = [
        ["networks", len(results)],
        ["run on the GPU as a whole", sum(r["verdict"] not in ("refused", "crashed", "timed out") for r in proved)],
        ["… and are in step (or right) there", sum(map(runs_right, results))],
        ["operators added by legalising, median", f"{statistics.median(r['added'] for r in proved):g}"],
    ]
    slower = {r["network"]: r["slower"] for r in results if "slower" in r}
    if slower:
        worst = max(slower, key=slower.__getitem__)
        lines += [
            ["latency on the CPU to the plain file's, median", f"{statistics.median(slower.values()):.3f}"],
            ["latency on the CPU to the plain file's, worst", f"{slower[worst]:.3f} ({worst})"],
        ]
    return lines


def tables(results: list[dict[str, Any]]) -> list[str]:
    """What is said of the results, as Markdown."""
    rows = [
        [
            r["network"],
            r.get("verdict", "failed"),
            f"{r['noise_ratio']:.2f}" if r.get("verdict") == "in step" else None,
            f"{r['off']:.0e}" if "off" in r else None,
            sum(r["ops"].values()) if "ops" in r else None,
            r.get("added"),
            f"{r['slower']:.3f}" if "slower" in r else None,
            f"{r['gpu_seconds']:.1f}" if "gpu_seconds" in r else None,
            trouble(r),
        ]
        for r in results
    ]
    head = ["network", "verdict", "noise ratio", "off by", "operators", "added", "CPU to plain", "GPU s", "trouble"]
    text = [report.table(["", ""], summary(results)), report.table(head, rows)]
    ours = [(r["network"], r["check"], r["verdict"] not in ("refused", "crashed"), runs_right(r))
            for r in results if "verdict" in r and "check" in r]  # fmt: skip
    text += ["What `check` says of these files:", report.table(["", "", "which"], foresight(ours))]
    peers = [(r["network"], r["peer"], r["peer"]["outcome"] == "ran", r["peer"].get("right", False))
             for r in results if "peer" in r]  # fmt: skip
    if peers:
        text += [f"{PEER}'s files of the same networks:", report.table(["", "", "which"], foresight(peers))]
    return text


def costs(results: list[dict[str, Any]]) -> list[str]:
    """What the form for the target costs on the CPU, as Markdown."""
    timed = [r for r in results if "slower" in r]
    ratios = {r["network"]: r["slower"] for r in timed}
    lines: list[list[Any]] = [["networks timed", len(timed)], ["not timed", len(results) - len(timed)]]
    if timed:
        worst = max(ratios, key=ratios.__getitem__)
        lines += [
            ["the same file", sum("ms" not in r for r in timed)],
            ["for litert-gpu to plain, median", f"{statistics.median(ratios.values()):.3f}"],
            [
                "… of the networks whose files differ",
                f"{statistics.median([r['slower'] for r in timed if 'ms' in r] or [1.0]):.3f}",
            ],
            ["… worst", f"{ratios[worst]:.3f} ({worst})"],
        ]
    rows = [
        [
            r["network"],
            f"{r['plain_ms']:.2f}" if "plain_ms" in r else None,
            f"{r['ms']:.2f}" if "ms" in r else None,
            f"{r['slower']:.3f}" if "slower" in r else r.get("latency_error") or r.get("error", "failed"),
            r.get("added"),
        ]
        for r in sorted(results, key=lambda r: -r.get("slower", 0.0))
    ]
    return [
        report.table(["", ""], lines),
        report.table(["network", "plain", "litert-gpu", "ratio", "operators added"], rows),
    ]


def _deliver_costs(options: argparse.Namespace, results: list[dict[str, Any]]) -> int:
    said = (
        f"Suite {options.suite}: milliseconds of processor time on one XNNPACK thread, medians of {options.rounds} "
        "rounds that time the plain file and the one converted with `--target litert-gpu` in turn; the ratio is the "
        "median of the rounds' ratios."
    )
    text = "\n\n".join([said, *costs(results)])
    report.deliver(options, f"gpu cost {options.suite}", text, {"suite": options.suite, "networks": results})
    return int(not all("slower" in r for r in results))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    runner.add_arguments(parser)
    report.add_arguments(parser)
    parser.add_argument(
        "--peer",
        type=Path,
        nargs="?",
        const=runner.CACHE,
        help=f"ask the same of {PEER}'s files in this cache (benchmarks/cache)",
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds of timing on the CPU (default 9; 0: none)")
    parser.add_argument("--locate", action="store_true", help="name the operator where a network is out of step")
    parser.add_argument(
        "--quick", action="store_true", help="one input, outputs held against the float64 run instead of the proof"
    )
    parser.add_argument(
        "--latency", action="store_true", help="only what the target's form costs on the CPU; the GPU is not asked"
    )
    parser.add_argument("--keep", type=Path, help="folder in which the converted files stay")
    options = parser.parse_args()
    results = []
    for result in runner.results(options, measure, lambda r: "verdict" in r or "slower" in r):
        results.append(result)
        told = {k: result.get(k) for k in ("verdict", "noise_ratio", "added", "slower", "gpu_seconds", "wall", "left")}
        print(
            f"{result['network']}: {told} {'' if options.latency else trouble(result) or ''}",
            file=sys.stderr,
            flush=True,
        )
    if options.latency:
        return _deliver_costs(options, results)
    text = "\n\n".join(
        [
            f"Suite {options.suite} on `litert-gpu`, converted with `--target litert-gpu`; the plain file is the one "
            "without a target. Every proof is of the engine's own outputs on noise and on a picture; with `--quick` "
            "they are right on noise within 1e-3 of the largest output, or ten times what PyTorch's float32 is away.",
            *tables(results),
        ]
    )
    report.deliver(options, f"gpu {options.suite}", text, {"suite": options.suite, "networks": results})
    return int(not all(map(runs_right, results)))


if __name__ == "__main__":
    sys.exit(main())
