"""Exported source in a fresh environment: a Python that has the framework and safetensors, and no Instep.

Each network is exported as code of PyTorch, Keras (run on TensorFlow and on JAX) and Flax; the Python that ``--python``
names runs the code, and its outputs are judged by the proof, on the proof's own inputs; ruff looks at the code.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import report

from instep.verify.module import ModuleSubject
from instep.verify.subject import Run, shown_inputs

__all__ = ["main"]

#: ten networks: of the zoo, of timm and of a file; each with its input where the text leaves it open
NETWORKS: dict[str, list[list[int]] | None] = {
    "zoo:cifar10_3c3d": None,
    "zoo:resnet8": None,
    "zoo:rlfn": [[1, 3, 32, 40]],
    "zoo:rfdn": [[1, 3, 32, 40]],
    "zoo:imdn": [[1, 3, 32, 40]],
    "zoo:elsr": [[1, 3, 32, 40]],
    "timm:mobilenetv3_small_050": None,
    "timm:resnet18": [[1, 3, 96, 96]],
    "timm:convnext_atto": [[1, 3, 96, 96]],
    "examples/super_resolution.py:small_sr": [[1, 3, 40, 56]],
}
#: what the code is written for → the form of ``instep export``, and what the fresh process needs to know
FORMS = {
    "torch": ("torch-source", {}),
    "keras-tensorflow": ("keras-source", {"KERAS_BACKEND": "tensorflow"}),
    "keras-jax": ("keras-source", {"KERAS_BACKEND": "jax"}),
    "jax": ("jax-source", {}),
}

#: Runs in the fresh Python: file, framework and folder of the inputs.
ALONE = """
import importlib.util, sys, pathlib
import numpy as np
file, framework, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
assert importlib.util.find_spec("instep") is None, "this Python has Instep"
spec = importlib.util.spec_from_file_location("network", file)
code = importlib.util.module_from_spec(spec)
spec.loader.exec_module(code)
model = code.load()
for place in sorted(folder.glob("*.npz")):
    given = [np.asarray(a) for a in np.load(place).values()]
    if framework == "torch":
        import torch
        with torch.no_grad():
            made = model(*map(torch.from_numpy, given))
    elif framework == "jax":
        made = model(*given)
    else:
        made = model(given if len(given) > 1 else given[0], training=False)
    made = made if isinstance(made, (list, tuple)) else [made]
    np.savez(place.with_suffix(".made"), *[np.asarray(m) for m in made])
    pathlib.Path(f"{place.with_suffix('.made')}.npz").rename(place.with_suffix(".made"))
"""


class Alone(ModuleSubject):
    """A file of exported code that another Python runs."""

    python = ""

    def start(self, sets: Sequence[Sequence[np.ndarray]], tensors: Any = None) -> None:
        pass

    def runs(self, sets: Sequence[Sequence[np.ndarray]]) -> Iterator[Run]:
        with tempfile.TemporaryDirectory() as place:
            for i, arrays in enumerate(sets):
                np.savez(Path(place, f"{i:02d}.npz"), *shown_inputs(self.mapping, self.input_values, arrays))
            command = [self.python, "-I", "-c", ALONE, str(Path(self.path).resolve()), self.engine, place]
            quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
            environment = (
                {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | quiet | FORMS[self.engine][1]
            )
            done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
            for i in range(len(sets)):
                with np.load(Path(place, f"{i:02d}.made")) as made:
                    yield Run({}, {self.engine: list(made.values())})


def judged(captured: Any, file: Path, engine: str, python: str) -> dict[str, Any]:
    """The verdict on the file's outputs in the fresh Python."""
    from instep.verify.verify import inputs_of, judge

    sets, draws = inputs_of(captured.reference, captured.graph, images=None, given=(), seed=0, picture=None)
    subject = Alone.load(file, engine, captured.reference, captured.graph, sets)
    assert isinstance(subject, Alone)
    subject.python = python
    verdict = judge(captured.reference, subject, sets, graph=captured.graph, draws=draws, only=set(), explain=False)
    return {"verdict": verdict.verdict, "noise_ratio": verdict.noise_ratio}


def clean(file: Path) -> bool:
    """ruff finds nothing to say and nothing to move."""
    ruff = [sys.executable, "-m", "ruff"]
    shared = ["--isolated", "--no-cache", "--line-length", "120", str(file)]
    rules = ["check", "--select", "E,F,I,UP,B,SIM"]
    return all(
        subprocess.run([*ruff, *words, *shared], capture_output=True, check=False).returncode == 0
        for words in (rules, ["format", "--check"])
    )


def one(name: str, inputs: list[list[int]] | None, python: str, engines: Sequence[str]) -> dict[str, Any]:
    """The verdict of each form of one network, and how many lines the code has."""
    import instep

    result: dict[str, Any] = {"network": name}
    captured = instep.capture(name, inputs=inputs)
    with tempfile.TemporaryDirectory() as place:
        for engine in engines:
            form = FORMS[engine][0]
            file = Path(place, f"{form.replace('-', '_')}.py")
            start = time.perf_counter()
            try:
                if not file.is_file():
                    instep.export(name, file, to=form, inputs=inputs)
                found = judged(captured, file, engine, python)
            except Exception as error:
                found = {"verdict": "failed", "error": f"{type(error).__name__}: {error}"}
            if file.is_file():
                found |= {"clean": clean(file), "lines": len(file.read_text().splitlines())}
            result[engine] = found | {"seconds": time.perf_counter() - start}
            print(f"{name} {engine}: {result[engine]}", file=sys.stderr, flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exported", description=__doc__)
    report.add_arguments(parser)
    parser.add_argument(
        "--python", required=True, help="the fresh environment's Python: frameworks and safetensors, no Instep"
    )
    parser.add_argument("--only", default="", help="networks, separated by commas (default: all)")
    parser.add_argument("--engines", default=",".join(FORMS), help=f"some of {', '.join(FORMS)}, separated by commas")
    options = parser.parse_args()
    engines = options.engines.split(",")
    names = [n for n in NETWORKS if not options.only or n in options.only.split(",")]
    results = [one(n, NETWORKS[n], options.python, engines) for n in names]
    cells = [r[e] for r in results for e in engines]
    rows = [
        [r["network"], *(f"{r[e]['noise_ratio']:.2f}" if "noise_ratio" in r[e] else r[e]["error"] for e in engines),
         " / ".join(str(r[e].get("lines")) for e in engines if e != "keras-jax")] for r in results
    ]  # fmt: skip
    good = sum(c["verdict"] == "in step" for c in cells)
    text = "\n\n".join(
        [
            f"Exported code of {len(results)} networks in an environment without Instep: {good} of {len(cells)} in "
            f"step, {sum(c.get('clean', False) for c in cells)} of {len(cells)} as ruff would have it. The worst "
            "output in units of the network's rounding noise; up to 10 is in step.",
            report.table(["network", *engines, "lines"], rows),
        ]
    )
    report.deliver(options, "exported", text, {"networks": results})
    return int(good < len(cells) or not all(c.get("clean") for c in cells))


if __name__ == "__main__":
    sys.exit(main())
