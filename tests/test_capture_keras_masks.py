"""Masks of Keras (Embedding with mask_zero, Masking, mask=…): padded steps are what Keras makes of them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instep.capture import capture

HERE = Path(__file__).parent
pytest.importorskip("h5py", reason="reading Keras' weights needs h5py")
PACKAGES = {"tensorflow": ("keras", "tensorflow"), "jax": ("keras", "jax"), "keras2": ("tf_keras", "tensorflow")}


@pytest.fixture(scope="module", params=PACKAGES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a child process with this Keras built and saved."""
    kind = request.param
    for package in PACKAGES[kind]:
        if not importlib.util.find_spec(package):
            pytest.skip(f"{package} is not installed here")
    folder = tmp_path_factory.mktemp(kind)
    environment = {
        **os.environ, "KERAS_BACKEND": "jax" if kind == "jax" else "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(HERE / "keras_mask_cases.py"), str(folder), kind], env=environment, capture_output=True,
        text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["recurrent", "passed", "twofold", "attention", "films", "nested", "row"])
def test_masked_steps_are_what_keras_makes_of_them(folder: Path, name: str, suffix: str) -> None:
    with np.load(folder / f"{name}.npz") as kept:
        inputs = [kept[f"in{i}"] for i in range(sum(k.startswith("in") for k in kept))]
        outputs = [kept[f"out{i}"] for i in range(sum(k.startswith("out") for k in kept))]
    graph = capture(folder / f"{name}{suffix}", inputs=[list(a.shape) for a in inputs]).graph
    table = graph.run([a.astype(np.float64) if a.dtype.kind == "f" else a for a in inputs], keep=[])
    for i, (value, want) in enumerate(zip(graph.outputs, outputs, strict=True)):
        assert table[value].shape == want.shape, (i, value.name)
        assert np.abs(table[value] - want).max() <= 1e-5 * (1e-3 + np.abs(want).max()), (i, value.name)
