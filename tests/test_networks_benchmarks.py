"""The benchmarks' own machinery: the lists of networks, the floor file, the tables that they write."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
pytest.importorskip("torch")

from benchmarks import ntire, report, runner
from benchmarks.networks import Network, suite
from benchmarks.ours import convolutions_alone

from instep.graph import Graph, Value, ops


def test_timm_suites_hold_every_family_once() -> None:
    small, large = suite("timm"), suite("timm-large")
    assert (len(small), len(large)) == (86, 12)
    assert not {n.name for n in small} & {n.name for n in large}


SELECT = """
def select_model(args, device):
    model_id = args.model_id
    if model_id == -1:
        name, data_range = f"{model_id:02}_IMDN_baseline", 1.0
        model_path = os.path.join("model_zoo", "imdn.pth")
    elif model_id == 7:
        pass
    elif model_id == 19:
        name, data_range = f"{model_id:02}_Wide", 255.0
        model_path = os.path.join("model_zoo", f"team19_wide.pt")
        model.load_state_dict(torch.load(model_path)["params"])
    else:
        raise NotImplementedError(f"no model {model_id}.pth")
"""


def test_the_entries_of_a_challenge_are_read_from_its_own_selection(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "test_demo.py").write_text(SELECT)
    (tmp_path / "model_zoo").mkdir()
    (tmp_path / "model_zoo" / "team19_wide.pt").touch()
    zoo = tmp_path / "model_zoo"
    assert ntire.entries(tmp_path) == [
        ntire.Entry(-1, 1.0, zoo / "imdn.pth"),
        ntire.Entry(7, 1.0, None),
        ntire.Entry(19, 255.0, zoo / "team19_wide.pt"),
    ]
    monkeypatch.setenv("INSTEP_NTIRE2024", str(tmp_path))
    assert [(n.name, n.data_range) for n in suite("ntire2024")] == [("team19", 255.0)]
    monkeypatch.setenv("INSTEP_NTIRE2024", "")
    with pytest.raises(FileNotFoundError, match=r"Amazingren/NTIRE2024_ESR.*set INSTEP_NTIRE2024"):
        suite("ntire2024")


def test_unknown_names_are_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="checkpoints"):
        suite("imagenet")
    with pytest.raises(SystemExit, match="no network nothing in elsr"):
        runner.chosen(argparse.Namespace(suite="elsr", only="nothing"))


def two_convolutions(glue: bool) -> Graph:
    """conv 3→8, tanh where ``glue``, conv 8→4 on the same map."""
    graph = Graph()
    x = Value("x", (1, 6, 6, 3))
    graph.inputs, graph.input_names = [x], ["x"]
    draw = np.random.default_rng(0)
    for i, (wide, narrow) in enumerate(((8, 3), (4, 8))):
        weight = graph.constant(draw.standard_normal((wide, 3, 3, narrow)).astype(np.float32), f"w{i}")
        op = ops.Conv2d(padding=((1, 1), (1, 1)), layout="NHWC")
        x = graph.add(op, [x, weight], names=[f"conv{i}"]).output
        if glue and not i:
            x = graph.add(ops.Tanh(), [x], names=["tanh"]).output
    graph.outputs, graph.output_names = [x], ["y"]
    return graph


def test_floor_holds_the_convolutions_in_a_chain_and_nothing_else() -> None:
    floor = convolutions_alone(two_convolutions(glue=True))
    assert floor is not None
    assert [type(n.op) for n in floor.nodes] == [ops.Conv2d, ops.Conv2d]
    assert len(floor.inputs) == len(floor.outputs) == 1
    x = np.random.default_rng(1).standard_normal((1, 6, 6, 3))
    (got,) = floor.run([x], keep=[]).values()
    (want,) = two_convolutions(glue=False).run([x], keep=[]).values()
    np.testing.assert_array_equal(got, want)


def test_floor_of_a_network_without_convolutions_is_none() -> None:
    graph = Graph([Value("x", (1, 4))], input_names=["x"])
    graph.outputs, graph.output_names = [graph.add(ops.Relu(), graph.inputs).output], ["y"]
    assert convolutions_alone(graph) is None


def test_document_keeps_its_text_around_a_table_that_is_written_twice(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Before\n")
    options = argparse.Namespace(json=tmp_path / "out.json", output=page)
    report.deliver(options, "speed elsr", report.table(["a"], [[1]]), {"x": 1})
    page.write_text(page.read_text() + "\nafter\n")
    report.deliver(options, "speed elsr", report.table(["a"], [[2]]), {"x": 2})
    text = page.read_text()
    assert text.startswith("# Before\n") and text.endswith("\nafter\n")
    assert text.count("speed elsr: begin") == 1 and "| 2 |" in text and "| 1 |" not in text


def test_geometric_mean_of_a_ratio_and_its_inverse_is_one() -> None:
    assert report.geometric_mean([0.5, 2.0]) == pytest.approx(1.0)


def test_failed_and_finished_conversions_are_told_apart() -> None:
    assert runner.failed({"error": "conversion: no"})
    assert not runner.failed({"seconds": {"total": 1.0}, "error": "run: no"})


def test_network_is_plain_data() -> None:
    network = Network("elsr", "x", lambda: (_ for _ in ()).throw(AssertionError), lambda _: ())
    assert (network.scale, network.data_range) == (1, 0.0)
