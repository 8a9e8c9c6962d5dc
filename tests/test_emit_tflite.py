"""What the TFLite emitter writes: one file, weights stored once, names and views of the source kept."""

from __future__ import annotations

import inspect
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import instep
from instep.emit.tflite import EmitError, emit, write
from instep.emit.tflite import writer as writer_module
from instep.emit.tflite.metadata import unpack_views
from instep.emit.tflite.standard import standard_within
from instep.flatbuffer import Flatbuffer
from instep.graph import Graph, Operator, SourceView, Value, ops
from instep.report.table import table_of_file
from instep.runtime import run, tflite_info
from instep.tflite_tables import origins_within, written_facts


def image_graph(*shape: int) -> tuple[Graph, Value]:
    graph = Graph()
    x = Value("image", shape, source=SourceView("x", (0, 2, 3, 1), shape))
    graph.inputs, graph.input_names = [x], ["picture"]
    return graph, x


def finish(graph: Graph, *values: Value) -> Graph:
    graph.outputs, graph.output_names = list(values), [f"out{i}" for i in range(len(values))]
    return graph


def conv_graph(op: Operator, height: int, width: int, channels: int, weight: tuple[int, ...]) -> Graph:
    rng = np.random.default_rng(0)
    graph, x = image_graph(1, height, width, channels)
    kernel = graph.constant(rng.standard_normal(weight).astype(np.float32), "conv.weight")
    return finish(graph, graph.add(op, [x, kernel], scope="conv").output)


def names(graph: Graph, tmp_path: Path) -> dict[str, int]:
    write(graph, tmp_path / "net.tflite")
    return dict(tflite_info(tmp_path / "net.tflite").histogram)


def test_symmetric_pads_are_same_at_odd_sizes_and_need_a_pad_at_even_ones(tmp_path: Path) -> None:
    """At stride 2 TensorFlow's SAME pads an even size by (0, 1): PyTorch's padding=1 is (1, 1)."""
    op = ops.Conv2d((2, 2), ((1, 1), (1, 1)), layout="NHWC")
    assert names(conv_graph(op, 9, 9, 3, (4, 3, 3, 3)), tmp_path) == {"CONV_2D": 1}
    assert names(conv_graph(op, 8, 8, 3, (4, 3, 3, 3)), tmp_path) == {"PAD": 1, "CONV_2D": 1}
    shifted = ops.Conv2d((2, 2), ((0, 1), (0, 1)), layout="NHWC")
    assert names(conv_graph(shifted, 8, 8, 3, (4, 3, 3, 3)), tmp_path) == {"CONV_2D": 1}


def test_every_convolution_has_a_bias_and_zeros_are_stored_once(tmp_path: Path) -> None:
    graph, x = image_graph(1, 6, 6, 4)
    for i in range(3):
        kernel = graph.constant(np.full((4, 1, 1, 4), i + 1.0, np.float32), f"w{i}")
        x = graph.add(ops.Conv2d(layout="NHWC"), [x, kernel], scope=f"conv{i}").output
    write(finish(graph, x), tmp_path / "net.tflite")
    info = tflite_info(tmp_path / "net.tflite")
    assert all(len(op.inputs) == 3 for op in info.ops)
    assert len({op.inputs[2] for op in info.ops}) == 1


def test_equal_weights_are_stored_once(tmp_path: Path) -> None:
    def size(second: float) -> int:
        graph, x = image_graph(1, 4, 4, 64)
        for i, fill in enumerate((1.0, second)):
            kernel = graph.constant(np.full((64, 1, 1, 64), fill, np.float32), f"w{i}")
            x = graph.add(ops.Conv2d(layout="NHWC"), [x, kernel], scope=f"conv{i}").output
        return write(finish(graph, x), tmp_path / "net.tflite")

    assert size(2.0) - size(1.0) >= 64 * 64 * 4


def test_names_signature_and_metadata_survive(tmp_path: Path) -> None:
    graph = conv_graph(ops.Conv2d(layout="NHWC"), 5, 5, 3, (2, 1, 1, 3))
    graph.outputs[0].source = SourceView("y", (0, 2, 3, 1), (1, 5, 5, 2))
    graph.meta["source"] = "model.py:net"
    write(graph, tmp_path / "net.tflite", metadata={"proof": {"verdict": "in step"}})
    info = tflite_info(tmp_path / "net.tflite")
    assert (info.input_names, info.output_names) == (["picture"], ["out0"])
    assert {"image", "conv", "conv.weight"} <= {t.name for t in info.tensors}
    assert info.instep["source"] == "model.py:net" and info.instep["proof"] == {"verdict": "in step"}
    assert info.metadata["min_runtime_version"].rstrip(b"\0")
    views = unpack_views(info.instep, {t.name: t.shape for t in info.tensors})
    assert views["image"] == SourceView("x", (0, 2, 3, 1), (1, 5, 5, 3))
    assert views["conv"] == graph.outputs[0].source


def test_half_stores_weights_in_16_bits_and_computes_in_32(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    graph, x = image_graph(1, 8, 8, 32)
    kernel = graph.constant(rng.standard_normal((32, 3, 3, 32)).astype(np.float32) * 0.1, "w")
    big = graph.constant(np.full((32, 1, 1, 32), 1e6, np.float32), "big")
    x = graph.add(ops.Conv2d(padding=((1, 1), (1, 1)), layout="NHWC"), [x, kernel], scope="a").output
    x = graph.add(ops.Conv2d(padding=((1, 1), (1, 1)), layout="NHWC"), [x, kernel], scope="b").output
    finish(graph, graph.add(ops.Conv2d(layout="NHWC"), [x, big], scope="c").output)
    full = write(graph, tmp_path / "full.tflite")
    half = write(graph, tmp_path / "half.tflite", half=True)
    info = tflite_info(tmp_path / "half.tflite")
    assert info.histogram["DEQUANTIZE"] == 1  # tied weights once; what float16 cannot hold stays float32
    assert full - half > 32 * 32 * 9 * 2 * 0.9
    data = rng.standard_normal((1, 8, 8, 32)).astype(np.float32)
    results = [run(tmp_path / name, [data]).outputs[0] for name in ("full.tflite", "half.tflite")]
    assert 0 < np.abs(results[0] - results[1]).max() < 2e-3 * np.abs(results[0]).max()


def test_weights_beyond_a_flatbuffer_lie_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = conv_graph(ops.Conv2d(padding=((1, 1), (1, 1)), layout="NHWC"), 6, 6, 16, (16, 3, 3, 16))
    data = np.random.default_rng(2).standard_normal((1, 6, 6, 16)).astype(np.float32)
    write(graph, tmp_path / "inside.tflite")
    monkeypatch.setattr(writer_module, "INLINE_LIMIT", 1000)
    write(graph, tmp_path / "outside.tflite")
    inside, outside = (run(tmp_path / f"{name}.tflite", [data]) for name in ("inside", "outside"))
    assert not outside.failed, outside.message
    np.testing.assert_array_equal(inside.outputs[0], outside.outputs[0])
    sizes = [
        {t.name: t.constant_bytes for t in tflite_info(tmp_path / f"{name}.tflite").tensors}
        for name in ("inside", "outside")
    ]
    assert sizes[0] == sizes[1]


def test_bytes_and_file_are_the_same_and_the_file_appears_whole(tmp_path: Path) -> None:
    graph = conv_graph(ops.Conv2d(layout="NHWC"), 5, 5, 3, (2, 1, 1, 3))
    path = tmp_path / "net.tflite"
    assert write(graph, path) == path.stat().st_size
    assert path.read_bytes() == emit(graph)
    bad = conv_graph(ops.Conv2d(layout="NHWC"), 5, 5, 3, (2, 1, 1, 3))
    finish(bad, bad.add(ops.Mish(), [bad.outputs[0]], scope="act", origin="net.py:7").output)
    with pytest.raises(EmitError, match=r"Mish 'act' \(net.py:7\)"):
        write(bad, tmp_path / "bad.tflite")
    assert os.listdir(tmp_path) == ["net.tflite"]


def test_a_computed_weight_of_a_depthwise_convolution_is_transposed(tmp_path: Path) -> None:
    graph, x = image_graph(1, 5, 5, 3)
    weight = Value("weight", (3, 3, 3, 1))
    graph.inputs.append(weight)
    graph.input_names.append("weight")
    finish(graph, graph.add(ops.Conv2d(groups=3, layout="NHWC"), [x, weight], scope="dynamic").output)
    (tmp_path / "net.tflite").write_bytes(emit(graph))
    assert tflite_info(tmp_path / "net.tflite").histogram == {"TRANSPOSE": 1, "DEPTHWISE_CONV_2D": 1}


def test_700_operators_are_written_in_a_moment() -> None:
    graph, x = image_graph(1, 4, 4, 8)
    kernel = graph.constant(np.zeros((8, 3, 3, 8), np.float32), "w")
    for i in range(350):
        x = graph.add(ops.Conv2d(padding=((1, 1), (1, 1)), layout="NHWC"), [x, kernel], scope=f"conv{i}").output
        x = graph.add(ops.Add("relu"), [x, x], scope=f"add{i}").output
    finish(graph, x)
    start = time.process_time()
    emit(graph)
    assert time.process_time() - start < 1.0


def test_integers_are_32_bits_in_the_file(tmp_path: Path) -> None:
    graph, x = image_graph(1, 4, 4, 8)
    largest = graph.add(ops.ArgMax(3), [x], scope="argmax").output
    more = graph.add(ops.Add(), [largest, graph.constant(np.asarray(5, np.int64), "five")], scope="more").output
    write(finish(graph, more), tmp_path / "net.tflite")
    assert {t.dtype for t in tflite_info(tmp_path / "net.tflite").tensors} == {"float32", "int32"}
    data = np.random.default_rng(3).standard_normal((1, 4, 4, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(tmp_path / "net.tflite", [data]).outputs[0], data.argmax(3) + 5)
    graph.weights[next(v for v in graph.weights if v.name == "five")] = np.asarray(1 << 40, np.int64)
    with pytest.raises(EmitError, match="beyond 32 bits"):
        emit(graph)


def test_outputs_that_are_constants_are_in_the_file_and_known(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 1)
            self.register_buffer("number", torch.tensor(3.0))
            self.register_buffer("picture", torch.randn(1, 2, 3, 4))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return self.layer(x), self.number, self.picture, torch.arange(5)

    network = Fixed().eval()
    done = instep.convert(network, tmp_path / "net.tflite", inputs=[(1, 3, 6, 5)])
    assert done.ok and not done.verdict.notes
    assert {"number", "picture"} <= set(instep.capture(network, inputs=[(1, 3, 6, 5)]).graph.meta["buffers"])


class Lined(nn.Module):
    """A convolution, and a product that some targets refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y * torch.floor(y)


def _line_of(text: str) -> str:
    lines = inspect.getsource(Lined).splitlines()
    start = inspect.getsourcelines(Lined)[1]
    return f"test_emit_tflite.py:{start + next(i for i, line in enumerate(lines) if text in line)}"


def test_a_file_knows_the_source_line_of_its_operators(tmp_path: Path) -> None:
    file = Path(instep.convert(Lined(), tmp_path / "net.tflite", inputs=[(1, 3, 6, 5)], verify=False).file)
    info = tflite_info(file)
    lines = {op.name: info.origin(op) for op in info.ops}
    assert lines["CONV_2D"].endswith(_line_of("self.conv(x)")) and lines["FLOOR"].endswith(_line_of("torch.floor"))
    # a file as a source hands them on, and a check and a table of the file show them
    again = instep.capture(file).graph
    assert {type(n.op).__name__: n.origin for n in again.nodes}["Floor"] == lines["FLOOR"]
    found = [
        v for v in instep.check(file, ["portable-4d"], run=False).judgements[0].violations if v.operator == "FLOOR"
    ]
    assert found and found[0].origin == lines["FLOOR"] and found[0].to_json()["origin"] == lines["FLOOR"]
    assert lines["FLOOR"] in json.dumps(table_of_file(info).to_json())


@pytest.mark.parametrize(
    "origins", [["a"], {"conv": 3}, {"conv": "x" * 300}, {"conv": "a\u001b[31m"}, {"conv": ""}, "x"]
)
def test_source_lines_that_are_none_are_not_believed(origins: Any) -> None:
    assert origins_within({"origins": origins}) == {}
    assert written_facts({"instep": b"[" * 100_000}) == {}


def _normalisation(file: Path) -> tuple[str, str, int, list[float], list[float]]:
    """Names of input and output, colours, mean and deviation from the standard metadata, slot by slot of its schema."""
    entry = Flatbuffer(memoryview(tflite_info(file).metadata["TFLITE_METADATA"]))
    assert bytes(entry.data[4:8]) == b"M001"
    [main] = entry.tables(entry.number(0, "I"), 3)
    [source], [made] = entry.tables(main, 2), entry.tables(main, 3)
    content = entry.child(source, 3)
    assert entry.scalar(content, 0, "B") == 2 and not entry.tables(made, 4)
    [unit] = entry.tables(source, 4)
    assert entry.scalar(unit, 0, "B") == 1
    options = entry.child(unit, 1)
    mean, std = (
        np.frombuffer(entry.data, np.float32, count, start).tolist()
        for start, count in (entry.span(options, slot, 4) for slot in (0, 1))
    )
    return entry.text(source, 0), entry.text(made, 0), entry.scalar(entry.child(content, 1), 0, "B"), mean, std


def test_how_pictures_become_inputs_is_in_the_file_for_other_tools(tmp_path: Path) -> None:
    file, shape = tmp_path / "net.tflite", [(1, 3, 6, 5)]
    picture = instep.Picture(mean=(0.5, 0.25, 0.5), std=(0.5, 0.5, 0.25))
    instep.convert(Lined(), file, inputs=shape, picture=picture, verify=False)
    said = _normalisation(file)
    assert said[2:] == (1, [127.5, 63.75, 127.5], [127.5, 127.5, 63.75])
    assert said[:2] == (tflite_info(file).input_names[0], tflite_info(file).output_names[0])
    grey = instep.Picture(scale=255.0, mean=(127.0,), std=(2.0,))
    instep.convert(nn.Conv2d(1, 2, 3), file, inputs=[(1, 1, 6, 5)], picture=grey, verify=False)
    assert _normalisation(file)[2:] == (2, [127.0], [2.0])
    # of features nothing can be said, nor where the user says nothing
    for given in (picture, None):
        instep.convert(nn.Conv2d(5, 2, 3), file, inputs=[(1, 5, 6, 5)], picture=given, verify=False)
        assert "TFLITE_METADATA" not in tflite_info(file).metadata


def test_labels_behind_a_file_are_taken_along(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.tflite", tmp_path / "ours.tflite"
    instep.convert(Lined(), theirs, inputs=[(1, 3, 6, 5)], picture=instep.Picture(mean=(0.5,)), verify=False)
    with zipfile.ZipFile(theirs, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    result = instep.legalize(theirs, "litert-gpu", ours)
    assert result.ok and result.bytes == ours.stat().st_size
    assert zipfile.ZipFile(ours).read("labels.txt") == b"cat\ndog\n"
    assert _normalisation(ours) == _normalisation(theirs)
    theirs.write_bytes(theirs.read_bytes()[:-30])
    assert standard_within(theirs, {}).files == {}


def test_a_cast_between_integers_that_a_file_holds_alike_is_none_there(tmp_path: Path) -> None:
    graph = Graph([Value("ids", (1, 4), "int64")], input_names=["ids"])
    cast = graph.add(ops.Cast("int32"), graph.inputs).output
    graph.outputs = [graph.add(ops.Mul(), [cast, cast]).output, graph.add(ops.Cast("int32"), graph.inputs).output]
    graph.output_names = ["square", "same"]
    (tmp_path / "net.tflite").write_bytes(emit(graph))
    info = tflite_info(tmp_path / "net.tflite")
    # an output that is an input needs an operator between them
    assert [op.name for op in info.ops] == ["MUL", "CAST"]
    result = run(tmp_path / "net.tflite", [np.array([[1, 2, 3, 4]], np.int32)])
    np.testing.assert_array_equal(result.outputs[0], [[1, 4, 9, 16]])
