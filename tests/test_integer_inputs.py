"""Inputs of integers: said on the command line, drawn from the whole of the table that they are rows of."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import instep
from conftest import CommandLine
from instep.cli.options import shapes
from instep.graph import Graph, Spec, Value, ops
from instep.verify.inputs import index_bounds, make_inputs

pytest.importorskip("torch")

NETWORK = """
import torch
from torch import nn

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(50, 8), nn.Linear(8, 5)

    def forward(self, ids, keep):
        return self.out(self.table(ids)) * keep.unsqueeze(-1)
"""


def looked_up(*between: object) -> Graph:
    graph = Graph()
    value = Value("ids", (1, 7), "int64")
    graph.inputs.append(value)
    graph.input_names.append("ids")
    for op in between:
        value = graph.add(op, [value]).output  # type: ignore[arg-type]
    table = graph.constant(np.zeros((50, 8), np.float32), "table")
    graph.outputs.append(graph.add(ops.Gather(0), [table, value]).output)
    graph.output_names.append("y")
    return graph


def test_a_shape_may_say_the_kind_of_numbers() -> None:
    assert shapes(["1,3,8,8"]) == [[1, 3, 8, 8]]
    assert shapes(["int64:1,77", "1,3"]) == [Spec((1, 77), "int64"), [1, 3]]
    assert shapes(["ids=int32:1,77", "keep=bool:1,77"]) == {
        "ids": Spec((1, 77), "int32"),
        "keep": Spec((1, 77), "bool"),
    }


@pytest.mark.parametrize(
    "between",
    [(), (ops.Cast("int32"),), (ops.Reshape((7,)), ops.Clip(0, 40))],
    ids=["at once", "cast", "reshaped and clamped"],
)
def test_ids_are_drawn_from_the_whole_table(between: tuple[object, ...]) -> None:
    bounds = index_bounds(looked_up(*between))
    assert bounds == {0: 50}
    sets = {s.name: s.arrays[0] for s in make_inputs([Spec((1, 7), "int64")], bounds=bounds)}
    assert sets["constant"].min() == 49 and sets["zeros"].max() == 0
    assert len(np.unique(sets["noise"])) > 2 and sets["noise"].max() < 50


def test_integers_that_index_nothing_are_zeros_and_ones() -> None:
    sets = make_inputs([Spec((1, 64), "int32")])
    assert all(set(np.unique(s.arrays[0])) <= {0, 1} for s in sets)


def test_a_network_of_token_ids_is_converted_from_the_command_line(instep: CommandLine) -> None:
    (instep.folder / "model.py").write_text(NETWORK)
    command = ("convert", "model.py:Words", "-o", "words.tflite", "--json")
    made = instep(*command, "--input", "int64:1,16", "--input", "bool:1,16")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["verdict"] == "in step"
    floats = instep(*command, "--input", "1,16", "--input", "1,16")
    assert floats.returncode == 2 and "--input int64:" in floats.stderr
    wrong = instep(*command, "--input", "int46:1,16")
    assert wrong.returncode == 2 and "'int46' is none of float32, int64" in wrong.stderr


def test_functions_take_what_the_command_line_takes() -> None:
    import torch
    from torch import nn

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(50, 8)

        def forward(self, ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
            return self.table(ids) * keep.unsqueeze(-1)

    ways: list[Any] = [["int64:1,16", "1,16"], ["ids=int64:1,16", "keep=1,16"], {"ids": "int64:1,16", "keep": [1, 16]}]
    for inputs in ways:
        graph = instep.capture(Words().eval(), inputs=inputs).graph
        assert [(v.shape, v.dtype) for v in graph.inputs] == [((1, 16), "int64"), ((1, 16), "float32")]
    assert instep.capture(nn.Conv2d(3, 4, 3).eval(), inputs="1,3,37,53").graph.inputs[0].shape == (1, 3, 37, 53)
    with pytest.raises(ValueError, match="inputs int46:1,16: 'int46' is none of float32, int64"):
        instep.capture(Words().eval(), inputs=["int46:1,16", "1,16"])
    with pytest.raises(ValueError, match="inputs here: a shape is positive whole numbers"):
        instep.capture(nn.Conv2d(3, 4, 3).eval(), inputs="here")
