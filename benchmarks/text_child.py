"""One network captured, printed as text and read again, in a process of its own: prints what became of it as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

__all__ = ["main"]


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
    from instep.graph.difference import difference
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
