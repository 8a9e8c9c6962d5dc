"""A conversion out of step names the step of the pipeline that did it: faults planted into rewrites and lowerings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
import torch.nn.functional as F
from torch import nn

import instep
from instep.emit.tflite import LOWERINGS
from instep.graph import Node, ops
from instep.rewrite import pipelines
from instep.rewrite.driver import Rewrite, rewrite
from instep.rewrite.edit import Editor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.body = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.tail = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm(self.stem(x)))
        for conv in self.body:
            y = F.hardswish(conv(y)) + y
        return self.tail(y.mean((2, 3)))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    made = Net().eval()
    made.norm.running_mean, made.norm.running_var = 2 * torch.rand(8) - 1, 1.5 * torch.rand(8) + 0.5
    return made


def convert(net: nn.Module, folder: Path, **more: Any) -> Any:
    return instep.convert(net, folder / "net.tflite", inputs=[[1, 3, 16, 16]], **more)


def scaling(scope: str, factor: float) -> Rewrite:
    """A rewrite that multiplies the weights of the convolution ``scope``, once: exact it is not."""

    @rewrite("it is not: planted")
    def planted(edit: Editor) -> bool:
        for node in edit.nodes(ops.Conv2d):
            weight = node.inputs[1]
            if node.scope == scope and edit.graph.weights[weight].flags.writeable:
                made = edit.constant(np.float32(factor) * edit.graph.weights[weight], weight.name)
                edit.graph.weights[made].flags.writeable = False
                edit.update(node, inputs=[node.inputs[0], made, *node.inputs[2:]])
                return True
        return False

    return planted


@pytest.mark.parametrize("group", ["FOLD", "ORDER"])
def test_a_rewrite_that_is_not_exact_is_named_with_the_operator_that_it_touched(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str
) -> None:
    monkeypatch.setattr(pipelines, group, (scaling("body.1", 1.01), *getattr(pipelines, group)))
    page = tmp_path / "report.html"
    result = convert(net, tmp_path, report=page)
    assert not result.ok
    culprit = result.verdict.culprit
    assert culprit is not None and (culprit.stage, culprit.name) == ("rewrite", "planted")
    assert culprit.operator == "Conv2d" and culprit.scope == "body.1"
    assert culprit.exact == "it is not: planted"
    # two evaluations name the operator, one asks the last graph, the rest is bisection
    assert culprit.evaluations <= 3 + np.ceil(np.log2(culprit.steps + 1))
    said = json.loads(json.dumps(result.to_json()))["culprit"]
    assert said["name"] == "planted" and said["scope"] == "body.1"
    assert "planted" in page.read_text() and "Culprit" in page.read_text()


def test_a_fault_that_the_outputs_hide_is_traced_to_its_rewrite_too(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        net.get_parameter("tail.weight").zero_()[:, 0] = 1e-12
    monkeypatch.setattr(pipelines, "FOLD", (scaling("body.0", 1.5), *pipelines.FOLD))
    result = convert(net, tmp_path)
    assert result.verdict.verdict == "drifting" and result.verdict.culprit is not None
    assert result.verdict.culprit.name == "planted" and result.verdict.culprit.scope == "body.0"


def test_a_lowering_that_writes_something_else_is_named_as_the_emitter(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = LOWERINGS[ops.Conv2d]

    def broken(writer: Any, node: Node) -> None:
        if node.scope == "body.2":
            weight = node.inputs[1]
            writer.graph.weights[weight] = writer.graph.weights[weight] * np.float32(1.05)
        healthy(writer, node)

    monkeypatch.setitem(LOWERINGS, ops.Conv2d, broken)
    result = convert(net, tmp_path)
    assert not result.ok
    culprit = result.verdict.culprit
    assert culprit is not None and (culprit.stage, culprit.name) == ("emit", "CONV_2D")
    assert culprit.scope == "body.2" and "both engines" in culprit.evidence


def test_a_capture_that_misreads_the_source_is_named_as_capture(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from instep.verbs import convert as verb

    faithful = verb.capture

    def misread(*args: Any, **more: Any) -> Any:
        captured = faithful(*args, **more)
        node = next(n for n in captured.graph.nodes if isinstance(n.op, ops.HardSwish))
        node.op = ops.Relu()
        return captured

    monkeypatch.setattr(verb, "capture", misread)
    result = convert(net, tmp_path)
    assert not result.ok and result.verdict.diagnosis.cause == "misread at capture"
    culprit = result.verdict.culprit
    assert culprit is not None and culprit.stage == "capture" and culprit.scope.startswith("hardswish")


def test_a_conversion_in_step_has_no_culprit(net: nn.Module, tmp_path: Path) -> None:
    result = convert(net, tmp_path)
    assert result.ok and result.verdict.culprit is None and result.to_json()["culprit"] is None


def test_outputs_in_each_others_place_are_out_of_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two outputs of one shape: each value is right, but a caller who counts on their order gets the wrong one."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.left(x), self.right(x)

    torch.manual_seed(0)
    net = Two().eval()
    assert instep.convert(net, tmp_path / "whole.tflite", inputs=[[1, 3, 8, 8]]).verdict.ok  # type: ignore[union-attr]
    to_tflite = pipelines.to_tflite

    def swapped(graph: Any, **more: Any) -> Any:
        made, reports = to_tflite(graph, **more)
        made.outputs = list(reversed(made.outputs))
        return made, reports

    monkeypatch.setattr(pipelines, "to_tflite", swapped)
    verdict = instep.convert(net, tmp_path / "swapped.tflite", inputs=[[1, 3, 8, 8]]).verdict
    assert verdict is not None and not verdict.ok
    assert any("in the place of output 0" in note for note in verdict.notes), verdict.notes


def test_a_file_made_from_a_file_is_proved_against_the_first_source(tmp_path: Path, net: nn.Module) -> None:
    """The second file's table speaks of the first file's values: names alike, axes in another order."""
    convert(net, tmp_path)
    again = instep.convert(tmp_path / "net.tflite", tmp_path / "again.tflite")
    assert again.verdict is not None and again.verdict.ok
    assert instep.verify(net, tmp_path / "again.tflite", inputs=[[1, 3, 16, 16]]).verdict.ok
