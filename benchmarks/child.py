"""One conversion by one tool in a process of its own: seconds, peak memory, what the file holds, how far it is off."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["TOOLS", "difference", "file_facts"]

#: tool → module with ``version()``, ``prepare()`` and ``convert(module, inputs, outputs, path)``
TOOLS = {"instep": "benchmarks.ours", "litert-torch": "benchmarks.peer_litert_torch"}


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes (VmHWM: not inherited, unlike ru_maxrss)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def file_facts(path: Path) -> dict[str, Any]:
    """Operators (name → count), largest rank and bytes of a TFLite file."""
    from instep.runtime import tflite_info

    info = tflite_info(path)
    return {"ops": dict(info.histogram), "max_rank": info.max_rank, "bytes": info.bytes}


def channel_last(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def difference(path: Path, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> float:
    """Largest difference of any output, relative to that output's largest value; outputs are paired by closeness."""
    from instep.runtime.litert import run

    result = run(path, [np.ascontiguousarray(channel_last(x)) for x in inputs])
    if result.failed:
        raise RuntimeError(result.message)
    got = result.outputs
    worst = 0.0
    for want in map(channel_last, outputs):
        sizes = [g for g in got if g.size == want.size]
        if not sizes:
            raise ValueError(f"no output of {want.size} values for {list(want.shape)}: {[g.shape for g in got]}")
        scale = max(float(np.abs(want).max()), 1e-30)
        errors = [float(np.abs(g.reshape(want.shape).astype(np.float64) - want).max()) / scale for g in sizes]
        worst = max(worst, min(errors) if all(np.isfinite(errors)) else float("nan"))
    return worst


def main() -> int:
    """Print one JSON object a line: first what the conversion gave, then how far the file is off."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.child")
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("suite")
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")

    import torch
    from benchmarks import networks

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    tool = importlib.import_module(TOOLS[options.tool])
    network = networks.find(options.suite, options.name)
    module = network.build()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    inputs = network.inputs(module)
    result = module(*inputs)
    outputs = list(result) if isinstance(result, list | tuple) else [result]
    tool.prepare()
    before = peak_memory()
    seconds = tool.convert(module, inputs, outputs, options.out)
    facts: dict[str, Any] = {"seconds": seconds, "peak_memory": peak_memory(), "memory_before": before}
    print("\n" + json.dumps(facts | file_facts(options.out)), flush=True)
    error = difference(options.out, [x.numpy() for x in inputs], [y.detach().numpy() for y in outputs])
    print("\n" + json.dumps({"difference": error}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
