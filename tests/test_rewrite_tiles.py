"""Convolutions split at a multiple of the tile compute what the whole ones did."""

from __future__ import annotations

import numpy as np
import pytest

from instep.graph import Graph, Value, ops
from instep.rewrite.driver import run
from instep.rewrite.tune.tiles import split_convolutions


def network(channels: int, kernel: int = 3, layout: str = "NHWC") -> Graph:
    graph = Graph()
    x = Value("x", (1, 5, 6, 4) if layout == "NHWC" else (1, 4, 5, 6))
    graph.inputs, graph.input_names = [x], ["x"]
    draw = np.random.default_rng(0)
    shape = (channels, kernel, kernel, 4) if layout == "NHWC" else (channels, 4, kernel, kernel)
    weight = graph.constant(draw.standard_normal(shape).astype(np.float32), "w")
    bias = graph.constant(draw.standard_normal(channels).astype(np.float32), "b")
    pad = kernel // 2
    conv = ops.Conv2d(padding=((pad, pad), (pad, pad)), layout=layout)
    y = graph.add(conv, [x, weight, bias], names=["conv"]).output
    y = graph.add(ops.LeakyRelu(0.1), [y], names=["act"]).output
    graph.outputs, graph.output_names = [y], ["y"]
    return graph


@pytest.mark.parametrize("channels", [33, 40, 48, 72])
def test_split_network_is_the_same_function(channels: int) -> None:
    before = network(channels)
    after, _ = run(before, [split_convolutions(32)])
    kinds = [type(n.op) for n in after.nodes]
    assert kinds.count(ops.Conv2d) == 2 and kinds.count(ops.LeakyRelu) == 2 and kinds.count(ops.Concat) == 1
    x = np.random.default_rng(1).standard_normal((1, 5, 6, 4))
    (want,), (got,) = before.run([x], keep=[]).values(), after.run([x], keep=[]).values()
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert after.outputs[0].name == "act"


@pytest.mark.parametrize("graph", [network(32), network(16), network(64), network(50), network(48, kernel=1)])
def test_full_tiles_large_remainders_and_pointwise_convolutions_stay_whole(graph: Graph) -> None:
    after, reports = run(graph, [split_convolutions(32)])
    assert not any(r.changed for r in reports)
    assert len(after.nodes) == 2


def test_other_layouts_stay_whole() -> None:
    assert not any(r.changed for r in run(network(48, layout="NCHW"), [split_convolutions(32)])[1])
