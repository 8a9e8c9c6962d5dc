"""Arrays whose names lie within each other, as files have them: ``zeros`` and ``zeros.2`` are two of the code's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import instep
from clean_code import assert_clean
from instep.emit import jax as emit_jax
from instep.emit import keras as emit_keras
from instep.emit import torch as emit_torch
from instep.graph import Graph, Value, ops
from instep.rewrite.pipelines import to_channels_last
from instep.zoo import path_of

X = np.random.default_rng(1).random((2, 3), np.float32)


def network() -> tuple[Graph, np.ndarray]:
    """A linear layer, and arrays called as it, as one of its arrays and more, and as each other."""
    graph, x, rng = Graph(), Value("x", (2, 3), "float32"), np.random.default_rng(0)
    weight, bias = (
        graph.constant(rng.random((4, 3), np.float32), "fc.weight"),
        graph.constant(np.ones(4, "f"), "fc.bias"),
    )
    y = graph.add(ops.Linear(), [x, weight, bias], scope="fc").output
    for name in ("fc", "fc.bias.1", "zeros", "zeros.2.3"):
        y = graph.add(ops.Add(), [y, graph.constant(rng.random(4, np.float32), name)], scope="m").output
    graph.inputs, graph.outputs, graph.input_names, graph.output_names = [x], [y], ["x"], ["y"]
    return graph, graph.run([X])[y]


def test_in_pytorch() -> None:
    torch = pytest.importorskip("torch")
    graph, want = network()
    model = emit_torch.build(graph)
    np.testing.assert_allclose(model(torch.from_numpy(X)).detach(), want, rtol=1e-6)
    assert {"fc.weight", "fc.bias", "zeros", "zeros_2_3"} < set(model.state_dict()) and len(model.state_dict()) == 6


def test_in_keras() -> None:
    pytest.importorskip("keras")
    graph, want = network()
    np.testing.assert_allclose(emit_keras.build(graph)(X), want, rtol=1e-6)


def test_in_jax() -> None:
    pytest.importorskip("flax")
    graph, want = network()
    np.testing.assert_allclose(emit_jax.build(graph)(X), want, rtol=1e-6)
    apply, params = emit_jax.function(graph)
    np.testing.assert_allclose(apply(params, X), want, rtol=1e-6)


def test_a_tflite_file_of_a_recurrent_network_is_ported_under_proof(tmp_path: Path) -> None:
    """The first step, from zeros, has the two biases as one: the file calls it as one of them and a number."""
    torch = pytest.importorskip("torch")

    class Steps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = torch.nn.LSTMCell(3, 4), torch.nn.Linear(4, 2)

        def forward(self, x):
            h, c, found = torch.zeros(2, 4), torch.zeros(2, 4), []
            for t in range(3):
                h, c = self.cell(x[:, t], (h, c))
                found.append(self.head(h))
            return torch.stack(found, 1)

    torch.manual_seed(0)
    instep.convert(Steps().eval(), tmp_path / "steps.tflite", inputs=[(2, 3, 3)])
    names = [v.name for v in instep.capture(tmp_path / "steps.tflite").graph.weights]
    assert any(a.startswith(f"{b}.") for a in names for b in names), "no name lies within another"
    ported = instep.port(tmp_path / "steps.tflite", tmp_path / "steps.py", to="torch")
    assert ported.verdict is not None and ported.verdict.verdict == "in step"


@pytest.mark.parametrize("emit", [emit_torch, emit_keras, emit_jax])
def test_the_code_says_what_the_outputs_are_and_where_states_go(emit: Any, tmp_path: Path) -> None:
    graph, _ = to_channels_last(instep.parse(path_of("char_rnn"), args={"length": 2}))
    code = " ".join(emit.source(graph).split())
    assert "Gives logits, h1_next (the next h1), c1_next (the next c1), h2_next (the next h2)," in code
    emit.save(graph, tmp_path / "code.py")
    assert_clean(tmp_path)


def test_words_of_a_file_that_name_outputs_are_no_code() -> None:
    graph, _ = network()
    graph.outputs, graph.output_names = graph.outputs * 2, ['a"""\nraise SystemExit\n"""', "b\\"]
    compile(emit_torch.source(graph), "code", "exec")
    assert "\nraise" not in emit_torch.source(graph)
