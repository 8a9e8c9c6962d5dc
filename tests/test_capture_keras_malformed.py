"""Files of Keras that are damaged, or made to do harm: an error that says what and where, and nothing else happens."""

from __future__ import annotations

import copy
import importlib
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import instep
from instep.capture import CaptureError, capture

h5py = pytest.importorskip("h5py", reason="reading Keras' weights needs h5py")


def dense(name: str, units: int, reads: str) -> dict[str, Any]:
    return {
        "class_name": "Dense", "module": "keras.layers", "registered_name": None, "name": name,
        "config": {"name": name, "trainable": True, "dtype": "float32", "units": units, "activation": "relu"},
        "inbound_nodes": [{"args": [tensor(reads)], "kwargs": {}}],
    }  # fmt: skip


def tensor(name: str) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"shape": [None, 4], "keras_history": [name, 0, 0]}}


def model() -> dict[str, Any]:
    """A conv, a norm and a dense layer, as Keras 3 writes them."""
    shared = {"trainable": True, "dtype": "float32"}
    layers = [
        {"class_name": "InputLayer", "module": "keras.layers", "registered_name": None, "name": "x",
         "config": {"batch_shape": [None, 6, 6, 3], "dtype": "float32", "name": "x"}, "inbound_nodes": []},
        {"class_name": "Conv2D", "module": "keras.layers", "registered_name": None, "name": "conv",
         "config": {"name": "conv", **shared, "filters": 4, "kernel_size": [3, 3], "strides": [2, 2], "padding": "same",
                    "data_format": "channels_last", "dilation_rate": [1, 1], "groups": 1, "activation": "linear",
                    "use_bias": True},
         "inbound_nodes": [{"args": [tensor("x")], "kwargs": {}}]},
        {"class_name": "BatchNormalization", "module": "keras.layers", "registered_name": None, "name": "norm",
         "config": {"name": "norm", **shared, "axis": -1, "momentum": 0.99, "epsilon": 0.001},
         "inbound_nodes": [{"args": [tensor("conv")], "kwargs": {"mask": None}}]},
        {"class_name": "Flatten", "module": "keras.layers", "registered_name": None, "name": "flat",
         "config": {"name": "flat", **shared, "data_format": "channels_last"},
         "inbound_nodes": [{"args": [tensor("norm")], "kwargs": {}}]},
        dense("out", 5, "flat"),
    ]  # fmt: skip
    return {
        "class_name": "Functional", "module": "keras", "registered_name": None,
        "config": {"name": "net", "trainable": True, "layers": layers, "input_layers": [["x", 0, 0]],
                   "output_layers": [["out", 0, 0]]},
    }  # fmt: skip


SHAPES = {
    "layers/conv2d/vars/0": (3, 3, 3, 4), "layers/conv2d/vars/1": (4,),
    **{f"layers/batch_normalization/vars/{i}": (4,) for i in range(4)},
    "layers/dense/vars/0": (36, 5), "layers/dense/vars/1": (5,),
}  # fmt: skip


def weights(**changed: Any) -> bytes:
    """model.weights.h5; ``changed`` replaces what a dataset is made with."""
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    with h5py.File(buffer, "w") as file:
        for name, shape in SHAPES.items():
            given = changed.get(name.replace("/", "_"))
            if given is not None:
                given(file, name)
            else:
                file[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return buffer.getvalue()


def archive(path: Path, config: Any, content: bytes | None = None, how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as packed:
        packed.writestr("metadata.json", '{"keras_version": "3.8.0"}')
        packed.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        packed.writestr("model.weights.h5", weights() if content is None else content)
    return path


def said(path: Path, **options: Any) -> str:
    with pytest.raises(CaptureError) as caught:
        capture(str(path), **options)
    return str(caught.value)


def test_the_model_itself_is_captured(tmp_path: Path) -> None:
    captured = capture(str(archive(tmp_path / "net.keras", model())))
    assert [v.shape for v in captured.graph.outputs] == [(1, 5)]


def test_without_keras_the_proof_says_what_it_rests_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Any) -> str:
        raise ValueError("keras-tensorflow needs keras: pip install keras")

    monkeypatch.setattr(importlib.import_module("instep.verify.origin"), "engine_for", missing)
    result = instep.convert(archive(tmp_path / "net.keras", model()), tmp_path / "net.tflite")
    assert result.verdict is not None and result.verdict.verdict == "in step"
    assert any("itself was not run" in n and "pip install keras" in n for n in result.verdict.notes)


def test_a_lambda_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    config = model()
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAAAAAAAAEAAAADAAAA8wYAAAB", "defaults": None}}
    fields = {"name": "flat", "trainable": True, "function": code}
    config["config"]["layers"][3] |= {"class_name": "Lambda", "config": fields}
    message = said(archive(tmp_path / "net.keras", config))
    assert "Lambda 'flat'" in message and "never runs" in message


def test_classes_that_are_not_keras_own_are_refused_by_name(tmp_path: Path) -> None:
    config = model()
    config["config"]["layers"][3] |= {"class_name": "Swizzle", "module": "mylib", "registered_name": "mylib>Swizzle"}
    message = said(archive(tmp_path / "net.keras", config))
    assert "mylib>Swizzle" in message and "'flat'" in message


def test_a_model_with_a_call_of_its_own_is_refused(tmp_path: Path) -> None:
    config = {"class_name": "MyNet", "module": "mylib", "registered_name": "mylib>MyNet", "config": {"width": 3}}
    assert "call() of its own" in said(archive(tmp_path / "net.keras", config))


def test_an_activation_that_is_not_keras_own_is_refused(tmp_path: Path) -> None:
    config = model()
    config["config"]["layers"][1]["config"]["activation"] = "my_act"
    message = said(archive(tmp_path / "net.keras", config))
    assert "my_act" in message and "'conv'" in message


def test_a_weight_of_another_shape_is_named(tmp_path: Path) -> None:
    config = model()
    config["config"]["layers"][1]["config"]["filters"] = 8
    message = said(archive(tmp_path / "net.keras", config))
    assert "Conv2D 'conv'" in message and "[3, 3, 3, 8]" in message


def test_sizes_beyond_all_bounds_allocate_nothing(tmp_path: Path) -> None:
    config = model()
    config["config"]["layers"][4]["config"]["units"] = 1 << 40
    assert "'out'" in said(archive(tmp_path / "net.keras", config))
    config = model()
    config["config"]["layers"][3] |= {
        "class_name": "RepeatVector",
        "config": {"name": "flat", "trainable": True, "n": 1 << 30},
    }
    assert "flat" in said(archive(tmp_path / "net.keras", config))


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "net.keras", model(), b"\0" * (1 << 28), zipfile.ZIP_DEFLATED)
    assert "zip bomb" in said(path)


def test_a_dataset_that_claims_more_than_is_stored_is_not_read(tmp_path: Path) -> None:
    config = model()
    config["config"]["layers"][4]["config"]["units"] = 1 << 24

    def empty(file: Any, name: str) -> None:
        file.create_dataset(name, (36, 1 << 24), "f4", chunks=(36, 1 << 10))

    message = said(archive(tmp_path / "net.keras", config, weights(layers_dense_vars_0=empty)))
    assert "claims" in message and "layers/dense/vars/0" in message


def test_other_files_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(4, np.float32).tobytes())

    def external(file: Any, name: str) -> None:
        file.create_dataset(name, (4,), "f4", external=[(str(secret), 0, 16)])

    def linked(file: Any, name: str) -> None:
        file[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")

    for made, word in ((external, "other files"), (linked, "link")):
        path = archive(tmp_path / "net.keras", model(), weights(layers_conv2d_vars_1=made))
        assert word in said(path)


def test_a_file_of_weights_alone_says_so(tmp_path: Path) -> None:
    path = tmp_path / "net.weights.h5"
    path.write_bytes(weights())
    message = said(path)
    assert "--weights" in message
    captured = capture(str(archive(tmp_path / "net.keras", model())), weights=str(path))
    assert captured.notes == ["weights from net.weights.h5"]


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_bytes_that_are_neither_form_say_so(name: str, tmp_path: Path) -> None:
    for content in (b"", np.random.default_rng(0).bytes(4000)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CaptureError, match=rf"{name} is neither a zip archive \(\.keras\) nor HDF5"):
            capture(tmp_path / name)


def test_a_missing_file_a_folder_and_a_saved_model(tmp_path: Path) -> None:
    assert "no file" in said(tmp_path / "none.keras")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    assert "SavedModel" in said(tmp_path / "saved")


def test_open_sizes_ask_for_an_input(tmp_path: Path) -> None:
    config = model()
    config["config"]["layers"][0]["config"]["batch_shape"] = [None, None, None, 3]
    path = archive(tmp_path / "net.keras", config)
    assert "--input" in said(path)
    assert capture(str(path), inputs=[[2, 6, 6, 3]]).graph.outputs[0].shape == (2, 5)


def test_a_layer_that_reads_itself_or_what_is_never_made(tmp_path: Path) -> None:
    for name, word in (("flat", "its own result"), ("ghost", "never made")):
        config = model()
        config["config"]["layers"][2]["inbound_nodes"] = [{"args": [tensor(name)], "kwargs": {}}]
        assert word in said(archive(tmp_path / "net.keras", config))


JUNK = (None, -1, 0, 1 << 62, 1e308, float("nan"), "", "x", [], {}, [[]], {"class_name": "Conv2D"}, True, [None] * 5,
        "same", [1, 2, 3], "relu")  # fmt: skip


def _mutated(config: Any, rng: random.Random) -> Any:
    """``config`` with one or two places replaced, dropped or doubled."""
    config = copy.deepcopy(config)
    for _ in range(rng.randint(1, 2)):
        place = config
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
                place = place[key]
                continue
            if isinstance(place, dict) and rng.random() < 0.3:
                del place[key]
            elif isinstance(place, list) and rng.random() < 0.2:
                place.append(copy.deepcopy(place[key]))
            else:
                place[key] = copy.deepcopy(rng.choice(JUNK))
            break
    return config


@pytest.mark.parametrize("seed", range(8))
def test_mutated_configs_are_captured_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    content = weights()
    refused = 0
    for _ in range(60):
        path = archive(tmp_path / "net.keras", json.dumps(_mutated(model(), rng)), content)
        try:
            capture(str(path))
        except CaptureError as error:
            refused += 1
            assert str(error).strip()
    assert refused > 10


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_are_captured_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    whole = archive(tmp_path / "whole.keras", model()).read_bytes()
    bare = weights()
    for turn in range(40):
        data = bytearray(whole if turn % 2 else bare)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = data[: rng.randrange(len(data))] if turn % 5 == 0 else data
        path = tmp_path / "net.keras"
        if turn % 2:
            path.write_bytes(data)
        else:
            archive(path, model(), bytes(data))
        try:
            capture(str(path))
        except CaptureError as error:
            assert str(error).strip()
