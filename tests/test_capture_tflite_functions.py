"""What Google's converter makes of TensorFlow functions is read as LiteRT runs it; layers keep their names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instep.api import port
from instep.capture import CaptureError, capture
from instep.graph.validate import validate
from instep.runtime import run

FUNCTIONS = (
    "scatter_twice", "scatter_computed", "scatter_computed_pairs", "update_computed", "add_twice", "confusion",
    "set_diagonal", "xor", "shift", "spectrum_squared", "indexed", "gathered", "kept",
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("functions")
    cases = Path(__file__).with_name("tflite_function_cases.py")
    made = subprocess.run([sys.executable, str(cases), str(folder)], env=os.environ, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    return folder


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_read_as_litert_runs_it(files: Path, name: str) -> None:
    file = files / f"{name}.tflite"
    captured = capture(str(file))
    validate(captured.graph, stage="captured")
    rng = np.random.default_rng(1)
    for scale in (1.0, 3.0):
        inputs = [(scale * rng.standard_normal(v.shape)).astype(np.float32) for v in captured.graph.inputs]
        result = run(file, inputs, engine="builtin")
        assert not result.failed, result.message
        table = captured.reference.run(inputs, dtype="float64")
        for value, array in zip(captured.graph.outputs, result.outputs, strict=True):
            assert array.shape == value.shape
            np.testing.assert_allclose(array, table[value.name], atol=1e-5 * max(1.0, abs(array).max()))


def test_sizes_that_the_numbers_decide_are_refused(files: Path) -> None:
    with pytest.raises(CaptureError, match="depends on the numbers; end the network before it"):
        capture(str(files / "found.tflite"))


def test_layers_are_called_as_in_the_network_that_was_converted(files: Path) -> None:
    scopes = [n.scope for n in capture(str(files / "unet.tflite")).graph.nodes]
    layers = [s for s in dict.fromkeys(scopes) if s in ("down", "middle", "up", "mixed", "head")]
    assert layers == ["down", "middle", "up", "mixed", "head"]
    assert not any("functional" in s or ";" in s or "/" in s for s in scopes)
    inner = {n.scope for n in capture(str(files / "recurrent.tflite")).graph.nodes}
    assert {"first.matmul", "second.matmul", "head"} <= {s.rstrip("_1") for s in inner}
    assert not any("while" in s for s in inner)


@pytest.mark.parametrize(("name", "said"), [("unet", "self.middle = nn.Conv2d(4, 6"), ("recurrent", "self.second(x)")])
def test_exported_code_has_the_layers_names(files: Path, name: str, said: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "net.py"
    assert port(str(files / f"{name}.tflite"), out, to="torch").ok
    text = out.read_text()
    assert said in text and "functional_" not in text and max(map(len, text.splitlines())) <= 120
