"""Every network of the zoo as a TFLite file, under proof: in step, how close, how large, how long."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks import report, runner

__all__ = ["SMALLER", "main"]

#: Smaller pictures for networks that take all sizes: the proof's source is numpy in float64, and says as much on them.
SMALLER = {"H": 48, "W": 64}
#: Networks whose windows fit their own sizes alone.
FIXED = ("distortion_net", "distortion_net_minimal", "distortion_net_medium", "distortion_net_no_depthwise", "uvq")


def smaller(name: str) -> dict[str, int]:
    """Arguments that make the entry's pictures small, where it has a height and a width that may be anything."""
    from instep.graph.text.structs import read_unit
    from instep.zoo import path_of

    path = path_of(name)
    known = {a.name for a in read_unit(path.read_text("utf-8"), path.name, path.parent).main.args}
    return {} if name in FIXED else {k: v for k, v in SMALLER.items() if k in known}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("--only", default="", help="names of networks, separated by commas (default: all)")
    parser.add_argument("--skip", default="", help="names of networks to leave out, separated by commas")
    parser.add_argument("--full", action="store_true", help="at the networks' own sizes")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one network (default 1800)")
    report.add_arguments(parser)
    options = parser.parse_args()
    results = [_one(name, options) for name in _chosen(options)]
    good = sum(r.get("verdict") == "in step" for r in results)
    text = "\n\n".join(
        [
            report.table(["", ""], [["networks", len(results)], ["in step", good]]),
            report.table(
                ["network", "input", "parameters", "MACs M", "verdict", "noise ratio", "values", "max rank",
                 "operators", "parse s", "convert s", "proof s", "fault"],
                [_row(r) for r in results],
            ),
        ]
    )  # fmt: skip
    report.deliver(options, "zoo", text, {"networks": results})
    return int(good < len(results))


def _chosen(options: argparse.Namespace) -> list[str]:
    from instep.zoo import names

    only, left_out = ({n for n in words.split(",") if n} for words in (options.only, options.skip))
    if unknown := (only | left_out) - set(names()):
        raise SystemExit(f"the zoo has no {', '.join(sorted(unknown))}")
    return [n for n in names() if (not only or n in only) and n not in left_out]


def _one(name: str, options: argparse.Namespace) -> dict[str, Any]:
    args = {} if options.full else smaller(name)
    command = ["benchmarks.zoo_child", name, "--args", json.dumps(args)]
    result = {"network": name, "args": args} | runner.child(command, None, options)
    told = result.get("error") or f"{result['verdict']}, noise ratio {result['noise_ratio']:.2f}"
    print(f"{name} {args}: {told}, {result['wall']:.0f} s", file=sys.stderr, flush=True)
    return result


def _row(r: dict[str, Any]) -> list[Any]:
    seconds = r.get("seconds", {})
    return [
        r["network"],
        r.get("input"),
        f"{r['parameters']:,}" if "parameters" in r else None,
        f"{r['macs'] / 1e6:,.1f}" if "macs" in r else None,
        r.get("verdict", "failed"),
        f"{r['noise_ratio']:.2f}" if "noise_ratio" in r else None,
        r.get("values"),
        r.get("max_rank"),
        sum(r["ops"].values()) if "ops" in r else None,
        *(f"{seconds[k]:.2f}" if k in seconds else None for k in ("parse", "convert", "verify")),
        r.get("error") or r.get("first"),
    ]


if __name__ == "__main__":
    sys.exit(main())
