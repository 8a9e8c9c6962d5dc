"""A fault is planted into one operator of a file: the search ends there, and what it writes still shows the fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

import instep
from instep.runtime import available, tflite_info
from instep.verify.tflite import EngineError

GPU = pytest.mark.skipif(available("litert-gpu") is not None, reason=f"{available('litert-gpu')}")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(4))
        self.norm = nn.LayerNorm(16)
        self.gate = nn.Conv2d(16, 16, 1)
        self.head = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.stem(x))
        for conv in self.body:
            y = y + torch.tanh(conv(y))
        z = self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = y * torch.sigmoid(self.gate(z))
        return self.head(nn.functional.interpolate(y, scale_factor=2, mode="bilinear"))


SHAPE = (1, 3, 12, 16)


@pytest.fixture(scope="module")
def network() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def file(network: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bisect") / "net.tflite"
    instep.convert(network, path, inputs=[SHAPE], verify=False)
    return path


def edited(file: Path, out: Path, tensor: str, change: Callable[[Any, Any], None]) -> Path:
    """A copy of ``file`` with ``change(model, operator)`` done to the operator that makes ``tensor``."""
    model: Any = schema.ModelT.InitFromPackedBuf(bytearray(file.read_bytes()), 0)
    main = model.subgraphs[0]
    operator = next(o for o in main.operators if main.tensors[o.outputs[0]].name.decode() == tensor)
    change(model, operator)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    out.write_bytes(builder.Output())
    return out


def _weight(model: Any, operator: Any) -> None:
    buffer = model.buffers[model.subgraphs[0].tensors[operator.inputs[1]].buffer]
    values = np.array(buffer.data, np.uint8).view(np.float32)
    values[len(values) // 2] += 0.1
    buffer.data = values.view(np.uint8)


def _bias(model: Any, operator: Any) -> None:
    buffer = model.buffers[model.subgraphs[0].tensors[operator.inputs[2]].buffer]
    values = np.array(buffer.data, np.uint8).view(np.float32)
    values[1] += 0.05
    buffer.data = values.view(np.uint8)


def _centres(model: Any, operator: Any) -> None:
    operator.builtinOptions.halfPixelCenters = False


def names_of(file: Path, kind: str) -> list[str]:
    info = tflite_info(file)
    return [info.tensors[op.outputs[0]].name for op in info.ops if op.name == kind]


def shows(folder: Path, script: str = "show.py") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, folder / script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("against", "kind", "place", "change"),
    [
        ("network", "CONV_2D", 3, _weight),
        ("network", "RESIZE_BILINEAR", 0, _centres),
        ("file", "CONV_2D", 0, _bias),
        ("file", "CONV_2D", -1, _bias),
    ],
    ids=["weight", "option", "first bias", "last bias"],
)
def test_the_search_ends_at_the_operator_that_was_edited(
    network: Net, file: Path, tmp_path: Path, kind: str, place: int, change: Any, against: str
) -> None:
    guilty = names_of(file, kind)[place]
    bad = edited(file, tmp_path / "bad.tflite", guilty, change)
    if against == "network":
        found = instep.bisect(network, bad, tmp_path / "found", inputs=[SHAPE])
    else:
        found = instep.bisect(file.as_posix(), bad, tmp_path / "found")
    assert found.verdict in ("out of step", "drifting")
    assert found.scopes == [guilty]
    folder = tmp_path / "found"
    assert [op.name for op in tflite_info(folder / "minimal.tflite").ops] == [kind]
    shown = shows(folder)
    assert shown.returncode == 1 and "WRONG" in shown.stdout, shown.stderr
    assert {p.name for p in folder.iterdir()} >= {"inputs", "expected", "actual", "README.md", "instep.json"}


class Joined(nn.Module):
    """Two branches joined in the middle, with values behind them that only the join makes."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([torch.tanh(self.left(x)), torch.sigmoid(self.right(x))], 1)
        return torch.where(y > 0.3, y, self.head(y).mean(1, keepdim=True)).amax((2, 3))


def test_operands_in_the_wrong_order_are_found_at_their_operator(tmp_path: Path) -> None:
    torch.manual_seed(0)
    good = instep.convert(Joined().eval(), tmp_path / "good.tflite", inputs=[SHAPE], verify=False).file
    (guilty,) = names_of(Path(good), "CONCATENATION")

    def swap(model: Any, op: Any) -> None:
        op.inputs = op.inputs[::-1]

    bad = edited(Path(good), tmp_path / "bad.tflite", guilty, swap)
    found = instep.bisect(str(good), bad, tmp_path / "found")
    assert found.scopes == [guilty] and found.operators == ["CONCATENATION"]
    assert shows(tmp_path / "found").returncode == 1
    assert shows(tmp_path / "found", "twin.py").returncode == 0


def test_the_twin_gives_what_is_expected_not_what_the_faulty_file_gives(
    network: Net, file: Path, tmp_path: Path
) -> None:
    bad = edited(file, tmp_path / "bad.tflite", names_of(file, "CONV_2D")[2], _weight)
    instep.bisect(network, bad, tmp_path / "found", inputs=[SHAPE])
    said = shows(tmp_path / "found", "twin.py")
    assert said.returncode == 0, said.stderr
    error = float(said.stdout.partition("expected| ")[2].split()[0])
    expected, actual = (np.load(next((tmp_path / "found" / n).glob("*.npy"))) for n in ("expected", "actual"))
    assert error < 1e-5 < 1e-2 < np.abs(expected - actual).max()


def test_a_healthy_file_leaves_nothing_to_find(network: Net, file: Path, tmp_path: Path) -> None:
    found = instep.bisect(network, file, tmp_path / "found", inputs=[SHAPE])
    assert found.ok and found.found is None
    assert not (tmp_path / "found").exists()


def test_nothing_is_said_without_a_second_thing_or_an_engine(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--on"):
        instep.bisect(file.as_posix(), None, tmp_path / "found")


def test_a_folder_of_somebody_else_is_not_touched(network: Net, file: Path, tmp_path: Path) -> None:
    bad = edited(file, tmp_path / "bad.tflite", names_of(file, "CONV_2D")[2], _weight)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("precious")
    with pytest.raises(ValueError, match="not empty"):
        instep.bisect(file.as_posix(), bad, mine)
    assert [p.name for p in mine.iterdir()] == ["notes.txt"]


def test_stages_show_where_an_error_is_born_and_that_it_goes_on(file: Path, tmp_path: Path) -> None:
    bad = edited(file, tmp_path / "bad.tflite", names_of(file, "CONV_2D")[2], _weight)
    first, second = instep.stages(file.as_posix(), bad).stages
    assert first.own is not None and second.own is not None and second.so_far is not None
    assert (first.size, second.size) == ("12×16", "24×32")
    assert first.own.ratio > 100 and second.own.ratio < 10 and second.so_far.ratio > 100
    assert all(s.own is None for s in instep.stages(file.as_posix()).stages)


class Grouped(nn.Module):
    def __init__(self, channels: int, made: int, groups: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.group = nn.Conv2d(channels, made, 3, padding=1, groups=groups)
        self.head = nn.Conv2d(made, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.group(torch.sigmoid(self.stem(x)))))


def on_gpu(folder: Path, net: nn.Module) -> Any:
    instep.convert(net.eval(), folder / "net.tflite", inputs=[(1, 3, 16, 16)], verify=False)
    try:
        return instep.bisect((folder / "net.tflite").as_posix(), None, folder / "found", on="litert-gpu")
    except EngineError as error:
        pytest.skip(f"the GPU engine does not run here: {error}")


@GPU
def test_a_convolution_that_the_gpu_gets_wrong_is_found(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = on_gpu(tmp_path, Grouped(16, 16, 8))
    assert found.verdict == "out of step" and found.operators == ["CONV_2D"]
    assert found.scopes[0].startswith("group/")
    assert shows(tmp_path / "found").returncode == 1
    assert shows(tmp_path / "found", "twin.py").returncode == 0


@GPU
def test_a_convolution_that_kills_the_gpu_engine_is_found(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = on_gpu(tmp_path, Grouped(12, 8, 2))
    assert found.verdict == "crashed" and found.operators == ["CONV_2D"]
    assert found.scopes[0].startswith("group/")
    facts = json.loads((tmp_path / "found" / "instep.json").read_text())
    assert "SIGILL" in facts["said"] and not (tmp_path / "found" / "actual").exists()
    assert shows(tmp_path / "found").returncode != 0


def _as_gather_nd(model: Any, operator: Any) -> None:
    """The tanh becomes GATHER_ND of its only image, which changes no shape."""
    main = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.GATHER_ND
    code.version = 1
    model.operatorCodes.append(code)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.zeros((1, 1), np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    places = schema.TensorT()
    places.name, places.shape, places.type = b"places", [1, 1], schema.TensorType.INT32
    places.buffer = len(model.buffers) - 1
    main.tensors.append(places)
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs = [operator.inputs[0], len(main.tensors) - 1]
    operator.builtinOptionsType, operator.builtinOptions = 0, None


@GPU
def test_an_operator_that_the_gpu_refuses_is_found(file: Path, tmp_path: Path) -> None:
    guilty = names_of(file, "TANH")[1]
    bad = edited(file, tmp_path / "bad.tflite", guilty, _as_gather_nd)
    try:
        found = instep.bisect(bad.as_posix(), None, tmp_path / "found", on="litert-gpu")
    except EngineError as error:
        pytest.skip(f"the GPU engine does not run here: {error}")
    assert found.verdict == "refused" and found.operators == ["GATHER_ND"] and found.scopes == [guilty]
    assert "GATHER_ND" in (tmp_path / "found" / "README.md").read_text()
    assert shows(tmp_path / "found").returncode == 1
