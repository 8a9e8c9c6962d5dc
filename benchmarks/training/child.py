"""Steps of several networks in one framework, in a process of its own (python -m benchmarks.training.child)."""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

import numpy as np
from benchmarks.training.steps import FRAMEWORKS, step, torch_step
from benchmarks.training.task import network

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
        try:
            task = network(name, int(batch), options.seed)
            if options.framework == "truth":
                np.savez(f"{stem}.npz", **torch_step(task, double=True))  # type: ignore[arg-type]
                rng = np.random.default_rng(options.seed + 1)
                for i in range(options.draws):
                    arrays = torch_step(task if i == 0 else task.nudged(rng))
                    np.savez(options.folder / f"{name}.draw{i}.npz", **arrays)  # type: ignore[arg-type]
                start = {v.name: np.asarray(a) for v, a in task.graph.weights.items()}
                np.savez(options.folder / f"{name}.start.npz", **start)  # type: ignore[arg-type]
            else:
                np.savez(f"{stem}.npz", **step(options.framework, task))  # type: ignore[arg-type]
        except Exception:
            Path(f"{stem}.txt").write_text(traceback.format_exc(), "utf-8")
        print(f"{options.framework} {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
