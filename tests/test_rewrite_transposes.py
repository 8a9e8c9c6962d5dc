"""Matrix products absorb the transposes around them."""

import numpy as np
import pytest

from instep.graph import Graph, Value, ops
from instep.rewrite import driver
from instep.rewrite.fuse.transposes import absorb_transposes


def product(links_b, flags=(False, False), after=()):
    a, b = Value("a", (1, 4, 10, 6) if not flags[0] else (1, 4, 6, 10)), Value("b", (1, 12, 24))
    graph = Graph(inputs=[a, b], input_names=["a", "b"])
    value = b
    for i, op in enumerate(links_b):
        value = graph.add(op, [value], names=[f"b{i}"]).output
    value = graph.add(ops.MatMul(*flags), [a, value], names=["product"]).output
    for i, op in enumerate(after):
        value = graph.add(op, [value], names=[f"after{i}"]).output
    graph.outputs, graph.output_names = [value], ["y"]
    return graph


HEADS = (ops.Reshape((1, 12, 4, 6)), ops.Permute((0, 2, 1, 3)))
SWAP = ops.Permute((0, 1, 3, 2))


@pytest.mark.parametrize(
    ("graph", "kinds", "flags"),
    [
        (product((*HEADS, SWAP)), ["Reshape", "Permute", "MatMul"], (False, True)),
        (product(HEADS, (False, True)), ["Reshape", "Permute", "MatMul"], (False, True)),  # already the longer runs
        (product(HEADS, (False, True), after=(SWAP,)), ["Reshape", "Permute", "MatMul"], (False, True)),
        (product(HEADS, (True, True), after=(SWAP,)), ["Reshape", "Permute", "MatMul"], (False, False)),
    ],
)
def test_flags_take_the_place_of_transposes(graph, kinds, flags):
    result, _ = driver.run(graph, [absorb_transposes])
    assert [n.op.name for n in result.nodes] == kinds
    op = result.nodes[-1].op
    assert (op.transpose_a, op.transpose_b) == flags
    rng = np.random.default_rng(0)
    data = [rng.standard_normal(v.shape) for v in graph.inputs]
    np.testing.assert_allclose(result.run(data)[result.outputs[0]], graph.run(data)[graph.outputs[0]], rtol=1e-12)


def test_a_transposed_value_that_others_read_stays():
    graph = product((*HEADS, SWAP))
    graph.outputs.append(graph.nodes[2].output)
    graph.output_names.append("z")
    _, reports = driver.run(graph, [absorb_transposes])
    assert not reports[0].changed
