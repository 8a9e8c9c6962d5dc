"""Networks of other frameworks as engines run them: source files and saved models, in bounded child processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from instep.runtime import FRAMEWORKS, Job, RunResult, available, run, run_jobs

#: One network in each framework: a convolution with a stride, then ReLU; two outputs, the second the first's mean.
SOURCES = {
    "torch": '''
import torch
from torch import nn
from safetensors.torch import load_file

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, bias=False)
    def forward(self, x):
        y = self.conv(x).relu()
        return y, y.mean((2, 3))

def load(weights):
    net = Net()
    net.load_state_dict({"conv.weight": load_file(weights)["kernel"].permute(3, 2, 0, 1)})
    return net
''',
    "keras": '''
import keras
from keras import layers
from safetensors.numpy import load_file

def load(weights):
    x = keras.Input((9, 11, 3), batch_size=1)
    y = keras.ops.relu(layers.Conv2D(4, 3, strides=2, use_bias=False, name="conv")(x))
    net = keras.Model(x, [y, keras.ops.mean(y, (1, 2))])
    net.get_layer("conv").set_weights([load_file(weights)["kernel"]])
    return net
''',
    "jax": '''
import jax.numpy as jnp
from flax import nnx
from safetensors.numpy import load_file

class Net(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 4, (3, 3), strides=2, padding="VALID", use_bias=False, rngs=nnx.Rngs(0))
    def __call__(self, x):
        y = nnx.relu(self.conv(x))
        return y, y.mean((1, 2))

def load(weights):
    net = Net()
    net.conv.kernel.set_value(jnp.asarray(load_file(weights)["kernel"]))
    return net
''',
}  # fmt: skip


def needed(engine: str) -> None:
    missing = available(engine)
    if missing is not None:
        pytest.skip(missing)


def written(engine: str, folder: Path) -> Path:
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 4)).astype(np.float32)
    save_file({"kernel": kernel}, folder / "net.safetensors")
    path = folder / "net.py"
    path.write_text(SOURCES[engine.partition("-")[0]])
    return path


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, 9, 11, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(image: np.ndarray) -> np.ndarray:
    """The convolution by its definition."""
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 4)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), (1, 2))[:, ::2, ::2]
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel)


@pytest.mark.parametrize("engine", FRAMEWORKS)
def test_an_engine_gives_outputs_and_the_values_inside(
    engine: str, image: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    needed(engine)
    given = image.transpose(0, 3, 1, 2) if engine == "torch" else image
    result = run(written(engine, tmp_path), [given], engine=engine, keep_all=True)
    assert not result.failed, result.message
    first, second = result.outputs
    back = (0, 2, 3, 1) if engine == "torch" else (0, 1, 2, 3)
    np.testing.assert_allclose(first.transpose(back), np.maximum(expected, 0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(second, np.maximum(expected, 0).mean((1, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(result.tensors["conv"].transpose(back), expected, rtol=1e-4, atol=1e-4)
    assert result.engine == engine


DRAWING = """
import keras
from keras import layers

def load():
    return keras.Sequential([keras.Input((9, 11, 3), batch_size=1), layers.GaussianNoise(0.5), layers.RandomFlip()])
"""


@pytest.mark.parametrize("engine", [e for e in FRAMEWORKS if e.startswith("keras")])
def test_layers_of_keras_that_draw_numbers_rest(engine: str, image: np.ndarray, tmp_path: Path) -> None:
    """A RandomFlip that nobody tells whether it is trained takes a call for training."""
    needed(engine)
    (tmp_path / "net.py").write_text(DRAWING)
    for keep_all in (False, True):
        result = run(tmp_path / "net.py", [image], engine=engine, keep_all=keep_all)
        assert not result.failed, result.message
        assert np.array_equal(result.outputs[0], image)


def test_a_program_that_torch_export_saved(image: np.ndarray, expected: np.ndarray, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Conv2d(3, 4, 3, stride=2, bias=False)
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 4)).astype(np.float32)
    net.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    given = image.transpose(0, 3, 1, 2).copy()
    torch.export.save(torch.export.export(net.eval(), (torch.from_numpy(given),)), tmp_path / "net.pt2")
    result = run(tmp_path / "net.pt2", [given], engine="torch")
    assert not result.failed, result.message
    np.testing.assert_allclose(result.outputs[0].transpose(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-4)


# -- what goes wrong -------------------------------------------------------------------------------------------------
def tried(source: str, folder: Path, timeout: float = 60.0) -> RunResult:
    needed("torch")
    path = folder / "bad.py"
    path.write_text(source)
    return run_jobs([Job(path, [[np.zeros((1, 3), np.float32)]], "torch")], timeout=timeout)[0][0]


def test_a_file_that_cannot_be_loaded_is_refused_in_its_own_words(tmp_path: Path) -> None:
    result = tried("import no_such_package\n", tmp_path)
    assert result.outcome == "refused" and "no_such_package" in result.message
    assert "load()" in tried("x = 1\n", tmp_path).message
    assert "SyntaxError" in tried("def load(:\n", tmp_path).message


def test_a_network_that_fails_says_why(tmp_path: Path) -> None:
    result = tried("from torch import nn\ndef load():\n    return nn.Linear(4, 2)\n", tmp_path)
    assert result.outcome == "failed" and "shape" in result.message


def test_a_network_without_an_end_is_timed_out(tmp_path: Path) -> None:
    result = tried("while True:\n    pass\n", tmp_path, timeout=8)
    assert result.outcome == "timed out" and result.crashed


def test_a_network_that_ends_its_process_is_a_result(tmp_path: Path) -> None:
    result = tried("import os\nos._exit(7)\n", tmp_path)
    assert result.outcome == "crashed" and "7" in result.message


def test_an_engine_takes_its_own_files_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"torch runs \.py and \.pt2 files, not net\.tflite"):
        run(tmp_path / "net.tflite", [], engine="torch")
    with pytest.raises(ValueError, match=r"xnnpack runs \.tflite files"):
        run(tmp_path / "net.py", [], engine="xnnpack")
