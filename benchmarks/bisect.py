"""Plants single faults into written files, and counts how often ``instep bisect`` ends at the guilty operator.

    python -m benchmarks.bisect [--faults 30] [--gpu] [--files FILE.tflite …] [--json OUT] [-o docs/benchmarks.md]

Every second fault is looked for between the PyTorch network and the file, the others between the sound file and the
faulty one. A fault counts as found when the part that bisect writes is the one operator that was changed, and as shown
when the written ``show.py`` still tells it. ``--gpu`` adds faults of LiteRT's GPU delegate itself: a file on its
built-in kernels against the same file on the delegate; ``--files`` adds files of any origin to these.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.faults.file_faults import FILE_FAULTS, Planted
from benchmarks.faults.networks import OWN, TIMM, build
from benchmarks.report import add_arguments, deliver, table
from torch import nn

import instep

__all__ = ["main"]

#: The seconds that a search may take.
GOAL = 120.0


@dataclass
class Result:
    """What became of one fault."""

    network: str
    fault: str
    against: str
    verdict: str
    operators: str
    found: bool
    shown: bool
    runs: int
    seconds: float
    #: processor time of the search and of the children that ran the parts
    processor: float


def _processor() -> float:
    return sum(os.times()[:4])


def planted(file: Path, rng: np.random.Generator) -> Iterator[tuple[str, Planted]]:
    """Copies of ``file`` with one fault each, kinds and places in random order."""
    for number in rng.permutation(len(FILE_FAULTS)):
        fault = FILE_FAULTS[int(number)]
        places = sum(1 for _ in fault.places(file, 1000))
        if not places:
            continue
        chosen = int(rng.integers(places))
        for index, one in enumerate(fault.places(file, chosen + 1)):
            if index == chosen:
                yield fault.kind.removeprefix("file: "), one


def search(name: str, fault: str, against: str, a: Any, b: Any, guilty: str, folder: Path, **options: Any) -> Result:
    """Bisect ``a`` and ``b``; ``guilty`` is the tensor that the changed operator makes ("": not known beforehand)."""
    out = folder / f"found-{time.time_ns()}"
    start, spent = time.perf_counter(), _processor()
    found = instep.bisect(a, b, out, **options)
    seconds, spent = time.perf_counter() - start, _processor() - spent
    right = len(found.scopes) == 1 and guilty in ("", found.scopes[0])
    shown = out.is_dir() and subprocess.run([sys.executable, out / "show.py"], capture_output=True).returncode != 0
    kinds = ", ".join(dict.fromkeys(found.operators))
    return Result(name, fault, against, found.verdict, kinds, right, shown, found.runs, seconds, spent)


def run_network(name: str, count: int, offset: int, folder: Path, say: Any) -> tuple[list[Result], int]:
    """``count`` faults in one network; and how many planted changes moved no output."""
    net, shape = build(name)
    good = folder / f"{name}.tflite"
    instep.convert(net, good, inputs=[shape], verify=False)
    copy = folder / f"{name}-work.tflite"
    copy.write_bytes(good.read_bytes())
    results: list[Result] = []
    unfelt = 0
    for kind, one in planted(copy, np.random.default_rng(offset)):
        if len(results) == count:
            break
        pytorch = (offset + len(results)) % 2 == 0
        against = "PyTorch" if pytorch else "the sound file"
        source, options = (net, {"inputs": [shape]}) if pytorch else (str(good), {})
        result = search(name, kind, against, source, str(one.path), one.tensor, folder, **options)
        if result.verdict == "in step":
            unfelt += 1
            continue
        results.append(result)
        say(result)
    return results, unfelt


class Grouped(nn.Module):
    """Convolutions, one of them grouped by sizes that the GPU delegate gets wrong."""

    def __init__(self, channels: int, made: int, groups: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(6))
        self.group = nn.Conv2d(channels, made, 3, padding=1, groups=groups)
        self.head = nn.Conv2d(made, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.stem(x))
        for conv in self.body:
            y = y + torch.nn.functional.gelu(conv(y))
        return self.head(torch.tanh(self.group(y)))


def on_gpu(files: list[Path], folder: Path, say: Any) -> list[Result]:
    """Faults of the delegate itself."""
    found = []
    for channels, made, groups in ((16, 16, 8), (12, 24, 6), (12, 8, 2), (24, 6, 3)):
        torch.manual_seed(0)
        path = folder / f"grouped-{channels}-{made}-{groups}.tflite"
        net = Grouped(channels, made, groups).eval()
        instep.convert(net, path, inputs=[(1, 3, 32, 32)], verify=False)
        file = instep.show(str(path))
        guilty = next(t for t in _tensors(path) if t.startswith("group"))
        title = f"convolution of {channels} → {made} channels in {groups} groups"
        assert file is not None
        found.append(search("grouped", title, "litert-gpu", str(path), None, guilty, folder, on="litert-gpu"))
        say(found[-1])
    for path in files:
        found.append(search(path.stem, "of another tool's file", "litert-gpu", str(path), None, "", folder,
                            on="litert-gpu"))  # fmt: skip
        say(found[-1])
    return found


def _tensors(path: Path) -> list[str]:
    from instep.runtime import tflite_info

    info = tflite_info(path)
    return [info.tensors[i].name for op in info.ops for i in op.outputs]


def _text(planted_ones: list[Result], gpu: list[Result], unfelt: int) -> str:
    lines = ["## Bisect", "", "    python -m benchmarks.bisect --gpu -o docs/benchmarks.md", ""]
    for title, results in (("planted faults", planted_ones), ("faults of the GPU delegate itself", gpu)):
        if not results:
            continue
        times, spent = sorted(r.seconds for r in results), sorted(r.processor for r in results)
        lines += [
            f"{len(results)} {title}: {sum(r.found for r in results)} searches end at one guilty operator, "
            f"{sum(r.shown for r in results)} minimal files still show it; median {times[len(times) // 2]:.1f} s, "
            f"longest {times[-1]:.1f} s (goal: {GOAL:.0f} s); of processor time, of the children too, "
            f"{spent[len(spent) // 2]:.1f} s and {spent[-1]:.1f} s; "
            f"{sorted(r.runs for r in results)[len(results) // 2]} runs of parts (median).",
            "",
        ]
        if results is planted_ones and unfelt:
            lines += [f"{unfelt} more changes moved no output beyond the rounding noise and do not count.", ""]
        rows = [
            (r.network, r.fault, r.against, r.verdict, r.operators, _yes(r.found), _yes(r.shown), r.runs,
             f"{r.seconds:.1f}", f"{r.processor:.1f}") for r in results
        ]  # fmt: skip
        head = (
            "network",
            "fault",
            "against",
            "whole file",
            "ends at",
            "the one",
            "shown",
            "runs",
            "seconds",
            "processor",
        )
        lines += [table(head, rows), ""]
    return "\n".join(lines).rstrip()


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def main() -> int:
    """Run the benchmark; exit status 1 when a planted fault was not found or not shown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bisect", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--networks", default=",".join([*OWN, *TIMM]))
    parser.add_argument("--gpu", action="store_true", help="and faults of the GPU delegate itself")
    parser.add_argument("--files", type=Path, nargs="*", default=[], help="further files for the GPU delegate")
    parser.add_argument("--seed", type=int, default=0)
    add_arguments(parser)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    say = lambda r: print(f"  {r}", file=sys.stderr, flush=True)  # noqa: E731
    names = options.networks.split(",")
    results: list[Result] = []
    unfelt = 0
    with tempfile.TemporaryDirectory() as place:
        for number, name in enumerate(names):
            left = options.faults - len(results)
            found, more = run_network(name, -(-left // (len(names) - number)), options.seed + number, Path(place), say)
            results += found
            unfelt += more
        gpu = on_gpu(options.files, Path(place), say) if options.gpu or options.files else []
    figures = {"planted": [asdict(r) for r in results], "gpu": [asdict(r) for r in gpu], "unfelt": unfelt}
    deliver(options, "bisect", _text(results, gpu, unfelt), figures)
    return 0 if all(r.found and r.shown for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
