"""The proof on real files and a real engine: Instep's own, files that do not say what they are, two files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import instep
from instep.graph import Graph, SourceView, Value, ops
from instep.runtime import TFLiteError
from instep.verify import Figures, GraphReference, verify
from instep.verify.align import match_inputs, permuted_views
from instep.verify.files import FileReference, verify_files
from instep.verify.tflite import EngineError


def network(seed: int = 0) -> Graph:
    """Two branches of convolutions that look alike, joined; channels first, as PyTorch's."""
    rng = np.random.default_rng(seed)
    g = Graph(inputs=[Value("x", (1, 3, 12, 12))])

    def conv(name: str, x: Value, o: int) -> Value:
        w = g.constant(rng.normal(0, 0.3, (o, x.shape[1], 3, 3)).astype(np.float32), f"{name}.weight")
        b = g.constant(rng.normal(0, 0.3, o).astype(np.float32), f"{name}.bias")
        return g.add(ops.Conv2d(padding=((1, 1), (1, 1))), [x, w, b], scope=name, names=[name]).output

    def add(name: str, op: Any, *inputs: Value) -> Value:
        return g.add(op, inputs, scope=name, names=[name]).output

    head = add("head_relu", ops.LeakyRelu(0.1), conv("head", g.inputs[0], 8))
    left, right = (add(f"{n}_act", ops.Sigmoid(), conv(n, head, 8)) for n in ("left", "right"))
    joined = add("join", ops.Concat(1), left, right)
    gated = add("gate", ops.Mul(), conv("mix", joined, 8), head)
    up = add("up", ops.DepthToSpace(2), conv("tail", gated, 12))
    g.outputs = [up]
    for value in [*g.inputs, *(v for n in g.nodes for v in n.outputs)]:
        value.source = SourceView.whole(value.name, value.shape)
    g.input_names, g.output_names = ["x"], ["up"]
    return g


def written(graph: Graph, path: Path, *, half: bool = False, io: str = "nhwc") -> Path:
    from instep.emit.tflite import write
    from instep.rewrite.pipelines import to_tflite

    write(to_tflite(graph, io=io)[0], path, half=half)
    return path


def stranger(path: Path) -> Path:
    """The same file as another tool's: no metadata, tensors called t0, t1, …"""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    model.metadata = []
    for buffer in model.buffers:
        if buffer.offset and buffer.offset > 1:
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset).copy()
            buffer.offset = buffer.size = 0
    for i, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.name = f"t{i}".encode()
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    out = path.with_name(f"stranger-{path.name}")
    out.write_bytes(bytes(builder.Output()))
    return out


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(network(), tmp_path_factory.mktemp("files") / "net.tflite")


def faulty(tmp_path: Path) -> Path:
    graph = network()
    conv = next(n for n in graph.nodes if n.output.name == "right")
    conv.inputs[1] = graph.constant(graph.weights[conv.inputs[1]][:, :, ::-1, ::-1].copy(), "flipped")
    graph.prune()
    return written(graph, tmp_path / "faulty.tflite")


def test_a_healthy_file_is_in_step_on_both_engines(file: Path) -> None:
    graph = network()
    verdict = verify(GraphReference(graph), file, graph=graph)
    assert verdict.verdict == "in step" and verdict.ok and verdict.correlation > 0.999999
    assert {r.source for r in verdict.rows} >= {"head_relu", "left_act", "join", "gate", "up"}
    said = verdict.to_json()
    assert said["verdict"] == "in step" and said["worst"] and said["first_out_of_step"] is None
    assert {"scope", "operator", "origin", "ratio", "diagnosis"} <= set(said["worst"][0])


def test_a_fault_is_placed_and_named_in_the_file(tmp_path: Path) -> None:
    graph = network()
    verdict = verify(GraphReference(graph), faulty(tmp_path), graph=graph)
    assert verdict.verdict == "out of step" and not verdict.ok
    assert verdict.first is not None and verdict.first.source in ("right", "right_act")
    assert verdict.diagnosis is not None and verdict.diagnosis.scope == "right"
    assert verdict.diagnosis.cause == "weights flipped (convolution for correlation)"
    assert "right" in verdict.summary()


def test_a_file_that_does_not_say_what_it_is_is_aligned_by_what_flows_through_it(file: Path) -> None:
    graph = network()
    verdict = verify(GraphReference(graph), stranger(file), graph=graph)
    assert verdict.verdict == "in step"
    # the two branches look alike and are told apart
    rows = {r.source: r.tensor for r in verdict.rows}
    assert {"left_act", "right_act", "join", "gate"} <= set(rows)
    assert rows["left_act"] != rows["right_act"]
    assert all(r.verdict == "in step" for r in verdict.rows)


def test_behind_a_fault_a_strangers_tensors_are_placed_by_the_flow_of_data(tmp_path: Path) -> None:
    graph = network()
    verdict = verify(GraphReference(graph), stranger(faulty(tmp_path)), graph=graph)
    assert verdict.verdict == "out of step"
    assert verdict.first is not None and verdict.first.source in ("right", "right_act")
    assert verdict.diagnosis is not None and verdict.diagnosis.scope == "right"


@pytest.mark.parametrize("io", ["nhwc", "nchw"])
def test_inputs_and_outputs_keep_their_meaning_in_either_layout(io: str, tmp_path: Path) -> None:
    graph = network()
    verdict = verify(GraphReference(graph), written(graph, tmp_path / "io.tflite", io=io), graph=graph)
    assert verdict.verdict == "in step"


def test_half_precision_weights_are_judged_in_their_own_unit(tmp_path: Path) -> None:
    graph = network()
    path = written(graph, tmp_path / "half.tflite", half=True)
    verdict = verify(GraphReference(graph), path, graph=graph, figures=Figures(sqnr=40.0))
    assert verdict.verdict == "in step" and verdict.ok and verdict.max_abs > 1e-5
    assert any("float16" in note for note in verdict.notes)
    assert verdict.lossy is not None and 50 < verdict.lossy["figures"]["sqnr"] < 100
    strict = verify(GraphReference(graph), path, graph=graph, figures=Figures(sqnr=150.0))
    assert not strict.ok and strict.lossy is not None and "sqnr" in strict.lossy["failed"][0]


def test_two_files_are_compared_without_a_float64_truth(file: Path, tmp_path: Path) -> None:
    same = verify_files(file, stranger(file))
    assert same.verdict == "in step" and any("no float64 truth" in n for n in same.notes)
    other = verify_files(file, faulty(tmp_path))
    assert other.verdict == "out of step"


def test_the_first_file_has_its_time_too(file: Path, tmp_path: Path) -> None:
    """Its time is for all runs together, those of nudged inputs among them; whichever file is late is named."""
    twin = written(network(), tmp_path / "twin.tflite", io="nchw")
    with pytest.raises(EngineError, match=rf"^{file} does not run: .* within 0\.01 s"):
        verify_files(file, twin, timeout=0.01)
    with pytest.raises(EngineError, match=rf"^{file} does not run: .* within 0\.01 s"):
        instep.verify(file, twin, timeout=0.01)  # captured, and run for what it computes itself
    reference = FileReference(file, timeout=60.0)
    given = [np.zeros(s.shape, np.float32) for s in reference.input_specs]
    reference.run(given)
    assert 0 < reference.left < 60
    reference.left = 0.0
    with pytest.raises(EngineError, match="all inputs within 60 s"):
        reference.run([given[0] + 1])


def test_runs_that_align_a_strangers_tensors_are_timed(file: Path, tmp_path: Path) -> None:
    graph = network()
    theirs = stranger(written(graph, tmp_path / "theirs.tflite"))
    with pytest.raises(EngineError, match="did not finish within"):
        verify(GraphReference(graph), theirs, graph=graph, timeout=0.01)


def test_a_file_of_another_network_is_refused_or_out_of_step(file: Path, tmp_path: Path) -> None:
    other = network(seed=1)
    assert verify(GraphReference(other), file, graph=other).verdict == "out of step"
    small = Graph(inputs=[Value("x", (1, 3, 6, 6))])
    small.outputs = [small.add(ops.Relu(), [small.inputs[0]], names=["y"]).output]
    small.input_names, small.output_names = ["x"], ["y"]
    with pytest.raises(ValueError, match="input"):
        verify(GraphReference(small), stranger(file), graph=small)


def test_damaged_files_are_refused_with_one_sentence(file: Path, tmp_path: Path) -> None:
    graph = network()
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(file.read_bytes()[:300])
    with pytest.raises((TFLiteError, EngineError), match=r"broken\.tflite"):
        verify(GraphReference(graph), broken, graph=graph)


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        (b"[0,2,3,1]", b"[0,2,3,9]"),
        (b"[0,2,3,1]", b"[0,2,3.1]"),
        (b"[1,12,12,3]", b"[1,12,12,4]"),
        (b'"views":{', b'"vieWs":{'),
    ],
)
def test_a_file_whose_own_table_is_damaged_is_aligned_by_what_flows_through_it(
    said: bytes, instead: bytes, file: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.tflite"
    assert said in file.read_bytes()
    damaged.write_bytes(file.read_bytes().replace(said, instead))
    graph = network()
    verdict = verify(GraphReference(graph), damaged, graph=graph)
    assert verdict.verdict == "in step"
    assert any("recognised by what flows" in note for note in verdict.notes), verdict.notes


def test_every_layout_is_found_among_the_views() -> None:
    source = np.random.default_rng(0).random((1, 3, 4, 5))
    for perm in ((0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (0, 3, 2, 1)):
        tensor = source.transpose(perm)
        views = [v for v in permuted_views("x", source.shape, tensor.shape) if (v.apply(source) == tensor).all()]
        assert len(views) == 1


def test_inputs_are_matched_by_name_before_order(file: Path) -> None:
    from instep.graph import Spec
    from instep.runtime import tflite_info

    info = tflite_info(file)
    (view,) = match_inputs(info, ["other", "x"], [Spec((1, 3, 12, 12)), Spec((1, 3, 12, 12))])
    assert view.name == "x" and view.shape == (1, 12, 12, 3)


def test_a_network_too_large_to_hold_is_thinned_and_a_fault_still_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    graph = network()
    path = faulty(tmp_path)
    monkeypatch.setattr(sys.modules["instep.verify.verify"], "AFFORDABLE", 40_000.0)
    verdict = verify(GraphReference(graph), path, graph=graph)
    assert any("values of this network are large" in n for n in verdict.notes)
    assert verdict.verdict == "out of step"
    assert verdict.first is not None and verdict.first.source == "right"
    assert verdict.diagnosis is not None and verdict.diagnosis.scope == "right"
    healthy = verify(GraphReference(graph), written(graph, tmp_path / "healthy.tflite"), graph=graph)
    assert healthy.verdict == "in step"
