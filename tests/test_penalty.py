"""L2 of kernels: what a text says joins the loss of exported code in every framework, and Keras files keep it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import instep
from instep.graph import Graph
from instep.graph.text import dump, parse
from instep.rewrite.pipelines import to_channels_last

#: Two factors, a layer without, a depthwise and a transposed layer, one called twice, one in a block of its own.
MIXED = """
input: {x: [1, 8, 8, 3]}
layout: NHWC
structs:
  Block:
    args: {out: int}
    body:
      - conv: {out: out, kernel: 3, padding: 1, decay: 0.002}
      - relu
body:
  - a = Block: {out: 4}
  - b = Block: {out: 6}
  - d = conv: {out: 6, kernel: 3, groups: 6, decay: 0.01}
  - t = conv_transpose: {out: 5, kernel: 2, stride: 2, decay: 0.002}
  - free = conv: {out: 5, kernel: 1}
  - flatten
  - f = linear: {out: 2, decay: 0.03}
"""

#: One factor for all kernels but one: the code names that one.
ALIKE = """
input: {x: [1, 8, 8, 3]}
layout: NHWC
defaults: {conv: {decay: 0.0005}}
body:
  - a = conv: {out: 4, kernel: 3}
  - b = conv: {out: 4, kernel: 1}
  - c = conv: {out: 4, kernel: 1}
  - e = conv: {out: 4, kernel: 1}
  - flatten
  - f = linear: {out: 2}
"""


def expected(graph: Graph) -> float:
    """decay · Σ w² / 2 in float64."""
    decay = graph.meta["decay"]
    return sum(
        decay.get(v.name, 0.0) / 2 * float(np.sum(np.asarray(a, np.float64) ** 2)) for v, a in graph.weights.items()
    )


@pytest.fixture(params=[MIXED, ALIKE], ids=["mixed", "alike"])
def graph(request: pytest.FixtureRequest) -> Graph:
    return parse(request.param, seed=3)


def test_pytorch_code_has_the_penalty(graph: Graph) -> None:
    from instep.emit import torch as emit

    model = emit.build(graph)
    loss = emit.penalty(graph)(model)
    assert loss.item() == pytest.approx(expected(graph), rel=1e-5)
    assert instep.build(graph, "torch").penalty().item() == pytest.approx(loss.item(), rel=1e-6)
    loss.backward()
    grown = {n: p.grad for n, p in model.named_parameters()}
    decay = graph.meta["decay"]
    weights = {v.name: v for v in graph.weights}
    for name, gradient in grown.items():
        factor = decay.get(name) if name in weights else None
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) == bool(factor), name


@pytest.mark.parametrize("style", ["nnx", "function"])
def test_jax_code_has_the_penalty(graph: Graph, style: str) -> None:
    pytest.importorskip("flax", reason="Flax is not installed")
    from instep.emit import jax as emit

    last, _ = to_channels_last(graph)
    network: Any = emit.build(last) if style == "nnx" else emit.function(last)[1]
    assert float(emit.penalty(last, style)(network)) == pytest.approx(expected(graph), rel=1e-5)
    if style == "nnx":
        assert float(network.penalty()) == pytest.approx(expected(graph), rel=1e-5)


def test_keras_layers_have_their_regularisers_and_files_keep_them(graph: Graph, tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="Keras is not installed")
    from instep.emit import keras as emit

    last, _ = to_channels_last(graph)
    model = emit.build(last)
    assert float(sum(map(float, model.losses))) == pytest.approx(expected(graph), rel=1e-5)
    emit.save(last, tmp_path / "net.keras")
    again = instep.capture(str(tmp_path / "net.keras")).graph
    assert sorted(again.meta["decay"].values()) == pytest.approx(sorted(graph.meta["decay"].values()))
    assert expected(again) == pytest.approx(expected(graph), rel=1e-5)
    assert parse(dump(again)).meta["decay"] == again.meta["decay"]


def test_without_a_decay_there_is_no_penalty() -> None:
    from instep.emit import torch as emit

    plain = parse("input: {x: [1, 3, 8, 8]}\nbody:\n  - conv: {out: 4, kernel: 3}\n")
    assert "penalty" not in emit.source(plain)
    assert emit.penalty(plain)(emit.build(plain)) == 0.0 and not hasattr(emit.build(plain), "penalty")


def test_a_part_of_the_network_called_penalty_stays() -> None:
    from instep.emit import torch as emit

    body = "body:\n  - penalty = conv: {out: 4, kernel: 3, decay: 0.01}\n"
    graph = parse(f"input: {{x: [1, 3, 8, 8]}}\n{body}", seed=3)
    model: Any = emit.build(graph)
    assert "penalty.weight" in model.state_dict() and tuple(model.penalty.weight.shape) == (4, 3, 3, 3)
    assert emit.penalty(graph)(model).item() == pytest.approx(expected(graph), rel=1e-5)
