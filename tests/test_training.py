"""One step of gradient descent leaves the same weights in every framework: the benchmark of it, on small networks."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: A dense network, batch norms with residuals, a network of super-resolution with channels first.
NETWORKS = ("mnist_mlp", "svhn_wrn164", "abpn")
FRAMEWORKS = {"torch": "torch", "keras-tensorflow": "tensorflow", "keras-jax": "keras", "flax": "flax"}


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, object]]]:
    there = [f for f, module in FRAMEWORKS.items() if importlib.util.find_spec(module)]
    out = tmp_path_factory.mktemp("training") / "steps.json"
    command = [sys.executable, "-m", "benchmarks.training", "--only", ",".join(NETWORKS), "--json", str(out)]
    done = subprocess.run(
        [*command, "--batch", "2", "--frameworks", ",".join(there)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.is_file(), done.stderr[-3000:]
    return json.loads(out.read_text())["results"]


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_leaves_the_same_weights_in_every_framework(
    steps: dict[str, dict[str, dict[str, object]]], network: str, framework: str
) -> None:
    if framework not in steps[network]:
        pytest.skip(f"{FRAMEWORKS[framework]} is not installed")
    found = steps[network][framework]
    assert found.get("class") == "in step", found
    assert found["moved"] == found["weights"], "a weight or running statistic stayed as it was"
