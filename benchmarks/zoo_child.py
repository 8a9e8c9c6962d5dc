"""One network of the zoo in a process of its own: read, converted, proved; prints what came of it as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.child import file_facts, peak_memory

__all__ = ["main"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo_child")
    parser.add_argument("name")
    parser.add_argument("--args", type=json.loads, default={})
    options = parser.parse_args()

    start = time.perf_counter()
    from instep.capture import capture
    from instep.emit import tflite
    from instep.report.table import table_of_graph
    from instep.rewrite.pipelines import to_tflite
    from instep.verify import verify

    captured = capture(f"zoo:{options.name}", args=options.args)
    table = table_of_graph(captured.graph, options.name)
    facts: dict[str, Any] = {
        "input": ", ".join("×".join(map(str, v.shape)) for v in captured.graph.inputs),
        "parameters": table.parameters,
        "macs": table.macs,
        "seconds": {"parse": time.perf_counter() - start},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        start = time.perf_counter()
        graph, _ = to_tflite(captured.graph)
        tflite.write(graph, path)
        facts["seconds"]["convert"] = time.perf_counter() - start
        print("\n" + json.dumps(facts | file_facts(path)), flush=True)
        start = time.perf_counter()
        verdict = verify(captured.reference, path, graph=captured.graph)
        facts["seconds"]["verify"] = time.perf_counter() - start
    first = verdict.first
    facts |= {
        "verdict": verdict.verdict,
        "noise_ratio": verdict.noise_ratio,
        "values": len(verdict.rows),
        "first": None if first is None else f"{first.operator} '{first.scope}' ratio {first.ratio:.3g}",
        "peak_memory": peak_memory(),
        "notes": verdict.notes,
    }
    print("\n" + json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
