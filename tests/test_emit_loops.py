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

from clean_code import assert_clean
from instep.emit import jax as emit_jax
from instep.emit import keras as emit_keras
from instep.emit import torch as emit_torch
from instep.graph import Graph
from instep.graph.text import parse
from instep.rewrite.pipelines import to_channels_last
from test_text_loops import Iterated, Recurrent, Stepwise, Swapped, captured

pytest.importorskip("flax", reason="Flax is not installed")


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


#: What the framework has a layer of, which is no loop there (test_emit_recurrent.py).
LAYERS = {"torch": ("LSTM", "deep LSTM", "GRU"), "keras": ("GRU",)}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[Graph, dict[str, int]]:
    make, shape, loops = NETWORKS[request.param]
    torch.manual_seed(0)
    counts = {f: 0 if request.param in LAYERS.get(f, ()) else loops for f in ("torch", "keras", "jax")}
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
    assert loops_of(text) == loops["jax"], text
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
    assert "for t in range(8):" in code and "i = jax.nn.sigmoid(" in code, code
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
