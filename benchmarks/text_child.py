"""One network captured, printed as text and read again, in a process of its own: prints what became of it as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from instep.graph import Graph, Value

__all__ = ["difference", "main"]


def difference(a: Graph, b: Graph) -> str:
    """The first thing in which the two graphs are not the same, in words; "" where they are equal."""
    for what, ours, theirs in (("inputs", _ends(a, "input"), _ends(b, "input")),
                               ("outputs", _ends(a, "output"), _ends(b, "output"))):  # fmt: skip
        if ours != theirs:
            return f"{what} {ours} and {theirs}"
    if len(a.nodes) != len(b.nodes):
        return f"{len(a.nodes)} and {len(b.nodes)} operators"
    for one, other in zip(a.nodes, b.nodes, strict=True):
        facts = [(n.op, n.scope, [*map(_said, n.inputs)], [*map(_said, n.outputs)]) for n in (one, other)]
        if facts[0] != facts[1]:
            return f"{one.describe()} and {other.describe()}"
    if [*map(_said, a.weights)] != [*map(_said, b.weights)]:
        return "the weights' names"
    for value, ours, theirs in zip(a.weights, a.weights.values(), b.weights.values(), strict=True):
        if ours.dtype != theirs.dtype or not np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"):
            return f"the numbers of {value.name}"
    kept = [set(g.meta.get("buffers", ())) for g in (a, b)]
    if kept[0] != kept[1]:
        return f"buffers: {', '.join(sorted(kept[0] ^ kept[1])[:5])}"
    return ""


def _said(value: Value) -> tuple[str, Any]:
    return value.name, value.spec


def _ends(graph: Graph, side: str) -> list[Any]:
    values, names = getattr(graph, f"{side}s"), getattr(graph, f"{side}_names")
    return [*names, *map(_said, values)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.text_child")
    parser.add_argument("suite")
    parser.add_argument("name")
    parser.add_argument("--keep", type=Path, help="write the text to this file as well")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    import torch
    from benchmarks import networks

    from instep.capture import capture
    from instep.graph.text import parse, save

    torch.set_num_threads(1)
    network = networks.find(options.suite, options.name)
    module = network.build()
    graph = capture(module, inputs=list(network.inputs(module))).graph
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.yaml"
        start = time.perf_counter()
        save(graph, path)
        printed = time.perf_counter()
        again = parse(path)
        read = time.perf_counter()
        text = path.read_text("utf-8")
        found = difference(graph, again)
    if options.keep is not None:
        options.keep.write_text(text, "utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    facts = {
        "equal": not found,
        "difference": found,
        "operators": len(graph.nodes),
        "weights": len(graph.weights),
        "lines": len(lines),
        "structs": sum(line.strip() == "body:" for line in lines) - 1,
        "seconds": {"print": printed - start, "read": read - printed},
    }
    print("\n" + json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
