"""What a network computes again and again is a loop in its text, and comes back step for step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import instep
from instep.graph import Graph
from instep.graph.reference import GraphReference
from instep.graph.text import TextError, parse
from test_text_roundtrip import round_trip


def captured(module: nn.Module, *shape: int) -> Graph:
    return instep.capture(module.eval(), inputs=[shape]).graph


class Recurrent(nn.Module):
    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0]


class Stepwise(nn.Module):
    """Two cells in turn; one zero for all states, outputs stacked the last first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.LSTMCell(5, 4), nn.GRUCell(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = g = x.new_zeros(x.shape[0], 4)
        found = []
        for t in range(x.shape[1]):
            h, c = self.first(x[:, t], (h, c))
            g = self.second(h, g)
            found.append(self.head(g))
        return torch.stack(found[::-1], 1)


class Iterated(nn.Module):
    """Gradient steps with one convolution and one factor (unfolded optimisation)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.factor = nn.Parameter(torch.full((4, 1, 1), 0.3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for _ in range(6):
            y = torch.relu(y - self.factor * (self.conv(y) - x))
        return y + x


class Swapped(nn.Module):
    """What one round gives changes places in the next."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.sin(), x.cos()
        for k in range(5):
            a, b = (b * 0.5).tanh() + x, (a - b)[:, :, : 8 - k].exp().sum() + a
        return a * b


@pytest.mark.parametrize(
    ("make", "shape", "most", "loops"),
    [
        (lambda: Recurrent(nn.LSTM(8, 6, batch_first=True)), (1, 5, 8), 55, 1),
        (lambda: Recurrent(nn.LSTM(8, 6, num_layers=2, bidirectional=True)), (12, 2, 8), 105, 4),
        (lambda: Recurrent(nn.GRU(8, 6, bidirectional=True)), (9, 2, 8), 70, 2),
        (Stepwise, (2, 7, 5), 80, 2),
        (Iterated, (1, 4, 6, 6), 25, 1),
        (Swapped, (1, 2, 8), 36, 1),
    ],
    ids=["LSTM", "deep LSTM", "GRU", "cells", "iterated", "swapped"],
)
def test_rounds_are_a_loop(
    make: Callable[[], nn.Module], shape: tuple[int, ...], most: int, loops: int, tmp_path: Path
) -> None:
    graph = captured(make(), *shape)
    text = round_trip(graph, tmp_path)
    assert len([line for line in text.splitlines() if line]) <= min(most, len(graph.nodes)), text
    assert text.count("for i in range") == loops, text


class Normed(nn.Module):
    """Layers whose kernels are computed, of which no step reads what the one before gave."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((4, 8), (8, 8), (8, 8))
        convs = (nn.Conv1d(i, o, 3, padding=2 << k, dilation=1 << k) for k, (i, o) in enumerate(sizes))
        self.layers = nn.ModuleList(nn.utils.parametrizations.weight_norm(c) for c in convs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for k, layer in enumerate(self.layers):
            x = torch.relu(layer(x)[:, :, : -2 << k])
        return x


def test_layers_whose_kernels_are_computed(tmp_path: Path) -> None:
    text = round_trip(captured(Normed(), 1, 4, 32), tmp_path)
    assert text.count(".original1") == 3, text


def test_as_many_lines_for_many_rounds_as_for_few(tmp_path: Path) -> None:
    few, many = (round_trip(captured(Stepwise(), 1, n, 5), tmp_path) for n in (8, 20))
    assert len(few.splitlines()) == len(many.splitlines())


def test_a_weight_is_declared_once_where_several_steps_read_it(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.rand(1, 3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x * self.gain) + self.gain

    assert round_trip(captured(Twice(), 1, 3, 4, 4), tmp_path).count("param:") == 1


HEAD = "input: {x: [1, 3, 8, 8]}\nbody:\n"


def test_names_without_scopes_and_names_that_count() -> None:
    """``:=`` names a value alone; ``y.*`` is y.0, y.1, … in order, however they came to be."""
    text = HEAD + "  - for i in range(2, -1, -1):\n      - y.{i} := conv: {out: 2, kernel: 1, at: 'c{i}'}\n"
    graph = parse(text.replace("conv: {out: 2", "conv(x): {out: i + 1") + "  - a := concat(y.*)\n  - relu(a)\n")
    assert [n.scope for n in graph.nodes] == ["c2", "c1", "c0", "", ""]
    assert [v.shape[1] for v in graph.nodes[3].inputs] == [1, 2, 3]
    with pytest.raises(TextError, match=r"there is no 'z\.0'"):
        parse(HEAD + "  - concat(z.*)\n")


def test_layers_after_a_name_without_scope_share_their_weights() -> None:
    graph = parse(HEAD + "  - for i in range(3):\n      - y := conv: {out: 3, kernel: 1}\n")
    assert [v.name for v in graph.weights] == ["weight", "bias"] and len(graph.nodes) == 3


def test_steps_without_fields_may_stand_on_one_line() -> None:
    short, long = (parse(HEAD + b) for b in ("  - a = relu; b = sigmoid(a); add(_, a)\n",
                                             "  - a = relu\n  - b = sigmoid(a)\n  - add(_, a)\n"))  # fmt: skip
    assert [(n.op, n.scope, [v.name for v in n.inputs]) for n in short.nodes] == [
        (n.op, n.scope, [v.name for v in n.inputs]) for n in long.nodes
    ]
    for text in ("  - relu;\n", "  - relu; ; relu\n"):
        with pytest.raises(TextError, match="semicolon"):
            parse(HEAD + text)


def test_places_of_an_axis() -> None:
    graph = parse("input: {qkv: [3, 2, 5]}\nbody:\n  - q, k, v = unbind\n  - a = select(v): {axis: 1, index: -1}\n")
    x = np.arange(30.0).reshape(3, 2, 5)
    assert np.array_equal(graph_values(graph, x), x[2][:, -1])
    with pytest.raises(TextError, match="no place 5"):
        parse(HEAD + "  - select: {axis: 1, index: 5}\n")


def graph_values(graph: Graph, x: np.ndarray) -> np.ndarray:
    return GraphReference(graph).run([x], dtype="float64")[graph.outputs[0].name]


def test_a_number_is_one_constant_wherever_it_stands() -> None:
    graph = parse(HEAD + "  - scale: {by: 0.5}\n  - shift: {by: 0.5}\n  - scale: {by: 2}\n")
    assert [a.tolist() for a in graph.weights.values()] == [0.5, 2.0] and all(v.shape == () for v in graph.weights)


def test_a_word_stays_a_word_beside_a_value_of_its_name() -> None:
    text = "structs:\n  Act:\n    args: {kind: str}\n    body:\n      - act: {kind: kind}\n" + HEAD
    assert len(parse(text + "  - relu = sigmoid; Act: {kind: relu}\n".replace("; ", "\n  - ")).nodes) == 2


def test_weights_of_two_blocks_without_names_of_their_own(tmp_path: Path) -> None:
    """What stands in a struct of one use keeps its scope where it is said: names, weights and order stay."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ModuleDict({"deep": nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3))})
            self.scale = nn.Parameter(torch.rand(3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.inner["deep"](x) * self.scale * 0.25
            return torch.cat([y, x + 0.25], 1)

    text = round_trip(captured(Net(), 1, 3, 4, 4), tmp_path)
    assert "structs:" not in text and "inner.deep.0 = conv" in text and text.count("0.25") == 2


def test_what_a_struct_of_one_use_reads_has_a_name_where_it_is_said(tmp_path: Path) -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
            return self.conv(x) * gate

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.inner(x.tanh(), x.sigmoid()))

    text = round_trip(captured(Net(), 1, 3, 4, 4), tmp_path)
    assert "structs:" not in text and "inner.conv = conv" in text


def test_blocks_with_and_without_an_activation_and_with_another(tmp_path: Path) -> None:
    """What a block may lack at its end folds in with a switch where it is the same everywhere, and only there."""

    def block(*acts: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), *acts)

    body = nn.Sequential(block(nn.ReLU()), block(), block(nn.SiLU()), block(nn.ReLU()), block())
    round_trip(captured(body, 1, 4, 16, 16), tmp_path)


class Gathered(nn.Module):
    """What every round gives, joined by a module of its own."""

    class Join(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(32, 8)

        def forward(self, *found: torch.Tensor) -> torch.Tensor:
            return self.mix(torch.cat(found, 1))

    def __init__(self) -> None:
        super().__init__()
        self.step, self.join, self.head = nn.Linear(8, 8), Gathered.Join(), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = []
        for _ in range(4):
            x = torch.tanh(self.step(x))
            found.append(torch.sigmoid(x))
        return self.head(self.join(*found))


def test_a_struct_that_is_given_all_of_a_loop_by_one_star_is_said_where_it_is_called(tmp_path: Path) -> None:
    text = round_trip(captured(Gathered(), 1, 8), tmp_path)
    assert "- concat(y.*): {at: join}" in text and "- join.mix = linear: {out: 8}" in text
    assert "x4" not in text, "no struct with a name for each"


class Apart(Gathered):
    """One that reads a round's value by itself, too."""

    class Join(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(48, 8)

        def forward(self, *found: torch.Tensor) -> torch.Tensor:
            return self.mix(torch.cat([*found, found[2], found[0]], 1))

    def __init__(self) -> None:
        super().__init__()
        self.join = Apart.Join()


def test_values_of_single_rounds_beside_all_of_them(tmp_path: Path) -> None:
    text = round_trip(captured(Apart(), 1, 8), tmp_path)
    assert "- concat(y.*, y.2, y.0): {at: join}" in text
