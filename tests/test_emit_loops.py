"""What a network computes again and again is a loop in its code, in every framework: same names, same numbers."""

from __future__ import annotations

import ast
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
from instep.emit import jax as emit_jax
from instep.emit import keras as emit_keras
from instep.emit import torch as emit_torch
from instep.graph import Graph
from instep.graph.text import parse
from instep.rewrite.pipelines import to_channels_last
from instep.runtime import run
from test_text_loops import Iterated, Recurrent, Stepwise, Swapped, captured

pytest.importorskip("flax", reason="Flax is not installed")
jax = pytest.importorskip("jax", reason="JAX is not installed")


class Twofold(nn.Module):
    """A value of each round read behind the loop, one that is read in every round, and a round that is long."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, base, found = x, x.exp(), []
        for _ in range(4):
            for _ in range(4):
                y = torch.tanh(self.inner(y) + base) * 0.5
            y = self.outer(y) - base
            found.append(y.sin())
        return sum(found[1:], found[0]) + y


class Uneven(nn.Module):
    """Two blocks of one class whose loops differ in a number alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Stepwise(), Stepwise()
        self.between = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.between(self.first(x)))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "LSTM": (lambda: Recurrent(nn.LSTM(8, 6, batch_first=True)), (1, 5, 8), 1),
    "deep LSTM": (lambda: Recurrent(nn.LSTM(8, 6, num_layers=2, bidirectional=True)), (12, 2, 8), 4),
    "GRU": (lambda: Recurrent(nn.GRU(8, 6, bidirectional=True)), (9, 2, 8), 2),
    "cells": (Stepwise, (2, 7, 5), 1),
    "iterated": (Iterated, (1, 4, 6, 6), 1),
    "swapped": (Swapped, (1, 2, 8), 1),
    "twofold": (Twofold, (2, 4), 1),
    "uneven": (Uneven, (2, 7, 5), 1),
}


#: Loops over time, which JAX has as one call.
SCANS = {"LSTM": 1, "deep LSTM": 4, "GRU": 2, "cells": 1, "uneven": 1}

#: What the framework has a layer of, which is no loop there (test_emit_recurrent.py).
LAYERS = {"torch": ("LSTM", "deep LSTM", "GRU"), "keras": ("GRU",)}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[Graph, dict[str, int]]:
    make, shape, loops = NETWORKS[request.param]
    torch.manual_seed(0)
    counts = {f: 0 if request.param in LAYERS.get(f, ()) else loops for f in ("torch", "keras")}
    counts["jax"] = loops - SCANS.get(request.param, 0)
    counts["scans"] = SCANS.get(request.param, 0)
    return captured(make(), *shape), counts


def same(found: Any, graph: Graph, inputs: list[np.ndarray], to: Callable[[Any], np.ndarray] = np.asarray) -> None:
    wanted = graph.run([x.astype(np.float64) for x in inputs], keep=graph.outputs)
    found = found if isinstance(found, tuple | list) else (found,)
    for got, value in zip(found, graph.outputs, strict=True):
        np.testing.assert_allclose(to(got), wanted[value], rtol=0, atol=2e-5 * np.abs(wanted[value]).max())


def loops_of(text: str) -> int:
    """How many loops count, or go through what another has kept; those of helper functions do neither."""
    loops = [ast.unparse(n.iter) for n in ast.walk(ast.parse(text)) if isinstance(n, ast.For | ast.comprehension)]
    return len([n for n in loops if re.match(r"(range|enumerate|zip)\(|ys|\(", n)])


def scans_of(text: str) -> int:
    made = [n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Assign)]
    return len([v for v in made if re.match(r"(jax\.lax\.)?scan\(step", ast.unparse(v))])


def test_pytorch(network: tuple[Graph, dict[str, int]], tmp_path: Path) -> None:
    graph, loops = network
    inputs = [np.random.default_rng(0).random(v.shape, dtype=np.float32) for v in graph.inputs]
    model = emit_torch.build(graph)
    same(model(*map(torch.from_numpy, inputs)), graph, inputs, lambda y: y.detach().numpy())
    text = emit_torch.source(graph)
    assert loops_of(text) == loops["torch"], text
    assert set(model.state_dict()) >= {v.name for v in graph.weights if "/" not in v.name}
    (tmp_path / "net.py").write_text(text)
    assert_clean(tmp_path / "net.py")


@pytest.mark.parametrize("style", ["nnx", "function"])
def test_jax(network: tuple[Graph, dict[str, int]], style: str, tmp_path: Path) -> None:
    graph, loops = to_channels_last(network[0])[0], network[1]
    inputs = [np.random.default_rng(0).random(v.shape, dtype=np.float32) for v in graph.inputs]
    if style == "nnx":
        same(emit_jax.build(graph)(*inputs), graph, inputs)
    else:
        apply, params = emit_jax.function(graph)
        same(apply(params, *inputs), graph, inputs)
    text = emit_jax.source(graph, style)
    assert (loops_of(text), scans_of(text)) == (loops["jax"], loops["scans"]), text
    (tmp_path / "net.py").write_text(text)
    assert_clean(tmp_path / "net.py")


def test_keras_code_has_the_same_loops(network: tuple[Graph, dict[str, int]], tmp_path: Path) -> None:
    """That it computes the same is tested beside Keras (test_emit_keras_networks.py)."""
    text = emit_keras.source(to_channels_last(network[0])[0])
    assert loops_of(text) == network[1]["keras"], text
    (tmp_path / "net.py").write_text(text)
    assert_clean(tmp_path / "net.py")


def test_as_much_code_for_many_rounds_as_for_few() -> None:
    few, many = (emit_torch.source(captured(Stepwise(), 1, n, 5)) for n in (8, 20))
    assert len(few.splitlines()) == len(many.splitlines())


def test_a_round_number_is_called_like_nothing_else(tmp_path: Path) -> None:
    """A value i, a constant that a loop begins with, and a loop that nothing reads but its last round."""
    text = (
        "input: {x: [2, 9, 3]}\nbody:\n  - h = param: {shape: [2, 4], init: zeros}\n  - c = identity(h)\n"
        "  - y, h_next, c_next = lstm(x, h, c): {hidden: 4}\n  - linear(c_next): {out: 3}\n"
    )
    graph = parse(text)
    code = emit_jax.source(graph, "function")
    assert "jnp.swapaxes(y[:, :8], 0, 1)" in code and "i = jax.nn.sigmoid(" in code, code
    inputs = [np.random.default_rng(0).random(v.shape, dtype=np.float32) for v in graph.inputs]
    apply, params = emit_jax.function(graph)
    same(apply(params, *inputs), graph, inputs)


TWINS = """input: {a: [1, 3, 8, 8], b: [1, 3, 8, 8]}
structs:
  Trunk:
    body:
      - c1 = conv: {out: 4, kernel: 3, act: relu}
      - max_pool: {kernel: 2}
      - c2 = conv: {out: 8, kernel: 3, act: relu}
      - global_avg_pool
      - flatten
      - embed = linear: {out: 6}
body:
  - left = Trunk(a): {at: trunk}
  - right = Trunk(b): {at: trunk}
  - sub(left, right)
"""


def test_a_block_that_gives_back_all_that_its_loop_made_gives_it_as_a_tuple() -> None:
    graph = parse(TWINS)
    text = emit_torch.source(graph)
    assert "return tuple(ys)" in text, text
    inputs = [np.random.default_rng(n).random(v.shape, dtype=np.float32) for n, v in enumerate(graph.inputs)]
    same(emit_torch.build(graph)(*map(torch.from_numpy, inputs)), graph, inputs, lambda y: y.detach().numpy())
    last = to_channels_last(graph)[0]
    assert "return tuple(ys)" in emit_jax.source(last)
    inputs = [np.random.default_rng(n).random(v.shape, dtype=np.float32) for n, v in enumerate(last.inputs)]
    same(emit_jax.build(last)(*inputs), last, inputs)
    ast.parse(emit_keras.source(last))


@pytest.mark.parametrize("layer", [nn.LSTM(3, 4, batch_first=True), nn.GRU(3, 4, bidirectional=True)])
def test_a_scan_takes_any_batch(layer: nn.Module) -> None:
    """The zeros that a layer begins with are those of the captured batch: a loop repeated them by itself."""
    module = Recurrent(layer).eval()
    graph = to_channels_last(captured(module, 5, 1, 3) if not layer.batch_first else captured(module, 1, 5, 3))[0]
    x = np.random.default_rng(0).standard_normal((6, 5, 3), np.float32)
    x = x if layer.batch_first else x.transpose(1, 0, 2)
    wanted = module(torch.from_numpy(np.array(x))).detach().numpy()
    np.testing.assert_allclose(np.asarray(emit_jax.build(graph)(x)), wanted, rtol=0, atol=1e-6)


def test_a_scan_compiles_one_step() -> None:
    few, many = (emit_jax.build(to_channels_last(captured(Stepwise(), 1, n, 5))[0]) for n in (8, 40))
    counts = [str(jax.make_jaxpr(m)(np.zeros((1, n, 5), np.float32))).count("\n") for m, n in ((few, 8), (many, 40))]
    assert counts[0] == counts[1]


class Steps(nn.Module):
    """A recurrence over times 1 to 8 of 9, in either order; ``kind`` is what is special about its steps."""

    def __init__(self, kind: str, backwards: bool) -> None:
        super().__init__()
        self.kind, self.times = kind, range(8, 0, -1) if backwards else range(1, 9)
        self.r, self.drop = nn.Linear(4, 4, bias=False), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, y: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        kind, found = self.kind, h
        for t in self.times:
            s = self.r(self.drop(h) if kind == "a dropout" else h) + x[:, t]
            if kind == "two orders":
                s = s * x[:, 9 - t]
            if kind == "two rows":
                s = s * y[:, :, t]
            if kind == "every second place":
                s = s * y[:, :, 2 * t - 1]
            if kind == "another size":
                s = s * y[:, :, :t].mean(2)
            if kind == "a state that grows":
                found = torch.cat([found, s])
            h = torch.tanh(s)
        return torch.cat([found, h * s if kind == "a value of the last round" else h])


KINDS = {"a step": True, "two rows": True, "a dropout": False, "a value of the last round": False, "two orders": False,
         "every second place": False, "another size": False, "a state that grows": False}  # fmt: skip


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_a_scan(kind: str, backwards: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shapes = [(2, 9, 4), (2, 4, 17 if kind == "every second place" else 9), (2, 4)]
    graph = to_channels_last(instep.capture(Steps(kind, backwards).eval(), inputs=shapes).graph)[0]
    code = emit_jax.source(graph, "function")  # dropouts of Flax are a layer for each step, and no loop
    assert (scans_of(code), loops_of(code) > 0) == ((1, False) if KINDS[kind] else (0, True)), code
    assert scans_of(emit_jax.source(graph)) == KINDS[kind]
    assert ("reverse=True" in code) == (KINDS[kind] and backwards)
    (tmp_path / "net.py").write_text(code)
    assert_clean(tmp_path / "net.py")
    inputs = [np.random.default_rng(n).standard_normal(v.shape, np.float32) for n, v in enumerate(graph.inputs)]
    same(emit_jax.build(graph)(*inputs), graph, inputs)
    apply, params = emit_jax.function(graph)
    same(apply(params, *inputs), graph, inputs)


def test_values_within_a_scan_are_compared(tmp_path: Path) -> None:
    """The layers of a step have values where the steps are run one by one: those of the first."""
    graph = to_channels_last(captured(Recurrent(nn.GRU(5, 4, batch_first=True)), 1, 7, 5))[0]
    emit_jax.save(graph, tmp_path / "net.py")
    x = np.random.default_rng(0).standard_normal((1, 7, 5), np.float32)
    result = run(tmp_path / "net.py", [x], engine="jax", keep_all=True)
    assert not result.failed, result.message
    bias = next(a for v, a in graph.weights.items() if v.name.endswith("bias_hh_l0"))
    np.testing.assert_allclose(result.tensors["rnn_2"].ravel(), bias, rtol=1e-6)  # its state is zeros
    same(result.outputs, graph, [x])
