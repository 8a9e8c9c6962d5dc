"""Steps of a recurrence are a framework's own layer where they mean and learn the same, and a loop where not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import instep
from clean_code import assert_clean
from instep.emit import torch as emit_torch
from instep.graph import Graph
from instep.rewrite.pipelines import to_channels_last

Ends = Callable[[Any, Any], Any]


class Network(nn.Module):
    """A layer, called with states where there are some; ``ends`` picks what comes out."""

    def __init__(self, rnn: nn.Module, ends: Ends = lambda y, states: y) -> None:
        super().__init__()
        self.rnn, self.ends = rnn, ends

    def forward(self, x: torch.Tensor, *states: torch.Tensor) -> Any:
        given = (x,) if not states else (x, states[0] if len(states) == 1 else states)
        return self.ends(*self.rnn(*given))


def captured(module: nn.Module, *shapes: tuple[int, ...]) -> Graph:
    return instep.capture(module.eval(), inputs=list(shapes)).graph


def agrees(graph: Graph, framework: str) -> str:
    """The code, after it computed what the graph does."""
    last = graph if framework == "torch" else to_channels_last(graph)[0]
    inputs = [np.random.default_rng(i).standard_normal(v.shape, np.float32) for i, v in enumerate(last.inputs)]
    wanted = last.run([x.astype(np.float64) for x in inputs], keep=last.outputs)
    model = instep.build(graph, framework)
    given = [torch.from_numpy(x) for x in inputs] if framework == "torch" else inputs
    found = (
        model(given if framework == "keras" and len(given) > 1 else given[0]) if framework == "keras" else model(*given)
    )
    for got, value in zip(found if isinstance(found, tuple | list) else [found], last.outputs, strict=True):
        got = got.detach() if isinstance(got, torch.Tensor) else got
        np.testing.assert_allclose(np.asarray(got), wanted[value], rtol=0, atol=2e-6)
    if framework == "torch":
        return emit_torch.source(graph)
    from instep.emit import keras as emit_keras

    return emit_keras.source(last)


T, N, F, H = 5, 2, 4, 3
BATCH = (N, T, F)

#: Each: the network, its shapes, and what PyTorch's code and Keras' have of it ("" is a loop).
LAYERS: dict[str, tuple[nn.Module, list[tuple[int, ...]], str, str]] = {
    "two biases that are trained": (Network(nn.LSTM(F, H, batch_first=True)), [BATCH],
                                    "nn.LSTM(4, 3, batch_first=True)", ""),
    "no bias": (Network(nn.LSTM(F, H, bias=False, batch_first=True)), [BATCH],
                "nn.LSTM(4, 3, bias=False, batch_first=True)",
                "layers.LSTM(3, use_bias=False, return_sequences=True"),
    "two layers in two directions": (
        Network(nn.LSTM(F, H, 2, bidirectional=True), lambda y, states: (y, *states)),
        [(T, N, F), (4, N, H), (4, N, H)], "nn.LSTM(4, 3, num_layers=2, bidirectional=True)", ""),
    "a GRU": (Network(nn.GRU(F, H, batch_first=True)), [BATCH], "nn.GRU(4, 3, batch_first=True)",
              "layers.GRU(3, return_sequences=True"),
    "GRUs in two directions": (
        Network(nn.GRU(F, H, 2, bidirectional=True, batch_first=True), lambda y, h: (y, h)), [BATCH, (4, N, H)],
        "nn.GRU(4, 3, num_layers=2, batch_first=True, bidirectional=True)",
        "layers.GRU(3, return_sequences=True, return_state=True, go_backwards=True"),
    "the last state alone": (Network(nn.RNN(F, H, nonlinearity="relu", bias=False), lambda y, h: h), [(T, N, F)],
                             'nn.RNN(4, 3, nonlinearity="relu", bias=False)',
                             'layers.SimpleRNN(3, activation="relu", use_bias=False'),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_pytorchs_own_layers_come_back_under_their_names(name: str, tmp_path: Path) -> None:
    module, shapes, form, _ = LAYERS[name]
    graph = captured(module, *shapes)
    code = agrees(graph, "torch")
    assert form in code and "sigmoid" not in code and "tanh" not in code.replace('"tanh"', ""), code
    ours = instep.build(graph, "torch")
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in module.state_dict().items()}
    assert all(p.requires_grad for p in ours.parameters())
    (tmp_path / "net.py").write_text(code)
    assert_clean(tmp_path / "net.py")
    again = captured(ours, *shapes)
    assert code.count(form) == agrees(again, "torch").count(form) == 1


@pytest.mark.parametrize("name", LAYERS)
def test_keras_has_the_layers_that_learn_the_same(name: str, tmp_path: Path) -> None:
    """An LSTM of Keras has one bias: the sum of two that are trained would take twice the step."""
    pytest.importorskip("keras", reason="Keras is not installed")
    module, shapes, _, form = LAYERS[name]
    code = agrees(captured(module, *shapes), "keras")
    assert (form in code and "ops.sigmoid" not in code) if form else ("for i in range" in code), code
    (tmp_path / "net.py").write_text(code)
    assert_clean(tmp_path / "net.py")


def test_one_of_two_biases_that_rests_is_part_of_keras_one() -> None:
    pytest.importorskip("keras", reason="Keras is not installed")
    module = Network(nn.LSTM(F, H, batch_first=True))
    module.rnn.bias_hh_l0.requires_grad_(False)
    graph = captured(module, BATCH)
    assert "layers.LSTM(3, return_sequences=True" in agrees(graph, "keras")
    held = instep.build(graph, "keras").get_layer("rnn").weights[2].numpy()
    lstm: Any = module.rnn
    np.testing.assert_allclose(held, (lstm.bias_ih_l0 + lstm.bias_hh_l0).detach().numpy(), atol=1e-7)


ONE = """
input: {x: [2, 5, 4], h: [2, 3], c: [2, 3]}
body:
  - y, h_next, c_next = lstm(x, h, c): {hidden: 3, FIELDS}
output: {y: y, h: h_next, c: c_next}
"""


@pytest.mark.parametrize("fields", ["forget_bias: 1", "forget_bias: 0", "bias: false"])
def test_the_second_bias_that_only_pytorch_has_is_not_trained(fields: str) -> None:
    graph = instep.parse(ONE.replace("FIELDS", fields))
    code = agrees(graph, "torch")
    model = instep.build(graph, "torch")
    second = dict(model.named_parameters()).get("y.bias_hh_l0")
    assert (second is None) == (fields == "bias: false"), code
    if second is not None:
        assert not second.requires_grad
        assert second.sum() == (3 if fields == "forget_bias: 1" else 0)
    again = captured(model, *(v.shape for v in graph.inputs))
    assert 'frozen(nn.LSTM(4, 3, batch_first=True), "bias_hh_l0")' in emit_torch.source(again) or second is None


def test_the_char_rnn_is_two_layers(tmp_path: Path) -> None:
    graph = instep.capture("zoo:char_rnn").graph
    code = emit_torch.source(graph)
    assert code.count("nn.LSTM(128, 128, batch_first=True)") == 1 and "for t in" not in code, code
    assert len(re.findall("Layer\\(\\)", code)) == 2
    for form, name in (("torch", "net.py"), ("keras", "net.py"), ("keras", "file.keras")):
        if form == "keras":
            pytest.importorskip("keras", reason="Keras is not installed")
        result = instep.port("zoo:char_rnn", tmp_path / f"{form} {name}", to=form)
        assert result.verdict.verdict == "in step", result


class Peeked(Network):
    """A state in the middle is read besides: no layer gives that."""

    def forward(self, x: torch.Tensor, *states: torch.Tensor) -> Any:
        rnn: Any = self.rnn
        h, found = x.new_zeros(N, H), []
        for t in range(T):
            h = rnn(x[:, t], h)
            found.append(h)
        return torch.stack(found, 1), found[2].exp()


class Shared(Network):
    """The recurrent weight is read besides."""

    def forward(self, x: torch.Tensor, *states: torch.Tensor) -> Any:
        rnn: Any = self.rnn
        return rnn(x)[0] + rnn.weight_hh_l0.sum()


@pytest.mark.parametrize(
    "module",
    [
        Peeked(nn.GRUCell(F, H)),
        Shared(nn.GRU(F, H, batch_first=True)),
        Network(nn.LSTM(F, H, proj_size=2, batch_first=True)),
    ],
    ids=["a state in between", "a weight that others read", "a projection"],
)
def test_what_is_more_than_a_layer_stays_a_loop(module: nn.Module) -> None:
    code = agrees(captured(module, BATCH), "torch")
    assert not re.search(r"nn\.(LSTM|GRU|RNN)\(", code) and "sigmoid" in code, code


def test_steps_of_cells_are_a_layer_too() -> None:
    """What counts is what is computed: products of each time are products of the sequence once the graph says so."""
    text = """
input: {x: [2, 3, 4], h: [2, 5]}
body:
  - m = linear(x): {out: 5}
  - a = select(m): {axis: 1, index: 0}
  - b = select(m): {axis: 1, index: 1}
  - c = select(m): {axis: 1, index: 2}
  - r1 = linear(h): {out: 5, bias: false, at: r}
  - s1 = add(a, r1)
  - h1 = tanh(s1)
  - r2 = linear(h1): {out: 5, bias: false, at: r}
  - s2 = add(r2, b)
  - h2 = tanh(s2)
  - r3 = linear(h2): {out: 5, bias: false, at: r}
  - s3 = add(c, r3)
  - h3 = tanh(s3)
"""
    graph = instep.parse(text)
    assert "nn.RNN(4, 5" in agrees(graph, "torch")
    swapped = text.replace("index: 1", "index: 3").replace("index: 2", "index: 1").replace("index: 3", "index: 2")
    assert "nn.RNN" not in agrees(instep.parse(swapped), "torch")


def test_layers_of_keras_come_back(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    layers = keras.layers
    x = keras.Input((5, 4))
    both, *ends = layers.Bidirectional(layers.LSTM(3, return_sequences=True, return_state=True))(x)
    back = layers.GRU(4, return_sequences=True, go_backwards=True)(both)
    last = layers.SimpleRNN(2, use_bias=False)(back)
    first, state = layers.GRU(3, return_state=True)(both, initial_state=ends[0])
    before = layers.GRU(2, reset_after=False)(both)
    _, h, c = layers.LSTM(3, return_state=True)(both, initial_state=ends[:2])
    model = keras.Model(x, [both, back, last, first, state, before, h, c])
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    for name in ("net.h5", "net.keras"):
        model.save(tmp_path / name)
        graph = instep.capture(tmp_path / name).graph
        code = agrees(graph, "torch")
        assert [len(re.findall(rf"nn\.{kind}\(", code)) for kind in ("LSTM", "GRU", "RNN")] == [3, 2, 1], code
        code = agrees(graph, "keras")
        kinds = ("LSTM", "GRU", "SimpleRNN")
        assert [len(re.findall(rf"layers\.{kind}\(", code)) for kind in kinds] == [3, 2, 1], code
        assert "initial_state=[" in code and "go_backwards=True" in code
        again = instep.build(graph, "keras")
        again.save(tmp_path / "again.keras")
        agrees(instep.capture(tmp_path / "again.keras").graph, "torch")


def test_a_bias_of_keras_and_its_frozen_second_take_the_same_step() -> None:
    """One step of SGD of the LSTM as a loop, and as PyTorch's layer: the sum of the biases moves as the one did."""
    graph = instep.parse(ONE.replace("FIELDS", "forget_bias: 1"))
    model = instep.build(graph, "torch").double()
    inputs = [torch.from_numpy(np.random.default_rng(i).normal(size=v.shape)) for i, v in enumerate(graph.inputs)]
    w, u, b = (torch.from_numpy(np.array(a)).double().requires_grad_() for a in list(graph.weights.values())[:3])
    forget = torch.from_numpy(np.array(list(graph.weights.values())[3])).double()
    x, h, c = inputs
    for t in range(5):
        i, f, g, o = (x[:, t] @ w.T + b + forget + h @ u.T).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    (h.square().sum() + c.sum()).backward()
    _, h, c = model(*inputs)
    (h.square().sum() + c.sum()).backward()
    found = {n: p.grad for n, p in model.named_parameters()}
    for name, wanted in (("weight_ih", w), ("weight_hh", u), ("bias_ih", b)):
        torch.testing.assert_close(found[f"y.{name}_l0"], wanted.grad)
    assert found["y.bias_hh_l0"] is None
