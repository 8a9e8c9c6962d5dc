"""Arithmetic operations are counted as TensorFlow's converter counts them, in a graph and in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import instep
from instep.cli import app
from instep.graph import ops
from instep.graph.operator import Operator, Spec
from instep.graph.text import parse
from instep.report.table import table_of_file, table_of_graph
from instep.runtime import tflite_info
from instep.zoo import path_of

#: A picture of [1, 20, 30, 8], the operator's weights, and what TensorFlow 2.21's converter logs as its "estimated
#: count of arithmetic ops" in units of the last printed digit.
LOGGED: list[tuple[Operator, list[tuple[int, ...]], int, int]] = [
    (ops.Conv2d((1, 1), ((1, 1), (1, 1)), layout="NHWC"), [(16, 3, 3, 8)], 1_392_000, 1000),
    (ops.Conv2d((1, 1), ((1, 1), (1, 1)), layout="NHWC"), [(16, 3, 3, 8), (16,)], 1_392_000, 1000),
    (ops.Conv2d((2, 2), ((0, 1), (0, 1)), layout="NHWC"), [(16, 3, 3, 8), (16,)], 348_000, 1000),
    (ops.Conv2d((1, 1), ((1, 1), (1, 1)), groups=8, layout="NHWC"), [(8, 3, 3, 1)], 91_000, 1000),
    (ops.Conv2d((1, 1), ((1, 1), (1, 1)), groups=2, layout="NHWC"), [(16, 3, 3, 4), (16,)], 701_000, 1000),
    (ops.ConvTranspose2d((2, 2), ((0, 1), (0, 1)), layout="NHWC"), [(8, 3, 3, 16), (16,)], 1_382_000, 1000),
    (ops.Linear(), [(16, 8)], 154_000, 1000),
    (ops.Linear(), [(16, 8), (16,)], 163_000, 1000),
    (ops.LayerNorm((3,)), [(8,), (8,)], 20_000, 1000),
    (ops.Add(), [(1, 20, 30, 8)], 4800, 1), (ops.Sub(), [(1, 20, 30, 8)], 4800, 1),
    (ops.Mul(), [(1, 20, 30, 8)], 4800, 1), (ops.Div(), [(1, 20, 30, 8)], 4800, 1),
    (ops.Sigmoid(), [], 307_000, 1000), (ops.Tanh(), [], 307_000, 1000), (ops.Softmax(3), [], 307_000, 1000),
    (ops.AvgPool2d((3, 3), (2, 2), ((0, 1), (0, 1)), False, layout="NHWC"), [], 11_000, 1000),
    (ops.MaxPool2d((3, 3), (2, 2), ((0, 1), (0, 1)), layout="NHWC"), [], 11_000, 1000),
    (ops.Relu(), [], 0, 1), (ops.LeakyRelu(0.2), [], 0, 1), (ops.Gelu(), [], 0, 1), (ops.HardSwish(), [], 0, 1),
    (ops.Elu(), [], 0, 1), (ops.Exp(), [], 0, 1), (ops.Rsqrt(), [], 0, 1), (ops.Maximum(), [(1, 20, 30, 8)], 0, 1),
    (ops.SquaredDifference(), [(1, 20, 30, 8)], 0, 1), (ops.ReduceMean((1, 2), True), [], 0, 1),
    (ops.DepthToSpace(2, "DCR", "NHWC"), [], 0, 1), (ops.Resize2d((40, 60), layout="NHWC"), [], 0, 1),
]  # fmt: skip


@pytest.mark.parametrize(("op", "weights", "logged", "digit"), LOGGED, ids=lambda v: getattr(v, "name", None))
def test_an_operator_counts_what_the_converter_logs(
    op: Operator, weights: list[tuple[int, ...]], logged: int, digit: int
) -> None:
    inputs = [Spec((1, 20, 30, 8)), *(Spec(s) for s in weights)]
    assert round(op.arithmetic(inputs, op.infer(*inputs)) / digit) * digit == logged


#: "FLOPs [G]" of the log of the Mobile AI 2023 challenge, at 180 × 320.
GIGA = {
    "vapsr_4_1": 7.462, "swat_0": 5.803, "swat_1": 3.900, "swat_3": 2.949, "swat_3_1": 2.776, "swat_3_2": 2.996,
    "swat_4": 6.202, "swat_5": 2.949, "swat_6": 2.417,
}  # fmt: skip


@pytest.mark.parametrize("name", GIGA)
def test_operations_are_those_of_the_log_to_three_decimals(name: str) -> None:
    table = table_of_graph(parse(path_of(name), initial=False), name)
    assert f"{table.arithmetic / 1e9:.3f}" == f"{GIGA[name]:.3f}"


def test_show_says_how_many_in_both_forms() -> None:
    said = CliRunner().invoke(app, ["show", "zoo:swat_0", "--depth", "1"]).output
    assert "arithmetic operations  5.803 G" in said
    table = json.loads(CliRunner().invoke(app, ["show", "zoo:swat_0", "--json"]).output)
    assert table["arithmetic"] == 5_802_508_800
    assert sum(r["arithmetic"] for r in table["lines"] if r["operator"]) == table["arithmetic"]


def test_a_file_counts_as_the_network_that_it_was(tmp_path: Path) -> None:
    """ELSR is written one to one: convolutions, PReLU, an addition; so both count alike."""
    out = tmp_path / "elsr.tflite"
    instep.convert("zoo:elsr", out, inputs=[(1, 3, 24, 32)], verify=False)
    graph = parse(path_of("elsr"), inputs=[(1, 3, 24, 32)], initial=False)
    assert table_of_file(tflite_info(out)).arithmetic == table_of_graph(graph, "elsr").arithmetic
