"""Every operator as Keras code computes its own definition, on TensorFlow and on JAX, and again after a .keras file."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instep.emit.code.flat import flat
from instep.emit.keras.dialect import IMPORTS, KERAS
from instep.graph import OPERATORS, Graph
from lowering_cases import CASES
from test_lower_conformance import Case, draw_cases

#: Cases per operator for each backend, and how many of them go through a file too.
COUNT = {"tensorflow": 5, "jax": 3}
SAVED = 1
WORKER = Path(__file__).with_name("keras_worker.py")


def test_every_operator_has_a_rule() -> None:
    for name, kind in OPERATORS.items():
        assert kind in KERAS.table, f"Keras has no form of {name}"


def job(graph: Graph, inputs: list[np.ndarray], save: bool) -> dict[str, Any]:
    program = flat(graph, KERAS)
    helpers = program.helpers
    if program.constants:
        helpers += "\n\n\n" + KERAS.prelude["Parameter"]
    # a flat program has names of its own for what Keras code calls layers
    code = re.sub(r"\blayers\.(?=[A-Z])", "keras.layers.", program.source)
    source = "\n".join([IMPORTS, helpers, code])
    return {
        "source": source,
        "weights": program.weights,
        "constants": program.constants,
        "inputs": inputs,
        "save": save,
    }


def run_all(backend: str, folder: Path) -> list[tuple[str, Case, Any]]:
    """The cases of every operator, each with what the backend made of it (arrays, or the error)."""
    cases = [(name, i, case) for name in sorted(CASES) for i, case in enumerate(draw_cases(name)[: COUNT[backend]])]
    jobs = [job(*case, save=i < SAVED) for _, i, case in cases]
    (folder / "jobs.pickle").write_bytes(pickle.dumps(jobs))
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    child = subprocess.run(
        [sys.executable, str(WORKER), str(folder)], env=env, capture_output=True, text=True, timeout=900
    )
    assert child.returncode == 0, child.stderr[-4000:]
    results = pickle.loads((folder / "results.pickle").read_bytes())
    return [(name, case, result) for (name, _, case), result in zip(cases, results, strict=True)]


def differences(case: Case, result: Any) -> str:
    """What is wrong with the values of one case, or nothing."""
    graph, inputs = case
    if isinstance(result, str):
        return result
    wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]
    table = graph.run(wide, keep=graph.outputs)
    for outputs in result:
        for value, got in zip(graph.outputs, outputs, strict=True):
            want = table[value]
            if got.shape != want.shape or got.dtype.kind != want.dtype.kind:
                return f"{got.dtype}{got.shape}, not {want.dtype}{want.shape}"
            scale = max(1.0, float(np.abs(want[np.isfinite(want)]).max(initial=0))) if want.dtype.kind == "f" else 0
            if not np.allclose(got, want, rtol=1e-5, atol=1e-5 * scale):
                return f"values differ by {np.abs(got - want).max()}"
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("backend", COUNT)
def test_every_operator_computes_its_definition(backend: str, tmp_path: Path) -> None:
    for package in ("keras", backend):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    wrong = []
    for name, case, result in run_all(backend, tmp_path):
        if found := differences(case, result):
            wrong.append(f"{name}: {case[0].nodes} as {flat(case[0], KERAS).source}{found}")
    assert not wrong, "\n\n".join(wrong)
