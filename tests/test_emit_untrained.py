"""Layers whose weights the source keeps and does not train: no framework's code trains them, but it does the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import instep
from clean_code import assert_clean
from instep.graph import Graph, ops
from instep.graph.text import parse
from instep.rewrite.pipelines import to_channels_last

#: Blocks that differ in what is trained, a row with one such layer, a batch norm, a layer within a loop's rounds.
MIXED = """
input: {x: [2, 8, 8, 3]}
layout: NHWC
structs:
  Block:
    args: {trained: bool}
    body:
      - conv = conv: {out: 4, kernel: 3, padding: 1, trained: trained}
      - norm = batch_norm
      - relu
body:
  - a = Block: {trained: true}
  - b = Block: {trained: false}
  - c = Block: {trained: true}
  - d = conv_transpose: {out: 4, kernel: 2, stride: 2, trained: false}
  - n = batch_norm: {trained: false}
  - flatten
  - f = linear: {out: 2, trained: false}
  - g = linear: {out: 2}
"""
KEPT = {"b.conv", "d", "n", "f"}
STATISTICS = ("running_mean", "running_var", "moving_mean", "moving_variance", "mean", "var")


class Half(nn.Module):
    """A convolution with a kernel of its own that nothing trains, and a bias that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.rand(4, 3, 3, 3))
        self.bias = nn.Parameter(torch.rand(4))
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(nn.functional.conv2d(x, self.get_buffer("kernel"), self.bias))


@pytest.fixture(params=["mixed", "half"])
def graph(request: pytest.FixtureRequest) -> Graph:
    if request.param == "mixed":
        return parse(MIXED, seed=3)
    torch.manual_seed(0)
    return instep.capture(Half().eval(), inputs=[(2, 3, 8, 8)]).graph


def kept(graph: Graph, name: str) -> bool:
    """Whether an array of the code, by its name there, is one that the source does not train."""
    if name.rpartition(".")[2] in STATISTICS:
        return True
    layer, _, array = name.rpartition(".")
    if "kernel" in graph.meta["buffers"]:
        return "last" not in layer and array in ("weight", "kernel")
    return layer in KEPT


def arrays_of(tree: Any, above: str = "") -> dict[str, np.ndarray]:
    """Nested dictionaries as one, by dotted names."""
    found: dict[str, np.ndarray] = {}
    for name, inner in tree.items():
        found |= arrays_of(inner, f"{above}{name}.") if isinstance(inner, dict) else {above + name: np.asarray(inner)}
    return found


def test_pytorch_trains_the_rest_alone(graph: Graph, tmp_path: Path) -> None:
    from instep.emit import torch as emit

    model = emit.build(graph)
    assert {n: p.requires_grad for n, p in model.named_parameters()} == {
        n: not kept(graph, n) for n, _ in model.named_parameters()
    }
    (tmp_path / "net.py").write_text(emit.source(graph))
    assert_clean(tmp_path)
    before = {n: a.clone() for n, a in model.state_dict().items()}
    model.train()
    model(torch.rand(tuple(graph.inputs[0].shape))).square().sum().backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    after = model.state_dict()
    for name, _ in model.named_parameters():
        assert torch.equal(before[name], after[name]) == kept(graph, name), name


def test_keras_trains_the_rest_alone(graph: Graph, tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="Keras is not installed")
    from instep.emit import keras as emit

    last, _ = to_channels_last(graph)
    model = emit.build(last)
    trained = {v.path.replace("/", ".") for v in model.trainable_variables}
    every = {v.path.replace("/", ".") for v in model.variables}
    assert trained == {n for n in every if not kept(graph, n)}
    (tmp_path / "net.py").write_text(emit.source(last))
    assert_clean(tmp_path)


def test_flax_trains_the_rest_alone(graph: Graph, tmp_path: Path) -> None:
    nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed")
    from instep.emit import jax as emit

    last, _ = to_channels_last(graph)
    model = emit.build(last)
    params = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    assert params == {n for n in emit.state(last) if not kept(graph, n)}
    (tmp_path / "net.py").write_text(emit.source(last))
    assert_clean(tmp_path)


def test_functions_of_jax_give_the_rest_a_gradient_alone(graph: Graph, tmp_path: Path) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    pytest.importorskip("flax", reason="Flax is not installed")
    from instep.emit import jax as emit

    last, _ = to_channels_last(graph)
    apply, params = emit.function(last)
    x = np.random.default_rng(0).random(last.inputs[0].shape, np.float32)

    def loss(params: Any) -> Any:
        outputs, fresh = apply(params, x, train=True)
        return (outputs**2).sum(), fresh

    gradient, fresh = jax.grad(loss, has_aux=True)(params)
    for name, array in arrays_of(gradient).items():
        assert not (kept(graph, name) and array.any()), name
        # what comes before a batch norm is shifted for nothing
        assert kept(graph, name) or array.any() or name.endswith("conv.bias"), name
    before, after = arrays_of(params), arrays_of(fresh)
    for name in before:
        assert np.array_equal(before[name], after[name]) != (name.rpartition(".")[2] in ("mean", "var")), name
    (tmp_path / "net.py").write_text(emit.source(last, "function"))
    assert_clean(tmp_path)


def test_blocks_that_differ_in_it_are_no_one_class() -> None:
    from instep.emit import torch as emit

    code = emit.source(parse(MIXED, seed=3))
    assert code.count("requires_grad_(False)") == 4
    assert code.count("class ") == 3, "one for the blocks that are trained, one for the other, and the network"


class Backbone(nn.Module):
    """A part that is kept and a part that is trained, as people tune a network."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
        self.scale = nn.Parameter(torch.rand(4), requires_grad=False)
        self.head = nn.Linear(4, 2)
        self.features.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)) * self.scale)


@pytest.mark.parametrize("program", [False, True])
def test_what_pytorch_gives_no_gradient_is_not_trained(program: bool, tmp_path: Path) -> None:
    network: Any = Backbone().eval()
    if program:
        torch.export.save(torch.export.export(network, (torch.rand(1, 3, 8, 8),)), tmp_path / "net.pt2")
        network = tmp_path / "net.pt2"
    graph = instep.capture(network, inputs=None if program else [(1, 3, 8, 8)]).graph
    text = instep.dump(graph)
    assert "batch_norm: {trained: false}" in text and text.count("trained: false") == 4
    model = instep.build(graph, "torch")
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}


def test_what_keras_does_not_train_is_not_trained(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    layers = keras.layers
    base = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization()])
    base.trainable = False
    inputs = keras.Input((8, 8, 3))
    kept = layers.TimeDistributed(layers.Dense(3, name="inner"), trainable=False, name="rows")
    model = keras.Model(inputs, layers.Dense(2, name="head")(kept(base(inputs))))
    model.save(tmp_path / "net.keras")
    model.save(tmp_path / "net.h5")
    for name in ("net.keras", "net.h5"):
        captured = instep.capture(tmp_path / name)
        again = instep.build(captured.graph, "keras")
        trained = {v.path.replace("/", ".") for v in again.trainable_variables}
        assert trained == {"head.kernel", "head.bias"}, name
        norm = next(n for n in captured.graph.nodes if isinstance(n.op, ops.BatchNorm))
        assert norm.op.fixed, "Keras has such a batch norm in inference mode"


def test_a_network_that_trains_nothing_is_one_in_use(tmp_path: Path) -> None:
    captured = instep.capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).requires_grad_(False), inputs="1,3,8,8")
    assert "trained" not in instep.dump(captured.graph)
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    model = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    model.trainable = False
    model.save(tmp_path / "net.keras")
    assert "trained" not in instep.dump(instep.capture(tmp_path / "net.keras").graph)
