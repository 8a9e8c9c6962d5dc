"""Wall time of whole commands: ``import instep`` and ``instep convert`` with its proof on RLFN at 1×3×64×64."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report
from benchmarks.networks import ROOT

__all__ = ["main"]

FRAMEWORKS = ("torch", "tensorflow", "jax", "ai_edge_litert", "timm", "flatbuffers")


def timed(command: list[str], repeats: int) -> tuple[list[float], str]:
    """Wall seconds of each run after a first one, and what the last printed. SystemExit when the command fails.

    The first run leaves Python's compiled files, which an installed package has from the start.
    """
    places = os.pathsep.join(filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": places}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    seconds, text = [], ""
    for _ in range(1 + repeats):
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - start)
        text = done.stdout
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return seconds[1:], text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    report.add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    code = f"import sys, instep; print([m for m in {FRAMEWORKS!r} if m in sys.modules])"
    bare, _ = timed([sys.executable, "-c", "pass"], options.repeats)
    imported, loaded = timed([sys.executable, "-c", code], options.repeats)
    torch_alone, _ = timed([sys.executable, "-c", "import torch"], options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rlfn.tflite"
        convert = [sys.executable, "-m", "instep", "convert", "tests/networks/rlfn.py:RLFN"]
        converted, said = timed([*convert, "--input", "1,3,64,64", "-o", str(file)], options.repeats)
    print(said, file=sys.stderr)
    figures = {"python": bare, "import instep": imported, "import torch": torch_alone, "convert RLFN": converted}
    rows = [[name, f"{statistics.median(v):.2f}", f"{max(v):.2f}"] for name, v in figures.items()]
    text = "\n\n".join(
        [
            f"Wall time of whole processes, {options.repeats} runs after a first one. Frameworks that "
            f"`import instep` loads: {loaded.strip()}. `convert RLFN` is `instep convert` with the proof, 1×3×64×64.",
            report.table(["", "median s", "worst s"], rows),
        ]
    )
    report.deliver(options, "startup", text, figures | {"frameworks": loaded.strip()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
