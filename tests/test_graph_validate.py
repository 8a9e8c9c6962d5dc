"""What a stage promises is checked: a graph that breaks it is refused with the node and the stage."""

import numpy as np
import pytest

from instep.graph import GraphError, ops
from instep.graph.validate import validate
from rewriting import Net


def image(op, *constants):
    net = Net((1, 4, 6, 6))
    return net.out(net(op, net.inputs[0], *constants, scope="layer"))


def test_each_stage_refuses_what_it_excludes():
    fused = image(ops.Conv2d(activation="relu"), (4, 4, 1, 1))
    with pytest.raises(GraphError, match=r"Conv2d 'layer' has a fused activation: the graph is not captured"):
        validate(fused, stage="captured")
    with pytest.raises(GraphError, match=r"still reads NCHW: the graph is not laid out \(after my-rewrite\)"):
        validate(fused, stage="laid out", after="my-rewrite")
    with pytest.raises(GraphError, match="handles float64"):
        validate(image(ops.Relu()), stage="lowered")
    validate(image(ops.Relu()), stage="captured")


def test_a_value_read_before_it_is_made_and_a_wrong_shape_are_refused():
    graph = image(ops.Softmax(1))
    graph.nodes[0].output.shape = (1, 4, 6, 7)
    with pytest.raises(GraphError, match="is declared"):
        validate(graph)
    net = Net((2, 3))
    first = net(ops.Relu(), net.inputs[0])
    graph = net.out(net(ops.Add(), first, np.ones((2, 3))))
    graph.nodes.reverse()
    with pytest.raises(GraphError, match="reads %v1 before it is made"):
        validate(graph)
