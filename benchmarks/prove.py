"""One conversion with its proof in a process of its own: prints the verdict and what the file holds as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

__all__ = ["main"]


def pictures(count: int, scale: int) -> list[Any]:
    """``count`` real images, spread over the 19 of Set5 and Set14, reduced by ``scale``."""
    from tests.networks.images import high_resolution, reduced

    paths = [*high_resolution("set5"), *high_resolution("set14")]
    chosen = [paths[i * len(paths) // count] for i in range(min(count, len(paths)))]
    return [reduced(path, scale)[0] for path in chosen]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prove")
    parser.add_argument("suite")
    parser.add_argument("name")
    parser.add_argument("--images", type=int, default=0, help="prove on so many images of Set5 and Set14 too")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")

    import torch
    from benchmarks import networks
    from benchmarks.child import file_facts, peak_memory

    from instep.capture import capture
    from instep.emit import tflite
    from instep.rewrite.pipelines import to_tflite
    from instep.verify import Picture, verify

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    network = networks.find(options.suite, options.name)
    module = network.build()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        start = time.perf_counter()
        captured = capture(module, inputs=list(network.inputs(module)))
        graph, _ = to_tflite(captured.graph)
        tflite.write(graph, path)
        converted = time.perf_counter()
        facts: dict[str, Any] = {"seconds": {"convert": converted - start}, "peak_memory": peak_memory()}
        print("\n" + json.dumps(facts | file_facts(path)), flush=True)
        images = None
        if options.images and network.data_range:
            from PIL import Image

            images = []
            for i, picture in enumerate(pictures(options.images, network.scale)):
                images.append(Path(folder) / f"{i:02}.png")
                Image.fromarray(picture).save(images[-1])
        picture = Picture(scale=network.data_range) if network.data_range else None
        verdict = verify(captured.reference, path, graph=captured.graph, images=images or None, picture=picture)
        facts["seconds"]["verify"] = time.perf_counter() - converted
    first = verdict.first
    facts |= {
        "verdict": verdict.verdict,
        "noise_ratio": verdict.noise_ratio,
        "max_abs": verdict.max_abs,
        "values": len(verdict.rows),
        "values_not_in_step": sum(r.verdict not in ("in step", "not comparable") for r in verdict.rows),
        "first": None
        if first is None
        else f"{first.operator} '{first.scope}' ({first.origin}) ratio {first.ratio:.3g}",
        "diagnosis": None if verdict.diagnosis is None else str(verdict.diagnosis),
        "inputs": len(verdict.inputs),
        "notes": verdict.notes,
    }
    print("\n" + json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
