"""Steps of several networks in one framework, in a process of its own (python -m benchmarks.training.child)."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from benchmarks.training.steps import FRAMEWORKS, step, torch_step
from benchmarks.training.task import Task, network

__all__ = ["main"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=[*FRAMEWORKS, "truth"])
    parser.add_argument("folder", type=Path, help="where NETWORK.FRAMEWORK.npz goes, or .txt with the error")
    parser.add_argument("networks", nargs="+", help="NETWORK:BATCH")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=3, help="float32 runs of PyTorch with its inputs nudged")
    options = parser.parse_args()
    for word in options.networks:
        name, _, batch = word.partition(":")
        stem = options.folder / f"{name}.{options.framework}"
        if Path(f"{stem}.npz").is_file():
            continue
        Path(f"{stem}.txt").unlink(missing_ok=True)
        try:
            task = network(name, int(batch), options.seed)
            if options.framework == "truth":
                _truth(task, options.folder / name, options)
            else:
                np.savez(f"{stem}.npz", **step(options.framework, task))  # type: ignore[arg-type]
        except Exception:
            Path(f"{stem}.txt").write_text(traceback.format_exc(), "utf-8")
        print(f"{options.framework} {name}", flush=True)
    return 0


def _truth(task: Task, stem: Path, options: argparse.Namespace) -> None:
    """The step in float64, the draws of its noise, and the weights before it, each in a file of its own."""
    from benchmarks.training.kinks import Kinks, Sides, roundings
    from benchmarks.training.sums import Sums

    def put(what: str, arrays: Mapping[str, np.ndarray]) -> None:
        np.savez(f"{stem}.{what}.npz", **arrays)  # type: ignore[arg-type]

    rng = np.random.default_rng(options.seed + 1)
    nudged = [task.nudged(rng) for _ in range(options.draws - 1)]
    singles = [(task, Kinks()), *((other, Kinks()) for other in nudged), (task, Sums())]
    exact = Kinks()
    truth = torch_step(task, True, exact)
    for i, (single, kinks) in enumerate(singles):
        put(f"draw{i}", torch_step(single, False, kinks))
    near = roundings(exact, [kinks for _, kinks in singles])
    elements = sum(x.numel() for x in exact.inputs)
    del exact, kinks
    singles.clear()
    sides = [Sides(near, options.seed, other) for other in (False, True)]
    for i, side in enumerate(sides):
        put(f"draw{options.draws + 1 + i}", torch_step(task, True, side))
    put("kinks", {"elements": np.array(elements), "near": np.array(sum(s.moved for s in sides))})
    put("start", {v.name: np.asarray(a) for v, a in task.graph.weights.items()})
    # last: with it all of them are there
    put("truth", truth)


if __name__ == "__main__":
    sys.exit(main())
