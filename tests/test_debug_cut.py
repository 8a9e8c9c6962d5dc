"""A part of a file is a file: it holds the same operators and computes the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import instep
from instep.debug.cutting import Cutter
from instep.debug.trusted import from_file
from instep.runtime import run, tflite_info
from instep.verify.inputs import InputSet
from raw_tflite import raw_tflite


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 8, 3, padding=1)
        self.right = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.stem(x))
        return self.head(torch.tanh(self.left(y)) * torch.sigmoid(self.right(y))) + x


@pytest.fixture(scope="module")
def network() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def file(network: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cut") / "net.tflite"
    instep.convert(network, path, inputs=[(1, 3, 12, 16)], verify=False)
    return path


def test_every_single_operator_computes_the_same_alone(file: Path, tmp_path: Path) -> None:
    cutter = Cutter(file)
    image = np.random.default_rng(0).random((1, 12, 16, 3), np.float32)
    trusted = from_file(file, cutter.info, [InputSet("noise", (image,))])
    for tensor in cutter.flow.computed:
        part = cutter.flow.between(trusted.known - {tensor}, [tensor])
        assert len(part.ops) == 1
        cutter.write(part, tmp_path / "one.tflite")
        result = run(tmp_path / "one.tflite", [trusted.given(0, i) for i in part.inputs], engine="builtin")
        assert np.array_equal(result.outputs[0], trusted.values[0][tensor])


def test_a_cut_keeps_operators_options_and_only_the_buffers_it_needs(file: Path, tmp_path: Path) -> None:
    result = instep.cut(file.as_posix(), tmp_path / "part.tflite", start=["relu"], end=["mul"])
    whole, part = tflite_info(file), tflite_info(tmp_path / "part.tflite")
    kept = [op for op in whole.ops if whole.tensors[op.outputs[0]].name in {t.name for t in part.tensors}][1:]
    assert [vars(o.options) if o.options else None for o in part.ops] == [
        vars(o.options) if o.options else None for o in kept
    ]
    assert result.operators == [op.name for op in part.ops]
    assert [part.tensors[i].name for i in (*part.inputs, *part.outputs)] == ["relu", "mul"]
    constants = {t.name for t in part.tensors if t.constant_bytes}
    assert constants == {"left.weight", "left.bias", "right.weight", "right.bias"}


def test_a_folder_holds_what_flows_there(file: Path, tmp_path: Path) -> None:
    instep.cut(file.as_posix(), tmp_path / "part", start=["relu"], end=["mul"])
    given = [np.load(p) for p in sorted((tmp_path / "part" / "inputs").glob("*.npy"))]
    ended = [np.load(p) for p in sorted((tmp_path / "part" / "outputs").glob("*.npy"))]
    result = run(tmp_path / "part" / "part.tflite", given, engine="builtin")
    assert np.array_equal(result.outputs[0], ended[0])


def test_a_captured_network_is_cut_too(network: Net, tmp_path: Path) -> None:
    instep.capture(network, inputs=[(1, 3, 12, 16)])
    result = instep.cut(network, tmp_path / "part", start=["relu"], end=["mul"], inputs=[(1, 3, 12, 16)])
    assert result.operators == ["Conv2d", "Tanh", "Conv2d", "Sigmoid", "Mul"]
    given = [np.load(p) for p in sorted((tmp_path / "part" / "inputs").glob("*.npy"))]
    ended = [np.load(p) for p in sorted((tmp_path / "part" / "outputs").glob("*.npy"))]
    assert given[0].shape == (1, 12, 16, 8)
    result = run(tmp_path / "part" / "part.tflite", given, engine="builtin")
    assert np.abs(result.outputs[0] - ended[0]).max() < 1e-6


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (["relo"], [], "near ones: 'relu'"),
        (["#999"], [], "no value #999"),
        (["mul"], ["relu"], "does not lead to"),
        (["relu"], ["relu"], "both where the part begins and where it ends"),
        ([], ["x"], "is an input"),
    ],
)
def test_what_cannot_be_cut_is_one_sentence_and_writes_nothing(
    file: Path, tmp_path: Path, start: list[str], end: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        instep.cut(file.as_posix(), tmp_path / "part", start=start, end=end)
    assert not list(tmp_path.iterdir())


def test_a_number_that_no_value_has_is_told_the_nearest(file: Path, tmp_path: Path) -> None:
    info = tflite_info(file)
    values = sorted({*info.inputs, *(i for op in info.ops for i in op.outputs)})
    constant = next(t for t in info.tensors if t.constant_bytes)
    with pytest.raises(ValueError, match="the constant") as raised:
        instep.cut(file, tmp_path / "part.tflite", start=[f"#{constant.index}"])
    assert f"'{constant.name}'" in str(raised.value) and f"#{values[0]} '{info.tensors[values[0]].name}'" in str(
        raised.value
    )
    with pytest.raises(ValueError, match=f"has no value #999; the nearest are .*#{values[-1]} '"):
        instep.cut(file, tmp_path / "part.tflite", end=["#999"])


def test_stages_of_a_file_with_an_operator_that_makes_nothing(tmp_path: Path) -> None:
    x, y = (("x", (1, 4, 4, 2), "float32", None), ("a/y", (1, 4, 4, 2), "float32", None))
    path = raw_tflite(tmp_path / "odd.tflite", [x, y], [("ABS", [0], [1], None), ("NEG", [1], [], None)], [0], [1])
    found = instep.stages(path).stages
    assert [(s.size, s.operators) for s in found] == [("4×4", {"ABS": 1}), ("", {"NEG": 1})]
