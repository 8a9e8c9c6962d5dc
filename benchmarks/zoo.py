"""Every network of the zoo in five forms with the same weights: PyTorch, Keras on TensorFlow and on JAX, Flax, TFLite.

Every form's outputs are held against the source and against every other form's, by the network's own rounding noise;
the TFLite file is proved value by value besides.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import report, runner
from benchmarks.zoo_child import FORMS

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
    parser.add_argument("--together", type=int, default=6, help="networks that share one import of each framework")
    parser.add_argument("--results", type=Path, help="file of results, one a line: those in it are not run again")
    report.add_arguments(parser)
    options = parser.parse_args()
    known = _known(options.results)
    names = _chosen(options)
    left = [n for n in names if n not in known]
    for start in range(0, len(left), options.together):
        for result in _measured(left[start : start + options.together], options):
            known[result["network"]] = result
            print(_told(result), file=sys.stderr, flush=True)
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps(result) + "\n")
    results = [known[n] for n in names]
    report.deliver(options, "zoo", _text(results), {"networks": results})
    return int(any(r.get("verdict") != "in step" for r in results))


def _known(path: Path | None) -> dict[str, dict[str, Any]]:
    """Results of earlier runs that came to a verdict in step; a later line stands for an earlier one."""
    lines = path.read_text().splitlines() if path is not None and path.is_file() else []
    results = {r["network"]: r for r in map(json.loads, lines)}
    return {n: r for n, r in results.items() if r.get("verdict") == "in step"}


def _chosen(options: argparse.Namespace) -> list[str]:
    from instep.zoo import names

    only, left_out = ({n for n in words.split(",") if n} for words in (options.only, options.skip))
    if unknown := (only | left_out) - set(names()):
        raise SystemExit(f"the zoo has no {', '.join(sorted(unknown))}")
    return [n for n in names() if (not only or n in only) and n not in left_out]


def _measured(names: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """What a child found of some networks; when it died or was late, of each in a child of its own."""
    args = {n: {} if options.full else smaller(n) for n in names}
    command = ["benchmarks.zoo_child", json.dumps(args)]
    found, end = runner.told(command, options.timeout * len(names))
    results = {r["network"]: r for r in found if "network" in r}
    missing = [n for n in names if n not in results]
    if missing and len(names) > 1:
        again = [r for n in missing for r in _measured([n], options)]
        return [*results.values(), *again]
    return [*results.values(), *({"network": n, "args": args[n], **end} for n in missing)]


def _ratios(r: dict[str, Any]) -> dict[str, float]:
    """form → its ratio beside the source; "pair" → the worst of any two forms."""
    pairs = r.get("pairs", {})
    found = {form: beside["source"][1] for form, beside in pairs.items()}
    between = [ratio for beside in pairs.values() for other, (_, ratio) in beside.items() if other != "source"]
    return found | ({"pair": max(between)} if between else {})


def _told(r: dict[str, Any]) -> str:
    ratios = ", ".join(f"{k} {v:.2f}" for k, v in _ratios(r).items())
    return f"{r['network']} {r['args']}: {r.get('verdict', 'failed')}, {ratios} {_fault(r) or ''}"


def _fault(r: dict[str, Any]) -> str | None:
    if r.get("verdict") == "in step":
        return None
    said = [f"{form}: {why}" for form, why in r.get("failed", {}).items()]
    return "; ".join(filter(None, [r.get("error"), *said, r.get("first")]))[:200]


def _text(results: list[dict[str, Any]]) -> str:
    """One table, and what is counted over it."""
    rows = [
        [
            r["network"],
            r.get("input"),
            f"{r['parameters']:,}" if "parameters" in r else None,
            *(f"{ratios[k]:.2f}" if k in ratios else None for k in (*FORMS, "pair")),
            f"{r['values'][1]:.2f} of {r['values'][2]}" if "values" in r else None,
            r.get("verdict", "failed"),
            _fault(r),
        ]
        for r, ratios in ((r, _ratios(r)) for r in results)
    ]
    head = ["network", "input", "parameters", *FORMS, "worst pair", "values in TFLite", "verdict", "fault"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    forms = [[f"{form} in step", sum(r.get("pairs", {}).get(form, {}).get("source", [""])[0] == "in step"
                                     for r in results)] for form in FORMS]  # fmt: skip
    good = sum(r.get("verdict") == "in step" for r in results)
    lines = [["networks", len(results)], *forms, ["every form, every pair and every value in step", good]]
    return "\n\n".join([report.table(["", ""], lines), report.table(head, rows)])


if __name__ == "__main__":
    sys.exit(main())
