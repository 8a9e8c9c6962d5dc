"""Inputs of integers: said on the command line, drawn from the whole of the table that they are rows of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.faults.file_faults import FileFault

import instep
from conftest import CommandLine
from instep.cli.options import shapes
from instep.graph import Graph, Spec, Value, ops
from instep.runtime import tflite_info
from instep.verify.indices import index_bounds, index_bounds_of_file
from instep.verify.inputs import make_inputs

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


TOKENS = """
import torch
from torch import nn

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.table, self.place = nn.Embedding(50, 16), nn.Embedding(77, 16)
        self.body = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True, dropout=0.0)
        self.out = nn.Linear(16, 5)

    def forward(self, ids):
        return self.out(self.body(self.table(ids) + self.place(torch.arange(ids.shape[1]))))
"""


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source whose input is token ids, and the file that it becomes."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "model.py").write_text(TOKENS)
    source = f"{folder / 'model.py'}:Tokens"
    instep.convert(source, folder / "net.tflite", inputs=["int64:1,77"], verify=False)
    return folder


def rows_swapped(folder: Path) -> str:
    """Write the file with rows 20 and 30 of its table in each other's place; the output of what reads the table."""
    (planted,) = FileFault("rows swapped", ("GATHER",), (), _swap_rows).places(folder / "net.tflite", 1)
    return planted.tensor


def _swap_rows(file: Any, op: Any) -> bool:
    table = file.array(op.inputs[0]).copy()
    table[[20, 30]] = table[[30, 20]]
    return file.replace(op, 0, table)


def test_a_file_says_how_far_its_ids_reach(tokens: Path) -> None:
    assert index_bounds_of_file(tflite_info(tokens / "net.tflite")) == {0: 50}


def test_a_file_of_token_ids_is_in_step_with_its_source_from_either_side(tokens: Path) -> None:
    file, source = str(tokens / "net.tflite"), f"{tokens / 'model.py'}:Tokens"
    assert instep.verify(source, file, inputs=["int64:1,77"]).verdict.ok
    assert instep.bisect(source, file, inputs=["int64:1,77"]).found is None
    assert instep.bisect(file, source).found is None  # the source takes int64, the file says int32


def test_a_fault_in_a_row_of_the_table_is_seen_and_found(tokens: Path) -> None:
    file, source = str(tokens / "net.tflite"), f"{tokens / 'model.py'}:Tokens"
    guilty, faulty = rows_swapped(tokens), str(tokens / "net-fault.tflite")
    assert not instep.verify(file, faulty).verdict.ok
    for found in (instep.bisect(source, faulty, inputs=["int64:1,77"]), instep.bisect(file, faulty)):
        assert found.scopes == [guilty]


@pytest.mark.parametrize(("by", "number"), [(20, 20), (-12, -12)])
def test_an_index_outside_of_its_table_is_said_with_its_layer_and_the_range(
    by: int, number: int, instep: CommandLine
) -> None:
    (instep.folder / "net.yaml").write_text(
        f'input: {{ids: "int64[1, 4]"}}\nbody:\n  - y := shift(ids): {{by: {by}}}\n'
        "  - table = embedding(y): {count: 10, out: 8}\n"
    )
    made = instep("convert", "net.yaml", "-o", "net.tflite")
    assert made.returncode == 2 and not (instep.folder / "net.tflite").exists()
    assert "Gather 'table' (net.yaml:4): an index is " in made.stderr
    assert "and what it indexes has the places 0 to 9" in made.stderr
