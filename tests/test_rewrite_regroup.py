"""Axes joined from windows and split into a grid need no value of more than four axes."""

from __future__ import annotations

import numpy as np

from instep.graph import Graph, SourceView, Value, ops
from instep.rewrite.pipelines import to_tflite


def test_windows_that_become_a_grid_stay_at_rank_four() -> None:
    # 8 windows of 7 along each side join to 56; a grid splits 56 into 7 times 8 (Tu et al., arXiv 2204.01697)
    graph = Graph()
    x = Value("x", (1, 64, 49, 3))
    x.source = SourceView.whole("x", x.shape)
    graph.inputs, graph.input_names, graph.output_names = [x], ["x"], ["y"]
    value = x
    for op in (
        ops.Reshape((1, 8, 8, 7, 7, 3)),
        ops.Permute((0, 5, 1, 3, 2, 4)),
        ops.Reshape((1, 3, 56, 56)),
        ops.Reshape((1, 3, 7, 8, 7, 8)),
        ops.Permute((0, 2, 4, 3, 5, 1)),
        ops.Reshape((1, 49, 64, 3)),
    ):
        value = graph.add(op, [value], names=[f"v{len(graph.nodes)}"]).output
        value.source = SourceView.whole(value.name, value.shape)
    graph.outputs = [value]
    array = np.random.default_rng(0).standard_normal(x.shape)
    (want,) = graph.run([array], keep=[]).values()
    lowered, _ = to_tflite(graph, io="nchw")
    (got,) = lowered.run([array], keep=[]).values()
    np.testing.assert_array_equal(got.reshape(want.shape), want)
    assert max(v.rank for v in lowered.values()) <= 4
