"""A graph that goes to a file and back is the same graph."""

from __future__ import annotations

import math

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from instep.graph import GraphError, ops
from instep.graph.store import load, save
from rewriting import Net, same


def network():
    net = Net((1, 4, 8, 8))
    y = net(ops.Conv2d((2, 2), ((0, 1), (1, 0)), groups=2), net.inputs[0], (6, 2, 3, 3), (6,), scope="stem.conv")
    y = net(ops.Clip(0.0, math.inf), net.norm(y))
    y = net(ops.Resize2d((8, 8), scale=(2.0, 2.0)), y)
    y = net(ops.Mul(), y, np.array(0.5))
    graph = net.out(y, net(ops.ReduceMean((2, 3), False), y))
    graph.nodes[0].origin = "model.py:41"
    graph.meta = {"source": "net.py:build", "opaque": object()}
    return graph


def test_a_graph_comes_back_as_it_was(tmp_path):
    graph = network()
    save(graph, tmp_path / "net.safetensors")
    back = load(tmp_path / "net.safetensors")
    same(graph, back, tolerance=0)
    assert [repr(n) for n in back.nodes] == [repr(n) for n in graph.nodes]
    assert [(n.scope, n.origin) for n in back.nodes] == [(n.scope, n.origin) for n in graph.nodes]
    assert [n.op for n in back.nodes] == [n.op for n in graph.nodes]
    assert back.meta == {"source": "net.py:build"}
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_its_weights_are_ordinary_safetensors(tmp_path):
    graph = network()
    save(graph, tmp_path / "net.safetensors")
    arrays = load_file(tmp_path / "net.safetensors")
    assert {v.name for v in graph.weights} == set(arrays)


def test_other_files_are_refused_with_their_name(tmp_path):
    save_file({"a": np.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(GraphError, match=r"weights\.safetensors holds weights but no graph"):
        load(tmp_path / "weights.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(GraphError, match=r"junk\.safetensors is not a safetensors file"):
        load(tmp_path / "junk.safetensors")


def test_an_unknown_operator_and_a_broken_graph_are_refused(tmp_path):
    import json

    from instep.graph.store import KEY, to_json

    graph = network()
    for change, message in (("op", "operator Nonsense is not known"), ("inputs", "before it is made")):
        data = to_json(graph)
        data["nodes"][0][change] = "Nonsense" if change == "op" else [graph.nodes[-1].output.name, "c1"]
        tensors = {v.name: np.array(a) for v, a in graph.weights.items()}
        save_file(tensors, tmp_path / "bad.safetensors", metadata={KEY: json.dumps(data)})
        with pytest.raises(GraphError, match=message):
            load(tmp_path / "bad.safetensors")
