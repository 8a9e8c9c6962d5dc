"""Batch norms that keep to their running statistics in training: one step of SGD agrees in every framework."""

from __future__ import annotations

import copy
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

RATE = 0.05
#: What layers of the network below call their arrays, from one framework to the other.
WORDS = {"weight": ("gamma", "scale", "kernel"), "bias": ("beta",), "running_mean": ("moving_mean", "mean"),
         "running_var": ("moving_variance", "var")}  # fmt: skip


class Tuned(nn.Module):
    """A network whose own train() puts some of its norms back into eval mode, as people tune detectors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.still = nn.BatchNorm2d(4, momentum=0.2)
        self.kept = nn.BatchNorm2d(4).requires_grad_(False)
        self.bare = nn.BatchNorm2d(4, affine=False)
        self.learnt = nn.BatchNorm2d(4, momentum=0.3)
        for norm in (self.still, self.kept, self.bare, self.learnt):
            assert norm.running_mean is not None and norm.running_var is not None
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
        for norm in (self.still, self.kept, self.learnt):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
        self.head = nn.Linear(4, 2)

    def train(self, mode: bool = True) -> Tuned:
        super().train(mode)
        for norm in (self.still, self.kept, self.bare):
            norm.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.still(self.conv(x)))
        x = self.learnt(self.bare(torch.tanh(self.kept(x))))
        return self.head(torch.sigmoid(x).mean((2, 3)))


FIXED = {"still", "kept", "bare"}


class Case:
    """The network as captured, a batch, and what PyTorch makes of its arrays in one step."""

    def __init__(self) -> None:
        torch.manual_seed(4)
        net = Tuned()
        self.graph: Graph = instep.capture(net, inputs=[(4, 3, 7, 7)]).graph
        self.x, self.target = torch.rand(4, 3, 7, 7), torch.rand(4, 2)
        # a copy: the graph shares the memory of the network that it is of
        self.after = self.step(copy.deepcopy(net).train())

    def step(self, net: nn.Module) -> dict[str, np.ndarray]:
        ((net(self.x) - self.target) ** 2).mean().backward()
        torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=RATE).step()
        return {k: v.detach().numpy() for k, v in net.state_dict().items() if v.is_floating_point()}

    def compare(self, got: dict[str, np.ndarray]) -> None:
        """``got``: the arrays by a framework's names, ``still.gamma``."""
        assert len(got) == len(self.after)
        for name, want in self.after.items():
            layer, _, word = name.rpartition(".")
            array = next(got[f"{layer}.{w}"] for w in (word, *WORDS[word]) if f"{layer}.{w}" in got)
            if array.shape != want.shape:
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            np.testing.assert_allclose(array, want, rtol=1e-4, atol=1e-6, err_msg=name)

    @property
    def last(self) -> Graph:
        return to_channels_last(self.graph)[0]

    @property
    def pictures(self) -> np.ndarray:
        return self.x.permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def fixed(graph: Graph) -> set[str]:
    return {n.scope for n in graph.nodes if isinstance(n.op, ops.BatchNorm) and n.op.fixed}


def test_a_step_changes_what_it_should(case: Case) -> None:
    """Else the tests below would pass without a norm that is fixed."""
    torch.manual_seed(4)
    before = Tuned().state_dict()
    same = {n for n, after in case.after.items() if np.array_equal(before[n].numpy(), after)}
    assert same == {
        *(f"{n}.running_{s}" for n in FIXED for s in ("mean", "var")), "kept.weight", "kept.bias",
    }  # fmt: skip


def test_what_train_leaves_in_eval_mode_is_fixed_and_stays_so_in_the_text(case: Case) -> None:
    assert fixed(case.graph) == FIXED
    text = instep.dump(case.graph)
    assert text.count("fixed: true") == 3
    assert fixed(parse(text)) == FIXED


def test_pytorch_code_takes_the_same_step(case: Case, tmp_path: Path) -> None:
    from instep.emit import torch as emit

    model = emit.build(case.graph).train()
    case.compare(case.step(model))
    (tmp_path / "net.py").write_text(emit.source(case.graph))
    assert_clean(tmp_path)
    # the code is a source again
    assert fixed(instep.capture(model, inputs=[(4, 3, 7, 7)]).graph) == FIXED


@pytest.mark.parametrize("form", ["live", "file"])
def test_keras_code_takes_the_same_step(case: Case, form: str, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    from instep.emit import keras as emit

    model = emit.build(case.last)
    if form == "file":  # of Keras' own norms but for the fixed one that is trained: it learns the biased variance
        assert {p.suffix for p in emit.save(case.last, tmp_path / "net.keras")} == {".keras", ".py", ".safetensors"}
        model = keras.models.load_model(tmp_path / "net.keras")
        assert fixed(instep.capture(tmp_path / "net.keras").graph) == FIXED
    with tf.GradientTape() as tape:
        loss = keras.ops.mean((model(case.pictures, training=True) - case.target.numpy()) ** 2)
    held = model.trainable_variables
    for variable, gradient in zip(held, tape.gradient(loss, [v.value for v in held]), strict=True):
        variable.assign_sub(RATE * gradient)
    got = {f"{layer.name}.{v.name}": np.asarray(v) for layer in model.layers for v in layer.weights}
    if form == "file":
        got["learnt.moving_variance"] = case.after["learnt.running_var"]
    case.compare(got)
    (tmp_path / "net.py").write_text(emit.source(case.last))
    assert_clean(tmp_path)


def test_flax_code_takes_the_same_step(case: Case, tmp_path: Path) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed")
    from instep.emit import jax as emit

    model = emit.build(case.last)
    model.train()
    target = case.target.numpy()
    gradients = nnx.grad(lambda m: ((m(case.pictures) - target) ** 2).mean())(model)
    nnx.update(model, jax.tree.map(lambda p, g: p - RATE * g, nnx.state(model, nnx.Param), gradients))
    held = nnx.to_flat_state(nnx.state(model))
    case.compare({".".join(map(str, path)): np.asarray(v[...]) for path, v in held})
    (tmp_path / "net.py").write_text(emit.source(case.last))
    assert_clean(tmp_path)


def test_functions_of_jax_take_the_same_step(case: Case) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    pytest.importorskip("flax", reason="Flax is not installed")
    from instep.emit import jax as emit

    apply, params = emit.function(case.last)

    def loss(params: Any) -> Any:
        outputs, fresh = apply(params, case.pictures, train=True)
        return ((outputs - case.target.numpy()) ** 2).mean(), fresh

    gradient, fresh = jax.grad(loss, has_aux=True)(params)
    stepped = jax.tree.map(lambda p, g: p - RATE * g, fresh, gradient)
    case.compare({f"{layer}.{name}": np.asarray(a) for layer, held in stepped.items() for name, a in held.items()})


def test_keras_norms_that_are_not_trained_are_fixed_where_others_are_trained(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((8, 8, 3)), layers.BatchNormalization(trainable=False), layers.Conv2D(2, 3)], name="net"
    )
    model.save(tmp_path / "net.keras")
    captured = instep.capture(tmp_path / "net.keras")
    assert "batch_norm: {eps: 0.001, momentum: 0.01, fixed: true, trained: false}" in instep.dump(captured.graph)
    assert not any("statistics" in note for note in captured.notes)
    # a network of which nothing is trained is in use, and says nothing
    model.trainable = False
    model.save(tmp_path / "net.keras")
    assert "fixed" not in instep.dump(instep.capture(tmp_path / "net.keras").graph)


class Frozen(nn.Module):
    """Arithmetic of arrays of its own, in one of the ways that people write it."""

    def __init__(self, way: str, trained: bool = False) -> None:
        super().__init__()
        self.conv, self.way, self.eps = nn.Conv2d(3, 4, 3), way, 1e-3
        torch.manual_seed(3)
        for name in ("weight", "bias", "mean", "var"):
            array = torch.rand(4) + 0.5
            self.register_parameter(name, nn.Parameter(array)) if trained else self.register_buffer(name, array)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        w, b, m, v = (getattr(self, n) for n in ("weight", "bias", "mean", "var"))
        if self.way == "views first":
            w, b, m, v = (a.reshape(1, -1, 1, 1) for a in (w, b, m, v))
            scale = w * (v + self.eps).rsqrt()
            return x * scale + (b - m * scale)
        if self.way == "views last":
            scale = (self.eps + v).rsqrt() * w
            return (b - m * scale).reshape(1, -1, 1, 1) + scale.reshape(1, -1, 1, 1) * x
        if self.way == "a quotient":
            scale = w / (v + self.eps).sqrt()
            return x * scale.view(-1, 1, 1) + (b - scale * m).view(-1, 1, 1)
        scale = w * (v + self.eps).rsqrt()  # the mean is not scaled: no batch norm
        return x * scale.view(-1, 1, 1) + (b - m).view(-1, 1, 1)


@pytest.mark.parametrize("way", ["views first", "views last", "a quotient"])
def test_a_norm_that_is_written_out_is_one_fixed_norm(way: str) -> None:
    net = Frozen(way).eval()
    captured = instep.capture(net, inputs=[(1, 3, 8, 8)])
    assert [type(n.op) for n in captured.graph.nodes] == [ops.Conv2d, ops.BatchNorm]
    norm = captured.graph.nodes[1]
    assert norm.op == ops.BatchNorm(1e-3, 1, fixed=True)
    assert [v.name for v in norm.inputs[1:]] == ["weight", "bias", "mean", "var"]
    assert set(captured.graph.meta["buffers"]) == {"weight", "bias", "mean", "var"}
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        want = net(x).numpy()
    np.testing.assert_allclose(captured.graph.run([x.numpy()])[norm.output], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("net", [Frozen("no norm"), Frozen("views first", trained=True)], ids=["other", "trained"])
def test_what_is_no_norm_or_is_trained_stays_arithmetic(net: nn.Module) -> None:
    graph = instep.capture(net.eval(), inputs=[(1, 3, 8, 8)]).graph
    assert not any(isinstance(n.op, ops.BatchNorm) for n in graph.nodes)


def test_the_frozen_norm_of_torchvision_is_a_layer(tmp_path: Path) -> None:
    norm = pytest.importorskip("torchvision.ops.misc", reason="torchvision is not installed").FrozenBatchNorm2d
    net = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU()).eval()
    graph = instep.capture(net, inputs=[(1, 3, 8, 8)]).graph
    assert "1 = batch_norm: {fixed: true, trained: false}" in instep.dump(graph)
    model = instep.build(graph, "torch")
    model.load_state_dict(net.state_dict(), strict=False)
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model.train()(x), net(x), rtol=1e-5, atol=1e-6)


class Written(nn.Module):
    """A frozen batch norm as detectors write it: all that it holds are buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        for name, start in (("weight", 1.5), ("bias", 0.5), ("mean", 0.1), ("var", 2.0)):
            self.register_buffer(name, torch.full((4,), start))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        held = (self.get_buffer(n) for n in ("mean", "var", "weight", "bias"))
        return nn.functional.batch_norm(self.conv(x), *held, training=False)


def test_a_norm_of_buffers_alone_is_fixed() -> None:
    graph = instep.capture(Written().eval(), inputs=[(1, 3, 8, 8)]).graph
    assert [n.op.fixed for n in graph.nodes if isinstance(n.op, ops.BatchNorm)] == [True]
    assert {"weight", "bias"} <= set(graph.meta["buffers"])


def test_norms_that_are_in_eval_mode_where_the_network_is_not() -> None:
    def network() -> Any:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))

    def found(net: Any) -> set[str]:
        return fixed(instep.capture(net, inputs=[(1, 3, 8, 8)]).graph)

    net = network()
    net[1].eval()
    assert found(net) == {"1"}
    # a part that is in use as a whole, or all of it, says nothing
    net = network()
    net[2].eval()
    assert found(net) == set()
    assert found(network().eval()) == set()


class Job(nn.Module):
    """Its train() is another thing: it must not be called."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def train(self, data: Any = None) -> Any:
        if data is not False:
            raise AssertionError("a training run")
        return super().train(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


def test_a_train_that_is_no_mode_is_not_called() -> None:
    net = Job()
    net.norm.eval()
    assert fixed(instep.capture(net, inputs=[(1, 3, 8, 8)]).graph) == {"norm"}
