"""Networks carried into other forms by the command line: what is written runs elsewhere and computes the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import CommandLine
from instep.runtime import available

NETWORK = """instep: 1
name: small
input: {x: [1, 3, 12, 10]}

structs:
  Block:
    args: {out: int}
    body:
      - conv: {out: out, kernel: 3, padding: same, bias: false}
      - norm = batch_norm
      - relu
      - conv2 = conv: {out: out, kernel: 3, padding: same}
      - add(_, x)

body:
  - stem = conv: {out: 8, kernel: 3, padding: same}
  - for i in range(2):
    - block.{i} = Block: {out: 8}
  - down = conv: {out: 16, kernel: 3, stride: 2, padding: same}
  - gain = param: {shape: [], init: constant(1.5), trained: false}
  - scaled = mul(down, gain)
  - up = pixel_shuffle: {scale: 2}
output: {up: up, gain: gain}
"""

FORMS = {
    "torch": ("net.py", "torch"),
    "torch-program": ("net.pt2", "torch"),
    "keras-file": ("net.keras", "keras-tensorflow"),
    "keras-source": ("net.py", "keras-jax"),
    "jax": ("net.py", "jax"),
    "jax-function": ("net.py", "jax"),
    "text": ("other.yaml", ""),
    "tflite": ("net.tflite", ""),
}


def left(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} - {"__pycache__"}


@pytest.fixture
def line(instep: CommandLine) -> CommandLine:
    (instep.folder / "small.yaml").write_text(NETWORK)
    return instep


@pytest.mark.parametrize("form", FORMS)
def test_port_writes_a_form_and_proves_it(form: str, line: CommandLine) -> None:
    out, engine = FORMS[form]
    if engine and (missing := available(engine)) is not None:
        pytest.skip(missing)
    run = line("port", "small.yaml", "--to", form, "-o", out, *(("--on", engine) if engine else ()), "--json")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["ok"] and said["verdict"] == "in step" and said["source"] == "small.yaml"
    assert said["files"][0] == out and all((line.folder / f).is_file() for f in said["files"])
    assert left(line.folder) == {"small.yaml", *said["files"]}
    if form in ("torch", "keras-file", "keras-source", "jax", "text"):
        assert said["values"] > len(said["files"]), "layers show what they give"


def test_the_suffix_says_the_form_where_it_can(line: CommandLine) -> None:
    run = line("export", "small.yaml", "-o", "small.pt2", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["files"] == ["small.pt2"]
    run = line("export", "small.yaml", "-o", "net.py")
    assert run.returncode == 2 and "--to torch" in run.stderr and "--to jax" in run.stderr
    run = line("export", "small.yaml", "--to", "torch", "-o", "net.tflite")
    assert run.returncode == 2 and ".py" in run.stderr
    assert line("export", "small.yaml", "--to", "onnx", "-o", "net.py").returncode == 2
    assert left(line.folder) == {"small.yaml", "small.pt2"}


def test_a_folder_is_made_and_the_file_is_called_as_the_network(line: CommandLine) -> None:
    run = line("zoo", "export", "elsr", "--to", "torch", "-o", "out", "--input", "1,3,12,10")
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["out/elsr.py", "out/elsr.safetensors"]
    assert left(line.folder / "out") == {"elsr.py", "elsr.safetensors"}


def test_a_keras_file_with_batch_norms_loads_with_keras_alone(line: CommandLine) -> None:
    backend = next((n for n in ("jax", "tensorflow") if available(f"keras-{n}") is None), None)
    if backend is None:
        pytest.skip("Keras is not installed")
    (line.folder / "norm.yaml").write_text(
        "input: {x: [1, 3, 8, 8]}\nbody:\n  - conv: {out: 4, kernel: 3}\n  - bn = batch_norm: {momentum: 0.2}\n"
    )
    run = line("port", "norm.yaml", "-o", "net.keras", "--on", f"keras-{backend}", "--json")
    assert run.returncode == 0, run.stderr
    assert left(line.folder) == {"small.yaml", "norm.yaml", "net.keras"}, "nothing has to lie beside it"
    code = (
        "import keras; m = keras.saving.load_model('net.keras'); bn = m.get_layer('bn'); "
        "print(type(bn) is keras.layers.BatchNormalization, bn.momentum)"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=line.folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.split()[-2:] == ["True", "0.8"], done.stderr[-2000:]


def test_the_code_runs_without_instep(line: CommandLine) -> None:
    assert line("export", "small.yaml", "--to", "torch", "-o", "net.py").returncode == 0
    blocked = "import sys; sys.modules['instep'] = None; import runpy; runpy.run_path('net.py', run_name='__main__')"
    run = subprocess.run([sys.executable, "-c", blocked], cwd=line.folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["torch.Size([1, 4, 12, 10])", "torch.Size([])"]


def test_weights_of_something_else_are_not_overwritten(line: CommandLine) -> None:
    assert line("export", "small.yaml", "-o", "net.yaml").returncode == 0
    weights = (line.folder / "net.safetensors").read_bytes()
    run = line("export", "small.yaml", "--to", "torch", "-o", "net.py", "--seed", "1")
    assert run.returncode == 2 and "net.safetensors" in run.stderr
    assert (line.folder / "net.safetensors").read_bytes() == weights
    assert left(line.folder) == {"small.yaml", "net.yaml", "net.safetensors"}


def test_places_that_cannot_be_written_are_refused_before_any_work(line: CommandLine) -> None:
    for out in ("nowhere/net.py", "nowhere/deep/"):
        run = line("port", "no-such-source.yaml", "--to", "torch", "-o", out)
        assert run.returncode == 2 and "nowhere" in run.stderr, run.stderr
    assert left(line.folder) == {"small.yaml"}


# -- what is out of step ---------------------------------------------------------------------------------------------
def test_verify_finds_the_layer_that_was_changed_in_the_code(line: CommandLine) -> None:
    assert line("export", "small.yaml", "--to", "torch", "-o", "net.py").returncode == 0
    code = (line.folder / "net.py").read_text()
    assert line("verify", "small.yaml", "net.py", "-q").stdout.split() == ["in", "step", "net.py"]
    eps = code.replace("nn.BatchNorm2d(8)", "nn.BatchNorm2d(8, eps=0.01)").replace("eps=0.001", "eps=0.01")
    assert eps != code
    (line.folder / "net.py").write_text(eps)
    run = line("verify", "small.yaml", "net.py", "--json")
    said = json.loads(run.stdout)
    assert run.returncode == 1 and said["verdict"] == "out of step"
    assert said["worst"] and {w["operator"] for w in said["worst"]} >= {"BatchNorm"}


def test_a_port_out_of_step_leaves_nothing_behind(line: CommandLine) -> None:
    """The engine is made to compute something else: its ReLU is none."""
    (line.folder / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'instep.runtime.worker' in ' '.join(sys.orig_argv):\n"
        "    import torch\n"
        "    torch.relu = torch.nn.functional.relu = torch.Tensor.relu = lambda x: x\n"
        "    torch.nn.ReLU.forward = lambda self, x: x\n"
    )

    class Bent(CommandLine):
        def environment(self) -> dict[str, str]:
            found = super().environment()
            return {**found, "PYTHONPATH": f"{self.folder}:{found['PYTHONPATH']}"}

    run = Bent(line.folder)("port", "small.yaml", "--to", "torch", "-o", "net.py", "--json")
    said = json.loads(run.stdout)
    assert run.returncode == 1 and said["verdict"] == "out of step" and said["files"] == []
    culprit = said["culprit"]
    assert culprit["stage"] == "emit" and culprit["scope"] == "block.0.conv2"
    assert "Relu" in culprit["evidence"], "what lies between the last layer in step and the first that is not"
    assert left(line.folder) == {"small.yaml", "sitecustomize.py"}


# -- networks of other people ----------------------------------------------------------------------------------------
THEIRS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x):  # channels last, as they like it
        return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

def load():
    return Net()

def net():
    class Plain(Net):
        def forward(self, x):
            return self.conv(x)
    return Plain()
"""


def test_a_strangers_code_is_judged_by_its_outputs_in_whatever_layout(line: CommandLine) -> None:
    (line.folder / "theirs.py").write_text(THEIRS)
    run = line("verify", "theirs.py:net", "theirs.py", "--input", "1,3,8,9", "--json")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["verdict"] == "in step" and said["engine"] == "torch"
    assert any("found by trying" in note for note in said["notes"])
    (line.folder / "broken.py").write_text(THEIRS.replace("def load", "def lode"))
    run = line("verify", "theirs.py:net", "broken.py", "--input", "1,3,8,9", "--json")
    assert run.returncode == 1 and json.loads(run.stdout)["verdict"] == "refused"
    assert "load()" in json.loads(run.stdout)["said"]


THEIR_KERAS = """
import keras
from keras import layers
x = keras.Input((12, 10, 3), name="picture")
y = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
y = layers.BatchNormalization(name="norm")(y)
y = layers.ReLU(name="act")(y)
y = layers.Flatten(name="flat")(layers.MaxPooling2D(2, name="pool")(y))
model = keras.Model(x, layers.Dense(5, name="head")(y))
model.save("theirs.h5")
"""


def test_a_keras_file_becomes_pytorch_code_with_channels_first(line: CommandLine) -> None:
    if (missing := available("keras-jax")) is not None:
        pytest.skip(missing)
    environment = {**line.environment(), "KERAS_BACKEND": "jax"}
    made = subprocess.run(
        [sys.executable, "-c", THEIR_KERAS], cwd=line.folder, env=environment, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    run = line("port", "theirs.h5", "--to", "torch", "-o", "net.py", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["verdict"] == "in step"
    code = (line.folder / "net.py").read_text()
    # height, width, channels is the order that the dense layer's weights are for: moved once, before it
    assert code.count("permute") == 1 and "nn.Conv2d(3, 8, 3, stride=2" in code
    tail = "import torch, net; print(tuple(net.load()(torch.zeros(1, 3, 12, 10)).shape))"
    run = subprocess.run([sys.executable, "-c", tail], cwd=line.folder, capture_output=True, text=True)
    assert run.stdout.strip() == "(1, 5)", run.stderr


# -- live models -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_network_is_built_alive(framework: str, tmp_path: Path) -> None:
    import numpy as np

    import instep as package

    if (missing := available(framework)) is not None:
        pytest.skip(missing)
    (tmp_path / "small.yaml").write_text(NETWORK)
    captured = package.capture(tmp_path / "small.yaml")
    x = np.random.default_rng(0).standard_normal((1, 3, 12, 10)).astype(np.float32)
    truth = captured.reference.run([x], dtype="float64")[captured.graph.outputs[0].name]
    made: Any = package.build(tmp_path / "small.yaml", framework)
    if framework == "torch":
        import torch

        found = made(torch.from_numpy(x))[0].detach().numpy()
    else:
        found = np.asarray(made(x.transpose(0, 2, 3, 1))[0]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="framework must be one of"):
        package.build(captured.graph, "caffe")


def test_a_network_is_built_alive_in_keras(line: CommandLine) -> None:
    if (missing := available("keras-jax")) is not None:
        pytest.skip(missing)
    code = (
        "import instep, numpy as np\n"
        "captured = instep.capture('small.yaml')\n"
        "x = np.random.default_rng(0).standard_normal((1, 3, 12, 10)).astype(np.float32)\n"
        "truth = captured.reference.run([x], dtype='float64')[captured.graph.outputs[0].name]\n"
        "found = np.asarray(instep.build(captured.graph, 'keras')(x.transpose(0, 2, 3, 1))[0]).transpose(0, 3, 1, 2)\n"
        "np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-4)\n"
    )
    environment = {**line.environment(), "KERAS_BACKEND": "jax"}
    run = subprocess.run([sys.executable, "-c", code], cwd=line.folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
