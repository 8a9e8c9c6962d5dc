"""Does training agree? One step of SGD from the same weights on the same batch in PyTorch, Keras and Flax.

Judged by the step's own rounding noise: the truth is PyTorch's step in float64, the noise what its float32 steps (as
they are, and with inputs moved by one unit in the last place) are away from it, and its float64 steps in which elements
nearer to a kink than that rounding take the other side (``kinks.py``). Judged is what the step changed in every weight
and running statistic.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import report
from benchmarks.networks import ROOT
from benchmarks.training.judging import judged
from benchmarks.training.steps import FRAMEWORKS

from instep.verify.noise import LIMITS

__all__ = ["NETWORKS", "compared", "main"]

#: Every architecture of DeepOBS in one of its sizes, three networks of super-resolution: name → examples in the batch.
NETWORKS = {
    "mnist_logreg": 8, "mnist_mlp": 8, "mnist_2c2d": 8, "cifar10_3c3d": 8, "mnist_vae": 8, "cifar100_allcnnc": 4,
    "svhn_wrn164": 4, "cifar100_wrn404": 2, "cifar10_vgg16": 2, "cifar100_vgg19": 2, "imagenet_inception_v3": 2,
    "tolstoi_char_rnn": 2, "rlfn": 2, "abpn": 2, "quicksrnet_s": 2,
}  # fmt: skip


def compared(folder: Path, name: str, framework: str) -> dict[str, Any]:
    """The worst weight of a framework's step, as ``judged`` says it; "error" where there was no step."""
    error = folder / f"{name}.{framework}.txt"
    if error.is_file():
        lines = error.read_text("utf-8").strip().splitlines()
        return {
            "error": next((x for x in reversed(lines) if re.match(r"[\w.]+(Error|Exception|NoCode)\b", x)), lines[-1])
        }
    if not (folder / f"{name}.{framework}.npz").is_file():
        return {"error": "the process died"}
    start, truth, result, kinks = (_load(folder / f"{name}.{w}.npz") for w in ("start", "truth", framework, "kinks"))
    draws = [_load(p) for p in sorted(folder.glob(f"{name}.draw*.npz"))]
    return judged(start, truth, draws, result) | {k: int(v) for k, v in kinks.items()}


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as packed:
        return dict(packed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    report.add_arguments(parser)
    parser.add_argument("--only", help="names of networks, separated by commas (default: all)")
    parser.add_argument("--frameworks", default=",".join(FRAMEWORKS), help="separated by commas")
    parser.add_argument("--batch", type=int, help="examples in the batch, for all networks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for all networks in one framework")
    parser.add_argument(
        "--keep", type=Path, help="folder in which the steps stay; those that are there are not made again"
    )
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(NETWORKS)
    words = [f"{n}:{options.batch or NETWORKS.get(n, 2)}" for n in names]
    frameworks = options.frameworks.split(",")
    results: dict[str, dict[str, Any]] = {n: {} for n in names}
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        for framework in ["truth", *frameworks]:
            _run(framework, folder, words, options)
            if framework == "truth":
                continue
            for name in names:
                truth = folder / f"{name}.truth.txt"
                if truth.is_file():
                    raise SystemExit(f"{name} in PyTorch: {truth.read_text('utf-8')}")
                batch = options.batch or NETWORKS.get(name, 2)
                results[name][framework] = compared(folder, name, framework) | {"batch": batch}
                print(name, framework, results[name][framework], file=sys.stderr, flush=True)
    rows = [[n, *_facts(r), *(_cell(r[f]) for f in frameworks)] for n, r in results.items()]
    good = sum(v.get("class") == "in step" for r in results.values() for v in r.values())
    text = (
        f"One step of SGD; ratio of the worst weight (up to {LIMITS.in_step:g} is in step). In step: {good} of "
        f"{len(names) * len(frameworks)}.\n\n"
        + report.table(["network", "batch", "weights", "elements at kinks", "nearer than rounding", *frameworks], rows)
    )
    report.deliver(options, "training", text, {"results": results})
    return 0 if good == len(names) * len(frameworks) else 1


def _facts(results: dict[str, dict[str, Any]]) -> list[Any]:
    found = next(iter(results.values()))
    elements = found.get("elements")
    return [found.get("batch"), found.get("weights"), None if elements is None else f"{elements:,}", found.get("near")]


def _cell(result: dict[str, Any]) -> str:
    if "error" in result:
        return result["error"][:60]
    value = result["ratio"]
    return f"{value:.2f}" if math.isfinite(value) and value <= LIMITS.in_step else f"{value:.3g} ({result['worst']})"


def _run(framework: str, folder: Path, words: list[str], options: argparse.Namespace) -> None:
    places = os.pathsep.join(filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | FRAMEWORKS.get(framework, {}) | {"PYTHONPATH": places, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "benchmarks.training.child", framework, str(folder), *words]
    with (folder / f"{framework}.log").open("w") as log:
        try:
            subprocess.run(
                [*command, "--seed", str(options.seed)], cwd=ROOT, env=environment, stderr=log, check=False,
                timeout=options.timeout, stdout=sys.stderr,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"{framework}: not done after {options.timeout:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
