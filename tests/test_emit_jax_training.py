"""One step of SGD in Flax and in pure JAX leaves the parameters and statistics that PyTorch has, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from instep.capture import capture
from instep.emit import jax as emit
from instep.emit.code.program import program
from instep.emit.jax.dialect import NNX
from instep.graph import Graph, Value, ops
from instep.rewrite.pipelines import to_channels_last

jax = pytest.importorskip("jax", reason="JAX is not installed")
nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed")
torch.set_num_threads(1)
RATE = 0.05


class Mixed(nn.Module):
    """Every layer that has parameters and every way to keep statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False)
        self.bn2 = nn.BatchNorm2d(8, momentum=0.3, eps=1e-3)
        self.slope = nn.PReLU(8)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.up = nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.dense = nn.Linear(6, 5)
        self.bn3 = nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.stem(x)))
        x = self.pool(self.slope(self.bn2(self.depthwise(x))))
        x = F.silu(self.norm(self.up(x)))
        return self.bn3(self.dense(x.mean((2, 3))))


class Unit(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, momentum=0.01)
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride, 1)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, stride), nn.BatchNorm2d(2 * channels))
        self.squeeze = nn.Conv2d(2 * channels, 2, 1)
        self.excite = nn.Conv2d(2, 2 * channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(F.hardswish(self.bn(x)))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return F.leaky_relu(y + self.shortcut(x), 0.2)


class Residual(nn.Module):
    """Units of one class, pictures that get smaller by a padded average, a layer norm, a dropout that is off."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.ModuleList([Unit(4, 1), Unit(8, 2)])
        self.pool = nn.AvgPool2d(3, 2, 1, ceil_mode=True)
        self.norm = nn.LayerNorm(16)
        self.drop = nn.Dropout(0.4)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([x, x.mean(1, keepdim=True)], 1)
        for unit in self.units:
            x = unit(x)
        x = self.norm(self.pool(x).flatten(2).transpose(1, 2))
        return self.head(self.drop(F.gelu(x)).mean(1))


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """XLA as quick as it compiles."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


class Steps(nn.Module):
    """Recurrent layers that read their times in both orders, from states that the network has."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.LSTM(3, 4, bidirectional=True, batch_first=True)
        self.last = nn.GRU(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.both(x.mean(2).permute(0, 2, 1))
        return self.last(y.permute(1, 0, 2))[1][0]


class Case:
    """A network, a batch, and the network after one step in PyTorch."""

    def __init__(self, kind: type[nn.Module]) -> None:
        torch.manual_seed(1)
        net = kind().double()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
        x = torch.randn(4, 3, 13, 12, dtype=torch.float64)
        target = torch.randn(4, 5, dtype=torch.float64)
        self.graph: Graph = to_channels_last(capture(net.float().eval(), inputs=[(4, 3, 13, 12)]).graph)[0]
        net = net.double().train()
        for module in net.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        loss = ((net(x) - target) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= RATE * parameter.grad
        self.loss = loss.item()
        self.after = {k: v.numpy() for k, v in net.state_dict().items() if v.is_floating_point()}
        self.x, self.target = x.permute(0, 2, 3, 1).numpy(), target.numpy()

    def compare(self, loss: Any, read: Any) -> None:
        """``read`` gives the array at a path of the exported network."""
        np.testing.assert_allclose(float(loss), self.loss, rtol=1e-12)
        checked = set()
        for path, weight in program(self.graph, NNX).weights.items():
            name = weight.value.name
            if "/" in name:
                continue  # zeros that a recurrent layer begins with
            back = weight.back(np.asarray(read(path)), self.graph.weights)
            got, want = back[weight.value], self.after[name]
            if got.ndim == 4:
                got = got.transpose(0, 3, 1, 2)
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12, err_msg=name)
            checked.add(name)
        assert checked == set(self.after)


@pytest.fixture(scope="module", params=[Mixed, Residual, Steps])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_flax_takes_the_step_that_pytorch_takes(case: Case) -> None:
    with jax.enable_x64(True):
        model = emit.build(case.graph)
        state = nnx.state(model, (nnx.Param, nnx.BatchStat))
        nnx.update(model, jax.tree.map(lambda a: a.astype("float64"), state))
        model.train()
        if "Dropout" in emit.source(case.graph):
            model.set_attributes(nnx.Dropout, deterministic=True)

        def step(model: Any) -> Any:
            loss, gradients = nnx.value_and_grad(lambda m: ((m(case.x) - case.target) ** 2).mean())(model)
            moved = jax.tree.map(lambda p, g: p - RATE * g, nnx.state(model, nnx.Param), gradients)
            nnx.update(model, moved)
            return loss

        loss = nnx.jit(step)(model)
        table = {".".join(map(str, path)): value for path, value in nnx.to_flat_state(nnx.state(model))}

        def read(path: tuple[str, ...]) -> Any:
            # a row keeps its elements in a list called layers
            return next(v[...] for k, v in table.items() if k.replace(".layers.", ".") == ".".join(path))

        case.compare(loss, read)


def test_pure_functions_take_the_step_that_pytorch_takes(case: Case) -> None:
    with jax.enable_x64(True):
        apply, params = emit.function(case.graph)
        params = jax.tree.map(lambda a: a.astype("float64"), params)

        def loss_of(params: Any) -> Any:
            outputs, news = apply(params, case.x, train=True)
            return ((outputs - case.target) ** 2).mean(), news

        @jax.jit
        def step(params: Any) -> Any:
            (loss, news), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
            return loss, jax.tree.map(lambda p, g: p - RATE * g, news, gradients)

        loss, params = step(params)

        def read(path: tuple[str, ...]) -> Any:
            place = params
            for part in path:
                place = place[part]
            return place

        case.compare(loss, read)


def test_dropout_drops_only_while_training_and_with_a_key() -> None:
    graph = Graph([Value("x", (2, 6, 5, 3))], input_names=["x"])
    whole = graph.add(ops.Dropout(0.5), graph.inputs, scope="drop").output
    graph.outputs = [graph.add(ops.Dropout(0.5, (1, 2)), [whole], scope="drop2d").output]
    graph.output_names = ["y"]
    apply, params = emit.function(graph)
    x = np.ones((2, 6, 5, 3), np.float32)
    np.testing.assert_array_equal(apply(params, x, train=True)[0], x)
    dropped, _ = apply(params, x, train=True, key=jax.random.key(0))
    assert set(np.unique(dropped)) == {0.0, 4.0}
    model = emit.build(graph)
    np.testing.assert_array_equal(model(x), x)
    model.train()
    first, second = np.asarray(model(x)), np.asarray(model(x))
    assert set(np.unique(first)) == {0.0, 4.0}
    assert not np.array_equal(first, second)
    # one draw for a whole channel: it is either gone, or only single elements are
    gone = (np.asarray(dropped) == 0).all((1, 2))
    assert gone.any() and not gone.all()
