"""Norms that go without a scale or a shift go without it everywhere: it is no parameter, and nothing trains it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import instep
from clean_code import assert_clean
from instep.emit import jax as emit_jax
from instep.emit import keras as emit_keras
from instep.emit import torch as emit_torch
from instep.graph import Graph
from instep.graph.difference import difference
from instep.graph.text.dump import save
from instep.rewrite.pipelines import to_channels_first, to_channels_last

TEXT = """
instep: 1
name: without
input: {x: [2, 4, 5, 6]}
body:
  - b0 = batch_norm
  - b1 = batch_norm: {scale: false}
  - b2 = batch_norm: {bias: false}
  - b3 = batch_norm: {scale: false, bias: false}
  - g1 = group_norm: {groups: 2, scale: false}
  - g2 = group_norm: {groups: 2, bias: false}
  - g3 = group_norm: {groups: 2, scale: false, bias: false}
  - l1 = layer_norm: {axes: [1, 2, 3], scale: false}
  - Permute: {perm: [0, 2, 3, 1]}
  - t1 = layer_norm: {scale: false}
  - t2 = layer_norm: {bias: false}
  - t3 = layer_norm: {scale: false, bias: false}
"""
WEIGHTS = {"b0.weight", "b2.weight", "g2.weight", "t2.weight"}
BIASES = {"b0.bias", "b1.bias", "g1.bias", "l1.bias", "t1.bias"}


def network() -> Graph:
    graph = instep.parse(TEXT)
    rng = np.random.default_rng(3)
    for value in list(graph.weights):
        if "/" not in value.name:
            graph.weights[value] = rng.uniform(0.5, 2, value.shape).astype(np.float32)
    return graph


def close(got: Any, graph: Graph, x: np.ndarray) -> None:
    want = graph.run([x.astype(np.float64)])[graph.outputs[0]]
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-4, atol=1e-4)


def test_the_text_has_only_the_weights_that_the_layers_have_and_comes_back(tmp_path: Path) -> None:
    graph = network()
    assert {v.name for v in graph.weights if v.name.endswith((".weight", ".bias"))} == WEIGHTS | BIASES
    save(graph, tmp_path / "net.yaml")
    text = (tmp_path / "net.yaml").read_text("utf-8")
    assert "b1 = batch_norm: {scale: false}" in text
    assert "t3 = layer_norm: {scale: false, bias: false}" in text
    assert "param" not in text
    assert difference(graph, instep.parse(tmp_path / "net.yaml")) == ""


def test_pytorch_trains_what_is_there() -> None:
    torch = pytest.importorskip("torch")
    graph, _ = to_channels_first(network())
    model = emit_torch.build(graph)
    assert {n for n, _ in model.named_parameters()} == WEIGHTS | BIASES
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 6)).astype(np.float32)
    with torch.no_grad():
        close(model(torch.from_numpy(x)), graph, x)
    source = emit_torch.source(graph)
    assert "t2 = nn.LayerNorm(4, bias=False)" in source
    assert 'b1 = without(nn.BatchNorm2d(4), "weight")' in source
    again = instep.capture(model, inputs=[(2, 4, 5, 6)]).graph
    assert {v.name for v in again.weights if v.name in WEIGHTS | BIASES} == WEIGHTS | BIASES


def test_keras_trains_what_is_there() -> None:
    pytest.importorskip("keras")
    graph, _ = to_channels_last(network())
    model = emit_keras.build(graph)
    names = {"gamma": "weight", "beta": "bias"}
    found = {f"{layer.name}.{names[w.name]}" for layer in model.layers for w in layer.trainable_weights}
    assert found == WEIGHTS | BIASES
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    close(model(x), graph, x)
    assert {n for n in emit_keras.state(graph) if n.endswith((".gamma", ".beta"))} == {
        n.replace("weight", "gamma").replace("bias", "beta") for n in WEIGHTS | BIASES
    }


@pytest.mark.skipif(importlib.util.find_spec("flax") is None, reason="flax is not installed")
def test_jax_trains_what_is_there() -> None:
    from flax import nnx

    graph, _ = to_channels_last(network())
    model = emit_jax.build(graph)
    trained = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    close(model(x), graph, x)
    assert {n.replace("scale", "weight") for n in trained} == WEIGHTS | BIASES
    apply, params = emit_jax.function(graph)
    close(apply(params, x), graph, x)
    outputs, _ = apply(params, x, train=True)
    assert outputs.shape == x.shape
    assert set(params["b1"]) == {"bias", "mean", "var"}


def test_a_layer_that_is_called_twice_goes_without_it_twice(tmp_path: Path) -> None:
    text = """
    instep: 1
    input: {x: [2, 4, 5, 6]}
    body:
      - batch_norm: {scale: false, at: norm}
      - relu
      - batch_norm: {scale: false, at: norm}
    """
    graph = instep.parse(text)
    first, second = (n for n in graph.nodes if n.op.name == "BatchNorm")
    assert first.inputs[1:] == second.inputs[1:]
    save(graph, tmp_path / "net.yaml")
    assert difference(graph, instep.parse(tmp_path / "net.yaml")) == ""


def test_the_code_is_clean(tmp_path: Path) -> None:
    first, last = to_channels_first(network())[0], to_channels_last(network())[0]
    emit_torch.save(first, tmp_path / "torch_code.py")
    emit_keras.save(last, tmp_path / "keras_code.py")
    emit_jax.save(last, tmp_path / "flax_code.py")
    emit_jax.save(last, tmp_path / "function_code.py", "function")
    assert_clean(tmp_path)
