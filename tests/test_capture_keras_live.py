"""Live Keras models with a call() of their own: followed, they compute what they compute."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
pytest.importorskip("h5py", reason="reading Keras' weights needs h5py")
PACKAGES = {"tensorflow": ("keras", "tensorflow"), "jax": ("keras", "jax"), "keras2": ("tf_keras", "tensorflow")}


@pytest.fixture(scope="module", params=PACKAGES)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a child process with this Keras found."""
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
        [sys.executable, str(HERE / "keras_live_cases.py"), str(folder), kind], env=environment, capture_output=True,
        text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return {"kind": kind, **json.loads((folder / "found.json").read_text())}


def test_what_is_followed_computes_what_the_model_computes(found: dict[str, Any]) -> None:
    for name in ("net", "pair", "several", "lambdas", "functional", "recurrent"):
        assert found[name]["far"] and max(found[name]["far"]) < 1e-5, name


def test_layers_are_called_by_the_paths_that_lead_to_them(found: dict[str, Any]) -> None:
    net = found["net"]
    assert {"stem", "blocks.1.conv", "blocks.0.norm", "blocks.1.mix.add", "head.dense"} <= set(net["scopes"])
    assert net["weights"]["blocks.1.mix.gain"] == [6] and "each.layer.turns.1" in net["weights"]
    assert net["outputs"] == ["map", "scores"]
    assert found["pair"]["inputs"] == ["x", "words"] and found["functional"]["inputs"] == ["i"]


def test_layers_that_are_called_twice_share_their_weights(found: dict[str, Any]) -> None:
    net = found["net"]
    assert net["scopes"].count("blocks.0.conv") == 2
    assert [n for n in net["weights"] if n.startswith("blocks.0.conv")] == [
        "blocks.0.conv.weight",
        "blocks.0.conv.bias",
    ]
    assert sum(n.startswith("blocks.0.mix.") for n in net["weights"]) == 3


def test_arrays_that_are_not_trained_are_kept_as_such(found: dict[str, Any]) -> None:
    assert "blocks.0.mix.turns.1" in found["net"]["buffers"]
    assert "blocks.0.mix.turns.0" not in found["net"]["buffers"]


def test_the_model_of_the_user_is_left_as_it_was(found: dict[str, Any]) -> None:
    assert not any("." in name or name == "stem" for name in found["net"]["layers"])


def test_the_model_itself_is_asked_in_the_proof(found: dict[str, Any]) -> None:
    verdict, notes = found["proof"]
    assert verdict == "in step" and any("itself computes what was captured" in n for n in notes)


def test_what_cannot_be_followed_is_told_with_its_layer_and_line(found: dict[str, Any]) -> None:
    said = found["said"]
    assert "Deciding 'gate'" in said["deciding"] and "keras_live_cases.py:" in said["deciding"]
    assert "float(np.asarray(x).sum())" in said["deciding"]
    assert "--input" in said["unbuilt"] and "Sequential" in said["layer"]
    if "foreign" in said:
        assert "keras.ops" in said["foreign"] and "exp(x)" in said["foreign"]
