"""Arrays that several layers read are trained as one array, whatever those layers make of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import instep
from instep.rewrite.pipelines import to_channels_last


class Words(nn.Module):
    """A table of words, which the last layer multiplies with."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(11, 4), nn.Linear(4, 11, bias=False)
        self.last.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.table(x)))


class Mirrored(nn.Module):
    """A decoder that is the encoder, turned."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(torch.relu(self.encoder(x)), self.encoder.weight.t())


class Levels(nn.Module):
    """A head that is shared by pictures of two sizes, as detectors have it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.head(x), self.head(F.max_pool2d(x, 2))


class Reused(nn.Module):
    """A kernel that layers of two kinds read, and forward() as it is: for a penalty of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.rand(6, 3, 3, 3) * 0.1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.relu(F.conv2d(x, self.kernel, padding=1))
        return F.conv_transpose2d(y, self.kernel, padding=1), self.kernel.square().mean()


class Shifts(nn.Module):
    """An offset of every channel that is added to a picture and, turned, to a row of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.offset, self.conv = nn.Parameter(torch.rand(4, 5, 6)), nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(torch.tanh(x) + self.offset)
        return self.conv(y * self.offset).flatten(1) * (self.offset.flatten() * 0.5)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "words": (Words, torch.randint(0, 11, (2, 5))),
    "mirrored": (Mirrored, torch.rand(4, 6)),
    "levels": (Levels, torch.rand(2, 3, 8, 8)),
    "reused": (Reused, torch.rand(2, 3, 6, 6)),
    "shifts": (Shifts, torch.rand(2, 4, 5, 6)),
}


def stepped(name: str) -> tuple[Any, np.ndarray, list[np.ndarray]]:
    """The graph with channels last, an input, and what the network gives after a step of gradient descent."""
    make, x = NETWORKS[name]
    torch.manual_seed(0)
    model = make()
    graph, _ = to_channels_last(instep.capture(model.eval(), inputs=x).graph.copy())
    graph.weights.update({v: a.copy() for v, a in graph.weights.items()})
    outputs = model(x)
    torch.stack([(y**2).mean() for y in (outputs if isinstance(outputs, tuple) else (outputs,))]).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.5 * parameter.grad  # type: ignore[operator]
        outputs = model(x)
    want = [y.numpy() for y in (outputs if isinstance(outputs, tuple) else (outputs,))]
    turned = [y.transpose(0, 2, 3, 1) if y.ndim == 4 else y for y in want]
    return graph, x.numpy().transpose(0, 2, 3, 1) if x.ndim == 4 else x.numpy(), turned


@pytest.mark.parametrize("name", NETWORKS)
def test_flax_trains_them_as_one(name: str) -> None:
    nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed")
    import jax

    graph, x, want = stepped(name)
    model = instep.build(graph, "jax")

    def loss(model: Any) -> Any:
        return sum((y**2).mean() for y in jax.tree.leaves(model(x)))

    gradient = nnx.grad(loss)(model)
    nnx.update(model, jax.tree.map(lambda p, g: p - 0.5 * g, nnx.state(model, nnx.Param), gradient))
    for got, wanted in zip(jax.tree.leaves(model(x)), want, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["reused", "shifts"])
def test_another_layout_keeps_one_array_of_one(name: str) -> None:
    graph, x, _ = stepped(name)
    make, _ = NETWORKS[name]
    assert {v.name for v in graph.weights if v.rank > 0} == {n for n, _ in make().named_parameters()}
    torch.manual_seed(0)
    source = make()
    with torch.no_grad():
        want = source(torch.from_numpy(x.transpose(0, 3, 1, 2)))
    got = graph.run([x], keep=[])
    for value, y in zip(graph.outputs, want if isinstance(want, tuple) else (want,), strict=True):
        y = y.numpy()
        np.testing.assert_allclose(got[value], y.transpose(0, 2, 3, 1) if y.ndim == 4 else y, rtol=1e-4, atol=1e-5)


def test_a_head_of_several_sizes_is_one_layer_in_keras() -> None:
    pytest.importorskip("keras", reason="Keras is not installed")
    graph, x, _ = stepped("levels")
    model = instep.build(graph, "keras")
    assert {v.path for v in model.trainable_variables} == {
        f"head.{n}" for n in ("0/kernel", "0/bias", "1/gamma", "1/beta", "3/kernel", "3/bias")
    }
    want = graph.run([x], keep=[])
    for got, value in zip(model(x), graph.outputs, strict=True):
        np.testing.assert_allclose(np.asarray(got), want[value], rtol=1e-4, atol=1e-5)


def test_keras_upsamples_volumes_on_tensorflow() -> None:
    """TensorFlow pads no tensor of more than six axes, and a transposed convolution spreads three axes at once."""
    pytest.importorskip("keras", reason="Keras is not installed")
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose3d(2, 3, 2, stride=2), nn.ReLU()).eval()
    x = torch.rand(1, 2, 3, 4, 3)
    graph, _ = to_channels_last(instep.capture(model, inputs=x).graph)
    with torch.no_grad():
        want = model(x).numpy()
    (shown,), view = graph.outputs, graph.inputs[0].source
    assert view is not None and shown.source is not None
    got = np.asarray(instep.build(graph, "keras")(x.numpy().transpose(view.perm)))
    np.testing.assert_allclose(got, want.transpose(shown.source.perm), rtol=1e-4, atol=1e-5)


class Computed(nn.Module):
    """Kernels that are computed of arrays that are read in other ways, too; one is turned by the source itself."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.gain = nn.Parameter(torch.rand(4, 3, 3, 3)), nn.Parameter(torch.rand(4, 1, 1, 1))
        self.matrix = nn.Parameter(torch.rand(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel = self.kernel * self.gain
        y = nn.functional.conv2d(x, kernel) + nn.functional.conv2d(x, self.kernel)
        rows = nn.functional.linear(y.mean((2, 3)), self.matrix.t()) @ self.matrix
        return nn.functional.conv_transpose2d(y * rows[:, :, None, None], kernel)


@pytest.mark.parametrize("framework", ["keras", "jax"])
def test_kernels_are_turned_once(framework: str) -> None:
    pytest.importorskip("keras" if framework == "keras" else "flax", reason="the framework is not installed")
    torch.manual_seed(0)
    model, x = Computed().eval(), torch.rand(2, 3, 7, 7)
    with torch.no_grad():
        want = model(x).numpy().transpose(0, 2, 3, 1)
    graph, _ = to_channels_last(instep.capture(model, inputs=x).graph)
    got = np.asarray(instep.build(graph, framework)(x.numpy().transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    code = import_module(f"instep.emit.{framework}").source(graph)
    found = re.findall(r"(?:ops|jnp)\.transpose\(.*", code)
    # two kernels of [O, I, H, W], one of them read by two operators, and not one that is turned twice
    assert len([t for t in found if "(2, 3, 1, 0)" in t]) == 3
    assert not any("(0, 2, 3, 1)" in t or "(1, 2, 3, 0)" in t or "(1, 0)" in t for t in found)
