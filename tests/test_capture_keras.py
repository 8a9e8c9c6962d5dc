"""Keras networks as captured compute what Keras computes: every layer with attributes of many kinds, whole networks."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import instep
from instep.capture import Captured, CaptureError, capture
from instep.graph.text import parse, save
from instep.graph.validate import validate
from keras_case_names import APPLICATIONS, ARCHIVES_ALONE, CASES

HERE = Path(__file__).parent
BACKEND = next((n for n in ("tensorflow", "jax") if importlib.util.find_spec(n)), "")
pytest.importorskip("h5py", reason="reading Keras' weights needs h5py")


def saved(folder: Path, script: str, *names: str) -> Path:
    """What a child process with Keras built and saved."""
    environment = {**os.environ, "KERAS_BACKEND": BACKEND, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(HERE / script), str(folder), *names], env=environment, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not importlib.util.find_spec("keras") or not BACKEND:
        pytest.skip("Keras with TensorFlow or JAX is not installed here")
    return saved(tmp_path_factory.mktemp("keras"), "keras_cases.py")


@pytest.fixture(scope="module")
def old_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not importlib.util.find_spec("tf_keras") or not importlib.util.find_spec("tensorflow"):
        pytest.skip("Keras 2 (tf_keras) is not installed here")
    return saved(tmp_path_factory.mktemp("keras2"), "keras2_cases.py")


def compare(folder: Path, name: str, suffix: str) -> Captured:
    """Capture a saved case and hold it against the outputs that Keras gave."""
    with np.load(folder / f"{name}.npz") as kept:
        inputs = [kept[f"in{i}"] for i in range(sum(k.startswith("in") for k in kept))]
        outputs = [kept[f"out{i}"] for i in range(sum(k.startswith("out") for k in kept))]
    captured = capture(folder / f"{name}{suffix}", inputs=[list(a.shape) for a in inputs])
    validate(captured.graph, stage="captured")
    given = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in inputs]
    table = captured.graph.run(given, keep=[])
    assert len(captured.graph.outputs) == len(outputs)
    for value, want in zip(captured.graph.outputs, outputs, strict=True):
        got = table[value]
        assert got.shape == want.shape, value
        assert np.abs(got - want).max() <= 1e-5 * (1e-3 + np.abs(want).max()), value
    return captured


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", CASES)
def test_layers_compute_what_keras_computes(cases: Path, name: str, suffix: str) -> None:
    if suffix == ".h5" and name in ARCHIVES_ALONE:
        pytest.skip("Keras writes no such .h5 file")
    compare(cases, name, suffix)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["layers", "functions", "states"])
def test_keras_2_files_compute_what_keras_2_computes(old_cases: Path, name: str, suffix: str) -> None:
    compare(old_cases, name, suffix)


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_networks_of_keras_applications(tmp_path: Path, name: str) -> None:
    if not importlib.util.find_spec("keras") or not BACKEND:
        pytest.skip("Keras with TensorFlow or JAX is not installed here")
    saved(tmp_path, "keras_cases.py", name)
    captured = compare(tmp_path, name, ".keras")
    compare(tmp_path, name, ".h5")
    assert sum(a.size for a in captured.graph.weights.values()) > 1_000_000


def test_weights_have_the_names_and_arrangement_of_the_graph(cases: Path) -> None:
    graph = capture(cases / "sequential.keras").graph
    shapes = {v.name: v.shape for v in graph.weights}
    assert shapes == {
        "conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "head.weight": (10, 196), "head.bias": (10,),
    }  # fmt: skip
    assert [n.scope for n in graph.nodes if n.op.name == "Conv2d"] == ["conv"]
    assert {n.origin for n in graph.nodes} == {"sequential.keras"}


@pytest.mark.parametrize("name", ["recurrent", "attention", "shapes", "functions", "norms"])
def test_what_keras_trains_is_what_exported_code_trains(cases: Path, name: str) -> None:
    """The zeros that a recurrent layer starts from, masks and numbers of the config are no parameters."""
    pytest.importorskip("torch")
    with np.load(cases / f"{name}.npz") as kept:
        wanted = int(kept["trained"])
    held = instep.build(cases / f"{name}.keras", "torch").parameters()
    assert sum(p.numel() for p in held if p.requires_grad) == wanted


def test_statistics_that_a_layer_keeps_are_no_parameters(cases: Path, tmp_path: Path) -> None:
    graph = capture(cases / "norms.keras").graph
    kept = graph.meta["buffers"]
    assert [n.rpartition(".")[2] for n in kept] == ["mean", "deviation"]
    save(graph, tmp_path / "net.yaml")
    assert parse(tmp_path / "net.yaml").meta["buffers"] == kept


def test_a_shared_layer_is_read_once(cases: Path) -> None:
    graph = capture(cases / "nested.keras").graph
    used = [n.inputs[1] for n in graph.nodes if n.op.name == "Conv2d" and n.scope.endswith("shared")]
    assert len(used) == 2 and used[0] is used[1]


def test_a_captured_network_is_a_text_and_comes_back(cases: Path, tmp_path: Path) -> None:
    graph = capture(cases / "nested.keras").graph
    save(graph, tmp_path / "net.yaml")
    again = parse(tmp_path / "net.yaml")
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape)
    mine, theirs = (list(g.run([x], keep=[]).values()) for g in (graph, again))
    assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_keras_file_converts_under_proof_and_keras_itself_is_asked(cases: Path, tmp_path: Path) -> None:
    result = instep.convert(cases / "sequential.keras", tmp_path / "net.tflite")
    assert result.verdict is not None and result.verdict.verdict == "in step"
    assert any("sequential.keras itself computes what was captured" in n for n in result.verdict.notes)


def test_a_network_in_half_precision_is_held_to_its_own_rounding(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    layers, half = keras.layers, "mixed_float16"
    inputs = keras.Input((12, 12, 3))
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu", dtype=half)(inputs))
    keras.Model(inputs, layers.Dense(3, dtype="float32")(x)).save(tmp_path / "half.keras")
    verdict = instep.convert(tmp_path / "half.keras", tmp_path / "net.tflite").verdict
    assert verdict is not None and verdict.verdict == "in step"
    assert any("half.keras itself computes what was captured" in n for n in verdict.notes)


LIVE = """
import json, sys
import keras
from instep.capture import CaptureError, capture
from instep.verbs.convert import convert
class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = keras.layers.Conv2D(3, 3)
    def call(self, x):
        return self.conv(x)
net = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()])
found = capture(net)
said = []
for bad in (Own(), keras.layers.Dense(3)):
    try:
        capture(bad)
    except CaptureError as error:
        said.append(str(error))
done = convert(net, sys.argv[1])
print(json.dumps([[list(v.shape) for v in found.graph.outputs], said, done.verdict.verdict, done.verdict.notes]))
"""


@pytest.mark.slow
def test_live_models(cases: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": BACKEND, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", LIVE, str(tmp_path / "net.tflite")], env=environment, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    shapes, said, verdict, notes = json.loads(done.stdout.splitlines()[-1])
    assert shapes == [[1, 144]] and verdict == "in step"
    assert len(said) == 2 and "call() of its own" in said[0] and "Sequential" in said[1]
    assert any("itself computes what was captured" in n for n in notes)


@pytest.mark.parametrize("name", ["nested.keras", "nested.h5"])
def test_no_file_stays_open(cases: Path, name: str) -> None:
    """HDF5 does not survive the end of the interpreter with files open."""
    h5f = pytest.importorskip("h5py").h5f
    kinds = h5f.OBJ_FILE | h5f.OBJ_GROUP | h5f.OBJ_DATASET
    gc.collect()
    before = h5f.get_obj_count(h5f.OBJ_ALL, kinds)
    captured = capture(cases / name)
    assert len(captured.graph.nodes) > 0 and h5f.get_obj_count(h5f.OBJ_ALL, kinds) == before
    with pytest.raises(CaptureError, match="inputs"):
        capture(cases / name, inputs=[[1, 2], [3, 4]])
    assert h5f.get_obj_count(h5f.OBJ_ALL, kinds) == before


def test_reading_imports_no_framework(cases: Path) -> None:
    code = (
        f"import sys; from instep.capture import capture; capture({str(cases / 'sequential.keras')!r}); "
        "print([m for m in ('keras', 'tensorflow', 'jax', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- files of the first Keras 2, written by hand ---------------------------------------------------------------------
def legacy(
    path: Path, layers: list[dict[str, Any]], arrays: dict[str, dict[str, np.ndarray]], outputs: list[Any]
) -> Path:
    h5py = pytest.importorskip("h5py")
    config = {"name": "net", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": outputs}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.2.4"
        file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": config}).encode()
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [n.encode() for n in arrays]
        for name, own in arrays.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [k.encode() for k in own]
            for key, array in own.items():
                group[key] = array
    return path


def entry(kind: str, name: str, reads: list[Any], **config: Any) -> dict[str, Any]:
    nodes = [[[r, 0, 0, {}] for r in reads]] if reads else []
    config = {"name": name, "trainable": True, **config}
    return {"class_name": kind, "name": name, "config": config, "inbound_nodes": nodes}


def test_an_h5_file_of_the_first_keras_2(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel, bias = rng.standard_normal((1, 1, 3, 4)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    vectors = rng.uniform(0.5, 1.5, (4, 4)).astype(np.float32)
    layers = [
        entry("InputLayer", "x", [], batch_input_shape=[None, 4, 4, 3], dtype="float32", sparse=False),
        entry("Conv2D", "stem/conv", ["x"], filters=4, kernel_size=[1, 1], strides=[1, 1], padding="same",
              data_format="channels_last", dilation_rate=[1, 1], activation="linear", use_bias=True),
        entry("BatchNormalization", "bn", ["stem/conv"], axis=-1, momentum=0.9, epsilon=0.001, center=True, scale=True),
        entry("LeakyReLU", "act", ["bn"], alpha=0.1),
        entry("Activation", "gate", ["bn"], activation="hard_sigmoid"),
        entry("Multiply", "mul", ["act", "gate"]),
    ]  # fmt: skip
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    arrays = {
        "x": {}, "stem/conv": {"stem/conv_1/kernel:0": kernel, "stem/conv_1/bias:0": bias},
        "bn": {f"bn_1/{n}:0": v for n, v in zip(names, vectors, strict=True)},
    }  # fmt: skip
    captured = capture(legacy(tmp_path / "net.h5", layers, arrays, [["mul", 0, 0]]))
    x = rng.standard_normal((1, 4, 4, 3))
    got = captured.graph.run([x], keep=[])[captured.graph.outputs[0]]
    y = (x @ kernel[0, 0] + bias - vectors[2]) / np.sqrt(vectors[3] + 0.001) * vectors[0] + vectors[1]
    want = np.where(y > 0, y, 0.1 * y) * np.clip(0.2 * y + 0.5, 0, 1)
    assert np.abs(got - want).max() < 1e-6
    assert "stem.conv.weight" in {v.name for v in captured.graph.weights}
    norm = next(n.op for n in captured.graph.nodes if n.op.name == "BatchNorm")
    assert norm.momentum == pytest.approx(0.1)


def test_training_true_of_keras_2_is_refused(tmp_path: Path) -> None:
    layers = [entry("InputLayer", "x", [], batch_input_shape=[None, 4], dtype="float32"),
              entry("Dropout", "drop", ["x"], rate=0.5)]  # fmt: skip
    layers[1]["inbound_nodes"] = [[["x", 0, 0, {"training": True}]]]
    with pytest.raises(CaptureError, match=r"Dropout 'drop'.*training=True"):
        capture(legacy(tmp_path / "net.h5", layers, {}, [["drop", 0, 0]]))


def test_resnet8_of_mlperf_tiny_computes_what_its_shipped_file_computes(data: Path) -> None:
    folder = data / "checkpoints" / "mlperf_tiny"
    if not folder.is_dir():
        pytest.skip("checkpoints/mlperf_tiny is not among the optional data")
    mine, shipped = (capture(folder / f"pretrainedResnet{s}").graph for s in (".h5", ".tflite"))
    for seed in range(4):
        x = np.random.default_rng(seed).integers(0, 256, (1, 32, 32, 3)).astype(np.float64)
        a, b = (g.run([x], keep=[])[g.outputs[0]] for g in (mine, shipped))
        assert np.abs(a - b).max() < 1e-4


def test_resnet8_converts_under_proof_and_answers_as_its_shipped_file(data: Path, tmp_path: Path) -> None:
    """On 200 of CIFAR-10's test pictures; ``benchmarks/cifar.py`` takes all of them, and every form."""
    import io

    from PIL import Image

    from instep.runtime import Job, run_jobs

    folder, packed = data / "checkpoints" / "mlperf_tiny", data / "cifar10_test_jpeg.npz"
    if not folder.is_dir() or not packed.is_file():
        pytest.skip("checkpoints/mlperf_tiny and cifar10_test_jpeg.npz are not among the optional data")
    result = instep.convert(folder / "pretrainedResnet.h5", tmp_path / "net.tflite")
    assert result.verdict is not None and result.verdict.verdict == "in step"
    with np.load(packed) as kept:
        raw, offsets, labels = kept["data"], kept["offsets"], kept["labels"][:200]
    shown = [np.asarray(Image.open(io.BytesIO(raw[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB"))
             for i in range(200)]  # fmt: skip
    sets = [[p[None].astype(np.float32)] for p in shown]
    files = (tmp_path / "net.tflite", folder / "pretrainedResnet.tflite")
    mine, theirs = (np.concatenate([r.outputs[0] for r in found]) for found in run_jobs([Job(f, sets) for f in files]))
    assert np.array_equal(mine.argmax(1), theirs.argmax(1)) and np.abs(mine - theirs).max() < 1e-4
    assert (mine.argmax(1) == labels).mean() > 0.7


def test_a_text_takes_the_weights_of_an_h5_file(data: Path) -> None:
    source = data / "checkpoints" / "mlperf_tiny" / "pretrainedResnet.h5"
    if not source.is_file():
        pytest.skip("checkpoints/mlperf_tiny is not among the optional data")
    mine, theirs = capture("zoo:resnet8", weights=str(source)).graph, capture(source).graph
    x = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float64)
    first = mine.inputs[0].shape[1] == 3
    a = mine.run([x.transpose(0, 3, 1, 2) if first else x], keep=[])[mine.outputs[0]]
    b = theirs.run([x], keep=[])[theirs.outputs[0]]
    assert np.abs(a - b).max() < 1e-6


def test_log1p_keeps_the_digits_of_what_is_near_zero(cases: Path) -> None:
    """In float32, too, where 1 + x would keep only what x has beyond the 1."""
    graph = capture(cases / "functions.keras").graph
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape)
    single, double = (graph.run([x.astype(kind)], keep=[])[graph.outputs[-1]] for kind in ("float32", "float64"))
    assert np.abs(single - double).max() < 1e-5 * np.abs(double).max()
