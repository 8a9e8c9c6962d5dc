"""A fault planted into one layer of a network of one framework is found against the network of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import instep
from conftest import CommandLine
from instep.runtime import available, tflite_info

NETWORK = """instep: 1
name: small
input: {x: [1, 3, 12, 10]}

body:
  - stem = conv: {out: 8, kernel: 3, padding: same}
  - relu
  - for i in range(3):
    - block.{i} = conv: {out: 8, kernel: 3, padding: same}
    - tanh
  - up = conv: {out: 12, kernel: 1}
  - pixel_shuffle: {scale: 2}
"""

#: The layer that is spoiled, as every framework has it.
GUILTY = "block.1"


def spoilt(folder: Path, weights: str) -> None:
    """One weight of the layer in a .safetensors file is off; what the file says of itself stays."""
    from instep.runtime.modules import module_facts, stamp

    path = folder / weights
    arrays = load_file(path)
    (name,) = [n for n in arrays if n.startswith(GUILTY) and arrays[n].ndim == 4]
    changed = arrays[name].copy()
    changed.flat[changed.size // 2] += 0.2
    facts = module_facts(path.with_suffix(".py"))
    save_file(arrays | {name: changed}, path)
    if facts:
        stamp(path, facts)


@pytest.fixture
def line(tmp_path: Path) -> CommandLine:
    (tmp_path / "small.yaml").write_text(NETWORK)
    return CommandLine(tmp_path)


def exported(line: CommandLine, source: str, out: str, to: str = "") -> None:
    """What ``instep export`` writes, without a process for it."""
    instep.export(str(line.folder / source), line.folder / out, to=to)


def found(line: CommandLine, *arguments: str) -> dict[str, Any]:
    run = line("bisect", *arguments, "-o", "fault", "--json")
    assert run.returncode == 1, run.stderr
    said = json.loads(run.stdout)
    assert said["verdict"] == "out of step" and said["operators"] == ["CONV_2D"], said
    folder = line.folder / "fault"
    assert [op.name for op in tflite_info(folder / "minimal.tflite").ops] == ["CONV_2D"]
    expected, actual = (np.load(next((folder / n).glob("*.npy"))) for n in ("expected", "actual"))
    assert expected.shape == actual.shape and np.abs(expected - actual).max() > 1e-3
    return said


def guilty(said: dict[str, Any], readme: str) -> bool:
    """Is it the third convolution: behind the stem and one block, before the last block?"""
    return GUILTY in "".join(said["tensors"]) or GUILTY in readme


def test_text_against_code_of_pytorch(line: CommandLine) -> None:
    exported(line, "small.yaml", "net.py", to="torch")
    spoilt(line.folder, "net.safetensors")
    said = found(line, "small.yaml", "net.py")
    assert said["file"] == "net.py, converted by Instep"
    assert guilty(said, (line.folder / "fault" / "README.md").read_text())


def test_text_against_a_tflite_file_on_xnnpack(line: CommandLine) -> None:
    """The file is made from a text with other weights in one layer."""
    exported(line, "small.yaml", "other.yaml")
    spoilt(line.folder, "other.safetensors")
    exported(line, "other.yaml", "net.tflite")
    said = found(line, "small.yaml", "net.tflite", "--on", "litert-cpu")
    assert said["engine"] == "xnnpack"
    assert guilty(said, (line.folder / "fault" / "README.md").read_text())


@pytest.mark.skipif(available("keras-tensorflow") is not None, reason=f"{available('keras-tensorflow')}")
def test_a_keras_file_against_code_of_pytorch(line: CommandLine) -> None:
    """Keras keeps its pictures with the channels last, PyTorch first: inputs are moved."""
    exported(line, "small.yaml", "net.keras")
    exported(line, "small.yaml", "torch_net.py", to="torch")
    spoilt(line.folder, "torch_net.safetensors")
    said = found(line, "net.keras", "torch_net.py")
    assert said["trusted"] == "net.keras in float64"
    assert guilty(said, (line.folder / "fault" / "README.md").read_text())


def test_what_cannot_stand_trial_says_what_to_do(line: CommandLine) -> None:
    (line.folder / "net.py").write_text("def load():\n    return 3\n")
    run = line("bisect", "small.yaml", "net.py", "-o", "fault")
    assert run.returncode == 2 and "a torch.nn.Module or a keras.Model" in run.stderr
    run = line("bisect", "small.yaml", "small.yaml", "--on", "keras-jax", "-o", "fault")
    assert run.returncode == 2 and "verify A B --on keras-jax" in run.stderr
    assert not (line.folder / "fault").exists()
